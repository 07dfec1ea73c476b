//! The tables, and what loading needs.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use bmp_ebpf::{Counters, EGRESS_MAX, InetFamily, NO_SLOT, PIN_DENY, PIN_OWN, Pin};

use super::super::{Datapath, DatapathMode, DatapathOptions, Enforcement, PinSlot, Room};
use super::world::{STATION4, TestFolder, UP0, UP1, UplinkWorld, to};

/// Runs on a thread of its own, with capabilities and mounts of its own.
fn alone<R: Send + 'static>(what: impl FnOnce() -> R + Send + 'static) -> R {
    std::thread::spawn(what).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Leaves the calling thread with these effective capabilities (capset(2)).
fn keep_capabilities(bits: u64) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let (low, high) = (bits as u32, (bits >> 32) as u32);
    let data: [[u32; 3]; 2] = [[low, low, 0], [high, high, 0]];
    // SAFETY: both are laid out as the call wants them, for version 3.
    let refused = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    assert_eq!(refused, 0, "{}", io::Error::last_os_error());
}

#[test]
fn keys_tell_families_ports_and_namespaces_apart() {
    let (one, other) = (UplinkWorld::new(), UplinkWorld::new());
    let key = one.key_of("192.0.2.7:11019".parse().unwrap());
    assert_eq!((key.family, key.port, key.station), (InetFamily::IPV4, 11019, Ipv4Addr::new(192, 0, 2, 7).into()));
    assert_eq!(key, one.key_of("[::ffff:192.0.2.7]:11019".parse().unwrap()));
    assert_eq!(one.key_of("[2001:db8::7]:1".parse().unwrap()).family, InetFamily::IPV6);
    assert_ne!(key, other.key_of("192.0.2.7:11019".parse().unwrap()));
}

#[test]
fn without_a_free_slot_a_pin_is_refused_until_one_is_freed() {
    let mut world = UplinkWorld::new();
    world.resize(20);
    let key = |port| world.key_of(([192, 0, 2, 7], port).into());
    let mut slots: Vec<_> = (1..=40).map(|port| world.datapath.install(&key(port), Pin::default()).unwrap()).collect();
    let full = world.datapath.install(&key(9999), Pin::default()).unwrap_err();
    assert_eq!(full.to_string(), "all 40 slots of the kernel tables are taken: some are free again within seconds");
    assert!(!world.datapath.has_free_slot());
    let freed = slots.swap_remove(15);
    let number = freed.number();
    world.datapath.free(freed);
    assert_eq!(world.datapath.install(&key(9999), Pin::default()).unwrap().number(), number);
}

#[test]
fn a_denial_without_a_slot_refuses_all_or_bmpd_alone_and_counts_in_slot_0() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let key = world.key(&listener);
    let refused = |world: &UplinkWorld| world.connect(&listener).err().and_then(|error| error.raw_os_error());
    world.datapath.point(&key, &PinSlot::shared_denial(false)).unwrap();
    let before = world.datapath.stale().denied_no_pin;
    assert_eq!(refused(&world), Some(libc::EPERM));
    assert_eq!(world.datapath.stale().denied_no_pin, before + 1);

    world.datapath.point(&key, &PinSlot::shared_denial(true)).unwrap();
    assert_eq!(world.connect(&listener).unwrap().source(), UP0, "it is for bmpd's own sockets alone");
    let address = listener.local_addr().unwrap();
    let own = world.router.socket(socket2::Domain::IPV4);
    world.datapath.claim(&own).unwrap();
    let error = own.connect(&address.into()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    world.datapath.remove(&key, &PinSlot::shared_denial(true)).unwrap();
    assert_eq!(world.datapath.slot_of(&key), None);
}

#[test]
fn a_denial_without_a_slot_survives_a_crash_until_it_is_retired() {
    let mut world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let [key, other] = [world.key(&listener), world.key_of(([192, 0, 2, 7], 1).into())];
    for key in [&key, &other] {
        world.datapath.point(key, &PinSlot::shared_denial(false)).unwrap();
    }
    world.crash_and_restart();
    world.connect(&listener).unwrap_err();
    let slot = world.datapath.install(&key, world.by_up1()).unwrap();
    world.datapath.retire();
    assert_eq!(world.datapath.slot_of(&other), None);
    assert_eq!(world.datapath.slot_of(&key), Some(slot.number()));
    assert_eq!(world.connect(&listener).unwrap().source(), UP1);
}

#[test]
fn every_session_can_be_denied_beside_as_many_of_an_earlier_bmpd() {
    let mut world = UplinkWorld::new();
    world.resize(3);
    for port in 1..=3 {
        world.datapath.point(&world.key_of(([192, 0, 2, 7], port).into()), &PinSlot::shared_denial(false)).unwrap();
    }
    world.crash_and_restart_with(Room::new(3).unwrap());
    let listeners: Vec<_> = (0..3).map(|_| world.listen(STATION4)).collect();
    for listener in &listeners {
        world.datapath.point(&world.key(listener), &PinSlot::shared_denial(false)).unwrap();
        world.connect(listener).unwrap_err();
    }
}

