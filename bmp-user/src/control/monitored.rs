//! `display bgp bmp-monitor all`: the BGP peers that there are to tell of, and which stations are told of each. Field names are those of the JSON and
//! are stable.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use serde::Serialize;

use super::{Context, text::table};
use crate::{
    config::{Config, PUBLIC, Session as Configured, SessionId},
    feed::{Feed, PeerRibs, View},
    session::selection_of,
    wire::{bgp::Family, bmp::PeerType},
};

/// One peer of one input.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Monitored {
    /// A relay's or replay's name, or `bgp ADDRESS`.
    input: String,
    peer: IpAddr,
    #[serde(rename = "as")]
    asn: u32,
    bgp_id: Ipv4Addr,
    /// `global`, `rd`, `local`, `loc-rib`, or the number of another type.
    #[serde(rename = "type")]
    peer_type: String,
    /// Route distinguisher; `None` for zero.
    distinguisher: Option<String>,
    /// Name of the VRF or table, if it was told.
    table: Option<String>,
    /// Whether there was a Peer Up for it.
    announced: bool,
    /// Whether its daemon went away and `hold` of the relay keeps it up.
    held: bool,
    ribs: Vec<Rib>,
    sessions: Vec<Session>,
}

#[derive(Clone, Debug, Serialize)]
struct Rib {
    family: String,
    view: &'static str,
    routes: usize,
    /// Which of the peer's `sessions` are told of it, by their place there.
    #[serde(skip)]
    told: Vec<usize>,
}

/// A session that monitors the peer, or a part of it.
#[derive(Clone, Debug, Serialize)]
struct Session {
    station: IpAddr,
    vpn_instance: Option<String>,
    alias: Option<String>,
    /// The RIBs that it is told of; `route-mode` may leave some out.
    ribs: Vec<RibName>,
    /// Whether its station is not told all the same, because it could not tell the peer from that of another input.
    refused: bool,
}

#[derive(Clone, Debug, Serialize)]
struct RibName {
    family: String,
    view: &'static str,
}

/// All of them.
pub(super) fn monitored(context: &Context, config: &Config) -> Vec<Monitored> {
    let peers = context.feed.peers();
    let mut monitored: Vec<_> = peers.iter().map(described).collect();
    for (id, session) in &config.bmp.sessions {
        let selection = selection_of(session);
        let refused = context.sessions.get(id).map(|session| session.status.refused()).unwrap_or_default();
        for (peer, shown) in peers.iter().zip(&mut monitored) {
            if !peer.is_selected_by(&selection) {
                continue;
            }
            let SessionId { vpn_instance, station, alias } = id.clone();
            let refused = refused.iter().any(|(input, key)| **input == *peer.input() && *key == peer.header().key);
            let mut ribs = Vec::new();
            let number = shown.sessions.len();
            for (rib, told) in shown.ribs.iter_mut().zip(peer.ribs_selected_by(&selection)) {
                if told {
                    rib.told.push(number);
                    ribs.push(RibName { family: rib.family.clone(), view: rib.view });
                }
            }
            shown.sessions.push(Session { station, vpn_instance, alias, ribs, refused });
        }
    }
    monitored
}

/// For each session, by station, VPN instance and alias: how many peers it is told routes of in each family.
pub(super) type ByFamily = BTreeMap<(IpAddr, String, Option<String>), BTreeMap<Family, usize>>;

/// See [`ByFamily`].
pub(super) fn by_family(feed: &Feed, config: &Config) -> ByFamily {
    let peers = feed.peers();
    let of = |(id, session): (&SessionId, &Configured)| {
        let selection = selection_of(session);
        let mut families = BTreeMap::new();
        for peer in &peers {
            for family in peer.families_selected_by(&selection) {
                *families.entry(family).or_default() += 1;
            }
        }
        let vpn_instance = id.vpn_instance.clone().unwrap_or_else(|| PUBLIC.to_owned());
        ((id.station, vpn_instance, id.alias.clone()), families)
    };
    config.bmp.sessions.iter().map(of).collect()
}

fn described(peer: &PeerRibs) -> Monitored {
    let header = peer.header();
    let distinguisher = header.key.distinguisher;
    Monitored {
        input: peer.input().to_owned(),
        peer: header.address(),
        asn: header.asn,
        bgp_id: header.bgp_id,
        peer_type: match header.key.peer_type {
            PeerType::GLOBAL => "global".to_owned(),
            PeerType::RD => "rd".to_owned(),
            PeerType::LOCAL => "local".to_owned(),
            PeerType::LOC_RIB => "loc-rib".to_owned(),
            PeerType(other) => other.to_string(),
        },
        distinguisher: (distinguisher != [0; 8]).then(|| crate::feed::route_distinguisher(distinguisher)),
        table: peer.table().map(str::to_owned),
        announced: peer.is_announced(),
        held: peer.is_away(),
        ribs: peer
            .ribs()
            .iter()
            .map(|rib| Rib {
                family: rib.family.to_string(),
                view: name_of(rib.view),
                routes: rib.routes,
                told: Vec::new(),
            })
            .collect(),
        sessions: Vec::new(),
    }
}

/// As in `route-mode`.
pub(super) fn name_of(view: View) -> &'static str {
    match view {
        View::AdjRibInPre => "adj-rib-in pre-policy",
        View::AdjRibInPost => "adj-rib-in post-policy",
        View::AdjRibOutPre => "adj-rib-out pre-policy",
        View::AdjRibOutPost => "adj-rib-out post-policy",
        View::LocRib => "local-rib",
    }
}

/// As an operator reads it: a line for each RIB.
pub(super) fn text(monitored: &[Monitored]) -> String {
    let mut text = format!(" Total number of peers : {}\n\n", monitored.len());
    let heading = ["Peer", "AS", "VPN", "Input", "RIB", "Routes", "Stations"].map(str::to_owned);
    let rows = monitored.iter().flat_map(|peer| {
        let vpn = peer.table.clone().or_else(|| peer.distinguisher.clone()).unwrap_or_else(|| "-".to_owned());
        let input = format!("{}{}", peer.input, if peer.held { " (held)" } else { "" });
        let row = move |rib: String, routes: String, told: &mut dyn Iterator<Item = &Session>| {
            let told: Vec<String> = told.map(Session::in_words).collect();
            let told = if told.is_empty() { "-".to_owned() } else { told.join(", ") };
            [peer.peer.to_string(), peer.asn.to_string(), vpn.clone(), input.clone(), rib, routes, told]
        };
        let none = peer.ribs.is_empty().then(|| row("-".to_owned(), "0".to_owned(), &mut peer.sessions.iter()));
        let of_rib = |rib: &Rib| {
            let mut told = rib.told.iter().filter_map(|number| peer.sessions.get(*number));
            row(format!("{} {}", rib.family, rib.view), rib.routes.to_string(), &mut told)
        };
        let ribs: Vec<_> = peer.ribs.iter().map(of_rib).collect();
        none.into_iter().chain(ribs)
    });
    // Writing to a string cannot fail.
    let _ = table(&mut text, std::iter::once(heading).chain(rows));
    text
}

impl Session {
    fn in_words(&self) -> String {
        let alias = self.alias.as_ref().map(|alias| format!(" ({alias})")).unwrap_or_default();
        let refused = if self.refused { " refused" } else { "" };
        format!("{}{alias}{refused}", self.station)
    }
}
