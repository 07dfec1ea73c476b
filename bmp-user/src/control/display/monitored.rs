//! `display bgp bmp-monitor`: the BGP peers of all inputs, and the sessions that report each. `all`
//! is a table; a peer by its address is shown in detail.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
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
    layout::{Columns, after, field, heading, or_dash},
};
use crate::{
    config::{Config, SessionConfig, SessionId},
    escape::{Untrusted, escaped_lines},
    feed::{Feed, HiddenPeer, InputId, PeerFilter, PeerRibs, RouterId, Selection, SelectionRule},
    session::{RouterSession, selection_of},
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
    /// The `monitor` commands of the session that select the peer. Empty if it has none, and so
    /// reports everything.
    pub(super) monitors: Vec<String>,
    /// The RIBs that the session reports. `route-mode` may leave some out.
    pub(super) ribs: Vec<RibName>,
    /// True if the session is up. It reports nothing while it is down.
    pub(super) up: bool,
    /// True if the session hides the peer, because the station could not tell it from that of
    /// another input.
    pub(super) refused: bool,
    /// Bytes of the journal that the station has not been sent. `None` while the session is down.
    pub(super) lag_bytes: Option<u64>,
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
    /// The `monitor` commands, one for each rule of the selection.
    monitors: Vec<String>,
    /// See [`MonitoringSession::up`].
    up: bool,
    lag_bytes: Option<u64>,
    /// The same for each router that has a connection of its own; `None` if none has.
    routers: Option<HashMap<Arc<RouterId>, Option<u64>>>,
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
        let up = status.as_ref().is_some_and(|status| status.snapshot().phase.is_up());
        let (_, position) = status.map(|status| status.cursor()).unwrap_or_default();
        let head = context.feed.head().bytes;
        let routers = session.per_router.as_ref().map(|_| {
            let routers = context.sessions.get(id).map(|session| session.routers()).unwrap_or_default();
            let lag = |RouterSession { router, handle, .. }: RouterSession| {
                let (_, position) = handle.status.cursor();
                let up = handle.status.snapshot().phase.is_up();
                (router.id, up.then(|| head.saturating_sub(position)))
            };
            routers.into_iter().map(lag).collect()
        });
        Self {
            routers,
            id: id.clone(),
            selection: selection_of(session),
            monitors: session.monitors.keys().map(ToString::to_string).collect(),
            up,
            lag_bytes: up.then(|| head.saturating_sub(position)),
            hidden,
        }
    }
}

/// Writes all peers, one after another. The memory for that does not grow with the numbers of peers
/// and sessions.
pub(super) fn write(context: &ControlContext, config: &Config, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let peers = context.feed.peers();
    let selections = selections(context, config);
    let monitored = || peers.iter().map(|peer| MonitoredPeer::of(peer, &selections));
    if json {
        JsonAnswer::new(AnswerSubject::BgpBmpMonitor, Elements::new(monitored())).write(out)
    } else {
        write_text(out, peers.iter().map(MonitoredPeer::alone), monitored())
    }
}

/// Writes the peers with an address, one after another, in detail. They are those of a VPN
/// instance, by its name or its route distinguisher, or those of none.
pub(super) fn write_peer(
    context: &ControlContext,
    config: &Config,
    vpn_instance: Option<String>,
    address: IpAddr,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rule = SelectionRule { peers: PeerFilter::Peer { vpn_instance, address }, ribs: Vec::new(), filter: None };
    let named = Selection { rules: vec![rule], ..Selection::default() };
    let mut peers = context.feed.peers();
    peers.retain(|peer| peer.is_selected_by(&named));
    let selections = selections(context, config);
    let mut monitored = peers.iter().map(|peer| MonitoredPeer::of(peer, &selections));
    if json {
        return JsonAnswer::new(AnswerSubject::BgpBmpMonitor, Elements::new(monitored)).write(out);
    }
    write!(out, "{}", total(peers.len()))?;
    monitored.try_for_each(|peer| write!(out, "{}", escaped_lines(&peer.to_string())))
}

fn selections(context: &ControlContext, config: &Config) -> Vec<PeerSelection> {
    let told = config.bmp.sessions.iter().filter(|(_, session)| reports(session));
    told.map(|(id, session)| PeerSelection::of(context, id, session)).collect()
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
        for PeerSelection { id, selection, monitors, up, lag_bytes, routers, hidden } in selections {
            if !peer.is_selected_by(selection) {
                continue;
            }
            let (up, lag_bytes) = match routers {
                Some(routers) => {
                    let lag = peer.input().router().and_then(|router| routers.get(router).copied()).flatten();
                    (lag.is_some(), lag)
                }
                None => (*up, *lag_bytes),
            };
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
            report.sessions.push(MonitoringSession {
                station,
                vpn_instance,
                alias,
                monitors: peer.selecting_rules(selection).filter_map(|rule| monitors.get(rule).cloned()).collect(),
                ribs,
                up,
                refused,
                lag_bytes,
            });
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

/// Returns the line in front of the peers.
fn total(peers: usize) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = heading(&mut text, "Total number of peers", peers);
    text
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
    write!(out, "{}\n{}", total(number), columns.line(&headings))?;
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

/// The detailed display: the RIBs, and the sessions that report the peer.
impl fmt::Display for MonitoredPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n Peer {}, AS {}", self.peer, self.asn)?;
        field(f, "Input", format_args!("{}{}", self.input, if self.held { " (held)" } else { "" }))?;
        field(f, "Type", self.peer_type)?;
        field(f, "BGP identifier", self.bgp_id)?;
        if self.table.is_some() || self.distinguisher.is_some() {
            let table = or_dash(self.table.as_ref());
            field(
                f,
                "VPN instance",
                format_args!("{table}{}", after(", distinguisher ", self.distinguisher.as_ref())),
            )?;
        }
        field(f, "Peer Up", if self.announced { "received" } else { "not received" })?;
        for MonitoredRib { family, view, routes, .. } in &self.ribs {
            field(f, "RIB", format_args!("{family} {view}, {routes} route(s)"))?;
        }
        if self.sessions.is_empty() {
            field(f, "Told to", "no station")?;
        }
        self.sessions.iter().try_for_each(|session| session.write_detailed(f))
    }
}

impl MonitoringSession {
    /// Writes which station is told the peer, why, and what of it.
    fn write_detailed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alias = after(", alias ", self.alias.as_ref());
        let instance = after(", VPN instance ", self.vpn_instance.as_ref());
        let state = match (self.up, self.refused, self.lag_bytes) {
            (false, ..) => "down".to_owned(),
            (true, true, _) => "left out: it could not tell the peer from that of another input".to_owned(),
            (true, false, Some(lag)) => format!("up, {lag} bytes behind"),
            (true, false, None) => "up".to_owned(),
        };
        field(f, "Told to", format_args!("{}{alias}{instance}: {state}", self.station))?;
        if self.monitors.is_empty() {
            field(f, "  selected by", "no monitor is configured: everything")?;
        }
        for monitor in &self.monitors {
            field(f, "  selected by", format_args!("monitor {monitor}"))?;
        }
        for RibName { family, view } in &self.ribs {
            field(f, "  RIB", format_args!("{family} {view}"))?;
        }
        Ok(())
    }

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
