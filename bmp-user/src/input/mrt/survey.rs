//! What a file says about its peers, before any of it is replayed.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use super::file::{Failure, Source};
use crate::wire::{
    bgp::{self, Family, Field, Form, MessageType, Reading, Update},
    mrt::{Body, Peer, Session, TableDump},
};

/// More peers than any collector has, and no more than memory stands.
const MAX_PEERS: usize = 65_536;

/// Which peer of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) address: IpAddr,
    pub(super) asn: u32,
    /// Of peers that a PEER_INDEX_TABLE names.
    pub(super) bgp_id: Option<Ipv4Addr>,
}

impl From<&Peer> for Identity {
    fn from(peer: &Peer) -> Self {
        Self { address: peer.address, asn: peer.asn, bgp_id: Some(peer.bgp_id) }
    }
}

/// An IPv6 record has no place for an IPv4 address but an IPv4-mapped one: that is the same peer as
/// the one of IPv4 records.
impl From<&TableDump<'_>> for Identity {
    fn from(route: &TableDump<'_>) -> Self {
        Self { address: route.peer_address.to_canonical(), asn: route.peer_as.into(), bgp_id: None }
    }
}

impl From<&Session> for Identity {
    fn from(session: &Session) -> Self {
        Self { address: session.peer_address, asn: session.peer_as, bgp_id: None }
    }
}

/// The size of an AS number in the AS paths of a session, in bytes.
pub(super) fn as_size(as4: bool) -> usize {
    if as4 { 4 } else { 2 }
}

/// Splits an UPDATE as the feed does: of one whose multiprotocol attributes are broken, the fields for IPv4 unicast.
pub(super) fn parse_update(message: &[u8], as4: bool) -> Result<Update<'_>, bgp::Error> {
    Update::parse(message, as_size(as4)).or_else(|error| Update::parse_plain(message, error))
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// What UPDATEs and tables show of path identifiers in one family and direction.
///
/// The subtype of a record says whether there are path identifiers (RFC 8050 §3), but collectors
/// write them into records of the other subtypes too. There each field of routes in an UPDATE is a
/// vote for the reading by which it reads best, as for a relayed router; see [`Reading`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PathIdVotes {
    with: u64,
    without: u64,
}

impl PathIdVotes {
    /// Counts a field. `said` is true if the subtype of its record says that there are identifiers.
    fn note(&mut self, field: &Field<'_>, said: bool) {
        let plain = Reading::of(field.family, false, false);
        if plain.form == Form::Whole || field.items.is_empty() {
            return;
        }
        let with = Reading { path_ids: true, ..plain };
        let mut candidates = vec![with, plain];
        if Reading::keep_best(&mut candidates, field.items, field.withdrawn) {
            match candidates[..] {
                _ if said && (if field.withdrawn { with.withdrawn() } else { with }).is_even(field.items) => {
                    self.with += 1;
                }
                [only] if only.path_ids => self.with += 1,
                [_] => self.without += 1,
                _ => {}
            }
        }
    }

    /// Whether there are path identifiers; `None` if nothing shows it.
    fn shows(self) -> Option<bool> {
        (self.with != self.without).then_some(self.with > self.without)
    }
}

/// What both ends of a session must have agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits {
    /// AS paths have 4-octet numbers.
    pub(super) as4: bool,
    /// The families that occur, each with how routes from the peer are written, and routes to it.
    pub(super) families: BTreeMap<Family, [PathIdVotes; 2]>,
}

impl Traits {
    /// Whether routes of a family that go this way have path identifiers.
    pub(super) fn add_path(&self, family: Family, direction: Direction) -> bool {
        self.shows_path_ids(family, direction) == Some(true)
    }

    /// The same; `None` if nothing in the file shows it.
    pub(super) fn shows_path_ids(&self, family: Family, direction: Direction) -> Option<bool> {
        self.families.get(&family).and_then(|votes| votes[direction as usize].shows())
    }

    fn votes(&mut self, family: Family, direction: Direction) -> &mut PathIdVotes {
        &mut self.families.entry(family).or_default()[direction as usize]
    }
}

/// The peers of a file.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Records that it has.
    pub(super) records: u64,
    peers: HashMap<Identity, Traits>,
}

impl Survey {
    /// What is known of a peer.
    pub(super) fn of(&self, peer: &Identity) -> Traits {
        self.peers.get(peer).cloned().unwrap_or_default()
    }

    /// Reads a file to its end, or to where it cannot be read further: that is for the replay itself to tell.
    ///
    /// # Errors
    ///
    /// If there are too many peers. `go_on` may give false to end it early.
    pub(super) fn take(source: &mut Source<'_>, mut go_on: impl FnMut() -> bool) -> Result<Self, Failure> {
        let mut survey = Self::default();
        let mut table = Vec::new();
        let _ = source.each(|record, _| {
            survey.records += 1;
            if let Ok(body) = Body::parse(record) {
                survey.note(&body, &mut table);
            }
            survey.peers.len() <= MAX_PEERS && go_on()
        });
        if survey.peers.len() > MAX_PEERS {
            return Err(Failure::TooManyPeers(MAX_PEERS));
        }
        Ok(survey)
    }

    fn note(&mut self, body: &Body<'_>, table: &mut Vec<Identity>) {
        match body {
            Body::TableDump(route) => {
                self.peer(Identity::from(route)).votes(route.family, Direction::In);
            }
            Body::PeerIndexTable(peers) => {
                table.clear();
                table.extend(peers.iter().map(|peer| Identity::from(&peer)));
            }
            Body::Rib(rib) => {
                for entry in rib.iter() {
                    if let Some(&identity) = table.get(usize::from(entry.peer)) {
                        let traits = self.peer(identity);
                        traits.as4 = true;
                        // A route without identifier can be given one.
                        traits.votes(rib.family, Direction::In).with += u64::from(rib.add_path);
                    }
                }
            }
            Body::Message(message) => {
                let Ok(frame) = bgp::Frame::parse(message.message) else { return };
                let traits = self.peer(Identity::from(&message.session));
                if frame.message_type() == MessageType::Update {
                    traits.as4 |= message.as4;
                    let direction = if message.local { Direction::Out } else { Direction::In };
                    // What cannot be told says nothing of its families.
                    let Ok(update) = parse_update(frame.bytes(), message.as4) else { return };
                    for field in update.route_fields() {
                        traits.votes(field.family, direction).note(&field, message.add_path);
                    }
                }
            }
            Body::StateChange(change) => {
                self.peer(Identity::from(&change.session));
            }
            Body::Other => {}
        }
    }

    fn peer(&mut self, identity: Identity) -> &mut Traits {
        self.peers.entry(identity).or_default()
    }
}
