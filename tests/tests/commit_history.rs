//! The history of commits: it outlives bmpd, restores what an earlier commit had, and hinders no
//! commit where it cannot be written.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use lab::{
    bmpd::{Bmpd, BmpdSetup, StartOptions, array, number},
    netns::Netns,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

const SOCKET: StartOptions<'_> = StartOptions { arguments: &["--datapath", "socket"], through: &[] };
const FILE: &str = "sysname edge1\nbmp\n bmp-session 198.51.100.7\n  \
                    tcp connect port 11019 password md5 hunter2\n  shutdown\n";

/// Returns the numbers of the commits in the list, newest first.
fn commits(bmpd: &Bmpd) -> Vec<u64> {
    let list = array(bmpd.display_json("display configuration commit list"));
    list.iter().map(|commit| number(&commit["id"])).collect()
}

/// Returns the sysname in force.
fn sysname(bmpd: &Bmpd) -> String {
    let text = bmpd.display("display current-configuration system");
    text.lines().find_map(|line| line.strip_prefix("sysname ")).expect("a name is configured").to_owned()
}

#[test]
fn an_earlier_commit_can_be_put_in_force_after_a_restart_with_its_secrets() {
    let netns = Netns::new("router");
    let bmpd = Bmpd::start_with(&netns, FILE, &SOCKET);
    bmpd.commit_lines("bmp\nbmp-session 198.51.100.7\ntcp connect port 11019 password md5 hunter3");
    let (accepted, said) = bmpd.typed("system-view\nsysname edge2\ncommit label renamed description \"a new name\"\n");
    assert!(accepted, "{said}");
    let list = array(bmpd.display_json("display configuration commit list"));
    let newest = &list[0];
    assert_eq!((newest["label"].as_str(), newest["description"].as_str()), (Some("renamed"), Some("a new name")));
    assert_eq!((newest["user"].as_str(), newest["program"].as_str()), (Some("root"), Some("bmpctl")));
    assert_eq!(list[2]["origin"], "file");
    let changes = bmpd.display("display configuration commit changes");
    assert!(changes.contains("+  tcp connect port 11019 password md5 ******"), "{changes}");
    assert!(!changes.contains("hunter"), "{changes}");

    let setup = bmpd.terminate();
    let folder = setup.file().with_file_name("bmpd.conf.commits");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("1.json"))), (0o700, 0o600));
    let bmpd = Bmpd::start_in(setup, &SOCKET);
    assert_eq!(commits(&bmpd), [3, 2, 1]);
    let said = bmpd.display("rollback configuration to commit 1");
    assert!(said.contains("Info: the configuration of commit 1 is in force."), "{said}");
    let file = fs::read_to_string(bmpd.setup().file()).expect("the file is readable");
    assert!(file.contains("sysname edge1\n") && !file.contains("hunter"), "{file}");
    assert_eq!(commits(&bmpd), [4, 3, 2, 1]);
    bmpd.display("rollback configuration last 1");
    assert_eq!(sysname(&bmpd), "edge2");
}

#[test]
fn what_is_read_from_the_file_is_in_the_history_too() {
    let netns = Netns::new("router");
    let bmpd = Bmpd::start_with(&netns, "sysname edge1\n", &SOCKET);
    bmpd.reload("sysname edge2\n");
    assert_eq!(commits(&bmpd), [2, 1]);
    let setup = bmpd.terminate();
    fs::write(setup.file(), "sysname edge3\n").expect("the file is writable");
    let bmpd = Bmpd::start_in(setup, &SOCKET);
    bmpd.commit_lines("sysname edge4");
    assert_eq!(commits(&bmpd), [4, 3, 2, 1]);
    assert_eq!(
        bmpd.display("display configuration commit changes at 3").lines().skip(1).collect::<Vec<_>>(),
        ["-sysname edge2", "+sysname edge3"]
    );
    bmpd.display("rollback configuration last 1");
    assert_eq!(sysname(&bmpd), "edge3");
}

#[test]
fn a_rollback_names_what_it_leaves_down_and_can_be_a_trial() {
    let netns = Netns::new("router");
    let bmpd = Bmpd::start_with(&netns, "bmp\n bmp-session 198.51.100.7\n  tcp connect port 11019\n", &SOCKET);
    bmpd.commit(std::net::Ipv4Addr::new(198, 51, 100, 7).into(), "shutdown");
    let (accepted, said) = bmpd.typed("rollback configuration last 1 trial 600\nabort trial\n");
    assert!(accepted, "{said}");
    assert!(said.contains("session 198.51.100.7 ") && said.contains("in force for 600 s"), "{said}");
    assert!(bmpd.display("display current-configuration").contains("shutdown"));
    assert_eq!(commits(&bmpd), [2, 1]);
}

/// A small disk for bmpd's state.
struct TinyDisk(TempDir);

impl TinyDisk {
    fn new() -> Self {
        let folder = TempDir::with_prefix("lab-disk-").expect("the temporary folder is writable");
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64k,mode=755"))
            .expect("root may mount");
        Self(folder)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().expect("the path is made of ASCII")
    }

    fn fill(&self) {
        fs::write(self.0.path().join("full"), [0; 1 << 20]).expect_err("it is larger than the disk");
    }

    fn empty(&self) {
        fs::remove_file(self.0.path().join("full")).expect("the file is there");
    }

    fn set_read_only(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, self.0.path(), None::<&str>, flags, None::<&str>).expect("root may mount");
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn commits_hold_on_a_full_and_on_a_read_only_disk_and_say_so_once() {
    const TOLD: &str = "Warning: commits are not in the history until it can be written: ";
    let disk = TinyDisk::new();
    let netns = Netns::new("router");
    let options = StartOptions { arguments: &["--datapath", "socket", "--state", disk.path()], through: &[] };
    let bmpd = Bmpd::start_in(BmpdSetup::new(&netns, "sysname edge1\n"), &options);
    bmpd.commit_lines("sysname edge2");
    disk.fill();
    let said = bmpd.commit_lines("sysname edge3");
    assert!(said.contains(TOLD) && said.contains("No space left on device"), "{said}");
    assert_eq!(bmpd.commit_lines("sysname edge4"), "");
    assert_eq!((sysname(&bmpd), commits(&bmpd)), ("edge4".to_owned(), vec![2, 1]));
    bmpd.wait_for_log("that the history cannot be written", |line| line.contains("No space left on device"));
    assert!(bmpd.display("display configuration commit list").contains(TOLD));

    // What was not recorded meanwhile is one entry.
    disk.empty();
    bmpd.commit_lines("sysname edge5");
    assert_eq!(commits(&bmpd), [4, 3, 2, 1]);
    assert_eq!(bmpd.display_json("display configuration commit list")[1]["origin"], "unrecorded");
    disk.set_read_only();
    let said = bmpd.commit_lines("sysname edge6");
    assert!(said.contains(TOLD) && said.contains("Read-only file system"), "{said}");
    let file = fs::read_to_string(bmpd.setup().file()).expect("the file is readable");
    assert!(file.contains("sysname edge6\n"), "{file}");
    bmpd.display("rollback configuration to commit 4");
    assert_eq!(sysname(&bmpd), "edge5");
}
