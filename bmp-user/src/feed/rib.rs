//! One RIB: the routes of one view of one peer in one family, as they were last announced or withdrawn.
//!
//! A route is in two lists. The list of the RIB is in the order in which routes last changed: what a station has missed is its
//! end. The list of its *group* holds the routes that have attributes and a receive time in common, as many as fit into one UPDATE, in the
//! same order: a walk along the first list sends a group whole where it meets the first of its routes, and passes the others by.
//!
//! Where NLRI cannot be told apart, [`whole`] keeps the fields of UPDATEs instead; [`undecided`] finds out whether they can.

mod key;
mod stale;
mod undecided;
mod walk;
mod whole;

use std::{
    hash::{BuildHasher as _, Hash, Hasher},
    net::Ipv4Addr,
};

use bytes::BytesMut;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{
    attributes::Attributes,
    blocks::{Blocks, NONE},
    index::Index,
    nlri::{Long, Nlri},
    peers::Hints,
};
use crate::wire::{
    bgp::{self, Family, Form, HEADER, Reading},
    bmp::{PeerHeader, RibView},
};
use key::Key;
use undecided::Undecided;
pub(super) use walk::Mark;
use whole::Wholes;

/// When something was received, as the per-peer header says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Time {
    pub(super) seconds: u32,
    pub(super) microseconds: u32,
}

/// What a per-peer header says beside the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) flags: u8,
    /// AS and BGP identifier: see [`Rib::head`].
    name: u8,
}

/// What routes have in common that leave in one UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Common {
    /// The attribute set; `NONE` for routes that are withdrawn.
    pub(super) attributes: u32,
    pub(super) time: Time,
    pub(super) head: Head,
    /// Whether this is a field that is kept whole, which is alone in its group. See [`whole`].
    pub(super) whole: bool,
}

impl Common {
    /// Of routes that are withdrawn.
    pub(super) fn withdrawn(time: Time, head: Head) -> Self {
        Self { attributes: NONE, time, head, whole: false }
    }
}

/// In two words: this is made for every UPDATE.
impl Hash for Common {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { attributes, time: Time { seconds, microseconds }, head: Head { flags, name }, whole } = *self;
        state.write_u64(u64::from(attributes) << 32 | u64::from(seconds));
        let rest = u32::from_be_bytes([0, flags, name, whole.into()]);
        state.write_u64(u64::from(microseconds) << 32 | u64::from(rest));
    }
}

#[derive(Clone, Copy, Debug)]
struct Route {
    nlri: Nlri,
    /// `NONE` for a [`Mark`], and for what is free.
    group: u32,
    before: u32,
    after: u32,
    before_in_group: u32,
    after_in_group: u32,
    /// In two parts, so that a route has 44 bytes.
    changed: [u32; 2],
}

impl Default for Route {
    fn default() -> Self {
        let nlri = Nlri::default();
        Self {
            nlri,
            group: NONE,
            before: NONE,
            after: NONE,
            before_in_group: NONE,
            after_in_group: NONE,
            changed: [0; 2],
        }
    }
}

impl Route {
    fn changed(&self) -> u64 {
        let [high, low] = self.changed;
        u64::from(high & !(STALE | WHOLE)) << 32 | u64::from(low)
    }

    #[inline]
    fn is_whole(&self) -> bool {
        self.changed[0] & WHOLE != 0
    }

    fn is_stale(&self) -> bool {
        self.changed[0] & STALE != 0
    }
}

/// A route that was not heard of again since its input went away. No feed gets to 2^62 frames.
const STALE: u32 = 1 << 31;
/// A field that is kept whole.
const WHOLE: u32 = 1 << 30;

#[derive(Clone, Copy, Debug)]
struct Group {
    common: Common,
    first: u32,
    last: u32,
    /// Bytes of the NLRI in it.
    bytes: u32,
}

impl Default for Group {
    fn default() -> Self {
        Self { common: Common::withdrawn(Time::default(), Head::default()), first: NONE, last: NONE, bytes: 0 }
    }
}

