//! The settings of lists of prefixes, and of the route-filter view.

use super::{
    access::{Entries, KeyedLines},
    arguments::ArgumentType,
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
    families::FAMILY,
};
use crate::{
    config::{
        language::{
            argument::ArgumentKind,
            number::{NumberRange, Unit},
            syntax::Syntax::{self, Choice, Optional, Value, Word},
            token::{ArgumentTokens, WrongArgument},
            value::ArgumentValue,
        },
        model::Config,
        route_filter::{AsPathMatch, MOST_ROUTE_RULES, PrefixEntry, PrefixIndex, RouteFilterConfig, RouteRuleConfig},
        view::{CommandView, ViewKind},
    },
    wire::{bgp::Family, bmp::RouteDistinguisher},
};

const PERMIT: &str = "permit";
const DENY: &str = "deny";
const GE: &str = "ge";
const LE: &str = "le";
const IP_PREFIX: &str = "ip-prefix";
const AS_PATH: &str = "as-path";
const ORIGIN: &str = "origin";
const CONTAINS: &str = "contains";
const COMMUNITY: &str = "community";
const RD: &str = "rd";

static INDEX: NumberRange =
    NumberRange { name: "INDEX", subject: "an index is", unit: Unit::None, first: 1, last: u32::MAX, or_zero: false };

static SHORTEST: NumberRange =
    NumberRange { name: "GE", subject: "a length is", unit: Unit::None, first: 0, last: 128, or_zero: false };

static LONGEST: NumberRange =
    NumberRange { name: "LE", subject: "a length is", unit: Unit::None, first: 0, last: 128, or_zero: false };

static RULE_NUMBER: NumberRange =
    NumberRange { name: "RULE", subject: "a rule is", unit: Unit::None, first: 1, last: 65_535, or_zero: false };

const LIST: Syntax = Value(ArgumentKind::PrefixListName, "the name of the list");

pub(in crate::config) static PREFIX_ENTRY: SettingDescriptor = SettingDescriptor {
    head: &[
        Word(IP_PREFIX, "a list of prefixes, for rules of route-filters"),
        LIST,
        Word("index", "an entry of the list; the first that matches decides"),
        Value(ArgumentKind::Number(&INDEX), "a number RANGE"),
    ],
    value: &[
        Choice(&[&[Word(PERMIT, "the list has such prefixes")], &[Word(DENY, "the list does not have them")]]),
        Value(ArgumentKind::Prefix, "the prefix, and those within it if `ge` or `le` says so"),
        Optional(&[Word(GE, "prefixes of this length or longer"), Value(ArgumentKind::Number(&SHORTEST), "in bits")]),
        Optional(&[Word(LE, "prefixes of this length or shorter"), Value(ArgumentKind::Number(&LONGEST), "in bits")]),
    ],
    effect: Effect::FilterAtOnce,
    note: "A list may have IPv4 and IPv6 prefixes. A prefix that no entry matches is not in the list.",
    access: &KeyedLines::<Config, PrefixIndex, PrefixEntry> {
        get: |config| &config.prefix_lists,
        get_mut: |config| &mut config.prefix_lists,
        check: |_, _, _| Ok(()),
    },
    ..SettingDescriptor::in_view(ViewKind::System)
};

pub(in crate::config) static ROUTE_FILTER: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("route-filter", "which routes a monitor tells"),
        Value(ArgumentKind::RouteFilterName, "a name for the filter"),
    ],
    enters: Some(ViewKind::RouteFilter),
    shortest: "route-f".len(),
    effect: Effect::FilterAtOnce,
    access: &Entries::<Config, String, RouteFilterConfig> {
        get: |config| &config.route_filters,
        get_mut: |config| &mut config.route_filters,
        check: |_, _| Ok(()),
        view: |_, name| Some(CommandView::RouteFilter(name)),
    },
    ..SettingDescriptor::in_view(ViewKind::System)
};

pub(in crate::config) static ROUTE_RULE: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("rule", "a rule; the first that matches a route decides"),
        Value(ArgumentKind::Number(&RULE_NUMBER), "its place, RANGE"),
    ],
    value: &[
        Choice(&[&[Word(PERMIT, "tell such routes")], &[Word(DENY, "do not tell them")]]),
        Optional(&[FAMILY]),
        Optional(&[Word(IP_PREFIX, "routes whose prefix is in a list"), LIST]),
        Optional(&[
            Word(AS_PATH, "routes by their AS path"),
            Choice(&[
                &[Word(ORIGIN, "the AS that it begins in"), Value(ArgumentKind::AsNumber, "an AS number")],
                &[Word(CONTAINS, "an AS in it"), Value(ArgumentKind::AsNumber, "an AS number")],
            ]),
        ]),
        Optional(&[
            Word(COMMUNITY, "routes with a community"),
            Value(ArgumentKind::Community, "as 65000:1, 65000:1:2, rt:65000:1 or soo:65000:1; * is any number"),
        ]),
        Optional(&[
            Word(RD, "routes with a route distinguisher"),
            Value(ArgumentKind::RouteDistinguisher, "as 65000:1 or 192.0.2.1:1"),
        ]),
    ],
    rows: &[DefaultRow { value: Some("denied"), ..DefaultRow::new(193, "A route that no rule of its filter matches") }],
    effect: Effect::FilterAtOnce,
    default: DefaultValue::Fixed("a route that no rule matches is not told"),
    note: "All conditions of a rule have to hold. A filter has at most 64 rules.",
    access: &KeyedLines::<RouteFilterConfig, u32, RouteRuleConfig> {
        get: |filter| &filter.rules,
        get_mut: |filter| &mut filter.rules,
        check: |config, view, number| {
            let CommandView::RouteFilter(name) = view else { return Ok(()) };
            let known = config.route_filters.get(name).map(|filter| &filter.rules);
            match known {
                Some(rules) if rules.len() >= MOST_ROUTE_RULES && !rules.contains_key(number) => {
                    Err(format!("a filter has at most {MOST_ROUTE_RULES} rules: put prefixes into a list"))
                }
                _ => Ok(()),
            }
        },
    },
    ..SettingDescriptor::in_view(ViewKind::RouteFilter)
};

