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

/// Gives an enum of the displays its words: `as_str`, `Display` and `Serialize` all use them.
macro_rules! words {
    ($name:ident { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $name {
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
    };
}
pub(super) use words;

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
