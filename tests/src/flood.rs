//! SYN floods: connection attempts that are never completed.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    ops::RangeInclusive,
};

use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// Sends a SYN from each of these ports, as a new client would. `host` leaves every reply
/// unanswered.
pub fn syns(host: &Netns, from: Ipv4Addr, ports: RangeInclusive<u16>, to: SocketAddrV4) {
    // The host's resets would remove the half-open connections. The rule drops them, but not raw
    // packets: those match no rule with a port.
    host.ip(&format!("rule add pref 10 ipproto tcp sport {}-{} blackhole", ports.start(), ports.end()));
    let socket = host
        .enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))))
        .expect("root may open a raw socket");
    for port in ports {
        let syn = PacketBuilder::ipv4(from.octets(), to.ip().octets(), 64).tcp(port, to.port(), 1, 64_000).syn();
        let mut packet = Vec::with_capacity(syn.size(0));
        syn.write(&mut packet, &[]).expect("a vector has room");
        socket.send_to(&packet, &SocketAddr::from((*to.ip(), 0)).into()).expect("the raw socket sends");
    }
}
