//! The machine of `cargo xtask vm --systemd`: a Debian with systemd as process 1, which the running
//! test has for itself.
//!
//! The router of the lab is the machine itself, because systemd knows the interfaces of its own
//! network namespace alone. Tests run one after the other, each in a process of its own.

use std::{fs, path::Path, time::Duration};

use programs::Program;

use crate::{netns::Netns, process::answer, skip::skip, topology::Topology};

/// systemd is process 1 where this folder is (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// The number of the running test. Only the machine has this file.
const BEGUN: &str = "/run/vm/begun";

/// The part of the running test that comes next.
const STAGE: &str = "/run/vm/stage";

/// Where this file is, the test that ends has asked for the restart.
const RESTARTING: &str = "/run/vm/restarting";

/// The machine that a test runs in.
#[derive(Debug)]
pub struct SystemdMachine {
    netns: Netns,
}

impl SystemdMachine {
    /// Returns the machine. On any other host it reports the running test as skipped, and the test
    /// must return: it would change that host.
    pub fn here() -> Option<Self> {
        if Path::new(BOOTED).is_dir() && Path::new(BEGUN).is_file() {
            return Some(Self { netns: Netns::own("the machine") });
        }
        skip("this host is not the machine of `cargo xtask vm --systemd`");
        None
    }

    /// Makes the topology with this machine as the router, without segmentation offload.
    pub fn topology(&self) -> Topology {
        // The kernel removes the station of an earlier test, and the far ends of its links, with a
        // delay.
        for link in ["up1", "up2"] {
            let _ = self.netns.try_ip(&format!("link del {link}"));
        }
        let topology = Topology::with_router(self.netns.clone());
        topology.turn_offload_off();
        topology
    }

    /// Returns the version of systemd.
    pub fn systemd_version(&self) -> u32 {
        let shown = answer(Program::Systemctl.command().arg("--version"));
        let version = shown.split_whitespace().nth(1).and_then(|version| version.parse().ok());
        version.unwrap_or_else(|| panic!("systemctl prints no version: {shown}"))
    }

    /// Returns the part of the test that comes next: 0 at first, later the one that
    /// [`Self::restart`] has named.
    pub fn stage(&self) -> u32 {
        let stage = fs::read_to_string(STAGE).ok();
        stage.map_or(0, |stage| stage.trim().parse().expect("the stage is a number"))
    }

    /// Restarts the machine, as `reboot` does. The test begins again, with `stage` as its part.
    /// Files on the disk stay, those in `/run` go.
    pub fn restart(&self, stage: u32) -> ! {
        for (file, content) in [(STAGE, stage.to_string()), (RESTARTING, String::new())] {
            fs::write(file, content).unwrap_or_else(|e| panic!("cannot write {file}: {e}"));
        }
        answer(Program::Systemctl.command().arg("reboot"));
        loop {
            // systemd ends this process.
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}
