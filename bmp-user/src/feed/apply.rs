//! Applies an UPDATE to the RIBs of its peer.

use std::sync::Arc;

use super::{
    applied::{AppliedFrame, RibPlace},
    blocks::NONE,
    duplicates::DuplicateCounts,
    hints::OpenHints,
    incarnation::{ConnectionId, Incarnation},
    inputs::InputTable,
    journal::FrameSubject,
    peers::LivePeer,
    rib::{EndOfRib, GroupKey, ReceiveTime, Rib, RouteChange},
    rib_tables::RibTables,
};
use crate::wire::{
    bgp::{Family, Fit, Form, Reading, Update, nlri},
    bmp::{COMMON_HEADER, Frame, PER_PEER_HEADER, PeerHeader, RibView, peer_flags},
};

/// RIBs of families of unknown form that one peer has, at most.
const MOST_UNKNOWN_FAMILIES: usize = 64;

/// A Route Monitoring frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteMonitoring<'a> {
    pub(super) frame: &'a Frame<'a>,
    pub(super) header: PeerHeader,
    /// The connection that it came by.
    pub(super) connection: ConnectionId,
    /// Sequence number after the frame.
    pub(super) changed: u64,
    /// How many frames all inputs have applied, this one included.
    pub(super) frames_applied: u64,
}

impl RibTables {
    /// Applies a Route Monitoring frame to its peer, which is in this slot.
    pub(super) fn apply(
        &mut self,
        peer: &mut LivePeer,
        slot: u32,
        inputs: &InputTable,
        message: &RouteMonitoring<'_>,
    ) -> AppliedFrame {
        let header = message.header;
        let view = header.view();
        let has_two_byte_as = header.flags & peer_flags::TWO_BYTE_AS != 0;
        let as_size = if has_two_byte_as { 2 } else { 4 };
        let bytes = message.frame.bytes().get(COMMON_HEADER + PER_PEER_HEADER..).unwrap_or_default();
        let (update, is_readable) = match Update::parse(bytes, as_size) {
            Ok(update) => (update, true),
            Err(error) => {
                self.trouble.malformed += 1;
                // The fields for IPv4 unicast can be read all the same.
                let Ok(update) = Update::parse_plain(bytes, error) else {
                    return AppliedFrame::new(FrameSubject::Mixed(Arc::clone(&peer.life), view), true);
                };
                (update, false)
            }
        };
        let repeats = peer.repeats();
        let life = Arc::clone(&peer.life);
        let time = ReceiveTime { seconds: header.seconds, microseconds: header.microseconds };
        let mut apply = ApplyUpdate {
            tables: self,
            peer,
            inputs,
            message,
            slot,
            view,
            time,
            repeats,
            families: FamiliesSeen::None,
            is_news: false,
            duplicates: DuplicateCounts::default(),
        };
        if let Some(family) = update.end_of_rib() {
            let rib = apply.end_of_rib(family);
            let repeated = rib.filter(|_| repeats).map(|rib| RibPlace { slot, rib });
            let is_news = apply.is_news || !repeats;
            return AppliedFrame { repeated, ..AppliedFrame::new(FrameSubject::EndOfRib(life, view, family), is_news) };
        }
        // The router has the route, whatever is wrong with its attributes.
        apply.tables.trouble.count_attributes(&update, bytes, as_size, life.internal);
        if !update.withdrawn.is_empty() {
            apply.withdraw(Family::IPV4_UNICAST, update.withdrawn);
        }
        if let Some(unreach) = update.unreach {
            apply.withdraw(unreach.family, unreach.nlri);
        }
        if !update.nlri.is_empty() {
            let set = apply.tables.attributes.of_nlri(&update, has_two_byte_as);
            apply.announce(Family::IPV4_UNICAST, update.nlri, set);
        }
        if let Some(reach) = update.reach {
            let set = apply.tables.attributes.of_reach(&update, &reach, has_two_byte_as);
            apply.announce(reach.family, reach.nlri, set);
        }
        apply.count_duplicates();
        let is_news = apply.is_news || !repeats || !is_readable;
        let subject = match apply.families {
            FamiliesSeen::One(family) if is_readable => FrameSubject::Routes(life, view, family),
            _ => FrameSubject::Mixed(life, view),
        };
        AppliedFrame::new(subject, is_news)
    }

    /// Withdraws routes that their peer has not repeated since its input returned, as many as fit
    /// into one message. Returns their numbers.
    pub(super) fn withdraw_stale(&mut self, peer: &mut LivePeer, place: RibPlace, changed: u64) -> Vec<u32> {
        let life = peer.life.number;
        let Some(rib) = peer.ribs.get_mut(place.rib) else { return Vec::new() };
        let stale = rib.stale();
        for &route in &stale {
            if rib.withdraw_stale(route, changed, &mut self.attributes) != RouteChange::Unchanged {
                self.withdrawals.keep(rib, place, route, life, changed);
            }
        }
        stale
    }
}

