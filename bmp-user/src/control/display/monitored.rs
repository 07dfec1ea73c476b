//! `display bgp bmp-monitor all`: the BGP peers of all inputs, and the sessions that report each.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        ControlContext,
        json::{AnswerSubject, Elements, JsonAnswer},
        words::{PeerTypeName, ViewName},
    },
    layout::{Columns, heading, or_dash},
};
use crate::{
    config::{Config, SessionConfig, SessionId},
    escape::Untrusted,
    feed::{Feed, HiddenPeer, InputId, PeerRibs, Selection},
    session::selection_of,
    wire::{bgp::Family, bmp::PeerKey},
};

/// One peer of one input. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct MonitoredPeer {
    /// A relay's or replay's name, or `bgp ADDRESS`.
    pub(super) input: String,
    pub(super) peer: IpAddr,
    #[serde(rename = "as")]
    pub(super) asn: u32,
    pub(super) bgp_id: Ipv4Addr,
    #[serde(rename = "type")]
    pub(super) peer_type: PeerTypeName,
    /// Route distinguisher; `None` for zero.
    pub(super) distinguisher: Option<String>,
    /// Name of the VRF or table, if the input has sent one.
    pub(super) table: Option<Untrusted>,
    /// True if the input has sent a Peer Up.
    pub(super) announced: bool,
    /// True if the peer's daemon went away and `hold` of the relay keeps the peer up.
    pub(super) held: bool,
    pub(super) ribs: Vec<MonitoredRib>,
    /// The sessions that monitor the peer, or a part of it.
    pub(super) sessions: Vec<MonitoringSession>,
}

/// One RIB of a peer.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct MonitoredRib {
    pub(super) family: Family,
    pub(super) view: ViewName,
    pub(super) routes: usize,
    /// The peer's `sessions` that report the RIB, as indices.
    #[serde(skip)]
    pub(super) reported_by: Vec<usize>,
}

/// A session that monitors a peer, or a part of it.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct MonitoringSession {
    pub(super) station: IpAddr,
    pub(super) vpn_instance: Option<String>,
    pub(super) alias: Option<String>,
    /// The RIBs that the session reports. `route-mode` may leave some out.
    pub(super) ribs: Vec<RibName>,
    /// True if the session is up. It reports nothing while it is down.
    pub(super) up: bool,
    /// True if the session hides the peer, because the station could not tell it from that of
    /// another input.
    pub(super) refused: bool,
}

/// Names a RIB of a peer.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct RibName {
    pub(super) family: Family,
    pub(super) view: ViewName,
}

/// Decides whether a session reports a peer.
struct PeerSelection {
    id: SessionId,
    selection: Selection,
    /// See [`MonitoringSession::up`].
    up: bool,
    /// The inputs whose peer of this key the session hides.
    hidden: HashMap<PeerKey, HashSet<InputId>>,
}

impl PeerSelection {
    fn of(context: &ControlContext, id: &SessionId, session: &SessionConfig) -> Self {
        let status = context.sessions.get(id).map(|session| Arc::clone(&session.status));
        let mut hidden = HashMap::<_, HashSet<_>>::new();
        for HiddenPeer { input, key } in status.as_ref().map(|status| status.hidden_peers()).unwrap_or_default() {
            hidden.entry(key).or_default().insert(input);
        }
        let up = status.is_some_and(|status| status.snapshot().phase.is_up());
        Self { id: id.clone(), selection: selection_of(session), up, hidden }
    }
}

/// Writes all peers, one after another. The memory for that does not grow with the numbers of peers
/// and sessions.
pub(super) fn write(context: &ControlContext, config: &Config, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let peers = context.feed.peers();
    let told = config.bmp.sessions.iter().filter(|(_, session)| reports(session));
    let selections: Vec<_> = told.map(|(id, session)| PeerSelection::of(context, id, session)).collect();
    let monitored = || peers.iter().map(|peer| MonitoredPeer::of(peer, &selections));
    if json {
        JsonAnswer::new(AnswerSubject::BgpBmpMonitor, Elements::new(monitored())).write(out)
    } else {
        write_text(out, peers.iter().map(MonitoredPeer::alone), monitored())
    }
}

/// Returns all peers, without the sessions that report them.
pub(super) fn all(context: &ControlContext) -> Vec<MonitoredPeer> {
    context.feed.peers().iter().map(MonitoredPeer::alone).collect()
}

/// Returns true if the session reports anything while it is up. The messages of an adopted session
/// come from its own daemon.
fn reports(session: &SessionConfig) -> bool {
    !session.shutdown && !session.adopt
}

/// The peers of one moment, to count those that each session reports.
pub(super) struct MonitoredFamilies(Vec<PeerRibs>);

