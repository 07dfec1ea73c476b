//! Secrets: sealed in every file, shown nowhere, and out of reach in memory. Sessions still sign
//! with them.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Output,
};

use lab::{
    bmp,
    bmpd::{Bmpd, BmpdSetup, StartOptions, WRONG_CONFIGURATION},
    netns::Netns,
    peering::{DAEMON, DaemonTable, Peering, bgp_view},
    station::TestStation,
    topology::{STATION, STATION_PORT, Topology, UP2},
    trial::TrialPlan,
    wait::{PATIENCE, until},
};
use programs::Program;
use tempfile::TempDir;

const OF_SESSION: &str = "correct-horse";
const OF_PEER: &str = "battery-staple";
const SOCKET: StartOptions<'_> = StartOptions { arguments: &["--datapath", "socket"], through: &[] };

/// Returns a configuration with two secrets as they are.
fn clear() -> String {
    let (peer, asn) = DAEMON;
    let bgp = bgp_view(&format!(
        " peer {peer} as-number {asn}\n peer {peer} password {OF_PEER}\n ipv4-family unicast\n  peer {peer} enable\n"
    ));
    let plan = TrialPlan { system: &bgp, session: "connect-interface up2", ..TrialPlan::default() };
    let port = format!("tcp connect port {STATION_PORT}");
    plan.configuration().replace(&port, &format!("{port} password md5 simple {OF_SESSION}"))
}

/// Returns every file below a folder, with its text.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            files.push((path, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    files
}

fn assert_hidden(place: &str, text: &str) {
    for secret in [OF_SESSION, OF_PEER] {
        assert!(!text.contains(secret), "{place} has a secret:\n{text}");
    }
}

