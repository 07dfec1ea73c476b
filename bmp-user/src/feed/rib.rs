//! One RIB: the routes of one view of one peer in one family, as last announced or withdrawn.
//!
//! A route is in two lists. The list of the RIB is in the order in which routes last changed, so
//! the end of the list is what a station has missed. The list of a *group* has the routes that
//! share attributes and receive time, as many as fit into one UPDATE, in the same order. A walk
//! along the first list sends a whole group when it meets the first of its routes, and skips the
//! others.
//!
//! Where NLRI cannot be told apart, [`whole`] keeps the fields of UPDATEs instead. [`undecided`]
//! finds out whether they can.
//!
//! * `filtered`: what filters decide about the routes.
//! * `group`: groups, and the two lists.
//! * `key`: what a route is found by.
//! * `lookup`: finds routes, several at once.
//! * `stale`: routes that have to go.
//! * `undecided`: a RIB whose NLRI nobody can read yet.
//! * `walk`: walks along the list while it changes.
//! * `whole`: fields of UPDATEs that are kept whole.

mod filtered;
mod group;
mod key;
mod lookup;
mod stale;
mod undecided;
mod walk;
mod whole;

use std::net::Ipv4Addr;

use bytes::BytesMut;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{
    attributes::AttributeSets,
    blocks::{Blocks, NONE},
    hints::OpenHints,
    index::RouteIndex,
    memory::{MemoryMeter, MeteredBytes},
    nlri::{LongNlris, Nlri},
};
use crate::wire::{
    bgp::{self, Family, Form, Reading},
    bmp::{PeerHeader, RibView},
};

use filtered::FilteredRoutes;
pub(super) use filtered::RibJudge;
use group::RouteGroup;
pub(super) use group::{GroupKey, HeaderVariant, ReceiveTime};
use key::{Probe, with_meaningful_bits};
use undecided::UndecidedReading;
pub(super) use walk::{MetGroup, WalkMark};
use whole::WholeFields;

/// A route, or a withdrawal that a station may still need, or a [`WalkMark`]. Has 44 bytes.
#[derive(Clone, Copy, Debug)]
struct RibRoute {
    nlri: Nlri,
    /// `NONE` for a [`WalkMark`], and for a place that is free.
    group: u32,
    before: u32,
    after: u32,
    before_in_group: u32,
    after_in_group: u32,
    /// The sequence number after the last change, in two parts: so a route has no padding. The
    /// upper part has two flags.
    changed: [u32; 2],
}

/// The input of the route went away, and the route has not been repeated since. No feed reaches
/// 2^62 frames.
const STALE: u32 = 1 << 31;
/// The entry is a whole field.
const WHOLE: u32 = 1 << 30;

