//! Frames on their way into the journal, with what they are about.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    applied::{AppliedFrame, RibPlace},
    compose::FrameWriter,
    incarnation::{EndedLife, Incarnation},
    journal::{FrameRun, FrameSubject},
    rib::{EndOfRib, ReceiveTime},
    state::FeedState,
};
use crate::wire::bmp::{Frame, MessageType, whole_frames};

/// What the frames of a chunk are about, in runs of frames that are alike.
#[derive(Debug, Default)]
pub(super) struct FrameRuns(Vec<FrameRun>);

impl FrameRuns {
    /// Adds a frame of this length and type.
    #[inline]
    pub(super) fn push(&mut self, bytes: usize, code: u8, subject: FrameSubject) {
        // A frame has at most MAX_FRAME bytes, and a chunk as many as were read at once.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match self.0.last_mut() {
            Some(last) if last.code == code && last.subject.joins(&subject) => {
                last.bytes += bytes;
                last.frames += 1;
            }
            _ => self.0.push(FrameRun { bytes, frames: 1, code, subject }),
        }
    }

    /// Adds the life that a frame began without a Peer Up, if it began one. Comes before the frame.
    #[inline]
    pub(super) fn begin_unannounced(&mut self, applied: &mut AppliedFrame) {
        if let Some(life) = applied.unannounced.take() {
            self.push_without_frames(MessageType::RouteMonitoring, FrameSubject::Unannounced(life));
        }
    }

    fn push_without_frames(&mut self, message: MessageType, subject: FrameSubject) {
        self.0.push(FrameRun { bytes: 0, frames: 0, code: message.code(), subject });
    }

    pub(super) fn into_vec(self) -> Vec<FrameRun> {
        self.0
    }
}

/// Frames that the feed builds, or picks out of those that came in.
#[derive(Debug)]
pub(super) struct JournalBatch {
    writer: FrameWriter,
    runs: FrameRuns,
    /// Sequence number after the last frame.
    changed: u64,
}

/// The frames of a batch, as they go into the journal.
#[derive(Debug)]
pub(super) struct FinishedJournalBatch {
    pub(super) bytes: Bytes,
    pub(super) runs: Vec<FrameRun>,
}

impl JournalBatch {
    /// A batch whose frames come after `changed` others.
    pub(super) fn after(changed: u64) -> Self {
        Self { writer: FrameWriter::default(), runs: FrameRuns::default(), changed }
    }

    /// Sequence number after the last frame.
    pub(super) fn changed(&self) -> u64 {
        self.changed
    }

    /// Bytes of the frames.
    pub(super) fn len(&self) -> usize {
        self.writer.len()
    }

    /// Adds a frame that came in, if it is news, and whatever stations have to be told around it.
    pub(super) fn push_applied(&mut self, frame: &Frame<'_>, applied: AppliedFrame) {
        applied.ended.iter().for_each(|ended| self.push_end(ended));
        match frame.message_type() {
            Some(message) if applied.is_news => self.push(frame.bytes(), message, applied.subject),
            // Nobody knows whether a type that is not assigned is news. It passes.
            None => self.push_unassigned(frame),
            _ => {}
        }
        applied.renewed.into_iter().for_each(|life| self.push_renewal(life));
    }

    /// Adds the beginning of a life without a Peer Up.
    pub(super) fn begin_unannounced(&mut self, applied: &mut AppliedFrame) {
        self.runs.begin_unannounced(applied);
    }

    fn push(&mut self, frame: &[u8], message: MessageType, subject: FrameSubject) {
        self.writer.put(message, frame);
        self.runs.push(frame.len(), message.code(), subject);
        self.changed += 1;
    }

    fn push_unassigned(&mut self, frame: &Frame<'_>) {
        self.writer.put_unassigned(frame);
        self.runs.push(frame.bytes().len(), frame.code(), FrameSubject::Nobody);
        self.changed += 1;
    }

    /// Adds the Peer Downs of a life that is over.
    pub(super) fn push_end(&mut self, EndedLife { life, peer_downs }: &EndedLife) {
        for down in whole_frames(peer_downs) {
            self.push(down.bytes(), MessageType::PeerDown, FrameSubject::Down(Arc::clone(life)));
        }
    }

    /// Adds a life that stations are told anew, from the state.
    pub(super) fn push_renewal(&mut self, life: Arc<Incarnation>) {
        self.runs.push_without_frames(MessageType::PeerUp, FrameSubject::Renewed(life));
    }

    /// Withdraws the routes of a RIB that their peer has not repeated.
    pub(super) fn withdraw_stale(&mut self, state: &mut FeedState, place: RibPlace) {
        loop {
            let stale = state.withdraw_stale(place, self.changed + 1);
            let Some(peer) = state.peers.get(place.slot).filter(|_| !stale.is_empty()) else { return };
            let Some(rib) = peer.ribs.get(place.rib) else { return };
            let before = self.writer.len();
            let variant = stale.first().map(|route| rib.group_key(*route).variant).unwrap_or_default();
            self.writer.withdrawal_of(rib, variant, &stale);
            let subject = FrameSubject::Routes(Arc::clone(&peer.life), rib.view, rib.family);
            self.runs.push(self.writer.len() - before, MessageType::RouteMonitoring.code(), subject);
            self.changed += 1;
        }
    }

    /// Adds the End-of-RIB of a RIB that is complete as far as anybody can tell. Its time is not
    /// known.
    pub(super) fn end_of_rib(&mut self, state: &mut FeedState, place: RibPlace) {
        let Some(peer) = state.peers.get_mut(place.slot) else { return };
        let Some(rib) = peer.ribs.get_mut(place.rib) else { return };
        let header = rib.header;
        let (before, time, variant) = (self.writer.len(), ReceiveTime::default(), rib.header_variant(&header));
        self.writer.end_of_rib(rib, time, variant);
        self.changed += 1;
        rib.end_of_rib = Some(EndOfRib { changed: self.changed, time, variant });
        let subject = FrameSubject::EndOfRib(Arc::clone(&peer.life), rib.view, rib.family);
        self.runs.push(self.writer.len() - before, MessageType::RouteMonitoring.code(), subject);
    }

    /// The frames; `None` if there are none.
    pub(super) fn finish(self) -> Option<FinishedJournalBatch> {
        if self.writer.is_empty() {
            return None;
        }
        Some(FinishedJournalBatch { bytes: self.writer.finish().bytes, runs: self.runs.into_vec() })
    }
}
