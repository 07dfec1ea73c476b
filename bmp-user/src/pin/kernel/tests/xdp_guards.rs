//! Program `guard`: the frames that it drops, and the interfaces that it is on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bmp_ebpf::{PIN_DENY, Pin, RefusedTraffic};

use super::super::{Datapath, Hook, NoGuard};
use super::frames::{
    DESTINATION_OPTIONS, ESP, HOP_BY_HOP, TCP, UDP, V4, V6, authentication, ethernet, extension, fragment, routing,
    syn, tagged,
};
use super::persistence::{link_ids, pinned};
use super::world::{STATION4, STATION6, TestFolder, UP0, UP1, UP1_IPV6, UplinkWorld, from};

const PORT: u16 = 11019;
const STRANGER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);
const STRANGER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 8);

/// `XDP_DROP` and `XDP_PASS` (linux/bpf.h).
const DROP: u32 = 1;
const PASS: u32 = 2;

/// Returns a stranger's SYN.
fn v4() -> V4 {
    V4 {
        source: STRANGER4,
        destination: UP1,
        options: Vec::new(),
        offset: 0,
        more_fragments: false,
        protocol: TCP,
        payload: syn(PORT),
    }
}

/// Returns a stranger's SYN behind these extension headers.
fn v6(extensions: Vec<(u8, Vec<u8>)>) -> V6 {
    V6 { source: STRANGER6, destination: UP1_IPV6, extensions, protocol: TCP, payload: syn(PORT) }
}

/// Returns a world in which both stations may connect to one port of the router. The port is
/// guarded on the interface of `run_guard`.
fn guarded() -> UplinkWorld {
    let world = UplinkWorld::new();
    let addresses: [(IpAddr, IpAddr); 2] = [(STATION4.into(), UP1.into()), (STATION6.into(), UP1_IPV6.into())];
    for (station, _) in addresses {
        world.datapath.install(&world.datapath.key(&from(station, PORT)), Pin::default()).unwrap();
    }
    let keys = addresses.map(|(_, local)| (Datapath::guard_key(1, local, PORT), 0));
    world.datapath.set_guarded(&BTreeMap::from(keys)).unwrap();
    world
}

fn dropped(world: &UplinkWorld) -> RefusedTraffic {
    world.datapath.refused(|key| key.ifindex != 0)
}

#[test]
fn strangers_are_dropped_and_counted_and_stations_pass() {
    let world = guarded();
    assert_eq!(world.datapath.run_guard(&v4().frame()), DROP);
    assert_eq!(dropped(&world), RefusedTraffic { packets: 1, bytes: 40 });
    assert_eq!(world.datapath.run_guard(&v6(vec![]).frame()), DROP);
    assert_eq!(dropped(&world), RefusedTraffic { packets: 2, bytes: 40 + 60 });
    assert_eq!(world.datapath.run_guard(&V4 { source: STATION4, ..v4() }.frame()), PASS);
    assert_eq!(world.datapath.run_guard(&V6 { source: STATION6, ..v6(vec![]) }.frame()), PASS);
    assert_eq!(dropped(&world).packets, 2);
}

#[test]
fn a_denied_station_is_a_stranger_and_so_is_one_whose_session_is_gone() {
    let world = guarded();
    let key = world.datapath.key(&from(STATION4, PORT));
    let station = V4 { source: STATION4, ..v4() }.frame();
    let denied = world.datapath.install(&key, Pin { flags: PIN_DENY, ..Pin::default() }).unwrap();
    assert_eq!(world.datapath.run_guard(&station), DROP);
    let again = world.datapath.install(&key, Pin::default()).unwrap();
    world.datapath.free(denied);
    assert_eq!(world.datapath.run_guard(&station), PASS);
    world.datapath.free(again);
    assert_eq!(world.datapath.run_guard(&station), DROP);
}

#[test]
fn a_session_that_this_host_opens_does_not_let_its_station_in() {
    let world = guarded();
    let target = super::super::PinTarget { role: super::super::Role::Connect, ..from(STRANGER4, PORT) };
    world.datapath.install(&world.datapath.key(&target), Pin::default()).unwrap();
    assert_eq!(world.datapath.run_guard(&v4().frame()), DROP);
}