impl Default for RibRoute {
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

impl RibRoute {
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

/// An End-of-RIB marker. The input sent it, or was quiet long enough: see
/// [`super::Input::end_quiet_ribs`].
#[derive(Clone, Copy, Debug)]
pub(super) struct EndOfRib {
    pub(super) changed: u64,
    pub(super) time: ReceiveTime,
    pub(super) variant: HeaderVariant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rib {
    pub(super) view: RibView,
    pub(super) family: Family,
    pub(super) form: Form,
    pub(super) path_ids: bool,
    /// The per-peer header of the first frame. Type, distinguisher and address hold for all frames;
    /// each group has the rest of its own.
    pub(super) header: PeerHeader,
    /// AS and BGP identifier of further per-peer headers. A router may leave them out, or learn
    /// them later.
    names: Vec<(u32, Ipv4Addr)>,
    pub(super) end_of_rib: Option<EndOfRib>,
    /// How many frames had been applied after the last frame about this RIB; zero without a frame.
    pub(super) last_frame: u64,
    /// Sequence number after the newest withdrawal that is forgotten.
    pub(super) forgotten: u64,
    /// Sequence number after the last frame with a whole field; zero without one.
    pub(super) last_whole: u64,
    /// How often whole fields were read while a pass was under way.
    pub(super) conversions: u32,
    /// Fields that were dropped although a late station needs them.
    pub(super) not_kept: u64,
    /// How many of these have been counted.
    counted: u64,
    routes: Blocks<RibRoute>,
    index: RouteIndex,
    long: LongNlris,
    groups: Blocks<RouteGroup>,
    groups_index: HashTable<u32>,
    groups_index_memory: MeteredBytes,
    /// Memory of the RIB itself, and of what it keeps about whole fields.
    own_memory: MeteredBytes,
    /// Bytes of the attribute sets that the RIB pays for: see [`AttributeSets::charge`].
    set_bytes: usize,
    /// The group that got the last route, or `NONE`.
    latest: u32,
    first: u32,
    last: u32,
    /// The longest message of the peer, in bytes (RFC 8654).
    max_message: usize,
    announced: usize,
    marks: usize,
    stale: usize,
    /// The fields that are kept whole; `None` if there are none.
    whole: Option<Box<WholeFields>>,
    /// `None` once the feed knows how to read NLRI, and for a family of unknown form.
    undecided: Option<Box<UndecidedReading>>,
    /// What the filters of sessions decide about the routes.
    filtered: Vec<FilteredRoutes>,
    filtered_memory: MeteredBytes,
    /// Every station that filters the routes knows what changed up to here.
    known_to_all: u64,
    /// Sequence number after the frame that made the RIB read its whole fields.
    pub(super) converted_at: u64,
    hasher: RandomState,
}

/// What became of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteChange {
    /// It is as it was, except for its time.
    Unchanged,
    /// It is new, or differs.
    Changed,
    /// It is gone. Its withdrawal is kept under this number.
    Withdrawn(u32),
}

/// Bytes that a kept withdrawal takes: the route, its place in the index, and its place in the
/// queue.
const TOMBSTONE: usize = size_of::<RibRoute>() + 8 + 24;
/// How many routes are looked up at once.
const TOGETHER: usize = 16;

impl Rib {
    /// A RIB without routes. `opens` is what the OPENs say about it, `announced` whether there are
    /// any. `meter` counts the memory of the RIB.
    pub(super) fn new(
        view: RibView,
        family: Family,
        opens: OpenHints,
        announced: bool,
        header: PeerHeader,
        hasher: RandomState,
        meter: &MemoryMeter,
    ) -> Self {
        let Reading { form, path_ids } = Reading::of(family, opens.path_ids, opens.stack);
        let mut rib = Self {
            view,
            family,
            form,
            path_ids,
            header,
            names: Vec::new(),
            end_of_rib: None,
            last_frame: 0,
            forgotten: 0,
            last_whole: 0,
            conversions: 0,
            not_kept: 0,
            counted: 0,
            routes: Blocks::new(meter),
            index: RouteIndex::new(meter),
            long: LongNlris::new(meter),
            groups: Blocks::new(meter),
            groups_index: HashTable::new(),
            groups_index_memory: MeteredBytes::new(meter),
            own_memory: MeteredBytes::new(meter),
            set_bytes: 0,
            latest: NONE,
            first: NONE,
            last: NONE,
            max_message: opens.max_message,
            announced: 0,
            marks: 0,
            stale: 0,
            whole: None,
            undecided: UndecidedReading::new(Reading { form, path_ids }, announced).map(Box::new),
            filtered: Vec::new(),
            filtered_memory: MeteredBytes::new(meter),
            known_to_all: 0,
            converted_at: 0,
            hasher,
        };
        rib.count_own();
        rib
    }

    /// Counts the memory of the RIB itself.
    fn count_own(&mut self) {
        let whole = self.whole.as_ref().map_or(0, |whole| whole.own_memory());
        self.own_memory.set(size_of::<Self>() + size_of_val(self.names.as_slice()) + whole);
    }

    /// What the RIB keeps of a per-peer header. Beyond 255 pairs of AS and BGP identifier, it takes
    /// further pairs for the first.
    #[inline]
    pub(super) fn header_variant(&mut self, header: &PeerHeader) -> HeaderVariant {
        let name = (header.asn, header.bgp_id);
        let is_first = name == (self.header.asn, self.header.bgp_id);
        HeaderVariant { flags: header.flags, name: if is_first { 0 } else { self.number_of(name) } }
    }

