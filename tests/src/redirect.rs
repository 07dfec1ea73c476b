//! A router on the link that tells its neighbour of a better one: ICMP redirects (RFC 792, RFC 4861).

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use etherparse::{
    Icmpv4Header, Icmpv4Type,
    icmpv4::{RedirectCode, RedirectHeader},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{capture::tap, netns::Netns};

/// How much of the packet a redirect quotes: the headers are enough.
const QUOTED: usize = 80;

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

/// Answers with a redirect to each TCP packet that comes by a link; dropped, it stops.
///
/// Linux heeds a redirect for a connection only while what is quoted is not acknowledged yet. So the host's TCP must not answer meanwhile.
#[derive(Debug)]
pub struct Redirector {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Redirector {
    /// Begins on `interface` of `host`.
    pub fn start(host: &Netns, interface: &str, redirect: Redirect) -> Self {
        let (index, name) = (host.ifindex(interface), interface.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = host.spawn({
            let stop = Arc::clone(&stop);
            move || {
                let tap = tap(index).unwrap_or_else(|e| panic!("cannot read what comes by {name}: {e}"));
                tap.set_nonblocking(false).expect("a socket has modes");
                tap.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket has a timeout");
                let mut buffer = [MaybeUninit::<u8>::uninit(); QUOTED];
                while !stop.load(Ordering::Relaxed) {
                    let Ok(length) = tap.recv(&mut buffer) else { continue };
                    // SAFETY: the kernel has written the first `length` bytes.
                    let packet = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length) };
                    // The link may be gone by now.
                    let _ = redirect.send(packet, index);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Redirector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Redirect {
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
                if packet.len() == QUOTED && packet[0] >> 4 == 6 && packet[6] == tcp =>
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
    message.extend([REDIRECTED_HEADER, 1 + (QUOTED / 8) as u8, 0, 0, 0, 0, 0, 0]);
    message.extend(packet);
    // The kernel fills in the checksum.
    socket.send_to(&message, &neighbour.into()).map(drop)
}
