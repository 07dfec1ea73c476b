//! Syntax that several commands share.

use crate::config::language::{
    argument::ArgumentKind,
    number::PORT,
    syntax::Syntax::{self, Choice, Optional, Value, Word},
};

pub(in crate::config) const PORT_WORD: Syntax = Word("port", "TCP port");
pub(in crate::config) const PORT_VALUE: Syntax = Value(ArgumentKind::Number(&PORT), "a port RANGE");

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
