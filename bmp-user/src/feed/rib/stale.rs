//! Routes that are to go: those of an input that went away, and withdrawals that nobody needs any more.

use super::{
    super::{attributes::Attributes, blocks::NONE},
    Outcome, Rib, STALE, Time,
};

impl Rib {
    /// The input of the routes went away, and may come back: what it does not announce again is to go.
    pub(in crate::feed) fn set_stale(&mut self) {
        let mut at = self.first;
        while at != NONE {
            let route = self.routes.get_mut(at);
            let (next, group) = (route.after, route.group);
            if group != NONE && !route.is_stale() && self.groups.get(group).common.attributes != NONE {
                self.routes.get_mut(at).changed[0] |= STALE;
                self.stale += 1;
            }
            at = next;
        }
    }

    /// Routes that were not announced again since [`Rib::set_stale`], as many as fit into one message: their numbers.
    pub(in crate::feed) fn stale(&self) -> Vec<u32> {
        // A withdrawal with labels may be longer than what it withdraws.
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
        attributes: &mut Attributes,
    ) -> Outcome {
        let head = self.common(number).head;
        self.withdraw_number(number, Time::default(), head, changed, attributes)
    }
    /// Forgets a withdrawal, if it is still the one that was kept at `changed`, unless every station that comes late needs it.
    pub(in crate::feed) fn forget(&mut self, number: u32, changed: u64, attributes: &mut Attributes) {
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

    /// Whether a number is that of a withdrawal that came at `changed`.
    pub(super) fn is_withdrawal_of(&self, number: u32, changed: u64) -> bool {
        self.routes.try_get(number).is_some_and(|route| {
            route.group != NONE && route.changed() == changed && self.groups.get(route.group).common.attributes == NONE
        })
    }

    pub(super) fn drop_withdrawal(&mut self, number: u32, changed: u64, attributes: &mut Attributes) {
        self.remove(number, attributes);
        self.forgotten = self.forgotten.max(changed);
    }

    /// Takes a route out of the RIB.
    pub(super) fn remove(&mut self, number: u32, attributes: &mut Attributes) {
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
    }
}
