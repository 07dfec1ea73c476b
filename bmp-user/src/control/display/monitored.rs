//! `display bgp bmp-monitor all`: the BGP peers that there are to tell of, and which stations are told of each. Field names are those of the JSON and
//! are stable.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde::Serialize;

use super::{super::Context, json::write_json};
use crate::{
    config::{Config, Session as Configured, SessionId},
    escape::Untrusted,
    feed::{Feed, PeerRibs, Selection, View},
    session::selection_of,
    wire::{
        bgp::Family,
        bmp::{PeerKey, PeerType},
    },
};

/// One peer of one input.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Monitored {
    /// A relay's or replay's name, or `bgp ADDRESS`.
    pub(super) input: String,
    pub(super) peer: IpAddr,
    #[serde(rename = "as")]
    pub(super) asn: u32,
    pub(super) bgp_id: Ipv4Addr,
    /// `global`, `rd`, `local`, `loc-rib`, or the number of another type.
    #[serde(rename = "type")]
    pub(super) peer_type: String,
    /// Route distinguisher; `None` for zero.
    pub(super) distinguisher: Option<String>,
    /// Name of the VRF or table, if it was told.
    pub(super) table: Option<Untrusted>,
    /// Whether there was a Peer Up for it.
    pub(super) announced: bool,
    /// Whether its daemon went away and `hold` of the relay keeps it up.
    pub(super) held: bool,
    pub(super) ribs: Vec<Rib>,
    pub(super) sessions: Vec<Session>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Rib {
    pub(super) family: String,
    pub(super) view: &'static str,
    pub(super) routes: usize,
    /// Which of the peer's `sessions` are told of it, by their place there.
    #[serde(skip)]
    pub(super) told: Vec<usize>,
}

/// A session that monitors the peer, or a part of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Session {
    pub(super) station: IpAddr,
    pub(super) vpn_instance: Option<String>,
    pub(super) alias: Option<String>,
    /// The RIBs that it is told of; `route-mode` may leave some out.
    pub(super) ribs: Vec<RibName>,
    /// Whether the session is up: its station is told only then.
    pub(super) up: bool,
    /// Whether its station is not told all the same, because it could not tell the peer from that of another input.
    pub(super) refused: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct RibName {
    pub(super) family: String,
    pub(super) view: &'static str,
}

/// What decides whether a session is told of a peer.
pub(super) struct Listener {
    pub(super) id: SessionId,
    pub(super) selection: Selection,
    /// See [`Session::up`].
    pub(super) up: bool,
    /// Peers that its station is not told of all the same, with their inputs.
    pub(super) refused: HashMap<PeerKey, HashSet<Arc<str>>>,
}

/// Writes all of them, one after another: what this takes does not grow with how many stations are told of how many peers.
pub(super) fn write(context: &Context, config: &Config, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let peers = context.feed.peers();
    let listener = |(id, session): (&SessionId, &Configured)| {
        let status = context.sessions.get(id).map(|session| Arc::clone(&session.status));
        let mut refused = HashMap::<_, HashSet<_>>::new();
        for (input, key) in status.as_ref().map(|status| status.refused()).unwrap_or_default() {
            refused.entry(key).or_default().insert(input);
        }
        let up = status.is_some_and(|status| status.snapshot().phase.is_up());
        Listener { id: id.clone(), selection: selection_of(session), up, refused }
    };
    let told = config.bmp.sessions.iter().filter(|(_, session)| is_told(session));
    let listeners: Vec<_> = told.map(listener).collect();
    let monitored = || peers.iter().map(|peer| monitored(peer, &listeners));
    if json { write_json(out, monitored()) } else { write_text(out, peers.iter().map(described), monitored()) }
}

/// A peer, and the sessions that are told of it.
fn monitored(peer: &PeerRibs, listeners: &[Listener]) -> Monitored {
    let mut shown = described(peer);
    for Listener { id, selection, up, refused } in listeners {
        if !peer.is_selected_by(selection) {
            continue;
        }
        let SessionId { vpn_instance, station, alias } = id.clone();
        let refused = refused.get(&peer.header().key).is_some_and(|inputs| inputs.contains(peer.input()));
        let mut ribs = Vec::new();
        let number = shown.sessions.len();
        for (rib, told) in shown.ribs.iter_mut().zip(peer.ribs_selected_by(selection)) {
            if told {
                rib.told.push(number);
                ribs.push(RibName { family: rib.family.clone(), view: rib.view });
            }
        }
        shown.sessions.push(Session { station, vpn_instance, alias, ribs, up: *up, refused });
    }
    shown
}

