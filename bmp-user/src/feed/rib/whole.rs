//! Fields of UPDATEs that are kept whole, because their NLRI cannot be told apart.
//!
//! These are the fields of a family of unknown form, the fields of an [undecided](super::undecided)
//! RIB, and in any other RIB the fields that do not come out even.
//!
//! A field is one entry of the RIB. It is found by all of its bytes, is alone in its group, and
//! leaves as it came. Only its reader knows which routes it names, so two fields may name the same
//! route and the order of entries counts. A station is told the last message with each field, in
//! the order of these messages. So it ends with the same routes as a station that was told all
//! messages: the last message about a route is among them, and no later one names the route.
//!
//! A withdrawal therefore stays while an older entry is announced, even if no follower needs it:
//! both may name the same routes. It goes when it is the first entry of the list.
//!
//! The fields of a RIB are kept within [`MOST_BYTES`]. Beyond that, the oldest entries go and are
//! counted in [`Rib::not_kept`]. A late station is not told these, nor any route that is gone. A
//! station that was told a dropped field has to be told the peer anew, unless it reads the
//! withdrawal in the journal. The feed does not hold a peer with dropped fields: nobody could
//! withdraw them.

use std::{
    collections::{BTreeSet, VecDeque},
    hash::BuildHasher as _,
};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{
    super::{attributes::AttributeSets, blocks::NONE},
    GroupKey, HeaderVariant, ReceiveTime, Rib, RibRoute, RouteChange, RouteGroup, TOMBSTONE,
    key::Probe,
    with_meaningful_bits,
};
use crate::wire::bgp;

/// Bytes that the whole fields of one RIB may take.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The whole fields of a RIB.
#[derive(Debug, Default)]
pub(super) struct WholeFields {
    /// The announced fields: when they changed, and their numbers.
    announced: BTreeSet<(u64, u32)>,
    /// The number of fields, withdrawals included.
    pub(super) entries: usize,
    /// Bytes of all fields.
    pub(super) bytes: usize,
    /// Withdrawals of any kind that stay only because of older entries. The oldest first. Some may
    /// be gone by now.
    pub(super) standing: VecDeque<StandingWithdrawal>,
}

/// A withdrawal that no follower needs, and that stays because of older entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct StandingWithdrawal {
    pub(super) changed: u64,
    /// The number of the entry.
    pub(super) number: u32,
}

impl WholeFields {
    /// Memory, in bytes.
    fn memory(&self) -> usize {
        self.bytes + (self.entries + self.standing.len()) * TOMBSTONE
    }

    /// Memory beside that of the entries, in bytes. A set of a tree takes half as much again.
    pub(super) fn own_memory(&self) -> usize {
        size_of::<Self>()
            + self.announced.len() * size_of::<(u64, u32)>() * 3 / 2
            + self.standing.len() * size_of::<StandingWithdrawal>()
    }
}

/// The hash of a field.
pub(super) fn hash(field: &[u8], hasher: &RandomState) -> u64 {
    hasher.hash_one((field, true))
}

impl Rib {
    /// True if there are whole fields. Then a station that knows nothing needs withdrawals too.
    pub(in crate::feed) fn has_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// True if there are whole fields, or the next frame may bring one that is no exception.
    pub(in crate::feed) fn may_have_whole(&self) -> bool {
        self.has_whole() || !self.is_decided()
    }

    /// True if an entry is a whole field.
    pub(in crate::feed) fn is_whole(&self, number: u32) -> bool {
        self.routes.get(number).is_whole()
    }

    /// Bytes that a kept withdrawal takes.
    pub(in crate::feed) fn withdrawal_bytes(&self, number: u32) -> usize {
        let route = self.routes.get(number);
        TOMBSTONE + if route.is_whole() { self.long.get(&route.nlri).len() } else { 0 }
    }

    /// The number of announced fields.
    pub(super) fn announced_whole(&self) -> usize {
        self.whole.as_ref().map_or(0, |whole| whole.announced.len())
    }

    /// Announces a field.
    pub(in crate::feed) fn announce_whole(
        &mut self,
        field: &[u8],
        key: GroupKey,
        changed: u64,
        attributes: &mut AttributeSets,
    ) {
        self.last_whole = changed;
        let number = self.entry_of(field, attributes);
        self.put(number, GroupKey { whole: true, ..key }, changed, attributes);
        if let Some(whole) = &mut self.whole {
            whole.announced.insert((changed, number));
        }
        self.settle(attributes);
    }

    /// Withdraws a field. Does nothing if the RIB announces nothing.
    pub(in crate::feed) fn withdraw_whole(
        &mut self,
        field: &[u8],
        time: ReceiveTime,
        variant: HeaderVariant,
        changed: u64,
        attributes: &mut AttributeSets,
    ) -> RouteChange {
        if self.announced == 0 && self.announced_whole() == 0 {
            self.note_unknown_withdrawal(changed);
            return RouteChange::Unchanged;
        }
        self.last_whole = changed;
        let number = self.entry_of(field, attributes);
        self.put(number, GroupKey { whole: true, ..GroupKey::withdrawn(time, variant) }, changed, attributes);
        self.settle(attributes);
        RouteChange::Withdrawn(number)
    }

