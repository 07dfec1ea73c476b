//! Programs, tables and links outlive bmpd, and the next one takes them over.

use std::ffi::CString;
use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use aya::maps::{Map, MapData};
use bmp_ebpf::{PIN_DENY, Pin, VERSION};
use programs::Built;
use socket2::{Domain, SockAddr};

use super::super::object::{CGROUP_PROGRAMS, TABLES, program_names};
use super::super::{Datapath, DatapathMode, DatapathOptions, bpf, detach, mounts};
use super::rewriter;
use super::world::{PATIENCE, STATION4, TestFolder, UP0, UP1, UplinkWorld, pin, to};

/// Makes a process of this test program a bmpd: the folder and the station.
const CHILD: &str = "BMPD_TEST_CHILD";

fn deny() -> Pin {
    Pin { flags: PIN_DENY, ..Pin::default() }
}

/// Returns the folder of this layout.
pub(super) fn layout(folder: &Path) -> PathBuf {
    folder.join(format!("v{VERSION}"))
}

/// Returns the names of pinned objects of a kind.
pub(super) fn pinned(folder: &Path, kind: &str) -> Vec<String> {
    let entries = fs::read_dir(layout(folder).join(kind)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn programs_tables_and_links_are_pinned_under_the_layouts_version() {
    let world = UplinkWorld::new();
    let links = ["connect4", "connect6", "egress", "ingress", "lifecycle"];
    assert_eq!(pinned(world.folder.path(), "links"), links);
    let programs = ["connect4", "connect6", "egress", "guard", "ingress", "lifecycle"];
    assert_eq!(pinned(world.folder.path(), "programs"), programs);
    let tables = ["COUNTERS", "EVENTS", "GUARDED", "HISTORY", "OWNERS", "PINS", "REFUSED", "SLOTS", "TAGS", "VRFS"];
    assert_eq!(pinned(world.folder.path(), "tables"), tables);
}

/// Returns the ids of the links in the folder.
pub(super) fn link_ids(folder: &Path) -> Vec<u32> {
    let link =
        |name: &String| bpf::link_info(&bpf::open(&layout(folder).join("links").join(name)).unwrap()).unwrap().id;
    pinned(folder, "links").iter().map(link).collect()
}

#[test]
fn links_are_taken_over_in_place_and_those_of_another_cgroup_are_not() {
    let mut world = UplinkWorld::new();
    let links = link_ids(world.folder.path());
    world.crash_and_restart();
    assert_eq!(link_ids(world.folder.path()), links);

    let mut cgroup = mounts::roots("cgroup2").unwrap().remove(0);
    cgroup.push(format!("bmpd-test-{}", process::id()));
    fs::create_dir(&cgroup).unwrap();
    world.datapath.clone().detach(true).unwrap();
    let elsewhere =
        DatapathOptions { cgroup: Some(cgroup.clone()), mode: DatapathMode::Auto, ..world.folder.options() };
    let root = cgroup.parent().unwrap().to_owned();
    let move_to = |cgroup: &Path| fs::write(cgroup.join("cgroup.procs"), process::id().to_string()).unwrap();
    move_to(&cgroup);
    world.datapath = world.router.run(|| Datapath::load(&elsewhere).unwrap());
    move_to(&root);
    assert_eq!(world.datapath.enforcement().as_str(), "cgroup");
    assert!(link_ids(world.folder.path()).iter().all(|link| !links.contains(link)));
    world.datapath.clone().detach(true).unwrap();
    // Processes that other tests started meanwhile may be in it.
    let begun = Instant::now();
    while let Err(error) = fs::remove_dir(&cgroup) {
        assert!(begun.elapsed() < PATIENCE, "{error}");
        thread::sleep(Duration::from_millis(5));
    }
    // The cgroup of the links is gone: they hold nothing any more.
    world.restart();
    let listener = world.listen(STATION4);
    world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    assert_eq!(world.connect(&listener).unwrap().source(), UP1);
}

#[test]
fn an_adopted_slot_keeps_its_number_its_counters_and_its_sockets() {
    let mut world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let key = world.key(&listener);
    let before = world.datapath.install(&key, world.by_up1()).unwrap();
    let mut session = world.connect(&listener).unwrap();
    session.send(1000);

    world.crash_and_restart();
    session.send(200);
    let mut between = world.connect(&listener).unwrap();
    between.send(30);
    assert_eq!(between.source(), UP1);

    assert!(world.datapath.taken_over());
    let inherited = world.datapath.inherited();
    let [found] = inherited.as_slice() else { panic!("{inherited:?}") };
    assert_eq!((found.key, found.number, found.in_force), (key, before.number(), true));
    assert_eq!(found.counters.foreign_tx.payload_bytes, 1000);
    assert_eq!(world.datapath.adopt(&key, &deny()), None, "another pin");
    let slot = world.datapath.adopt(&key, &world.by_up1()).unwrap();
    assert_eq!(slot, before);
    assert_eq!(world.datapath.adopt(&key, &world.by_up1()), None, "once");
    assert_eq!(world.datapath.retire(), []);
    session.send(4);
    assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 1234);
}

#[test]
fn a_slot_that_nobody_adopts_stays_for_its_sockets_until_it_is_freed() {
    let mut world = UplinkWorld::new();
    let (listener, gone) = (world.listen(STATION4), world.listen(STATION4));
    let key = world.key(&listener);
    world.datapath.install(&key, world.by_up1()).unwrap();
    world.datapath.install(&world.key(&gone), world.by_up1()).unwrap();
    let (mut old, mut left) = (world.connect(&listener).unwrap(), world.connect(&gone).unwrap());
    old.send(1000);

    world.crash_and_restart();
    let slot = world.datapath.install(&key, pin(Some(UP0.into()), 0)).unwrap();
    assert_eq!(world.connect(&gone).unwrap().source(), UP1, "until it is known that nobody wants it");
    let retired = world.datapath.retire();
    assert_eq!(retired.len(), 2);
    assert_eq!(world.connect(&listener).unwrap().source(), UP0);
    assert_eq!(world.connect(&gone).unwrap().source(), UP0, "no pin any more");
    old.send(200);
    left.send(1);
    assert!(world.datapath.inherited().is_empty());
    for (_, slot) in retired {
        world.datapath.free(slot);
    }
    assert_eq!(world.datapath.history(&key).foreign_tx.payload_bytes, 1200);
    assert_eq!(world.datapath.history(&world.key(&gone)), Default::default());
    assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 0);
}

