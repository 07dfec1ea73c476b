//! Relays behind proxies.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::sockets::{Lab, fed, following, own_address};
use crate::{
    config::{Prefix, RelayConfig},
    input::relay::RelayStatus,
    wire::bmp::samples::*,
};

const LIMIT: Duration = Duration::from_secs(20);
const ROUTER: &str = "PROXY TCP4 192.0.2.9 203.0.113.1 4711 5000\r\n";

fn prefixes(prefixes: &[&str]) -> BTreeSet<Prefix> {
    let prefix = |text: &&str| {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    };
    prefixes.iter().map(prefix).collect()
}

fn behind_proxies(listen: SocketAddr, proxies: &[&str]) -> RelayConfig {
    let allow_proxies = prefixes(proxies);
    RelayConfig { listen: Some(listen), allow: prefixes(&["192.0.2.0/24"]), allow_proxies, ..RelayConfig::default() }
}

/// A relay whose proxies are on this host.
async fn relay() -> (SocketAddr, Lab) {
    let address = own_address();
    let lab = Lab::start(&[]);
    lab.configure("frr", behind_proxies(address, &["127.0.0.0/8"]));
    lab.listening().await;
    (address, lab)
}

async fn is_closed(stream: &mut TcpStream) {
    let read = timeout(LIMIT, stream.read(&mut [0; 1])).await.expect("closed");
    assert!(matches!(read, Ok(0) | Err(_)));
}

/// The connection of another router, which must not notice what a test does.
async fn bystander(address: SocketAddr, lab: &Lab) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[ROUTER.as_bytes(), &initiation(), &peer_up(7, 1)].concat()).await.unwrap();
    lab.until("a bystander", |relays| relays[0].connections.iter().any(|c| c.totals.frames == 1)).await;
    stream
}

