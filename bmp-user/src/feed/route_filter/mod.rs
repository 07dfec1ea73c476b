//! Which routes a station is told: a filter of numbered rules, compiled.
//!
//! The first rule that matches a route decides. A route that no rule matches is denied. A rule has
//! conditions on the family, on the attributes and on the NLRI of a route. The attributes are
//! looked at once for all routes of a group: [`RouteFilter::judge_attributes`] returns the rules
//! whose conditions on attributes hold, as bits. [`RouteFilter::permits`] then looks at the NLRI.
//!
//! * `prefix_list`: lists of prefixes

mod prefix_list;
#[cfg(test)]
mod tests;

pub use prefix_list::PrefixRule;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::attributes::AttributeSet;
use crate::wire::{
    bgp::{AsPath, Attribute, CommunityPattern, Family, Form, NlriPrefix, as_path_size, attribute_type, attributes},
    bmp::RouteDistinguisher,
};
use prefix_list::PrefixTable;

/// The most rules of a filter: each has a bit of a word.
pub const MOST_FILTER_RULES: usize = 64;

/// A rule of a filter. All its conditions have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteRule {
    /// Whether the rule permits the routes that it matches.
    pub permits: bool,
    /// The family of the routes.
    pub family: Option<Family>,
    /// The list has to permit the prefix. A route without a prefix does not match.
    pub prefixes: Option<Vec<PrefixRule>>,
    /// The path.
    pub path: Option<PathCondition>,
    /// One community at least has to match.
    pub community: Option<CommunityPattern>,
    /// The route distinguisher. A route without one does not match.
    pub distinguisher: Option<RouteDistinguisher>,
}

/// A condition on the AS path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathCondition {
    /// The path begins in this AS: see [`AsPath::origin`].
    Origin(u32),
    /// The path has this AS.
    Contains(u32),
}

/// Rules of a filter, as bits in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleSet(u64);

/// A compiled filter. Sessions with the same rules share it.
#[derive(Debug)]
pub struct RouteFilter {
    rules: Vec<RouteRule>,
    /// The lists of prefixes, by rule.
    tables: Vec<Option<PrefixTable>>,
    permitting: u64,
    /// Rules with a condition on attributes.
    of_attributes: u64,
    /// Rules with a condition on NLRI.
    of_nlri: u64,
}

impl RouteFilter {
    /// Compiles rules. Rules beyond [`MOST_FILTER_RULES`] are ignored.
    pub(super) fn new(mut rules: Vec<RouteRule>) -> Self {
        rules.truncate(MOST_FILTER_RULES);
        let bits = |is: &dyn Fn(&RouteRule) -> bool| {
            rules.iter().enumerate().filter(|(_, rule)| is(rule)).fold(0, |bits, (place, _)| bits | 1 << place)
        };
        let permitting = bits(&|rule| rule.permits);
        let of_attributes = bits(&|rule| rule.path.is_some() || rule.community.is_some());
        let of_nlri = bits(&|rule| rule.prefixes.is_some() || rule.distinguisher.is_some());
        let table = |rule: &RouteRule| rule.prefixes.as_deref().map(PrefixTable::new);
        let tables = rules.iter().map(table).collect();
        Self { rules, tables, permitting, of_attributes, of_nlri }
    }

    /// The rules for the routes of a family.
    pub(super) fn rules_of(&self, family: Family) -> RuleSet {
        let is_of = |rule: &RouteRule| rule.family.is_none_or(|its| its == family);
        let all = self.rules.iter().enumerate().filter(|(_, rule)| is_of(rule));
        RuleSet(all.fold(0, |bits, (place, _)| bits | 1 << place))
    }

    /// Decides about a field of NLRI that nobody can tell apart: only the rules count that have no
    /// other condition than the family.
    pub(super) fn permits_whole(&self, RuleSet(rules): RuleSet) -> bool {
        self.decides(rules & !self.of_attributes & !self.of_nlri)
    }

    /// Those of these rules whose conditions on attributes hold.
    #[inline]
    pub(super) fn judge_attributes(&self, RuleSet(rules): RuleSet, set: &AttributeSet) -> RuleSet {
        let asked = rules & self.of_attributes;
        if asked == 0 {
            return RuleSet(rules);
        }
        let known = JudgedAttributes::of(set);
        let failed =
            ones(asked).filter(|place| !known.holds(&self.rules[*place])).fold(0, |bits, place| bits | 1 << place);
        RuleSet(rules & !failed)
    }