#[test]
fn counts_of_freed_slots_are_known_after_a_crash_and_added_once() {
    let mut world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let key = world.key(&listener);
    for bytes in [1000, 200, 30] {
        let slot = world.datapath.install(&key, world.by_up1()).unwrap();
        world.connect(&listener).unwrap().send(bytes);
        let next = world.datapath.install(&key, world.by_up1()).unwrap();
        world.datapath.free(slot);
        world.crash_and_restart();
        assert_eq!(world.datapath.adopt(&key, &world.by_up1()), Some(next));
    }
    assert_eq!(world.datapath.history(&key).foreign_tx.payload_bytes, 1230);
    let slot = world.datapath.install(&key, world.by_up1()).unwrap();
    world.datapath.remove(&key, &slot).unwrap();
    assert_eq!(world.datapath.history(&key), Default::default(), "it goes with the pin");
}

#[test]
fn slot_numbers_and_generations_go_on_after_a_crash() {
    let mut world = UplinkWorld::new();
    let key = world.key_of("192.0.2.99:1".parse().unwrap());
    let freed = world.datapath.install(&key, Pin::default()).unwrap();
    let (number, generation) = (freed.number, freed.generation);
    world.datapath.free(freed);
    world.crash_and_restart();
    let again = loop {
        let slot = world.datapath.install(&key, Pin::default()).unwrap();
        if slot.number == number {
            break slot;
        }
        world.datapath.free(slot);
    };
    assert_eq!(again.generation, generation + 1);
}

