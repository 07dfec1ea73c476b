//! A host that answers packets by hand, as no kernel would.

use std::{
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use etherparse::{LaxNetSlice, LaxSlicedPacket, PacketBuilder, TransportSlice};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{capture::tap, netns::Netns};

/// Bytes of a packet that the answering function sees: enough for the headers.
pub const SEEN: usize = 80;

/// Passes the beginning of every IP packet on a link to a function, on its own thread in the host's
/// namespace. Dropping it ends this.
#[derive(Debug)]
pub struct Answerer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answerer {
    /// Starts on `interface` of `host`. No packet is missed after this returns.
    pub fn start(host: &Netns, interface: &str, mut answer: impl FnMut(&[u8]) + Send + 'static) -> Self {
        let index = host.ifindex(interface);
        let tap = host.enter(|| tap(index)).unwrap_or_else(|e| panic!("cannot read packets of {interface}: {e}"));
        tap.set_nonblocking(false).expect("a socket can block");
        tap.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket has a timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = host.spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut buffer = [MaybeUninit::<u8>::uninit(); SEEN];
                while !stop.load(Ordering::Relaxed) {
                    let Ok(length) = tap.recv(&mut buffer) else { continue };
                    // SAFETY: the kernel has written the first `length` bytes.
                    answer(unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length) });
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }

    /// Answers every IPv4 SYN with an ACK for a segment that was never sent. The connecting kernel
    /// sends a reset (RFC 9293 section 3.10.7.3) and stays in SYN-SENT.
    pub fn acknowledging_wrongly(host: &Netns, interface: &str) -> Self {
        Self::start(host, interface, |packet| {
            let Ok(packet) = LaxSlicedPacket::from_ip(packet) else { return };
            let (Some(LaxNetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (packet.net, packet.transport) else {
                return;
            };
            if !tcp.syn() || tcp.ack() {
                return;
            }
            let (from, to) = (ip.header().destination(), ip.header().source());
            let wrong = tcp.sequence_number().wrapping_add(1000);
            let built =
                PacketBuilder::ipv4(from, to, 64).tcp(tcp.destination_port(), tcp.source_port(), 1, 64_000).ack(wrong);
            let mut bytes = Vec::with_capacity(built.size(0));
            built.write(&mut bytes, &[]).expect("a vector has room");
            let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
                .expect("root may open a raw socket");
            // Ignored: the link may be gone by now.
            let _ = raw.send_to(&bytes, &SocketAddr::from((IpAddr::from(to), 0)).into());
        })
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
