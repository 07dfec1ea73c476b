//! Tables that root changes are written again.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{Array, HashMap, Map, MapData};
use bmp_ebpf::{GuardKey, Guarded, LinkKey, Pin, PinKey, VRF_LINKS_MAX};

use super::super::Datapath;
use super::super::Mended;
use super::persistence::layout;
use super::world::{STATION4, UP1, UplinkWorld};

/// Opens a table in the BPF file system, as root does.
fn table(world: &UplinkWorld, name: &str) -> MapData {
    MapData::from_pin(layout(world.folder.path()).join("tables").join(name)).unwrap()
}

fn pins(world: &UplinkWorld) -> HashMap<MapData, PinKey, u32> {
    Map::HashMap(table(world, "PINS")).try_into().unwrap()
}

fn vrfs(world: &UplinkWorld) -> HashMap<MapData, LinkKey, u32> {
    Map::HashMap(table(world, "VRFS")).try_into().unwrap()
}

fn guarded(world: &UplinkWorld) -> HashMap<MapData, GuardKey, Guarded> {
    Map::HashMap(table(world, "GUARDED")).try_into().unwrap()
}

/// Checks that the change is reported and mended, once.
fn is_mended(world: &UplinkWorld, said: &str, how: Mended) {
    std::thread::sleep(super::super::loaded::FRESH);
    let loss = world.datapath.look().expect("it is found");
    assert_eq!(loss.why, said);
    assert_eq!(loss.enforced, how == Mended::Pins, "{said}");
    assert_eq!(world.datapath.mend(), how, "{said}");
    assert_eq!((world.datapath.mend(), world.datapath.loss()), (Mended::Nothing, None), "{said}");
}

#[test]
fn pins_that_root_removes_changes_or_adds_are_restored() {
    let world = UplinkWorld::new();
    let listener = world.listen(STATION4);
    let (key, strange) = (world.key(&listener), world.key_of(([192, 0, 2, 7], 1).into()));
    let slot = world.datapath.install(&key, world.by_up1()).unwrap();
    let session = world.connect(&listener).unwrap();
    assert_eq!(world.datapath.mend(), Mended::Nothing);

    pins(&world).remove(&key).unwrap();
    is_mended(&world, "an entry of table PINS was removed or changed", Mended::Enforcement);
    assert_eq!(world.datapath.slot_of(&key), Some(slot.number()));
    pins(&world).insert(key, 4000, 0).unwrap();
    pins(&world).insert(strange, slot.number(), 0).unwrap();
    is_mended(&world, "2 entries of table PINS were removed or changed", Mended::Enforcement);
    assert_eq!(world.datapath.slot_of(&key), Some(slot.number()));
    assert_eq!(world.datapath.slot_of(&strange), None);

    let mut slots: Array<_, Pin> = Map::Array(table(&world, "SLOTS")).try_into().unwrap();
    let mut owners: Array<_, PinKey> = Map::Array(table(&world, "OWNERS")).try_into().unwrap();
    slots.set(slot.number(), Pin::default(), 0).unwrap();
    is_mended(&world, "an entry of table SLOTS was removed or changed", Mended::Enforcement);
    owners.set(slot.number(), strange, 0).unwrap();
    is_mended(&world, "an entry of table OWNERS was removed or changed", Mended::Enforcement);
    // Its socket is still under the slot.
    assert!(world.datapath.is_under(&session.router, &slot).unwrap());
    assert_eq!(world.connect(&listener).unwrap().source(), UP1);
}

#[test]
fn pins_that_were_taken_over_are_watched_and_freed_ones_are_not() {
    let mut world = UplinkWorld::new();
    let keys: Vec<_> = (1..=600).map(|port| world.key_of(([192, 0, 2, 7], port).into())).collect();
    for key in &keys {
        world.datapath.install(key, Pin::default()).unwrap();
    }
    world.crash_and_restart();
    assert_eq!(world.datapath.mend(), Mended::Nothing);
    for key in &keys {
        pins(&world).remove(key).unwrap();
    }
    is_mended(&world, "600 entries of table PINS were removed or changed", Mended::Enforcement);
    for (_, slot) in world.datapath.retire() {
        world.datapath.free(slot);
    }
    assert_eq!(world.datapath.mend(), Mended::Nothing);
    assert_eq!(pins(&world).keys().count(), 0);
}

#[test]
fn interfaces_of_vrfs_and_guarded_addresses_are_restored() {
    let world = UplinkWorld::new();
    world.datapath.set_vrfs(&BTreeMap::from([(7, 7), (8, 7)]), &BTreeSet::new()).unwrap();
    let known: Vec<_> = vrfs(&world).keys().map(Result::unwrap).collect();
    assert_eq!(known.len(), 2);
    vrfs(&world).remove(&known[0]).unwrap();
    vrfs(&world).insert(LinkKey { ifindex: 9, ..known[0] }, 7, 0).unwrap();
    is_mended(&world, "2 entries of table VRFS were removed or changed", Mended::Enforcement);
    let mut now: Vec<_> =
        vrfs(&world).iter().map(|entry| entry.map(|(key, vrf)| (key.ifindex, vrf)).unwrap()).collect();
    now.sort_unstable();
    assert_eq!(now, [(7, 7), (8, 7)]);

    let key = Datapath::guard_key(3, UP1.into(), 11019);
    world.datapath.set_guarded(&BTreeMap::from([(key, 0)])).unwrap();
    guarded(&world).remove(&key).unwrap();
    is_mended(&world, "an entry of table GUARDED was removed or changed", Mended::Pins);
    assert_eq!(world.datapath.guarded(), BTreeSet::from([key]));
    world.datapath.set_guarded(&BTreeMap::new()).unwrap();
    assert_eq!(world.datapath.mend(), Mended::Nothing);
}

#[test]
fn a_full_table_of_vrfs_prefers_those_with_sessions_and_names_the_others() {
    let world = UplinkWorld::new();
    let links = |vrf: u32, from: u32, count: u32| (from..from + count).map(move |link| (link, vrf));
    let full: BTreeMap<u32, u32> = links(1, 1, VRF_LINKS_MAX).collect();
    world.datapath.set_vrfs(&full, &BTreeSet::new()).unwrap();
    // A VRF with a session is added.
    let mut both = full.clone();
    both.extend(links(10_000, 10_000, 5));
    let untold = world.datapath.set_vrfs(&both, &BTreeSet::from([10_000])).unwrap_err();
    assert_eq!(untold.vrfs, BTreeSet::from([1]));
    let known = |vrf: u32| vrfs(&world).iter().filter(|entry| entry.as_ref().unwrap().1 == vrf).count();
    assert_eq!((known(10_000), known(1)), (5, VRF_LINKS_MAX as usize - 5));
    // All of the room is not enough for one VRF.
    let untold = world.datapath.set_vrfs(&both, &BTreeSet::from([1])).unwrap_err();
    assert_eq!(untold.vrfs, BTreeSet::from([10_000]));
    let more: BTreeMap<u32, u32> = links(1, 1, VRF_LINKS_MAX + 1).collect();
    let untold = world.datapath.set_vrfs(&more, &BTreeSet::from([1])).unwrap_err();
    assert_eq!(untold.vrfs, BTreeSet::from([1]));
    world.datapath.set_vrfs(&BTreeMap::from([(1, 1)]), &BTreeSet::from([1])).unwrap();
    assert_eq!((known(1), vrfs(&world).keys().count()), (1, 1));
    assert_eq!(world.datapath.mend(), Mended::Nothing);
}