#[test]
fn no_connect_gets_through_while_one_bmpd_takes_over_from_another() {
    let mut world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    world.datapath.install(&world.key(&listener), deny()).unwrap();
    let address = SockAddr::from(listener.local_addr().unwrap());
    let (stop, tried, through) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let attempts = world.router.socket(Domain::IPV4);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let refused = attempts.connect(&address).unwrap_err().raw_os_error() == Some(libc::EPERM);
                tried.fetch_add(1, Ordering::Relaxed);
                through.fetch_add(usize::from(!refused), Ordering::Relaxed);
            }
        });
        for _ in 0..5 {
            let before = tried.load(Ordering::Relaxed);
            world.crash_and_restart();
            while tried.load(Ordering::Relaxed) == before {
                thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(through.load(Ordering::Relaxed), 0, "of {tried:?}");
    let slot = world.datapath.adopt(&world.key(&listener), &deny()).unwrap();
    assert_eq!(world.datapath.counters(&slot).denied_no_pin as usize, tried.into_inner(), "and each was counted");
}

#[test]
fn a_link_of_another_attach_type_is_not_taken_over() {
    let mut world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let links = layout(world.folder.path()).join("links");
    for (from, to) in [("connect4", "aside"), ("connect6", "connect4"), ("aside", "connect6")] {
        fs::rename(links.join(from), links.join(to)).unwrap();
    }
    world.crash_and_restart();
    assert_eq!(pinned(world.folder.path(), "links").len(), 5);
    assert_eq!(world.connect(&listener).unwrap().source(), UP1);
    let mapped = std::net::SocketAddr::new(STATION4.to_ipv6_mapped().into(), listener.local_addr().unwrap().port());
    let session = super::world::connect(world.router.socket(Domain::IPV6), mapped, &listener).unwrap();
    assert_eq!(session.source(), UP1);
}

#[test]
fn another_layout_stays_in_force_until_the_new_one_is() {
    let mut world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let other = world.folder.path().join("v0");
    fs::rename(layout(world.folder.path()), &other).unwrap();
    world.crash_and_restart();
    assert!(!world.datapath.taken_over());
    assert!(world.datapath.inherited().is_empty());
    assert_eq!(world.connect(&listener).unwrap().source(), UP1, "by what the earlier one left");
    let slot = world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    assert_eq!(world.datapath.retire(), []);
    assert!(!other.exists());
    let mut session = world.connect(&listener).unwrap();
    session.send(10);
    assert_eq!(session.source(), UP1);
    assert!(world.datapath.counters(&slot).foreign_tx.payload_bytes >= 10);
}

#[test]
fn tables_of_other_sizes_are_another_layout_whatever_the_folders_name() {
    let mut world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    let tables = layout(world.folder.path()).join("tables");
    fs::remove_file(tables.join("COUNTERS")).unwrap();
    Map::PerCpuArray(MapData::from_pin(tables.join("SLOTS")).unwrap()).pin(tables.join("COUNTERS")).unwrap();
    world.crash_and_restart();
    assert!(!world.datapath.taken_over());
    let aside = world.folder.path().join(format!("v{VERSION}-replaced-1"));
    assert!(aside.exists());
    assert_eq!(world.connect(&listener).unwrap().source(), UP1);
    world.datapath.retire();
    assert!(!aside.exists());
    assert_eq!(world.connect(&listener).unwrap().source(), UP0);
}

#[test]
fn detach_leaves_nothing_and_clones_do_nothing_from_then_on() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let key = world.key(&listener);
    let clone = world.datapath.clone();
    let slot = clone.install(&key, world.by_up1()).unwrap();
    world.datapath.clone().detach(false).unwrap();
    assert!(!world.folder.path().exists());
    assert_eq!(world.connect(&listener).unwrap().source(), UP0);
    assert_eq!(clone.counters(&slot), Default::default());
    clone.free(slot);
    clone.detach(false).unwrap();
}

#[test]
fn kept_objects_are_there_for_the_next_bmpd_and_detach_removes_them() {
    let mut world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    world.datapath.clone().detach(true).unwrap();
    assert_eq!(world.connect(&listener).unwrap().source(), UP1);
    world.restart();
    assert_eq!(world.datapath.inherited().len(), 1);

    let path = world.folder.path();
    let held = detach(Some(path)).unwrap_err().to_string();
    let holder = format!("another bmpd (process {}) runs with the folder {}", process::id(), path.display());
    assert!(held.starts_with(&holder), "{held}");
    world.datapath.clone().detach(true).unwrap();
    let (links, programs) = (CGROUP_PROGRAMS.len(), program_names().count());
    let tables = TABLES.len();
    let said = format!("{}: removed {links} links, {programs} programs and {tables} tables", layout(path).display());
    assert_eq!(detach(Some(path)).unwrap(), [said]);
    assert_eq!(world.connect(&listener).unwrap().source(), UP0);
    assert_eq!(detach(Some(path)).unwrap(), [format!("nothing to remove: there is no {}", path.display())]);
}

