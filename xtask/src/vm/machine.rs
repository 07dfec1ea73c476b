//! The command line of QEMU.

use std::{fmt, os::unix::process::CommandExt as _, process::Command};

use anyhow::bail;
use nix::sys::{prctl::set_pdeathsig, signal::Signal};

use super::{guest::GuestFiles, kernel::DebianKernel};
use crate::programs::Program;

/// The variable that names the accelerator.
const OVERRIDE: &str = "BMPD_VM_ACCEL";

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// Emulation: it works everywhere.
    Tcg,
    /// The processor itself. Never chosen by default: in a host that is virtual itself it may hang.
    Kvm,
}

impl Accelerator {
    pub(super) fn chosen() -> anyhow::Result<Self> {
        let wanted = std::env::var(OVERRIDE).unwrap_or_default();
        match wanted.as_str() {
            "" | "tcg" => Ok(Self::Tcg),
            "kvm" => Ok(Self::Kvm),
            _ => bail!("{OVERRIDE}={wanted}: it is `tcg` or `kvm`"),
        }
    }

    /// Returns how many times longer anything takes than on this host, at most.
    pub(super) fn slowness(self) -> u32 {
        match self {
            Self::Tcg => 6,
            Self::Kvm => 1,
        }
    }

    /// Returns the processor. Without `la57=off`, emulated system calls take half as long again.
    /// With `erms` and `fsrm`, the kernel copies memory a byte at a time: emulated, each byte is a
    /// step.
    fn processor(self) -> &'static str {
        match self {
            Self::Tcg => "max,la57=off,erms=off,fsrm=off",
            Self::Kvm => "host",
        }
    }

    /// Returns how many processors the machine has. Emulated, a second one halves the speed of
    /// each: kernels wait for each other's processors, which wait for those of a busy host.
    fn processors(self) -> &'static str {
        match self {
            Self::Tcg => "1",
            Self::Kvm => "2",
        }
    }

    fn arguments(self) -> &'static str {
        match self {
            Self::Tcg => "tcg,thread=multi",
            Self::Kvm => "kvm",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcg => "emulated",
            Self::Kvm => "kvm",
        })
    }
}

/// The kernel's command line: stop at the first fault, and leave out what costs an emulated
/// processor time. The check of the timer would panic on a host too busy to run the machine for
/// some ticks.
const KERNEL: &str = "console=ttyS0 quiet oops=panic panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable \
                      rcupdate.rcu_expedited=1";

/// Starts the machine again while it asks for that: `$0` is then there.
const RESTARTS: &str = r#"while "$@"; do [ -e "$0" ] || exit 0; done; exit 1"#;

/// Returns the machine's command. Its standard output is what the guest writes to its port. It ends
/// with this process, however that ends.
pub(super) fn command(kernel: &DebianKernel, guest: &GuestFiles, accelerator: Accelerator) -> Command {
    let qemu = qemu(kernel, guest, accelerator);
    let mut command = match guest.disk() {
        None => qemu,
        Some(_) => {
            let mut shell = Program::Sh.command();
            // The signal at the parent's end is not inherited.
            let ends_with_shell = ["--pdeathsig", "KILL", "--"];
            shell.args(["-c", RESTARTS]).arg(guest.restarting()).arg(Program::Setpriv).args(ends_with_shell);
            shell.arg(qemu.get_program()).args(qemu.get_args());
            shell
        }
    };
    let prepare = || {
        set_pdeathsig(Signal::SIGKILL)?;
        Ok(())
    };
    command.stdin(std::process::Stdio::null());
    // SAFETY: between fork and exec it makes one system call and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    command
}

/// Returns the command of QEMU, which ends when the machine restarts.
fn qemu(kernel: &DebianKernel, guest: &GuestFiles, accelerator: Accelerator) -> Command {
    let mut qemu = Program::Qemu.command();
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35", "-m", "2048"]);
    qemu.args(["-accel", accelerator.arguments(), "-cpu", accelerator.processor(), "-smp", accelerator.processors()]);
    qemu.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(guest.first()).args(["-append", KERNEL]);
    qemu.arg("-serial").arg(format!("file:{}", escaped(&guest.console().to_string_lossy())));
    share(&mut qemu, "host", "/", ",readonly=on");
    share(&mut qemu, "share", &guest.share().to_string_lossy(), "");
    if let Some(disk) = guest.disk() {
        let file = escaped(&disk.to_string_lossy());
        qemu.arg("-drive").arg(format!("if=virtio,format=raw,cache=unsafe,file={file}"));
    }
    // A port with a file accepts what the guest writes at any time. With standard input at its end,
    // it would not.
    qemu.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=out"]);
    qemu.args(["-chardev", "file,id=out,path=/dev/fd/1,append=on"]);
    qemu
}

/// Adds a folder that the guest may mount by `name`.
fn share(qemu: &mut Command, name: &str, path: &str, options: &str) {
    let path = escaped(path);
    qemu.arg("-fsdev").arg(format!("local,id={name},path={path},security_model=none,multidevs=remap{options}"));
    qemu.arg("-device").arg(format!("virtio-9p-pci,fsdev={name},mount_tag={name}"));
}

/// Returns a value for QEMU's options, where a comma is doubled.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_does_not_end_a_path() {
        let mut qemu = Program::Qemu.command();
        share(&mut qemu, "share", "/a,b", "");
        let arguments: Vec<_> = qemu.get_args().map(|word| word.to_string_lossy()).collect();
        assert!(arguments[1].contains("path=/a,,b,"), "{arguments:?}");
    }
}
