//! Which peers a station was told, and which of these it could not tell apart.

use std::sync::Arc;

use super::{super::incarnation::Incarnation, Follower, ToldKey};

impl Follower {
    /// True if the station is told the beginning of a life, with or without a Peer Up.
    pub(super) fn wants_beginning(&mut self, life: &Arc<Incarnation>, with_peer_up: bool) -> bool {
        if !self.selection.has_peer(life) {
            return false;
        }
        if self.has_to_hide(life) {
            self.hidden.insert(life.peer, life.input.clone());
            self.hidden_changes += 1;
            return false;
        }
        if self.is_about_to_be_renewed(life) {
            return false;
        }
        if with_peer_up && self.has_told_look_alikes(life) {
            self.renew(life);
            return false;
        }
        self.add_told(life);
        true
    }

    /// True if the station is told the end of a life.
    pub(super) fn wants_end(&mut self, life: &Incarnation) -> bool {
        if !self.is_told(life) {
            self.hidden_changes += u64::from(self.hidden.remove(&life.peer).is_some());
            return false;
        }
        self.told.remove(&life.peer);
        if let Some(told) = self.told_keys.get_mut(life.peer.key()) {
            told.peers -= 1;
            if told.peers > 0 {
                self.renew(life);
            } else {
                self.told_keys.remove(life.peer.key());
                // The station can tell a peer of another input from others now.
                self.is_pass_due |= self.hidden.keys().any(|hidden| hidden.key() == life.peer.key());
            }
        }
        true
    }

    /// True if frames about a life make sense to the station.
    pub(super) fn is_current(&self, life: &Incarnation) -> bool {
        self.is_told(life) && !self.is_about_to_be_renewed(life)
    }

    /// True if the station was told a life, and not its end.
    pub(super) fn is_told(&self, life: &Incarnation) -> bool {
        self.told.get(&life.peer).is_some_and(|told| told.number == life.number)
    }

    pub(super) fn is_about_to_be_renewed(&self, life: &Incarnation) -> bool {
        !self.renewed.is_empty() && self.renewed.contains(life.peer.key())
    }

    /// Has the next pass tell a peer anew, with all peers that look the same.
    ///
    /// A station that keeps to RFC 7854 takes peers with the same type, distinguisher and address
    /// for one peer. The beginning or the end of one of them is that of all to such a station. So
    /// whenever one begins or ends, the station is told all of them as if it had just come. The
    /// pass also tells what happens until then.
    pub(super) fn renew(&mut self, life: &Incarnation) {
        self.renewed.insert(*life.peer.key());
        self.is_pass_due = true;
    }

    /// True if the station was told other peers that look the same.
    pub(super) fn has_told_look_alikes(&self, life: &Incarnation) -> bool {
        let told = self.told_keys.get(life.peer.key()).map_or(0, |told| told.peers);
        told > usize::from(self.is_told(life))
    }

    /// True if the station was told a peer of another input that looks the same.
    pub(super) fn has_to_hide(&self, life: &Incarnation) -> bool {
        self.told_keys.get(life.peer.key()).is_some_and(|told| told.input != life.peer.input)
    }

    /// Remembers that the station is told a life.
    pub(super) fn add_told(&mut self, life: &Arc<Incarnation>) {
        if self.told.insert(life.peer, Arc::clone(life)).is_none() {
            let new = ToldKey { input: life.peer.input, peers: 0 };
            self.told_keys.entry(*life.peer.key()).or_insert(new).peers += 1;
        }
    }
}
