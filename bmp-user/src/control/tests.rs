//! An operator at work, without the socket between.

use std::{fs, sync::Arc};

use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::{
    config::{Config, SessionId, load, parse_file, print},
    link::Link,
    pin::{self, Datapath},
};

const FILE: &str = "sysname HUAWEI\n";

/// A bmpd without its tasks.
struct Device {
    context: Context,
    folder: TempDir,
    _host: watch::Sender<Arc<Host>>,
}

impl Device {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bmpd.conf");
        fs::write(&path, text).unwrap();
        let link = Link { index: 7, name: "eth1".to_owned(), up: true, carrier: true, ..Link::default() };
        let port = Link { index: 9, name: "eth2".to_owned(), controller: Some(7), ..link.clone() };
        let links = [(7, link), (9, port)].into();
        let (host_sender, host) = watch::channel(Arc::new(Host { links, routes_epoch: 0 }));
        let datapath = Datapath::load(&pin::Options { mode: pin::Mode::Socket, cgroup: None, bpffs: None }).unwrap();
        let context = Context {
            store: Store::new(&path, load(&path).unwrap()),
            host,
            routes: Routes::default(),
            sessions: Sessions::default(),
            pins: Pins::new(datapath),
            feed: Feed::default(),
            bgp_peers: BgpPeers::default(),
            relays: Relays::default(),
            replays: Replays::default(),
        };
        Self { context, folder, _host: host_sender }
    }

    fn operator(&self) -> Operator {
        Operator::new(self.context.clone())
    }

    fn kept(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

async fn ask(operator: &mut Operator, command: &str, mode: Mode) -> Response {
    operator.answer(&Request { command: command.to_owned(), mode, ..Request::default() }).await
}

/// What it prints.
async fn run(operator: &mut Operator, command: &str) -> String {
    match ask(operator, command, Mode::Interactive).await.outcome {
        Outcome::Done(text) => text,
        other => panic!("{command}: {other:?}"),
    }
}

async fn refused(operator: &mut Operator, command: &str) -> String {
    match ask(operator, command, Mode::Interactive).await.outcome {
        Outcome::Refused(text) => text,
        other => panic!("{command}: {other:?}"),
    }
}

/// Commands one after another, with the prompt that each is answered with.
async fn prompts(operator: &mut Operator, table: &[(&str, &str)]) {
    for (command, prompt) in table {
        let response = ask(operator, command, Mode::Run).await;
        assert!(matches!(response.outcome, Outcome::Done(_)), "{command}: {response:?}");
        assert_eq!(response.prompt, *prompt, "{command}");
    }
}

#[tokio::test]
async fn the_example_of_the_command_page_gives_its_prompts() {
    let device = Device::new(FILE);
    let mut operator = device.operator();
    let table = [
        ("", "<HUAWEI>"),
        ("system-view", "[~HUAWEI]"),
        ("bmp", "[*HUAWEI-bmp]"),
        ("bmp-session 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]"),
        ("connect-interface 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]"),
    ];
    prompts(&mut operator, &table).await;
}

#[tokio::test]
async fn the_prompt_says_where_one_is_and_whether_something_is_pending() {
    let device = Device::new("");
    let mut operator = device.operator();
    let host = crate::sys::host_name();
    assert_eq!(ask(&mut operator, "", Mode::Run).await.prompt, format!("<{host}>"));
    let device = Device::new(FILE);
    let mut operator = device.operator();
    let table = [
        ("sys", "[~HUAWEI]"),
        ("sysname edge1", "[*HUAWEI]"),
        ("commit", "[~edge1]"),
        ("sysname edge2", "[*edge1]"),
        ("sysname edge1", "[~edge1]"),
        ("bmp-relay frr", "[*edge1-bmp-relay-frr]"),
        ("clear configuration candidate", "[~edge1]"),
        ("bmp", "[*edge1-bmp]"),
        ("bmp-session 198.51.100.7 alias lab", "[*edge1-bmp-session-198.51.100.7-lab]"),
        ("bmp-session vpn-instance mgmt 2001:db8::7 al lab", "[*edge1-bmp-session-mgmt-2001:db8::7-lab]"),
        ("undo bmp-session vpn-instance mgmt 2001:db8::7 alias lab", "[*edge1-bmp]"),
        ("bmp-session 2001:db8::7 al lab", "[*edge1-bmp-session-2001:db8::7-lab]"),
        ("commit", "[~edge1-bmp-session-2001:db8::7-lab]"),
        ("undo bmp-session 2001:db8::7 alias lab", "[*edge1-bmp]"),
        ("quit", "[*edge1]"),
        ("commit", "[~edge1]"),
        ("return", "<edge1>"),
    ];
    prompts(&mut operator, &table).await;
}

#[tokio::test]
async fn a_commit_is_written_and_in_force_and_the_file_before_it_is_kept() {
    let device = Device::new("# by hand\nsysname HUAWEI\n");
    let mut operator = device.operator();
    let mut running = device.context.store.subscribe();
    for command in ["system-view", "bmp", "bmp-session 198.51.100.7", "tcp connect port 11019", "hold-down 200"] {
        run(&mut operator, command).await;
    }
    assert_eq!(
        run(&mut operator, "display configuration candidate changes").await,
        "+bmp\n+ bmp-session 198.51.100.7\n+  tcp connect port 11019\n+  hold-down 200\n"
    );
    assert!(!running.has_changed().unwrap());
    assert_eq!(run(&mut operator, "commit").await, "");
    assert!(running.has_changed().unwrap());
    let config = running.borrow_and_update().clone();
    assert_eq!(device.kept("bmpd.conf"), print(&config));
    assert_eq!(device.kept("bmpd.conf.previous"), "# by hand\nsysname HUAWEI\n");
    assert_eq!(fs::read_dir(device.folder.path()).unwrap().count(), 2);
    assert_eq!(run(&mut operator, "display current-configuration | include hold").await, "  hold-down 200\n");
    assert_eq!(run(&mut operator, "commit").await, "Info: there is nothing to commit.\n");
}

#[tokio::test]
async fn a_commit_that_cannot_be_written_changes_nothing() {
    let device = Device::new(FILE);
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname edge1").await;
    fs::write(device.folder.path().join("bmpd.conf"), "sysname somebody\n").unwrap();
    let said = refused(&mut operator, "commit").await;
    assert!(said.contains("was changed since bmpd read it"), "{said}");
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("HUAWEI"));
    assert_eq!(device.kept("bmpd.conf"), "sysname somebody\n");
    // Read again, it is in force; and the candidate's line is in conflict with it.
    assert!(device.context.store.reload().await.unwrap());
    let said = refused(&mut operator, "commit").await;
    assert!(said.ends_with("\n-sysname HUAWEI\n+sysname somebody"), "{said}");
    assert_eq!(ask(&mut operator, "", Mode::Run).await.prompt, "[*somebody]");
    fs::remove_dir_all(device.folder.path()).unwrap();
    run(&mut operator, "clear configuration candidate").await;
    run(&mut operator, "sysname edge1").await;
    let said = refused(&mut operator, "commit").await;
    assert!(said.starts_with("Error: cannot keep the configuration in "), "{said}");
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("somebody"));
}

