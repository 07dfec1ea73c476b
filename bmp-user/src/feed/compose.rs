//! Frames that are made of what the feed keeps.

use bytes::{Bytes, BytesMut};

use super::{
    Counts,
    attributes::Attributes,
    blocks::NONE,
    nlri::Nlri,
    rib::{Common, Head, Rib, Time},
};
use crate::wire::{
    bgp::{Form, build as bgp},
    bmp::{Frame, MessageType, PeerHeader, build as bmp, whole_frames},
};

/// Whole frames, with how many of each type.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: BytesMut,
    counts: Counts,
}

impl Frames {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(bytes), counts: Counts::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn finish(self) -> (Bytes, Counts) {
        (self.bytes.freeze(), self.counts)
    }

    /// A frame as it is.
    pub(super) fn put(&mut self, message: MessageType, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.counts.record(message.code(), 1);
    }

    /// Frames of one type as they are.
    pub(super) fn put_all(&mut self, message: MessageType, all: &[u8]) {
        whole_frames(all).for_each(|frame| self.put(message, frame.bytes()));
    }

    /// A frame of a type that is not assigned.
    pub(super) fn put_unassigned(&mut self, frame: &Frame<'_>) {
        self.bytes.extend_from_slice(frame.bytes());
        self.counts.record(frame.code(), 1);
    }

    /// Routes of a RIB that have `common` in common, as an announcement or a withdrawal.
    pub(super) fn routes<'a>(
        &mut self,
        rib: &'a Rib,
        common: Common,
        attributes: &Attributes,
        routes: impl Iterator<Item = &'a Nlri>,
    ) {
        if common.attributes == NONE {
            let form = if common.whole { Form::Whole } else { rib.form };
            self.withdrawal(rib, form, common.time, common.head, routes.map(|nlri| rib.bytes(nlri)));
            return;
        }
        let (before, reach, after) = attributes.get_in_order(common.attributes).parts();
        self.update(&rib.header_of(common.time, common.head), |out| {
            bgp::announcement(out, before, reach, after, |out| rib.put_bytes(routes, out));
        });
    }

    /// Routes of a RIB that are withdrawn. `form` is that of the RIB, or [`Form::Whole`] for a field that is kept whole.
    pub(super) fn withdrawal<'a>(
        &mut self,
        rib: &Rib,
        form: Form,
        time: Time,
        head: Head,
        items: impl Iterator<Item = &'a [u8]>,
    ) {
        self.update(&rib.header_of(time, head), |out| bgp::withdrawal(out, rib.family, form, rib.path_ids, items));
    }

    /// Routes of a RIB are withdrawn in bmpd's own name, by their numbers: several that are told apart, or one field that is kept whole. When is not known.
    pub(super) fn withdrawal_of(&mut self, rib: &Rib, head: Head, routes: &[u32]) {
        let whole = routes.first().is_some_and(|route| rib.is_whole(*route));
        let form = if whole { Form::Whole } else { rib.form };
        self.withdrawal(rib, form, Time::default(), head, routes.iter().map(|route| rib.nlri(*route)));
    }

    /// The End-of-RIB marker of a RIB.
    pub(super) fn end_of_rib(&mut self, rib: &Rib, time: Time, head: Head) {
        self.update(&rib.header_of(time, head), |out| bgp::end_of_rib(out, rib.family));
    }

    /// Mirrored messages of a peer were lost.
    pub(super) fn mirrored_messages_lost(&mut self, peer: &PeerHeader) {
        bmp::mirrored_messages_lost(&mut self.bytes, peer);
        self.counts.record(MessageType::RouteMirroring.code(), 1);
    }

    fn update(&mut self, peer: &PeerHeader, update: impl FnOnce(&mut BytesMut)) {
        bmp::route_monitoring_of(&mut self.bytes, peer, update);
        self.counts.record(MessageType::RouteMonitoring.code(), 1);
    }
}
