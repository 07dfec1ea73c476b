//! The loop of a session, with a keeper that needs no kernel programs and a station on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{DeviceIdentity, SessionPhase, SessionSnapshot, SessionSurroundings, Sessions};
use crate::{
    config::{Config, ConnectRetry, SessionConfig, SessionId, Transport},
    feed::Feed,
    link::{Host, RouteLookup},
    pin::{self, Datapath, ForeignSockets, NextHopRoutes, Pins, Reason, SourceChoices},
    sandbox::ApartThread,
    tls::TlsProfiles,
    wire::bmp::MessageType,
};

const PATIENCE: Duration = Duration::from_secs(20);
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One session whose station is on this host.
struct SessionLab {
    id: SessionId,
    config: watch::Sender<Arc<Config>>,
    sessions: Sessions,
    /// Sessions and keeper end without them.
    _stop: watch::Sender<bool>,
    _host: watch::Sender<Arc<Host>>,
    _identity: watch::Sender<DeviceIdentity>,
}

impl SessionLab {
    fn new(session: SessionConfig) -> Self {
        let id = SessionId { vpn_instance: None, station: LOCALHOST, alias: None };
        let mut first = Config::default();
        first.bmp.sessions.insert(id.clone(), session);
        let config = watch::Sender::new(Arc::new(first));
        let host = watch::Sender::new(Arc::new(Host::default()));
        let options = pin::DatapathOptions { mode: pin::DatapathMode::Socket, ..pin::DatapathOptions::default() };
        let pins = Pins::new(Datapath::load(&options).unwrap());
        let foreign =
            ForeignSockets::new(pins.clone(), RouteLookup::default(), host.subscribe(), ApartThread::in_runtime());
        let choices = SourceChoices::beside(Path::new("/dev/null"), watch::Sender::new(false).subscribe());
        let identity = DeviceIdentity { sys_name: "edge1".to_owned(), sys_descr: "a test".to_owned(), note: None };
        let identity = watch::Sender::new(identity);
        let (sessions, stop) = (Sessions::default(), watch::Sender::new(false));
        tokio::spawn(pin::run(
            pins.clone(),
            NextHopRoutes::default(),
            choices,
            foreign.clone(),
            config.subscribe(),
            host.subscribe(),
            RouteLookup::default(),
        ));
        tokio::spawn(super::run(
            sessions.clone(),
            SessionSurroundings {
                feed: Feed::default(),
                pins,
                foreign,
                identity: identity.subscribe(),
                tls: TlsProfiles::default(),
            },
            config.subscribe(),
            stop.subscribe(),
        ));
        Self { id, config, sessions, _stop: stop, _host: host, _identity: identity }
    }

    fn configure(&self, change: impl FnOnce(&mut SessionConfig)) {
        let mut config = Config::clone(&self.config.borrow());
        change(config.bmp.sessions.get_mut(&self.id).unwrap());
        self.config.send_replace(Arc::new(config));
    }

    fn reset(&self) {
        self.sessions.reset(std::slice::from_ref(&self.id));
    }