#[tokio::test]
async fn a_broken_file_changes_nothing_when_it_is_read_again() {
    let device = Device::new(FILE);
    fs::write(device.folder.path().join("bmpd.conf"), "sysname\n").unwrap();
    let error = device.context.store.reload().await.unwrap_err().to_string();
    assert!(error.contains(":1:8: error:"), "{error}");
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("HUAWEI"));
}

#[tokio::test]
async fn two_operators_do_not_lose_each_others_commits() {
    let device = Device::new(FILE);
    let (mut one, mut other) = (device.operator(), device.operator());
    for operator in [&mut one, &mut other] {
        run(operator, "system-view").await;
        run(operator, "bmp").await;
    }
    run(&mut one, "bmp-session 198.51.100.7").await;
    run(&mut one, "tcp connect port 1").await;
    run(&mut other, "bmp-session 198.51.100.8").await;
    run(&mut other, "tcp connect port 2").await;
    run(&mut one, "commit").await;
    let changes = run(&mut other, "display configuration candidate changes").await;
    assert!(changes.contains("Info: another configuration is in force"), "{changes}");
    run(&mut other, "commit").await;
    assert_eq!(device.context.store.running().bmp.sessions.len(), 2);
    // The same line in two ways.
    run(&mut one, "tcp connect port 11").await;
    run(&mut other, "bmp-session 198.51.100.7").await;
    run(&mut other, "tcp connect port 12").await;
    run(&mut one, "commit").await;
    let changes = run(&mut other, "display configuration candidate changes").await;
    assert!(changes.contains("Warning: a commit will be refused") && !changes.contains("on top of it"), "{changes}");
    let said = refused(&mut other, "commit").await;
    assert!(said.contains("`clear configuration candidate`"), "{said}");
    assert!(
        said.ends_with("\n bmp\n  bmp-session 198.51.100.7\n-  tcp connect port 1\n+  tcp connect port 11"),
        "{said}"
    );
    run(&mut other, "clear configuration candidate").await;
    // A view that somebody else takes away.
    run(&mut other, "shutdown").await;
    run(&mut one, "undo bmp-session 198.51.100.7").await;
    run(&mut one, "commit").await;
    let said = refused(&mut other, "commit").await;
    assert!(said.ends_with("\n bmp\n- bmp-session 198.51.100.7"), "{said}");
}

