//! What one UPDATE does to the RIBs of its peer.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{
    attributes::Attributes,
    blocks::NONE,
    peers::{ConnectionId, Hints, Incarnation, Latest, hints},
    rib::{Common, EndOfRib, Outcome, Rib, Time},
    state::Withdrawal,
    trouble::Trouble,
};
use crate::wire::{
    bgp::{Family, Fit, Form, Reading, nlri},
    bmp::{PeerHeader, RibView},
};

/// What one UPDATE does.
pub(super) struct Hand<'a> {
    pub(super) ribs: &'a mut Vec<Rib>,
    pub(super) life: &'a Arc<Incarnation>,
    pub(super) more_ups: &'a [Latest],
    /// See [`super::peers::Peer`].
    pub(super) lacks_families: &'a mut bool,
    pub(super) anew_since: &'a mut u64,
    /// How many frames there were, with this one.
    pub(super) heard: u64,
    /// Connections whose OPENs say for certain how NLRI are written, and the one that this came by.
    pub(super) trusted: &'a HashSet<ConnectionId>,
    pub(super) connection: ConnectionId,
    pub(super) slot: u32,
    pub(super) view: RibView,
    pub(super) header: PeerHeader,
    pub(super) time: Time,
    pub(super) changed: u64,
    pub(super) attributes: &'a mut Attributes,
    pub(super) trouble: &'a mut Trouble,
    pub(super) withdrawals: &'a mut VecDeque<Withdrawal>,
    pub(super) withdrawal_bytes: &'a mut usize,
    pub(super) hasher: &'a RandomState,
    /// None yet, one, or several.
    pub(super) families: Option<Option<Family>>,
    /// The peer says again what it said before its input went away.
    pub(super) again: bool,
    pub(super) news: bool,
}

