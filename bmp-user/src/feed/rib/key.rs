//! What a route is found by.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use super::super::nlri::Nlri;
use crate::wire::bgp::{self, Form};

/// The identity of a route in its RIB, in the form that is quickest to hash and to compare.
#[derive(Clone, Copy, Debug)]
pub(super) enum RouteKey<'a> {
    /// All bytes of a short NLRI.
    Inline(Nlri),
    /// All bytes of a longer NLRI.
    Bytes(&'a [u8]),
    /// An NLRI whose identity is a part of its bytes.
    Identity(&'a [u8]),
}

/// A route that is about to be looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<'a> {
    pub(super) item: &'a [u8],
    pub(super) key: RouteKey<'a>,
    pub(super) hash: u64,
}

impl<'a> RouteKey<'a> {
    #[inline]
    pub(super) fn of(form: Form, item: &'a [u8]) -> Self {
        if form.is_whole() { Nlri::inline(item).map_or(Self::Bytes(item), Self::Inline) } else { Self::Identity(item) }
    }

    #[inline]
    pub(super) fn hash(&self, form: Form, path_ids: bool, hasher: &RandomState) -> u64 {
        match self {
            Self::Inline(nlri) => hasher.hash_one(nlri.number()),
            Self::Bytes(item) => hasher.hash_one(item),
            Self::Identity(item) => hash_of_identity(form, path_ids, item, hasher),
        }
    }
}

/// True if two NLRI are the same route. Not inlined: otherwise every form would pay for the work of
/// one.
#[inline(never)]
pub(super) fn same_identity(form: Form, path_ids: bool, one: &[u8], other: &[u8]) -> bool {
    bgp::identity(form, path_ids, one) == bgp::identity(form, path_ids, other)
}

#[inline(never)]
fn hash_of_identity(form: Form, path_ids: bool, item: &[u8], hasher: &RandomState) -> u64 {
    hasher.hash_one(bgp::identity(form, path_ids, item))
}

/// Calls `then` with the NLRI without its meaningless bits, so that equal routes have equal bytes.
pub(super) fn with_meaningful_bits<T>(form: Form, path_ids: bool, item: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    match bgp::without_trailing_bits(form, path_ids, item) {
        None => then(item),
        Some(last) => {
            let mut copy = item.to_vec();
            if let Some(byte) = copy.last_mut() {
                *byte = last;
            }
            then(&copy)
        }
    }
}
