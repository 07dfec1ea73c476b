//! bmpctl over a real control socket.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Output, Stdio},
    sync::Arc,
};

use bmp_user::{
    config::{ConfigStore, KeyFile, StartLimits, load},
    control::{self, ControlSocket},
    feed::Feed,
    link::{Host, RouteLookup},
    pin::{Datapath, DatapathMode, DatapathOptions, Pins},
    sandbox::Sandbox,
    session::Sessions,
};
use programs::Built;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::watch};

/// The control module behind a socket, without the tasks of bmpd.
struct ServedDevice {
    folder: TempDir,
    store: ConfigStore,
    _host: watch::Sender<Arc<Host>>,
    _runtime: Runtime,
}

impl ServedDevice {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bmpd.conf");
        fs::write(&path, "sysname HUAWEI\n").expect("a file");
        let config = load(&path, &KeyFile::beside(&path)).expect("a configuration");
        let store = ConfigStore::new(&path, config, StartLimits::sessions(usize::MAX));
        let (host_sender, host) = watch::channel(Arc::new(Host::default()));
        let datapath = Datapath::load(&DatapathOptions { mode: DatapathMode::Socket, ..DatapathOptions::default() })
            .expect("nothing is loaded");
        let context = control::ControlContext {
            store: store.clone(),
            host,
            routes: RouteLookup::default(),
            sessions: Sessions::default(),
            pins: Pins::new(datapath),
            feed: Feed::default(),
            bgp_peers: Default::default(),
            relays: bmp_user::input::relay::Relays::default(),
            replays: bmp_user::input::mrt::Replays::default(),
            tls: bmp_user::tls::TlsProfiles::default(),
            http: control::HttpStatus::default(),
            sandbox: Sandbox::none("a test").into(),
        };
        let runtime = Runtime::new().expect("a runtime");
        let entered = runtime.enter();
        let socket =
            ControlSocket::bind(&folder.path().join("bmpd.sock"), control::AccessGroups::default()).expect("a socket");
        drop(entered);
        runtime.spawn(async move { control::serve(&socket, context).await });
        Self { folder, store, _host: host_sender, _runtime: runtime }
    }

    fn bmpctl(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Built::at(env!("CARGO_BIN_EXE_bmpctl"))
            .command()
            .arg("--control")
            .arg(self.folder.path().join("bmpd.sock"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bmpctl starts");
        // It may have ended without reading all of it.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("bmpctl ends")
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    }
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}

const SETUP: &str = "# a station\nsystem-view\nbmp\n bmp-session 10.1.1.1\n  conn 10.1.1.1\n  tcp connect port 11019\n\
                     dis conf cand ch\ncommit\nreturn\ndisplay current-configuration | include connect\n";

const ANSWER: &str = "+bmp\n+ bmp-session 10.1.1.1\n+  tcp connect port 11019\n+  connect-interface 10.1.1.1\n  \
                      tcp connect port 11019\n  connect-interface 10.1.1.1\n";

#[test]
fn a_file_of_commands_is_carried_out() {
    let device = ServedDevice::new();
    let file = device.file("setup", SETUP);
    let output = device.bmpctl(&["-f", file.to_str().unwrap()], "");
    assert_eq!((out(&output), err(&output)), (ANSWER, ""));
    assert!(output.status.success());
    assert_eq!(device.store.running().bmp.sessions.len(), 1);
    let path = device.folder.path().join("bmpd.conf");
    assert_eq!(load(&path, &KeyFile::beside(&path)).unwrap(), *device.store.running());
}

#[test]
fn so_are_commands_from_standard_input_and_from_arguments() {
    for arguments in [&["-f", "-"][..], &[]] {
        let device = ServedDevice::new();
        let output = device.bmpctl(arguments, SETUP);
        assert_eq!((out(&output), err(&output)), (ANSWER, ""), "{arguments:?}");
    }
    let device = ServedDevice::new();
    let commands = ["-c", "system-view", "-c", "sysname edge1", "-c", "commit", "-c", "dis cu"];
    let output = device.bmpctl(&commands, "");
    assert_eq!((out(&output), err(&output)), ("#\nsysname edge1\n#\nreturn\n", ""));
    let output = device.bmpctl(&["display", "current-configuration"], "");
    assert_eq!((out(&output), output.status.code()), ("#\nsysname edge1\n#\nreturn\n", Some(0)));
    let output = device.bmpctl(&["display", "bmp", "session", "--json"], "");
    let empty = control::as_json(control::AnswerSubject::BmpSession, &[(); 0]).expect("JSON");
    assert_eq!((out(&output), output.status.code()), (empty.as_str(), Some(0)));
}

#[test]
fn the_exit_status_tells_done_refused_wrong_usage_and_no_bmpd_apart() {
    let device = ServedDevice::new();
    let cases: [(&[&str], i32); 8] = [
        (&["display", "bmp", "session"], 0),
        (&["--json", "display", "bmp", "session"], 0),
        (&["display", "bmp", "session", "192.0.2.200"], 1),
        (&["--json", "display", "bmp", "session", "192.0.2.200"], 1),
        (&["--json", "display", "bmp", "session", "|", "include", "up"], 1),
        (&["--json", "display", "current-configuration"], 1),
        (&["--no-such-option"], 2),
        (&["--json", "top"], 2),
    ];
    for (arguments, status) in cases {
        let output = device.bmpctl(arguments, "");
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", err(&output));
        assert_eq!(status == 0, output.stderr.is_empty(), "{arguments:?}: {}", err(&output));
        assert!(status == 0 || output.stdout.is_empty(), "{arguments:?}: {}", out(&output));
    }
    for arguments in [&["display", "version"][..], &["--json", "display", "version"]] {
        let absent = device.folder.path().join("absent.sock");
        let output =
            Built::at(env!("CARGO_BIN_EXE_bmpctl")).command().arg("--control").arg(absent).args(arguments).output();
        let output = output.expect("bmpctl starts");
        assert_eq!((out(&output), output.status.code()), ("", Some(3)), "{}", err(&output));
    }
}

#[test]
fn the_first_error_stops_the_file_and_is_told_with_its_line() {
    let device = ServedDevice::new();
    let file =
        device.file("setup", "system-view\nbmp\n bmp-session 10.1.1.1\n  connect-interface eth1 2001:db8::1\ncommit\n");
    let name = file.to_str().unwrap();
    let output = device.bmpctl(&["-f", name], "");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        format!(
            "{name}:4:26: error: the station 10.1.1.1 is IPv4, so the source address must be IPv4\n  \
             connect-interface eth1 2001:db8::1\n                         ^^^^^^^^^^^\n\
             Warning: changes were not committed, and are gone.\n"
        )
    );
    assert!(device.store.running().bmp.sessions.is_empty());
}

#[test]
fn a_command_as_arguments_is_refused_with_a_caret() {
    let device = ServedDevice::new();
    let output = device.bmpctl(&["display", "bmp", "sesion"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).starts_with("display bmp sesion\n            ^^^^^^\nError: "), "{}", err(&output));
    let output = device.bmpctl(&["-f", "nowhere"], "");
    assert_eq!(
        (err(&output), output.status.code()),
        ("bmpctl: cannot read nowhere: No such file or directory (os error 2)\n", Some(1))
    );
    assert_eq!(device.bmpctl(&["-f", "x", "-c", "y"], "").status.code(), Some(2));
}

#[test]
fn shells_complete_what_bmpctl_does_itself_and_the_commands_of_bmpd() {
    let device = ServedDevice::new();
    let words = |command: &str| out(&device.bmpctl(&["--complete", command], "")).to_owned();
    assert_eq!(words("to"), "top\n");
    assert!(words("").lines().any(|word| word == "display"));
    assert!(!words("display ").contains("top"));
}
