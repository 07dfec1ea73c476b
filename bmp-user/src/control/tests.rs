//! An operator at work, without the socket.

mod commits;
mod displays;
mod help;
mod history;
mod prompts;
mod secrets;
mod trials;

use std::{fs, sync::Arc};

use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::{
    config::{CommitHistory, Config, KeyFile, SessionId, StartLimits, load, parse_file, print},
    link::Link,
    pin::{self, Datapath},
    sandbox::Sandbox,
};

const FILE: &str = "sysname HUAWEI\n";

/// A bmpd without its tasks.
struct TasklessDevice {
    context: ControlContext,
    folder: TempDir,
    _host: watch::Sender<Arc<Host>>,
}

impl TasklessDevice {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bmpd.conf");
        fs::write(&path, text).unwrap();
        let link = Link { index: 7, name: "eth1".to_owned(), up: true, carrier: true, ..Link::default() };
        let port = Link { index: 9, name: "eth2".to_owned(), controller: Some(7), ..link.clone() };
        let links = [(7, link), (9, port)].into();
        let (host_sender, host) = watch::channel(Arc::new(Host { links, routes_epoch: 0 }));
        let datapath = Datapath::load(&pin::DatapathOptions {
            mode: pin::DatapathMode::Socket,
            ..pin::DatapathOptions::default()
        })
        .unwrap();
        let context = ControlContext {
            store: ConfigStore::new(
                &path,
                load(&path, &KeyFile::beside(&path)).unwrap(),
                StartLimits::sessions(usize::MAX),
            ),
            host,
            routes: RouteLookup::default(),
            sessions: Sessions::default(),
            pins: Pins::new(datapath),
            feed: Feed::default(),
            bgp_peers: BgpPeers::default(),
            relays: Relays::default(),
            replays: Replays::default(),
            tls: TlsProfiles::default(),
            http: HttpStatus::default(),
            sandbox: Sandbox::none("a test").into(),
        };
        Self { context, folder, _host: host_sender }
    }

    /// Keeps a history of commits in `state` in the folder, which is not made.
    fn with_history(mut self) -> Self {
        let path = self.folder.path().join("bmpd.conf");
        let history = CommitHistory::in_folder(&self.folder.path().join("state"));
        self.context.store =
            ConfigStore::new(&path, load(&path, &KeyFile::beside(&path)).unwrap(), StartLimits::sessions(usize::MAX))
                .with_history(history);
        self
    }

    fn operator(&self) -> Operator {
        Operator::new(self.context.clone())
    }

    fn kept(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

async fn ask(operator: &mut Operator, command: &str, mode: RequestMode) -> Response {
    operator.answer(&Request { command: command.to_owned(), mode, ..Request::default() }).await
}

/// Carries out a command and returns its text.
async fn run(operator: &mut Operator, command: &str) -> String {
    match ask(operator, command, RequestMode::Interactive).await.answer {
        CommandAnswer::Done(text) => text,
        other => panic!("{command}: {other:?}"),
    }
}

/// Returns the reason why a command is refused.
async fn refused(operator: &mut Operator, command: &str) -> String {
    match ask(operator, command, RequestMode::Interactive).await.answer {
        CommandAnswer::Refused(text) => text,
        other => panic!("{command}: {other:?}"),
    }
}

/// Returns the question that a command asks.
async fn asked(operator: &mut Operator, command: &str) -> String {
    match ask(operator, command, RequestMode::Interactive).await.answer {
        CommandAnswer::Question(text) => text,
        other => panic!("{command}: {other:?}"),
    }
}

/// Carries out commands one after another, and compares the prompt of each answer.
async fn prompts(operator: &mut Operator, table: &[(&str, &str)]) {
    for (command, prompt) in table {
        let response = ask(operator, command, RequestMode::Run).await;
        assert!(matches!(response.answer, CommandAnswer::Done(_)), "{command}: {response:?}");
        assert_eq!(response.prompt, *prompt, "{command}");
    }
}
