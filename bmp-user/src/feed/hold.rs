//! What becomes of the peers of an input that went away.
//!
//! They end at once, or they are held: they stay up until the input is back or the hold is over.

use std::{mem, sync::Arc};

use tokio::sync::watch;

use super::{
    MemoryExcess,
    applied::RibPlace,
    batch::JournalBatch,
    incarnation::{ConnectionId, EndedLife},
    peers::EndedTable,
    store::{FeedStore, LockedFeed},
    stored::frame_count,
};

/// Peer Downs of one connection go into chunks of about this size, in bytes.
const PEER_DOWNS: usize = 64 * 1024;

/// Peers whose input went away: see [`super::Input::hold`]. Dropping it ends the hold.
#[derive(Debug)]
pub struct HeldPeers {
    store: Arc<FeedStore>,
    connection: ConnectionId,
    peers: usize,
    orders: watch::Receiver<Option<MemoryExcess>>,
}

impl HeldPeers {
    /// Holds the peers of a connection that is over. Peers of which the feed does not keep all
    /// routes end at once.
    pub(super) fn hold(
        store: Arc<FeedStore>,
        connection: ConnectionId,
        orders: watch::Receiver<Option<MemoryExcess>>,
    ) -> Self {
        let mut feed = store.lock();
        let slots = feed.disconnect(connection);
        let incomplete = feed.peers.hold(&slots);
        let peers = slots.len() - incomplete.len();
        end_peers(&mut feed, incomplete);
        drop(feed);
        Self { store, connection, peers, orders }
    }

    /// See [`super::Input::orders_to_close`]. The holder drops the value then.
    pub fn orders_to_close(&self) -> watch::Receiver<Option<MemoryExcess>> {
        self.orders.clone()
    }

    /// True if no peer is held.
    pub fn is_empty(&self) -> bool {
        self.peers == 0
    }
}

impl Drop for HeldPeers {
    fn drop(&mut self) {
        let mut feed = self.store.lock();
        let still_away = end_returns(&mut feed, self.connection);
        end_peers(&mut feed, still_away);
        feed.limit.close(self.connection);
        feed.hold_to_limit();
    }
}

/// Ends the peers of a connection that is over.
pub(super) fn end_connection(feed: &mut LockedFeed<'_>, connection: ConnectionId) {
    let slots = feed.disconnect(connection);
    end_returns(feed, connection);
    end_peers(feed, slots);
    feed.limit.close(connection);
    feed.hold_to_limit();
}

/// Ends peers that are gone without a Peer Down of their own.
pub(super) fn end_peers(feed: &mut LockedFeed<'_>, slots: Vec<u32>) {
    let mut batch = feed.batch();
    for slot in slots {
        let Some(peer_downs) = feed.peers.get(slot).map(|peer| peer.life.peer_downs()) else { continue };
        let state = &mut **feed;
        let changed = batch.changed() + frame_count(&peer_downs);
        if let Some(life) = state.peers.end(&mut state.tables, slot, peer_downs.clone(), changed) {
            batch.push_end(&EndedLife { life, peer_downs });
        }
        if batch.len() >= PEER_DOWNS {
            let next = JournalBatch::after(batch.changed());
            feed.append_batch(mem::replace(&mut batch, next));
        }
    }
    feed.append_batch(batch);
}

/// Ends the wait for the peers that a connection left behind. Withdraws what its returned peers did
/// not repeat. Returns the peers that did not return.
fn end_returns(feed: &mut LockedFeed<'_>, connection: ConnectionId) -> Vec<u32> {
    let still_away = feed.peers.still_away(connection);
    let returned = feed.peers.end_returns(connection);
    let mut batch = feed.batch();
    for slot in returned {
        let state = &mut **feed;
        let ribs = state.peers.get(slot).map_or(0, |peer| peer.ribs.len());
        for rib in 0..ribs {
            batch.withdraw_stale(state, RibPlace { slot, rib });
        }
        while let Some(EndedTable { ended, renewed }) =
            state.peers.end_unrepeated_table(&mut state.tables, slot, batch.changed() + 1)
        {
            batch.push_end(&ended);
            batch.push_renewal(renewed);
        }
    }
    feed.append_batch(batch);
    still_away
}
