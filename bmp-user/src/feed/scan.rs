//! What a batch of frames says, found before the feed is locked.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use super::{
    Counts,
    peers::{Announcement, Change},
};
use crate::wire::bmp::{Error, Frame, Message, MessageType, PeerKey, PeerUp, Problem, build, frames};

/// The peers that one connection announced, and whether it sent routes for them: enough to know without the lock what is
/// new in a batch.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// True once routes of the peer have passed.
    announced: HashMap<PeerKey, bool>,
    strays: bool,
    /// Whom the last Route Monitoring was about, and whether the connection had announced it. Routes come in long runs of
    /// one peer.
    last: Option<(PeerKey, bool)>,
}

/// A batch as far as it is good.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// How many of its bytes are good frames.
    pub(super) length: usize,
    pub(super) counts: Counts,
    pub(super) changes: Vec<Change>,
    /// Route Monitoring for peers that were not announced.
    pub(super) unannounced: u64,
}

impl Scanner {
    /// Reads whole frames. What comes before the first that is wrong is a batch all the same.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> (Batch, Result<(), Error>) {
        let mut batch = Batch::default();
        let mut whole = frames(bytes);
        while let Some(frame) = whole.next() {
            let outcome = frame.and_then(|frame| {
                self.frame(&frame, &mut batch).map_err(|error| error.after(batch.length as u64))?;
                batch.counts.record(frame.code(), 1);
                Ok(())
            });
            if let Err(error) = outcome {
                return (batch, Err(error));
            }
            batch.length = whole.consumed();
        }
        let rest = bytes.len() - batch.length;
        if rest == 0 {
            return (batch, Ok(()));
        }
        let problem = Problem::Short { what: "the rest of a message", need: rest + 1, found: rest };
        let error = Error { offset: batch.length as u64, problem };
        (batch, Err(error))
    }

    #[inline]
    fn frame(&mut self, frame: &Frame<'_>, batch: &mut Batch) -> Result<(), Error> {
        match frame.message_type() {
            Some(MessageType::RouteMonitoring) => {
                if let Some(key) = PeerKey::of(frame) {
                    self.routes(key, batch);
                }
            }
            Some(MessageType::PeerUp) => {
                if let Message::PeerUp(up) = Message::parse(frame)? {
                    self.last = None;
                    self.announced.insert(up.peer.key, false);
                    batch.changes.push(Change::Up(up.peer.key, announcement(frame, &up)));
                }
            }
            Some(MessageType::PeerDown) => {
                if let Some(key) = PeerKey::of(frame) {
                    self.last = None;
                    self.announced.remove(&key);
                    batch.changes.push(Change::Down(key));
                }
            }
            Some(about @ (MessageType::Initiation | MessageType::Termination)) => {
                let type_byte = 5;
                return Err(Error { offset: type_byte, problem: Problem::NotAboutAPeer(about) });
            }
            Some(MessageType::StatisticsReport | MessageType::RouteMirroring) | None => {}
        }
        Ok(())
    }

    #[inline]
    fn routes(&mut self, key: PeerKey, batch: &mut Batch) {
        let announced = match self.last {
            Some((last, announced)) if last == key => announced,
            _ => self.routes_of_another(key, batch),
        };
        batch.unannounced += u64::from(!announced);
    }

    fn routes_of_another(&mut self, key: PeerKey, batch: &mut Batch) -> bool {
        let announced = match self.announced.get_mut(&key) {
            Some(routes) => {
                if !std::mem::replace(routes, true) {
                    batch.changes.push(Change::Routes(key));
                }
                true
            }
            None => {
                if !std::mem::replace(&mut self.strays, true) {
                    batch.changes.push(Change::StrayRoutes);
                }
                false
            }
        };
        self.last = Some((key, announced));
        announced
    }
}

/// Copies: what is kept for as long as the peer is up must not keep a whole read buffer.
fn announcement(frame: &Frame<'_>, up: &PeerUp<'_>) -> Announcement {
    let mut down = BytesMut::new();
    build::peer_down(&mut down, up);
    Announcement { up: Bytes::copy_from_slice(frame.bytes()), down: Bytes::copy_from_slice(&down) }
}
