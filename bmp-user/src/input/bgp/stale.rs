//! Stale routes: after a graceful restart (RFC 4724 §4.2), or during a route refresh (RFC 7313 §4).
//! A peer must announce them again, or they are withdrawn.
//!
//! This module holds only their prefixes, and only until the restart or refresh ends. The routes
//! are in the feed, which is read like a station reads it.

use std::{collections::VecDeque, hash::BuildHasher as _};

use bytes::BytesMut;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::open::FamilyEncoding;
use crate::{
    feed::{Feed, InputId, PeerFilter, Selection, SelectionRule},
    wire::{
        bgp::{Family, Form, Update, build::withdrawal, identity, nlri, without_trailing_bits},
        bmp::{COMMON_HEADER, Frame, MessageType, PER_PEER_HEADER, PeerHeader, RibView, build, frames, peer_flags},
    },
};

/// NLRI in one withdrawal at most, in bytes. With the other fields it fits into a message of 4096
/// bytes.
const WITHDRAWAL: usize = 3900;
/// Bytes that a label may add to each prefix (RFC 8277 §2.4).
const LABEL: usize = 3;
/// The size of the blocks for kept frames, in bytes.
const BLOCK: usize = 64 * 1024;
/// How much is read from the feed at once, in bytes.
const PIECE: usize = 1 << 20;

/// Why routes are stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StaleCause {
    /// The peer restarted (RFC 4724).
    Restart,
    /// The peer refreshes its routes (RFC 7313).
    Refresh,
}

/// The stale routes of one family.
#[derive(Debug)]
pub(super) struct StaleRoutes {
    pub(super) family: Family,
    pub(super) cause: StaleCause,
    form: Form,
    path_ids: bool,
    /// The NLRI of the routes, without separators.
    bytes: Vec<u8>,
    /// The offsets in `bytes` of the routes that are still stale.
    left: HashTable<u32>,
    hasher: RandomState,
}

impl StaleRoutes {
    /// Creates an empty set. `None` if the family's routes cannot be distinguished.
    pub(super) fn new(routes: &FamilyEncoding, cause: StaleCause) -> Option<Self> {
        Some(Self {
            family: routes.family,
            cause,
            form: routes.form?,
            path_ids: routes.path_ids,
            bytes: Vec::new(),
            left: HashTable::new(),
            hasher: RandomState::default(),
        })
    }

    /// Returns the number of stale routes.
    pub(super) fn len(&self) -> usize {
        self.left.len()
    }

    fn insert(&mut self, item: &[u8]) {
        // No peer has prefixes of 4 GiB.
        let Ok(at) = u32::try_from(self.bytes.len()) else { return };
        self.bytes.extend_from_slice(item);
        let Self { form, path_ids, bytes, left, hasher, .. } = self;
        let hash = |at: &u32| hasher.hash_one(identity(*form, *path_ids, item_at(*form, *path_ids, bytes, *at)));
        left.insert_unique(hash(&at), at, hash);
    }

    /// Removes a route that was announced or withdrawn.
    fn remove(&mut self, item: &[u8]) {
        if let Some(last) = without_trailing_bits(self.form, self.path_ids, item) {
            // Set bits after the prefix are rare, so a copy is acceptable.
            let mut plain = item.to_vec();
            if let Some(byte) = plain.last_mut() {
                *byte = last;
            }
            return self.remove(&plain);
        }
        let Self { form, path_ids, bytes, left, hasher, .. } = self;
        let wanted = identity(*form, *path_ids, item);
        let same = |at: &u32| identity(*form, *path_ids, item_at(*form, *path_ids, bytes, *at)) == wanted;
        if let Ok(entry) = left.find_entry(hasher.hash_one(wanted), same) {
            entry.remove();
        }
    }

    /// Removes all routes that an UPDATE announces or withdraws.
    pub(super) fn update(&mut self, update: &Update<'_>) {
        for items in items_of(update, self.family).into_iter().flatten() {
            for item in nlri(self.form, self.path_ids, items).flatten() {
                self.remove(item);
            }
        }
    }

