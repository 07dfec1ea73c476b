//! Damaged streams: nothing panics, and every session ends in one of the ways of the RFC.

use proptest::prelude::*;
use tokio::time::timeout;

use super::world::*;
use crate::{
    input::bgp::BgpState,
    wire::bgp::{Family, MessageType, notification::code},
};

/// A session from the peer's end: OPEN, KEEPALIVE, routes, a route refresh, an End-of-RIB,
/// KEEPALIVE.
fn session() -> Vec<u8> {
    let keepalive = crate::wire::bmp::samples::bgp(4, &[]);
    let refresh = crate::wire::bmp::samples::bgp(5, &[0, 1, 1, 1]);
    let reach = [&[0x80, 14, 26, 0, 2, 1, 16][..], &[0x20; 16], &[0, 32, 0x20, 1, 0xd, 0xb8]].concat();
    let ipv6 = [&ATTRIBUTES[..13], &reach].concat();
    [
        TestOpen { restart: Some((4, 120, true)), ..TestOpen::default() }.open().to_vec(),
        keepalive.clone(),
        announce(&[1, 2, 3]),
        update(&[], &ipv6, &[]),
        withdraw(&[2]),
        refresh,
        end_of_rib(Family::IPV4_UNICAST),
        end_of_rib(Family::IPV6_UNICAST),
        keepalive,
    ]
    .concat()
}

/// Feeds a stream in pieces and closes it. Returns the NOTIFICATION at the end, if there was one.
async fn feed(stream: &[u8], piece: usize) -> Option<(u8, u8)> {
    let mut world = BgpWorld::start(plan());
    let mut far = world.dialed().await;
    far.expect(MessageType::Open).await;
    let mut answer = None;
    for piece in stream.chunks(piece.max(1)) {
        if !far.try_send(piece).await {
            break;
        }
        tokio::task::yield_now().await;
    }
    far.shut().await;
    while let Some((kind, bytes)) = far.receive().await {
        if kind == MessageType::Notification {
            answer = Some((bytes[19], bytes[20]));
        }
    }
    world.wait("down", |status| status.state != BgpState::Established).await;
    assert!(!world.task.is_finished(), "the task continues");
    // The stations' view stays consistent: no routes outside of Peer Up and Peer Down.
    let mut up = false;
    for word in world.words() {
        match word.split(' ').next().unwrap() {
            "up" => up = true,
            "down" => {
                assert!(up);
                up = false;
            }
            _ => assert!(up, "{word}"),
        }
    }
    answer
}

/// Runs [`feed`] in a runtime of its own, because property tests are not async.
fn run(stream: &[u8], piece: usize) -> Option<(u8, u8)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        timeout(std::time::Duration::from_secs(100_000), feed(stream, piece)).await.expect("it ends")
    })
}

/// True for an answer that received bytes may cause: none, or the NOTIFICATION for an error in
/// them.
fn is_an_answer(answer: Option<(u8, u8)>) -> bool {
    match answer {
        None => true,
        Some((code::MESSAGE_HEADER, subcode)) => (1..=3).contains(&subcode),
        Some((code::OPEN, subcode)) => matches!(subcode, 0..=4 | 6 | 7),
        Some((code::UPDATE, subcode)) => matches!(subcode, 1..=6 | 8..=11),
        Some((code::STATE_MACHINE, subcode)) => (1..=3).contains(&subcode),
        Some((code::ROUTE_REFRESH, subcode)) => subcode == 1,
        // An OPEN with another hold time.
        Some((code::HOLD_TIMER, subcode)) => subcode == 0,
        Some(_) => false,
    }
}

#[test]
fn a_valid_session_gets_no_notification_whatever_the_read_sizes() {
    for piece in [1, 7, 19, 64, 100_000] {
        assert_eq!(run(&session(), piece), None, "{piece}");
    }
}

#[test]
fn bytes_that_are_no_bgp_get_connection_not_synchronized() {
    assert_eq!(run(b"GET / HTTP/1.1\r\n\r\n", 100), Some((1, 1)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_get_a_valid_answer(stream in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..500) {
        let answer = run(&stream, piece);
        prop_assert!(is_an_answer(answer), "{answer:?}");
    }

    #[test]
    fn a_damaged_session_gets_a_valid_answer(
        at in any::<prop::sample::Index>(),
        kind in 0u8..4,
        byte in any::<u8>(),
        piece in 1usize..200,
    ) {
        let mut stream = session();
        let at = at.index(stream.len());
        match kind {
            0 => stream[at] ^= 1 << (byte % 8),
            1 => stream[at] = byte,
            2 => { stream.remove(at); }
            _ => stream.insert(at, byte),
        }
        let answer = run(&stream, piece);
        prop_assert!(is_an_answer(answer), "{answer:?}");
    }

    #[test]
    fn a_truncated_session_gets_no_notification(at in any::<prop::sample::Index>()) {
        let stream = session();
        prop_assert_eq!(run(&stream[..at.index(stream.len())], 50), None);
    }
}
