//! Routes that have to go: those of an input that went away, and withdrawals that no station needs.

use super::{
    super::{attributes::AttributeSets, blocks::NONE},
    ReceiveTime, Rib, RouteChange, STALE,
};

impl Rib {
    /// Marks all routes as stale, because their input went away. Routes that it does not announce
    /// again have to go.
    pub(in crate::feed) fn set_stale(&mut self) {
        let mut at = self.first;
        while at != NONE {
            let route = self.routes.get_mut(at);
            let (next, group) = (route.after, route.group);
            if group != NONE && !route.is_stale() && self.groups.get(group).key.attributes != NONE {
                self.routes.get_mut(at).changed[0] |= STALE;
                self.stale += 1;
            }
            at = next;
        }
    }

    /// Returns the numbers of stale routes, as many as fit into one message.
    pub(in crate::feed) fn stale(&self) -> Vec<u32> {
        // A withdrawal with labels may be longer than the NLRI that it withdraws.
        const LABEL: usize = 3;
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut at = if self.stale == 0 { NONE } else { self.first };
        while at != NONE && found.len() < self.stale {
            let route = self.routes.get(at);
            if route.group != NONE && route.is_stale() {
                if route.is_whole() {
                    // It has a message of its own.
                    found.extend(found.is_empty().then_some(at));
                    break;
                }
                bytes += self.long.get(&route.nlri).len() + LABEL;
                if !self.fits(0, bytes) && !found.is_empty() {
                    break;
                }
                found.push(at);
            }
            at = route.after;
        }
        found
    }

    /// Withdraws a route by its number, in bmpd's own name.
    pub(in crate::feed) fn withdraw_stale(
        &mut self,
        number: u32,
        changed: u64,
        attributes: &mut AttributeSets,
    ) -> RouteChange {
        let variant = self.group_key(number).variant;
        self.withdraw_number(number, ReceiveTime::default(), variant, changed, attributes)
    }

    /// Forgets the withdrawal that was kept at `changed`, if it is still there. A withdrawal that
    /// every late station needs stays.
    pub(in crate::feed) fn forget(&mut self, number: u32, changed: u64, attributes: &mut AttributeSets) {
        if !self.is_withdrawal_of(number, changed) {
            return;
        }
        if self.whole.is_some() && self.has_to_stay(number, changed) {
            self.keep_standing(number, changed, attributes);
            return;
        }
        self.drop_withdrawal(number, changed, attributes);
        if self.whole.is_some() {
            self.settle(attributes);
        }
    }

    /// True if the entry with this number is a withdrawal that came at `changed`.
    pub(super) fn is_withdrawal_of(&self, number: u32, changed: u64) -> bool {
        self.routes.try_get(number).is_some_and(|route| {
            route.group != NONE && route.changed() == changed && self.groups.get(route.group).key.attributes == NONE
        })
    }

    pub(super) fn drop_withdrawal(&mut self, number: u32, changed: u64, attributes: &mut AttributeSets) {
        self.remove(number, attributes);
        self.forgotten = self.forgotten.max(changed);
    }

    /// Removes a route from the RIB.
    pub(super) fn remove(&mut self, number: u32, attributes: &mut AttributeSets) {
        let hash = self.hash_of(number);
        self.index.remove(hash, number);
        self.take_out(number, attributes);
        let route = self.routes.remove(number);
        if let Some(whole) = &mut self.whole
            && route.is_whole()
        {
            whole.entries -= 1;
            whole.bytes -= self.long.get(&route.nlri).len();
        }
        self.long.remove(route.nlri);
        self.forget_judgements(number);
    }
}