/// Returns a stranger's frames that are not for the listener, or cannot be read for certain.
fn other_ipv4() -> Vec<(&'static str, Vec<u8>)> {
    let with_options = V4 { options: vec![1; 40], ..v4() }.frame();
    let mut short_of_ports = v4().packet();
    short_of_ports[2..4].copy_from_slice(&23_u16.to_be_bytes());
    let mut version = v4().packet();
    version[0] = 5 << 4 | 5;
    let mut header = v4().packet();
    header[0] = 4 << 4 | 4;
    vec![
        ("another port", V4 { payload: syn(PORT + 1), ..v4() }.frame()),
        ("another address", V4 { destination: UP0, ..v4() }.frame()),
        ("UDP", V4 { protocol: UDP, ..v4() }.frame()),
        ("IPv6 in IPv4", V4 { protocol: 41, ..v4() }.frame()),
        ("a later fragment", V4 { offset: 1, ..v4() }.frame()),
        ("the last fragment", V4 { offset: 8191, ..v4() }.frame()),
        ("a first fragment without ports", V4 { more_fragments: true, payload: vec![0; 3], ..v4() }.frame()),
        ("an IPv4 packet cut off in its header", v4().frame()[..14 + 19].to_vec()),
        ("an IPv4 packet cut off before its ports", v4().frame()[..14 + 23].to_vec()),
        ("an IPv4 packet cut off in its options", with_options[..14 + 59].to_vec()),
        ("ports that are padding", ethernet(0x0800, &short_of_ports)),
        ("IP of another version", ethernet(0x0800, &version)),
        ("a header shorter than a header is", ethernet(0x0800, &header)),
        ("nothing behind the Ethernet header", ethernet(0x0800, &[])),
        ("ARP", ethernet(0x0806, &v4().packet())),
        ("a VLAN's frame", tagged(0x8100, 0, 10, &v4().frame())),
        ("a VLAN's frame with a priority", tagged(0x8100, 5, 4095, &v4().frame())),
        ("a service VLAN's frame", tagged(0x88a8, 0, 10, &v4().frame())),
        ("a VLAN's frame below a priority", tagged(0x8100, 5, 0, &tagged(0x8100, 0, 10, &v4().frame()))),
        ("a VLAN's frame around a priority", tagged(0x88a8, 0, 10, &tagged(0x8100, 5, 0, &v4().frame()))),
        ("a tag that is cut off", tagged(0x8100, 5, 0, &v4().frame())[..17].to_vec()),
        ("three tags", tagged(0x8100, 1, 0, &tagged(0x8100, 1, 0, &tagged(0x8100, 1, 0, &v4().frame())))),
    ]
}

fn other_ipv6() -> Vec<(&'static str, Vec<u8>)> {
    let options = || extension(DESTINATION_OPTIONS, 1);
    vec![
        ("another IPv6 address", V6 { destination: STATION6, ..v6(vec![]) }.frame()),
        ("another port behind an extension", V6 { payload: syn(1), ..v6(vec![options()]) }.frame()),
        ("UDP behind an extension", V6 { protocol: UDP, ..v6(vec![options()]) }.frame()),
        ("no next header", V6 { protocol: 59, ..v6(vec![]) }.frame()),
        ("ESP", V6 { protocol: ESP, ..v6(vec![]) }.frame()),
        ("a later IPv6 fragment", v6(vec![fragment(1, true)]).frame()),
        ("the last IPv6 fragment", v6(vec![fragment(8191, false)]).frame()),
        ("a first IPv6 fragment without ports", V6 { payload: vec![0; 3], ..v6(vec![fragment(0, true)]) }.frame()),
        ("what is for another host yet", v6(vec![routing(1)]).frame()),
        ("too many extensions", v6(vec![options(); 7]).frame()),
        ("an IPv6 packet cut off in its header", v6(vec![]).frame()[..14 + 39].to_vec()),
        ("an IPv6 packet cut off before its ports", v6(vec![]).frame()[..14 + 43].to_vec()),
        ("an extension that is cut off", v6(vec![options()]).frame()[..14 + 47].to_vec()),
        ("an extension longer than the packet", v6(vec![(HOP_BY_HOP, vec![0, 255, 0, 0, 0, 0, 0, 0])]).frame()),
        ("IPv6 in a VLAN", tagged(0x8100, 0, 10, &v6(vec![]).frame())),
    ]
}

#[test]
fn frames_that_are_not_certainly_for_the_listener_pass() {
    let world = guarded();
    for (what, frame) in other_ipv4().into_iter().chain(other_ipv6()) {
        assert_eq!(world.datapath.run_guard(&frame), PASS, "{what}");
    }
    assert_eq!(dropped(&world), RefusedTraffic::default());
}

