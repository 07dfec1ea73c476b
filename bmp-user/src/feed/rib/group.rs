//! Groups of routes that leave in one UPDATE, and the lists that routes are in.

use std::hash::{BuildHasher as _, Hash, Hasher};

use super::{
    super::{attributes::AttributeSets, blocks::NONE},
    Rib, RibRoute, STALE, WHOLE,
};
use crate::wire::bgp::HEADER;

/// When a route was received, as its per-peer header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::feed) struct ReceiveTime {
    pub(in crate::feed) seconds: u32,
    pub(in crate::feed) microseconds: u32,
}

/// What may differ between the per-peer headers of one RIB, beside the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::feed) struct HeaderVariant {
    pub(in crate::feed) flags: u8,
    /// The number of the AS and BGP identifier: see [`Rib::header_variant`].
    pub(super) name: u8,
}

/// What routes share that leave in one UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::feed) struct GroupKey {
    /// The attribute set; `NONE` for withdrawn routes.
    pub(in crate::feed) attributes: u32,
    pub(in crate::feed) time: ReceiveTime,
    pub(in crate::feed) variant: HeaderVariant,
    /// Whether this is a whole field, which is alone in its group. See [`super::whole`].
    pub(in crate::feed) whole: bool,
}

impl GroupKey {
    /// The key of withdrawn routes.
    pub(super) fn withdrawn(time: ReceiveTime, variant: HeaderVariant) -> Self {
        Self { attributes: NONE, time, variant, whole: false }
    }
}

/// Hashes two words: every UPDATE needs this hash.
impl Hash for GroupKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            attributes,
            time: ReceiveTime { seconds, microseconds },
            variant: HeaderVariant { flags, name },
            whole,
        } = *self;
        state.write_u64(u64::from(attributes) << 32 | u64::from(seconds));
        let rest = u32::from_be_bytes([0, flags, name, whole.into()]);
        state.write_u64(u64::from(microseconds) << 32 | u64::from(rest));
    }
}

/// Routes that leave in one UPDATE.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteGroup {
    pub(super) key: GroupKey,
    pub(super) first: u32,
    pub(super) last: u32,
    /// Bytes of the NLRI in it, which fit into one message.
    pub(super) bytes: u16,
    /// Whether the RIB is charged for the attribute set because of this group.
    pub(super) pays: bool,
}

impl Default for RouteGroup {
    fn default() -> Self {
        let key = GroupKey::withdrawn(ReceiveTime::default(), HeaderVariant::default());
        Self { key, first: NONE, last: NONE, bytes: 0, pays: false }
    }
}

impl Rib {
    /// Puts a route at the end of the list of the RIB, and at the end of a group that has room.
    pub(super) fn put(&mut self, number: u32, key: GroupKey, changed: u64, attributes: &mut AttributeSets) {
        let bytes = self.long.get(&self.routes.get(number).nlri).len();
        let group = self.group_for(key, bytes, attributes);
        let last_in_group = self.groups.get(group).last;
        let before = self.last;
        let route = self.routes.get_mut(number);
        route.group = group;
        (route.before, route.after) = (before, NONE);
        (route.before_in_group, route.after_in_group) = (last_in_group, NONE);
        let whole = if key.whole { WHOLE } else { 0 };
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
        group.bytes += bytes as u16;
        self.note_change(number, changed);
    }

    fn group_for(&mut self, key: GroupKey, bytes: usize, attributes: &mut AttributeSets) -> u32 {
        if key.whole {
            return self.group_of_one(key, attributes);
        }
        // Routes come in runs.
        let latest = Some(self.latest).filter(|latest| *latest != NONE && self.groups.get(*latest).key == key);
        let mut hash = None;
        let mut hashed = || *hash.get_or_insert_with(|| self.hasher.hash_one(key));
        let found =
            latest.or_else(|| self.groups_index.find(hashed(), |group| self.groups.get(*group).key == key).copied());
        if let Some(group) = found {
            let set = if key.attributes == NONE { 0 } else { attributes.get(key.attributes).len() };
            if self.fits(set, usize::from(self.groups.get(group).bytes) + bytes) {
                self.latest = group;
                return group;
            }
        }
        let hash = hashed();
        let pays = self.retain_set(key, attributes);
        let Self { groups, groups_index, hasher, .. } = self;
        let group = groups.insert(RouteGroup { key, pays, ..RouteGroup::default() });
        self.latest = group;
        // A full group is left alone. The index leads to the group that has room.
        match groups_index.find_mut(hash, |other| Some(*other) == found) {
            Some(entry) => *entry = group,
            None => {
                groups_index.insert_unique(hash, group, |group| hasher.hash_one(groups.get(*group).key));
                self.count_groups_index();
            }
        }
        group
    }

    /// A new group uses its attribute set. Returns whether it pays for the set.
    pub(super) fn retain_set(&mut self, key: GroupKey, attributes: &mut AttributeSets) -> bool {
        if key.attributes == NONE {
            return false;
        }
        attributes.retain(key.attributes);
        let bytes = attributes.charge(key.attributes);
        self.set_bytes += bytes;
        bytes > 0
    }

    /// Counts the memory of the index of groups.
    pub(super) fn count_groups_index(&mut self) {
        let bytes = self.groups_index.allocation_size();
        if bytes != self.groups_index_memory.get() {
            self.groups_index_memory.set(bytes);
        }
    }

    /// True if this many bytes of attributes and of NLRI fit into one message. The message has two
    /// length fields, and the header of one more attribute in the worst case.
    pub(super) fn fits(&self, attributes: usize, nlri: usize) -> bool {
        HEADER + 4 + 7 + attributes + nlri <= self.max_message
    }

    /// Takes a route out of both lists. Removes a group that has no routes left.
    pub(super) fn take_out(&mut self, number: u32, attributes: &mut AttributeSets) {
        let route = *self.routes.get(number);
        self.unlink(&route);
        let bytes = self.long.get(&route.nlri).len() as u16;
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
        let RouteGroup { key, pays, .. } = *group;
        self.groups.remove(route.group);
        if pays {
            self.set_bytes -= attributes.refund(key.attributes);
        }
        if self.latest == route.group {
            self.latest = NONE;
        }
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.groups_index.find_entry(hash, |other| *other == route.group) {
            entry.remove();
        }
        if key.attributes != NONE {
            attributes.release(key.attributes);
        }
    }

    /// Takes a route out of the list of the RIB.
    pub(super) fn unlink(&mut self, route: &RibRoute) {
        match route.before {
            NONE => self.first = route.after,
            before => self.routes.get_mut(before).after = route.after,
        }
        match route.after {
            NONE => self.last = route.before,
            after => self.routes.get_mut(after).before = route.before,
        }
    }

    /// What a route shares with its group.
    pub(in crate::feed) fn group_key(&self, number: u32) -> GroupKey {
        self.groups.get(self.routes.get(number).group).key
    }
}
