//! Very many peers.

use std::time::{Duration, Instant};

use super::{super::*, announce, append, bytes_of, following, take_all, world};

/// Makes a frame about peer 2 one about another peer, with this distinguisher.
fn of(number: u32, mut frame: Vec<u8>) -> Vec<u8> {
    const DISTINGUISHER: std::ops::Range<usize> = 8..16;
    frame[DISTINGUISHER].copy_from_slice(&u64::from(number).to_be_bytes());
    frame
}

fn ups(numbers: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    numbers.map(|number| of(number, world::up(2, 1))).collect()
}

/// How long it takes to hold and release the one peer of each of 64 connections, beside so many
/// peers of another connection.
fn time_to_hold_and_release(others: u32) -> Duration {
    const CONNECTIONS: u32 = 64;
    let feed = Feed::new(1 << 20, 1 << 20);
    let mut busy = feed.input(InputId::relay("relay"));
    append(&mut busy, &ups(CONNECTIONS..CONNECTIONS + others));
    let few: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let mut input = feed.input(InputId::relay("relay"));
            append(&mut input, &ups(number..number + 1));
            input
        })
        .collect();
    let began = Instant::now();
    let held: Vec<_> = few.into_iter().map(Input::hold).collect();
    drop(held);
    let took = began.elapsed();
    assert_eq!(feed.stats().peers, others as usize);
    took
}

#[test]
fn the_end_of_a_connection_takes_as_long_as_its_own_peers_take() {
    let best = |others| (0..5).map(|_| time_to_hold_and_release(others)).min().unwrap();
    let (alone, beside_many) = (best(1), best(20_000));
    // A look at all peers would take some hundred times as long.
    assert!(beside_many < 10 * alone + Duration::from_millis(5), "{beside_many:?}, and {alone:?} alone");
}

#[test]
fn peers_beyond_the_limit_of_a_connection_are_left_out_until_there_is_room() {
    let feed = Feed::default();
    let mut follower = following(&feed);
    let mut input = feed.input(InputId::relay("relay"));
    input.limit_peers(3);
    append(&mut input, &ups(0..5));
    assert_eq!(bytes_of(&take_all(&mut follower)), ups(0..3).concat());
    let [InputNotice::Odd(Oddity::TooManyPeers, _)] = input.take_notices()[..] else { panic!("one notice") };
    // The known peers go on. Others are not there without a Peer Up either.
    let routes = |number| of(number, announce(2, 1, 1, 0..1));
    append(&mut input, &[ups(0..1), vec![routes(1), routes(4)]].concat());
    assert_eq!(bytes_of(&take_all(&mut follower)), [ups(0..1), vec![routes(1)]].concat().concat());
    assert_eq!(input.totals().odd.iter().collect::<Vec<_>>(), [(Oddity::TooManyPeers, 3)]);
    append(&mut input, &[of(1, world::down(2, 1)), ups(4..5).concat(), routes(4)]);
    assert_eq!(bytes_of(&take_all(&mut follower)), [of(1, world::down(2, 1)), ups(4..5).concat(), routes(4)].concat());
    // Another connection has a limit of its own.
    let mut other = feed.input(InputId::relay("relay"));
    other.limit_peers(1);
    append(&mut other, &ups(9..10));
    assert_eq!(feed.stats().peers, 4);
}
