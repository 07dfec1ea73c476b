//! A router on the link that tells its neighbour of a better one: ICMP redirects (RFC 792, RFC 4861).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use etherparse::{
    Icmpv4Header, Icmpv4Type,
    icmpv4::{RedirectCode, RedirectHeader},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    answerer::{Answerer, SEEN},
    netns::Netns,
};

/// Types of ICMPv6 and of its options (RFC 4861).
const REDIRECT: u8 = 137;
const REDIRECTED_HEADER: u8 = 4;

/// Who redirects what comes by a link.
#[derive(Clone, Copy, Debug)]
pub struct Redirect {
    /// Whom the redirect is from: the neighbour's present router.
    pub router: IpAddr,
    /// Whom it goes to.
    pub neighbour: IpAddr,
    /// The router that it names.
    pub better: IpAddr,
}

impl Redirect {
    /// Answers with it to each TCP packet of the neighbour that comes by `interface` of `host`, until what is returned is dropped.
    ///
    /// Linux heeds a redirect for a connection only while what is quoted is not acknowledged yet. So the host's TCP must not answer meanwhile.
    pub fn start(self, host: &Netns, interface: &str) -> Answerer {
        let index = host.ifindex(interface);
        // The link may be gone by now.
        Answerer::start(host, interface, move |packet| drop(self.send(packet, index)))
    }

    fn send(&self, packet: &[u8], index: u32) -> io::Result<()> {
        let tcp = libc::IPPROTO_TCP as u8;
        match (self.router, self.neighbour, self.better) {
            (IpAddr::V4(router), IpAddr::V4(neighbour), IpAddr::V4(better))
                if packet.len() >= 40
                    && packet[0] >> 4 == 4
                    && packet[9] == tcp
                    && packet[12..16] == neighbour.octets() =>
            {
                redirect_v4(router, neighbour, better, packet)
            }
            (IpAddr::V6(router), IpAddr::V6(neighbour), IpAddr::V6(better))
                if packet.len() == SEEN && packet[0] >> 4 == 6 && packet[6] == tcp =>
            {
                redirect_v6(router, SocketAddrV6::new(neighbour, 0, 0, index), better, packet)
            }
            _ => Ok(()),
        }
    }
}

fn redirect_v4(router: Ipv4Addr, neighbour: Ipv4Addr, better: Ipv4Addr, packet: &[u8]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.bind(&SocketAddr::from((router, 0)).into())?;
    // Its header and eight bytes more.
    let quoted = &packet[..28];
    let redirect = RedirectHeader { code: RedirectCode::RedirectForHost, gateway_internet_address: better.octets() };
    let mut message = Icmpv4Header::with_checksum(Icmpv4Type::Redirect(redirect), quoted).to_bytes().to_vec();
    message.extend(quoted);
    socket.send_to(&message, &SocketAddr::from((neighbour, 0)).into()).map(drop)
}

fn redirect_v6(router: Ipv6Addr, neighbour: SocketAddrV6, better: Ipv6Addr, packet: &[u8]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind(&SocketAddrV6::new(router, 0, 0, neighbour.scope_id()).into())?;
    // A router that is further away is not believed (RFC 4861 section 8.1).
    socket.set_unicast_hops_v6(255)?;
    let mut message = vec![REDIRECT, 0, 0, 0, 0, 0, 0, 0];
    message.extend(better.octets());
    message.extend(&packet[24..40]);
    // Lengths of options are in units of eight bytes.
    message.extend([REDIRECTED_HEADER, 1 + (SEEN / 8) as u8, 0, 0, 0, 0, 0, 0]);
    message.extend(packet);
    // The kernel fills in the checksum.
    socket.send_to(&message, &neighbour.into()).map(drop)
}
