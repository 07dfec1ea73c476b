//! Services of systemd, in the machine that a test has for itself ([`crate::machine`]).

use std::{path::PathBuf, process::Command};

use programs::Program;

use crate::{
    process::answer,
    wait::{PATIENCE, until},
};

/// A service that runs while this value lives.
#[derive(Debug)]
pub struct TransientService {
    name: String,
}

impl TransientService {
    /// Starts a program in a service `name` with `properties`, such as `IPAddressDeny=any`
    /// (systemd.resource-control(5)).
    pub fn start(name: &str, properties: &[&str], program: Program, arguments: &[&str]) -> Self {
        let name = format!("{name}.service");
        let mut run = Program::SystemdRun.command();
        run.args(["--quiet", "--collect", "--service-type=exec", "--unit", &name]);
        for property in properties {
            run.args(["--property", property]);
        }
        answer(run.arg(program).args(arguments));
        Self { name }
    }

    /// Changes properties of the running service.
    pub fn set(&self, properties: &[&str]) {
        answer(systemctl(&["set-property", "--runtime", &self.name]).args(properties));
    }

    /// Returns the process id of its program.
    pub fn pid(&self) -> u32 {
        show(&self.name, "MainPID").parse().expect("systemd shows a number")
    }

    /// Waits until the service has a process with another id than `but`, and returns it.
    pub fn wait_pid(&self, but: u32) -> u32 {
        until(&format!("{} has another process", self.name), PATIENCE, || {
            Some(self.pid()).filter(|pid| *pid != but && *pid != 0)
        })
    }

    /// Returns the folder of its cgroup.
    pub fn cgroup(&self) -> PathBuf {
        format!("/sys/fs/cgroup{}", show(&self.name, "ControlGroup")).into()
    }
}

impl Drop for TransientService {
    #[expect(clippy::print_stderr, reason = "the test harness shows what the macro prints with the test that failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = Program::Journalctl
                .command()
                .args(["--no-pager", "-o", "cat", "-n", "30", "-u"])
                .arg(&self.name)
                .output();
            let journal = journal.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            eprintln!("--- the journal of {}:\n{}", self.name, journal.unwrap_or_default());
        }
        let _ = systemctl(&["stop", &self.name]).output();
    }
}

/// Returns a systemctl command.
pub fn systemctl(words: &[&str]) -> Command {
    let mut systemctl = Program::Systemctl.command();
    systemctl.args(words);
    systemctl
}

/// Returns a property of a unit.
pub fn show(unit: &str, property: &str) -> String {
    answer(&mut systemctl(&["show", "--value", "--property", property, unit])).trim().to_owned()
}