#[tokio::test]
async fn what_is_lawful_alone_but_not_together_is_refused() {
    let device = Device::new("bmp\n bmp-session 198.51.100.7\n bmp-session 198.51.100.7 alias a\n");
    let (mut one, mut other) = (device.operator(), device.operator());
    for (operator, session) in [(&mut one, "198.51.100.7"), (&mut other, "198.51.100.7 alias a")] {
        run(operator, "system-view").await;
        run(operator, "bmp").await;
        run(operator, &format!("bmp-session {session}")).await;
        run(operator, "tcp connect port 1").await;
    }
    run(&mut one, "commit").await;
    let said = refused(&mut other, "commit").await;
    assert!(said.contains("198.51.100.7 connects to port 1 of this station already"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_trial_returns_by_itself_unless_it_is_confirmed() {
    let device = Device::new(FILE);
    let mut operator = device.operator();
    let mut running = device.context.store.subscribe();
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname edge1").await;
    let said = run(&mut operator, "commit trial 30").await;
    assert!(said.contains("for 30 s"), "{said}");
    assert_eq!(running.borrow_and_update().sysname.as_deref(), Some("edge1"));
    assert_eq!(device.kept("bmpd.conf"), FILE);
    let error = device.context.store.reload().await.unwrap_err().to_string();
    assert!(error.contains("a trial is in force for another 30 s"), "{error}");
    running.changed().await.unwrap();
    assert_eq!(running.borrow_and_update().sysname.as_deref(), Some("HUAWEI"));
    assert_eq!(ask(&mut operator, "", Mode::Run).await.prompt, "[~HUAWEI]");

    run(&mut operator, "sysname edge1").await;
    run(&mut operator, "commit trial 30").await;
    // Another operator's changes wait, but anybody without any may confirm.
    let mut other = device.operator();
    run(&mut other, "system-view").await;
    run(&mut other, "bmp").await;
    assert!(refused(&mut other, "commit").await.contains("a trial is in force"));
    run(&mut other, "clear configuration candidate").await;
    assert_eq!(run(&mut other, "commit").await, "Info: the trial is confirmed and kept.\n");
    assert_eq!(device.kept("bmpd.conf"), "#\nsysname edge1\n#\nreturn\n");
    tokio::time::sleep(std::time::Duration::from_secs(100)).await;
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("edge1"));
}

#[tokio::test(start_paused = true)]
async fn a_trial_can_be_aborted_and_a_later_one_has_its_own_time() {
    let device = Device::new(FILE);
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    assert!(refused(&mut operator, "abort trial").await.contains("no trial is in force"));
    assert!(refused(&mut operator, "commit trial 30").await.contains("nothing is pending"));
    run(&mut operator, "sysname edge1").await;
    run(&mut operator, "commit trial 30").await;
    run(&mut operator, "abort trial").await;
    assert_eq!(ask(&mut operator, "", Mode::Run).await.prompt, "[~HUAWEI]");
    run(&mut operator, "sysname edge2").await;
    run(&mut operator, "commit trial 60").await;
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("edge2"));
    run(&mut operator, "sysname edge3").await;
    run(&mut operator, "commit").await;
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("edge3"));
}