/// The families that an UPDATE is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FamiliesSeen {
    None,
    One(Family),
    Several,
}

/// An UPDATE on its way into the RIBs of its peer.
struct ApplyUpdate<'a> {
    tables: &'a mut RibTables,
    peer: &'a mut LivePeer,
    inputs: &'a InputTable,
    message: &'a RouteMonitoring<'a>,
    slot: u32,
    view: RibView,
    time: ReceiveTime,
    /// Whether the peer repeats what it said before its input went away.
    repeats: bool,
    families: FamiliesSeen,
    /// Whether the UPDATE changed anything.
    is_news: bool,
    duplicates: DuplicateCounts,
}

impl ApplyUpdate<'_> {
    fn life(&self) -> &Incarnation {
        &self.peer.life
    }

    fn add_family(&mut self, family: Family) {
        self.families = match self.families {
            FamiliesSeen::None => FamiliesSeen::One(family),
            FamiliesSeen::One(other) if other == family => return,
            _ => FamiliesSeen::Several,
        };
    }

    /// The place of the RIB of a family. Makes one if there is none, if `make` is true. `None` if
    /// there is no RIB, or if the peer has too many of unknown families.
    fn rib(&mut self, family: Family, make: bool) -> Option<usize> {
        self.add_family(family);
        let Self { peer, view, message, .. } = self;
        let found = peer.ribs.iter_mut().enumerate().find(|(_, rib)| rib.family == family && rib.view == *view);
        if let Some((place, rib)) = found {
            // A RIB whose table ended is as good as none.
            let is_there = make || rib.is_in_use();
            if is_there {
                rib.last_frame = message.frames_applied;
            }
            return is_there.then_some(place);
        }
        self.new_rib(family, make)
    }

    #[cold]
    #[inline(never)]
    fn new_rib(&mut self, family: Family, make: bool) -> Option<usize> {
        let of_unknown_form = self.peer.ribs.iter().filter(|rib| rib.form == Form::Whole).count();
        if Form::of(family).is_none() && of_unknown_form >= MOST_UNKNOWN_FAMILIES {
            self.tables.trouble.unknown_family += 1;
            self.tables.trouble.overflowed += u64::from(make);
            self.peer.lacks_families = true;
            self.peer.renewed_at = self.message.changed;
            return None;
        }
        if !make {
            return None;
        }
        let opens = OpenHints::of(self.peer.ups(), self.view, family);
        let is_announced = self.life().up.is_some();
        let RibTables { hasher, meter, .. } = &*self.tables;
        let mut rib = Rib::new(self.view, family, opens, is_announced, self.message.header, hasher.clone(), meter);
        if self.inputs.trusts_opens(self.message.connection) {
            rib.trust_opens();
        }
        rib.last_frame = self.message.frames_applied;
        self.peer.ribs.push(rib);
        Some(self.peer.ribs.len() - 1)
    }

    fn end_of_rib(&mut self, family: Family) -> Option<usize> {
        let place = self.rib(family, true)?;
        let rib = &mut self.peer.ribs[place];
        let variant = rib.header_variant(&self.message.header);
        self.is_news = !self.repeats || rib.end_of_rib.is_none();
        if self.is_news {
            rib.end_of_rib = Some(EndOfRib { changed: self.message.changed, time: self.time, variant });
        }
        Some(place)
    }

    /// True if NLRI can be told apart. If not, the RIB keeps their field whole.
    #[inline]
    fn can_split(&mut self, place: usize, items: &[u8], withdrawn: bool) -> bool {
        let rib = &self.peer.ribs[place];
        let reading = if withdrawn { rib.reading().withdrawn() } else { rib.reading() };
        (rib.is_decided() && reading.is_likely(items)) || self.can_split_unusual(place, items, withdrawn)
    }

    #[cold]
    #[inline(never)]
    fn can_split_unusual(&mut self, place: usize, items: &[u8], withdrawn: bool) -> bool {
        let of = |reading: Reading| if withdrawn { reading.withdrawn() } else { reading };
        let rib = &self.peer.ribs[place];
        let reading = rib.reading();
        let trouble = &mut self.tables.trouble;
        if reading.form == Form::Whole {
            trouble.unknown_family += 1;
            return false;
        }
        if rib.is_decided() {
            let other = Reading { path_ids: !reading.path_ids, ..reading };
            let fits = (of(reading).fit(items), of(other).fit(items));
            match fits {
                (Fit::Uneven, Fit::Uneven) => trouble.malformed += 1,
                (Fit::Uneven, _) | (Fit::Odd, Fit::Good) => trouble.mixed_path_ids += 1,
                _ => return true,
            }
            return false;
        }
        let opens = OpenHints::of(self.peer.ups(), self.view, rib.family);
        let likeliest = Reading::of(rib.family, opens.path_ids, opens.stack);
        let learned = self.peer.ribs[place].learn(items, withdrawn, likeliest);
        self.tables.trouble.malformed += u64::from(!learned.can_be_read);
        let Some(decided) = learned.decided else { return false };
        // A filter decides about routes otherwise than about whole fields. So its stations are told
        // the peer anew, even if the frame repeats what is known.
        self.is_news |= self.peer.ribs[place].is_filtered();
        let changed = self.message.changed;
        for kept in self.peer.ribs[place].convert(decided, changed, &mut self.tables.attributes) {
            self.keep_withdrawal(place, kept.route, kept.changed);
        }
        of(decided).is_even(items)
    }

    fn withdraw(&mut self, family: Family, items: &[u8]) {
        let Some(place) = self.rib(family, false).filter(|_| !items.is_empty()) else { return };
        self.note_known_to_all(place);
        let variant = self.peer.ribs[place].header_variant(&self.message.header);
        let changed = self.message.changed;
        if !self.can_split(place, items, true) {
            let attributes = &mut self.tables.attributes;
            let change = self.peer.ribs[place].withdraw_whole(items, self.time, variant, changed, attributes);
            self.is_news = true;
            self.note(place, change);
            return;
        }
        let reading = self.peer.ribs[place].reading().withdrawn();
        for item in nlri(reading.form, reading.path_ids, items).flatten() {
            let attributes = &mut self.tables.attributes;
            let change = self.peer.ribs[place].withdraw(item, self.time, variant, changed, attributes);
            self.duplicates.withdrawals += u32::from(change == RouteChange::Unchanged);
            self.note(place, change);
        }
    }

    /// Tells a RIB that a session filters what its stations know.
    #[inline]
    fn note_known_to_all(&mut self, place: usize) {
        let rib = &mut self.peer.ribs[place];
        if rib.is_filtered() {
            rib.note_known_to_all(self.tables.withdrawals.known_to_all());
        }
    }

    /// Adds what the UPDATE says a second time to the numbers of its peer. A peer that repeats what
    /// it said before its input went away says nothing twice.
    fn count_duplicates(&mut self) {
        let counted = self.duplicates;
        if counted != DuplicateCounts::default() && !self.repeats {
            self.peer.duplicates.add(DuplicateCounts { updates: u32::from(!self.is_news), ..counted });
        }
    }

    fn note(&mut self, place: usize, change: RouteChange) {
        match change {
            RouteChange::Unchanged => {}
            RouteChange::Changed => self.is_news = true,
            RouteChange::Withdrawn(route) => {
                self.is_news = true;
                self.keep_withdrawal(place, route, self.message.changed);
            }
        }
    }

    fn keep_withdrawal(&mut self, place: usize, route: u32, changed: u64) {
        let life = self.life().number;
        let rib_place = RibPlace { slot: self.slot, rib: place };
        self.tables.withdrawals.keep(&self.peer.ribs[place], rib_place, route, life, changed);
    }

    /// Announces routes with an attribute set. Takes over one use of the set.
    fn announce(&mut self, family: Family, items: &[u8], set: u32) {
        debug_assert_ne!(set, NONE);
        if let Some(place) = self.rib(family, true).filter(|_| !items.is_empty()) {
            self.note_known_to_all(place);
            let variant = self.peer.ribs[place].header_variant(&self.message.header);
            let key = GroupKey { attributes: set, time: self.time, variant, whole: false };
            let can_split = self.can_split(place, items, false);
            let Self { tables: RibTables { attributes, trouble, .. }, peer, message, repeats, .. } = self;
            let (is_news, duplicates) = (&mut self.is_news, &mut self.duplicates.advertisements);
            let rib = &mut peer.ribs[place];
            // An announcement leaves no withdrawal to be kept.
            if can_split {
                let note = |change| {
                    *is_news |= change != RouteChange::Unchanged;
                    *duplicates += u32::from(change == RouteChange::Unchanged);
                };
                rib.announce(items, key, message.changed, *repeats, attributes, note);
            } else {
                rib.announce_whole(items, key, message.changed, attributes);
                *is_news = true;
            }
            trouble.overflowed += rib.newly_not_kept();
        }
        self.tables.attributes.release(set);
    }
}
