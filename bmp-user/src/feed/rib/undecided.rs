//! A RIB of which nobody knows yet how its NLRI are to be read: see [`Reading`].
//!
//! It keeps the fields of UPDATEs [whole](super::whole) until one can be read in one way alone. Then they are read in that way, in their order and as of
//! when they came. If that takes too long, the OPENs decide.

use std::collections::HashSet;

use super::{
    super::{attributes::Attributes, blocks::NONE},
    Common, Rib, STALE,
};
use crate::wire::bgp::{Form, Identity, Reading, identity, nlri};

/// So many fields are kept before the OPENs decide.
const MOST_FIELDS: usize = 1024;
/// So many bytes of them are.
const MOST_BYTES: usize = 64 * 1024;

/// The ways in which all NLRI so far can be read.
#[derive(Debug)]
pub(super) struct Undecided {
    /// The likeliest first. Never empty.
    candidates: Vec<Reading>,
}

impl Undecided {
    /// `None` if NLRI of the family cannot be told apart in any way. `announced` is false for a peer without OPENs, of which nobody knows either whether it has
    /// stacks of labels.
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
    /// The OPENs say for certain how NLRI are read.
    pub(in crate::feed) fn trust(&mut self) {
        self.undecided = None;
    }

    /// How NLRI are read; if that is undecided, how they are most likely to be.
    #[inline]
    pub(in crate::feed) fn reading(&self) -> Reading {
        Reading { form: self.form, path_ids: self.path_ids }
    }

    /// Whether it is known how NLRI are read.
    #[inline]
    pub(in crate::feed) fn is_decided(&self) -> bool {
        self.undecided.is_none() && self.form != Form::Whole
    }

    /// Learns from a field of NLRI how those of the RIB are read. `likeliest` is what the OPENs say by now. Whether the field can be read, and the reading that
    /// is the right one if that is clear: then the RIB is to be [converted](Rib::convert).
    pub(in crate::feed) fn learn(
        &mut self,
        items: &[u8],
        withdrawn: bool,
        likeliest: Reading,
    ) -> (bool, Option<Reading>) {
        let full = self.whole.as_ref().is_some_and(|whole| whole.entries >= MOST_FIELDS || whole.bytes >= MOST_BYTES);
        let Some(Undecided { candidates }) = self.undecided.as_deref_mut() else { return (false, None) };
        let can_be_read = Reading::keep_best(candidates, items, withdrawn);
        candidates.sort_by_key(|reading| *reading != likeliest);
        let first = candidates.first().copied().unwrap_or(likeliest);
        (self.form, self.path_ids) = (first.form, first.path_ids);
        (can_be_read, (candidates.len() == 1 || full).then_some(first))
    }

    /// Reads in this way all that was kept whole. Gives the withdrawals among them: their numbers, and when they came.
    ///
    /// Passes may be under way. What is behind their marks stays behind them, and in no group with what is before.
    pub(in crate::feed) fn convert(&mut self, reading: Reading, attributes: &mut Attributes) -> Vec<(u32, u64)> {
        self.undecided = None;
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
            let common = self.groups.get(route.group).common;
            // Its set may be in use by nobody else in between.
            if common.attributes != NONE {
                attributes.retain(common.attributes);
            }
            self.convert_one(number, common, reading, attributes, &mut withdrawn);
            if common.attributes != NONE {
                attributes.release(common.attributes);
            }
        }
        for (changed, number) in standing {
            if self.whole.is_some() && self.is_withdrawal_of(number, changed) {
                self.keep_standing(number, changed, attributes);
            }
        }
        withdrawn
    }

    fn convert_one(
        &mut self,
        number: u32,
        common: Common,
        reading: Reading,
        attributes: &mut Attributes,
        withdrawn: &mut Vec<(u32, u64)>,
    ) {
        let route = *self.routes.get(number);
        let changed = route.changed();
        let is_withdrawn = common.attributes == NONE;
        let reading = if is_withdrawn { reading.withdrawn() } else { reading };
        let field = self.long.get(&route.nlri).to_vec();
        if !reading.is_even(&field) {
            self.take_out(number, attributes);
            self.put(number, common, changed, attributes);
            if route.is_stale() {
                self.routes.get_mut(number).changed[0] |= STALE;
            }
            return;
        }
        self.is_not_announced(number);
        self.stale -= usize::from(route.is_stale());
        self.remove(number, attributes);
        for item in nlri(reading.form, reading.path_ids, &field).flatten() {
            if is_withdrawn {
                let kept = self.withdraw_all_the_same(item, common.time, common.head, changed, attributes);
                withdrawn.push((kept, changed));
                continue;
            }
            let probe = self.probe(item);
            self.announce_one(&probe, Common { whole: false, ..common }, changed, false, attributes);
            if route.is_stale() {
                self.set_last_stale();
            }
        }
    }

    /// What was put into the list last was not heard of again since its input went away.
    fn set_last_stale(&mut self) {
        let route = self.routes.get_mut(self.last);
        self.stale += usize::from(!route.is_stale());
        route.changed[0] |= STALE;
    }

    /// How many routes are announced, as far as they can be told apart; a field that cannot be read is one.
    pub(in crate::feed) fn len(&self) -> usize {
        if self.is_decided() || self.form == Form::Whole || self.whole.is_none() {
            return self.announced + self.announced_whole();
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
            let is_withdrawn = self.groups.get(route.group).common.attributes == NONE;
            let reading = if is_withdrawn { reading.withdrawn() } else { reading };
            let names: Vec<Identity<'_>> = if reading.is_even(field) {
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
