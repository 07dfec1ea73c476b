//! A RIB whose NLRI nobody can read yet: see [`Reading`].
//!
//! It keeps the fields of UPDATEs [whole](super::whole) until one of them can be read in one way
//! alone. Then it reads all fields in that way, in their order and as of when they came. If that
//! takes too long, the OPENs decide.

use std::collections::HashSet;

use super::{
    super::{attributes::AttributeSets, blocks::NONE},
    GroupKey, Rib, STALE,
};
use crate::wire::bgp::{Form, NlriIdentity, Reading, identity, nlri};

/// The OPENs decide after this many fields,
const MOST_FIELDS: usize = 1024;
/// or after this many bytes of fields.
const MOST_BYTES: usize = 64 * 1024;

/// The ways in which all NLRI so far can be read.
#[derive(Debug)]
pub(super) struct UndecidedReading {
    /// The likeliest first. Never empty.
    candidates: Vec<Reading>,
}

/// What a field of NLRI taught a RIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::feed) struct LearnedReading {
    /// Whether the field can be read.
    pub(in crate::feed) can_be_read: bool,
    /// The right reading, if it is clear now. The RIB has to be [converted](Rib::convert) then.
    pub(in crate::feed) decided: Option<Reading>,
}

/// A withdrawal that [`Rib::convert`] found in a whole field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::feed) struct ConvertedWithdrawal {
    /// The number of the route.
    pub(in crate::feed) route: u32,
    /// Sequence number after the field.
    pub(in crate::feed) changed: u64,
}

impl UndecidedReading {
    /// `None` if NLRI of the family cannot be told apart in any way. `announced` is false for a
    /// peer without OPENs: it may have stacks of labels or not.
    pub(super) fn new(likeliest: Reading, announced: bool) -> Option<Self> {
        if likeliest.form == Form::Whole {
            return None;
        }
        let mut candidates = vec![likeliest, Reading { path_ids: !likeliest.path_ids, ..likeliest }];
        if let (Form::Labeled { stack, .. }, false) = (likeliest.form, announced) {
            let others: Vec<_> =
                candidates.iter().map(|one| Reading { form: one.form.with_stack(!stack), ..*one }).collect();
            candidates.extend(others);
        }
        Some(Self { candidates })
    }
}

impl Rib {
    /// The OPENs say for certain how to read NLRI.
    pub(in crate::feed) fn trust_opens(&mut self) {
        self.undecided = None;
    }

    /// How to read NLRI. If that is undecided, the likeliest way.
    #[inline]
    pub(in crate::feed) fn reading(&self) -> Reading {
        Reading { form: self.form, path_ids: self.path_ids }
    }

    /// True if it is known how to read NLRI.
    #[inline]
    pub(in crate::feed) fn is_decided(&self) -> bool {
        self.undecided.is_none() && self.form != Form::Whole
    }

    /// Learns from a field how to read the NLRI of the RIB. `likeliest` is what the OPENs say by
    /// now.
    pub(in crate::feed) fn learn(&mut self, items: &[u8], withdrawn: bool, likeliest: Reading) -> LearnedReading {
        let full = self.whole.as_ref().is_some_and(|whole| whole.entries >= MOST_FIELDS || whole.bytes >= MOST_BYTES);
        let Some(UndecidedReading { candidates }) = self.undecided.as_deref_mut() else {
            return LearnedReading { can_be_read: false, decided: None };
        };
        let can_be_read = Reading::keep_best(candidates, items, withdrawn);
        candidates.sort_by_key(|reading| *reading != likeliest);
        let first = candidates.first().copied().unwrap_or(likeliest);
        (self.form, self.path_ids) = (first.form, first.path_ids);
        LearnedReading { can_be_read, decided: (candidates.len() == 1 || full).then_some(first) }
    }

