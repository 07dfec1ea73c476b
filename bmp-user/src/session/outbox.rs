//! The frames that are on their way into the socket.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use bytes::Bytes;

use super::{status::SessionStatus, transport::StationTransport};
use crate::{
    feed::{FrameCounts, Piece},
    wire::bmp::{Frame, MessageType, frames},
};

/// How many chunks one write takes. With more than some tens the system call gets no cheaper.
const SLICES: usize = 64;

/// Whole frames in the order in which they leave. They are written with vectored I/O, without a
/// copy; TLS encrypts them from where they are.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Piece>,
    /// Bytes of the front entry that have left.
    written: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the queue, for the feed to append to.
    pub(super) fn queue(&mut self) -> &mut VecDeque<Piece> {
        &mut self.queue
    }

    /// Appends one frame.
    pub(super) fn push(&mut self, frame: Bytes, message: MessageType) {
        let mut counts = FrameCounts::default();
        counts.record(message.code(), 1);
        self.queue.push_back(Piece { bytes: frame, counts });
    }

    /// Writes once, as much as the transport takes, and returns how many bytes that were. Calls
    /// `sent`, if it is given, with each frame that is complete by that.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the transport takes nothing; else the connection failed.
    pub(super) fn write(
        &mut self,
        stream: &mut StationTransport,
        status: &SessionStatus,
        sent: Option<&mut dyn FnMut(&Frame<'_>)>,
    ) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        for (slice, outgoing) in slices.iter_mut().zip(&self.queue) {
            let left = if used == 0 { self.written } else { 0 };
            *slice = IoSlice::new(outgoing.bytes.get(left..).unwrap_or(&[]));
            used += 1;
        }
        let written = stream.try_write_vectored(slices.get(..used).unwrap_or(&[]))?;
        if let Some(sent) = sent {
            self.visit_completed(written, sent);
        }
        status.count_sent(self.advance(written));
        Ok(written)
    }

    /// Calls `visit` with the frames that are complete when `written` more bytes have left.
    fn visit_completed(&self, written: usize, visit: &mut dyn FnMut(&Frame<'_>)) {
        let (mut from, mut to) = (self.written, self.written + written);
        for piece in &self.queue {
            let mut end = 0;
            for frame in frames(&piece.bytes).map_while(Result::ok) {
                end += frame.bytes().len();
                if end > to {
                    break;
                }
                if end > from {
                    visit(&frame);
                }
            }
            let length = piece.bytes.len();
            if to <= length {
                break;
            }
            (from, to) = (from.saturating_sub(length), to - length);
        }
    }

    /// Notes that bytes have left. Returns the messages that are complete by that.
    fn advance(&mut self, written: usize) -> FrameCounts {
        let mut sent = FrameCounts::default();
        self.written += written;
        while let Some(front) = self.queue.front()
            && self.written >= front.bytes.len()
        {
            self.written -= front.bytes.len();
            sent += front.counts;
            self.queue.pop_front();
        }
        sent
    }

    /// Forgets all frames but the one that has left in part, so that the next frame starts where
    /// one may.
    pub(super) fn cut_after_current_frame(&mut self) {
        self.queue.truncate(usize::from(self.written > 0));
        if let Some(front) = self.queue.front_mut() {
            front.counts = FrameCounts::default();
            front.bytes.truncate(frame_end(&front.bytes, self.written));
        }
        if self.queue.is_empty() {
            self.written = 0;
        }
    }
}

/// Returns the end of the frame that the byte before `position` belongs to, in a run of whole
/// frames (RFC 7854 §4.1: one octet of version, four of length).
fn frame_end(frames: &[u8], position: usize) -> usize {
    let mut end = 0;
    while end < position {
        let Some(&[a, b, c, d]) = frames.get(end + 1..end + 5) else { return frames.len() };
        match u32::from_be_bytes([a, b, c, d]) as usize {
            0 => return frames.len(),
            length => end += length,
        }
    }
    end.min(frames.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u8) -> Vec<u8> {
        let mut frame = vec![3, 0, 0, 0, length, 0];
        frame.resize(length.into(), 0xaa);
        frame
    }

    fn outbox_of(lengths: &[u8]) -> Outbox {
        let mut outbox = Outbox::default();
        outbox.push(
            lengths.iter().flat_map(|length| frame(*length)).collect::<Vec<_>>().into(),
            MessageType::RouteMonitoring,
        );
        outbox
    }

    fn left(outbox: &Outbox) -> usize {
        outbox.queue.iter().map(|outgoing| outgoing.bytes.len()).sum::<usize>() - outbox.written
    }

    #[test]
    fn a_cut_outbox_ends_with_the_frame_in_flight() {
        for (written, expected) in [(0, 0), (1, 9), (9, 1), (10, 0), (11, 19), (29, 1), (30, 0)] {
            let mut outbox = outbox_of(&[10, 20, 30]);
            outbox.advance(written);
            outbox.cut_after_current_frame();
            assert_eq!(left(&outbox), expected, "after {written} bytes");
        }
    }

    #[test]
    fn each_frame_is_visited_once_when_its_last_byte_leaves() {
        for step in 1..=70 {
            let mut outbox = outbox_of(&[10, 20]);
            outbox.push(frame(40).into(), MessageType::PeerUp);
            let (mut visited, mut left) = (Vec::new(), 70);
            while left > 0 {
                let written = step.min(left);
                outbox.visit_completed(written, &mut |frame| visited.push(frame.bytes().len()));
                outbox.advance(written);
                left -= written;
            }
            assert_eq!(visited, [10, 20, 40], "{step} bytes at a time");
        }
    }

    #[test]
    fn a_message_counts_as_sent_when_its_last_byte_has_left() {
        let mut outbox = outbox_of(&[10]);
        outbox.push(frame(20).into(), MessageType::PeerUp);
        let mut sent = FrameCounts::default();
        for (written, total) in [(9, 0), (1, 1), (19, 1), (1, 2)] {
            sent += outbox.advance(written);
            assert_eq!(sent.total(), total);
        }
        assert_eq!((sent.of(MessageType::RouteMonitoring), sent.of(MessageType::PeerUp)), (1, 1));
        assert!(outbox.is_empty());
    }
}