#[tokio::test]
async fn whoever_leaves_with_changes_is_asked() {
    let device = Device::new(FILE);
    let mut operator = device.operator();
    let leave = async |operator: &mut Operator, answer: &str| {
        run(operator, "system-view").await;
        run(operator, "sysname edge1").await;
        let response = ask(operator, "quit", Mode::Interactive).await;
        assert!(matches!(response.outcome, Outcome::Question(_)), "{response:?}");
        ask(operator, answer, Mode::Interactive).await
    };
    let response = leave(&mut operator, "maybe").await;
    assert!(matches!(response.outcome, Outcome::Question(_)), "{response:?}");
    assert_eq!(ask(&mut operator, "c", Mode::Interactive).await.prompt, "[*HUAWEI]");
    let response = ask(&mut operator, "return", Mode::Interactive).await;
    assert!(matches!(response.outcome, Outcome::Question(_)), "{response:?}");
    let response = ask(&mut operator, "N", Mode::Interactive).await;
    assert_eq!((response.prompt.as_str(), response.pending), ("<HUAWEI>", false));
    assert_eq!(leave(&mut operator, "Y").await.prompt, "<edge1>");
    // Where nobody can be asked, it is said.
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname edge2").await;
    let response = ask(&mut operator, "quit", Mode::Run).await;
    assert!(matches!(&response.outcome, Outcome::Done(said) if said.starts_with("Warning: ")), "{response:?}");
    assert!(response.pending);
    let response = ask(&mut operator, "quit", Mode::Run).await;
    assert_eq!(response.outcome, Outcome::Left(String::new()));
}

#[tokio::test]
async fn errors_have_the_caret_under_the_word_and_name_the_line_of_a_file() {
    let device = Device::new(FILE);
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    assert_eq!(
        refused(&mut operator, "sysname a b").await,
        "sysname a b\n          ^\nError: the command ends before `b`."
    );
    let origin = Some(Origin { file: "setup".to_owned(), line: 12 });
    let request = Request { command: "sysname a b".to_owned(), origin: origin.clone(), ..Request::default() };
    let Outcome::Refused(said) = operator.answer(&request).await.outcome else { panic!() };
    assert_eq!(said, "setup:12:11: error: the command ends before `b`\nsysname a b\n          ^");
    let request = Request { command: "abort trial".to_owned(), origin, ..Request::default() };
    let Outcome::Refused(said) = operator.answer(&request).await.outcome else { panic!() };
    assert_eq!(said, "setup:12: error: no trial is in force");
}

