//! Statistics Reports at a station's own times.

use std::{collections::VecDeque, mem, sync::Arc};

use super::{
    super::{PEERS_AT_ONCE, piece::Piece},
    Follower,
};
use crate::wire::bmp::MessageType;

impl Follower {
    /// Holds Statistics Reports back: the station gets them by [`Follower::report_statistics`]. Or
    /// passes them on again, as they come.
    pub fn hold_statistics(&mut self, held: bool) {
        self.holds_statistics = held;
        if !held {
            self.reports.clear();
        }
    }

    /// Has [`Follower::take`] append the latest Statistics Report of each peer that the station was
    /// told, if there is a newer one than at the last call. Does nothing unless reports are held
    /// back, or while the reports of the last call are on their way.
    pub fn report_statistics(&mut self) {
        let reports = self.store.lock().reports;
        if self.holds_statistics && self.reports.is_empty() && reports > self.reported {
            self.reported_before = mem::replace(&mut self.reported, reports);
            self.reports.extend(self.told.values().cloned());
            self.reports.make_contiguous().sort_unstable_by_key(|life| life.number);
        }
    }

    /// Takes Statistics Reports of some peers.
    pub(super) fn take_reports(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) {
        let store = Arc::clone(&self.store);
        let feed = store.lock();
        let mut room = max_bytes;
        for _ in 0..PEERS_AT_ONCE {
            let Some(life) = self.reports.pop_front() else { return };
            let peer = feed.peers.of_life(&life).filter(|peer| peer.report_number > self.reported_before);
            let Some(report) = peer.and_then(|peer| peer.statistics.as_ref()).filter(|_| self.is_told(&life)) else {
                continue;
            };
            room = room.saturating_sub(report.frame.len());
            out.push_back(Piece::of(MessageType::StatisticsReport, report.frame.clone()));
            if room == 0 {
                return;
            }
        }
    }
}