#[test]
fn a_stranger_is_recognised_behind_options_extensions_fragments_and_tags() {
    let world = guarded();
    let all = vec![
        extension(HOP_BY_HOP, 1),
        extension(DESTINATION_OPTIONS, 4),
        routing(0),
        fragment(0, true),
        authentication(),
        extension(DESTINATION_OPTIONS, 32),
    ];
    for (what, frame) in [
        ("IPv4 options", V4 { options: vec![1; 4], ..v4() }.frame()),
        ("as many IPv4 options as there can be", V4 { options: vec![1; 40], ..v4() }.frame()),
        ("a first fragment", V4 { more_fragments: true, ..v4() }.frame()),
        (
            "a first fragment with the ports alone",
            V4 { more_fragments: true, payload: syn(PORT)[..8].into(), ..v4() }.frame(),
        ),
        ("padding behind it", [v4().frame(), vec![0; 20]].concat()),
        ("a priority", tagged(0x8100, 5, 0, &v4().frame())),
        ("two priorities", tagged(0x88a8, 5, 0, &tagged(0x8100, 3, 0, &v4().frame()))),
        ("hop-by-hop options", v6(vec![extension(HOP_BY_HOP, 1)]).frame()),
        ("destination options", v6(vec![extension(DESTINATION_OPTIONS, 2)]).frame()),
        ("a routing header at its end", v6(vec![routing(0)]).frame()),
        ("a first IPv6 fragment", v6(vec![fragment(0, true)]).frame()),
        ("a fragment that is all", v6(vec![fragment(0, false)]).frame()),
        ("an authentication header", v6(vec![authentication()]).frame()),
        ("all of them", v6(all).frame()),
        ("an IPv6 priority", tagged(0x8100, 5, 0, &v6(vec![]).frame())),
    ] {
        let before = dropped(&world).packets;
        assert_eq!(world.datapath.run_guard(&frame), DROP, "{what}");
        assert_eq!(dropped(&world).packets, before + 1, "{what}");
    }
    let station = V6 { source: STATION6, ..v6(vec![extension(HOP_BY_HOP, 1), fragment(0, true)]) };
    assert_eq!(world.datapath.run_guard(&station.frame()), PASS);
    let station = V4 { source: STATION4, options: vec![1; 8], ..v4() };
    assert_eq!(world.datapath.run_guard(&tagged(0x8100, 5, 0, &station.frame())), PASS);
}

#[test]
fn frames_pass_where_the_guard_ends_and_its_count_stays_until_forgotten() {
    let world = guarded();
    assert_eq!(world.datapath.run_guard(&v4().frame()), DROP);
    let guarded = world.datapath.guarded();
    world.datapath.set_guarded(&BTreeMap::new()).unwrap();
    assert_eq!(world.datapath.run_guard(&v4().frame()), PASS);
    world.datapath.set_guarded(&guarded.iter().map(|key| (*key, 0)).collect()).unwrap();
    assert_eq!(world.datapath.run_guard(&v4().frame()), DROP);
    assert_eq!(dropped(&world).packets, 2);
    world.datapath.forget_refused(|_| false);
    assert_eq!(dropped(&world).packets, 2, "it is guarded");
    world.datapath.set_guarded(&BTreeMap::new()).unwrap();
    world.datapath.forget_refused(|_| false);
    assert_eq!(dropped(&world), RefusedTraffic::default());
}

fn attach(world: &UplinkWorld, link: &str, native: bool) -> Result<Hook, NoGuard> {
    let ifindex = world.router.ifindex(link);
    world.router.run(|| world.datapath.attach_guard(ifindex, native)).unwrap()
}

