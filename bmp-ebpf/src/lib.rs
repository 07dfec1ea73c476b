//! What the kernel programs and bmpd say to each other: the names of programs and tables, their keys and values.
//!
//! Every type is `#[repr(C)]` with no implicit padding, so that a key compares bytewise and a value read by either side is
//! the value the other side wrote. Integers are in host byte order unless a field says otherwise.
//!
//! The layout is version [`VERSION`]; a change to any type or table here is a new version.
#![no_std]

/// The version of this layout. Tables of different versions never share a folder of bpffs.
pub const VERSION: u32 = 2;

/// Names of the programs, as the object file and the kernel know them.
pub mod program {
    /// cgroup/connect4: finds the pin of an IPv4 connect, denies it or binds it and tags the socket.
    pub const CONNECT4: &str = "connect4";
    /// cgroup/connect6: the same for IPv6 and IPv4-mapped destinations.
    pub const CONNECT6: &str = "connect6";
    /// cgroup_skb/egress: lets a tagged socket's packet leave as its pin says, and counts it; or drops it, and counts that.
    pub const EGRESS: &str = "egress";
    /// cgroup_skb/ingress: counts what comes back to a tagged socket, and lets nobody but stations reach a listener.
    pub const INGRESS: &str = "ingress";
    /// sock_ops: tells of connections that tagged sockets make and lose, and counts what they send again.
    pub const LIFECYCLE: &str = "lifecycle";
    /// xdp: drops what comes to a listener from anybody but its stations, before the stack sees it.
    pub const GUARD: &str = "guard";
}

/// Names of the tables.
pub mod table {
    /// Hash: [`PinKey`](super::PinKey) → slot number (`u32`), or [`DENY_ALL`](super::DENY_ALL) or [`DENY_OWN`](super::DENY_OWN).
    pub const PINS: &str = "PINS";
    /// Array by slot: [`Pin`](super::Pin).
    pub const SLOTS: &str = "SLOTS";
    /// Socket storage: [`Tag`](super::Tag). An accepted socket begins with its listener's.
    pub const TAGS: &str = "TAGS";
    /// Per-CPU array by slot: [`Counters`](super::Counters).
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`EVENTS_BYTES`](super::EVENTS_BYTES): [`Event`](super::Event).
    pub const EVENTS: &str = "EVENTS";
    /// Array by slot: the [`PinKey`](super::PinKey) that the slot was given for. The programs read it for pins of a VRF
    /// ([`PIN_VRF`](super::PIN_VRF)) alone.
    pub const OWNERS: &str = "OWNERS";
    /// Hash: [`PinKey`](super::PinKey) → [`History`](super::History). For bmpd alone.
    pub const HISTORY: &str = "HISTORY";
    /// Hash: [`LinkKey`](super::LinkKey) → interface index (`u32`) of the VRF device that the interface is or belongs to. An interface
    /// that is not there is in the default VRF.
    pub const VRFS: &str = "VRFS";
    /// Hash: [`GuardKey`](super::GuardKey) → [`Guarded`](super::Guarded). What program `guard` watches over.
    pub const GUARDED: &str = "GUARDED";
    /// Per-CPU hash: [`GuardKey`](super::GuardKey) → [`Refused`](super::Refused).
    pub const REFUSED: &str = "REFUSED";
}

/// How many sessions the tables have room for unless bmpd makes them of another size.
pub const SESSIONS: u32 = 4096;

/// How many entries tables `PINS` and `HISTORY` have for so many sessions: as many again while an earlier bmpd's keys are there too.
pub const fn keys_for(sessions: u32) -> u32 {
    2 * sessions
}

/// How many entries tables `SLOTS`, `COUNTERS` and `OWNERS` have for so many sessions: besides slot [`NO_SLOT`] one for each, and as many again,
/// up to 1,024, for pins that have just been replaced.
pub const fn slots_for(sessions: u32) -> u32 {
    1 + sessions + if sessions < 1024 { sessions } else { 1024 }
}

/// Slot 0 belongs to no pin: its counters hold what was denied to sockets whose slot has been given to another pin since, or that never had one.
pub const NO_SLOT: u32 = 0;

/// A value of table `PINS` that takes no slot: the key is denied to every process. What is denied is counted in slot [`NO_SLOT`].
pub const DENY_ALL: u32 = u32::MAX;
/// The key is denied to bmpd's own sockets, and other processes' connect as if it were not there ([`PIN_OWN`]).
pub const DENY_OWN: u32 = u32::MAX - 1;

