//! The machine with systemd behaves as tests expect.

use std::{fs, path::Path};

use lab::{
    machine::SystemdMachine,
    unit::{TransientService, show},
};
use programs::Program;

/// A file on the machine's disk.
const KEPT: &str = "/var/lib/lab-kept";

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("every kernel has one")
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn systemd_is_process_1_and_a_service_has_a_cgroup_of_its_own() {
    let Some(_machine) = SystemdMachine::here() else { return };
    assert_eq!(fs::read_to_string("/proc/1/comm").expect("/proc is mounted"), "systemd\n");
    let service = TransientService::start("lab-sleep", &["IPAddressDeny=any"], Program::Sleep, &["1000"]);
    let processes = fs::read_to_string(service.cgroup().join("cgroup.procs")).expect("the cgroup exists");
    assert_eq!(processes.trim(), service.pid().to_string());
    drop(service);
    assert_eq!(show("lab-sleep.service", "ActiveState"), "inactive");
}

#[test]
#[ignore = "needs systemd: cargo xtask vm --systemd"]
fn a_restart_of_the_machine_keeps_its_disk_and_the_test_goes_on() {
    let Some(machine) = SystemdMachine::here() else { return };
    if machine.stage() == 0 {
        fs::write(KEPT, boot_id()).expect("the disk is writable");
        machine.restart(1);
    }
    assert_eq!(machine.stage(), 1);
    assert_ne!(fs::read_to_string(KEPT).expect("the disk was kept"), boot_id());
    assert!(!Path::new("/run/tmp/lab-kept").exists());
    fs::remove_file(KEPT).expect("the disk is writable");
}
