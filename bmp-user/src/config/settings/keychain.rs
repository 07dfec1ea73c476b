//! The settings of the keychain view and of its keys.

use super::{
    access::{Entries, field},
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
    forms::SECRET_FORMS,
};
use crate::config::{
    keychain::{ChainKey, KeychainConfig},
    language::{
        argument::ArgumentKind,
        number::{NumberRange, Unit},
        syntax::Syntax::{self, Choice, Optional, Value, Word},
    },
    model::Config,
    view::{CommandView, ViewKind},
};

const NAME: Syntax = Value(ArgumentKind::KeychainName, "a name for the key chain");

pub(in crate::config) static KEYCHAIN: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("keychain", "keys that sign TCP connections, one after another"),
        NAME,
        Optional(&[Word("mode", "how lifetimes are given"), Word("absolute", "by date, as bmpd has them")]),
    ],
    enters: Some(ViewKind::Keychain),
    effect: Effect::Enters,
    access: &Entries::<Config, String, KeychainConfig> {
        get: |config| &config.keychains,
        get_mut: |config| &mut config.keychains,
        check: |_, _| Ok(()),
        view: |_, name| Some(CommandView::Keychain(name)),
    },
    ..SettingDescriptor::in_view(ViewKind::System)
};

static KEY_ID_RANGE: NumberRange =
    NumberRange { name: "KEY-ID", subject: "a key id is", unit: Unit::None, first: 0, last: 255, or_zero: false };

pub(in crate::config) static KEY_ID: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("key-id", "a key; both ends give it the same id"),
        Value(ArgumentKind::Number(&KEY_ID_RANGE), "the KeyID of TCP-AO segments (RFC 5925), RANGE"),
    ],
    enters: Some(ViewKind::Key),
    effect: Effect::KeysAtOnce,
    note: "`undo` takes the key away from connections that are up, if they have another key to sign with.",
    access: &Entries::<KeychainConfig, u8, ChainKey> {
        get: |chain| &chain.keys,
        get_mut: |chain| &mut chain.keys,
        check: |_, _| Ok(()),
        view: |around, id| match around {
            CommandView::Keychain(name) => Some(CommandView::Key(name.clone(), id)),
            _ => None,
        },
    },
    ..SettingDescriptor::in_view(ViewKind::Keychain)
};

pub(in crate::config) static ALGORITHM: SettingDescriptor = SettingDescriptor {
    head: &[Word("algorithm", "how the key signs")],
    value: &[Choice(&[
        &[Word("hmac-sha-1-96", "TCP-AO with HMAC-SHA-1, which every implementation has")],
        &[Word("aes-128-cmac-96", "TCP-AO with AES-128-CMAC, which every implementation has")],
        &[Word("hmac-sha-256", "TCP-AO with HMAC-SHA-256, cut to 96 bits")],
        &[Word("md5", "TCP MD5, without key ids")],
    ])],
    default: DefaultValue::Fixed("none; the key is not used without it"),
    effect: Effect::KeyNextConnection,
    note: "The keys of one chain are all for TCP-AO, or all for TCP MD5. With TCP MD5 a change counts at once.",
    access: field!(ChainKey, algorithm),
    ..SettingDescriptor::in_view(ViewKind::Key)
};

pub(in crate::config) static KEY_STRING: SettingDescriptor = SettingDescriptor {
    head: &[Word("key-string", "the secret of the key, which both ends have")],
    value: &[SECRET_FORMS],
    default: DefaultValue::Fixed("none; the key is not used without it"),
    effect: Effect::KeyNextConnection,
    note: "With TCP MD5 a change counts at once.",
    access: field!(ChainKey, secret),
    ..SettingDescriptor::in_view(ViewKind::Key)
};

/// The value of `send-time` and `receive-time`.
const LIFETIME: &[Syntax] = &[
    Word("utc", "in UTC"),
    Value(ArgumentKind::TimeOfDay, "the time at which it begins"),
    Value(ArgumentKind::StartDate, "the day on which it begins"),
    Optional(&[
        Word("to", "it ends"),
        Value(ArgumentKind::TimeOfDay, "the time at which it is over"),
        Value(ArgumentKind::EndDate, "the day on which it is over"),
    ]),
];

pub(in crate::config) static SEND_TIME: SettingDescriptor = SettingDescriptor {
    head: &[Word("send-time", "when this device signs with the key")],
    value: LIFETIME,
    default: DefaultValue::Fixed("always"),
    rows: &[DefaultRow::new(140, "Lifetimes of a key")],
    effect: Effect::KeysAtOnce,
    note: "Of the keys that may sign, the one whose `send-time` began last does; of several, the one with the lowest id.",
    access: field!(ChainKey, send),
    ..SettingDescriptor::in_view(ViewKind::Key)
};

pub(in crate::config) static RECEIVE_TIME: SettingDescriptor = SettingDescriptor {
    head: &[Word("receive-time", "when this device takes what the far end signs with the key")],
    value: LIFETIME,
    default: DefaultValue::Fixed("always"),
    rows: &[DefaultRow::new(141, "Lifetimes of a key")],
    effect: Effect::KeysAtOnce,
    note: "A key that may sign is taken too. With TCP MD5 the key that signs is the only one that is taken.",
    access: field!(ChainKey, receive),
    ..SettingDescriptor::in_view(ViewKind::Key)
};
