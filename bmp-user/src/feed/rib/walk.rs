//! Walks along the list of a RIB, in the order in which its routes changed, while they change.

use super::{super::blocks::NONE, GroupKey, Nlri, Rib, RibRoute};

/// A place in the list of a RIB. Stays where it is when routes come and go.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::feed) struct WalkMark(u32);

impl WalkMark {
    /// The place to walk on from.
    pub(in crate::feed) fn place(&self) -> u32 {
        self.0
    }
}

impl Rib {
    /// Puts a mark before the first route that changed after `since`.
    pub(in crate::feed) fn mark(&mut self, since: u64) -> WalkMark {
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
        let mark = self.routes.insert(RibRoute::default());
        self.marks += 1;
        self.link_mark(mark, before, after);
        WalkMark(mark)
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

    /// Removes a mark.
    pub(in crate::feed) fn unmark(&mut self, mark: WalkMark) {
        let route = self.routes.remove(mark.0);
        self.unlink(&route);
        self.marks -= 1;
    }

    /// Removes all marks. Whoever has one must not go on.
    pub(in crate::feed) fn unmark_all(&mut self) {
        let mut at = if self.marks == 0 { NONE } else { self.first };
        while at != NONE {
            let next = self.routes.get(at).after;
            if self.routes.get(at).group == NONE {
                self.unmark(WalkMark(at));
            }
            at = next;
        }
    }

    /// The next route behind a place, if it changed no later than `until`. The place is a route or
    /// a mark. The returned route is the next place.
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

    /// Moves a mark behind a place that a walk from the mark reached.
    pub(in crate::feed) fn advance(&mut self, mark: &WalkMark, place: u32) {
        if place == mark.0 {
            return;
        }
        let here = *self.routes.get(mark.0);
        self.unlink(&here);
        let after = self.routes.get(place).after;
        self.link_mark(mark.0, place, after);
    }

    /// The sequence number after the frame that changed a route.
    pub(in crate::feed) fn changed(&self, number: u32) -> u64 {
        self.routes.get(number).changed()
    }

    /// The rest of the group of a route, from the route on, up to the routes that changed at
    /// `until`. `None` if the route before it in the group changed after `since`: the walk has sent
    /// the group.
    pub(in crate::feed) fn group_from(&self, number: u32, since: u64, until: u64) -> Option<RestOfGroup<'_>> {
        let route = self.routes.get(number);
        if route.before_in_group != NONE && self.routes.get(route.before_in_group).changed() > since {
            return None;
        }
        let routes = GroupRoutes { rib: self, at: number, until, place: number, next: number, returned: 0 };
        Some(RestOfGroup { key: self.groups.get(route.group).key, routes })
    }
}

/// A group that a walk has met.
#[derive(Clone, Copy, Debug)]
pub(in crate::feed) struct MetGroup {
    pub(in crate::feed) key: GroupKey,
    /// See [`GroupRoutes::place`].
    pub(in crate::feed) place: u32,
}

impl Rib {
    /// Puts the numbers of the routes of [`Rib::group_from`] into `numbers`.
    pub(in crate::feed) fn numbers_from(
        &self,
        number: u32,
        since: u64,
        until: u64,
        numbers: &mut Vec<u32>,
    ) -> Option<MetGroup> {
        numbers.clear();
        let RestOfGroup { key, mut routes } = self.group_from(number, since, until)?;
        loop {
            let next = routes.at;
            if routes.next().is_none() {
                return Some(MetGroup { key, place: routes.place() });
            }
            numbers.push(next);
        }
    }

    /// The kept NLRI of a route.
    pub(in crate::feed) fn kept_nlri(&self, number: u32) -> &Nlri {
        &self.routes.get(number).nlri
    }
}

/// The rest of a group, as a walk meets it.
pub(in crate::feed) struct RestOfGroup<'a> {
    pub(in crate::feed) key: GroupKey,
    pub(in crate::feed) routes: GroupRoutes<'a>,
}

/// The processor fetches the route so many numbers ahead. In a new table, routes that follow one
/// another have numbers that follow one another.
const AHEAD: u32 = 32;

/// Routes of a group, in the order in which they changed.
pub(in crate::feed) struct GroupRoutes<'a> {
    rib: &'a Rib,
    /// The next route.
    at: u32,
    until: u64,
    place: u32,
    /// The route behind `place` in the list of the RIB.
    next: u32,
    returned: u64,
}

impl GroupRoutes<'_> {
    /// How many routes were returned.
    pub(in crate::feed) fn returned(&self) -> u64 {
        self.returned
    }

    /// The last returned route of those that follow one another in the list of the RIB too. A walk
    /// along that list need not meet them again.
    pub(in crate::feed) fn place(&self) -> u32 {
        self.place
    }
}

impl<'a> Iterator for GroupRoutes<'a> {
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
        self.returned += 1;
        Some(&route.nlri)
    }
}
