//! Fields of UPDATEs that are kept whole, because the NLRI in them cannot be told apart: those of a family whose form is not known, of a RIB that is
//! [undecided](super::undecided), and in any other RIB those that do not come out even.
//!
//! A field is one entry of the RIB, found by all of its bytes, and alone in its group: it leaves as it came. Which routes it names is for
//! whoever reads it to say. Hence the order of entries counts: a field may say of a route what a later one says otherwise. Whoever is told the
//! last of what was said with each field, in the order in which that was said, ends with the same routes as one who was told all: the last that
//! was said of a route is among it, and nothing behind it names the route.
//!
//! So a withdrawal stays even if nobody waits for it and nothing equal was announced, while an entry that is older is announced: it may name the
//! same routes. When the list begins with it, it is of no use. All that is whole in a RIB is kept within [`MOST_BYTES`]: beyond, the oldest entries go, which are
//! counted. A station that comes later is not told of these, but of nothing either that is not there any more. Neither is one that was told of them before and has to be told by the
//! state what takes them back: it begins anew ([`Rib::not_kept`]). A peer of which something is not kept is not held when its input goes away, because nobody could withdraw it then.

use std::{
    collections::{BTreeSet, VecDeque},
    hash::BuildHasher as _,
};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{
    super::{attributes::Attributes, blocks::NONE},
    Common, Head, Outcome, Probe, Rib, Route, TOMBSTONE, Time, with_meaning,
};
use crate::wire::bgp;

/// What fields that are kept whole may take in one RIB, in bytes.
pub(in crate::feed) const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The fields of a RIB that are kept whole.
#[derive(Debug, Default)]
pub(super) struct Wholes {
    /// Those that are announced: when they changed, and their numbers.
    announced: BTreeSet<(u64, u32)>,
    /// How many there are, withdrawals too.
    pub(super) entries: usize,
    /// Bytes of all of them.
    pub(super) bytes: usize,
    /// Withdrawals, of any kind, that stay only because of what is older; the oldest first. Some may be no more.
    pub(super) standing: VecDeque<(u64, u32)>,
}

impl Wholes {
    /// Memory, in bytes.
    fn memory(&self) -> usize {
        self.bytes + (self.entries + self.standing.len()) * TOMBSTONE
    }
}

/// The hash of a field.
pub(super) fn hash(field: &[u8], hasher: &RandomState) -> u64 {
    hasher.hash_one((field, true))
}

impl Rib {
    /// Whether there are fields that are kept whole. Then withdrawals matter to who knows nothing as well.
    pub(in crate::feed) fn has_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Whether an entry is a field that is kept whole.
    pub(in crate::feed) fn is_whole(&self, number: u32) -> bool {
        self.routes.get(number).is_whole()
    }

    /// What a withdrawal takes that is kept, in bytes.
    pub(in crate::feed) fn withdrawal_bytes(&self, number: u32) -> usize {
        let route = self.routes.get(number);
        TOMBSTONE + if route.is_whole() { self.long.get(&route.nlri).len() } else { 0 }
    }

    /// How many fields are announced.
    pub(super) fn announced_whole(&self) -> usize {
        self.whole.as_ref().map_or(0, |whole| whole.announced.len())
    }

    /// A field is announced.
    pub(in crate::feed) fn announce_whole(
        &mut self,
        field: &[u8],
        common: Common,
        changed: u64,
        attributes: &mut Attributes,
    ) {
        let number = self.entry_of(field, attributes);
        self.put(number, Common { whole: true, ..common }, changed, attributes);
        if let Some(whole) = &mut self.whole {
            whole.announced.insert((changed, number));
        }
        self.settle(attributes);
    }

    /// A field is withdrawn. Where nothing is announced there is nothing to withdraw.
    pub(in crate::feed) fn withdraw_whole(
        &mut self,
        field: &[u8],
        time: Time,
        head: Head,
        changed: u64,
        attributes: &mut Attributes,
    ) -> Outcome {
        if self.announced == 0 && self.announced_whole() == 0 {
            self.withdraws_unknown(changed);
            return Outcome::Same;
        }
        let number = self.entry_of(field, attributes);
        self.put(number, Common { whole: true, ..Common::withdrawn(time, head) }, changed, attributes);
        self.settle(attributes);
        Outcome::Withdrawn(number)
    }

    /// The entry of a field, in no list.
    fn entry_of(&mut self, field: &[u8], attributes: &mut Attributes) -> u32 {
        let hash = hash(field, &self.hasher);
        let found = self.index.find(hash, |number| {
            let route = self.routes.get(number);
            route.is_whole() && self.long.get(&route.nlri) == field
        });
        if let Some(number) = found {
            self.is_not_announced(number);
            self.stale -= usize::from(self.routes.get(number).is_stale());
            self.take_out(number, attributes);
            return number;
        }
        self.make_room();
        let nlri = self.long.insert_apart(field);
        let number = self.routes.insert(Route { nlri, ..Route::default() });
        self.index.insert(hash, number);
        let whole = self.whole.get_or_insert_default();
        whole.entries += 1;
        whole.bytes += field.len();
        number
    }

