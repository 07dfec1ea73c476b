//! Filters decide as their rules do, one by one.

use proptest::prelude::*;

use super::*;
use crate::{
    feed::attributes::AttributeSets,
    wire::bgp::{PrefixBits, Update},
};

/// A route, by numbers.
#[derive(Clone, Debug)]
struct SampleRoute {
    family: Family,
    prefix: u8,
    path: Vec<u8>,
    community: u8,
    is_short: bool,
}

const RD: [u8; 8] = [0, 0, 0xfd, 0xe8, 0, 0, 0, 7];

impl SampleRoute {
    fn item(&self) -> Vec<u8> {
        match self.family {
            Family::IPV4_UNICAST => vec![24, 10, 0, self.prefix],
            _ => [&[24 + 64 + 24, 0, 1, 0x11][..], &RD, &[10, 0, self.prefix]].concat(),
        }
    }

    /// The path attributes.
    fn attributes(&self) -> Vec<u8> {
        let size = if self.is_short { 2 } else { 4 };
        let mut path = Vec::new();
        if !self.path.is_empty() {
            path.extend([2, self.path.len() as u8]);
            self.path.iter().for_each(|asn| path.extend(&u32::from(*asn).to_be_bytes()[4 - size..]));
        }
        let mut out = vec![0x40, 1, 1, 0, 0x40, 2, path.len() as u8];
        out.extend(path);
        out.extend([0xc0, 8, 4, 0, 1, 0, self.community]);
        out
    }
}

fn sample_route() -> impl Strategy<Value = SampleRoute> {
    let family = prop_oneof![Just(Family::IPV4_UNICAST), Just(Family::VPNV4)];
    (family, 0u8..6, prop::collection::vec(1u8..5, 0..4), 0u8..4, any::<bool>()).prop_map(
        |(family, prefix, path, community, is_short)| SampleRoute { family, prefix, path, community, is_short },
    )
}

