//! Which routes a monitor tells: lists of prefixes, and filters of numbered rules.

use std::collections::BTreeMap;

use super::prefix::Prefix;
use crate::wire::{
    bgp::{CommunityPattern, Family},
    bmp::RouteDistinguisher,
};

/// The most rules of a filter.
pub const MOST_ROUTE_RULES: usize = 64;

/// `ip-prefix NAME index N`: names one entry of a list of prefixes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrefixIndex {
    /// The name of the list.
    pub list: String,
    /// The place of the entry. The entry with the lowest one that matches decides.
    pub index: u32,
}

/// `{ permit | deny } PREFIX [ ge G ] [ le L ]`: an entry of a list of prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixEntry {
    /// Whether a match permits the route.
    pub permits: bool,
    /// The routes are within this prefix.
    pub prefix: Prefix,
    /// `ge G`: the shortest length that matches, in bits.
    pub shortest: Option<u8>,
    /// `le L`: the longest length that matches, in bits.
    pub longest: Option<u8>,
}

impl PrefixEntry {
    /// Returns the lengths that match, the shortest and the longest. Without `ge` and `le` only the
    /// prefix itself matches. With `ge` alone, every longer prefix does.
    pub fn lengths(&self) -> (u8, u8) {
        let own = self.prefix.length;
        let most = if self.prefix.address.is_ipv4() { 32 } else { 128 };
        match (self.shortest, self.longest) {
            (None, None) => (own, own),
            (shortest, longest) => (shortest.unwrap_or(own), longest.unwrap_or(most)),
        }
    }
}

/// A `route-filter NAME` view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFilterConfig {
    /// `rule N ...`. The first one that matches decides, and none denies.
    pub rules: BTreeMap<u32, RouteRuleConfig>,
}

/// A rule of a filter. All conditions have to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRuleConfig {
    /// `permit` or `deny`.
    pub permits: bool,
    /// The family of the routes.
    pub family: Option<Family>,
    /// `ip-prefix NAME`: the list has to permit the prefix.
    pub prefix_list: Option<String>,
    /// `as-path ...`.
    pub as_path: Option<AsPathMatch>,
    /// `community PATTERN`.
    pub community: Option<CommunityPattern>,
    /// `rd RD`.
    pub distinguisher: Option<RouteDistinguisher>,
}

/// `as-path { origin | contains } AS-NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsPathMatch {
    /// The route comes from this AS.
    Origin(u32),
    /// The path has this AS.
    Contains(u32),
}