/// Asserts that nothing that bmpd writes or shows has a secret.
fn assert_hidden_everywhere(bmpd: &Bmpd, state: &Path) {
    let folder = bmpd.setup().file().with_file_name("");
    let kept = [files(&folder), files(state)].concat();
    for (path, text) in &kept {
        assert_hidden(&path.display().to_string(), text);
    }
    for name in ["bmpd.conf", "bmpd.conf.previous", "commits/1.json", "commits/2.json"] {
        let (_, text) = kept.iter().find(|(path, _)| path.ends_with(name)).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(text.matches(" cipher ").count(), 2, "{name}: {text}");
    }
    for words in [
        "display current-configuration",
        "display configuration commit list",
        "display configuration commit changes",
        "display bmp session verbose",
        "display bgp peer verbose",
        "display bmp session verbose --json",
        "display bgp peer verbose --json",
        "display interface-binding",
        "display logbuffer",
    ] {
        assert_hidden(words, &bmpd.display(words));
    }
    assert_hidden("the log", &bmpd.log().join("\n"));
    for name in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{name}", bmpd.pid())).expect("root reads it");
        assert_hidden(name, &String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn after_a_commit_secrets_are_sealed_in_all_files_and_sessions_still_sign_with_them() {
    let topology = Topology::new();
    let state = TempDir::with_prefix("lab-state-").expect("a temporary folder can be made");
    let listens = TestStation::with_secret(&topology.station, (STATION, STATION_PORT), UP2, OF_SESSION);
    let table = DaemonTable { ipv4: 10, password: Some(OF_PEER), passive: true, ..DaemonTable::default() };
    let _bird = Peering::bird(&topology.station, &table);
    let folder = state.path().to_str().expect("the path is made of ASCII");
    let options = StartOptions { arguments: &["--state", folder], through: &[] };
    let up = |bmpd: &Bmpd, connection: usize| {
        bmpd.wait_up(STATION);
        listens.wait_connection(connection, "the peer", |c| c.has(bmp::PEER_UP));
    };

    let bmpd = Bmpd::start_in(BmpdSetup::new(&topology.router, clear()), &options);
    up(&bmpd, 0);
    bmpd.commit_lines("sysname edge2");
    assert_hidden_everywhere(&bmpd, state.path());
    let key = fs::metadata(state.path().join("secrets.key")).expect("the key is there");
    assert_eq!(key.permissions().mode() & 0o7777, 0o600);
    // A change elsewhere leaves the texts of the secrets as they are.
    let sealed = |path: &Path| {
        let text = fs::read_to_string(path).expect("the file is readable");
        text.lines().filter(|line| line.contains(" cipher ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = sealed(&bmpd.setup().file());
    bmpd.commit_lines("sysname edge3");
    assert_eq!(sealed(&bmpd.setup().file()), before);

    let setup = bmpd.terminate();
    let bmpd = Bmpd::start_in(setup, &options);
    up(&bmpd, 1);
    bmpd.display("rollback configuration to commit 1");
    assert_hidden_everywhere(&bmpd, state.path());
    bmpd.display(&format!("reset bmp session {STATION}"));
    up(&bmpd, 2);
}

/// Returns a setup whose file is sealed, and which ran.
fn sealed(netns: &Netns) -> BmpdSetup {
    let bmpd = Bmpd::start_with(netns, &clear(), &SOCKET);
    bmpd.display("save");
    assert_hidden("the file", &fs::read_to_string(bmpd.setup().file()).expect("the file is readable"));
    bmpd.terminate()
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

#[test]
fn a_file_of_another_host_is_refused_at_the_secret_and_check_without_the_key_warns() {
    let netns = Netns::new("router");
    let setup = sealed(&netns);
    let key = setup.file().with_file_name("bmpd.conf.key");
    let chmod = |mode| fs::set_permissions(setup.file(), fs::Permissions::from_mode(mode)).expect("root may");
    chmod(0o640);
    assert_eq!((text(&setup.check()).as_str(), setup.check().status.code()), ("", Some(0)));
    chmod(0o644);
    assert!(text(&setup.check()).contains("every user can read it (mode 0644)"), "{}", text(&setup.check()));
    chmod(0o640);

    // Without the key, everything else is checked.
    let elsewhere = key.with_file_name("elsewhere");
    fs::rename(&key, &elsewhere).expect("the key is there");
    let checked = setup.check();
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
    assert!(text(&checked).contains("was not checked, because there is no key"), "{}", text(&checked));
    let ended = setup.run(&SOCKET);
    assert_eq!(ended.code, Some(WRONG_CONFIGURATION), "{:#?}", ended.lines);
    let lines = ended.lines.join("\n");
    assert!(lines.contains("bmpd.conf:") && lines.contains("put it back, or type the secret again"), "{lines}");

    // Another key makes another secret of nothing.
    let other = sealed(&netns);
    fs::copy(other.file().with_file_name("bmpd.conf.key"), &key).expect("the other key is there");
    for lines in [setup.run(&SOCKET).lines.join("\n"), text(&setup.check())] {
        assert!(lines.contains("was sealed with another key") && lines.contains("with `simple`"), "{lines}");
        assert!(lines.contains("^^^^^^"), "{lines}");
    }
    fs::rename(&elsewhere, &key).expect("the folder is there");
    Bmpd::start_in(setup, &SOCKET).terminate();
}

/// A user without rights.
const NOBODY: u32 = 65534;

/// The capabilities of a bmpd that runs as this user, and adopts no session.
const CAPABILITIES: &str = "+bpf,+net_admin,+net_raw,+perfmon,+net_bind_service";

/// Returns the arguments with which setpriv(1) makes a program one of user 65534.
fn as_nobody() -> [String; 5] {
    [
        format!("--reuid={NOBODY}"),
        format!("--regid={NOBODY}"),
        "--clear-groups".to_owned(),
        format!("--inh-caps={CAPABILITIES}"),
        format!("--ambient-caps={CAPABILITIES}"),
    ]
}

/// Returns whether a process of the same user, with the same capabilities, can open a file of the
/// process (proc(5)).
fn is_open_to_its_user(process: u32, file: &str) -> bool {
    let mut shell = Program::Setpriv.command();
    shell.args(as_nobody()).args(["sh", "-c", &format!(": < /proc/{process}/{file}")]);
    shell.output().expect("setpriv can be started").status.success()
}

#[test]
fn the_memory_of_bmpd_is_out_of_reach_for_its_own_user() {
    for (arguments, is_hidden) in
        [(&["--datapath", "socket"][..], true), (&["--datapath", "socket", "--no-sandbox"], false)]
    {
        let netns = Netns::new("router");
        let setup = BmpdSetup::new(&netns, clear());
        let folder = setup.file().with_file_name("");
        let program = folder.join("bmpd");
        let plain = setup.command(&StartOptions { arguments, through: &[] });
        fs::copy(plain.get_program(), &program).expect("the program is copied");
        for path in [&folder, &setup.file(), &program] {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give a file away");
        }
        let mut command = netns.command(Program::Setpriv);
        command.args(as_nobody()).arg(program).args(plain.get_args());
        let bmpd = Bmpd::start_by(setup, &mut command);
        bmpd.wait_for_log("its start", |line| line.contains("ready, control socket"));
        // proc(5): the files of a process that is not dumpable belong to root.
        let owner = fs::metadata(format!("/proc/{}/mem", bmpd.pid())).expect("the process runs").uid();
        assert_eq!(owner, if is_hidden { 0 } else { NOBODY });
        assert_eq!(is_open_to_its_user(bmpd.pid(), "environ"), !is_hidden, "hidden: {is_hidden}");
        // A security module may keep it closed in any case (Yama).
        assert!(!is_hidden || !is_open_to_its_user(bmpd.pid(), "mem"));
        // It still finds its own descriptors, by which it makes files.
        bmpd.reload(&clear().replace("sysname edge1", "sysname edge2"));
        let key = folder.join("bmpd.conf.key");
        let key = until("the key is made", PATIENCE, || fs::metadata(&key).ok());
        assert_eq!((key.uid(), key.permissions().mode() & 0o7777), (NOBODY, 0o600));
    }
}

#[test]
fn a_secret_among_the_arguments_of_bmpctl_is_warned_of() {
    let bmpd = Bmpd::start_with(&Netns::new("router"), "bgp 65000\n peer 192.0.2.2 as-number 65001\n", &SOCKET);
    let mut bmpctl = bmpd.bmpctl("");
    for command in ["system-view", "bgp 65000", "peer 192.0.2.2 password simple correct-horse", "commit"] {
        bmpctl.args(["-c", command]);
    }
    let said = text(&bmpctl.output().expect("bmpctl can be started"));
    assert!(said.contains("every user of this host can read the arguments of a program"), "{said}");
    let said = bmpd.commit_lines("bgp 65000\npeer 192.0.2.2 password simple battery-staple");
    assert!(!said.contains("arguments"), "{said}");
}
