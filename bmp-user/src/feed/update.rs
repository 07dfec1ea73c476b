//! What one UPDATE does to the RIBs of its peer.

use std::{collections::VecDeque, sync::Arc};

use foldhash::fast::RandomState;

use super::{
    attributes::Attributes,
    blocks::NONE,
    peers::{Incarnation, Latest, negotiated},
    rib::{Common, EndOfRib, Outcome, Rib, TOMBSTONE, Time, View},
    state::Withdrawal,
    trouble::Trouble,
};
use crate::wire::{
    bgp::{Family, Form, nlri},
    bmp::PeerHeader,
};

/// What one UPDATE does.
pub(super) struct Hand<'a> {
    pub(super) ribs: &'a mut Vec<Rib>,
    pub(super) life: &'a Arc<Incarnation>,
    pub(super) more_ups: &'a [Latest],
    /// How many frames there were, with this one.
    pub(super) heard: u64,
    pub(super) slot: u32,
    pub(super) view: View,
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

    /// The RIB of a family: its place, made if there is none and if `make` says so. `None` if its routes cannot be told from one another.
    fn rib(&mut self, family: Family, make: bool) -> Option<usize> {
        self.saw(family);
        let found = self.ribs.iter_mut().enumerate().find(|(_, rib)| rib.family == family && rib.view == self.view);
        if let Some((number, rib)) = found {
            rib.heard = self.heard;
            return Some(number);
        }
        if !make {
            return None;
        }
        let Some(form) = Form::of(family) else {
            self.trouble.unknown_family += 1;
            return None;
        };
        let ups = self.life.up.iter().chain(self.more_ups.iter().map(|more| &more.frame));
        let (path_ids, max_message) = negotiated(ups, self.view, family);
        let mut rib = Rib::new(self.view, family, form, path_ids, self.header, max_message, self.hasher.clone());
        rib.heard = self.heard;
        self.ribs.push(rib);
        Some(self.ribs.len() - 1)
    }

    pub(super) fn end_of_rib(&mut self, family: Family) -> Option<usize> {
        let number = self.rib(family, true)?;
        let Self { ribs, changed, time, header, .. } = self;
        self.news = !self.again || ribs[number].end_of_rib.is_none();
        if self.news {
            ribs[number].end_of_rib = Some(EndOfRib { changed: *changed, time: *time, flags: header.flags });
        }
        Some(number)
    }

    /// Whether every NLRI is what it should be. If not, nothing of them is stored.
    fn is_well_formed(&mut self, number: usize, items: &[u8]) -> bool {
        let rib = &self.ribs[number];
        let good = nlri(rib.form, rib.path_ids, items).all(|item| item.is_ok());
        self.trouble.malformed += u64::from(!good);
        self.news |= !good;
        good
    }

    pub(super) fn withdraw(&mut self, family: Family, items: &[u8]) {
        let Some(number) = self.rib(family, false) else { return };
        if !self.is_well_formed(number, items) {
            return;
        }
        let rib = &self.ribs[number];
        for item in nlri(rib.form, rib.path_ids, items).flatten() {
            let outcome = self.ribs[number].withdraw(item, self.time, self.header.flags, self.changed, self.attributes);
            self.keep(number, outcome);
        }
    }

    fn keep(&mut self, number: usize, outcome: Outcome) {
        match outcome {
            Outcome::Same => {}
            Outcome::Changed => self.news = true,
            Outcome::Withdrawn(route) => {
                self.news = true;
                *self.withdrawal_bytes += TOMBSTONE;
                let (life, changed) = (self.life.number, self.changed);
                self.withdrawals.push_back(Withdrawal { slot: self.slot, rib: number as u32, route, life, changed });
            }
        }
    }

    /// Announces routes with a set that has one use for them, which is given back.
    pub(super) fn announce(&mut self, family: Family, items: &[u8], set: u32) {
        debug_assert_ne!(set, NONE);
        if let Some(number) = self.rib(family, true).filter(|number| self.is_well_formed(*number, items)) {
            let common = Common { attributes: set, time: self.time, flags: self.header.flags };
            let Self { ribs, changed, again, attributes, news, .. } = self;
            // An announcement leaves no withdrawal to be kept.
            ribs[number].announce(items, common, *changed, *again, attributes, |outcome| {
                *news |= outcome != Outcome::Same;
            });
        }
        self.attributes.release(set);
    }
}
