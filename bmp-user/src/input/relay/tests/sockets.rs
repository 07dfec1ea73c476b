//! Relays over loopback sockets.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    config::{self, Config},
    feed::{Feed, Follower, Selection},
    input::relay::{self, RelayState, RelayStatus, Relays},
    wire::bmp::{MessageType, samples::*},
};

const LIMIT: Duration = Duration::from_secs(20);

/// Running relays.
pub(super) struct Lab {
    config: watch::Sender<Arc<Config>>,
    pub(super) feed: Feed,
    pub(super) relays: Relays,
    task: JoinHandle<()>,
}

impl Lab {
    pub(super) fn start(relays: &[(&str, SocketAddr)]) -> Self {
        let (config, receiver) = watch::channel(Arc::new(Lab::config(relays)));
        let (feed, relays) = (Feed::default(), Relays::default());
        let (_, host) = watch::channel(Arc::default());
        let task =
            tokio::spawn(relay::run(receiver, feed.clone(), relays.clone(), host, crate::tls::TlsProfiles::default()));
        Self { config, feed, relays, task }
    }

    fn config(relays: &[(&str, SocketAddr)]) -> Config {
        let relay = |&(name, listen): &(&str, SocketAddr)| {
            (name.to_owned(), config::RelayConfig { listen: Some(listen), ..config::RelayConfig::default() })
        };
        Config { relays: relays.iter().map(relay).collect(), ..Config::default() }
    }

    /// Has one relay, with this configuration.
    pub(super) fn configure(&self, name: &str, relay: config::RelayConfig) {
        self.config.send_replace(Arc::new(Config { relays: [(name.to_owned(), relay)].into(), ..Config::default() }));
    }

    fn commit(&self, relays: &[(&str, SocketAddr)]) {
        self.config.send_replace(Arc::new(Lab::config(relays)));
    }

