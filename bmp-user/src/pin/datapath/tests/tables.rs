//! The tables and the ways to get at the kernel.

use std::io;
use std::net::UdpSocket;

use bmp_ebpf::{Counters, EGRESS_MAX, FAMILY_IPV4, FAMILY_IPV6, NO_SLOT, Pin, SLOTS_MAX};

use super::super::{Datapath, Enforcement, Mode, Options};
use super::world::{Folder, World, to};

/// Runs on a thread of its own, whose capabilities and mounts are then its own.
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
    let (one, other) = (World::new(), World::new());
    let key = one.key_of("192.0.2.7:11019".parse().unwrap());
    assert_eq!((key.family, key.port, &key.station[..4]), (FAMILY_IPV4, 11019, &[192, 0, 2, 7][..]));
    assert_eq!(key, one.key_of("[::ffff:192.0.2.7]:11019".parse().unwrap()));
    assert_eq!(one.key_of("[2001:db8::7]:1".parse().unwrap()).family, FAMILY_IPV6);
    assert_ne!(key, other.key_of("192.0.2.7:11019".parse().unwrap()));
}

#[test]
fn when_slots_run_out_it_is_said_and_a_freed_one_helps() {
    let world = World::new();
    let key = |port| world.key_of(([192, 0, 2, 7], port).into());
    let mut slots: Vec<_> =
        (1..SLOTS_MAX as u16).map(|port| world.datapath.install(&key(port), Pin::default()).unwrap()).collect();
    let full = world.datapath.install(&key(9999), Pin::default()).unwrap_err();
    assert_eq!(full.to_string(), "all 1023 slots of the kernel tables are taken: some are free again within seconds");
    let freed = slots.swap_remove(500);
    let number = freed.number();
    world.datapath.free(freed);
    assert_eq!(world.datapath.install(&key(9999), Pin::default()).unwrap().number(), number);
}

#[test]
fn a_pin_with_more_interfaces_than_there_is_room_for_is_refused() {
    let world = World::new();
    let pin = Pin { egress_count: EGRESS_MAX as u32 + 1, ..Pin::default() };
    let key = world.key_of("192.0.2.7:1".parse().unwrap());
    assert_eq!(world.datapath.install(&key, pin).unwrap_err().to_string(), "a pin names at most 8 interfaces, not 9");
}

#[test]
fn removing_a_pin_that_is_not_there_is_no_error() {
    let world = World::new();
    let [one, other] = [1, 2].map(|port| world.key_of(([192, 0, 2, 7], port).into()));
    let slot = world.datapath.install(&one, Pin::default()).unwrap();
    world.datapath.remove(&other, &slot).unwrap();
}

#[test]
fn a_key_that_leads_to_another_slot_by_now_is_not_removed_for_the_earlier_ones_sake() {
    let world = World::new();
    let [first, second] = [1, 2].map(|port| world.key_of(([192, 0, 2, 7], port).into()));
    let [a, b] = [first, second].map(|key| world.datapath.install(&key, Pin::default()).unwrap());
    // Two sessions exchange their ports: each leaves a key that the other has taken.
    world.datapath.point(&second, &a).unwrap();
    world.datapath.remove(&first, &a).unwrap();
    world.datapath.point(&first, &b).unwrap();
    world.datapath.remove(&second, &b).unwrap();
    assert_eq!(world.datapath.slot_of(&first), Some(b.number()));
    assert_eq!(world.datapath.slot_of(&second), Some(a.number()));
}

#[test]
fn with_socket_enforcement_everything_is_harmless() {
    let datapath = Datapath::load(&Options { mode: Mode::Socket, ..Options::default() }).unwrap();
    assert_eq!(*datapath.enforcement(), Enforcement::Socket { why: "--datapath socket".to_owned() });
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
    let folder = Folder::new();
    let options = folder.options();
    let (auto, ebpf) = alone(move || {
        keep_capabilities(1 << 12 | 1 << 38);
        let load = |mode| Datapath::load(&Options { mode, ..options.clone() });
        (load(Mode::Auto).unwrap().enforcement().clone(), format!("{:#}", load(Mode::Ebpf).unwrap_err()))
    });
    let Enforcement::Socket { why } = auto else { panic!("{auto:?}") };
    assert!(why.starts_with("bmpd lacks CAP_BPF (run it as root"), "{why}");
    assert!(ebpf.contains("bmpd lacks CAP_BPF") && ebpf.contains("--datapath socket"), "{ebpf}");
    assert!(!folder.path().exists());
}

#[test]
fn three_capabilities_are_enough() {
    let folder = Folder::new();
    let options = folder.options();
    let enforcement = alone(move || {
        keep_capabilities(1 << 12 | 1 << 38 | 1 << 39);
        let datapath = Datapath::load(&options).unwrap();
        let enforcement = datapath.enforcement().clone();
        datapath.detach(false).unwrap();
        enforcement
    });
    assert_eq!(enforcement, Enforcement::Kernel);
    assert!(!folder.path().exists());
}

#[test]
fn where_neither_cgroup_nor_bpf_file_system_is_mounted_the_kernel_enforces_as_long_as_bmpd_runs() {
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
        let datapath = Datapath::load(&Options { mode: Mode::Ebpf, ..Options::default() }).unwrap();
        assert_eq!(
            std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap(),
            mounts,
            "nothing is left in the tree"
        );
        datapath.enforcement().clone()
    });
    assert_eq!(enforcement, Enforcement::Kernel);
}
