//! Syntax that several commands share.

use crate::config::language::{
    argument::ArgumentKind,
    number::{NumberRange, PORT, Unit},
    secret::{CIPHER, SIMPLE},
    syntax::Syntax::{self, Choice, Optional, Value, Word},
    value::ArgumentValue,
};

pub(in crate::config) const PORT_WORD: Syntax = Word("port", "TCP port");
pub(in crate::config) const PORT_VALUE: Syntax = Value(ArgumentKind::Number(&PORT), "a port RANGE");

pub(in crate::config) const WARNING_ONLY: &str = "warning-only";

static ROUTES: NumberRange =
    NumberRange { name: "ROUTES", subject: "a limit is", unit: Unit::Routes, first: 1, last: u32::MAX, or_zero: false };

/// The value of `maximum-routes`.
pub(in crate::config) const MAXIMUM_ROUTES: &[Syntax] = &[
    Value(ArgumentKind::Number(&ROUTES), "in all families together, RANGE"),
    Optional(&[Word(WARNING_ONLY, "log it, and close nothing")]),
];

/// The key chain that signs connections.
pub(in crate::config) const KEYCHAIN_FORM: &[Syntax] =
    &[Word("keychain", "sign what is sent with the keys of a key chain, and take nothing else"), KEYCHAIN_NAME];

pub(in crate::config) const KEYCHAIN_NAME: Syntax = Value(ArgumentKind::KeychainName, "the name of the key chain");

pub(in crate::config) const TLS_WORD: &str = "tls";

/// The TLS profile of connections.
pub(in crate::config) const TLS_FORM: &[Syntax] =
    &[Word(TLS_WORD, "encrypt with TLS 1.3, and take nothing else"), TLS_PROFILE_NAME];

pub(in crate::config) const TLS_PROFILE_NAME: Syntax =
    Value(ArgumentKind::TlsProfileName, "the name of the TLS profile");

/// Returns the end of a line with a TLS profile, for its printed form.
pub(in crate::config) fn tls_values(profile: Option<String>) -> impl Iterator<Item = ArgumentValue> {
    let values = profile.map(|profile| [ArgumentValue::Keyword(TLS_WORD), ArgumentValue::Text(profile)]);
    values.into_iter().flatten()
}

/// The VPN instance of a session.
pub(in crate::config) const VPN_INSTANCE: Syntax = Optional(&[
    Word("vpn-instance", "in the VPN instance of this name"),
    Value(ArgumentKind::VpnInstance, "the name of the VPN instance, which is that of its VRF device"),
]);

/// The alias of a session.
pub(in crate::config) const ALIAS: Syntax = Optional(&[
    Word("alias", "tells sessions to one station apart"),
    Value(ArgumentKind::Alias, "the session's alias"),
]);

const SOURCE: Syntax = Value(ArgumentKind::Source, "the source address");

/// The source of connections: an address, an interface in one word or two, or both.
pub(in crate::config) const SOURCE_FORMS: Syntax = Choice(&[
    &[SOURCE],
    &[Value(ArgumentKind::InterfaceName, "the source interface"), Optional(&[SOURCE])],
    &[
        Value(ArgumentKind::InterfaceType, "the source interface's type"),
        Value(ArgumentKind::InterfaceNumber, "the source interface's number"),
        Optional(&[SOURCE]),
    ],
]);

const SECRET: Syntax = Value(ArgumentKind::Password, "the secret as it is");

/// A secret, sealed or as it is. The first form is that of the model.
pub(in crate::config) const SECRET_FORMS: Syntax = Choice(&[
    &[SECRET],
    &[Word(CIPHER, "the secret as bmpd has sealed it"), Value(ArgumentKind::Sealed, "the text of the sealed secret")],
    &[Word(SIMPLE, "the secret as it is, also one that is the word cipher or simple"), SECRET],
]);

/// A setting of two views: text in the Initiation messages of sessions.
pub(in crate::config) const INITIATION_WORD: Syntax =
    Word("initiation-message", "tell stations something about this device");

/// The words of the text. How long it may be is said where it is read.
pub(in crate::config) static INITIATION_TEXT: [Syntax; 2] = [
    Value(ArgumentKind::Text, "what stations are told, to the end of the line; quotes around it go"),
    Optional(&INITIATION_TEXT),
];

pub(in crate::config) const INITIATION_NOTE: &str = "Stations get the text in an Initiation, in a TLV of type 0 \
    (RFC 7854 §4.4). A connection that is up gets a further Initiation. The text has at most 255 characters. Several \
    blanks count as one.";
