//! The settings of replays.

use super::{
    access::{Entries, field},
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
    relay::no_other_input,
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        number::{NumberRange, Unit},
        syntax::Syntax::{Choice, Value, Word},
    },
    model::{Config, ReplayConfig},
    view::{CommandView, ViewKind},
};

pub(in crate::config) static REPLAY: SettingDescriptor = SettingDescriptor {
    head: &[Word("mrt-replay", "take routes from a file"), Value(ArgumentKind::InputName, "a name for this input")],
    enters: Some(ViewKind::Replay),
    effect: Effect::Enters,
    access: &Entries::<Config, String, ReplayConfig> {
        get: |config| &config.replays,
        get_mut: |config| &mut config.replays,
        check: |config, name| no_other_input(config.relays.contains_key(name), name),
        view: |_, name| Some(CommandView::Replay(name)),
    },
    ..SettingDescriptor::in_view(ViewKind::System)
};

pub(in crate::config) static REPLAY_FILE: SettingDescriptor = SettingDescriptor {
    head: &[Word("file", "the file, plain or packed with gzip or bzip2")],
    value: &[Value(ArgumentKind::Path, "its path")],
    default: DefaultValue::Fixed("nothing is replayed"),
    effect: Effect::ReplayRestarts,
    access: field!(ReplayConfig, file),
    ..SettingDescriptor::in_view(ViewKind::Replay)
};

static RATE: NumberRange = NumberRange {
    name: "NUMBER",
    subject: "a pace is",
    unit: Unit::UpdatesPerSecond,
    first: 1,
    last: 10_000_000,
    or_zero: false,
};

pub(in crate::config) static REPLAY_PACE: SettingDescriptor = SettingDescriptor {
    head: &[Word("pace", "how fast the file is replayed")],
    value: &[Choice(&[
        &[Word("recorded", "as it was recorded")],
        &[Word("maximum", "as fast as it can be read")],
        &[Value(ArgumentKind::Number(&RATE), "so many, RANGE"), Word("updates-per-second", "updates in a second")],
    ])],
    default: DefaultValue::Fixed("as it was recorded"),
    rows: &[DefaultRow::new(260, "Pace of a replay")],
    effect: Effect::ReplayRestarts,
    access: field!(ReplayConfig, pace),
    ..SettingDescriptor::in_view(ViewKind::Replay)
};

pub(in crate::config) static REPLAY_LOOP: SettingDescriptor = SettingDescriptor {
    head: &[Word("loop", "begin again at the end of the file")],
    default: DefaultValue::Fixed("the replay ends with its file"),
    effect: Effect::ReplayRestarts,
    access: field!(ReplayConfig, looped),
    ..SettingDescriptor::in_view(ViewKind::Replay)
};
