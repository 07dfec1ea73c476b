//! Walks along the list of a RIB, in the order in which its routes changed, while they change.

use super::{super::blocks::NONE, Common, Nlri, Rib, Route};

/// A place in a RIB's list that stays where it is when routes come and go.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::feed) struct Mark(u32);

impl Mark {
    /// Where it is, to walk on from.
    pub(in crate::feed) fn place(&self) -> u32 {
        self.0
    }
}

impl Rib {
    /// A mark before the first route that changed after `since`.
    pub(in crate::feed) fn mark(&mut self, since: u64) -> Mark {
        let mut after = NONE;
        if since == 0 {
            after = self.first;
        } else {
            let mut at = self.last;
            while at != NONE {
                let route = self.routes.get(at);
                if route.group != NONE && route.changed() <= since {
                    break;
                }
                after = at;
                at = route.before;
            }
        }
        let before = if after == NONE { self.last } else { self.routes.get(after).before };
        let mark = self.routes.insert(Route::default());
        self.marks += 1;
        self.link_mark(mark, before, after);
        Mark(mark)
    }

    pub(super) fn link_mark(&mut self, mark: u32, before: u32, after: u32) {
        let route = self.routes.get_mut(mark);
        (route.before, route.after) = (before, after);
        match before {
            NONE => self.first = mark,
            before => self.routes.get_mut(before).after = mark,
        }
        match after {
            NONE => self.last = mark,
            after => self.routes.get_mut(after).before = mark,
        }
    }

    /// Takes a mark away.
    pub(in crate::feed) fn unmark(&mut self, mark: Mark) {
        let route = self.routes.remove(mark.0);
        self.unlink(&route);
        self.marks -= 1;
    }

    /// Takes all marks away: whoever has one will not go on.
    pub(in crate::feed) fn unmark_all(&mut self) {
        let mut at = if self.marks == 0 { NONE } else { self.first };
        while at != NONE {
            let next = self.routes.get(at).after;
            if self.routes.get(at).group == NONE {
                self.unmark(Mark(at));
            }
            at = next;
        }
    }

    /// The next route behind a place, which is a route or a mark, that changed no later than `until`. It is the next place.
    #[inline]
    pub(in crate::feed) fn next(&self, place: u32, until: u64) -> Option<u32> {
        let mut at = self.routes.get(place).after;
        while at != NONE {
            let route = self.routes.get(at);
            if route.group != NONE {
                return (route.changed() <= until).then_some(at);
            }
            at = route.after;
        }
        None
    }

    /// Puts a mark behind a place that was reached from it.
    pub(in crate::feed) fn advance(&mut self, mark: &Mark, place: u32) {
        if place == mark.0 {
            return;
        }
        let here = *self.routes.get(mark.0);
        self.unlink(&here);
        let after = self.routes.get(place).after;
        self.link_mark(mark.0, place, after);
    }

    /// When a route changed: the sequence number after the frame that changed it.
    pub(in crate::feed) fn changed(&self, number: u32) -> u64 {
        self.routes.get(number).changed()
    }

    /// What a route has in common with its group, and the group's routes from it on, up to those that changed at `until`; `None` if
    /// one before it changed after `since`: it has been met already.
    pub(in crate::feed) fn group_from(&self, number: u32, since: u64, until: u64) -> Option<(Common, FromGroup<'_>)> {
        let route = self.routes.get(number);
        if route.before_in_group != NONE && self.routes.get(route.before_in_group).changed() > since {
            return None;
        }
        let items = FromGroup { rib: self, at: number, until, place: number, next: number };
        Some((self.groups.get(route.group).common, items))
    }

    /// What a route has in common with its group.
    pub(in crate::feed) fn common(&self, number: u32) -> Common {
        self.groups.get(self.routes.get(number).group).common
    }
}

/// So many routes further on is what comes soon, where routes came with numbers that follow one another, as they do into a new table.
const AHEAD: u32 = 32;

/// Routes of a group, in the order in which they changed.
pub(in crate::feed) struct FromGroup<'a> {
    rib: &'a Rib,
    /// What comes next.
    at: u32,
    until: u64,
    place: u32,
    /// What comes behind `place` in the list of the RIB.
    next: u32,
}

impl FromGroup<'_> {
    /// The last route that was given of those that follow one another in the list of the RIB too: who walks along that needs to meet none
    /// of them again.
    pub(in crate::feed) fn place(&self) -> u32 {
        self.place
    }
}

impl<'a> Iterator for FromGroup<'a> {
    type Item = &'a Nlri;

    #[inline]
    fn next(&mut self) -> Option<&'a Nlri> {
        if self.at == NONE {
            return None;
        }
        let route = self.rib.routes.get(self.at);
        self.rib.routes.prefetch(self.at.wrapping_add(AHEAD));
        if route.changed() > self.until {
            return None;
        }
        if self.at == self.next {
            self.place = self.at;
            self.next = route.after;
        }
        self.at = route.after_in_group;
        Some(&route.nlri)
    }
}