/// An End-of-RIB marker: the input sent it, or was quiet for so long that it might have (see [`super::Input::end_quiet_ribs`]).
#[derive(Clone, Copy, Debug)]
pub(super) struct EndOfRib {
    pub(super) changed: u64,
    pub(super) time: Time,
    pub(super) head: Head,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rib {
    pub(super) view: RibView,
    pub(super) family: Family,
    pub(super) form: Form,
    pub(super) path_ids: bool,
    /// The per-peer header of the first frame; all of it but the peer's type, distinguisher and address is each group's own.
    pub(super) header: PeerHeader,
    /// AS and BGP identifier of further per-peer headers: a router may leave them out, or know them later.
    names: Vec<(u32, Ipv4Addr)>,
    pub(super) end_of_rib: Option<EndOfRib>,
    /// How many frames there had been after the last that was about it; zero for one that nobody has spoken of.
    pub(super) heard: u64,
    /// When the newest withdrawal changed that is no longer known.
    pub(super) forgotten: u64,
    /// How often fields that had been kept whole were read, while a pass was under way.
    pub(super) conversions: u32,
    /// Fields that were dropped although a late station needs them.
    pub(super) not_kept: u64,
    /// How many of them have been counted.
    counted: u64,
    routes: Blocks<Route>,
    index: Index,
    long: Long,
    groups: Blocks<Group>,
    groups_index: HashTable<u32>,
    /// The group that a route was put into last, or `NONE`.
    latest: u32,
    first: u32,
    last: u32,
    /// The longest message of the peer, in bytes (RFC 8654).
    max_message: usize,
    announced: usize,
    marks: usize,
    stale: usize,
    /// Fields that are kept whole; `None` if there are none.
    whole: Option<Box<Wholes>>,
    /// `None` once it is known how NLRI are read, or where nobody knows.
    undecided: Option<Box<Undecided>>,
    hasher: RandomState,
}

/// What became of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is as it was, but for its time.
    Same,
    /// It is new, or another one.
    Changed,
    /// It is gone: a withdrawal is kept under this number.
    Withdrawn(u32),
}

/// What a withdrawal takes that is kept: the route, its place in the index, and in the queue of those that are kept.
pub(super) const TOMBSTONE: usize = size_of::<Route>() + 8 + 24;
const INDEX_ENTRY: usize = 7;
/// How many routes are looked for together.
const TOGETHER: usize = 16;

impl Rib {
    /// A RIB without routes. `opens` is what the OPENs say of it, `announced` whether there are any.
    pub(super) fn new(
        view: RibView,
        family: Family,
        opens: Hints,
        announced: bool,
        header: PeerHeader,
        hasher: RandomState,
    ) -> Self {
        let Reading { form, path_ids } = Reading::of(family, opens.path_ids, opens.stack);
        Self {
            view,
            family,
            form,
            path_ids,
            header,
            names: Vec::new(),
            end_of_rib: None,
            heard: 0,
            forgotten: 0,
            conversions: 0,
            not_kept: 0,
            counted: 0,
            routes: Blocks::new(),
            index: Index::new(),
            long: Long::new(),
            groups: Blocks::new(),
            groups_index: HashTable::new(),
            latest: NONE,
            first: NONE,
            last: NONE,
            max_message: opens.max_message,
            announced: 0,
            marks: 0,
            stale: 0,
            whole: None,
            undecided: Undecided::new(Reading { form, path_ids }, announced).map(Box::new),
            hasher,
        }
    }

    /// What is kept of a per-peer header. Of more AS and BGP identifiers than 255 the later are taken for the first.
    #[inline]
    pub(super) fn head(&mut self, header: &PeerHeader) -> Head {
        let name = (header.asn, header.bgp_id);
        let is_first = name == (self.header.asn, self.header.bgp_id);
        Head { flags: header.flags, name: if is_first { 0 } else { self.number_of(name) } }
    }

    #[cold]
    fn number_of(&mut self, name: (u32, Ipv4Addr)) -> u8 {
        let known = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        u8::try_from(known + 1).unwrap_or_else(|_| {
            self.names.truncate(u8::MAX.into());
            0
        })
    }

    /// Another peer looks the same from now on: what is told of this one says which it is, also where the router left that out. True if something is told
    /// otherwise now.
    pub(super) fn name_all(&mut self, PeerHeader { asn, bgp_id, .. }: PeerHeader) -> bool {
        let name = (asn, bgp_id);
        let is_other = (self.header.asn, self.header.bgp_id) != name || self.names.iter().any(|known| *known != name);
        (self.header.asn, self.header.bgp_id) = name;
        self.names.iter_mut().for_each(|known| *known = name);
        is_other
    }

    /// The per-peer header of a message.
    #[inline]
    pub(super) fn header_of(&self, time: Time, head: Head) -> PeerHeader {
        let Time { seconds, microseconds } = time;
        let header = PeerHeader { flags: head.flags, seconds, microseconds, ..self.header };
        match self.names.get(usize::from(head.name).wrapping_sub(1)) {
            Some((asn, bgp_id)) => PeerHeader { asn: *asn, bgp_id: *bgp_id, ..header },
            None => header,
        }
    }