    /// A field is announced no more, or again.
    pub(super) fn is_not_announced(&mut self, number: u32) {
        let changed = self.routes.get(number).changed();
        if let Some(whole) = &mut self.whole {
            whole.announced.remove(&(changed, number));
        }
    }

    /// An NLRI is withdrawn beside fields that are kept whole, one of which may name it: whether it is there or not. The number of the withdrawal.
    pub(super) fn withdraw_all_the_same(
        &mut self,
        item: &[u8],
        time: Time,
        head: Head,
        changed: u64,
        attributes: &mut Attributes,
    ) -> u32 {
        let relabeled = bgp::with_withdrawn_label(self.form, self.path_ids, item);
        let common = Common::withdrawn(time, head);
        let number = with_meaning(self.form, self.path_ids, relabeled.as_deref().unwrap_or(item), |item| {
            let Probe { key, hash, .. } = self.probe(item);
            let Some(number) = self.find(hash, &key) else {
                self.make_room();
                let nlri = self.long.insert(item);
                let number = self.routes.insert(Route { nlri, ..Route::default() });
                self.index.insert(hash, number);
                return number;
            };
            let route = self.routes.get(number);
            self.announced -= usize::from(self.groups.get(route.group).common.attributes != NONE);
            self.stale -= usize::from(route.is_stale());
            self.take_out(number, attributes);
            number
        });
        self.put(number, common, changed, attributes);
        self.settle(attributes);
        number
    }

    /// A group for a field: it is alone in it, and no other looks for it. What changes later is told after the field, so it joins
    /// no group that is older.
    pub(super) fn group_of_one(&mut self, common: Common, attributes: &mut Attributes) -> u32 {
        self.latest = NONE;
        self.groups_index = HashTable::new();
        if common.attributes != NONE {
            attributes.retain(common.attributes);
        }
        self.groups.insert(super::Group { common, ..super::Group::default() })
    }

    /// Whether a withdrawal says something to a station that is told all that is older.
    pub(super) fn has_to_stay(&self, number: u32, changed: u64) -> bool {
        if !self.routes.get(number).is_whole() {
            let oldest = self.whole.as_ref().and_then(|whole| whole.announced.first());
            return oldest.is_some_and(|(oldest, _)| *oldest < changed);
        }
        let mut at = self.first;
        while at != NONE && at != number {
            let route = self.routes.get(at);
            if route.group != NONE && self.groups.get(route.group).common.attributes != NONE {
                return true;
            }
            at = route.after;
        }
        false
    }

    /// Keeps a withdrawal that no station waits for.
    pub(super) fn keep_standing(&mut self, number: u32, changed: u64, attributes: &mut Attributes) {
        if let Some(whole) = &mut self.whole {
            whole.standing.push_back((changed, number));
        }
        self.settle(attributes);
    }

    /// Forgets the withdrawals that are of no use any more, and the oldest entries if they are too many.
    pub(super) fn settle(&mut self, attributes: &mut Attributes) {
        while let Some(whole) = &mut self.whole {
            let front = whole.standing.front().copied();
            if let Some((changed, number)) = front {
                let is_there = self.is_withdrawal_of(number, changed);
                if !is_there || !self.has_to_stay(number, changed) {
                    self.pop_standing();
                    if is_there {
                        self.drop_withdrawal(number, changed, attributes);
                    }
                    continue;
                }
            }
            let Some(whole) = &self.whole else { return };
            if whole.entries == 0 {
                self.whole = None;
                return;
            }
            if whole.memory() <= MOST_BYTES {
                return;
            }
            let oldest = whole.announced.first().copied();
            match (oldest, front) {
                (Some((announced, number)), None) => self.overflow(announced, number, attributes),
                (Some((announced, number)), Some((changed, _))) if announced < changed => {
                    self.overflow(announced, number, attributes);
                }
                (_, Some((changed, number))) => {
                    self.not_kept += 1;
                    self.pop_standing();
                    self.drop_withdrawal(number, changed, attributes);
                }
                (None, None) => return,
            }
        }
    }

    fn pop_standing(&mut self) {
        if let Some(whole) = &mut self.whole {
            whole.standing.pop_front();
        }
    }

    /// Drops a field that is announced.
    fn overflow(&mut self, changed: u64, number: u32, attributes: &mut Attributes) {
        self.not_kept += 1;
        if let Some(whole) = &mut self.whole {
            whole.announced.remove(&(changed, number));
        }
        self.stale -= usize::from(self.routes.get(number).is_stale());
        self.remove(number, attributes);
    }
}
