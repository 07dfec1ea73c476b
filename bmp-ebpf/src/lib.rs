//! The ABI between the kernel programs and bmpd: names of programs and tables, keys, values and
//! what both sides do with them.
//!
//! Every type is `#[repr(C)]` or `#[repr(transparent)]` without implicit padding. So a key compares
//! bytewise, and either side reads the value that the other side wrote. Integers are in host byte
//! order unless a field says otherwise.
//!
//! The layout is version [`VERSION`]. A change to any type or table here is a new version.
#![no_std]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::AddAssign;

/// The version of this layout. Tables of different versions never share a folder of bpffs.
pub const VERSION: u32 = 2;

/// Names of the programs, as the object file and the kernel know them.
pub mod program {
    /// cgroup/connect4: binds an IPv4 connect to its pin and tags the socket, or refuses it.
    pub const CONNECT4: &str = "connect4";
    /// cgroup/connect6: the same for IPv6 and IPv4-mapped destinations.
    pub const CONNECT6: &str = "connect6";
    /// cgroup_skb/egress: passes and counts a tagged socket's packet, or drops it and counts that.
    pub const EGRESS: &str = "egress";
    /// cgroup_skb/ingress: counts what tagged sockets receive; listeners receive from stations
    /// alone.
    pub const INGRESS: &str = "ingress";
    /// sock_ops: reports the connections of tagged sockets, and counts their retransmissions.
    pub const LIFECYCLE: &str = "lifecycle";
    /// xdp: drops segments from strangers to a listener, before the stack sees them.
    pub const GUARD: &str = "guard";
}

/// Names of the tables.
pub mod table {
    /// Hash: [`PinKey`](super::PinKey) → slot number (`u32`), or [`DENY_ALL`](super::DENY_ALL) or
    /// [`DENY_OWN`](super::DENY_OWN).
    pub const PINS: &str = "PINS";
    /// Array by slot: [`Pin`](super::Pin).
    pub const SLOTS: &str = "SLOTS";
    /// Socket storage: [`Tag`](super::Tag). An accepted socket begins with its listener's tag.
    pub const TAGS: &str = "TAGS";
    /// Per-CPU array by slot: [`Counters`](super::Counters).
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`EVENTS_BYTES`](super::EVENTS_BYTES): [`KernelEvent`](super::KernelEvent).
    pub const EVENTS: &str = "EVENTS";
    /// Array by slot: the [`PinKey`](super::PinKey) that the slot was given for. The programs read
    /// it for pins of a VRF ([`PIN_VRF`](super::PIN_VRF)) alone.
    pub const OWNERS: &str = "OWNERS";
    /// Hash: [`PinKey`](super::PinKey) → [`KeyHistory`](super::KeyHistory). No program reads it.
    pub const HISTORY: &str = "HISTORY";
    /// Hash: [`LinkKey`](super::LinkKey) → interface index (`u32`) of the VRF device that the
    /// interface is or belongs to. An interface without an entry is in the default VRF.
    pub const VRFS: &str = "VRFS";
    /// Hash: [`GuardKey`](super::GuardKey) → [`Guarded`](super::Guarded): what `guard` protects.
    pub const GUARDED: &str = "GUARDED";
    /// Per-CPU hash: [`GuardKey`](super::GuardKey) → [`RefusedTraffic`](super::RefusedTraffic).
    pub const REFUSED: &str = "REFUSED";
}

/// How many sessions the tables have room for, unless bmpd gives them another size.
pub const SESSIONS: u32 = 4096;

/// Returns how many entries tables `PINS` and `HISTORY` have for so many sessions: two for each,
/// because an earlier bmpd's keys may be there too.
pub const fn keys_for(sessions: u32) -> u32 {
    2 * sessions
}

/// Returns how many entries tables `SLOTS`, `COUNTERS` and `OWNERS` have for so many sessions:
/// slot [`NO_SLOT`], one slot for each session, and as many again, up to 1,024, for pins that were
/// just replaced.
pub const fn slots_for(sessions: u32) -> u32 {
    1 + sessions + if sessions < 1024 { sessions } else { 1024 }
}

/// Slot 0 belongs to no pin. Its counters hold denials of sockets without a slot, and of sockets
/// whose slot has another pin by now.
pub const NO_SLOT: u32 = 0;

/// A value of table `PINS` without a slot: every process is denied. Slot [`NO_SLOT`] counts it.
pub const DENY_ALL: u32 = u32::MAX;
/// A value of table `PINS` without a slot: bmpd's own sockets are denied, and those of other
/// processes pass as if there were no key ([`PIN_OWN`]).
pub const DENY_OWN: u32 = u32::MAX - 1;

/// Size of the ring of events: with the kernel's eight bytes before each, some three thousand.
pub const EVENTS_BYTES: u32 = 1 << 18;

