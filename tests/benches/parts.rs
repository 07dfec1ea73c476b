//! How fast the parts of bmpd are that every route goes through: parsing, the RIB, the dump, the journal, and what a pin comes to.

use std::{
    collections::{BTreeMap, VecDeque},
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
};

use bmp_user::{
    config::ConnectInterface,
    feed::{Feed, Follower, Input, Piece, Selection},
    link::{Address, Host, Link},
    pin::{Question, resolve},
    wire::{
        bgp::{self, Form, MAX_MESSAGE, Update},
        bmp,
    },
};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lab::{
    bmp::{PRE_POLICY, Peer, peer_up, route_monitoring},
    table::{Shape, Table},
};

const ROUTES: usize = 1_000_000;
/// What one read of an input gives.
const READ: usize = 64 * 1024;

/// A table as frames, in pieces as they are read.
fn reads(table: &Table) -> Vec<Bytes> {
    let mut reads = vec![peer_up(&Peer::default())];
    for message in table.messages() {
        let frame = route_monitoring(&Peer::default(), PRE_POLICY, message);
        match reads.last_mut() {
            Some(read) if read.len() + frame.len() <= READ => read.extend(frame),
            _ => reads.push(frame),
        }
    }
    reads.into_iter().map(Bytes::from).collect()
}

fn append(input: &mut Input, reads: &[Bytes]) {
    for read in reads {
        input.append(read.clone(), read.len()).expect("the frames are good");
    }
}

/// Takes all that there is now.
fn take(follower: &mut Follower, pieces: &mut VecDeque<Piece>) -> usize {
    let mut bytes = 0;
    loop {
        follower.take(256 * 1024, pieces);
        if pieces.is_empty() {
            return bytes;
        }
        bytes += pieces.drain(..).map(|piece| piece.bytes.len()).sum::<usize>();
    }
}

fn parse(criterion: &mut Criterion) {
    let table = Table::new(&Shape { routes: ROUTES, ..Shape::default() });
    let reads = reads(&table).concat();
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(ROUTES as u64));
    group.bench_function("bmp frames", |bencher| {
        bencher.iter(|| bmp::frames(&reads).filter(|frame| black_box(frame).is_ok()).count());
    });
    group.bench_function("bgp updates", |bencher| {
        bencher.iter(|| {
            let updates = bgp::frames(&table.bytes, MAX_MESSAGE);
            updates
                .map(|frame| Update::parse(frame.expect("it is BGP").bytes(), 4).expect("it is an UPDATE").nlri.len())
                .sum::<usize>()
        });
    });
    group.bench_function("prefixes", |bencher| {
        let form = Form::of(bgp::Family::IPV4_UNICAST).expect("its form is known");
        let nlri: Vec<_> = bgp::frames(&table.bytes, MAX_MESSAGE)
            .map(|frame| Update::parse(frame.expect("it is BGP").bytes(), 4).expect("it is an UPDATE").nlri.to_vec())
            .collect();
        bencher.iter(|| {
            nlri.iter().map(|items| bgp::nlri(form, false, items).filter(|item| item.is_ok()).count()).sum::<usize>()
        });
    });
}

fn feed(criterion: &mut Criterion) {
    let table = Table::new(&Shape { routes: ROUTES, ..Shape::default() });
    let other = Table::new(&Shape { routes: ROUTES, variant: 1, ..Shape::default() });
    let (reads, others) = (reads(&table), reads(&other));
    let mut group = criterion.benchmark_group("feed");
    group.throughput(Throughput::Elements(ROUTES as u64)).sample_size(20);
    group.bench_function("apply new routes", |bencher| {
        let fresh = || {
            let feed = Feed::default();
            let input = feed.input("bench");
            (feed, input)
        };
        bencher.iter_batched(
            fresh,
            |(feed, mut input)| {
                append(&mut input, &reads);
                (feed, input)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("apply changed routes", |bencher| {
        let feed = Feed::default();
        let mut input = feed.input("bench");
        append(&mut input, &reads);
        let mut turn = false;
        bencher.iter(|| {
            turn = !turn;
            append(&mut input, if turn { &others[1..] } else { &reads[1..] });
        });
    });
    group.bench_function("dump", |bencher| {
        let feed = Feed::default();
        let mut input = feed.input("bench");
        append(&mut input, &reads);
        let mut pieces = VecDeque::new();
        bencher.iter(|| take(&mut feed.attach(Selection::default()), &mut pieces));
    });
    group.bench_function("apply and follow", |bencher| {
        let feed = Feed::default();
        let mut input = feed.input("bench");
        append(&mut input, &reads);
        let mut follower = feed.attach(Selection::default());
        let mut pieces = VecDeque::new();
        take(&mut follower, &mut pieces);
        let mut turn = false;
        bencher.iter(|| {
            turn = !turn;
            for read in if turn { &others[1..] } else { &reads[1..] } {
                input.append(read.clone(), read.len()).expect("the frames are good");
                take(&mut follower, &mut pieces);
            }
        });
    });
}

/// A host with so many interfaces, `eth1` and on, each with two addresses; that of `eth1` is `10.0.1.1`.
fn host(interfaces: u32) -> Host {
    let link = |index: u32| {
        let ip = |last: u8| IpAddr::V4(Ipv4Addr::new(10, (index >> 8) as u8, index as u8, last));
        let address = |last: u8, secondary: bool| Address {
            ip: ip(last),
            peer: None,
            prefix_len: 24,
            global: true,
            secondary,
            temporary: false,
            unproven: false,
            deprecated: false,
        };
        let addresses = vec![address(1, false), address(2, true)];
        Link { index, name: format!("eth{index}"), up: true, carrier: true, addresses, ..Link::default() }
    };
    Host { links: (1..=interfaces).map(|index| (index, link(index))).collect(), routes_epoch: 0 }
}

/// From connect-interface to interface and address, as it is done for every session whenever configuration or host changes.
fn resolution(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pin");
    for interfaces in [8, 1000] {
        let host = host(interfaces);
        // The last one is found last.
        let name = format!("eth{interfaces}");
        let address = host.links[&interfaces].addresses[0].ip;
        let aliases = BTreeMap::from([("GigabitEthernet0/1/0".to_owned(), name.clone())]);
        for (what, connect) in [
            ("interface", ConnectInterface::Interface(name.clone())),
            ("alias", ConnectInterface::Interface("GigabitEthernet0/1/0".to_owned())),
            ("address", ConnectInterface::Address(address)),
            ("interface and address", ConnectInterface::Both { interface: name.clone(), address }),
        ] {
            let question = Question {
                connect: Some(&connect),
                vpn_instance: None,
                egress_interfaces: &[],
                next_hop: None,
                station: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
                aliases: &aliases,
                keep: None,
            };
            assert_eq!(resolve(&question, &host).expect("the host has it").source, Some(address));
            group.bench_function(format!("resolve {what} of {interfaces}"), |bencher| {
                bencher.iter(|| resolve(black_box(&question), black_box(&host)).is_ok());
            });
        }
    }
}

criterion_group!(benches, parse, feed, resolution);
criterion_main!(benches);
