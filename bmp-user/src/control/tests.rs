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
        let datapath = Datapath::load(&pin::Options { mode: pin::Mode::Socket, ..pin::Options::default() }).unwrap();
        let context = Context {
            store: Store::new(&path, load(&path).unwrap(), usize::MAX),
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

/// The question that it asks.
async fn asked(operator: &mut Operator, command: &str) -> String {
    match ask(operator, command, Mode::Interactive).await.outcome {
        Outcome::Question(text) => text,
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
    assert_eq!(device.kept("bmpd.conf").replace("# by hand\n", ""), print(&config));
    assert!(device.kept("bmpd.conf").contains("\n# by hand\nsysname HUAWEI\n"));
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
    // Another operator's changes wait; one without any may confirm, and is asked.
    let mut other = device.operator();
    run(&mut other, "system-view").await;
    run(&mut other, "bmp").await;
    assert!(refused(&mut other, "commit").await.contains("a trial is in force"));
    run(&mut other, "clear configuration candidate").await;
    asked(&mut other, "commit").await;
    assert_eq!(run(&mut other, "y").await, "Info: the trial is confirmed and kept.\n");
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
    let in_json = |command: &str| Request { command: command.to_owned(), json: true, ..Request::default() };
    assert!(matches!(operator.answer(&in_json("reset bmp session all")).await.outcome, Outcome::Refused(_)));
    assert_eq!(operator.answer(&in_json("system-view")).await.outcome, Outcome::Done(String::new()));
    let Outcome::Done(json) = operator.answer(&in_json("commit")).await.outcome else { panic!() };
    let said: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(said, serde_json::json!([{ "severity": "info", "text": "there is nothing to commit" }]));
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

#[tokio::test(start_paused = true)]
async fn a_trial_is_its_owners_to_confirm_and_everybody_sees_it() {
    let device = Device::new(FILE);
    let mut notices = device.context.store.notices();
    let (mut owner, mut other) = (device.operator().at(0, Some(11)), device.operator().at(65_534, Some(12)));
    assert_eq!(run(&mut other, "display configuration trial").await, "No trial is in force.\n");
    run(&mut owner, "system-view").await;
    run(&mut owner, "sysname edge1").await;
    run(&mut owner, "commit trial 30").await;
    assert_eq!(ask(&mut owner, "bmp", Mode::Run).await.prompt, "[*edge1(trial)-bmp]");
    run(&mut owner, "clear configuration candidate").await;
    assert_eq!(ask(&mut other, "", Mode::Run).await.prompt, "<edge1(trial)>");
    let notice = notices.recv().await.unwrap();
    assert_eq!((&*notice.text, notice.by), ("Info: a trial by root (process 11) is in force for 30 s.", Some(11)));
    let shown = run(&mut other, "display configuration trial").await;
    for part in ["Owner       : root", "process 11, connected", "30 s of 30 s"] {
        assert!(shown.contains(part), "{shown}");
    }
    // Nobody can be asked: the words that would do it are said.
    let response = ask(&mut other, "commit", Mode::Run).await;
    let Outcome::Refused(said) = response.outcome else { panic!("{response:?}") };
    assert!(said.contains("the trial is by root (process 11), 30 s left: `commit force`"), "{said}");
    let question = "The trial is by root (process 11), 30 s left: confirm it all the same? [y/N]: ";
    assert_eq!(asked(&mut other, "commit").await, question);
    assert_eq!(run(&mut other, "").await, "Info: the trial goes on.\n");
    assert!(asked(&mut other, "abort trial").await.contains("end it all the same?"));
    assert_eq!(run(&mut other, "no").await, "Info: the trial goes on.\n");
    assert_eq!(device.context.store.running().sysname.as_deref(), Some("edge1"));
    // Also when its connection is gone.
    drop(owner);
    let request = Request { command: "display configuration trial".to_owned(), json: true, ..Request::default() };
    let Outcome::Done(json) = other.answer(&request).await.outcome else { panic!() };
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["user"], &json["connected"]), (&"root".into(), &false.into()));
    assert_eq!(json["seconds_left"], 30);
    asked(&mut other, "commit").await;
    assert_eq!(run(&mut other, "yes").await, "Info: the trial is confirmed and kept.\n");
    assert!(notices.recv().await.unwrap().text.contains("is confirmed by "));
    assert_eq!(ask(&mut other, "", Mode::Run).await.prompt, "<edge1>");

    let mut owner = device.operator();
    run(&mut owner, "system-view").await;
    for (command, end) in [("commit force", "is confirmed by"), ("abort trial force", "is aborted by")] {
        run(&mut owner, &format!("sysname {}", end.len())).await;
        run(&mut owner, "commit trial 30").await;
        notices.recv().await.unwrap();
        assert!(matches!(ask(&mut other, command, Mode::Run).await.outcome, Outcome::Done(_)));
        assert!(notices.recv().await.unwrap().text.contains(end));
    }
    run(&mut owner, "sysname edge3").await;
    run(&mut owner, "commit trial 30").await;
    notices.recv().await.unwrap();
    let notice = notices.recv().await.unwrap();
    assert!(notice.text.contains("is over and was not confirmed") && notice.by.is_none(), "{notice:?}");
}

const SECRETS: &str = "bgp 65000\n peer 192.0.2.2 as-number 65001\n peer 192.0.2.2 password hunter2\nbmp\n bmp-session \
                       198.51.100.7\n  tcp connect port 11019 password md5 hunter3\n";

#[tokio::test]
async fn secrets_are_in_the_file_and_nowhere_else() {
    let device = Device::new(SECRETS);
    let mut operator = device.operator();
    let hidden = |said: &str| assert!(!said.contains("hunter") && said.contains(crate::config::MASK), "{said}");
    hidden(&run(&mut operator, "display current-configuration").await);
    assert!(!run(&mut operator, "display current-configuration | include hunter").await.contains("hunter"));
    for command in ["system-view", "bmp", "bmp-session 198.51.100.7", "tcp connect port 11019 password md5 hunter4"] {
        run(&mut operator, command).await;
    }
    hidden(&run(&mut operator, "display configuration candidate").await);
    hidden(&run(&mut operator, "display configuration candidate changes").await);
    assert_eq!(run(&mut operator, "commit").await, "");
    assert!(device.kept("bmpd.conf").contains("password md5 hunter4\n"));
    // Also what another operator has changed, and what cannot be taken back.
    let mut other = device.operator();
    run(&mut other, "system-view").await;
    for (operator, secret) in [(&mut operator, "hunter5"), (&mut other, "hunter6")] {
        run(operator, "bgp 65000").await;
        run(operator, &format!("peer 192.0.2.2 password {secret}")).await;
    }
    run(&mut operator, "commit").await;
    hidden(&refused(&mut other, "commit").await);
    hidden(&refused(&mut other, "undo peer 192.0.2.2 password hunter7").await);
    // And lines that are wrong.
    for line in [
        "peer 192.0.2.2 password hunter2 x",
        "peer 192.0.2.2 pasword hunter2",
        "peer 192.0.2.2 p hunter2 x",
        "nonsense password hunter2",
        "peer 192.0.2.9 password hunter2",
    ] {
        let response = ask(&mut operator, line, Mode::Run).await;
        let Outcome::Refused(said) = response.outcome else { panic!("{line}: {response:?}") };
        hidden(&said);
        assert!(response.secret, "{line}");
    }
    assert!(!format!("{:?} {operator:?}", device.context.store.running()).contains("hunter"));
    assert!(!ask(&mut operator, "display bmp session", Mode::Run).await.secret);
    // What is shown is no secret.
    let said = refused(&mut operator, "peer 192.0.2.2 password ******").await;
    assert!(said.contains("is shown in the place of a secret"), "{said}");
}

#[tokio::test]
async fn an_error_under_a_secret_has_its_carets_below_the_mask() {
    let device = Device::new("bgp 65000\n peer 192.0.2.2 as-number 65001\n");
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    run(&mut operator, "bgp 65000").await;
    assert_eq!(
        refused(&mut operator, &format!("peer 192.0.2.2 password {}", "x".repeat(81))).await,
        "peer 192.0.2.2 password ******\n                        ^^^^^^\nError: a TCP MD5 secret has 1 to 80 characters, this has 81."
    );
    assert_eq!(
        refused(&mut operator, "peer 192.0.2.2 password hunter2 more").await.lines().nth(1),
        Some("                               ^^^^^^")
    );
}

const COMMENTED: &str = "\
# Edge router of the east.
# Contact: the NOC.

# Its name is on the label.
sysname HUAWEI
#
bmp
 # Every station of the east
 #
 bmp-session 198.51.100.7
\t# is told over this port.
  tcp connect port 11019
  # This changes nothing.
  hold-down 0
 bmp-session 198.51.100.8
return
# The end.
";

#[tokio::test]
async fn comments_stay_with_their_lines_through_commits() {
    let device = Device::new(COMMENTED);
    let mut operator = device.operator();
    for command in ["system-view", "sysname edge1", "bmp", "bmp-session 198.51.100.7", "hold-down 7", "commit"] {
        run(&mut operator, command).await;
    }
    let kept = "# Edge router of the east.\n# Contact: the NOC.\n#\n# Its name is on the label.\nsysname edge1\n#\nbmp\n #\n \
                # Every station of the east\n bmp-session 198.51.100.7\n  # is told over this port.\n  \
                tcp connect port 11019\n  # This changes nothing.\n  hold-down 7\n #\n bmp-session 198.51.100.8\n#\nreturn\n# The end.\n";
    assert_eq!(device.kept("bmpd.conf"), kept);
    // Nothing is lost the next time, and a comment goes with its line.
    run(&mut operator, "undo bmp-session 198.51.100.8").await;
    run(&mut operator, "bmp-session 198.51.100.7").await;
    run(&mut operator, "undo tcp connect port").await;
    run(&mut operator, "commit").await;
    let kept = kept.replace("  # is told over this port.\n  tcp connect port 11019\n", "");
    assert_eq!(device.kept("bmpd.conf"), kept.replace(" #\n bmp-session 198.51.100.8\n", ""));
    assert!(!run(&mut operator, "display current-configuration").await.contains("label"));
}

#[tokio::test]
async fn what_the_next_start_would_refuse_is_not_committed() {
    // Comments count too: this file can be read, and no line more.
    let most = 1 << 20;
    let text = format!("#{}\n{FILE}", "x".repeat(most - FILE.len() - 2));
    let device = Device::new(&text);
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname edge1").await;
    for command in ["commit", "commit trial 30"] {
        let said = refused(&mut operator, command).await;
        assert!(said.contains("could not be read at the next start") && said.contains("at most 1048576"), "{said}");
        assert_eq!(device.context.store.running().sysname.as_deref(), Some("HUAWEI"));
        assert_eq!(device.kept("bmpd.conf"), text);
    }
    assert_eq!(ask(&mut operator, "", Mode::Run).await.prompt, "[*HUAWEI]");
    let mut names: Vec<_> =
        fs::read_dir(device.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bmpd.conf"]);
}

#[tokio::test]
async fn help_names_what_a_mistyped_word_may_be_meant_as() {
    let device = Device::new(FILE);
    let mut operator = device.operator();
    let help = async |operator: &mut Operator, line: &str| match ask(operator, line, Mode::Help).await.outcome {
        Outcome::Done(text) | Outcome::Refused(text) => text,
        other => panic!("{line}: {other:?}"),
    };
    for (line, near) in [
        ("disply", "did you mean `display`?"),
        ("dislpay ", "did you mean `display`?"),
        ("display bpm ", "did you mean `bmp`?"),
        ("display bmp sesion ver", "did you mean `session`?"),
        ("sytem", "did you mean `system-view`?"),
    ] {
        let said = help(&mut operator, line).await;
        assert!(said.contains(near), "{line}: {said}");
    }
    run(&mut operator, "system-view").await;
    run(&mut operator, "bmp").await;
    assert!(help(&mut operator, "sysnme").await.contains("`sysname`"), "also of the views around");
    assert!(help(&mut operator, "qqqqqq").await.contains("nothing comes next here"));
    assert_eq!(
        refused(&mut operator, "bpm-session").await.lines().last(),
        Some("Error: unknown command `bpm-session`: did you mean `bmp-session`?")
    );
}

#[tokio::test]
async fn one_of_several_sessions_to_a_station_is_shown_by_its_alias() {
    let device = Device::new("bmp\n bmp-session 198.51.100.7\n bmp-session 198.51.100.7 alias lab\n");
    let mut operator = device.operator();
    let shown = run(&mut operator, "display bmp session 198.51.100.7 alias lab verbose").await;
    assert!(shown.contains("Total number of BMP session : 1") && shown.contains("198.51.100.7, alias lab"), "{shown}");
    let said = refused(&mut operator, "display bmp session 198.51.100.7 alias other").await;
    assert_eq!(said, "Error: no bmp-session 198.51.100.7 alias other is configured.");
}
