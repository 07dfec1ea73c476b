//! Errors in what inputs send, counted by kind.

use std::{fmt, ops::Sub};

use crate::wire::bgp::Update;

/// A kind of error of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// See [`Trouble::malformed`].
    Malformed,
    /// See [`Trouble::mixed_path_ids`].
    MixedPathIds,
    /// See [`Trouble::malformed_attributes`].
    MalformedAttributes,
    /// See [`Trouble::as_size`].
    AsSize,
    /// See [`Trouble::overflowed`].
    Overflowed,
}

impl TroubleKind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Malformed, Self::MixedPathIds, Self::MalformedAttributes, Self::AsSize, Self::Overflowed];

    /// Its name in displays.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::MixedPathIds => "mixed-path-ids",
            Self::MalformedAttributes => "malformed-attributes",
            Self::AsSize => "other-as-size",
            Self::Overflowed => "not-kept",
        }
    }
}

/// The error of an UPDATE, in words.
impl fmt::Display for TroubleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "its routes cannot be told apart",
            Self::MixedPathIds => "its routes have path identifiers where others of the RIB have none, or the reverse",
            Self::MalformedAttributes => "it has malformed attributes",
            Self::AsSize => "its AS_PATH has AS numbers of another size than the A flag says",
            Self::Overflowed => "of its RIB too many fields of routes are kept whole, and late stations will lack some",
        })
    }
}

/// Numbers of frames that are not as they should be. All of them pass as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Route Monitoring frames about peers that were never announced, or not by the connection of
    /// the frame.
    pub unannounced: u64,
    /// UPDATEs whose routes cannot be told apart. The feed keeps the fields of the routes whole, if
    /// it finds them.
    pub malformed: u64,
    /// UPDATEs with path identifiers where others of the RIB have none, or the reverse. The feed
    /// keeps the fields of their routes whole.
    pub mixed_path_ids: u64,
    /// UPDATEs with malformed attributes (RFC 7606). The feed keeps their routes with the
    /// attributes as they came.
    pub malformed_attributes: u64,
    /// UPDATEs whose AS_PATH has AS numbers of another size than the A flag says. The feed keeps
    /// their routes as they came.
    pub as_size: u64,
    /// UPDATEs that lack a well-known attribute. The feed keeps their routes as they came.
    pub incomplete: u64,
    /// UPDATEs with routes of a family of unknown form.
    pub unknown_family: u64,
    /// Fields of routes that were dropped, because too many are kept whole. A late station is not
    /// told them.
    pub overflowed: u64,
}

impl Trouble {
    /// The number of errors of the input.
    #[cfg(test)]
    pub(super) fn errors(&self) -> u64 {
        self.errors_by_kind().map(|(_, count)| count).sum()
    }

    /// The errors of the input by kind. An unknown family, a missing attribute and a peer without a
    /// Peer Up are no errors: a router may have them.
    pub fn errors_by_kind(&self) -> impl Iterator<Item = (TroubleKind, u64)> {
        let kinds = [
            (TroubleKind::Malformed, self.malformed),
            (TroubleKind::MixedPathIds, self.mixed_path_ids),
            (TroubleKind::MalformedAttributes, self.malformed_attributes),
            (TroubleKind::AsSize, self.as_size),
            (TroubleKind::Overflowed, self.overflowed),
        ];
        kinds.into_iter().filter(|(_, count)| *count > 0)
    }

    /// Counts the errors in the attributes of an UPDATE that was read with AS numbers of `as_size`
    /// bytes. `internal` is true for a peer of the router's own AS.
    pub(super) fn count_attributes(&mut self, update: &Update<'_>, message: &[u8], as_size: usize, internal: bool) {
        self.incomplete += u64::from(update.missing.is_some());
        if !update.is_malformed(internal) {
            return;
        }
        let other_size = if as_size == 2 { 4 } else { 2 };
        let reads_otherwise = Update::parse(message, other_size).is_ok_and(|update| !update.is_malformed(internal));
        *if reads_otherwise { &mut self.as_size } else { &mut self.malformed_attributes } += 1;
    }

    pub(super) fn add(&mut self, more: Self) {
        self.unannounced += more.unannounced;
        self.malformed += more.malformed;
        self.mixed_path_ids += more.mixed_path_ids;
        self.malformed_attributes += more.malformed_attributes;
        self.as_size += more.as_size;
        self.incomplete += more.incomplete;
        self.unknown_family += more.unknown_family;
        self.overflowed += more.overflowed;
    }
}

/// The numbers since `before`.
impl Sub for Trouble {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            unannounced: self.unannounced - before.unannounced,
            malformed: self.malformed - before.malformed,
            mixed_path_ids: self.mixed_path_ids - before.mixed_path_ids,
            malformed_attributes: self.malformed_attributes - before.malformed_attributes,
            as_size: self.as_size - before.as_size,
            incomplete: self.incomplete - before.incomplete,
            unknown_family: self.unknown_family - before.unknown_family,
            overflowed: self.overflowed - before.overflowed,
        }
    }
}
