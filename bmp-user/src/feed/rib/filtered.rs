//! What filters decide about the routes of a RIB, each decided once however many stations ask.
//!
//! Beside the decision, the RIB remembers until when a filter permitted a route before. So a walk
//! knows whether a station has a route that its filter denies now, and withdraws no other.
//!
//! A walk that meets a route late meets its latest change alone. So while a station may not know
//! yet that the route was denied, each further change counts as the one that ended it.
//!
//! A field that is kept [whole](super::whole) is judged by its family alone.

use std::sync::Weak;

use super::{
    super::{
        attributes::{AttributeSet, AttributeSets},
        blocks::NONE,
        route_filter::{RouteFilter, RuleSet},
        selection::RibFilters,
    },
    Rib,
};

/// The filter permits the route as it is now.
const PERMITTED: u64 = 1 << 63;
/// The filter denies it.
const DENIED: u64 = 1 << 62;
/// Sequence number after the frame that changed a route that the filter permitted before, or after
/// a later frame about it; zero if the filter never permitted it. No feed reaches 2^62 frames.
const UNTIL: u64 = DENIED - 1;

/// What one filter decides about the routes of a RIB.
#[derive(Debug)]
pub(super) struct FilteredRoutes {
    filter: Weak<RouteFilter>,
    rules: RuleSet,
    permits_whole: bool,
    /// By the number of the route: [`PERMITTED`] or [`DENIED`] once it was asked for, and
    /// [`UNTIL`].
    judgements: Vec<u64>,
}

/// Decides about the routes of a RIB by the filters of a station: see [`Rib::judge`].
#[derive(Debug)]
pub(in crate::feed) struct RibJudge {
    filters: RibFilters,
    /// The places of the filters among those of the RIB.
    places: Vec<usize>,
    /// For each filter, the rules whose conditions on the attributes of the group hold.
    rules: Vec<RuleSet>,
    /// Whether one of the filters permits whole fields.
    pub(in crate::feed) permits_whole: bool,
}

impl RibJudge {
    /// Goes on to the routes of another group.
    pub(in crate::feed) fn begin_group(&mut self, set: Option<&AttributeSet>, rib: &Rib) {
        self.rules.clear();
        for (filter, place) in self.filters.iter().zip(&self.places) {
            let rules = rib.filtered[*place].rules;
            self.rules.push(set.map_or(rules, |set| filter.judge_attributes(rules, set)));
        }
    }
}

impl Rib {
    /// True if a session filters the routes.
    pub(in crate::feed) fn is_filtered(&self) -> bool {
        !self.filtered.is_empty()
    }

    /// Makes what decides about routes by some filters.
    pub(in crate::feed) fn judge(&mut self, filters: &RibFilters) -> RibJudge {
        let places: Vec<_> = filters
            .iter()
            .map(|filter| {
                let is_same = |known: &FilteredRoutes| std::ptr::eq(known.filter.as_ptr(), &**filter);
                self.filtered.iter().position(is_same).unwrap_or_else(|| {
                    let rules = filter.rules_of(self.family);
                    let permits_whole = filter.permits_whole(rules);
                    let filter = std::sync::Arc::downgrade(filter);
                    self.filtered.push(FilteredRoutes { filter, rules, permits_whole, judgements: Vec::new() });
                    self.filtered.len() - 1
                })
            })
            .collect();
        self.count_filtered();
        let permits_whole = places.iter().any(|place| self.filtered[*place].permits_whole);
        RibJudge { filters: RibFilters::clone(filters), places, rules: Vec::new(), permits_whole }
    }

    /// True if a filter permits an announced route of the group that `judge` was told.
    pub(in crate::feed) fn is_permitted(&mut self, judge: &RibJudge, number: u32) -> bool {
        let numbers = self.routes.numbers() as usize;
        let mut is_permitted = false;
        let mut has_grown = false;
        for ((filter, place), rules) in judge.filters.iter().zip(&judge.places).zip(&judge.rules) {
            let Self { filtered, routes, long, family, form, path_ids, .. } = self;
            let known = &mut filtered[*place];
            if known.judgements.len() < numbers {
                known.judgements.resize(numbers, 0);
                has_grown = true;
            }
            let judgement = &mut known.judgements[number as usize];
            if *judgement & (PERMITTED | DENIED) == 0 {
                let route = routes.get(number);
                let permits = if route.is_whole() {
                    known.permits_whole
                } else {
                    filter.permits(*rules, *family, *form, *path_ids, long.get(&route.nlri))
                };
                *judgement |= if permits { PERMITTED } else { DENIED };
            }
            is_permitted |= *judgement & PERMITTED != 0;
        }
        if has_grown {
            self.count_filtered();
        }
        is_permitted
    }

    /// True if a station may have a former route of this number, which changed after `since`.
    pub(in crate::feed) fn was_permitted(&self, judge: &RibJudge, number: u32, since: u64) -> bool {
        judge.places.iter().any(|place| {
            let judgement = self.filtered[*place].judgements.get(number as usize);
            judgement.is_some_and(|judgement| judgement & UNTIL > since)
        })
    }

    /// Forgets what no session asks for any more.
    pub(in crate::feed) fn drop_unused_filters(&mut self) {
        if self.is_filtered() {
            self.filtered.retain(|known| known.filter.strong_count() > 0);
            self.count_filtered();
        }
    }

    /// Notes up to when every station knows what changed.
    pub(in crate::feed) fn note_known_to_all(&mut self, known: u64) {
        self.known_to_all = known;
    }

    /// A route has changed.
    #[inline]
    pub(super) fn note_change(&mut self, number: u32, changed: u64) {
        for known in &mut self.filtered {
            if let Some(judgement) = known.judgements.get_mut(number as usize) {
                let may_be_had = *judgement & PERMITTED != 0 || *judgement & UNTIL > self.known_to_all;
                *judgement = if may_be_had { changed & UNTIL } else { *judgement & UNTIL };
            }
        }
    }

    /// A number stands for no route any more.
    pub(super) fn forget_judgements(&mut self, number: u32) {
        for known in &mut self.filtered {
            if let Some(judgement) = known.judgements.get_mut(number as usize) {
                *judgement = 0;
            }
        }
    }

    /// The attribute set of a group of routes; `None` for withdrawn ones.
    pub(in crate::feed) fn set_of(number: u32, attributes: &AttributeSets) -> Option<&AttributeSet> {
        (number != NONE).then(|| attributes.get(number))
    }

    fn count_filtered(&mut self) {
        let bytes = self.walked_filtered();
        if bytes != self.filtered_memory.get() {
            self.filtered_memory.set(bytes);
        }
    }

    /// Memory of the decisions in bytes, looked up.
    pub(super) fn walked_filtered(&self) -> usize {
        let judgements = self.filtered.iter().map(|known| known.judgements.capacity() * size_of::<u64>());
        self.filtered.capacity() * size_of::<FilteredRoutes>() + judgements.sum::<usize>()
    }
}
