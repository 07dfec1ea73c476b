//! Peers that a connection of a relay may not speak of, in `display bmp relay`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    feed::{ConnectionId, Refusal, route_distinguisher},
    wire::bmp::{MessageType, PeerType},
};

/// One such peer. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RefusedPeer {
    pub(super) address: String,
    pub(super) peer_type: u8,
    pub(super) distinguisher: Option<String>,
    #[serde(rename = "as")]
    pub(super) asn: u32,
    pub(super) bgp_id: String,
    /// The client that has the peer, if it is still connected.
    pub(super) owner: Option<String>,
    /// Messages that were dropped, by type.
    pub(super) dropped: BTreeMap<&'static str, u64>,
}

impl RefusedPeer {
    /// `clients` are the connections that are open.
    pub(super) fn of(refusal: &Refusal, clients: &BTreeMap<ConnectionId, String>) -> Self {
        let Refusal { peer, owner, dropped } = refusal;
        let distinguisher = peer.key.distinguisher;
        let counts = MessageType::ALL.into_iter().map(|message| (message.as_str(), dropped.of(message)));
        Self {
            address: peer.address().to_string(),
            peer_type: peer.key.peer_type.0,
            distinguisher: (distinguisher != [0; 8]).then(|| route_distinguisher(distinguisher)),
            asn: peer.asn,
            bgp_id: peer.bgp_id.to_string(),
            owner: clients.get(owner).cloned(),
            dropped: counts.filter(|(_, count)| *count > 0).collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let peer = match self.peer_type {
            loc_rib if PeerType(loc_rib) == PeerType::LOC_RIB => "the Loc-RIB".to_owned(),
            _ => format!("peer {}", self.address),
        };
        let instance = self.distinguisher.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
        let owner = self.owner.as_deref().unwrap_or("a connection that has ended");
        let dropped: Vec<_> = self.dropped.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!("{peer}{instance} (AS {}) belongs to {owner}; dropped: {}", self.asn, dropped.join(", "))
    }
}
