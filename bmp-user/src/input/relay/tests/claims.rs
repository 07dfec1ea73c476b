//! Clients of one relay that claim the same peer, over loopback sockets.

use std::collections::VecDeque;

use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::sockets::{Lab, fed, following, own_address};
use crate::{
    feed::Selection,
    input::relay::{ConnectionStatus, RelayStatus},
    wire::bmp::samples::*,
};

/// The connection of a client.
fn of<'a>(relays: &'a [RelayStatus], client: &TcpStream) -> Option<&'a ConnectionStatus> {
    relays[0].connections.iter().find(|shown| client.local_addr().is_ok_and(|client| client == shown.client))
}

#[tokio::test]
async fn a_client_that_claims_the_peer_of_a_live_client_is_refused_and_stays() {
    let address = own_address();
    let lab = Lab::start(&[("frr", address)]);
    lab.listening().await;
    let mut owner = TcpStream::connect(address).await.unwrap();
    let mut follower = following(&lab.feed);
    owner.write_all(&[peer_up(1, 1), route(1, 0)].concat()).await.unwrap();
    fed(&mut follower, 2).await;
    let mut thief = TcpStream::connect(address).await.unwrap();
    thief.write_all(&[peer_up(2, 1), peer_up(1, 1), route(1, 9), peer_down(1), route(2, 0)].concat()).await.unwrap();
    assert_eq!(fed(&mut follower, 2).await, [peer_up(2, 1), route(2, 0)].concat());
    let shown = lab.until("it is refused", |all| of(all, &thief).is_some_and(|shown| shown.totals.frames == 5)).await;
    let shown = of(&shown, &thief).unwrap();
    assert_eq!(shown.totals.refused, 3);
    assert_eq!(lab.feed.refusals(shown.id).len(), 1);
    owner.write_all(&route(1, 1)).await.unwrap();
    assert_eq!(fed(&mut follower, 1).await, route(1, 1));
}

#[tokio::test]
async fn a_daemon_that_reconnects_before_its_old_end_is_read_keeps_its_peer() {
    const LAST: u16 = 50;
    let address = own_address();
    let lab = Lab::start(&[("frr", address)]);
    lab.listening().await;
    let routes: Vec<u8> = (0..100).flat_map(|number| route(1, number)).collect();
    let mut daemon = TcpStream::connect(address).await.unwrap();
    for round in 0..LAST {
        daemon.write_all(&[peer_up(1, round), routes.clone()].concat()).await.unwrap();
        // The old connection is gone now, and the relay may not have read it.
        daemon = TcpStream::connect(address).await.unwrap();
    }
    daemon.write_all(&peer_up(1, LAST)).await.unwrap();
    let late = || {
        let mut pieces = VecDeque::new();
        lab.feed.attach(Selection::default()).take(usize::MAX, &mut pieces);
        pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect::<Vec<_>>()
    };
    let all =
        lab.until("the last one has the peer", |all| all[0].connections.len() == 1 && late() == peer_up(1, LAST)).await;
    assert_eq!(of(&all, &daemon).unwrap().totals.refused, 0);
}

#[tokio::test]
async fn two_clients_that_claim_from_each_other_are_both_refused_and_go_on() {
    let address = own_address();
    let lab = Lab::start(&[("frr", address)]);
    lab.listening().await;
    let mut follower = following(&lab.feed);
    let mut one = TcpStream::connect(address).await.unwrap();
    let mut other = TcpStream::connect(address).await.unwrap();
    one.write_all(&peer_up(1, 1)).await.unwrap();
    other.write_all(&peer_up(2, 1)).await.unwrap();
    fed(&mut follower, 2).await;
    one.write_all(&[peer_up(2, 1), route(1, 0)].concat()).await.unwrap();
    other.write_all(&[peer_up(1, 1), route(2, 0)].concat()).await.unwrap();
    fed(&mut follower, 2).await;
    lab.until("both are refused", |all| {
        [&one, &other].iter().all(|client| of(all, client).is_some_and(|shown| shown.totals.refused == 1))
    })
    .await;
}

#[tokio::test]
async fn a_message_with_damaged_content_leaves_the_connection_and_its_peers_alone() {
    let address = own_address();
    let lab = Lab::start(&[("frr", address)]);
    lab.listening().await;
    let mut follower = following(&lab.feed);
    let mut daemon = TcpStream::connect(address).await.unwrap();
    let mut broken = peer_up(2, 1);
    broken[68 + 17] = 19;
    let mut initiation = initiation();
    let length = initiation.len();
    // Its last TLV is longer than the rest of the message.
    initiation[length - 15] = 99;
    daemon.write_all(&[peer_up(1, 1), broken, initiation, route(1, 0)].concat()).await.unwrap();
    assert_eq!(fed(&mut follower, 2).await, [peer_up(1, 1), route(1, 0)].concat());
    lab.until("they are counted", |all| of(all, &daemon).is_some_and(|shown| shown.totals.odd.total() == 2)).await;
    daemon.write_all(&route(1, 1)).await.unwrap();
    assert_eq!(fed(&mut follower, 1).await, route(1, 1));
}
