//! Peers that a connection of a relay sends messages about although they belong to another
//! connection.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    feed::{ConnectionId, PeerRefusal},
    wire::bmp::{MessageType, PeerType},
};

/// A peer that belongs to another connection. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct RefusedPeer {
    pub(super) address: IpAddr,
    /// The number of RFC 7854 §4.2.
    pub(super) peer_type: u8,
    /// Route distinguisher; `None` for zero.
    pub(super) distinguisher: Option<String>,
    #[serde(rename = "as")]
    pub(super) asn: u32,
    pub(super) bgp_id: Ipv4Addr,
    /// The client that has the peer; `None` if its connection has ended.
    pub(super) owner: Option<SocketAddr>,
    /// Messages that were dropped, by type.
    pub(super) dropped: BTreeMap<&'static str, u64>,
}

impl RefusedPeer {
    /// `clients` are the connections that are open.
    pub(super) fn of(refusal: &PeerRefusal, clients: &BTreeMap<ConnectionId, SocketAddr>) -> Self {
        let PeerRefusal { peer, owner, dropped } = refusal;
        let distinguisher = peer.key.distinguisher;
        let counts = MessageType::ALL.into_iter().map(|message| (message.as_str(), dropped.of(message)));
        Self {
            address: peer.address(),
            peer_type: peer.key.peer_type.0,
            distinguisher: (!distinguisher.is_zero()).then(|| distinguisher.to_string()),
            asn: peer.asn,
            bgp_id: peer.bgp_id,
            owner: clients.get(owner).copied(),
            dropped: counts.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

impl fmt::Display for RefusedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PeerType(self.peer_type) {
            PeerType::LOC_RIB => write!(f, "the Loc-RIB")?,
            _ => write!(f, "peer {}", self.address)?,
        }
        if let Some(distinguisher) = &self.distinguisher {
            write!(f, " of {distinguisher}")?;
        }
        let owner = self.owner.map_or("a connection that has ended".to_owned(), |owner| owner.to_string());
        let dropped: Vec<_> = self.dropped.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        write!(f, " (AS {}) belongs to {owner}; dropped: {}", self.asn, dropped.join(", "))
    }
}
