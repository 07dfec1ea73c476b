//! The session of a listener's packet.
//!
//! All stations that connect to one address and port share a listener, so it has no slot of its
//! own. The station's address tells the session of each packet, until the connection is established
//! and its socket has a tag.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use bmp_ebpf::{InetAddress, InetFamily, NO_SLOT, PinKey, ROLE_LISTEN, TAG_OWN, Tag};

use crate::maps::SLOTS;
use crate::packet::{IPV4, IPV6, destination};
use crate::pin::{self, generation, vrf_of};

/// Where the socket of a packet listens.
pub(crate) struct ListeningSocket {
    /// Interface index that the socket is bound to.
    pub(crate) bound: u32,
    /// In host byte order; 0 if there is no socket.
    pub(crate) port: u32,
    /// [`InetFamily::NONE`] if the packet is not IP.
    pub(crate) family: InetFamily,
}

/// Reads where the socket of a packet listens.
#[inline(always)]
pub(crate) fn listening_socket(skb: *const __sk_buff) -> ListeningSocket {
    let mut socket = ListeningSocket { bound: 0, port: 0, family: InetFamily::NONE };
    // SAFETY: `skb` is the program's context, and its socket is read where it is not null.
    unsafe {
        let sk: *mut bpf_sock = (*skb).__bindgen_anon_2.sk;
        if !sk.is_null() {
            socket.bound = (&raw const (*sk).bound_dev_if).read_volatile();
            socket.port = (&raw const (*sk).src_port).read_volatile();
        }
        match (*skb).protocol {
            IPV4 => socket.family = InetFamily::IPV4,
            IPV6 => socket.family = InetFamily::IPV6,
            _ => {}
        }
    }
    socket
}

/// Returns the slot of the station's session in a listener's namespace; [`NO_SLOT`] if it has none.
#[inline(always)]
pub(crate) fn slot_of(netns: u64, bound: u32, family: InetFamily, port: u16, station: [u32; 4]) -> u32 {
    let (vrf, station) = (vrf_of(netns, bound), InetAddress::from_words(station));
    pin::slot_of(&PinKey { netns, vrf, family, role: ROLE_LISTEN, port, station }).unwrap_or(NO_SLOT)
}

/// Returns the tag of the session that an answer of a listener belongs to, by its destination. The
/// slot is [`NO_SLOT`] if it belongs to no session.
#[inline(always)]
pub(crate) fn answering(skb: *const __sk_buff, listener: Tag) -> Tag {
    let socket = listening_socket(skb);
    let slot = slot_of(listener.netns, socket.bound, socket.family, socket.port as u16, destination(skb));
    let mut tag = Tag { slot, flags: TAG_OWN, ..listener };
    if let Some(pin) = SLOTS.get(slot) {
        tag.generation = generation(pin);
    }
    tag
}