/// Whether the session tells its station anything when it is up. What an adopted one tells comes
/// from its daemon.
fn is_told(session: &Configured) -> bool {
    !session.shutdown && !session.adopt
}

/// The peers that there are, of which each session is told some.
pub(super) struct ByFamily(Vec<PeerRibs>);

impl ByFamily {
    /// Those of this moment.
    pub(super) fn of(feed: &Feed) -> Self {
        Self(feed.peers())
    }

    /// Of how many peers a session is told routes in each family.
    pub(super) fn told(&self, session: &Configured) -> BTreeMap<Family, usize> {
        let mut families = BTreeMap::new();
        if !is_told(session) {
            return families;
        }
        let selection = selection_of(session);
        for family in self.0.iter().flat_map(|peer| peer.families_selected_by(&selection)) {
            *families.entry(family).or_default() += 1;
        }
        families
    }
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
        table: peer.table().map(Untrusted::new),
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

/// Columns but the last, which needs no width.
const COLUMNS: usize = 6;

/// As an operator reads it: a line for each RIB. The peers are gone through twice, first for the widths of the columns.
pub(super) fn write_text(
    out: &mut dyn Write,
    peers: impl Iterator<Item = Monitored>,
    monitored: impl Iterator<Item = Monitored>,
) -> io::Result<()> {
    let heading = ["Peer", "AS", "VPN", "Input", "RIB", "Routes"].map(str::to_owned);
    let (mut widths, mut number) = (heading.each_ref().map(String::len), 0);
    for peer in peers {
        number += 1;
        for (cells, _) in peer.rows() {
            for (width, cell) in widths.iter_mut().zip(&cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }
    writeln!(out, " Total number of peers : {number}\n")?;
    let mut write = |cells: &[String; COLUMNS], last: &str| {
        write!(out, " ")?;
        for (cell, width) in cells.iter().zip(widths) {
            write!(out, " {cell:<width$} ")?;
        }
        writeln!(out, " {last}")
    };
    write(&heading, "Stations")?;
    for peer in monitored {
        for (cells, told) in peer.rows() {
            write(&cells, &told)?;
        }
    }
    Ok(())
}

impl Monitored {
    /// A row for each RIB, and which stations are told of it; one where there is none.
    fn rows(&self) -> Vec<([String; COLUMNS], String)> {
        let vpn = self.table.as_ref().map(ToString::to_string).or_else(|| self.distinguisher.clone());
        let vpn = vpn.unwrap_or_else(|| "-".to_owned());
        let input = format!("{}{}", self.input, if self.held { " (held)" } else { "" });
        let row = |rib: String, routes: String, told: &mut dyn Iterator<Item = &Session>| {
            let told: Vec<String> = told.map(Session::in_words).collect();
            let told = if told.is_empty() { "-".to_owned() } else { told.join(", ") };
            ([self.peer.to_string(), self.asn.to_string(), vpn.clone(), input.clone(), rib, routes], told)
        };
        if self.ribs.is_empty() {
            return vec![row("-".to_owned(), "0".to_owned(), &mut self.sessions.iter())];
        }
        let of_rib = |rib: &Rib| {
            let mut told = rib.told.iter().filter_map(|number| self.sessions.get(*number));
            row(format!("{} {}", rib.family, rib.view), rib.routes.to_string(), &mut told)
        };
        self.ribs.iter().map(of_rib).collect()
    }
}

impl Session {
    fn in_words(&self) -> String {
        let alias = self.alias.as_ref().map(|alias| format!(" ({alias})")).unwrap_or_default();
        let state = match (self.up, self.refused) {
            (false, _) => " down",
            (true, true) => " refused",
            (true, false) => "",
        };
        format!("{}{alias}{state}", self.station)
    }
}
