//! What a pass begins with: which peers a station was told stay, and which are new to it.

use std::{mem, sync::Arc};

use super::{
    super::{incarnation::Incarnation, pass::PassPlan, peers::LivePeer, selection::Selection, state::FeedState},
    Follower,
};

impl Follower {
    /// Decides which peers stay, which go, and which are told anew.
    pub(super) fn plan(&mut self, state: &FeedState, selection: &Arc<Selection>, since: u64) -> PassPlan {
        let mut plan = PassPlan {
            since,
            selected: Arc::clone(&self.selection),
            holds_statistics: self.holds_statistics,
            ..PassPlan::default()
        };
        let mut told: Vec<_> = mem::take(&mut self.told).into_values().collect();
        let keys_before = mem::take(&mut self.told_keys);
        let mut renewed = mem::take(&mut self.renewed);
        told.sort_unstable_by_key(|life| life.number);
        let mut staying = Vec::new();
        for life in told {
            if state.peers.of_life(&life).is_none() {
                let last_end = state.peers.slot(life.peer).and_then(|slot| slot.last_end.as_ref());
                let its_end = last_end.filter(|end| end.life == life.number);
                plan.peer_downs.push(its_end.map_or_else(|| life.peer_downs(), |end| end.peer_downs.clone()));
                renewed.insert(*life.peer.key());
            } else if selection.has_peer(&life) {
                self.add_told(&life);
                staying.push(life);
            } else {
                plan.peer_downs.push(life.peer_downs());
                renewed.insert(*life.peer.key());
            }
        }
        self.hidden.clear();
        self.hidden_changes += 1;
        // If the input that the station was told has such a peer, the station is told that one on.
        let is_of_another =
            |life: &Incarnation| keys_before.get(life.peer.key()).is_some_and(|told| told.input != life.peer.input);
        let mut peers = state.peers.in_order();
        peers.sort_by_key(|peer| is_of_another(&peer.life));
        for peer in peers {
            if !selection.has_peer(&peer.life) {
                continue;
            }
            if self.has_to_hide(&peer.life) {
                self.hidden.insert(peer.life.peer, peer.life.input.clone());
            } else if !self.told.contains_key(&peer.life.peer) {
                self.add_told(&peer.life);
                renewed.extend(peer.is_announced().then_some(*peer.life.peer.key()));
                plan.new.push(Arc::clone(&peer.life));
            }
        }
        for life in &staying {
            let has_look_alikes = self.has_told_look_alikes(life);
            let is_announced_again =
                |peer: &LivePeer| has_look_alikes && peer.more_ups.iter().any(|more| more.changed > since);
            // Routes that the state lacks cannot be taken back.
            let lacks_routes = |peer: &LivePeer| peer.lacks_families && plan.selected != *selection;
            let has_to_renew =
                |peer: &LivePeer| peer.renewed_at > since || is_announced_again(peer) || lacks_routes(peer);
            if state.peers.of_life(life).is_some_and(has_to_renew) {
                renewed.insert(*life.peer.key());
            }
        }
        for life in staying {
            if renewed.contains(life.peer.key()) {
                plan.peer_downs.push(life.peer_downs());
                plan.new.push(life);
            } else {
                plan.told.push(life);
            }
        }
        plan.new.sort_unstable_by_key(|life| life.number);
        plan
    }
}
