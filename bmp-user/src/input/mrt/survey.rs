//! The first pass over a file: finds its peers before the replay.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use super::file::{FileError, RecordReader};
use crate::wire::{
    bgp::{self, Family, Form, MessageType, Reading, RouteField, Update},
    mrt::{IndexedPeer, RecordBody, RecordedSession, TableDump},
};

/// More peers than any collector has. It bounds the memory of a replay.
const MAX_PEERS: usize = 65_536;

/// Identifies a peer of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FilePeerId {
    pub(super) address: IpAddr,
    pub(super) asn: u32,
    /// The BGP identifier. Only a PEER_INDEX_TABLE tells it.
    pub(super) bgp_id: Option<Ipv4Addr>,
}

impl From<&IndexedPeer> for FilePeerId {
    fn from(peer: &IndexedPeer) -> Self {
        Self { address: peer.address, asn: peer.asn, bgp_id: Some(peer.bgp_id) }
    }
}

/// An IPv6 record holds an IPv4 peer address in IPv4-mapped form. The peer is the same as in IPv4
/// records.
impl From<&TableDump<'_>> for FilePeerId {
    fn from(route: &TableDump<'_>) -> Self {
        Self { address: route.peer_address.to_canonical(), asn: route.peer_as.into(), bgp_id: None }
    }
}

impl From<&RecordedSession> for FilePeerId {
    fn from(session: &RecordedSession) -> Self {
        Self { address: session.peer_address, asn: session.peer_as, bgp_id: None }
    }
}

/// Returns the size of an AS number in an AS path, in bytes.
pub(super) fn as_size(as4: bool) -> usize {
    if as4 { 4 } else { 2 }
}

/// Splits an UPDATE as the feed does. If the multiprotocol attributes are malformed, only the IPv4
/// unicast fields count.
pub(super) fn parse_update(message: &[u8], as4: bool) -> Result<Update<'_>, bgp::Error> {
    Update::parse(message, as_size(as4)).or_else(|error| Update::parse_plain(message, error))
}

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageDirection {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// Evidence for path identifiers in one family and direction.
///
/// The subtype of a record tells whether routes have path identifiers (RFC 8050 §3). Some
/// collectors write path identifiers into records of other subtypes too. There, each field of
/// routes votes for the reading that fits it best, as for a relayed router; see [`Reading`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PathIdVotes {
    with: u64,
    without: u64,
}

impl PathIdVotes {
    /// Counts a field. `subtype_has_ids` is true if the subtype of the record announces path
    /// identifiers.
    fn note(&mut self, field: &RouteField<'_>, subtype_has_ids: bool) {
        let plain = Reading::of(field.family, false, false);
        if plain.form == Form::Whole || field.items.is_empty() {
            return;
        }
        let with = Reading { path_ids: true, ..plain };
        let mut candidates = vec![with, plain];
        if Reading::keep_best(&mut candidates, field.items, field.withdrawn) {
            match candidates[..] {
                _ if subtype_has_ids
                    && (if field.withdrawn { with.withdrawn() } else { with }).is_even(field.items) =>
                {
                    self.with += 1;
                }
                [only] if only.path_ids => self.with += 1,
                [_] => self.without += 1,
                _ => {}
            }
        }
    }

    /// True if the routes have path identifiers. `None` without evidence, or with equal votes.
    fn shows(self) -> Option<bool> {
        (self.with != self.without).then_some(self.with > self.without)
    }
}

/// The capabilities that both ends of a session must have agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SessionTraits {
    /// AS paths have 4-octet AS numbers.
    pub(super) as4: bool,
    /// The families that occur, with the votes for routes from the peer and to the peer.
    pub(super) families: BTreeMap<Family, [PathIdVotes; 2]>,
}

impl SessionTraits {
    /// True if the routes of a family in this direction have path identifiers.
    pub(super) fn add_path(&self, family: Family, direction: MessageDirection) -> bool {
        self.shows_path_ids(family, direction) == Some(true)
    }

    /// The same, but `None` without evidence.
    pub(super) fn shows_path_ids(&self, family: Family, direction: MessageDirection) -> Option<bool> {
        self.families.get(&family).and_then(|votes| votes[direction as usize].shows())
    }

    fn votes(&mut self, family: Family, direction: MessageDirection) -> &mut PathIdVotes {
        &mut self.families.entry(family).or_default()[direction as usize]
    }
}

/// The peers of a file.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The number of records.
    pub(super) records: u64,
    peers: HashMap<FilePeerId, SessionTraits>,
}

impl Survey {
    /// Returns the capabilities of a peer's session.
    pub(super) fn traits(&self, peer: &FilePeerId) -> SessionTraits {
        self.peers.get(peer).cloned().unwrap_or_default()
    }

    /// Reads a file to its end, or to the first place that cannot be read. The replay itself
    /// reports such a place. `go_on` may return false to stop early.
    ///
    /// # Errors
    ///
    /// Fails if the file has too many peers.
    pub(super) fn take(source: &mut RecordReader<'_>, mut go_on: impl FnMut() -> bool) -> Result<Self, FileError> {
        let mut survey = Self::default();
        let mut table = Vec::new();
        let _ = source.each(|record, _| {
            survey.records += 1;
            if let Ok(body) = RecordBody::parse(record) {
                survey.note(&body, &mut table);
            }
            survey.peers.len() <= MAX_PEERS && go_on()
        });
        if survey.peers.len() > MAX_PEERS {
            return Err(FileError::TooManyPeers(MAX_PEERS));
        }
        Ok(survey)
    }

    fn note(&mut self, body: &RecordBody<'_>, table: &mut Vec<FilePeerId>) {
        match body {
            RecordBody::TableDump(route) => {
                self.peer(FilePeerId::from(route)).votes(route.family, MessageDirection::In);
            }
            RecordBody::PeerIndexTable(peers) => {
                table.clear();
                table.extend(peers.iter().map(|peer| FilePeerId::from(&peer)));
            }
            RecordBody::Rib(rib) => {
                for entry in rib.iter() {
                    if let Some(&identity) = table.get(usize::from(entry.peer)) {
                        let traits = self.peer(identity);
                        traits.as4 = true;
                        // Only routes with identifiers vote: the replay gives identifier 0 to
                        // routes without one.
                        traits.votes(rib.family, MessageDirection::In).with += u64::from(rib.add_path);
                    }
                }
            }
            RecordBody::Message(message) => {
                let Ok(frame) = bgp::Frame::parse(message.message) else { return };
                let traits = self.peer(FilePeerId::from(&message.session));
                if frame.message_type() == MessageType::Update {
                    traits.as4 |= message.as4;
                    let direction = if message.local { MessageDirection::Out } else { MessageDirection::In };
                    // An UPDATE that cannot be split has no readable families.
                    let Ok(update) = parse_update(frame.bytes(), message.as4) else { return };
                    for field in update.route_fields() {
                        traits.votes(field.family, direction).note(&field, message.add_path);
                    }
                }
            }
            RecordBody::StateChange(change) => {
                self.peer(FilePeerId::from(&change.session));
            }
            RecordBody::Other => {}
        }
    }

    fn peer(&mut self, identity: FilePeerId) -> &mut SessionTraits {
        self.peers.entry(identity).or_default()
    }
}