    /// Withdraws all stale routes, in Route Monitoring messages with this header.
    pub(super) fn withdraw(self, header: &PeerHeader, out: &mut BytesMut) {
        let mut left: Vec<u32> = self.left.iter().copied().collect();
        left.sort_unstable();
        let mut items = left.iter().map(|at| item_at(self.form, self.path_ids, &self.bytes, *at)).peekable();
        while items.peek().is_some() {
            let mut room = WITHDRAWAL;
            let fits = std::iter::from_fn(|| {
                // The first route always fits.
                let item = items.next_if(|item| room == WITHDRAWAL || item.len() + LABEL <= room)?;
                room = room.saturating_sub(item.len() + LABEL);
                Some(item)
            });
            build::route_monitoring_of(out, header, |out| {
                withdrawal(out, self.family, self.form, self.path_ids, fits);
            });
        }
    }

    /// Adds the routes that an UPDATE announces. Returns true if there were any.
    fn mark(&mut self, update: &Update<'_>) -> bool {
        let before = self.bytes.len();
        let (form, path_ids) = (self.form, self.path_ids);
        for items in items_of(update, self.family).into_iter().flatten() {
            for item in nlri(form, path_ids, items).flatten() {
                self.insert(item);
            }
        }
        self.bytes.len() > before
    }
}

fn item_at(form: Form, path_ids: bool, bytes: &[u8], at: u32) -> &[u8] {
    let from = bytes.get(at as usize..).unwrap_or_default();
    nlri(form, path_ids, from).next().and_then(Result::ok).unwrap_or_default()
}

/// Returns the NLRI fields of an UPDATE for one family, announced and withdrawn.
fn items_of<'a>(update: &Update<'a>, family: Family) -> [Option<&'a [u8]>; 4] {
    let plain = (family == Family::IPV4_UNICAST).then_some(());
    [
        plain.map(|()| update.nlri),
        plain.map(|()| update.withdrawn),
        update.reach.filter(|reach| reach.family == family).map(|reach| reach.nlri),
        update.unreach.filter(|unreach| unreach.family == family).map(|unreach| unreach.nlri),
    ]
}

/// Marks an input's routes of the families in `stale` as stale. If `kept` is given, the Route
/// Monitoring messages with these routes are appended to it.
pub(super) fn mark(feed: &Feed, input: &InputId, stale: &mut [StaleRoutes], mut kept: Option<&mut Vec<BytesMut>>) {
    let ribs = stale.iter().map(|stale| (stale.family, RibView::AdjRibInPre)).collect();
    let rules = vec![SelectionRule { peers: PeerFilter::Input(input.clone()), ribs, filter: None }];
    let mut follower = feed.attach(Selection { rules, ..Selection::default() });
    let mut pieces = VecDeque::new();
    loop {
        follower.take(PIECE, &mut pieces);
        if pieces.is_empty() {
            return;
        }
        for piece in pieces.drain(..) {
            for frame in frames(&piece.bytes).flatten() {
                let Some(update) = update_of(&frame) else { continue };
                let mut marked = false;
                for stale in stale.iter_mut() {
                    marked |= stale.mark(&update);
                }
                // An End-of-RIB is not kept, because the peer sends it again.
                if let Some(kept) = kept.as_deref_mut().filter(|_| marked) {
                    keep(kept, frame.bytes());
                }
            }
        }
    }
}

fn update_of<'a>(frame: &Frame<'a>) -> Option<Update<'a>> {
    if frame.message_type() != Some(MessageType::RouteMonitoring) {
        return None;
    }
    let two_byte = PeerHeader::of(frame)?.flags & peer_flags::TWO_BYTE_AS != 0;
    let message = frame.bytes().get(COMMON_HEADER + PER_PEER_HEADER..)?;
    Update::parse(message, if two_byte { 2 } else { 4 }).ok()
}

fn keep(kept: &mut Vec<BytesMut>, frame: &[u8]) {
    if kept.last().is_none_or(|last| last.capacity() - last.len() < frame.len()) {
        kept.push(BytesMut::with_capacity(BLOCK.max(frame.len())));
    }
    if let Some(last) = kept.last_mut() {
        last.extend_from_slice(frame);
    }
}
