//! A test host: a network namespace that only file descriptors hold.

use std::{
    fs::File,
    io::Write,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::process::CommandExt,
    },
    panic::resume_unwind,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
};
use programs::Program;

/// User and group without any privilege: nobody.
pub const NOBODY: u32 = 65534;

/// A network namespace.
///
/// It has no name under `/run/netns`: the kernel removes it with its last descriptor, socket and
/// process, even after a killed test. Only the network is separate: `/sys/fs/cgroup` and `/proc`
/// are those of the real host.
#[derive(Clone, Debug)]
pub struct Netns {
    name: Arc<str>,
    file: Arc<File>,
}

impl Netns {
    /// Makes a namespace with its loopback interface up. `name` appears in messages only.
    pub fn new(name: &str) -> Self {
        let file = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|e| panic!("cannot make a network namespace ({e}); the lab needs root"));
            File::open("/proc/thread-self/ns/net").expect("/proc is mounted")
        });
        let netns = Self { name: name.into(), file: Arc::new(file) };
        netns.ip("link set lo up");
        netns
    }

    /// Returns the namespace of this process: the host's own.
    pub fn own(name: &str) -> Self {
        let file = File::open("/proc/self/ns/net").expect("/proc is mounted");
        Self { name: name.into(), file: Arc::new(file) }
    }

    /// Returns a path that opens the namespace from other programs while this process lives
    /// (`ip … netns PATH`).
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` on a thread in the namespace and returns its result. Sockets that `work` makes
    /// stay in the namespace.
    ///
    /// Do not start programs in `work`: they die with its thread. Use [`Self::command`].
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        on_a_thread(|| {
            self.join();
            work()
        })
    }

    /// Runs `work` like [`Self::enter`], without any privilege, as user and group 65534 (nobody).
    pub fn enter_unprivileged<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.enter_as(NOBODY, work)
    }

    /// Runs `work` like [`Self::enter`], as the user and group with this number. Any user but root
    /// has no privilege.
    pub fn enter_as<R: Send>(&self, user: u32, work: impl FnOnce() -> R + Send) -> R {
        self.enter(|| {
            let user = libc::c_long::from(user);
            for call in [libc::SYS_setresgid, libc::SYS_setresuid] {
                // SAFETY: the calls take numbers only. The bare system calls change this thread
                // alone; those of the C library would change all threads. Leaving user 0 drops the
                // capabilities (capabilities(7)).
                let result = unsafe { libc::syscall(call, user, user, user) };
                assert_eq!(result, 0, "a thread of root can become user {user}");
            }
            work()
        })
    }

    /// Starts `work` on a new thread in the namespace and returns its handle.
    pub fn spawn<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
        let netns = self.clone();
        thread::spawn(move || {
            netns.join();
            work()
        })
    }

    fn join(&self) {
        setns(self.as_fd(), CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("cannot enter {}: {e}", self.name));
    }

    /// Returns a command that runs in the namespace: a [`Program`] of the table, or a
    /// [`programs::Built`] one.
    ///
    /// The kernel kills the program when the *thread* that started it ends (`PR_SET_PDEATHSIG`,
    /// prctl(2)). So start it from the thread of the test, which lives as long as the test.
    pub fn command(&self, program: impl Into<Command>) -> Command {
        let file = Arc::clone(&self.file);
        let mut command = program.into();
        // SAFETY: only two system calls run between fork and exec, on a descriptor of the closure.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                Ok(())
            });
        }
        command
    }

    /// Runs `ip -batch` with these commands, one on each line.
    ///
    /// # Panics
    /// If one of the commands fails, with the message of `ip`.
    pub fn ip(&self, commands: &str) {
        self.try_ip(commands).unwrap_or_else(|message| panic!("in {}: {message}of\n{commands}", self.name));
    }

    /// Runs `ip -batch` with commands that a kernel may refuse.
    ///
    /// # Errors
    /// The message of `ip` about the first command that failed.
    pub fn try_ip(&self, commands: &str) -> Result<(), String> {
        let mut child = self
            .command(Program::Ip)
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start ip: {e}{}", crate::process::INSTALL));
        child.stdin.take().expect("stdin is piped").write_all(commands.as_bytes()).expect("ip reads stdin");
        let output = child.wait_with_output().expect("ip is a child of this process");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Returns the output of an `ip` command.
    pub fn ip_show(&self, arguments: &str) -> String {
        crate::process::answer(self.command(Program::Ip).args(arguments.split_whitespace()))
    }

    /// Sets a sysctl of this namespace, for example `net/ipv4/ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) {
        // `/proc/sys/net` belongs to the namespace of the thread that opens it.
        self.enter(|| {
            std::fs::write(format!("/proc/sys/{name}"), value)
                .unwrap_or_else(|e| panic!("in {}: cannot set {name} to {value}: {e}", self.name));
        });
    }

    /// Returns the index of an interface of this namespace.
    pub fn ifindex(&self, interface: &str) -> u32 {
        self.enter(|| {
            nix::net::if_::if_nametoindex(interface)
                .unwrap_or_else(|e| panic!("in {}: no interface {interface}: {e}", self.name))
        })
    }

    /// Turns off segmentation and receive offloads, so that a capture sees packets as a wire has
    /// them.
    pub fn no_offload(&self, interface: &str) {
        let features = ["tso", "off", "gso", "off", "gro", "off"];
        crate::process::answer(self.command(Program::Ethtool).arg("-K").arg(interface).args(features));
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `work` on a new thread, whose namespace ends with it. A panic of `work` continues here.
fn on_a_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_own_interfaces_and_no_name() {
        let netns = Netns::new("host");
        netns.ip("link add there type veth peer name here");
        assert!(netns.ip_show("link show").contains("there"));
        assert!(std::fs::read_dir("/run/netns").map_or(true, |names| {
            names.flatten().all(|name| !name.file_name().to_string_lossy().contains("host"))
        }));
        assert!(nix::net::if_::if_nametoindex("there").is_err());
        assert!(netns.ifindex("there") > 0);
    }

    #[test]
    #[should_panic(expected = "Cannot find device")]
    fn a_failed_ip_command_fails_the_test() {
        Netns::new("host").ip("link set absent up");
    }

    #[test]
    fn a_sysctl_is_set_in_its_namespace_alone() {
        let forward = || std::fs::read_to_string("/proc/sys/net/ipv4/conf/default/accept_local").unwrap();
        let netns = Netns::new("host");
        let outside = forward();
        netns.sysctl("net/ipv4/conf/default/accept_local", "1");
        assert_eq!(netns.enter(forward), "1\n");
        assert_eq!(forward(), outside);
    }

    #[test]
    fn an_unprivileged_thread_cannot_bind_a_low_port_and_root_can() {
        let netns = Netns::new("host");
        let bind = || std::net::TcpListener::bind("127.0.0.1:80").map(drop).map_err(|e| e.kind());
        assert_eq!(netns.enter_unprivileged(bind), Err(std::io::ErrorKind::PermissionDenied));
        assert_eq!(netns.enter(bind), Ok(()));
    }

    #[test]
    fn a_program_dies_with_the_thread_that_started_it() {
        let netns = Netns::new("host");
        let mut child =
            thread::spawn(move || netns.command(Program::Sleep).arg("1000").spawn().unwrap()).join().unwrap();
        let status = child.wait().unwrap();
        assert!(!status.success());
    }
}