fn sample_rule() -> impl Strategy<Value = RouteRule> {
    let family = prop::option::of(prop_oneof![Just(Family::IPV4_UNICAST), Just(Family::VPNV4)]);
    let prefixes = prop::option::weighted(
        0.4,
        prop::collection::vec((any::<bool>(), 0u8..6), 0..4).prop_map(|entries| {
            let entry = |(permits, prefix): (bool, u8)| {
                let address = u128::from_be_bytes([10, 0, prefix, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                let prefix = PrefixBits { is_ipv4: true, address, length: 24 };
                PrefixRule { permits, prefix, shortest: 24, longest: 24 }
            };
            entries.into_iter().map(entry).collect()
        }),
    );
    let path = prop::option::weighted(
        0.3,
        prop_oneof![(1u32..5).prop_map(PathCondition::Origin), (1u32..5).prop_map(PathCondition::Contains)],
    );
    let community = prop::option::weighted(0.3, (0u8..4).prop_map(|number| format!("1:{number}").parse().unwrap()));
    let distinguisher =
        prop::option::weighted(0.2, prop_oneof![Just(RouteDistinguisher(RD)), Just(RouteDistinguisher([9; 8]))]);
    (any::<bool>(), family, prefixes, path, community, distinguisher).prop_map(
        |(permits, family, prefixes, path, community, distinguisher)| RouteRule {
            permits,
            family,
            prefixes,
            path,
            community,
            distinguisher,
        },
    )
}

/// Decides about a route by its numbers.
fn matches(rule: &RouteRule, route: &SampleRoute) -> bool {
    let in_list = |entries: &Vec<PrefixRule>| {
        let found = entries.iter().find(|entry| entry.prefix.address >> 104 & 0xff == u128::from(route.prefix));
        found.is_some_and(|entry| entry.permits)
    };
    rule.family.is_none_or(|family| family == route.family)
        && rule.prefixes.as_ref().is_none_or(in_list)
        && match rule.path {
            None => true,
            Some(PathCondition::Origin(asn)) => route.path.last().is_some_and(|last| u32::from(*last) == asn),
            Some(PathCondition::Contains(asn)) => route.path.iter().any(|number| u32::from(*number) == asn),
        }
        && rule.community.is_none_or(|pattern| pattern.to_string() == format!("1:{}", route.community))
        && rule.distinguisher.is_none_or(|wanted| route.family == Family::VPNV4 && wanted.0 == RD)
}

/// The decision of a filter about a route that the feed keeps.
fn decision(filter: &RouteFilter, route: &SampleRoute) -> bool {
    let attributes = route.attributes();
    let mut body = vec![0, 0];
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(&attributes);
    let message = crate::wire::bmp::samples::bgp(2, &body);
    let update = Update::parse(&message, if route.is_short { 2 } else { 4 }).unwrap();
    let mut sets = AttributeSets::new();
    let set = sets.of_nlri(&update, route.is_short);
    let rules = filter.judge_attributes(filter.rules_of(route.family), sets.get(set));
    filter.permits(rules, route.family, Form::of(route.family).unwrap(), false, &route.item())
}

proptest! {
    #[test]
    fn the_first_rule_that_matches_decides(rules in prop::collection::vec(sample_rule(), 0..8), routes in prop::collection::vec(sample_route(), 1..12)) {
        let filter = RouteFilter::new(rules.clone());
        for route in &routes {
            let expected = rules.iter().find(|rule| matches(rule, route)).is_some_and(|rule| rule.permits);
            prop_assert_eq!(decision(&filter, route), expected, "{:?}", route);
        }
    }
}

#[test]
fn a_field_that_nobody_can_read_is_judged_by_its_family_alone() {
    let permit = RouteRule { permits: true, ..RouteRule::default() };
    let of_family = RouteRule { family: Some(Family::VPNV4), ..permit.clone() };
    let of_path = RouteRule { permits: false, path: Some(PathCondition::Contains(1)), ..RouteRule::default() };
    let filter = RouteFilter::new(vec![of_path.clone(), of_family]);
    assert!(filter.permits_whole(filter.rules_of(Family::VPNV4)));
    assert!(!filter.permits_whole(filter.rules_of(Family::IPV4_UNICAST)));
    let filter = RouteFilter::new(vec![of_path, permit]);
    assert!(filter.permits_whole(filter.rules_of(Family::IPV4_UNICAST)));
}

#[test]
fn a_long_as_number_is_found_behind_its_substitute() {
    // AS_TRANS in AS_PATH, and the number in AS4_PATH (RFC 6793 §4.2.3).
    let attributes = [0x40, 2, 4, 2, 1, 0x5b, 0xa0, 0xc0, 17, 6, 2, 1, 0, 1, 0x11, 0x70];
    let message = crate::wire::bmp::samples::bgp(2, &[&[0, 0, 0, attributes.len() as u8][..], &attributes].concat());
    let update = Update::parse(&message, 2).unwrap();
    let mut sets = AttributeSets::new();
    let set = sets.of_nlri(&update, true);
    for (path, expected) in [
        (PathCondition::Origin(70000), true),
        (PathCondition::Contains(70000), true),
        (PathCondition::Contains(23456), true),
        (PathCondition::Origin(23456), false),
    ] {
        let filter = RouteFilter::new(vec![RouteRule { permits: true, path: Some(path), ..RouteRule::default() }]);
        let rules = filter.judge_attributes(filter.rules_of(Family::IPV4_UNICAST), sets.get(set));
        let permits = filter.permits(rules, Family::IPV4_UNICAST, Form::Prefix { most: 32 }, false, &[8, 10]);
        assert_eq!(permits, expected, "{path:?}");
    }
}

#[test]
fn sessions_with_the_same_rules_share_one_filter() {
    let shared = SharedFilters::default();
    let rules = || vec![RouteRule { permits: true, ..RouteRule::default() }];
    let one = shared.get(rules());
    assert!(Arc::ptr_eq(&one, &shared.get(rules())));
    assert!(!Arc::ptr_eq(&one, &shared.get(vec![])));
    let before = Arc::downgrade(&one);
    drop(one);
    shared.get(vec![]);
    assert!(before.upgrade().is_none());
}

/// Prints what a filter costs a route. Run it with `--release`.
#[test]
#[ignore = "a measurement: run it with --release"]
#[expect(clippy::print_stdout, reason = "the figure is what the test is run for by hand")]
fn a_filter_of_1000_prefixes_costs_little_a_route() {
    const ROUTES: u32 = 1_000_000;
    let entry = |number: u32| {
        let address = u128::from(10 << 24 | (number.wrapping_mul(2_654_435_761) & 0xff_ffff)) << 96;
        let length = 16 + (number % 9) as u8;
        let prefix = PrefixBits { is_ipv4: true, address: address & (u128::MAX << (128 - length)), length };
        PrefixRule { permits: !number.is_multiple_of(10), prefix, shortest: length, longest: 24 }
    };
    let rule = RouteRule { permits: true, prefixes: Some((0..1000).map(entry).collect()), ..RouteRule::default() };
    let filter = RouteFilter::new(vec![rule]);
    let rules = filter.rules_of(Family::IPV4_UNICAST);
    let items: Vec<[u8; 4]> = (0..ROUTES)
        .map(|number| number.wrapping_mul(0x9e37_79b9))
        .map(|mixed| [24, 10, (mixed >> 8) as u8, (mixed >> 16) as u8])
        .collect();
    let begun = std::time::Instant::now();
    let permitted = items
        .iter()
        .filter(|item| filter.permits(rules, Family::IPV4_UNICAST, Form::Prefix { most: 32 }, false, *item))
        .count();
    let each = begun.elapsed().as_nanos() as f64 / f64::from(ROUTES);
    println!("{each:.1} ns a route, {permitted} of {ROUTES} permitted");
    assert!(permitted > 0 && permitted < ROUTES as usize);
}
