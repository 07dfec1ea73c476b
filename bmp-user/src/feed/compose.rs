//! Writes frames from what the feed keeps.

use bytes::{Bytes, BytesMut};

use super::{
    FrameCounts,
    attributes::AttributeSets,
    blocks::NONE,
    nlri::Nlri,
    rib::{GroupKey, HeaderVariant, ReceiveTime, Rib},
};
use crate::wire::{
    bgp::{Form, build as bgp},
    bmp::{Frame, MessageType, PeerHeader, build as bmp, whole_frames},
};

/// Writes whole frames, and counts them by type.
#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    bytes: BytesMut,
    counts: FrameCounts,
    /// Routes that a pass has written, withdrawn ones included.
    pub(super) pass_routes: u64,
}

/// The frames that a [`FrameWriter`] wrote.
#[derive(Debug)]
pub(super) struct WrittenFrames {
    pub(super) bytes: Bytes,
    pub(super) counts: FrameCounts,
}

impl FrameWriter {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    /// Bytes of the frames so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn finish(self) -> WrittenFrames {
        WrittenFrames { bytes: self.bytes.freeze(), counts: self.counts }
    }

    /// Copies a frame.
    pub(super) fn put(&mut self, message: MessageType, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.counts.record(message.code(), 1);
    }

    /// Copies frames of one type.
    pub(super) fn put_all(&mut self, message: MessageType, all: &[u8]) {
        whole_frames(all).for_each(|frame| self.put(message, frame.bytes()));
    }

    /// Copies a frame of a type that is not assigned.
    pub(super) fn put_unassigned(&mut self, frame: &Frame<'_>) {
        self.bytes.extend_from_slice(frame.bytes());
        self.counts.record(frame.code(), 1);
    }

    /// Writes routes of one group of a RIB, as an announcement or a withdrawal.
    pub(super) fn routes<'a>(
        &mut self,
        rib: &'a Rib,
        key: GroupKey,
        attributes: &AttributeSets,
        routes: impl Iterator<Item = &'a Nlri>,
    ) {
        if key.attributes == NONE {
            let form = if key.whole { Form::Whole } else { rib.form };
            self.withdrawal(rib, form, key.time, key.variant, routes.map(|nlri| rib.bytes(nlri)));
            return;
        }
        let parts = attributes.get_in_order(key.attributes).parts();
        self.update(&rib.header_of(key.time, key.variant), |out| {
            bgp::announcement(out, parts.before, parts.reach, parts.after, |out| rib.put_bytes(routes, out));
        });
    }

    /// Writes the withdrawal of routes of a RIB. `form` is the form of the RIB, or [`Form::Whole`]
    /// for a whole field.
    fn withdrawal<'a>(
        &mut self,
        rib: &Rib,
        form: Form,
        time: ReceiveTime,
        variant: HeaderVariant,
        items: impl Iterator<Item = &'a [u8]>,
    ) {
        self.update(&rib.header_of(time, variant), |out| bgp::withdrawal(out, rib.family, form, rib.path_ids, items));
    }

    /// Writes a withdrawal in bmpd's own name, of routes by their numbers: either of several
    /// routes, or of one whole field. Its time is not known.
    pub(super) fn withdrawal_of(&mut self, rib: &Rib, variant: HeaderVariant, routes: &[u32]) {
        let whole = routes.first().is_some_and(|route| rib.is_whole(*route));
        let form = if whole { Form::Whole } else { rib.form };
        self.withdrawal(rib, form, ReceiveTime::default(), variant, routes.iter().map(|route| rib.nlri(*route)));
    }

    /// Writes the End-of-RIB marker of a RIB.
    pub(super) fn end_of_rib(&mut self, rib: &Rib, time: ReceiveTime, variant: HeaderVariant) {
        self.update(&rib.header_of(time, variant), |out| bgp::end_of_rib(out, rib.family));
    }

    /// Says that mirrored messages of a peer were lost.
    pub(super) fn mirrored_messages_lost(&mut self, peer: &PeerHeader) {
        bmp::mirrored_messages_lost(&mut self.bytes, peer);
        self.counts.record(MessageType::RouteMirroring.code(), 1);
    }

    fn update(&mut self, peer: &PeerHeader, update: impl FnOnce(&mut BytesMut)) {
        bmp::route_monitoring_of(&mut self.bytes, peer, update);
        self.counts.record(MessageType::RouteMonitoring.code(), 1);
    }
}