#[test]
fn tables_that_are_too_small_grow_with_their_sockets_and_counters() {
    let mut world = UplinkWorld::new();
    world.resize(2);
    let listener = world.listen(STATION4);
    let key = world.key(&listener);
    let denied = world.key_of(([192, 0, 2, 7], 1).into());
    let slot = world.datapath.install(&key, world.by_up1()).unwrap();
    world.datapath.install(&denied, Pin { flags: PIN_DENY | PIN_OWN, ..Pin::default() }).unwrap();
    let mut session = world.connect(&listener).unwrap();
    session.send(1000);
    world.crash();
    session.send(200);
    world.restart_with(Room::new(500).unwrap());
    session.send(30);
    let adopted = world.datapath.adopt(&key, &world.by_up1()).expect("it has the same slot");
    assert_eq!(adopted.number(), slot.number());
    assert!(world.datapath.is_under(&session.router, &adopted).unwrap(), "the socket has its tag");
    let counted = [world.datapath.counters(&adopted), world.datapath.history(&key)];
    assert_eq!(counted.map(|counters| counters.foreign_tx.payload_bytes).iter().sum::<u64>(), 1230);
    for (_, slot) in world.datapath.retire() {
        world.datapath.free(slot);
    }
    for port in 100..900 {
        world.datapath.install(&world.key_of(([192, 0, 2, 7], port).into()), Pin::default()).unwrap();
    }
    // A later bmpd that wants fewer sessions takes them as they are.
    world.crash_and_restart_with(Room::new(2).unwrap());
    assert_eq!(world.datapath.inherited().len(), 801);
    assert!(world.datapath.is_under(&session.router, &adopted).unwrap());
}

#[test]
fn a_pin_with_more_interfaces_than_there_is_room_for_is_refused() {
    let world = UplinkWorld::new();
    let pin = Pin { egress_count: EGRESS_MAX as u32 + 1, ..Pin::default() };
    let key = world.key_of("192.0.2.7:1".parse().unwrap());
    assert_eq!(world.datapath.install(&key, pin).unwrap_err().to_string(), "a pin names at most 8 interfaces, not 9");
}

#[test]
fn removing_a_pin_that_is_not_there_is_no_error() {
    let world = UplinkWorld::new();
    let [one, other] = [1, 2].map(|port| world.key_of(([192, 0, 2, 7], port).into()));
    let slot = world.datapath.install(&one, Pin::default()).unwrap();
    world.datapath.remove(&other, &slot).unwrap();
}

#[test]
fn a_key_that_leads_to_another_slot_by_now_is_not_removed() {
    let world = UplinkWorld::new();
    let [first, second] = [1, 2].map(|port| world.key_of(([192, 0, 2, 7], port).into()));
    let [a, b] = [first, second].map(|key| world.datapath.install(&key, Pin::default()).unwrap());
    // Two sessions exchange their ports: each leaves a key that the other has by now.
    world.datapath.point(&second, &a).unwrap();
    world.datapath.remove(&first, &a).unwrap();
    world.datapath.point(&first, &b).unwrap();
    world.datapath.remove(&second, &b).unwrap();
    assert_eq!(world.datapath.slot_of(&first), Some(b.number()));
    assert_eq!(world.datapath.slot_of(&second), Some(a.number()));
}

#[test]
fn with_socket_enforcement_everything_is_harmless() {
    let datapath =
        Datapath::load(&DatapathOptions { mode: DatapathMode::Socket, ..DatapathOptions::default() }).unwrap();
    assert_eq!(datapath.enforcement(), Enforcement::Socket { why: "--datapath socket".to_owned() });
    let key = datapath.key(&to("192.0.2.7:1".parse().unwrap()));
    let slot = datapath.install(&key, Pin::default()).unwrap();
    assert_eq!(slot.number(), NO_SLOT);
    datapath.claim(&UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    assert_eq!(datapath.counters(&slot), Counters::default());
    datapath.remove(&key, &slot).unwrap();
    assert_eq!(datapath.free(slot), Counters::default());
    assert_eq!(datapath.stale(), Counters::default());
}

#[test]
fn a_missing_capability_is_named_and_auto_goes_on_without_the_kernel() {
    let folder = TestFolder::new();
    let options = folder.options();
    let (auto, ebpf) = alone(move || {
        keep_capabilities(1 << 12 | 1 << 38);
        let load = |mode| Datapath::load(&DatapathOptions { mode, ..options.clone() });
        (load(DatapathMode::Auto).unwrap().enforcement(), format!("{:#}", load(DatapathMode::Ebpf).unwrap_err()))
    });
    let Enforcement::Socket { why } = auto else { panic!("{auto:?}") };
    assert!(why.starts_with("bmpd lacks CAP_BPF (run it as root"), "{why}");
    assert!(ebpf.contains("bmpd lacks CAP_BPF") && ebpf.contains("--datapath socket"), "{ebpf}");
    assert!(!folder.path().exists());
}

#[test]
fn three_capabilities_are_enough() {
    let folder = TestFolder::new();
    let options = folder.options();
    let enforcement = alone(move || {
        keep_capabilities(1 << 12 | 1 << 38 | 1 << 39);
        let datapath = Datapath::load(&options).unwrap();
        let enforcement = datapath.enforcement();
        datapath.detach(false).unwrap();
        enforcement
    });
    assert_eq!(enforcement, Enforcement::Kernel);
    assert!(!folder.path().exists());
}

#[test]
fn without_mounts_of_its_own_the_kernel_enforces_as_long_as_bmpd_runs() {
    let enforcement = alone(|| {
        // SAFETY: changes the calling thread only; the strings live through the calls.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
            let private = libc::MS_REC | libc::MS_PRIVATE;
            assert_eq!(libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()), 0);
            assert_eq!(libc::umount2(c"/sys".as_ptr(), libc::MNT_DETACH), 0);
        }
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!mounts.contains("cgroup2"));
        let datapath =
            Datapath::load(&DatapathOptions { mode: DatapathMode::Ebpf, ..DatapathOptions::default() }).unwrap();
        assert_eq!(
            std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap(),
            mounts,
            "nothing is left in the tree"
        );
        datapath.enforcement()
    });
    assert_eq!(enforcement, Enforcement::Kernel);
}