#[test]
fn a_second_bmpd_with_the_same_folder_is_refused_in_one_line_whatever_the_mode() {
    let world = UplinkWorld::new();
    for mode in [DatapathMode::Auto, DatapathMode::Ebpf] {
        let options = DatapathOptions { mode, ..world.folder.options() };
        let error = format!("{:#}", Datapath::load(&options).unwrap_err());
        let process = process::id();
        let path = world.folder.path().display();
        assert!(error.contains(&format!(
            "another bmpd (process {process}) runs with the folder {path}: give this one its own with --bpffs PATH"
        )));
        assert!(!error.contains('\n'));
    }
    let listener = world.listen(STATION4);
    world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
    assert_eq!(world.connect(&listener).unwrap().source(), UP1, "the first goes on");
}

#[test]
fn a_folder_outside_of_bpf_file_systems_is_refused() {
    let options = DatapathOptions { bpffs: Some("/proc/bmpd".into()), ..TestFolder::new().options() };
    let error = Datapath::load(&DatapathOptions { mode: DatapathMode::Auto, ..options }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--bpffs /proc/bmpd: not in a BPF file system (`mount -t bpf -o mode=0700 bpf /sys/fs/bpf` mounts one)"
    );
}

#[test]
fn a_folder_that_another_user_could_change_is_refused_and_left_as_it_is() {
    let folder = TestFolder::new();
    let (path, options) = (folder.path(), folder.options());
    let not_loaded = |path: &Path| {
        let options = DatapathOptions { mode: DatapathMode::Auto, bpffs: Some(path.into()), ..options.clone() };
        Datapath::load(&options).unwrap_err().to_string()
    };
    let refused = |path: &Path| {
        let loaded = not_loaded(path);
        assert_eq!(loaded, detach(Some(path)).unwrap_err().to_string());
        loaded
    };
    fs::create_dir(path).unwrap();
    chown(path, Some(65534), None).unwrap();
    let owned = not_loaded(path);
    assert!(owned.contains(&format!("{} belongs to user 65534", path.display())), "{owned}");
    // What one user alone has put there, root removes.
    assert_eq!(detach(Some(path)).unwrap(), [format!("nothing to remove: {} is empty", path.display())]);
    fs::create_dir(path).unwrap();
    chown(path, Some(65534), None).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    refused(path);
    chown(path, Some(0), None).unwrap();

    fs::set_permissions(path, Permissions::from_mode(0o1777)).unwrap();
    let below = path.join("bmpd");
    for place in [path, &below] {
        fs::create_dir_all(place).unwrap();
        let written = refused(place);
        assert!(written.contains("can be written by other users (mode 1777)"), "{written}");
        let advice = format!("to mend it: `chmod go-w {}` (a BPF file system is bmpd's alone with", path.display());
        assert!(written.contains(&advice), "{written}");
        assert!(written.contains("`mount -t bpf -o mode=0700 bpf /sys/fs/bpf`"), "{written}");
    }
    fs::remove_dir(&below).unwrap();
    Datapath::load(&DatapathOptions { bpffs: Some(below.clone()), ..options.clone() }).unwrap_err();
    assert!(!below.exists(), "nothing is made in it");

    fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(path.join("elsewhere")).unwrap();
    symlink(path.join("elsewhere"), &below).unwrap();
    let linked = refused(&below);
    assert!(linked.contains(&format!("{} is a symbolic link", below.display())), "{linked}");
    assert_eq!(fs::read_dir(path.join("elsewhere")).unwrap().count(), 0);
    fs::remove_file(&below).unwrap();
}

/// A mount that ends when this is dropped.
struct Mounted(CString);