    /// Decides about an NLRI that [`crate::wire::bgp::nlri`] returned. `rules` are those whose
    /// other conditions hold.
    #[inline]
    pub(super) fn permits(
        &self,
        RuleSet(rules): RuleSet,
        family: Family,
        form: Form,
        path_ids: bool,
        item: &[u8],
    ) -> bool {
        if rules & self.of_nlri == 0 {
            return self.decides(rules);
        }
        let nlri = NlriPrefix::of(family, form, path_ids, item);
        let first = ones(rules).find(|place| {
            let table = self.tables[*place].as_ref();
            let distinguisher = self.rules[*place].distinguisher;
            table.is_none_or(|table| nlri.prefix.is_some_and(|prefix| table.permits(prefix)))
                && distinguisher.is_none_or(|wanted| nlri.distinguisher == Some(wanted.0))
        });
        first.is_some_and(|place| self.permitting >> place & 1 != 0)
    }

    /// Decides by the first of some rules, all of which match.
    #[inline]
    fn decides(&self, rules: u64) -> bool {
        rules != 0 && self.permitting >> rules.trailing_zeros() & 1 != 0
    }
}

/// Two filters with the same rules decide alike.
impl PartialEq for RouteFilter {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for RouteFilter {}

/// The places of the bits that are set.
#[inline]
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (place < u64::BITS).then_some(place as usize)
    })
}

/// The attributes of a set that rules look at.
#[derive(Clone, Copy, Debug, Default)]
struct JudgedAttributes<'a> {
    /// AS_PATH, and in a message with AS numbers of two octets also AS4_PATH (RFC 6793 §4.2.3).
    paths: [Option<AsPath<'a>>; 2],
    standard: &'a [u8],
    extended: &'a [u8],
    large: &'a [u8],
}

impl<'a> JudgedAttributes<'a> {
    /// Reads a set. Of attributes of one type the first counts (RFC 7606 §3 (g)).
    fn of(set: &'a AttributeSet) -> Self {
        let mut known = Self::default();
        let said = if set.has_two_byte_as() { 2 } else { 4 };
        let parts = set.parts();
        let mut seen = 0u64;
        for Attribute { kind, value, .. } in attributes(parts.before).chain(attributes(parts.after)).flatten() {
            let bit = 1u64.checked_shl(kind.into()).unwrap_or(0);
            if seen & bit != 0 {
                continue;
            }
            seen |= bit;
            match kind {
                attribute_type::AS_PATH => known.paths[0] = Some(AsPath::new(value, as_path_size(value, said))),
                attribute_type::AS4_PATH if said == 2 => known.paths[1] = Some(AsPath::new(value, 4)),
                attribute_type::COMMUNITIES => known.standard = value,
                attribute_type::EXTENDED_COMMUNITIES => known.extended = value,
                attribute_type::LARGE_COMMUNITY => known.large = value,
                _ => {}
            }
        }
        known
    }

    fn holds(&self, rule: &RouteRule) -> bool {
        let [path, long] = self.paths;
        let path_holds = match rule.path {
            None => true,
            // A short path has a substitute in the place of a long number.
            Some(PathCondition::Origin(asn)) => {
                long.and_then(AsPath::origin).or_else(|| path.and_then(AsPath::origin)) == Some(asn)
            }
            Some(PathCondition::Contains(asn)) => self.paths.into_iter().flatten().any(|path| path.contains(asn)),
        };
        path_holds
            && rule.community.is_none_or(|pattern| {
                pattern.has_match(match pattern {
                    CommunityPattern::Standard(_) => self.standard,
                    CommunityPattern::Extended { .. } => self.extended,
                    CommunityPattern::Large(_) => self.large,
                })
            })
    }
}

/// The filters that sessions have, so that sessions with the same rules have one filter.
#[derive(Debug, Default)]
pub(super) struct SharedFilters(Mutex<Vec<Weak<RouteFilter>>>);

impl SharedFilters {
    /// Returns the filter with these rules.
    pub(super) fn get(&self, rules: Vec<RouteRule>) -> Arc<RouteFilter> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|filter| filter.strong_count() > 0);
        if let Some(same) = known.iter().filter_map(Weak::upgrade).find(|filter| filter.rules == rules) {
            return same;
        }
        let filter = Arc::new(RouteFilter::new(rules));
        known.push(Arc::downgrade(&filter));
        filter
    }
}
