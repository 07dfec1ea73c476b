//! A router on the link that announces a better router by ICMP redirects (RFC 792, RFC 4861).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use etherparse::{
    Icmpv4Header, Icmpv4Type,
    icmpv4::{RedirectCode, RedirectHeader},
};
use programs::Program;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    answerer::{Answerer, SEEN},
    netns::Netns,
    process::answer,
};

/// Type of the ICMPv6 redirect (RFC 4861).
const REDIRECT: u8 = 137;
/// Type of the option that quotes the redirected packet (RFC 4861).
const REDIRECTED_HEADER: u8 = 4;

/// A redirect, sent for the packets of one neighbour.
#[derive(Clone, Copy, Debug)]
pub struct IcmpRedirect {
    /// Source of the redirect: the neighbour's present router.
    pub router: IpAddr,
    /// Destination of the redirect.
    pub neighbour: IpAddr,
    /// The better router that the redirect names.
    pub better: IpAddr,
}

impl IcmpRedirect {
    /// Redirects each TCP packet of the neighbour that arrives on `interface` of `host`, until the
    /// returned value is dropped.
    ///
    /// Linux heeds a redirect only while the quoted segment is unacknowledged: see
    /// [`Self::heeded`].
    fn start(self, host: &Netns, interface: &str) -> Answerer {
        let index = host.ifindex(interface);
        // Ignored: the link may be gone by now.
        Answerer::start(host, interface, move |packet| drop(self.send(packet, index)))
    }

    /// Redirects as [`Self::start`] does, while no TCP segment leaves `host` from `port`.
    /// `meanwhile` makes the neighbour send, and returns when the redirect has had its effect.
    ///
    /// # Panics
    /// If ip(8) refuses the rule that silences the host.
    pub fn heeded(self, host: &Netns, interface: &str, port: u16, meanwhile: impl FnOnce()) {
        let family = if self.router.is_ipv4() { "-4" } else { "-6" };
        let rule = |verb: &str| {
            let silence = format!("{family} rule {verb} pref 10 ipproto tcp sport {port} blackhole");
            answer(host.command(Program::Ip).args(silence.split_whitespace()));
        };
        rule("add");
        let _redirecting = self.start(host, interface);
        meanwhile();
        rule("del");
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
    // The IPv4 header and eight bytes of payload.
    let quoted = &packet[..28];
    let redirect = RedirectHeader { code: RedirectCode::RedirectForHost, gateway_internet_address: better.octets() };
    let mut message = Icmpv4Header::with_checksum(Icmpv4Type::Redirect(redirect), quoted).to_bytes().to_vec();
    message.extend(quoted);
    socket.send_to(&message, &SocketAddr::from((neighbour, 0)).into()).map(drop)
}

fn redirect_v6(router: Ipv6Addr, neighbour: SocketAddrV6, better: Ipv6Addr, packet: &[u8]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind(&SocketAddrV6::new(router, 0, 0, neighbour.scope_id()).into())?;
    // Neighbours believe a hop limit of 255 only (RFC 4861 section 8.1).
    socket.set_unicast_hops_v6(255)?;
    let mut message = vec![REDIRECT, 0, 0, 0, 0, 0, 0, 0];
    message.extend(better.octets());
    message.extend(&packet[24..40]);
    // The length of an option counts units of eight bytes.
    message.extend([REDIRECTED_HEADER, 1 + (SEEN / 8) as u8, 0, 0, 0, 0, 0, 0]);
    message.extend(packet);
    // The kernel fills in the checksum.
    socket.send_to(&message, &neighbour.into()).map(drop)
}