    /// The number of the entry of a field, which is in no list.
    fn entry_of(&mut self, field: &[u8], attributes: &mut AttributeSets) -> u32 {
        let hash = hash(field, &self.hasher);
        let found = self.index.find(hash, |number| {
            let route = self.routes.get(number);
            route.is_whole() && self.long.get(&route.nlri) == field
        });
        if let Some(number) = found {
            self.forget_announcement(number);
            self.stale -= usize::from(self.routes.get(number).is_stale());
            self.take_out(number, attributes);
            return number;
        }
        self.make_room();
        let nlri = self.long.insert_apart(field);
        let number = self.routes.insert(RibRoute { nlri, ..RibRoute::default() });
        self.index.insert(hash, number);
        let whole = self.whole.get_or_insert_default();
        whole.entries += 1;
        whole.bytes += field.len();
        number
    }

    /// Takes a field out of the announced ones.
    pub(super) fn forget_announcement(&mut self, number: u32) {
        let changed = self.routes.get(number).changed();
        if let Some(whole) = &mut self.whole {
            whole.announced.remove(&(changed, number));
            self.count_own();
        }
    }

    /// Withdraws a route beside whole fields, one of which may name it: whether the route is there
    /// or not. Returns the number of the withdrawal.
    pub(super) fn withdraw_beside_whole(
        &mut self,
        item: &[u8],
        time: ReceiveTime,
        variant: HeaderVariant,
        changed: u64,
        attributes: &mut AttributeSets,
    ) -> u32 {
        let relabeled = bgp::with_withdrawn_label(self.form, self.path_ids, item);
        let withdrawn = GroupKey::withdrawn(time, variant);
        let number = with_meaningful_bits(self.form, self.path_ids, relabeled.as_deref().unwrap_or(item), |item| {
            let Probe { key, hash, .. } = self.probe(item);
            let Some(number) = self.find(hash, &key) else {
                self.make_room();
                let nlri = self.long.insert(item);
                let number = self.routes.insert(RibRoute { nlri, ..RibRoute::default() });
                self.index.insert(hash, number);
                return number;
            };
            let route = self.routes.get(number);
            self.announced -= usize::from(self.groups.get(route.group).key.attributes != NONE);
            self.stale -= usize::from(route.is_stale());
            self.take_out(number, attributes);
            number
        });
        self.put(number, withdrawn, changed, attributes);
        self.settle(attributes);
        number
    }

    /// Makes a group for one field, which no other entry joins. Entries that change later come
    /// after the field, so they join no older group either.
    pub(super) fn group_of_one(&mut self, key: GroupKey, attributes: &mut AttributeSets) -> u32 {
        self.latest = NONE;
        self.groups_index = HashTable::new();
        self.count_groups_index();
        let pays = self.retain_set(key, attributes);
        self.groups.insert(RouteGroup { key, pays, ..RouteGroup::default() })
    }

    /// True if a withdrawal says something to a station that is told all older entries.
    pub(super) fn has_to_stay(&self, number: u32, changed: u64) -> bool {
        if !self.routes.get(number).is_whole() {
            let oldest = self.whole.as_ref().and_then(|whole| whole.announced.first());
            return oldest.is_some_and(|(oldest, _)| *oldest < changed);
        }
        let mut at = self.first;
        while at != NONE && at != number {
            let route = self.routes.get(at);
            if route.group != NONE && self.groups.get(route.group).key.attributes != NONE {
                return true;
            }
            at = route.after;
        }
        false
    }

    /// Keeps a withdrawal that no follower needs.
    pub(super) fn keep_standing(&mut self, number: u32, changed: u64, attributes: &mut AttributeSets) {
        if let Some(whole) = &mut self.whole {
            whole.standing.push_back(StandingWithdrawal { changed, number });
        }
        self.settle(attributes);
    }

    /// Forgets the withdrawals that are of no use any more. Drops the oldest entries if the fields
    /// take too much memory.
    pub(super) fn settle(&mut self, attributes: &mut AttributeSets) {
        self.forget_useless(attributes);
        self.count_own();
    }

    fn forget_useless(&mut self, attributes: &mut AttributeSets) {
        while let Some(whole) = &mut self.whole {
            let front = whole.standing.front().copied();
            if let Some(StandingWithdrawal { changed, number }) = front {
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
                (Some((announced, number)), None) => self.drop_announcement(announced, number, attributes),
                (Some((announced, number)), Some(standing)) if announced < standing.changed => {
                    self.drop_announcement(announced, number, attributes);
                }
                (_, Some(StandingWithdrawal { changed, number })) => {
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

    /// Drops an announced field, for which there is no room.
    fn drop_announcement(&mut self, changed: u64, number: u32, attributes: &mut AttributeSets) {
        self.not_kept += 1;
        if let Some(whole) = &mut self.whole {
            whole.announced.remove(&(changed, number));
        }
        self.stale -= usize::from(self.routes.get(number).is_stale());
        self.remove(number, attributes);
    }
}
