//! Daemons that send End-of-RIB and daemons that do not, with the clock of the test.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    config::RelayConfig,
    feed::{Feed, Follower, InputId, Selection},
    input::relay::{
        RelayTerms, Relays,
        claims::PeerOwners,
        client::RelayClient,
        connection::{RelayLinks, serve},
        users::UserNumbers,
    },
    visitors::ClientOrigin,
    wire::bmp::{frames, samples::*},
};

/// A daemon that is connected to a relay with these terms.
struct QuietDaemon {
    daemon: DuplexStream,
    terms: watch::Sender<Arc<RelayTerms>>,
    follower: Follower,
    task: JoinHandle<()>,
}

fn after(seconds: u64) -> Arc<RelayTerms> {
    let relay = RelayConfig { end_of_rib_after: Duration::from_secs(seconds), ..RelayConfig::default() };
    Arc::new(RelayTerms::of(&relay, &UserNumbers::default()))
}

impl QuietDaemon {
    fn with(seconds: u64) -> Self {
        let (feed, relays) = (Feed::default(), Relays::default());
        let (daemon, stream) = duplex(1 << 16);
        let (terms, receiver) = watch::channel(after(seconds));
        let input = feed.input(InputId::relay("frr"));
        let (origin, client) = (ClientOrigin::User(0), ([127, 0, 0, 1], 40_000).into());
        let relay = relays.register("frr", ([127, 0, 0, 1], 5000).into());
        let status = relay.connection(input.connection(), RelayClient { address: client, origin, proxy: None });
        let links = RelayLinks { status, terms: receiver, owners: PeerOwners::default(), divided: None };
        let task = tokio::spawn(serve(stream, input, links));
        Self { daemon, terms, follower: feed.attach(Selection::default()), task }
    }

    async fn say(&mut self, said: &[u8]) {
        self.daemon.write_all(said).await.unwrap();
    }

    /// How many frames a station was told since the last call. Lets the relay do what is due first.
    async fn told(&mut self) -> usize {
        sleep(Duration::from_millis(1)).await;
        let mut pieces = VecDeque::new();
        while self.follower.is_dumping() || self.follower.lag_bytes() > 0 {
            self.follower.take(usize::MAX, &mut pieces);
        }
        pieces.iter().map(|piece| frames(&piece.bytes).count()).sum()
    }
}

impl Drop for QuietDaemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An UPDATE that announces 10.0.0.0/8.
fn update(peer: u8) -> Vec<u8> {
    let attributes = [0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 192, 0, 2, 1];
    let body = [&[0, 0, 0, 14][..], &attributes, &[8, 10]].concat();
    frame(0, &[peer_header(peer, crate::wire::bmp::PeerType::GLOBAL, 0), bgp(2, &body)].concat())
}

#[tokio::test(start_paused = true)]
async fn only_a_rib_that_is_quiet_for_the_whole_time_gets_an_end_of_rib() {
    let mut world = QuietDaemon::with(80);
    let start = Instant::now();
    world.say(&[initiation(), peer_up(1, 1), update(1), peer_up(2, 1), update(2)].concat()).await;
    assert_eq!(world.told().await, 4);
    for minute in 1..=3u64 {
        sleep_until(start + Duration::from_secs(30 * minute)).await;
        world.say(&update(2)).await;
    }
    // After 80 s the RIB is quiet. The relay notices within two looks, by 100 s.
    sleep_until(start + Duration::from_secs(101)).await;
    assert_eq!(world.told().await, 3 + 1, "the End-of-RIB of peer 1");
    sleep_until(start + Duration::from_secs(90 + 79)).await;
    assert_eq!(world.told().await, 0, "peer 2 spoke 79 s ago");
    sleep_until(start + Duration::from_secs(90 + 101)).await;
    assert_eq!(world.told().await, 1, "the End-of-RIB of peer 2");
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.told().await, 0, "once");
}

#[tokio::test(start_paused = true)]
async fn the_quiet_time_may_change_during_a_connection_and_zero_adds_no_end_of_rib() {
    let mut world = QuietDaemon::with(0);
    world.say(&[initiation(), peer_up(1, 1), update(1)].concat()).await;
    assert_eq!(world.told().await, 2);
    sleep(Duration::from_secs(10_000)).await;
    assert_eq!(world.told().await, 0);
    world.terms.send_replace(after(10));
    sleep(Duration::from_secs(13)).await;
    assert_eq!(world.told().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_goes_on_when_its_terms_can_change_no_more() {
    let mut world = QuietDaemon::with(10);
    let (nobody, _) = watch::channel(after(10));
    drop(std::mem::replace(&mut world.terms, nobody));
    world.say(&[peer_up(1, 1), update(1)].concat()).await;
    assert_eq!(world.told().await, 2);
    sleep(Duration::from_secs(13)).await;
    assert_eq!(world.told().await, 1);
}