    /// Waits until the relays are as wanted.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&[RelayStatus]) -> bool) -> Vec<RelayStatus> {
        let waiting = async {
            loop {
                let now = self.relays.snapshot();
                if wanted(&now) {
                    return now;
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("{what}: {:#?}", self.relays.snapshot()))
    }

    pub(super) async fn listening(&self) {
        let wanted = self.config.borrow().relays.clone();
        let all = |relays: &[RelayStatus]| {
            relays.iter().all(|r| r.state == RelayState::Listening)
                && relays.iter().map(|r| (&r.name, Some(r.listen))).eq(wanted.iter().map(|(name, r)| (name, r.listen)))
        };
        self.until("listening", all).await;
    }

    async fn closed(&self, name: &str) -> String {
        let find = |relays: &[RelayStatus]| {
            relays.iter().find(|relay| relay.name == name && relay.connections.is_empty())?.last_closed.clone()
        };
        find(&self.until("a connection is closed", |relays| find(relays).is_some()).await).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address that only this test uses. A free port of 127.0.0.1 could belong to another connection
/// a moment later.
pub(super) fn own_address() -> SocketAddr {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, high, low, 1 + LAST.fetch_add(1, Ordering::Relaxed)), 21790).into()
}

/// A follower that has taken everything, and follows the journal from here on.
pub(super) fn following(feed: &Feed) -> Follower {
    let mut follower = feed.attach(Selection::default());
    follower.take(usize::MAX, &mut VecDeque::new());
    follower
}

/// Takes this many frames from the journal.
pub(super) async fn fed(follower: &mut Follower, frames: u64) -> Vec<u8> {
    let mut pieces = VecDeque::new();
    let start = follower.cursor();
    while follower.cursor() < start + frames {
        timeout(LIMIT, follower.ready()).await.expect("frames");
        follower.take(usize::MAX, &mut pieces);
    }
    pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect()
}

async fn is_closed(daemon: &mut TcpStream) {
    let read = timeout(LIMIT, daemon.read(&mut [0; 1])).await.expect("closed");
    assert!(matches!(read, Ok(0) | Err(_)));
}

#[tokio::test]
async fn what_a_daemon_sends_is_fed_and_shown() {
    let address = own_address();
    let lab = Lab::start(&[("frr", address)]);
    lab.listening().await;
    let mut follower = following(&lab.feed);
    let mut daemon = TcpStream::connect(address).await.unwrap();
    let frames = [peer_up(1, 1), route(1, 0), route(2, 10)].concat();
    daemon.write_all(&[initiation(), frames.clone()].concat()).await.unwrap();
    assert_eq!(fed(&mut follower, 3).await, frames);
    let client = daemon.local_addr().unwrap();
    let shown = lab.until("shown", |relays| relays[0].connections.iter().any(|c| c.totals.frames == 3)).await;
    let connection = &shown[0].connections[0];
    let totals = connection.totals;
    assert_eq!((connection.client, totals.bytes, totals.unannounced), (client, frames.len() as u64, 1));
    assert_eq!(connection.sys_name.as_deref(), Some("r1.example.net"));
    assert_eq!(connection.sys_descr.as_deref(), Some("a test daemon"));
    drop(daemon);
    assert_eq!(fed(&mut follower, 1).await[5], MessageType::PeerDown.code());
    assert_eq!(lab.closed("frr").await, format!("{client}: the daemon closed the connection"));
}

#[tokio::test]
async fn a_client_that_speaks_something_else_is_closed_and_no_other() {
    let address = own_address();
    let lab = Lab::start(&[("frr", address)]);
    lab.listening().await;
    let mut follower = following(&lab.feed);
    let mut good = TcpStream::connect(address).await.unwrap();
    good.write_all(&peer_up(1, 1)).await.unwrap();
    fed(&mut follower, 1).await;
    let cases: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\n", "at byte 0: expected BMP version 3 (RFC 7854), found 71"),
        (&[3, 0, 0, 0, 0, 0], "at byte 1: expected a message length of 6 to 262144 bytes, found 0"),
        (&[3, 0x80, 0, 0, 0, 0], "at byte 1: expected a message length of 6 to 262144 bytes, found 2147483648"),
        (&[2, 0, 0, 0, 48, 0], "at byte 0: expected BMP version 3 (RFC 7854), found 2"),
    ];
    for (bytes, why) in cases {
        let mut bad = TcpStream::connect(address).await.unwrap();
        bad.write_all(bytes).await.unwrap();
        is_closed(&mut bad).await;
        let client = bad.local_addr().unwrap().to_string();
        let said = |r: &RelayStatus| r.last_closed.as_ref().is_some_and(|l| l.starts_with(&client) && l.contains(why));
        lab.until(why, |relays| said(&relays[0])).await;
    }
    good.write_all(&route(1, 0)).await.unwrap();
    assert_eq!(fed(&mut follower, 1).await, route(1, 0));
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_message_is_told_with_its_place() {
    let address = own_address();
    let lab = Lab::start(&[("frr", address)]);
    lab.listening().await;
    let mut daemon = TcpStream::connect(address).await.unwrap();
    daemon.write_all(&[peer_up(1, 1), route(1, 0)[..10].to_vec()].concat()).await.unwrap();
    // A program that closed its socket before the relay looks would have no user.
    daemon.shutdown().await.unwrap();
    assert!(lab.closed("frr").await.ends_with("the stream ended 10 bytes into the message at byte 126"));
}

#[tokio::test]
async fn a_relay_that_is_removed_or_moved_goes_with_its_connections_and_others_stay() {
    let [first, second, third] = [own_address(), own_address(), own_address()];
    let lab = Lab::start(&[("frr", first), ("gobgp", second)]);
    lab.listening().await;
    let mut frr = TcpStream::connect(first).await.unwrap();
    let mut gobgp = TcpStream::connect(second).await.unwrap();
    let mut follower = following(&lab.feed);
    frr.write_all(&peer_up(1, 1)).await.unwrap();
    gobgp.write_all(&peer_up(2, 1)).await.unwrap();
    fed(&mut follower, 2).await;

    lab.commit(&[("frr", third), ("gobgp", second)]);
    is_closed(&mut frr).await;
    lab.listening().await;
    assert_eq!(fed(&mut follower, 1).await[5], MessageType::PeerDown.code());
    assert!(TcpStream::connect(first).await.is_err());
    TcpStream::connect(third).await.unwrap();

    lab.commit(&[("bird", third), ("gobgp", second)]);
    lab.listening().await;
    assert_eq!(lab.relays.snapshot().iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["bird", "gobgp"]);
    gobgp.write_all(&route(2, 0)).await.unwrap();
    assert_eq!(fed(&mut follower, 1).await, route(2, 0), "the other one never noticed");

    lab.commit(&[]);
    is_closed(&mut gobgp).await;
    assert_eq!(fed(&mut follower, 1).await[5], MessageType::PeerDown.code());
    lab.until("none left", <[_]>::is_empty).await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_and_tried_again() {
    let taken = TcpListener::bind(own_address()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let lab = Lab::start(&[("frr", address), ("gobgp", "192.0.2.77:5000".parse().unwrap())]);
    let failed = |status: &RelayStatus, why: &str| matches!(&status.state, RelayState::Failed(w) if w.contains(why));
    lab.until("both fail", |relays| {
        relays.len() == 2
            && failed(&relays[0], "another program listens there")
            && failed(&relays[1], "the address is not on this host")
    })
    .await;
    drop(taken);
    lab.until("listens after all", |relays| relays[0].state == RelayState::Listening).await;
    TcpStream::connect(address).await.unwrap();
}

#[tokio::test]
async fn relays_end_with_whoever_runs_them() {
    let address = own_address();
    let lab = Lab::start(&[("frr", address)]);
    lab.listening().await;
    let mut daemon = TcpStream::connect(address).await.unwrap();
    daemon.write_all(&peer_up(1, 1)).await.unwrap();
    lab.until("connected", |relays| !relays[0].connections.is_empty()).await;
    lab.task.abort();
    is_closed(&mut daemon).await;
    lab.until("none left", <[_]>::is_empty).await;
}