fn action(arguments: ArgumentTokens<'_>) -> Option<bool> {
    let has = |word| arguments.has(word);
    (has(PERMIT) || has(DENY)).then(|| has(PERMIT))
}

fn action_word(permits: bool) -> ArgumentValue {
    ArgumentValue::Keyword(if permits { PERMIT } else { DENY })
}

/// `NAME index N`
impl ArgumentType for PrefixIndex {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let list = arguments.text_of(ArgumentKind::PrefixListName);
        Ok(list.zip(arguments.number()).map(|(list, index)| Self { list, index }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        vec![ArgumentValue::Text(self.list.clone()), ArgumentValue::Number(self.index)]
    }
}

/// `{ permit | deny } PREFIX [ ge G ] [ le L ]`, behind the index.
impl ArgumentType for PrefixEntry {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let Some((permits, prefix)) = action(arguments).zip(arguments.prefix()) else { return Ok(None) };
        let mut lengths = arguments.numbers().skip(1);
        let mut length = |word| if arguments.has(word) { lengths.next() } else { None };
        let (shortest, longest) = (length(GE), length(LE));
        let width = if prefix.address.is_ipv4() { 32 } else { 128 };
        let mut least = u32::from(prefix.length);
        for (token, length) in [shortest, longest].into_iter().flatten() {
            if length < least || length > width {
                let message = format!("this length is from {least} to {width}");
                return Err(WrongArgument { token, message });
            }
            least = length;
        }
        let bits = |given: Option<(usize, u32)>| given.and_then(|(_, length)| u8::try_from(length).ok());
        Ok(Some(Self { permits, prefix, shortest: bits(shortest), longest: bits(longest) }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        let length = |word, length: Option<u8>| {
            let words = length.map(|length| [ArgumentValue::Keyword(word), ArgumentValue::Number(length.into())]);
            words.into_iter().flatten()
        };
        let entry = [action_word(self.permits), ArgumentValue::Prefix(self.prefix)].into_iter();
        entry.chain(length(GE, self.shortest)).chain(length(LE, self.longest)).collect()
    }
}

/// `{ permit | deny } ...`, behind the number.
impl ArgumentType for RouteRuleConfig {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let Some(permits) = action(arguments) else { return Ok(None) };
        let asn = arguments.numbers().nth(1).map(|(_, number)| number);
        let text = |kind| arguments.text_of(kind);
        Ok(Some(Self {
            permits,
            family: Family::read(arguments)?,
            prefix_list: text(ArgumentKind::PrefixListName),
            as_path: asn.map(
                |asn| {
                    if arguments.has(ORIGIN) { AsPathMatch::Origin(asn) } else { AsPathMatch::Contains(asn) }
                },
            ),
            community: text(ArgumentKind::Community).and_then(|text| text.parse().ok()),
            distinguisher: text(ArgumentKind::RouteDistinguisher).and_then(|text| RouteDistinguisher::read(&text)),
        }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        let mut values = vec![action_word(self.permits)];
        values.extend(self.family.into_iter().flat_map(|family| family.values()));
        let mut text = |word, text: Option<String>| {
            values.extend(text.into_iter().flat_map(|text| [ArgumentValue::Keyword(word), ArgumentValue::Text(text)]));
        };
        text(IP_PREFIX, self.prefix_list.clone());
        if let Some(path) = self.as_path {
            let (word, asn) = match path {
                AsPathMatch::Origin(asn) => (ORIGIN, asn),
                AsPathMatch::Contains(asn) => (CONTAINS, asn),
            };
            let words = [ArgumentValue::Keyword(AS_PATH), ArgumentValue::Keyword(word), ArgumentValue::Number(asn)];
            values.extend(words);
        }
        let mut text = |word, text: Option<String>| {
            values.extend(text.into_iter().flat_map(|text| [ArgumentValue::Keyword(word), ArgumentValue::Text(text)]));
        };
        text(COMMUNITY, self.community.map(|community| community.to_string()));
        text(RD, self.distinguisher.map(|distinguisher| distinguisher.to_string()));
        values
    }
}