/// How many egress interfaces one pin can name.
pub const EGRESS_MAX: usize = 8;

/// How many interfaces can be in VRFs.
pub const VRF_LINKS_MAX: u32 = 4096;

/// How many addresses and ports of interfaces can be guarded.
pub const GUARDED_MAX: u32 = 4096;

/// An address family as Linux numbers it. Any number can stand in a table; two are of use.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InetFamily(u8);

impl InetFamily {
    /// Neither of the two.
    pub const NONE: Self = Self(0);
    /// `AF_INET`.
    pub const IPV4: Self = Self(2);
    /// `AF_INET6`.
    pub const IPV6: Self = Self(10);

    /// Returns the number that Linux has for it.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Returns the family of an address. An IPv4-mapped address is an IPv6 one.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::IPV4,
            IpAddr::V6(_) => Self::IPV6,
        }
    }
}

/// An address in network byte order: IPv6, or IPv4 in the first four bytes and zeroes behind it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InetAddress([u8; 16]);

impl InetAddress {
    /// All zeroes.
    pub const UNSPECIFIED: Self = Self([0; 16]);

    /// Returns the address of four words in network byte order, as kernel structures hold them.
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        // SAFETY: same size, and any bytes are an address.
        unsafe { core::mem::transmute::<[u32; 4], Self>(words) }
    }

    /// Returns the sixteen bytes.
    #[inline(always)]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns the first four bytes, which are all of an IPv4 address.
    #[inline(always)]
    pub const fn first_octets(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0;
        [a, b, c, d]
    }

    /// Returns the address of this family; `None` if the family is neither of the two.
    pub fn to_ip(self, family: InetFamily) -> Option<IpAddr> {
        match family {
            InetFamily::IPV4 => Some(IpAddr::from(self.first_octets())),
            InetFamily::IPV6 => Some(IpAddr::from(self.0)),
            _ => None,
        }
    }
}

impl From<Ipv4Addr> for InetAddress {
    fn from(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }
}

impl From<Ipv6Addr> for InetAddress {
    fn from(address: Ipv6Addr) -> Self {
        Self(address.octets())
    }
}

impl From<IpAddr> for InetAddress {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

/// This host connects to the station's port: a value of [`PinKey::role`].
pub const ROLE_CONNECT: u8 = 0;
/// The station connects to this host's port: a value of [`PinKey::role`].
pub const ROLE_LISTEN: u8 = 1;

/// The connections that a pin is for: the key of table `PINS`.
///
/// An interface index means something in one network namespace only, and the programs see the
/// sockets of all of them. So the namespace's cookie (`SO_NETNS_COOKIE`) is part of the key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PinKey {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Interface index of the VRF device; 0 is the default VRF.
    pub vrf: u32,
    /// The family on the wire: an IPv4-mapped destination is [`InetFamily::IPV4`].
    pub family: InetFamily,
    /// [`ROLE_CONNECT`] or [`ROLE_LISTEN`].
    pub role: u8,
    /// The TCP port that is connected to, in host byte order: the station's, or this host's.
    pub port: u16,
    /// The station's address.
    pub station: InetAddress,
}

/// One interface: the key of table `VRFS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkKey {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Interface index.
    pub ifindex: u32,
    /// Zero.
    pub reserved: u32,
}

/// The slot holds a pin. A slot without this flag is free.
pub const PIN_LIVE: u32 = 1 << 0;
/// No connection and no packet leaves under this pin.
pub const PIN_DENY: u32 = 1 << 1;
/// [`Pin::source`] is bound at connect and required of every packet.
pub const PIN_SOURCE: u32 = 1 << 2;
/// Packets leave by interfaces of the VRF of the pin's key alone, whatever [`Pin::egress`] says.
pub const PIN_VRF: u32 = 1 << 3;
/// The pin is for bmpd's own sockets. Those of other processes pass as if there were no pin.
pub const PIN_OWN: u32 = 1 << 4;

/// What the kernel enforces for the sockets of one slot: the value of table `SLOTS`.
///
/// A pin is written whole before `PINS` leads to its slot, and never changes while it is live.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    /// Counts the pins of this slot. A [`Tag`] of another generation belongs to an earlier pin.
    pub generation: u32,
    /// `PIN_*`.
    pub flags: u32,
    /// Interface index that a socket is bound to at connect; 0 binds none.
    pub device: u32,
    /// The mark (`SO_MARK`) that a socket gets at connect and that every packet must carry: a rule
    /// finds the session's own route by it. 0 sets and requires none.
    pub mark: u32,
    /// How many of [`Self::egress`] are set; 0 lets packets leave by any interface.
    pub egress_count: u32,
    /// The interface indexes that packets may leave by.
    pub egress: [u32; EGRESS_MAX],
    /// The source address, of the family of the pin's key. No program reads it without
    /// [`PIN_SOURCE`]. With [`PIN_DENY`] it is the address that bmpd had chosen, or all zeroes.
    pub source: InetAddress,
}