    /// Reads all whole fields in this way, at `changed`. Returns the withdrawals in them.
    ///
    /// Passes may be under way. Entries behind their marks stay behind them, and share no group
    /// with entries before them.
    pub(in crate::feed) fn convert(
        &mut self,
        reading: Reading,
        changed: u64,
        attributes: &mut AttributeSets,
    ) -> Vec<ConvertedWithdrawal> {
        self.undecided = None;
        self.converted_at = changed;
        (self.form, self.path_ids) = (reading.form, reading.path_ids);
        let mut order = Vec::new();
        let mut at = self.first;
        while at != NONE {
            order.push(at);
            at = self.routes.get(at).after;
        }
        self.conversions += u32::from(self.marks > 0);
        let standing = self.whole.as_mut().map(|whole| std::mem::take(&mut whole.standing)).unwrap_or_default();
        let mut withdrawn = Vec::new();
        for number in order {
            let route = *self.routes.get(number);
            if route.group == NONE {
                self.unlink(&route);
                self.link_mark(number, self.last, NONE);
                self.groups_index.clear();
                self.latest = NONE;
                continue;
            }
            let key = self.groups.get(route.group).key;
            // No other group may use the set while the entry is taken apart.
            if key.attributes != NONE {
                attributes.retain(key.attributes);
            }
            self.convert_one(number, key, reading, attributes, &mut withdrawn);
            if key.attributes != NONE {
                attributes.release(key.attributes);
            }
        }
        for standing in standing {
            if self.whole.is_some() && self.is_withdrawal_of(standing.number, standing.changed) {
                self.keep_standing(standing.number, standing.changed, attributes);
            }
        }
        self.count_own();
        withdrawn
    }

    fn convert_one(
        &mut self,
        number: u32,
        key: GroupKey,
        reading: Reading,
        attributes: &mut AttributeSets,
        withdrawn: &mut Vec<ConvertedWithdrawal>,
    ) {
        let route = *self.routes.get(number);
        let changed = route.changed();
        let is_withdrawn = key.attributes == NONE;
        let reading = if is_withdrawn { reading.withdrawn() } else { reading };
        let field = self.long.get(&route.nlri).to_vec();
        if !reading.is_even(&field) {
            self.take_out(number, attributes);
            self.put(number, key, changed, attributes);
            if route.is_stale() {
                self.routes.get_mut(number).changed[0] |= STALE;
            }
            return;
        }
        self.forget_announcement(number);
        self.stale -= usize::from(route.is_stale());
        self.remove(number, attributes);
        for item in nlri(reading.form, reading.path_ids, &field).flatten() {
            if is_withdrawn {
                let route = self.withdraw_beside_whole(item, key.time, key.variant, changed, attributes);
                withdrawn.push(ConvertedWithdrawal { route, changed });
                continue;
            }
            let probe = self.probe(item);
            self.announce_one(&probe, GroupKey { whole: false, ..key }, changed, false, attributes);
            if route.is_stale() {
                self.set_last_stale();
            }
        }
    }

    /// Marks the last entry of the list as stale.
    fn set_last_stale(&mut self) {
        let route = self.routes.get_mut(self.last);
        self.stale += usize::from(!route.is_stale());
        route.changed[0] |= STALE;
    }

    /// The number of announced routes, and of fields that are kept whole. Takes no time.
    pub(in crate::feed) fn entries(&self) -> usize {
        self.announced + self.announced_whole()
    }

    /// The number of announced routes, as far as they can be told apart. A field that cannot be
    /// read counts as one.
    pub(in crate::feed) fn len(&self) -> usize {
        if self.is_decided() || self.form == Form::Whole || self.whole.is_none() {
            return self.entries();
        }
        let (reading, mut known) = (self.reading(), HashSet::new());
        let mut at = self.first;
        while at != NONE {
            let route = self.routes.get(at);
            at = route.after;
            if route.group == NONE {
                continue;
            }
            let field = self.long.get(&route.nlri);
            let is_withdrawn = self.groups.get(route.group).key.attributes == NONE;
            let reading = if is_withdrawn { reading.withdrawn() } else { reading };
            let names: Vec<NlriIdentity<'_>> = if reading.is_even(field) {
                let items = nlri(reading.form, reading.path_ids, field).flatten();
                items.map(|item| identity(reading.form, reading.path_ids, item)).collect()
            } else {
                vec![identity(Form::Whole, false, field)]
            };
            for name in names {
                if is_withdrawn {
                    known.remove(&name)
                } else {
                    known.insert(name)
                };
            }
        }
        known.len()
    }
}
