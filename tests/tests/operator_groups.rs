//! What the groups of an operator let it do on the control socket.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

use lab::{
    bmpd::{Bmpd, BmpdSetup, StartOptions},
    netns::Netns,
    terminal::TestTerminal,
};
use programs::{Built, Program};

/// Two groups that every Debian has stand for `bmpd` and `bmpd-view`: name and id.
const CONFIGURES: [&str; 2] = ["games", "60"];
const LOOKS: [&str; 2] = ["news", "9"];

/// A bmpd whose control socket every user can reach.
struct SharedBmpd {
    netns: Netns,
    bmpd: Bmpd,
}

impl SharedBmpd {
    fn start(arguments: &[&str]) -> Self {
        let netns = Netns::new("router");
        let setup = BmpdSetup::new(&netns, "sysname edge1\nreturn\n");
        // A temporary folder is its owner's alone, and the programs may be below such a folder.
        let folder = setup.file().with_file_name("");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("root may set permissions");
        let bmpctl = setup.bmpctl("").get_program().to_owned();
        fs::copy(bmpctl, folder.join("bmpctl")).expect("the program is copied");
        let bmpd = Bmpd::start_in(setup, &StartOptions { arguments, through: &[] });
        Self { netns, bmpd }
    }

    /// Runs bmpctl as nobody, in these groups besides nobody's own.
    fn as_nobody(&self, groups: &str, words: &[&str]) -> Output {
        self.command_of_nobody(groups, words).output().expect("setpriv can be started")
    }

    /// Returns the command that does so.
    fn command_of_nobody(&self, groups: &str, words: &[&str]) -> Command {
        let mut command = self.netns.command(Program::Setpriv);
        command.args(["--reuid", "65534", "--regid", "65534"]);
        match groups {
            "" => command.arg("--clear-groups"),
            groups => command.args(["--groups", groups]),
        };
        let bmpctl = Built::at(self.bmpd.setup().file().with_file_name("bmpctl"));
        command.arg(bmpctl).arg("--control").arg(self.bmpd.setup().control()).args(words);
        command
    }
}

fn groups() -> [&'static str; 4] {
    ["--group", CONFIGURES[0], "--view-group", LOOKS[0]]
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

const RENAME: [&str; 6] = ["-c", "system-view", "-c", "sysname edge2", "-c", "commit"];

#[test]
fn a_member_of_the_view_group_looks_and_cannot_configure() {
    let shared = SharedBmpd::start(&groups());
    let looked = shared.as_nobody(LOOKS[1], &["display", "current-configuration"]);
    assert!(looked.status.success() && said(&looked).contains("sysname edge1"), "{}", said(&looked));
    let refused = shared.as_nobody(LOOKS[1], &RENAME);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("you may look and not configure: the group `bmpd` may"), "{}", said(&refused));
    for command in ["reset bmp session all", "abort trial"] {
        let refused = shared.as_nobody(LOOKS[1], &["-c", "system-view", "-c", command]);
        assert!(said(&refused).contains("you may look and not configure"), "{command}: {}", said(&refused));
    }
    assert!(shared.bmpd.display("display current-configuration").contains("sysname edge1"));
}

#[test]
fn a_member_of_the_view_group_sees_the_sessions_live() {
    let shared = SharedBmpd::start(&groups());
    let terminal = TestTerminal::start_with_rows(shared.command_of_nobody(LOOKS[1], &["top"]), 24, 80);
    terminal.wait_text("edge1: 0 of 0 sessions up");
    terminal.wait_text("no session is configured");
}

#[test]
fn a_member_of_the_group_that_configures_commits() {
    let shared = SharedBmpd::start(&groups());
    let committed = shared.as_nobody(CONFIGURES[1], &RENAME);
    assert!(committed.status.success(), "{}", said(&committed));
    assert!(shared.bmpd.display("display current-configuration").contains("sysname edge2"));
}

#[test]
fn a_user_of_neither_group_can_do_nothing() {
    let shared = SharedBmpd::start(&groups());
    for words in [&["display", "current-configuration"][..], &RENAME] {
        let refused = shared.as_nobody("", words);
        assert_eq!(refused.status.code(), Some(1));
        assert!(said(&refused).contains("you may neither look nor configure"), "{}", said(&refused));
        assert!(!said(&refused).contains("edge1"), "{}", said(&refused));
    }
    assert!(shared.bmpd.display("display current-configuration").contains("sysname edge1"));
}

#[test]
fn without_a_view_group_the_socket_is_closed_to_other_users() {
    let shared = SharedBmpd::start(&["--group", CONFIGURES[0], "--view-group", "no-such-group"]);
    let refused = shared.as_nobody(LOOKS[1], &["display", "current-configuration"]);
    assert!(said(&refused).contains("Permission denied"), "{}", said(&refused));
    let looked = shared.as_nobody(CONFIGURES[1], &["display", "current-configuration"]);
    assert!(looked.status.success(), "{}", said(&looked));
}