impl Pin {
    /// True if the slot holds a pin.
    #[inline(always)]
    pub const fn is_live(&self) -> bool {
        self.flags & PIN_LIVE != 0
    }

    /// True if nothing leaves under it.
    #[inline(always)]
    pub const fn denies(&self) -> bool {
        self.flags & PIN_DENY != 0
    }

    /// True if the slot holds a pin under which something may leave.
    #[inline(always)]
    pub const fn admits(&self) -> bool {
        self.flags & (PIN_LIVE | PIN_DENY) == PIN_LIVE
    }
}

/// bmpd opened the socket: its traffic counts as the session's own, that of others as foreign.
pub const TAG_OWN: u32 = 1 << 0;
/// The socket is a listener that sessions share, or was accepted by one and belongs to no session.
/// The slot is looked up for each packet, by the station's address.
pub const TAG_LISTENER: u32 = 1 << 1;

/// What ties a socket to its pin: the value of table `TAGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The slot; [`NO_SLOT`] on a listener, and on bmpd's sockets until they connect.
    pub slot: u32,
    /// [`Pin::generation`] of the slot when the tag was given.
    pub generation: u32,
    /// `TAG_*`.
    pub flags: u32,
    /// Id of the process that connected the socket, as the host's first pid namespace counts.
    pub process: u32,
    /// With [`TAG_LISTENER`], the cookie of the network namespace: not every kernel tells it to a
    /// program that sees packets. Else 0.
    pub netns: u64,
}

impl Tag {
    /// True if bmpd opened the socket.
    #[inline(always)]
    pub const fn is_own(&self) -> bool {
        self.flags & TAG_OWN != 0
    }

    /// True if the slot is looked up for each packet.
    #[inline(always)]
    pub const fn is_listener(&self) -> bool {
        self.flags & TAG_LISTENER != 0
    }
}

/// An address and port of a listener: the key of tables `GUARDED` and `REFUSED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuardKey {
    /// Index of the interface that packets come in by. In table `REFUSED` 0 stands for all of them:
    /// what `ingress` refused on its way to the listener.
    pub ifindex: u32,
    /// The family on the wire.
    pub family: InetFamily,
    /// Zero.
    pub reserved: u8,
    /// The listener's port, in host byte order.
    pub port: u16,
    /// This host's address.
    pub local: InetAddress,
}

/// Where table `PINS` has the sessions of a listener: the value of table `GUARDED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guarded {
    /// [`PinKey::netns`].
    pub netns: u64,
    /// [`PinKey::vrf`].
    pub vrf: u32,
    /// Zero.
    pub reserved: u32,
}

/// What strangers sent to a listener and one CPU dropped: the value of table `REFUSED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedTraffic {
    /// Packets.
    pub packets: u64,
    /// Their IP bytes.
    pub bytes: u64,
}

impl AddAssign for RefusedTraffic {
    fn add_assign(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

/// One direction of traffic.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// IP bytes on the wire, headers of every segment included.
    pub bytes: u64,
    /// Packets on the wire, after segmentation.
    pub packets: u64,
    /// Socket buffers, as the stack handed them over.
    pub buffers: u64,
    /// TCP payload bytes, retransmissions included.
    pub payload_bytes: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.packets += more.packets;
        self.buffers += more.buffers;
        self.payload_bytes += more.payload_bytes;
    }
}

/// What one CPU counted for one slot: the value of table `COUNTERS`.
///
/// Sums over CPUs and slots are values of this type too.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sent by bmpd's own sockets ([`TAG_OWN`]).
    pub own_tx: Traffic,
    /// Received by them.
    pub own_rx: Traffic,
    /// Sent by other processes' sockets under the same pin.
    pub foreign_tx: Traffic,
    /// Received by them.
    pub foreign_rx: Traffic,
    /// Packets, of both kinds of sockets, that came in by an interface the pin does not name.
    pub rx_elsewhere_packets: u64,
    /// Packets dropped, and connects refused, because of the interface.
    pub denied_interface: u64,
    /// Packets dropped, and connects refused, because of the source address.
    pub denied_source: u64,
    /// Packets dropped without the pin's mark: another route than the session's may have led them.
    pub denied_mark: u64,
    /// Packets dropped, and connects refused, because the pin denies or is gone.
    pub denied_no_pin: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Events of any slot that found table `EVENTS` full. Slot [`NO_SLOT`] alone counts them.
    pub events_lost: u64,
    /// `bpf_ktime_get_ns` of the last denial that was logged: at most one a second and CPU.
    pub logged_ns: u64,
}

