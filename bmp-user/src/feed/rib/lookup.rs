//! Finds the routes of an UPDATE.
//!
//! To look a route up is to wait for memory. So the routes of an UPDATE are looked up together: the
//! processor fetches for all of them at once.

use super::{
    super::blocks::NONE,
    Rib, TOGETHER,
    key::{self, Probe, RouteKey},
    whole,
};

impl Rib {
    /// The hash that a route is found by.
    pub(super) fn hash_of(&self, number: u32) -> u64 {
        let route = self.routes.get(number);
        let bytes = self.long.get(&route.nlri);
        if route.is_whole() {
            return whole::hash(bytes, &self.hasher);
        }
        RouteKey::of(self.form, bytes).hash(self.form, self.path_ids, &self.hasher)
    }

    /// The number of the route with this identity.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &RouteKey<'_>) -> Option<u32> {
        self.index.find(hash, |number| self.has_key(number, key))
    }

    #[inline]
    fn has_key(&self, number: u32, key: &RouteKey<'_>) -> bool {
        let route = self.routes.get(number);
        let kept = &route.nlri;
        match key {
            // A whole field is never kept inline.
            RouteKey::Inline(nlri) => kept == nlri,
            _ if route.is_whole() => false,
            RouteKey::Bytes(item) => self.long.get(kept) == *item,
            RouteKey::Identity(item) => key::same_identity(self.form, self.path_ids, self.long.get(kept), item),
        }
    }

    /// Hashes the identity of an NLRI, and has the processor fetch its place in the index.
    #[inline]
    pub(super) fn probe<'a>(&self, item: &'a [u8]) -> Probe<'a> {
        let key = RouteKey::of(self.form, item);
        let hash = key.hash(self.form, self.path_ids, &self.hasher);
        self.index.prefetch(hash);
        Probe { item, key, hash }
    }

    /// Makes room in the index for one more route.
    pub(super) fn make_room(&mut self) {
        if !self.index.is_full() {
            return;
        }
        self.index.grow();
        let Self { index, routes, long, hasher, form, path_ids, .. } = self;
        let hash = |number: u32| {
            let route = routes.get(number);
            // Free places and marks have no group.
            (route.group != NONE).then(|| match long.get(&route.nlri) {
                field if route.is_whole() => whole::hash(field, hasher),
                item => RouteKey::of(*form, item).hash(*form, *path_ids, hasher),
            })
        };
        let mut numbers = 0..routes.numbers();
        let mut hashes = [const { None }; TOGETHER];
        while !numbers.is_empty() {
            for (hashed, number) in hashes.iter_mut().zip(&mut numbers) {
                *hashed = hash(number).map(|hash| (hash, number));
                hashed.iter().for_each(|(hash, _)| index.prefetch(*hash));
            }
            for (hash, number) in hashes.iter_mut().filter_map(Option::take) {
                index.insert(hash, number);
            }
        }
    }
}