/// How many bytes of events wait to be read: with the eight bytes that the kernel puts before each, some three thousand.
pub const EVENTS_BYTES: u32 = 1 << 18;

/// How many egress interfaces one pin can name.
pub const EGRESS_MAX: usize = 8;

/// How many interfaces can be in a VRF.
pub const VRF_LINKS_MAX: u32 = 4096;

/// How many addresses and ports of interfaces can be guarded.
pub const GUARDED_MAX: u32 = 4096;

/// `AF_INET` and `AF_INET6` as Linux numbers them, the values of [`PinKey::family`].
pub const FAMILY_IPV4: u8 = 2;
/// See [`FAMILY_IPV4`].
pub const FAMILY_IPV6: u8 = 10;

/// This host connects to the station's port: a value of [`PinKey::role`].
pub const ROLE_CONNECT: u8 = 0;
/// The station connects to this host's port.
pub const ROLE_LISTEN: u8 = 1;

/// Where a session goes, or comes from: the key of table `PINS`.
///
/// An interface index means something in one network namespace only, and the programs see the sockets of all of them; so the
/// namespace's cookie (`SO_NETNS_COOKIE`) is part of the key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PinKey {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Interface index of the VRF device; 0 is the default VRF.
    pub vrf: u32,
    /// [`FAMILY_IPV4`] or [`FAMILY_IPV6`]; an IPv4-mapped IPv6 destination is [`FAMILY_IPV4`].
    pub family: u8,
    /// [`ROLE_CONNECT`] or [`ROLE_LISTEN`].
    pub role: u8,
    /// The TCP port of the side that is connected to, in host byte order: the station's, or this host's.
    pub port: u16,
    /// The station's address in network byte order; IPv4 in the first four bytes, the rest zero.
    pub station: [u8; 16],
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

/// The slot holds a pin. A slot without it is free.
pub const PIN_LIVE: u32 = 1 << 0;
/// No connection leaves under this pin, and no packet.
pub const PIN_DENY: u32 = 1 << 1;
/// [`Pin::source`] is bound at connect and required of every packet.
pub const PIN_SOURCE: u32 = 1 << 2;
/// Packets leave by interfaces of the VRF of the pin's key alone, [`Pin::egress`] or not.
pub const PIN_VRF: u32 = 1 << 3;
/// The pin is for sockets that bmpd opened itself; other processes' connect as if it were not there.
pub const PIN_OWN: u32 = 1 << 4;

/// What the kernel enforces for the sockets of one slot: the value of table `SLOTS`.
///
/// A pin is written whole before `PINS` points to its slot and never changes while it is live.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    /// Counts the pins that this slot has held. A [`Tag`] of another generation was given under an earlier pin.
    pub generation: u32,
    /// `PIN_*`.
    pub flags: u32,
    /// Interface index that a socket is bound to at connect; 0 binds none.
    pub device: u32,
    /// The mark (`SO_MARK`) that a socket gets at connect and that is required of every packet, by which a rule finds the session's own
    /// route; 0 sets and requires none.
    pub mark: u32,
    /// How many of [`Self::egress`] are set; 0 lets packets leave by any interface.
    pub egress_count: u32,
    /// The interface indexes that packets may leave by.
    pub egress: [u32; EGRESS_MAX],
    /// The source address in network byte order, of the family of the pin's key, IPv4 in the first four bytes. Without [`PIN_SOURCE`] no
    /// program reads it: with [`PIN_DENY`] it is the address that bmpd had chosen, all zeroes if none.
    pub source: [u8; 16],
}

/// The socket was opened by bmpd itself: its traffic counts as the session's own, every other socket's as foreign.
pub const TAG_OWN: u32 = 1 << 0;
/// The socket is a listener that sessions share, or was accepted by one and belongs to no session: the slot is found for each packet,
/// by the station that it comes from or goes to.
pub const TAG_LISTENER: u32 = 1 << 1;

/// What ties a socket to its pin: the value of table `TAGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The slot, or [`NO_SLOT`] on a listener and on a socket that bmpd has opened and not yet connected.
    pub slot: u32,
    /// [`Pin::generation`] of the slot when the tag was given.
    pub generation: u32,
    /// `TAG_*`.
    pub flags: u32,
    /// Id of the process that connected the socket, as the host's first pid namespace counts.
    pub process: u32,
    /// With [`TAG_LISTENER`], the cookie of the network namespace, which not every kernel tells a program that sees packets; else 0.
    pub netns: u64,
}

