//! The settings of the bmp view and the bmp-session view that spare the uplink.

use super::{
    access::field,
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        number::{NumberRange, Unit},
        syntax::Syntax::{self, Value as Argument, Word},
    },
    model::{BmpConfig, SessionConfig},
    view::ViewKind,
};

static RATE: NumberRange = NumberRange {
    name: "ROUTES",
    subject: "a dump rate is",
    unit: Unit::Routes,
    first: 0,
    last: 10_000_000,
    or_zero: false,
};

const RATE_WORD: Syntax = Word("dump-rate", "how fast a station is told the state");
static RATE_VALUE: [Syntax; 1] = [Argument(ArgumentKind::Number(&RATE), "routes a second, RANGE; 0 is no limit")];
const RATE_NOTE: &str = "It limits the routes of a dump: what a new station is told, one that was too slow, and one \
    with another selection. What changes meanwhile passes at once and does not count. A message leaves whole, and \
    the routes that it has too many are saved afterwards.";

pub(in crate::config) static BMP_DUMP_RATE: SettingDescriptor = SettingDescriptor {
    head: &[RATE_WORD],
    value: &RATE_VALUE,
    default: DefaultValue::Fixed("no limit"),
    rows: &[DefaultRow::new(207, "Rate of a dump")],
    effect: Effect::AtOnce,
    note: RATE_NOTE,
    access: field!(BmpConfig, dump_rate),
    ..SettingDescriptor::in_view(ViewKind::Bmp)
};

pub(in crate::config) static DUMP_RATE: SettingDescriptor = SettingDescriptor {
    head: &[RATE_WORD],
    value: &RATE_VALUE,
    default: DefaultValue::Fixed("that of the bmp view"),
    effect: Effect::AtOnce,
    note: RATE_NOTE,
    access: field!(SessionConfig, dump_rate),
    ..SettingDescriptor::in_view(ViewKind::Session)
};

static REFRESH_DELAY: NumberRange = NumberRange {
    name: "DELAY",
    subject: "the delay of the initial refresh is",
    unit: Unit::Seconds,
    first: 0,
    last: 3600,
    or_zero: false,
};
static REFRESH_SPREAD: NumberRange = NumberRange {
    name: "SPREAD",
    subject: "the spread of the initial refresh is",
    unit: Unit::Seconds,
    first: REFRESH_DELAY.first,
    last: REFRESH_DELAY.last,
    or_zero: false,
};

pub(in crate::config) static INITIAL_REFRESH: SettingDescriptor = SettingDescriptor {
    head: &[Word("initial-refresh", "when stations are first told the state")],
    value: &[
        Word("delay", "how long every session waits"),
        Argument(ArgumentKind::Number(&REFRESH_DELAY), "seconds RANGE after the connection is up"),
        Word("spread", "over which time the sessions begin then"),
        Argument(ArgumentKind::Number(&REFRESH_SPREAD), "seconds RANGE, which the sessions share evenly"),
    ],
    default: DefaultValue::Fixed("at once"),
    rows: &[DefaultRow::new(208, "First dump of a session")],
    effect: Effect::AtOnce,
    note: "A station gets the Initiation at once, and nothing else before its first dump. Each new connection waits \
           again. Later dumps of a connection do not wait.",
    access: field!(BmpConfig, initial_refresh),
    ..SettingDescriptor::in_view(ViewKind::Bmp)
};
