//! The peers of a file during its replay.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use bytes::{Bytes, BytesMut};

use super::{
    opening::{OpenSender, agree, fabricate, identifier, parse},
    snapshot::PendingRoutes,
    survey::{FilePeerId, SessionTraits, Survey},
};
use crate::wire::{
    bgp::{self, Family, open::AS_TRANS},
    bmp::{PeerHeader, PeerKey, PeerType, RouteDistinguisher, build, peer_flags},
    mrt::Record,
};

/// The time of a record since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RecordTime {
    pub(super) seconds: u32,
    pub(super) microseconds: u32,
}

impl RecordTime {
    pub(super) fn of_record(record: &Record<'_>) -> Self {
        Self { seconds: record.seconds, microseconds: record.microseconds }
    }

    pub(super) fn from_seconds(seconds: u32) -> Self {
        Self { seconds, microseconds: 0 }
    }

    /// Returns the time in microseconds since the epoch.
    pub(super) fn as_micros(self) -> u64 {
        u64::from(self.seconds) * 1_000_000 + u64::from(self.microseconds)
    }
}

/// The collector's end of a session, as far as a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Collector {
    pub(super) asn: Option<u32>,
    pub(super) bgp_id: Option<Ipv4Addr>,
    pub(super) address: Option<IpAddr>,
}

/// A peer of the file.
#[derive(Debug)]
pub(super) struct ReplayedPeer {
    identity: FilePeerId,
    key: PeerKey,
    bgp_id: Ipv4Addr,
    pub(super) traits: SessionTraits,
    pub(super) up: bool,
    /// The OPENs that were recorded before the session came up: the collector's and the peer's.
    pub(super) sent_open: Option<Bytes>,
    pub(super) received_open: Option<Bytes>,
    /// Routes of a table dump that wait for more routes with the same attributes.
    pub(super) pending: PendingRoutes,
    /// The families of the table dump so far.
    pub(super) dumped: BTreeSet<Family>,
}

impl ReplayedPeer {
    /// Returns the per-peer header for a message about this peer at this time.
    pub(super) fn header(&self, as4: bool, time: RecordTime) -> PeerHeader {
        let family = if self.identity.address.is_ipv6() { peer_flags::IPV6 } else { 0 };
        let width = if as4 { 0 } else { peer_flags::TWO_BYTE_AS };
        PeerHeader {
            key: self.key,
            flags: family | width,
            asn: self.identity.asn,
            bgp_id: self.bgp_id,
            seconds: time.seconds,
            microseconds: time.microseconds,
        }
    }

    /// Appends a Peer Up if the peer is down.
    ///
    /// # Errors
    ///
    /// Fails if an OPEN would be too long, which needs more families than exist.
    pub(super) fn bring_up(
        &mut self,
        out: &mut BytesMut,
        collector: &Collector,
        time: RecordTime,
    ) -> Result<(), bgp::Error> {
        if self.up {
            return Ok(());
        }
        let unknown = match self.identity.address {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let local = collector.address.unwrap_or(unknown);
        if let Some(open) = self.received_open.as_deref().and_then(parse) {
            self.bgp_id = open.bgp_id;
        }
        let recorded_id = self.sent_open.as_deref().and_then(parse).map(|open| open.bgp_id);
        let collector_as = collector.asn.filter(|&asn| asn != 0).unwrap_or(AS_TRANS.into());
        let collector_id = recorded_id.or(collector.bgp_id).unwrap_or_else(|| identifier(local));
        let fabricated_sent = || fabricate(OpenSender::Collector, collector_as, collector_id, &self.traits);
        let fabricated_received = || fabricate(OpenSender::Peer, self.identity.asn, self.bgp_id, &self.traits);
        let (recorded_sent, recorded_received) = (self.sent_open.take(), self.received_open.take());
        let mut sent = recorded_sent.map_or_else(|| fabricated_sent().map(BytesMut::freeze), Ok)?;
        let mut received = recorded_received.map_or_else(|| fabricated_received().map(BytesMut::freeze), Ok)?;
        if !agree(&sent, &received, &self.traits) {
            (sent, received) = (fabricated_sent()?.freeze(), fabricated_received()?.freeze());
        }
        build::peer_up(out, &self.header(self.traits.as4, time), local, [0, 0], &sent, &received);
        self.up = true;
        Ok(())
    }

    /// Appends a Peer Down if the peer is up.
    pub(super) fn take_down(&mut self, out: &mut BytesMut, time: RecordTime, reason: u8, data: &[u8]) {
        if std::mem::take(&mut self.up) {
            self.dumped.clear();
            build::peer_down_because(out, &self.header(self.traits.as4, time), reason, data);
        }
    }
}

/// All peers of the file.
#[derive(Debug, Default)]
pub(super) struct ReplayedPeers {
    all: Vec<ReplayedPeer>,
    index: HashMap<FilePeerId, usize>,
    /// How many peers share an address.
    of_address: HashMap<IpAddr, u64>,
}

impl ReplayedPeers {
    /// Returns the peer with this identity and creates it if necessary. The survey has seen all
    /// peers and bounds their number.
    pub(super) fn get(&mut self, identity: FilePeerId, survey: &Survey) -> Option<&mut ReplayedPeer> {
        let index = match self.index.get(&identity) {
            Some(&index) => index,
            None => {
                let index = self.all.len();
                let key = self.key(identity.address);
                self.all.push(ReplayedPeer {
                    identity,
                    key,
                    bgp_id: identity.bgp_id.unwrap_or_else(|| identifier(identity.address)),
                    traits: survey.traits(&identity),
                    up: false,
                    sent_open: None,
                    received_open: None,
                    pending: PendingRoutes::default(),
                    dumped: BTreeSet::new(),
                });
                self.index.insert(identity, index);
                index
            }
        };
        self.all.get_mut(index)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ReplayedPeer> {
        self.all.iter_mut()
    }

    /// Returns the BMP key for the next peer with this address. BMP identifies peers by address. If
    /// a collector has several sessions with one address, all but the first become peers of a local
    /// instance with a distinguisher that counts up (RFC 7854 §4.2).
    fn key(&mut self, address: IpAddr) -> PeerKey {
        let before = self.of_address.entry(address).or_default();
        let peer_type = if *before == 0 { PeerType::GLOBAL } else { PeerType::LOCAL };
        let key = PeerKey {
            peer_type,
            distinguisher: RouteDistinguisher(before.to_be_bytes()),
            address: build::address_field(address),
        };
        *before += 1;
        key
    }
}