    /// Waits until the session shows something.
    async fn until(&self, what: &str, shows: impl Fn(&SessionSnapshot) -> bool) -> SessionSnapshot {
        let began = Instant::now();
        loop {
            let shown = self.sessions.get(&self.id).map(|session| session.status.snapshot());
            match shown {
                Some(shown) if shows(&shown) => return shown,
                _ if began.elapsed() > PATIENCE => panic!("not {what}: {shown:?}"),
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

/// Reads one BMP message and returns its type.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> MessageType {
    let read = async {
        let mut header = [0; 6];
        stream.read_exact(&mut header).await.unwrap();
        let [_, a, b, c, d, code] = header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let mut rest = vec![0; length - header.len()];
        stream.read_exact(&mut rest).await.unwrap();
        MessageType::from_code(code).unwrap()
    };
    timeout(PATIENCE, read).await.expect("a message")
}

async fn station() -> (TcpListener, SessionConfig) {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, SessionConfig { transport: Some(Transport::Connect(port)), ..SessionConfig::default() })
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap().0
}

/// A session that its station opens, and the address to connect to.
async fn passive() -> (SessionLab, SocketAddr) {
    let free = TcpListener::bind((LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let lab =
        SessionLab::new(SessionConfig { transport: Some(Transport::Listen(free.port())), ..SessionConfig::default() });
    lab.until("listening", |shown| shown.phase == SessionPhase::Listening).await;
    (lab, free)
}

#[tokio::test]
async fn a_reset_says_farewell_and_connects_again_at_once() {
    let (listener, session) = station().await;
    let lab = SessionLab::new(session);
    let mut first = accept(&listener).await;
    assert_eq!(message(&mut first).await, MessageType::Initiation);
    lab.until("up", |shown| shown.phase == SessionPhase::Following).await;
    lab.reset();
    assert_eq!(message(&mut first).await, MessageType::Termination);
    drop(first);
    assert_eq!(message(&mut accept(&listener).await).await, MessageType::Initiation);
    let shown = lab.until("up again", |shown| shown.established == 2 && shown.phase.is_up()).await;
    assert_eq!((shown.reason, shown.attempts), (None, 2));
}

#[tokio::test]
async fn a_session_backs_off_and_a_change_of_its_settings_ends_the_pause() {
    let (listener, session) = station().await;
    let retry = ConnectRetry { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
    let lab = SessionLab::new(SessionConfig { connect_retry: Some(retry), ..session });
    drop(accept(&listener).await);
    let shown = lab.until("down", |shown| shown.retry_at.is_some()).await;
    assert!(matches!(shown.reason, Some(Reason::StationClosed | Reason::ConnectionReset)), "{shown:?}");
    lab.configure(|session| session.mss = Some(1000));
    let _second = accept(&listener).await;
    lab.until("up again", |shown| shown.established == 2).await;
}

#[tokio::test]
async fn a_session_that_is_shut_down_closes_and_shows_why() {
    let (listener, session) = station().await;
    let lab = SessionLab::new(session);
    let mut stream = accept(&listener).await;
    assert_eq!(message(&mut stream).await, MessageType::Initiation);
    lab.configure(|session| session.shutdown = true);
    assert_eq!(message(&mut stream).await, MessageType::Termination);
    drop(stream);
    let shown = lab.until("down", |shown| shown.phase == SessionPhase::Down).await;
    assert_eq!((shown.reason, shown.mend.as_deref()), (Some(Reason::Shutdown), Some("undo shutdown")));
    lab.configure(|session| session.shutdown = false);
    assert_eq!(message(&mut accept(&listener).await).await, MessageType::Initiation);
}

#[tokio::test]
async fn the_first_attempt_waits_for_the_initial_delay_unless_it_is_shortened() {
    let (listener, session) = station().await;
    let lab = SessionLab::new(SessionConfig { initial_delay: Duration::from_secs(3600), ..session });
    let shown = lab.until("delayed", |shown| shown.retry_at.is_some()).await;
    assert_eq!((shown.phase, shown.reason), (SessionPhase::Down, None));
    lab.configure(|session| session.initial_delay = Duration::ZERO);
    assert_eq!(message(&mut accept(&listener).await).await, MessageType::Initiation);
}

#[tokio::test]
async fn a_reset_of_a_session_that_listens_leaves_the_next_connection_alone() {
    let (lab, address) = passive().await;
    lab.reset();
    sleep(Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(message(&mut stream).await, MessageType::Initiation);
    let more = timeout(Duration::from_millis(300), message(&mut stream)).await;
    assert!(more.is_err(), "the connection goes on: {more:?}");
    lab.reset();
    assert_eq!(message(&mut stream).await, MessageType::Termination);
}

#[tokio::test]
async fn a_station_that_connects_anew_replaces_its_connection() {
    let (lab, address) = passive().await;
    let mut first = TcpStream::connect(address).await.unwrap();
    assert_eq!(message(&mut first).await, MessageType::Initiation);
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(message(&mut second).await, MessageType::Initiation);
    assert_eq!(message(&mut first).await, MessageType::Termination);
    lab.until("up again", |shown| shown.established == 2 && shown.phase.is_up()).await;
    drop((first, second));
    lab.until("listening again", |shown| shown.phase == SessionPhase::Listening).await;
}
