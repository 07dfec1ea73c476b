//! What a file says about its peers, before any of it is replayed.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use super::file::{Failure, Source};
use crate::wire::{
    bgp::{self, Family, Form, MessageType, Update, nlri},
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

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// What the routes in one field of an UPDATE show about path identifiers.
///
/// The subtype of a record says whether there are path identifiers (RFC 8050 §3), but collectors
/// write them into records of the other subtypes too. The routes decide: in one reading they come
/// out even, and in the other mostly not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathIdEvidence {
    /// With path identifiers, and not without.
    With,
    /// Without path identifiers, and not with them.
    Without,
    /// Both ways, or the family's form is not known.
    Any,
    /// In neither way.
    Neither,
}

impl PathIdEvidence {
    pub(super) fn of(family: Family, items: &[u8]) -> Self {
        let Some(form) = Form::of(family) else { return Self::Any };
        let is_even = |path_ids| nlri(form, path_ids, items).all(|item| item.is_ok());
        match (is_even(false), is_even(true)) {
            (true, true) => Self::Any,
            (true, false) => Self::Without,
            (false, true) => Self::With,
            (false, false) => Self::Neither,
        }
    }
}

/// How many fields show path identifiers, and how many show that there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PathIdVotes {
    with: u64,
    without: u64,
}

impl PathIdVotes {
    fn note(&mut self, evidence: PathIdEvidence) {
        match evidence {
            PathIdEvidence::With => self.with += 1,
            PathIdEvidence::Without => self.without += 1,
            PathIdEvidence::Any | PathIdEvidence::Neither => {}
        }
    }

    fn has_path_ids(self) -> bool {
        self.with > self.without
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
        self.families.get(&family).is_some_and(|votes| votes[direction as usize].has_path_ids())
    }

    fn note(&mut self, family: Family, direction: Direction, evidence: PathIdEvidence) {
        self.families.entry(family).or_default()[direction as usize].note(evidence);
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
                self.peer(Identity::from(route)).note(route.family, Direction::In, PathIdEvidence::Without);
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
                        let evidence = if rib.add_path { PathIdEvidence::With } else { PathIdEvidence::Without };
                        traits.note(rib.family, Direction::In, evidence);
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
                    for (family, items) in
                        Update::parse(frame.bytes(), as_size(message.as4)).iter().flat_map(Update::routes)
                    {
                        let evidence = PathIdEvidence::of(family, items);
                        let says_ids = message.add_path && !items.is_empty() && evidence == PathIdEvidence::Any;
                        traits.note(family, direction, if says_ids { PathIdEvidence::With } else { evidence });
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