impl Drop for Mounted {
    fn drop(&mut self) {
        // SAFETY: the string lives through the call.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn a_bpf_file_system_below_a_folder_for_everybody_is_refused() {
    thread::spawn(|| {
        let shared = tempfile::TempDir::with_prefix_in("bmpd-shared-", "/run").unwrap();
        fs::set_permissions(shared.path(), Permissions::from_mode(0o1777)).unwrap();
        let mounted = shared.path().join("bpf");
        fs::create_dir(&mounted).unwrap();
        let path = CString::new(mounted.as_os_str().as_bytes()).unwrap();
        // SAFETY: changes the calling thread only; the strings live through the calls.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
            let private = libc::MS_REC | libc::MS_PRIVATE;
            assert_eq!(libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()), 0);
            assert_eq!(libc::mount(c"bpf".as_ptr(), path.as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null()), 0);
        }
        // The folder can be removed after the unmount alone.
        let _mounted = Mounted(path);
        let refused = |path: PathBuf| {
            Datapath::load(&DatapathOptions { bpffs: Some(path), ..DatapathOptions::default() })
                .unwrap_err()
                .to_string()
        };
        let above = refused(mounted.join("bmpd"));
        let advice = format!("name a folder that is not below {}, which is for all users", shared.path().display());
        assert!(above.contains(&advice) && above.contains("--bpffs PATH") && !above.contains("chmod"), "{above}");
        // A file system mounted without a mode has the sticky bit too, and is root's alone.
        fs::set_permissions(shared.path(), Permissions::from_mode(0o755)).unwrap();
        let own = refused(mounted.join("bmpd"));
        let mount = mounted.display();
        assert!(own.contains(&format!("`chmod go-w {mount}`")), "{own}");
        assert!(own.contains(&format!("`mount -t bpf -o mode=0700 bpf {mount}`")), "{own}");
    })
    .join()
    .unwrap();
}

#[test]
fn links_that_root_changed_while_no_bmpd_ran_are_found_and_restored() {
    let mut world = UplinkWorld::new();
    world.crash_and_restart();
    assert_eq!(world.datapath.losses(), Some(0));
    let links = layout(world.folder.path()).join("links");
    let other = rewriter::idle_program();
    let damages: [&dyn Fn(); 3] = [
        &|| bpf::replace(&bpf::open(&links.join("connect4")).unwrap(), other.as_fd()).unwrap(),
        &|| bpf::detach(&bpf::open(&links.join("egress")).unwrap()).unwrap(),
        &|| fs::remove_file(links.join("connect4")).unwrap(),
    ];
    let listener = world.listen(STATION4);
    for damage in damages {
        world.crash();
        damage();
        world.restart();
        assert_eq!(world.datapath.losses(), Some(1), "it is known to display");
        world.datapath.install(&world.key(&listener), world.by_up1()).unwrap();
        assert_eq!(world.connect(&listener).unwrap().source(), UP1);
        for (_, slot) in world.datapath.retire() {
            world.datapath.free(slot);
        }
    }
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let folder = TestFolder::new();
    // The layout's folder cannot be made: its name is taken.
    let options = DatapathOptions { cgroup: Some("/proc".into()), ..folder.options() };
    Datapath::load(&options).unwrap_err();
    assert!(!folder.path().exists());
}

#[test]
fn a_bmpd_that_is_killed_leaves_its_pins_in_force_for_the_next() {
    let mut world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let address = listener.local_addr().unwrap();
    world.datapath.clone().detach(false).unwrap();
    let mut child = world.router.run(|| {
        Built::at(std::env::current_exe().unwrap())
            .command()
            .args(["--exact", "pin::kernel::tests::persistence::be_a_bmpd", "--ignored", "--nocapture"])
            .env(CHILD, format!("{} {address}", world.folder.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    said.find(|line| line.as_ref().unwrap().contains("ready")).unwrap().unwrap();
    let mut session = world.connect(&listener).unwrap();
    session.send(1000);
    child.kill().unwrap();
    child.wait().unwrap();

    session.send(200);
    assert_eq!(world.connect(&listener).unwrap().source(), UP1);
    world.restart();
    let key = world.key(&listener);
    let slot = world.datapath.adopt(&key, &world.by_up1()).unwrap();
    session.send(30);
    assert_eq!(world.datapath.counters(&slot).foreign_tx.payload_bytes, 1230);
}

#[test]
#[ignore = "the process that another test kills"]
fn be_a_bmpd() {
    let order = std::env::var(CHILD).unwrap();
    let (folder, station) = order.split_once(' ').unwrap();
    let options =
        DatapathOptions { mode: DatapathMode::Ebpf, bpffs: Some(folder.into()), ..DatapathOptions::default() };
    let datapath = Datapath::load(&options).unwrap();
    // SAFETY: the name is a string.
    let up1 = unsafe { libc::if_nametoindex(c"up1".as_ptr()) };
    datapath.install(&datapath.key(&to(station.parse().unwrap())), pin(Some(UP1.into()), up1)).unwrap();
    std::io::Write::write_all(&mut std::io::stdout(), b"ready\n").unwrap();
    // Until it is killed, or the test that started it is gone.
    let _ = std::io::stdin().read_line(&mut String::new());
}