impl MonitoredFamilies {
    pub(super) fn of(feed: &Feed) -> Self {
        Self(feed.peers())
    }

    /// Counts the peers of which a session reports routes, by family.
    pub(super) fn count(&self, session: &SessionConfig) -> BTreeMap<Family, usize> {
        let mut families = BTreeMap::new();
        if !reports(session) {
            return families;
        }
        let selection = selection_of(session);
        for family in self.0.iter().flat_map(|peer| peer.families_selected_by(&selection)) {
            *families.entry(family).or_default() += 1;
        }
        families
    }
}

impl MonitoredPeer {
    /// Describes a peer, and the sessions that report it.
    fn of(peer: &PeerRibs, selections: &[PeerSelection]) -> Self {
        let mut report = Self::alone(peer);
        for PeerSelection { id, selection, up, hidden } in selections {
            if !peer.is_selected_by(selection) {
                continue;
            }
            let SessionId { vpn_instance, station, alias } = id.clone();
            let refused = hidden.get(&peer.header().key).is_some_and(|inputs| inputs.contains(peer.input()));
            let mut ribs = Vec::new();
            let number = report.sessions.len();
            for (rib, is_reported) in report.ribs.iter_mut().zip(peer.ribs_selected_by(selection)) {
                if is_reported {
                    rib.reported_by.push(number);
                    ribs.push(RibName { family: rib.family, view: rib.view });
                }
            }
            report.sessions.push(MonitoringSession { station, vpn_instance, alias, ribs, up: *up, refused });
        }
        report
    }

    /// Describes a peer without the sessions that report it.
    fn alone(peer: &PeerRibs) -> Self {
        let header = peer.header();
        let distinguisher = header.key.distinguisher;
        let ribs = peer.ribs().iter().map(|rib| MonitoredRib {
            family: rib.family,
            view: ViewName(rib.view),
            routes: rib.routes,
            reported_by: Vec::new(),
        });
        Self {
            input: peer.input().to_string(),
            peer: header.address(),
            asn: header.asn,
            bgp_id: header.bgp_id,
            peer_type: PeerTypeName(header.key.peer_type),
            distinguisher: (!distinguisher.is_zero()).then(|| distinguisher.to_string()),
            table: peer.table().map(Untrusted::new),
            announced: peer.is_announced(),
            held: peer.is_away(),
            ribs: ribs.collect(),
            sessions: Vec::new(),
        }
    }
}

const HEADINGS: [&str; 7] = ["Peer", "AS", "VPN", "Input", "RIB", "Routes", "Stations"];

/// Writes a row for each RIB. `alone` are the peers without their sessions, for the widths of the
/// columns: the last column needs none.
pub(super) fn write_text(
    out: &mut dyn Write,
    alone: impl Iterator<Item = MonitoredPeer>,
    monitored: impl Iterator<Item = MonitoredPeer>,
) -> io::Result<()> {
    let headings = HEADINGS.map(str::to_owned);
    let (mut columns, mut number) = (Columns::new(), 0);
    columns.measure(&headings);
    for peer in alone {
        number += 1;
        peer.rows().iter().for_each(|row| columns.measure(row));
    }
    let mut total = String::new();
    // Writing to a string cannot fail.
    let _ = heading(&mut total, "Total number of peers", number);
    write!(out, "{total}\n{}", columns.line(&headings))?;
    for peer in monitored {
        for row in peer.rows() {
            out.write_all(columns.line(&row).as_bytes())?;
        }
    }
    Ok(())
}

impl MonitoredPeer {
    /// Returns a row for each RIB, or one row where there is none.
    fn rows(&self) -> Vec<[String; HEADINGS.len()]> {
        let vpn = self.table.as_ref().map(ToString::to_string).or_else(|| self.distinguisher.clone());
        let input = format!("{}{}", self.input, if self.held { " (held)" } else { "" });
        let row = |rib: Option<&MonitoredRib>, told: Vec<&MonitoringSession>| {
            let told: Vec<_> = told.into_iter().map(MonitoringSession::in_words).collect();
            [
                self.peer.to_string(),
                self.asn.to_string(),
                or_dash(vpn.as_ref()),
                input.clone(),
                or_dash(rib.map(|rib| format!("{} {}", rib.family, rib.view))),
                rib.map_or(0, |rib| rib.routes).to_string(),
                if told.is_empty() { "-".to_owned() } else { told.join(", ") },
            ]
        };
        if self.ribs.is_empty() {
            return vec![row(None, self.sessions.iter().collect())];
        }
        let told =
            |rib: &MonitoredRib| rib.reported_by.iter().filter_map(|number| self.sessions.get(*number)).collect();
        self.ribs.iter().map(|rib| row(Some(rib), told(rib))).collect()
    }
}

impl MonitoringSession {
    /// Returns `198.51.100.7 (lab) down`.
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
