//! Routes that a peer has to announce again, or they are withdrawn: after it restarted (RFC 4724 §4.2), and between the beginning and the
//! end of a route refresh (RFC 7313 §4).
//!
//! What has not been announced again yet is kept here while that lasts, and only then; the routes themselves are in the feed, which is
//! asked for them as a station would ask.

use std::{collections::VecDeque, hash::BuildHasher as _};

use bytes::BytesMut;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::open::Routes;
use crate::{
    feed::{Feed, Monitor, Peers, Selection, View},
    wire::{
        bgp::{Family, Form, Update, build::withdrawal, identity, nlri, without_trailing_bits},
        bmp::{COMMON_HEADER, Frame, MessageType, PER_PEER_HEADER, PeerHeader, build, frames, peer_flags},
    },
};

/// What NLRI a withdrawal has at most, in bytes: it has to fit into a message of 4096 with all that is around it.
const WITHDRAWAL: usize = 3900;
/// What labels may add to each (RFC 8277 §2.4).
const LABEL: usize = 3;
/// Size in bytes of the blocks that kept routes are in.
const BLOCK: usize = 64 * 1024;
/// How much is taken from the feed at once, in bytes.
const PIECE: usize = 1 << 20;

/// Routes of one family that have not been announced again.
#[derive(Debug)]
pub(super) struct Stale {
    pub(super) family: Family,
    form: Form,
    path_ids: bool,
    /// NLRI, one behind the other.
    bytes: Vec<u8>,
    /// Where in `bytes` those are that are left.
    left: HashTable<u32>,
    hasher: RandomState,
}

impl Stale {
    /// None yet. Only for a family whose routes can be told from one another.
    pub(super) fn new(routes: &Routes) -> Option<Self> {
        Some(Self {
            family: routes.family,
            form: routes.form?,
            path_ids: routes.path_ids,
            bytes: Vec::new(),
            left: HashTable::new(),
            hasher: RandomState::default(),
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.left.len()
    }

    fn insert(&mut self, item: &[u8]) {
        // No peer has 4 GiB of prefixes.
        let Ok(at) = u32::try_from(self.bytes.len()) else { return };
        self.bytes.extend_from_slice(item);
        let Self { form, path_ids, bytes, left, hasher, .. } = self;
        let hash = |at: &u32| hasher.hash_one(identity(*form, *path_ids, item_at(*form, *path_ids, bytes, *at)));
        left.insert_unique(hash(&at), at, hash);
    }

    /// A route is announced or withdrawn.
    fn remove(&mut self, item: &[u8]) {
        if let Some(last) = without_trailing_bits(self.form, self.path_ids, item) {
            // Nobody should send such a thing, so that it may cost a copy.
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

    /// What an UPDATE announces and withdraws.
    pub(super) fn update(&mut self, update: &Update<'_>) {
        for items in items_of(update, self.family).into_iter().flatten() {
            for item in nlri(self.form, self.path_ids, items).flatten() {
                self.remove(item);
            }
        }
    }

    /// Withdraws all that are left, in Route Monitoring messages with this header.
    pub(super) fn withdraw(self, header: &PeerHeader, out: &mut BytesMut) {
        let mut left: Vec<u32> = self.left.iter().copied().collect();
        left.sort_unstable();
        let mut items = left.iter().map(|at| item_at(self.form, self.path_ids, &self.bytes, *at)).peekable();
        while items.peek().is_some() {
            let mut room = WITHDRAWAL;
            let fits = std::iter::from_fn(|| {
                // One fits in any case.
                let item = items.next_if(|item| room == WITHDRAWAL || item.len() + LABEL <= room)?;
                room = room.saturating_sub(item.len() + LABEL);
                Some(item)
            });
            build::route_monitoring_of(out, header, |out| {
                withdrawal(out, self.family, self.form, self.path_ids, fits);
            });
        }
    }

    /// Marks what an UPDATE announces: whether there is anything.
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

/// The NLRI of a family that an UPDATE announces and that it withdraws.
fn items_of<'a>(update: &Update<'a>, family: Family) -> [Option<&'a [u8]>; 4] {
    let plain = (family == Family::IPV4_UNICAST).then_some(());
    [
        plain.map(|()| update.nlri),
        plain.map(|()| update.withdrawn),
        update.reach.filter(|reach| reach.family == family).map(|reach| reach.nlri),
        update.unreach.filter(|unreach| unreach.family == family).map(|unreach| unreach.nlri),
    ]
}

/// Marks the routes that the feed has of an input as stale, those of the families in `stale`; its Route Monitoring messages for these are
/// appended to `kept` if they are asked for.
pub(super) fn mark(feed: &Feed, input: &str, stale: &mut [Stale], mut kept: Option<&mut Vec<BytesMut>>) {
    let ribs = stale.iter().map(|stale| (stale.family, View::AdjRibInPre)).collect();
    let monitors = vec![Monitor { peers: Peers::Input(input.to_owned()), ribs }];
    let mut follower = feed.attach(Selection { monitors, ..Selection::default() });
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
                // An End-of-RIB is the peer's to say again.
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
