//! What a route is found by.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use super::super::nlri::Nlri;
use crate::wire::bgp::{self, Form};

/// What tells one route of a RIB from another, in the form that is quickest to hash and to compare.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'a> {
    /// All of its bytes, which are few.
    Short(Nlri),
    /// All of its bytes.
    Whole(&'a [u8]),
    /// Parts of its bytes: its identity, which is larger than a key should be.
    Parts(&'a [u8]),
}

impl<'a> Key<'a> {
    #[inline]
    pub(super) fn of(form: Form, item: &'a [u8]) -> Self {
        if form.is_whole() { Nlri::inline(item).map_or(Self::Whole(item), Self::Short) } else { Self::Parts(item) }
    }

    #[inline]
    pub(super) fn hash(&self, form: Form, path_ids: bool, hasher: &RandomState) -> u64 {
        match self {
            Self::Short(nlri) => hasher.hash_one(nlri.number()),
            Self::Whole(item) => hasher.hash_one(item),
            Self::Parts(item) => hash_of_parts(form, path_ids, item, hasher),
        }
    }
}

/// Whether two NLRI are the same route. Apart, as the hash is: or what there is to know of one form would be worked out for all.
#[inline(never)]
pub(super) fn same_identity(form: Form, path_ids: bool, one: &[u8], other: &[u8]) -> bool {
    bgp::identity(form, path_ids, one) == bgp::identity(form, path_ids, other)
}

#[inline(never)]
fn hash_of_parts(form: Form, path_ids: bool, item: &[u8], hasher: &RandomState) -> u64 {
    hasher.hash_one(bgp::identity(form, path_ids, item))
}