/// What is guarded, and where: the key of tables `GUARDED` and `REFUSED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuardKey {
    /// Index of the interface that packets come in by; 0, in table `REFUSED` alone, is whichever: what got as far as the listener.
    pub ifindex: u32,
    /// [`FAMILY_IPV4`] or [`FAMILY_IPV6`].
    pub family: u8,
    /// Zero.
    pub reserved: u8,
    /// The port that is listened on, in host byte order.
    pub port: u16,
    /// This host's address in network byte order; IPv4 in the first four bytes, the rest zero.
    pub local: [u8; 16],
}

/// Where the sessions of a listener are found in table `PINS`: the value of table `GUARDED`.
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

/// What was dropped on one CPU because it came from no station: the value of table `REFUSED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Packets.
    pub packets: u64,
    /// Their IP bytes.
    pub bytes: u64,
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

/// What was counted for one slot on one CPU: the value of table `COUNTERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sent by sockets that bmpd opened ([`TAG_OWN`]).
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
    /// Packets dropped that lacked the pin's mark, so that they may have been routed otherwise than the session.
    pub denied_mark: u64,
    /// Packets dropped, and connects refused, because the pin says deny or is no longer there.
    pub denied_no_pin: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Events of any slot that found table `EVENTS` full: counted in slot [`NO_SLOT`] alone.
    pub events_lost: u64,
    /// `bpf_ktime_get_ns` of the last denial that was logged: at most one a second and CPU is.
    pub logged_ns: u64,
}

/// A connection that this host opened is established.
pub const EVENT_CONNECTED: u16 = 1;
/// A connection that a tagged listener accepted is established.
pub const EVENT_ACCEPTED: u16 = 2;
/// A connection is closed, or its attempt has failed.
pub const EVENT_CLOSED: u16 = 3;
/// A connect was refused, for [`Event::cause`]: of those that follow each other, at most one a second and CPU is told.
pub const EVENT_REFUSED: u16 = 4;

/// The socket was bound to an interface that the pin does not name: a value of [`Event::cause`].
pub const CAUSE_INTERFACE: u32 = 1;
/// The socket was bound to another source address than the pin's, or to none but a port.
pub const CAUSE_SOURCE: u32 = 2;
/// The pin says deny, or is no longer there.
pub const CAUSE_NO_PIN: u32 = 3;

/// What became of a tagged socket: one entry of table `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds since the host was started, without time suspended (`CLOCK_MONOTONIC`).
    pub time_ns: u64,
    /// The socket's cookie (`SO_COOKIE`), which sock_diag(7) knows it by too.
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
    /// The state that the socket was in before, as `TCP_*` of include/net/tcp_states.h number them.
    pub state: u16,
    /// [`FAMILY_IPV4`] or [`FAMILY_IPV6`], of what is on the wire.
    pub family: u8,
    /// Zero.
    pub padding: u8,
    /// This host's port, in host byte order.
    pub local_port: u16,
    /// The station's port, in host byte order.
    pub remote_port: u16,
    /// Zero.
    pub reserved: u16,
    /// This host's address in network byte order; IPv4 in the first four bytes, the rest zero.
    pub local: [u8; 16],
    /// The station's address, likewise.
    pub remote: [u8; 16],
}

/// What was counted for a key by slots that are free again: the value of table `HISTORY`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The sum over those slots and all CPUs.
    pub counters: Counters,
    /// The last slot that was added, so that none is added twice.
    pub slot: u32,
    /// Its [`Pin::generation`].
    pub generation: u32,
}

const _: () = {
    assert!(size_of::<PinKey>() == 8 + 4 + 2 + 2 + 16);
    assert!(size_of::<LinkKey>() == 8 + 2 * 4);
    assert!(size_of::<Pin>() == 5 * 4 + 4 * EGRESS_MAX + 16);
    assert!(size_of::<Tag>() == 4 * 4 + 8);
    assert!(size_of::<GuardKey>() == 4 + 2 + 2 + 16);
    assert!(size_of::<Guarded>() == 8 + 2 * 4);
    assert!(size_of::<Refused>() == 2 * 8);
    assert!(size_of::<Traffic>() == 4 * 8);
    assert!(size_of::<Counters>() == 4 * size_of::<Traffic>() + 8 * 8);
    assert!(size_of::<Event>() == 2 * 8 + 5 * 4 + 6 * 2 + 2 * 16);
    assert!(size_of::<History>() == size_of::<Counters>() + 2 * 4);
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
    unsafe impl aya::Pod for super::Event {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::History {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::GuardKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Guarded {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Refused {}
}
