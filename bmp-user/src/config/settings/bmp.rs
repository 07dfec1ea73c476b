//! The settings of the bmp view.

use super::{
    access::{Access, Entries, field},
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
    forms::{ALIAS, INITIATION_NOTE, INITIATION_TEXT, INITIATION_WORD, VPN_INSTANCE},
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        number::{NumberRange, Unit},
        syntax::Syntax::{Value as Argument, Word},
        token::{ArgumentTokens, WrongArgument},
        value::ArgumentValue,
    },
    model::{BmpConfig, Config, SessionConfig, SessionId},
    view::{CommandView, ViewKind},
};

pub(in crate::config) static BMP: SettingDescriptor = SettingDescriptor {
    head: &[Word("bmp", "sessions to monitoring stations")],
    enters: Some(ViewKind::Bmp),
    effect: Effect::Enters,
    access: &BmpView,
    ..SettingDescriptor::in_view(ViewKind::System)
};

/// The bmp view itself. It is there once something in it is set.
struct BmpView;

impl Access for BmpView {
    fn values(&self, _arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        Ok(Some(Vec::new()))
    }

    fn set(&self, config: &mut Config, _view: &CommandView, _arguments: ArgumentTokens<'_>) -> Result<(), String> {
        config.bmp.enabled = true;
        Ok(())
    }

    fn clear(&self, config: &mut Config, _view: &CommandView, _arguments: ArgumentTokens<'_>) -> Result<(), String> {
        config.bmp = BmpConfig::default();
        Ok(())
    }

    fn configured(&self, config: &Config, _view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let is_there = config.bmp != BmpConfig::default();
        is_there.then(Vec::new).into_iter().collect()
    }

    fn enters(&self, _around: &CommandView, _arguments: ArgumentTokens<'_>) -> Option<CommandView> {
        Some(CommandView::Bmp)
    }
}

static STATISTICS_TIME: NumberRange = NumberRange {
    name: "SECONDS",
    subject: "the statistics timer is",
    unit: Unit::Seconds,
    first: 0,
    last: 65_535,
    or_zero: false,
};

pub(in crate::config) static STATISTICS_TIMER: SettingDescriptor = SettingDescriptor {
    head: &[Word("statistics-timer", "how often BGP peers are reported on")],
    value: &[Argument(ArgumentKind::Number(&STATISTICS_TIME), "seconds RANGE; 0 is never")],
    default: DefaultValue::Computed(|| format!("of BGP peers, every {} s", BmpConfig::STATISTICS_TIMER.as_secs())),
    rows: &[DefaultRow::new(210, "Statistics Reports")],
    effect: Effect::AtOnce,
    access: field!(BmpConfig, statistics_timer),
    ..SettingDescriptor::in_view(ViewKind::Bmp)
};

pub(in crate::config) static BMP_CONNECT_INTERFACE: SettingDescriptor = SettingDescriptor {
    head: &[Word("connect-interface", "name the source of sessions")],
    value: &[Argument(ArgumentKind::Ipv4Source, "the source address of IPv4 sessions")],
    default: DefaultValue::Fixed("the kernel's choice"),
    effect: Effect::ReconnectsIfPinChanges,
    note: "It counts for IPv4 sessions that have no `connect-interface` of their own.",
    access: field!(BmpConfig, connect_interface),
    ..SettingDescriptor::in_view(ViewKind::Bmp)
};

pub(in crate::config) static BMP_INITIATION_MESSAGE: SettingDescriptor = SettingDescriptor {
    head: &[INITIATION_WORD],
    value: &INITIATION_TEXT,
    default: DefaultValue::Fixed("none"),
    rows: &[DefaultRow::new(205, "Text in Initiation")],
    effect: Effect::AtOnce,
    note: INITIATION_NOTE,
    access: field!(BmpConfig, initiation_message),
    ..SettingDescriptor::in_view(ViewKind::Bmp)
};

pub(in crate::config) static PERSIST: SettingDescriptor = SettingDescriptor {
    head: &[Word("persist", "keep what the kernel enforces when bmpd is told to end")],
    default: DefaultValue::Fixed("nothing, unless a session is adopted"),
    rows: &[DefaultRow::new(70, "Kept when bmpd ends")],
    effect: Effect::AtEnd,
    access: field!(BmpConfig, persist),
    ..SettingDescriptor::in_view(ViewKind::Bmp)
};

pub(in crate::config) static SESSION: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("bmp-session", "a session to a monitoring station"),
        VPN_INSTANCE,
        Argument(ArgumentKind::Station, "the station's address"),
        ALIAS,
    ],
    enters: Some(ViewKind::Session),
    effect: Effect::Enters,
    access: &Entries::<BmpConfig, SessionId, SessionConfig> {
        get: |bmp| &bmp.sessions,
        get_mut: |bmp| &mut bmp.sessions,
        check: |_, _| Ok(()),
        view: |_, id| Some(CommandView::Session(id)),
    },
    ..SettingDescriptor::in_view(ViewKind::Bmp)
};