    /// Whether a frame was about it. The place of one whose table ended is kept.
    pub(super) fn is_spoken_of(&self) -> bool {
        self.heard > 0
    }

    /// Fields that were dropped although a late station needs them, since this was asked.
    pub(super) fn newly_not_kept(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.counted, self.not_kept);
        self.not_kept - before
    }

    /// Something is withdrawn that is not there. If fields were dropped, a station may have it from one of these: who is not told by the journal has to begin
    /// anew.
    #[inline]
    fn withdraws_unknown(&mut self, changed: u64) {
        if self.not_kept > 0 {
            self.forgotten = self.forgotten.max(changed);
        }
    }

    /// Memory in bytes: of routes, and of groups.
    pub(super) fn memory(&self) -> (usize, usize) {
        let routes = self.routes.memory() + self.long.memory() + self.index.memory();
        (routes, self.groups.memory() + self.groups_index.capacity() * INDEX_ENTRY)
    }

    /// Routes are announced, whose NLRI are well formed. `attributes` are the sets of the whole feed. `again` is true if their peer is saying again what
    /// it said before: nothing becomes of a route then that is as it was, and its frame is not passed on. `outcome` is told of each.
    pub(super) fn announce(
        &mut self,
        items: &[u8],
        common: Common,
        changed: u64,
        again: bool,
        attributes: &mut Attributes,
        mut outcome: impl FnMut(Outcome),
    ) {
        let mut items = bgp::nlri(self.form, self.path_ids, items);
        let mut probes = [const { None }; TOGETHER];
        loop {
            let mut count = 0;
            for probe in &mut probes {
                let Some(Ok(item)) = items.next() else { break };
                *probe = Some(self.probe(item));
                count += 1;
            }
            for probe in probes.iter().flatten() {
                if let Some(number) = self.index.find(probe.hash, |_| true) {
                    self.routes.prefetch(number);
                }
            }
            for probe in probes.iter_mut().filter_map(Option::take) {
                outcome(self.announce_one(&probe, common, changed, again, attributes));
            }
            if count < TOGETHER {
                break;
            }
        }
        if self.whole.is_some() {
            self.settle(attributes);
        }
    }

    fn announce_one(
        &mut self,
        probe: &Probe<'_>,
        common: Common,
        changed: u64,
        again: bool,
        attributes: &mut Attributes,
    ) -> Outcome {
        with_meaning(self.form, self.path_ids, probe.item, |item| {
            let meant = if std::ptr::eq(item, probe.item) { *probe } else { self.probe(item) };
            let Probe { key, hash, .. } = meant;
            let Some(number) = self.find(hash, &key) else {
                self.make_room();
                let nlri = self.long.insert(item);
                let number = self.routes.insert(Route { nlri, ..Route::default() });
                self.index.insert(hash, number);
                self.put(number, common, changed, attributes);
                self.announced += 1;
                return Outcome::Changed;
            };
            let Common { attributes: before, head, .. } = self.groups.get(self.routes.get(number).group).common;
            let same = (before, head) == (common.attributes, common.head)
                && self.long.get(&self.routes.get(number).nlri) == item;
            if self.routes.get(number).is_stale() {
                self.stale -= 1;
                self.routes.get_mut(number).changed[0] &= !STALE;
            }
            // What a field that is kept whole said in between is not known.
            if same && again && self.whole.is_none() {
                return Outcome::Same;
            }
            if before == NONE {
                self.announced += 1;
            }
            self.take_out(number, attributes);
            if self.long.get(&self.routes.get(number).nlri) != item {
                let nlri = self.long.insert(item);
                let old = std::mem::replace(&mut self.routes.get_mut(number).nlri, nlri);
                self.long.remove(old);
            }
            self.put(number, common, changed, attributes);
            if same { Outcome::Same } else { Outcome::Changed }
        })
    }

    /// A route is withdrawn. What is not there is nothing to withdraw.
    pub(super) fn withdraw(
        &mut self,
        item: &[u8],
        time: Time,
        head: Head,
        changed: u64,
        attributes: &mut Attributes,
    ) -> Outcome {
        if self.whole.is_some() {
            return Outcome::Withdrawn(self.withdraw_all_the_same(item, time, head, changed, attributes));
        }
        let relabeled = bgp::with_withdrawn_label(self.form, self.path_ids, item);
        with_meaning(self.form, self.path_ids, relabeled.as_deref().unwrap_or(item), |item| {
            let Probe { key, hash, .. } = self.probe(item);
            let Some(number) = self.find(hash, &key) else {
                self.withdraws_unknown(changed);
                return Outcome::Same;
            };
            self.withdraw_number(number, time, head, changed, attributes)
        })
    }

    fn withdraw_number(
        &mut self,
        number: u32,
        time: Time,
        head: Head,
        changed: u64,
        attributes: &mut Attributes,
    ) -> Outcome {
        let route = self.routes.get(number);
        if self.groups.get(route.group).common.attributes == NONE {
            return Outcome::Same;
        }
        let whole = route.is_whole();
        self.stale -= usize::from(route.is_stale());
        if whole {
            self.is_not_announced(number);
        } else {
            self.announced -= 1;
        }
        self.take_out(number, attributes);
        self.put(number, Common { whole, ..Common::withdrawn(time, head) }, changed, attributes);
        Outcome::Withdrawn(number)
    }

    /// Gives the attribute sets back. The RIB is of no use after that.
    pub(super) fn release(&mut self, attributes: &mut Attributes) {
        let mut at = self.first;
        while at != NONE {
            let route = *self.routes.get(at);
            if route.group != NONE && route.before_in_group == NONE {
                let set = self.groups.get(route.group).common.attributes;
                if set != NONE {
                    attributes.release(set);
                }
            }
            at = route.after;
        }
    }

    /// The bytes of an NLRI.
    #[inline]
    pub(super) fn bytes<'a>(&'a self, nlri: &'a Nlri) -> &'a [u8] {
        self.long.get(nlri)
    }

    /// Appends the bytes of NLRI.
    #[inline]
    pub(super) fn put_bytes<'a>(&self, all: impl Iterator<Item = &'a Nlri>, out: &mut BytesMut) {
        self.long.put(all, out);
    }

    /// The NLRI of a route.
    pub(super) fn nlri(&self, number: u32) -> &[u8] {
        self.long.get(&self.routes.get(number).nlri)
    }

    fn hash_of(&self, number: u32) -> u64 {
        let route = self.routes.get(number);
        let bytes = self.long.get(&route.nlri);
        if route.is_whole() {
            return whole::hash(bytes, &self.hasher);
        }
        Key::of(self.form, bytes).hash(self.form, self.path_ids, &self.hasher)
    }

    #[inline]
    fn find(&self, hash: u64, key: &Key<'_>) -> Option<u32> {
        self.index.find(hash, |number| self.is(number, key))
    }

    /// Whether a route has this identity.
    #[inline]
    fn is(&self, number: u32, key: &Key<'_>) -> bool {
        let route = self.routes.get(number);
        let kept = &route.nlri;
        match key {
            // No field that is kept whole is short.
            Key::Short(nlri) => kept == nlri,
            _ if route.is_whole() => false,
            Key::Whole(item) => self.long.get(kept) == *item,
            Key::Parts(item) => key::same_identity(self.form, self.path_ids, self.long.get(kept), item),
        }
    }

    /// Has the processor fetch what is to be looked at for these: several one after the other wait for memory together, and not each for itself.
    #[inline]
    fn probe<'a>(&self, item: &'a [u8]) -> Probe<'a> {
        let key = Key::of(self.form, item);
        let hash = key.hash(self.form, self.path_ids, &self.hasher);
        self.index.prefetch(hash);
        Probe { item, key, hash }
    }

    /// Makes room in the index for one more route.
    fn make_room(&mut self) {
        if !self.index.is_full() {
            return;
        }
        self.index.grow();
        let Self { index, routes, long, hasher, form, path_ids, .. } = self;
        let hash = |number: u32| {
            let route = routes.get(number);
            // Of those that are free as well as of marks.
            (route.group != NONE).then(|| match long.get(&route.nlri) {
                field if route.is_whole() => whole::hash(field, hasher),
                item => Key::of(*form, item).hash(*form, *path_ids, hasher),
            })
        };
        let mut numbers = 0..routes.numbers();
        let mut hashes = [const { None }; TOGETHER];
        while !numbers.is_empty() {
            for (hashed, number) in hashes.iter_mut().zip(&mut numbers) {
                *hashed = hash(number).map(|hash| (hash, number));
                hashed.iter().for_each(|(hash, _)| index.prefetch(*hash));
            }
            for (hash, number) in hashes.iter_mut().filter_map(Option::take) {
                index.insert(hash, number);
            }
        }
    }

    /// Puts a route at the end of the list, and of that of a group that has room.
    fn put(&mut self, number: u32, common: Common, changed: u64, attributes: &mut Attributes) {
        let bytes = self.long.get(&self.routes.get(number).nlri).len();
        let group = self.group_for(common, bytes, attributes);
        let last_in_group = self.groups.get(group).last;
        let before = self.last;
        let route = self.routes.get_mut(number);
        route.group = group;
        (route.before, route.after) = (before, NONE);
        (route.before_in_group, route.after_in_group) = (last_in_group, NONE);
        let whole = if common.whole { WHOLE } else { 0 };
        route.changed = [(changed >> 32) as u32 & !STALE | whole, changed as u32];
        match before {
            NONE => self.first = number,
            before => self.routes.get_mut(before).after = number,
        }
        self.last = number;
        match last_in_group {
            NONE => self.groups.get_mut(group).first = number,
            last => self.routes.get_mut(last).after_in_group = number,
        }
        let group = self.groups.get_mut(group);
        group.last = number;
        group.bytes += bytes as u32;
    }

    fn group_for(&mut self, common: Common, bytes: usize, attributes: &mut Attributes) -> u32 {
        if common.whole {
            return self.group_of_one(common, attributes);
        }
        // Routes come in runs.
        let latest = Some(self.latest).filter(|latest| *latest != NONE && self.groups.get(*latest).common == common);
        let mut hash = None;
        let mut hashed = || *hash.get_or_insert_with(|| self.hasher.hash_one(common));
        let found = latest
            .or_else(|| self.groups_index.find(hashed(), |group| self.groups.get(*group).common == common).copied());
        if let Some(group) = found {
            let set = if common.attributes == NONE { 0 } else { attributes.get(common.attributes).len() };
            if self.fits(set, self.groups.get(group).bytes as usize + bytes) {
                self.latest = group;
                return group;
            }
        }
        let hash = hashed();
        if common.attributes != NONE {
            attributes.retain(common.attributes);
        }
        let Self { groups, groups_index, hasher, .. } = self;
        let group = groups.insert(Group { common, ..Group::default() });
        self.latest = group;
        // A full group is left alone: the index leads to the one that has room.
        match groups_index.find_mut(hash, |other| Some(*other) == found) {
            Some(entry) => *entry = group,
            None => {
                groups_index.insert_unique(hash, group, |group| hasher.hash_one(groups.get(*group).common));
            }
        }
        group
    }

    /// Whether so many bytes of attributes and of NLRI fit into one message, which has two length fields, and in the worst case
    /// another attribute's header.
    fn fits(&self, attributes: usize, nlri: usize) -> bool {
        HEADER + 4 + 7 + attributes + nlri <= self.max_message
    }

    /// Takes a route out of both lists. A group without routes is gone.
    fn take_out(&mut self, number: u32, attributes: &mut Attributes) {
        let route = *self.routes.get(number);
        self.unlink(&route);
        let bytes = self.long.get(&route.nlri).len() as u32;
        match route.before_in_group {
            NONE => self.groups.get_mut(route.group).first = route.after_in_group,
            before => self.routes.get_mut(before).after_in_group = route.after_in_group,
        }
        match route.after_in_group {
            NONE => self.groups.get_mut(route.group).last = route.before_in_group,
            after => self.routes.get_mut(after).before_in_group = route.before_in_group,
        }
        let group = self.groups.get_mut(route.group);
        group.bytes -= bytes;
        if group.first != NONE {
            return;
        }
        let common = group.common;
        self.groups.remove(route.group);
        if self.latest == route.group {
            self.latest = NONE;
        }
        let hash = self.hasher.hash_one(common);
        if let Ok(entry) = self.groups_index.find_entry(hash, |other| *other == route.group) {
            entry.remove();
        }
        if common.attributes != NONE {
            attributes.release(common.attributes);
        }
    }

    fn unlink(&mut self, route: &Route) {
        match route.before {
            NONE => self.first = route.after,
            before => self.routes.get_mut(before).after = route.after,
        }
        match route.after {
            NONE => self.last = route.before,
            after => self.routes.get_mut(after).before = route.before,
        }
    }
}

/// See [`Rib::probe`].
#[derive(Clone, Copy, Debug)]
struct Probe<'a> {
    item: &'a [u8],
    key: Key<'a>,
    hash: u64,
}

/// Calls `then` with the NLRI without bits that mean nothing, so that equal routes are equal bytes.
fn with_meaning<T>(form: Form, path_ids: bool, item: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    match bgp::without_trailing_bits(form, path_ids, item) {
        None => then(item),
        Some(last) => {
            let mut copy = item.to_vec();
            if let Some(byte) = copy.last_mut() {
                *byte = last;
            }
            then(&copy)
        }
    }
}