#[tokio::test]
async fn help_and_completion_come_from_the_grammar_and_the_host() {
    let device = Device::new("interface-alias eth1 GigabitEthernet0/1/0\nbmp\n bmp-session 198.51.100.7\n");
    let mut operator = device.operator();
    for command in ["system-view", "bmp", "bmp-session 198.51.100.7"] {
        run(&mut operator, command).await;
    }
    let help = async |operator: &mut Operator, line: &str| match ask(operator, line, Mode::Help).await.outcome {
        Outcome::Done(text) => text,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(
        help(&mut operator, "tcp ").await,
        "  connect  this device connects to the station\n  listen   the station connects to this device\n  mss      the longest segment that is sent\n"
    );
    assert_eq!(help(&mut operator, "t l p ").await, "  INTEGER<1-65535>  a port from 1 to 65535\n");
    assert_eq!(help(&mut operator, "adopt ").await, "  <cr>\n");
    assert_eq!(
        help(&mut operator, "hol").await,
        "  hold-down  how long the session outlives the loss of its interface\n"
    );
    assert!(help(&mut operator, "").await.contains("  shutdown"));
    assert!(!help(&mut operator, "").await.contains("  sysname"));
    assert_eq!(
        help(&mut operator, "undo hold-down ").await,
        "  INTEGER<0-600000>  milliseconds from 0 to 600000\n  <cr>\n"
    );
    let words = async |operator: &mut Operator, line: &str| match ask(operator, line, Mode::Complete).await.outcome {
        Outcome::Words(words) => words.join(" "),
        other => panic!("{line}: {other:?}"),
    };
    let table = [
        ("con", "connect-interface connect-retry"),
        ("dis", "display"),
        ("display ", "bgp bmp configuration current-configuration default-parameter interface-binding mrt-replay"),
        ("conn e", "eth1 eth2"),
        ("conn Gig", "GigabitEthernet0/1/0"),
        ("reset bmp session ", "198.51.100.7 all vpn-instance"),
        ("dis cu | ", "begin exclude include"),
        ("nonsense ", ""),
    ];
    for (line, expected) in table {
        assert_eq!(words(&mut operator, line).await, expected, "{line}");
    }
}

#[tokio::test]
async fn displays_answer_from_any_view() {
    let device = Device::new("bmp\n connect-interface 192.0.2.1\n bmp-session 198.51.100.7\n");
    let mut operator = device.operator();
    let binding = run(&mut operator, "display interface-binding").await;
    for part in ["BMP session 198.51.100.7", "192.0.2.1 (bmp view)", "not decided yet", "or one in the session view"] {
        assert!(binding.contains(part), "{binding}");
    }
    let request = Request { command: "dis interface-binding".to_owned(), json: true, ..Request::default() };
    let Outcome::Done(json) = operator.answer(&request).await.outcome else { panic!() };
    assert!(json.contains("\"from\": \"bmp\""), "{json}");
    assert!(run(&mut operator, "display default-parameter bmp").await.contains("Hold-down"));
    assert_eq!(run(&mut operator, "reset bmp session all").await, "");
    assert!(refused(&mut operator, "reset bmp session 198.51.100.8").await.contains("no such bmp-session"));
    let request = Request { command: "system-view".to_owned(), json: true, ..Request::default() };
    assert!(matches!(operator.answer(&request).await.outcome, Outcome::Refused(_)));
}

#[tokio::test]
async fn a_commit_warns_of_an_interface_that_is_a_layer_2_port() {
    let device = Device::new("bmp\n bmp-session 198.51.100.7\n");
    let mut operator = device.operator();
    for command in ["system-view", "bmp", "bmp-session 198.51.100.7", "connect-interface eth2"] {
        run(&mut operator, command).await;
    }
    assert!(run(&mut operator, "commit").await.contains("Warning: interface eth2 is a layer 2 port"));
}

#[tokio::test]
async fn reset_names_the_sessions_of_a_station_in_its_vpn_instance() {
    let config: Config = parse_file(
        "f",
        "bmp\nbmp-session 198.51.100.7\nbmp-session 198.51.100.7 alias a\nbmp-session vpn-instance v 198.51.100.7\n",
    )
    .unwrap();
    let table = [
        ("reset bmp session all", "198.51.100.7 198.51.100.7-a v-198.51.100.7"),
        ("reset bmp session vpn-instance v all", "v-198.51.100.7"),
        ("reset bmp session 198.51.100.7", "198.51.100.7 198.51.100.7-a"),
        ("reset bmp session 198.51.100.7 alias a", "198.51.100.7-a"),
        ("reset bmp session vpn-instance v 198.51.100.7", "v-198.51.100.7"),
    ];
    for (line, expected) in table {
        let command = crate::config::parse_line(&crate::config::View::User, line, false).unwrap();
        let crate::config::Command::Reset(reset) = command else { panic!("{command:?}") };
        let named = config.bmp.sessions.keys().filter(|id| reset.names(id)).map(SessionId::to_string);
        assert_eq!(named.collect::<Vec<_>>().join(" "), expected, "{line}");
    }
}