#[test]
fn the_guard_attaches_as_asked_and_gives_way_to_another_xdp_program() {
    let world = UplinkWorld::new();
    assert_eq!(attach(&world, "up0", true).unwrap(), Hook::Native);
    assert_eq!(attach(&world, "up1", false).unwrap(), Hook::Generic);
    assert_eq!(attach(&world, "up1", true).unwrap(), Hook::Generic, "it stays as it is");
    // The loopback driver has no XDP of its own.
    assert_eq!(attach(&world, "lo", true).unwrap(), Hook::Generic);

    let folder = TestFolder::new();
    let other = world.router.run(|| Datapath::load(&folder.options()).unwrap());
    for (link, native) in [("up0", true), ("up0", false), ("up1", true), ("up1", false)] {
        let ifindex = world.router.ifindex(link);
        let taken = world.router.run(|| other.attach_guard(ifindex, native)).unwrap().unwrap_err();
        assert!(matches!(taken, NoGuard::Taken), "{link}, {native}: {taken}");
    }
    world.datapath.keep_guards(&BTreeSet::from([world.router.ifindex("up0")])).unwrap();
    let ifindex = world.router.ifindex("up1");
    assert_eq!(world.router.run(|| other.attach_guard(ifindex, true)).unwrap().unwrap(), Hook::Native);
    other.detach(false).unwrap();
    assert_eq!(attach(&world, "up1", false).unwrap(), Hook::Generic);
}

#[test]
fn a_new_interface_of_the_same_index_is_guarded_anew() {
    let world = UplinkWorld::new();
    let ifindex = world.router.ifindex("up1");
    attach(&world, "up1", false).unwrap();
    let before = pinned(world.folder.path(), "links");
    world.router.ip(&format!("link del up1\nlink add up1 index {ifindex} type veth peer name dn9"));
    assert_eq!(attach(&world, "up1", true).unwrap(), Hook::Native);
    let after = pinned(world.folder.path(), "links");
    assert_eq!((before.len(), after.len()), (6, 6));
    assert_ne!(before, after);
}

#[test]
fn the_next_bmpd_takes_over_guards_with_their_keys_and_counts() {
    let mut world = guarded();
    attach(&world, "up0", true).unwrap();
    attach(&world, "up1", false).unwrap();
    assert_eq!(world.datapath.run_guard(&v4().frame()), DROP);
    let (links, guarded) = (link_ids(world.folder.path()), world.datapath.guarded());
    // One of the interfaces is removed meanwhile.
    let gone = world.router.ifindex("up0");
    world.router.ip("link del up0");
    world.crash_and_restart();
    assert_eq!(world.datapath.guarded(), guarded);
    assert_eq!(world.datapath.run_guard(&v4().frame()), DROP);
    assert_eq!(dropped(&world).packets, 2);
    let left = link_ids(world.folder.path());
    assert_eq!((links.len(), left.len()), (7, 6));
    assert!(left.iter().all(|link| links.contains(link)));
    assert!(world.datapath.keep_guards(&BTreeSet::from([gone])).is_ok());
    assert_eq!(pinned(world.folder.path(), "links").len(), 5);
}

#[test]
fn an_earlier_guard_of_another_namespace_is_removed() {
    let mut world = guarded();
    attach(&world, "up1", false).unwrap();
    world.crash();
    let elsewhere = world.station.run(|| Datapath::load(&world.folder.options()).unwrap());
    assert_eq!(pinned(world.folder.path(), "links").len(), 5);
    assert_eq!(elsewhere.guarded(), BTreeSet::new());
    elsewhere.detach(false).unwrap();
    world.restart();
}

#[test]
fn an_orderly_end_removes_guards_and_keeps_the_rest() {
    let mut world = guarded();
    attach(&world, "up1", false).unwrap();
    world.datapath.clone().detach(true).unwrap();
    assert_eq!(pinned(world.folder.path(), "links").len(), 5);
    world.restart();
    assert_eq!(world.datapath.guarded(), BTreeSet::new());
}

#[test]
fn detach_removes_guards() {
    let mut world = UplinkWorld::new();
    attach(&world, "up1", false).unwrap();
    world.datapath.clone().detach(false).unwrap();
    assert!(!world.folder.path().exists());
    world.restart();
    assert_eq!(attach(&world, "up1", true).unwrap(), Hook::Native, "nothing is there any more");
}

#[test]
fn addresses_without_room_in_the_table_are_counted_and_the_others_guarded() {
    let world = UplinkWorld::new();
    let keys = (1..=3000).map(|port| (Datapath::guard_key(1, UP1.into(), port), 0)).collect();
    let refused = format!("{:#}", world.datapath.set_guarded(&keys).unwrap_err());
    let guarded = world.datapath.guarded().len();
    // Each takes two of 4,096 entries: for the guard and for the listener.
    assert!((1365..=2048).contains(&guarded), "{guarded}");
    assert!(refused.starts_with(&format!("{} of 3000 addresses and ports have no guard", 3000 - guarded)), "{refused}");
}