#[tokio::test]
async fn the_client_of_a_connection_is_what_its_header_names_however_it_arrives() {
    let (address, lab) = relay().await;
    let mut follower = following(&lab.feed);
    let frames = peer_up(1, 1);
    for header in
        [ROUTER.as_bytes(), b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x09\xcb\0\x71\x01\x12\x67\x13\x88\x04\0\0"]
    {
        for size in [1, 13, 4096] {
            let mut proxy = TcpStream::connect(address).await.unwrap();
            proxy.set_nodelay(true).unwrap();
            for piece in header.chunks(size) {
                proxy.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            proxy.write_all(&[initiation(), frames.clone()].concat()).await.unwrap();
            assert_eq!(fed(&mut follower, 1).await, frames);
            let shown = lab.until("shown", |relays| relays[0].connections.iter().any(|c| c.totals.frames == 1)).await;
            let connection = &shown[0].connections[0];
            assert_eq!((connection.client, connection.user), ("192.0.2.9:4711".parse().unwrap(), None));
            assert_eq!(connection.proxy.map(|proxy| proxy.address), Some(proxy.local_addr().unwrap()));
            drop(proxy);
            fed(&mut follower, 1).await;
            lab.until("closed", |relays| relays[0].connections.is_empty()).await;
        }
    }
}

#[tokio::test]
async fn a_bad_header_is_refused_and_no_other_connection_notices() {
    let (address, lab) = relay().await;
    let mut follower = following(&lab.feed);
    let mut good = bystander(address, &lab).await;
    fed(&mut follower, 1).await;
    let cases: [&[u8]; 6] = [
        &initiation(),
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.999 203.0.113.1 1 2\r\n",
        &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x02\0\0",
        b"PROXY TCP4 192.0.2.9",
    ];
    for (number, bytes) in (1..).zip(cases) {
        let mut proxy = TcpStream::connect(address).await.unwrap();
        proxy.write_all(bytes).await.unwrap();
        proxy.shutdown().await.unwrap();
        is_closed(&mut proxy).await;
        lab.until("counted", |relays| relays[0].refused_proxies == number).await;
    }
    for named in ["198.51.100.9", "127.0.0.1"] {
        let mut proxy = TcpStream::connect(address).await.unwrap();
        proxy.write_all(format!("PROXY TCP4 {named} 203.0.113.1 1 2\r\n").as_bytes()).await.unwrap();
        is_closed(&mut proxy).await;
    }
    let shown = lab.until("hosts are refused", |relays| relays[0].refused_hosts == 2).await;
    assert_eq!((shown[0].refused_proxies, shown[0].connections.len()), (6, 1));
    good.write_all(&route(7, 0)).await.unwrap();
    assert_eq!(fed(&mut follower, 1).await, route(7, 0));
}

#[tokio::test]
async fn health_checks_are_closed_and_counted_alone() {
    let (address, lab) = relay().await;
    let cases: [&[u8]; 3] = [b"", b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"];
    for (number, bytes) in (1..).zip(cases) {
        let mut proxy = TcpStream::connect(address).await.unwrap();
        proxy.write_all(bytes).await.unwrap();
        proxy.shutdown().await.unwrap();
        is_closed(&mut proxy).await;
        lab.until("counted", |relays| relays[0].health_checks == number).await;
    }
    let mut proxy = TcpStream::connect(address).await.unwrap();
    let own = proxy.local_addr().unwrap();
    let own = format!("PROXY TCP4 {} 203.0.113.1 {} 5000\r\n", own.ip(), own.port());
    proxy.write_all(own.as_bytes()).await.unwrap();
    is_closed(&mut proxy).await;
    lab.until("counted", |relays| relays[0].health_checks == 4).await;
    let nothing_else = |relay: &RelayStatus| relay.refused_proxies == 0 && relay.last_closed.is_none();
    assert!(nothing_else(&lab.relays.snapshot()[0]));
}

#[tokio::test]
async fn a_slow_proxy_is_closed_in_time_and_holds_half_of_the_relay_at_most() {
    let (address, lab) = relay().await;
    let mut follower = following(&lab.feed);
    let mut good = bystander(address, &lab).await;
    fed(&mut follower, 1).await;
    let mut slow = Vec::new();
    for _ in 0..128 {
        let mut proxy = TcpStream::connect(address).await.unwrap();
        proxy.write_all(b"PROXY TCP4 ").await.unwrap();
        slow.push(proxy);
    }
    let mut one_more = TcpStream::connect(address).await.unwrap();
    one_more.write_all(ROUTER.as_bytes()).await.unwrap();
    is_closed(&mut one_more).await;
    lab.until("one too many", |relays| relays[0].refused_too_many == 1).await;
    for proxy in &mut slow {
        is_closed(proxy).await;
    }
    lab.until("all are counted", |relays| relays[0].refused_proxies == 128).await;
    good.write_all(&route(7, 0)).await.unwrap();
    assert_eq!(fed(&mut follower, 1).await, route(7, 0));
}

#[tokio::test]
async fn a_change_of_the_proxies_closes_whom_it_concerns() {
    let (address, lab) = relay().await;
    let mut proxied = bystander(address, &lab).await;
    lab.configure("frr", behind_proxies(address, &[]));
    is_closed(&mut proxied).await;
    let closed =
        |relays: &[RelayStatus], why: &str| relays[0].last_closed.as_ref().is_some_and(|how| how.contains(why));
    lab.until("why", |relays| closed(relays, "`allow proxy` does not let this proxy connect any more")).await;

    let mut direct = TcpStream::connect(address).await.unwrap();
    direct.write_all(&peer_up(1, 1)).await.unwrap();
    lab.until("direct", |relays| relays[0].connections.iter().any(|c| c.proxy.is_none())).await;
    lab.configure("frr", behind_proxies(address, &["127.0.0.0/8"]));
    is_closed(&mut direct).await;
    lab.until("why", |relays| closed(relays, "`allow proxy` demands a PROXY header of this host now")).await;
}

#[tokio::test]
async fn a_header_that_nobody_expects_is_refused_as_such() {
    let address = own_address();
    let lab = Lab::start(&[("frr", address)]);
    lab.listening().await;
    let mut proxy = TcpStream::connect(address).await.unwrap();
    proxy.write_all(ROUTER.as_bytes()).await.unwrap();
    is_closed(&mut proxy).await;
    let why = "found a PROXY header: `allow proxy` of the relay does not name this client";
    lab.until(why, |relays| relays[0].last_closed.as_ref().is_some_and(|how| how.contains(why))).await;
}