impl AddAssign for Counters {
    /// Adds every count; of [`Self::logged_ns`] the later one stays.
    fn add_assign(&mut self, more: Self) {
        // Without `..`, so that no counter is forgotten.
        let Self {
            own_tx,
            own_rx,
            foreign_tx,
            foreign_rx,
            rx_elsewhere_packets,
            denied_interface,
            denied_source,
            denied_mark,
            denied_no_pin,
            retransmits,
            events_lost,
            logged_ns,
        } = more;
        self.own_tx += own_tx;
        self.own_rx += own_rx;
        self.foreign_tx += foreign_tx;
        self.foreign_rx += foreign_rx;
        self.rx_elsewhere_packets += rx_elsewhere_packets;
        self.denied_interface += denied_interface;
        self.denied_source += denied_source;
        self.denied_mark += denied_mark;
        self.denied_no_pin += denied_no_pin;
        self.retransmits += retransmits;
        self.events_lost += events_lost;
        self.logged_ns = self.logged_ns.max(logged_ns);
    }
}

/// A connection that this host opened is established: a value of [`KernelEvent::kind`].
pub const EVENT_CONNECTED: u16 = 1;
/// A connection that a tagged listener accepted is established.
pub const EVENT_ACCEPTED: u16 = 2;
/// A connection is closed, or its attempt has failed.
pub const EVENT_CLOSED: u16 = 3;
/// A connect was refused, for [`KernelEvent::cause`]. At most one a second and CPU is told.
pub const EVENT_REFUSED: u16 = 4;

/// The socket was bound to an interface that the pin does not name: a value of
/// [`KernelEvent::cause`].
pub const CAUSE_INTERFACE: u32 = 1;
/// The socket was bound to another source address than the pin's, or to a port alone.
pub const CAUSE_SOURCE: u32 = 2;
/// The pin denies, or is gone.
pub const CAUSE_NO_PIN: u32 = 3;

/// What happened to a tagged socket: one entry of table `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelEvent {
    /// Nanoseconds since the host was started, without suspended time (`CLOCK_MONOTONIC`).
    pub time_ns: u64,
    /// The socket's cookie (`SO_COOKIE`), by which sock_diag(7) knows it too.
    pub cookie: u64,
    /// [`Tag::slot`].
    pub slot: u32,
    /// [`Tag::generation`].
    pub generation: u32,
    /// [`Tag::flags`].
    pub flags: u32,
    /// [`Tag::process`].
    pub process: u32,
    /// `CAUSE_*` of a refusal, else 0.
    pub cause: u32,
    /// `EVENT_*`.
    pub kind: u16,
    /// The socket's state before, as `TCP_*` of include/net/tcp_states.h number them.
    pub state: u16,
    /// The family on the wire.
    pub family: InetFamily,
    /// Zero.
    pub padding: u8,
    /// This host's port, in host byte order.
    pub local_port: u16,
    /// The station's port, in host byte order.
    pub remote_port: u16,
    /// Zero.
    pub reserved: u16,
    /// This host's address.
    pub local: InetAddress,
    /// The station's address.
    pub remote: InetAddress,
}

/// What freed slots counted for a key: the value of table `HISTORY`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyHistory {
    /// The sum over those slots and all CPUs.
    pub counters: Counters,
    /// The slot that was added last, so that none is added twice.
    pub slot: u32,
    /// Its [`Pin::generation`].
    pub generation: u32,
}

const _: () = {
    assert!(size_of::<InetFamily>() == 1);
    assert!(size_of::<InetAddress>() == 16 && align_of::<InetAddress>() == 1);
    assert!(size_of::<PinKey>() == 8 + 4 + 2 + 2 + 16);
    assert!(size_of::<LinkKey>() == 8 + 2 * 4);
    assert!(size_of::<Pin>() == 5 * 4 + 4 * EGRESS_MAX + 16);
    assert!(size_of::<Tag>() == 4 * 4 + 8);
    assert!(size_of::<GuardKey>() == 4 + 2 + 2 + 16);
    assert!(size_of::<Guarded>() == 8 + 2 * 4);
    assert!(size_of::<RefusedTraffic>() == 2 * 8);
    assert!(size_of::<Traffic>() == 4 * 8);
    assert!(size_of::<Counters>() == 4 * size_of::<Traffic>() + 8 * 8);
    assert!(size_of::<KernelEvent>() == 2 * 8 + 5 * 4 + 6 * 2 + 2 * 16);
    assert!(size_of::<KeyHistory>() == size_of::<Counters>() + 2 * 4);
};

#[cfg(feature = "user")]
mod user {
    // SAFETY: `repr(C)`, `Copy`, no padding (asserted by size above), any bit pattern is a value.
    unsafe impl aya::Pod for super::PinKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::LinkKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Pin {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Tag {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Counters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::KernelEvent {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::KeyHistory {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::GuardKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Guarded {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::RefusedTraffic {}
}

#[cfg(test)]
mod tests;