    #[cold]
    fn number_of(&mut self, name: (u32, Ipv4Addr)) -> u8 {
        let known = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        let number = u8::try_from(known + 1).unwrap_or_else(|_| {
            self.names.truncate(u8::MAX.into());
            0
        });
        self.count_own();
        number
    }

    /// Gives all routes the AS and BGP identifier of this header, because another peer looks the
    /// same. Returns true if a per-peer header changes.
    pub(super) fn rename_all(&mut self, PeerHeader { asn, bgp_id, .. }: PeerHeader) -> bool {
        let name = (asn, bgp_id);
        let is_other = (self.header.asn, self.header.bgp_id) != name || self.names.iter().any(|known| *known != name);
        (self.header.asn, self.header.bgp_id) = name;
        self.names.iter_mut().for_each(|known| *known = name);
        is_other
    }

    /// The per-peer header of a message.
    #[inline]
    pub(super) fn header_of(&self, time: ReceiveTime, variant: HeaderVariant) -> PeerHeader {
        let ReceiveTime { seconds, microseconds } = time;
        let header = PeerHeader { flags: variant.flags, seconds, microseconds, ..self.header };
        match self.names.get(usize::from(variant.name).wrapping_sub(1)) {
            Some((asn, bgp_id)) => PeerHeader { asn: *asn, bgp_id: *bgp_id, ..header },
            None => header,
        }
    }

    /// True if a frame was about this RIB. A RIB whose table ended keeps its place and is not in
    /// use.
    pub(super) fn is_in_use(&self) -> bool {
        self.last_frame > 0
    }

    /// True if the peer has said End-of-RIB, and each of its routes can be told from the others.
    /// Then the number of routes is what the router had.
    pub(super) fn is_whole_table(&self) -> bool {
        let is_split = self.whole.is_none() && (self.is_decided() || self.entries() == 0);
        self.end_of_rib.is_some() && is_split && self.not_kept == 0 && self.stale == 0
    }

    /// How many fields were dropped since the last call although a late station needs them.
    pub(super) fn newly_not_kept(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.counted, self.not_kept);
        self.not_kept - before
    }

    /// Notes a withdrawal of a route that is not there.
    ///
    /// If fields were dropped, a station may have the route from one of these. A station that does
    /// not read the withdrawal in the journal has to be told the peer anew.
    #[inline]
    fn note_unknown_withdrawal(&mut self, changed: u64) {
        if self.not_kept > 0 {
            self.forgotten = self.forgotten.max(changed);
        }
    }

    /// Memory of routes and of the RIB itself, in bytes.
    pub(super) fn route_memory(&self) -> usize {
        self.routes.memory()
            + self.long.memory()
            + self.index.memory()
            + self.own_memory.get()
            + self.filtered_memory.get()
    }

    /// Memory of groups, in bytes.
    pub(super) fn group_memory(&self) -> usize {
        self.groups.memory() + self.groups_index_memory.get()
    }

    /// Memory that would be free without the RIB, in bytes: its own, and that of the attribute sets
    /// that it brought.
    pub(super) fn charged_memory(&self) -> usize {
        self.route_memory() + self.group_memory() + self.set_bytes
    }

    /// The memory of the RIB and of the attribute sets that it pays for, both looked up.
    #[cfg(test)]
    pub(super) fn walked_memory(&self, attributes: &AttributeSets) -> (usize, usize) {
        let (mut routes, mut sets, mut at) = (Vec::new(), 0, self.first);
        while at != NONE {
            let route = self.routes.get(at);
            if route.group != NONE {
                routes.push(&route.nlri);
                let group = self.groups.get(route.group);
                if group.pays && route.before_in_group == NONE {
                    sets += attributes.cost(group.key.attributes);
                }
            }
            at = route.after;
        }
        let own = size_of::<Self>() + size_of_val(self.names.as_slice());
        let whole = self.whole.as_ref().map_or(0, |whole| whole.own_memory());
        let tables = self.routes.walked_memory() + self.groups.walked_memory() + self.index.walked_memory();
        let index = self.groups_index.allocation_size();
        let filtered = self.walked_filtered();
        (own + whole + tables + index + filtered + self.long.walked_memory(routes.into_iter()), sets)
    }