impl Hand<'_> {
    fn saw(&mut self, family: Family) {
        self.families = match self.families {
            None => Some(Some(family)),
            Some(Some(other)) if other == family => return,
            _ => Some(None),
        };
    }

    /// The RIB of a family: its place, made if there is none and if `make` says so. `None` if the peer has too many of unknown families.
    fn rib(&mut self, family: Family, make: bool) -> Option<usize> {
        self.saw(family);
        let found = self.ribs.iter_mut().enumerate().find(|(_, rib)| rib.family == family && rib.view == self.view);
        if let Some((number, rib)) = found {
            // One whose table ended is as if it were not there.
            let is_there = make || rib.is_spoken_of();
            if is_there {
                rib.heard = self.heard;
            }
            return is_there.then_some(number);
        }
        if Form::of(family).is_none() && self.ribs.iter().filter(|rib| rib.form == Form::Whole).count() >= MOST_UNKNOWN
        {
            self.trouble.unknown_family += 1;
            self.trouble.overflowed += u64::from(make);
            *self.lacks_families = true;
            *self.anew_since = self.changed;
            return None;
        }
        if !make {
            return None;
        }
        let opens = self.opens(family);
        let mut rib = Rib::new(self.view, family, opens, self.life.up.is_some(), self.header, self.hasher.clone());
        if self.trusted.contains(&self.connection) {
            rib.trust();
        }
        rib.heard = self.heard;
        self.ribs.push(rib);
        Some(self.ribs.len() - 1)
    }

    pub(super) fn end_of_rib(&mut self, family: Family) -> Option<usize> {
        let number = self.rib(family, true)?;
        let Self { ribs, changed, time, header, .. } = self;
        let head = ribs[number].head(header);
        self.news = !self.again || ribs[number].end_of_rib.is_none();
        if self.news {
            ribs[number].end_of_rib = Some(EndOfRib { changed: *changed, time: *time, head });
        }
        Some(number)
    }

    /// What the OPENs say of the RIB of a family.
    fn opens(&self, family: Family) -> Hints {
        let ups = self.life.up.iter().chain(self.more_ups.iter().map(|more| &more.frame));
        hints(ups, self.view, family)
    }

    /// Whether NLRI can be told apart. If not, the field that they are is kept whole.
    #[inline]
    fn can_split(&mut self, number: usize, items: &[u8], withdrawn: bool) -> bool {
        let rib = &self.ribs[number];
        let reading = if withdrawn { rib.reading().withdrawn() } else { rib.reading() };
        (rib.is_decided() && reading.is_likely(items)) || self.looks_closer(number, items, withdrawn)
    }

    #[cold]
    #[inline(never)]
    fn looks_closer(&mut self, number: usize, items: &[u8], withdrawn: bool) -> bool {
        let of = |reading: Reading| if withdrawn { reading.withdrawn() } else { reading };
        let rib = &self.ribs[number];
        let reading = rib.reading();
        if reading.form == Form::Whole {
            self.trouble.unknown_family += 1;
            return false;
        }
        if rib.is_decided() {
            let other = Reading { path_ids: !reading.path_ids, ..reading };
            let fits = (of(reading).fit(items), of(other).fit(items));
            match fits {
                (Fit::Uneven, Fit::Uneven) => self.trouble.malformed += 1,
                (Fit::Uneven, _) | (Fit::Odd, Fit::Good) => self.trouble.mixed_path_ids += 1,
                _ => return true,
            }
            return false;
        }
        let opens = self.opens(rib.family);
        let likeliest = Reading::of(rib.family, opens.path_ids, opens.stack);
        let (can_be_read, decided) = self.ribs[number].learn(items, withdrawn, likeliest);
        self.trouble.malformed += u64::from(!can_be_read);
        let Some(decided) = decided else { return false };
        for (route, changed) in self.ribs[number].convert(decided, self.attributes) {
            self.keep_withdrawal(number, route, changed);
        }
        of(decided).is_even(items)
    }

    pub(super) fn withdraw(&mut self, family: Family, items: &[u8]) {
        let Some(number) = self.rib(family, false).filter(|_| !items.is_empty()) else { return };
        let Self { time, header, changed, .. } = *self;
        let head = self.ribs[number].head(&header);
        if !self.can_split(number, items, true) {
            let outcome = self.ribs[number].withdraw_whole(items, time, head, changed, self.attributes);
            self.news = true;
            self.keep(number, outcome);
            return;
        }
        let reading = self.ribs[number].reading().withdrawn();
        for item in nlri(reading.form, reading.path_ids, items).flatten() {
            let outcome = self.ribs[number].withdraw(item, time, head, changed, self.attributes);
            self.keep(number, outcome);
        }
    }

    fn keep(&mut self, number: usize, outcome: Outcome) {
        match outcome {
            Outcome::Same => {}
            Outcome::Changed => self.news = true,
            Outcome::Withdrawn(route) => {
                self.news = true;
                self.keep_withdrawal(number, route, self.changed);
            }
        }
    }

    fn keep_withdrawal(&mut self, number: usize, route: u32, changed: u64) {
        let withdrawal = Withdrawal::of(&self.ribs[number], route, (self.slot, number), self.life.number, changed);
        *self.withdrawal_bytes += withdrawal.bytes as usize;
        self.withdrawals.push_back(withdrawal);
    }

    /// Announces routes with a set that has one use for them, which is given back.
    pub(super) fn announce(&mut self, family: Family, items: &[u8], set: u32) {
        debug_assert_ne!(set, NONE);
        if let Some(number) = self.rib(family, true).filter(|_| !items.is_empty()) {
            let head = self.ribs[number].head(&self.header);
            let common = Common { attributes: set, time: self.time, head, whole: false };
            let can_split = self.can_split(number, items, false);
            let Self { ribs, changed, again, attributes, news, trouble, .. } = self;
            let rib = &mut ribs[number];
            // An announcement leaves no withdrawal to be kept.
            if can_split {
                rib.announce(items, common, *changed, *again, attributes, |outcome| *news |= outcome != Outcome::Same);
            } else {
                rib.announce_whole(items, common, *changed, attributes);
                *news = true;
            }
            trouble.overflowed += rib.newly_not_kept();
        }
        self.attributes.release(set);
    }
}

/// RIBs of unknown families of one peer, at most.
const MOST_UNKNOWN: usize = 64;
