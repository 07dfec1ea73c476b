//! The words that text and JSON both use for an enum. They are stable: users' scripts compare them.

use std::fmt::{self, Display};

use serde::{Serialize, Serializer};

use crate::{
    config::{PUBLIC, SourceLevel},
    feed::TroubleKind,
    input::bgp,
    pin::Reason,
    session::SessionPhase,
    wire::{
        bgp::Family,
        bmp::{PeerType, RibView},
    },
};

/// Gives an enum of the displays its words: `as_str`, `Display`, `Serialize` and the schema all use
/// them.
macro_rules! words {
    ($name:ident { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $name {
            /// All words.
            pub(in crate::control) const WORDS: &'static [&'static str] = &[$($word),+];

            /// Returns the word of the text and of the JSON.
            pub(in crate::control) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        $crate::control::words::schema_is_words!($name, Self::WORDS);
    };
}
pub(super) use words;

/// Gives a type that is serialized as a word its schema.
macro_rules! schema_is_words {
    ($name:ty, $words:expr) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let words = $words;
                schemars::json_schema!({ "type": "string", "enum": words })
            }
        }
    };
}
pub(super) use schema_is_words;

schema_is_words!(SourceLevel, SourceLevel::ALL.map(SourceLevel::as_str));
schema_is_words!(SessionPhase, SessionPhase::ALL.map(SessionPhase::as_str));
schema_is_words!(Reason, Reason::ALL.map(Reason::as_str));
schema_is_words!(TroubleKind, TroubleKind::ALL.map(TroubleKind::as_str));
schema_is_words!(bgp::BgpState, bgp::BgpState::ALL.map(bgp::BgpState::as_str));
schema_is_words!(
    bgp::BgpDownReason,
    [&Reason::ALL.map(Reason::as_str)[..], &bgp::BgpDownReason::OWN.map(bgp::BgpDownReason::as_str)].concat()
);
schema_is_words!(ViewName, RibView::ALL.map(|view| ViewName(view).to_string()));

/// Serializes enums of other modules as the word that they have for displays.
macro_rules! serialize_as_word {
    ($($name:ty),+ $(,)?) => {
        $(impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        })+
    };
}
serialize_as_word!(SourceLevel, SessionPhase, Reason, TroubleKind, bgp::BgpDownReason);

/// Serializes types of other modules as their text.
macro_rules! serialize_as_text {
    ($($name:ty),+ $(,)?) => {
        $(impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        })+
    };
}
serialize_as_text!(Family, bgp::BgpState);

/// A RIB view in the words of `route-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ViewName(pub(super) RibView);

impl Display for ViewName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            RibView::AdjRibInPre => "adj-rib-in pre-policy",
            RibView::AdjRibInPost => "adj-rib-in post-policy",
            RibView::AdjRibOutPre => "adj-rib-out pre-policy",
            RibView::AdjRibOutPost => "adj-rib-out post-policy",
            RibView::LocRib => "local-rib",
        })
    }
}

/// A peer type (RFC 7854 §4.2) by name, or by number where the type has none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerTypeName(pub(super) PeerType);

impl Display for PeerTypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PeerType::GLOBAL => f.write_str("global"),
            PeerType::RD => f.write_str("rd"),
            PeerType::LOCAL => f.write_str("local"),
            PeerType::LOC_RIB => f.write_str("loc-rib"),
            PeerType(other) => other.fmt(f),
        }
    }
}

/// The VPN instance of a session, or `_public_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VpnInstanceName(pub(super) Option<String>);

impl Display for VpnInstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or(PUBLIC))
    }
}

serialize_as_text!(ViewName, PeerTypeName, VpnInstanceName);

/// Gives types that are serialized as their text their schema.
macro_rules! schema_is_text {
    ($($name:ty),+ $(,)?) => {
        $(impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        })+
    };
}
pub(super) use schema_is_text;

schema_is_text!(Family, PeerTypeName, VpnInstanceName);