    /// Announces routes whose NLRI are well formed. `attributes` are the sets of the whole feed.
    ///
    /// `repeats` is true if the peer repeats what it said before its input went away. An unchanged
    /// route keeps its time then, and its frame does not pass. Calls `note` for each route.
    pub(super) fn announce(
        &mut self,
        items: &[u8],
        key: GroupKey,
        changed: u64,
        repeats: bool,
        attributes: &mut AttributeSets,
        mut note: impl FnMut(RouteChange),
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
                note(self.announce_one(&probe, key, changed, repeats, attributes));
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
        key: GroupKey,
        changed: u64,
        repeats: bool,
        attributes: &mut AttributeSets,
    ) -> RouteChange {
        with_meaningful_bits(self.form, self.path_ids, probe.item, |item| {
            let meant = if std::ptr::eq(item, probe.item) { *probe } else { self.probe(item) };
            let Some(number) = self.find(meant.hash, &meant.key) else {
                self.make_room();
                let nlri = self.long.insert(item);
                let number = self.routes.insert(RibRoute { nlri, ..RibRoute::default() });
                self.index.insert(meant.hash, number);
                self.put(number, key, changed, attributes);
                self.announced += 1;
                return RouteChange::Changed;
            };
            let GroupKey { attributes: before, variant, .. } = self.groups.get(self.routes.get(number).group).key;
            let same = (before, variant) == (key.attributes, key.variant)
                && self.long.get(&self.routes.get(number).nlri) == item;
            if self.routes.get(number).is_stale() {
                self.stale -= 1;
                self.routes.get_mut(number).changed[0] &= !STALE;
            }
            // A whole field may have said something about the route in between.
            if same && repeats && self.whole.is_none() {
                return RouteChange::Unchanged;
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
            self.put(number, key, changed, attributes);
            if same { RouteChange::Unchanged } else { RouteChange::Changed }
        })
    }

    /// Withdraws a route. Does nothing if there is no such route.
    pub(super) fn withdraw(
        &mut self,
        item: &[u8],
        time: ReceiveTime,
        variant: HeaderVariant,
        changed: u64,
        attributes: &mut AttributeSets,
    ) -> RouteChange {
        if self.whole.is_some() {
            return RouteChange::Withdrawn(self.withdraw_beside_whole(item, time, variant, changed, attributes));
        }
        let relabeled = bgp::with_withdrawn_label(self.form, self.path_ids, item);
        with_meaningful_bits(self.form, self.path_ids, relabeled.as_deref().unwrap_or(item), |item| {
            let Probe { key, hash, .. } = self.probe(item);
            let Some(number) = self.find(hash, &key) else {
                self.note_unknown_withdrawal(changed);
                return RouteChange::Unchanged;
            };
            self.withdraw_number(number, time, variant, changed, attributes)
        })
    }

    fn withdraw_number(
        &mut self,
        number: u32,
        time: ReceiveTime,
        variant: HeaderVariant,
        changed: u64,
        attributes: &mut AttributeSets,
    ) -> RouteChange {
        let route = self.routes.get(number);
        if self.groups.get(route.group).key.attributes == NONE {
            return RouteChange::Unchanged;
        }
        let whole = route.is_whole();
        self.stale -= usize::from(route.is_stale());
        if whole {
            self.forget_announcement(number);
        } else {
            self.announced -= 1;
        }
        self.take_out(number, attributes);
        self.put(number, GroupKey { whole, ..GroupKey::withdrawn(time, variant) }, changed, attributes);
        RouteChange::Withdrawn(number)
    }

    /// Gives the attribute sets back. The RIB must not be used after that.
    pub(super) fn release(&mut self, attributes: &mut AttributeSets) {
        let mut at = self.first;
        while at != NONE {
            let route = *self.routes.get(at);
            if route.group != NONE && route.before_in_group == NONE {
                let RouteGroup { key, pays, .. } = *self.groups.get(route.group);
                if pays {
                    attributes.refund(key.attributes);
                }
                if key.attributes != NONE {
                    attributes.release(key.attributes);
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

    /// The NLRI of a route, by its number.
    pub(super) fn nlri(&self, number: u32) -> &[u8] {
        self.long.get(&self.routes.get(number).nlri)
    }
}
