//! `display bmp relay`: the relays, the daemons that are connected to them, and what is kept of their peers.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use serde::Serialize;

use super::{super::Context, monitored::name_of, refused::RefusedPeer, silent::Silent};
use crate::{
    config::{self, Config},
    escape::Untrusted,
    feed::PeerRibs,
    input::relay::{ConnectionStatus, HeldStatus, RelayState, RelayStatus, connection_limits},
};

/// How many peers without a route are named.
const SILENT_SHOWN: usize = 3;

/// One relay. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Relay {
    pub(super) name: String,
    pub(super) listen: Option<String>,
    /// `not-configured`, `starting`, `listening` or `failed`.
    pub(super) state: &'static str,
    pub(super) why: Option<String>,
    pub(super) connections: Vec<Connection>,
    /// Who may connect besides this host.
    pub(super) allow: Vec<String>,
    pub(super) hold_seconds: u64,
    pub(super) end_of_rib_after_seconds: u64,
    /// How many connections it has at most, and of those from one source: as configured, and as bmpd's descriptors allow.
    pub(super) max_connections: usize,
    pub(super) max_connections_per_source: usize,
    /// The daemons that went away and whose peers are held.
    pub(super) held: Vec<Held>,
    /// Peers of this relay whose daemon is not back.
    pub(super) held_peers: usize,
    pub(super) refused: Refused,
    /// Peers that are up and of which there is no route.
    pub(super) peers_without_routes: Vec<Silent>,
    /// Peers of which a station that comes late lacks routes, because there are more than can be kept.
    pub(super) incomplete_peers: Vec<Incomplete>,
    pub(super) last_closed: Option<Untrusted>,
}

/// Connections that were closed at once, by cause.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Refused {
    /// From a host that may not connect.
    pub(super) not_allowed: u64,
    /// There were too many already.
    #[serde(rename = "too-many-connections")]
    pub(super) too_many: u64,
}

/// A peer of which not all is kept.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Incomplete {
    pub(super) peer: IpAddr,
    #[serde(rename = "as")]
    pub(super) asn: u32,
    /// By family and view, how many fields of UPDATEs were dropped. Empty if it has more families of unknown form than there is room for.
    pub(super) not_kept: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Held {
    pub(super) client: String,
    pub(super) sys_name: Option<Untrusted>,
    pub(super) left_seconds: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Connection {
    pub(super) client: String,
    pub(super) sys_name: Option<Untrusted>,
    pub(super) sys_descr: Option<Untrusted>,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) unannounced: u64,
    /// Messages that were passed on although they are not what they should be, by kind.
    pub(super) not_understood: BTreeMap<&'static str, u64>,
    /// Messages that were left out because nobody could read them, by kind.
    pub(super) odd: BTreeMap<&'static str, u64>,
    /// Messages that were dropped because they are about peers of another connection.
    pub(super) refused_messages: u64,
    /// Those peers.
    pub(super) refused_peers: Vec<RefusedPeer>,
}

impl Relay {
    fn of(context: &Context, status: RelayStatus, configured: &config::Relay, peers: &[PeerRibs]) -> Self {
        let own = || peers.iter().filter(|peer| peer.input() == status.name);
        let held_peers = own().filter(|peer| peer.is_away()).count();
        let silent = own().filter(|peer| peer.is_announced() && !peer.is_away());
        let silent = silent.filter(|peer| peer.ribs().iter().all(|rib| rib.routes == 0));
        let silent = silent.map(|peer| {
            let daemon = status.connections.iter().find(|connection| connection.id == peer.connection());
            let descr = daemon.and_then(|daemon| daemon.sys_descr.as_deref());
            Silent::of(peer, descr, daemon.and_then(|daemon| daemon.sys_name.as_deref()))
        });
        let peers_without_routes = silent.collect();
        let not_kept = |peer: &PeerRibs| {
            let ribs = peer.ribs().iter().filter(|rib| rib.not_kept > 0);
            ribs.map(|rib| (format!("{} {}", rib.family, name_of(rib.view)), rib.not_kept)).collect()
        };
        let incomplete_peers = own().filter(|peer| peer.is_incomplete()).map(|peer| Incomplete {
            peer: peer.header().address(),
            asn: peer.header().asn,
            not_kept: not_kept(peer),
        });
        let incomplete_peers = incomplete_peers.collect();
        let (state, why) = match status.state {
            RelayState::Starting => ("starting", None),
            RelayState::Listening => ("listening", None),
            RelayState::Failed(why) => ("failed", Some(why)),
        };
        let clients: BTreeMap<_, _> =
            status.connections.iter().map(|connection| (connection.id, connection.client.to_string())).collect();
        let connection = |ConnectionStatus { client, sys_name, sys_descr, id, totals }| Connection {
            client: client.to_string(),
            sys_name: sys_name.map(Untrusted::new),
            sys_descr: sys_descr.map(Untrusted::new),
            messages: totals.frames,
            bytes: totals.bytes,
            unannounced: totals.unannounced,
            not_understood: totals.trouble.errors_by_kind().map(|(kind, count)| (kind.as_str(), count)).collect(),
            odd: totals.odd.iter().map(|(oddity, count)| (oddity.as_str(), count)).collect(),
            refused_messages: totals.refused,
            refused_peers: context.feed.refusals(id).iter().map(|peer| RefusedPeer::of(peer, &clients)).collect(),
        };
        let held = |held: HeldStatus| Held {
            client: held.client.to_string(),
            sys_name: held.sys_name.map(Untrusted::new),
            left_seconds: held.left.as_secs(),
        };
        let (max_connections, max_connections_per_source) = connection_limits(configured);
        Self {
            name: status.name,
            listen: Some(status.listen.to_string()),
            state,
            why,
            connections: status.connections.into_iter().map(connection).collect(),
            allow: configured.allow.iter().map(ToString::to_string).collect(),
            hold_seconds: configured.hold.as_secs(),
            end_of_rib_after_seconds: configured.end_of_rib_after.as_secs(),
            max_connections,
            max_connections_per_source,
            held: status.held.into_iter().map(held).collect(),
            held_peers,
            refused: Refused { not_allowed: status.refused_hosts, too_many: status.refused_too_many },
            peers_without_routes,
            incomplete_peers,
            last_closed: status.last_closed.map(Untrusted::new),
        }
    }

    /// A relay that is not told where to listen.
    fn idle(name: &str, configured: &config::Relay) -> Self {
        let (max_connections, max_connections_per_source) = connection_limits(configured);
        Self {
            name: name.to_owned(),
            listen: None,
            state: "not-configured",
            why: Some("it takes nothing until it has `listen ADDRESS port N`".to_owned()),
            connections: Vec::new(),
            allow: configured.allow.iter().map(ToString::to_string).collect(),
            hold_seconds: configured.hold.as_secs(),
            end_of_rib_after_seconds: configured.end_of_rib_after.as_secs(),
            max_connections,
            max_connections_per_source,
            held: Vec::new(),
            held_peers: 0,
            refused: Refused { not_allowed: 0, too_many: 0 },
            peers_without_routes: Vec::new(),
            incomplete_peers: Vec::new(),
            last_closed: None,
        }
    }

    fn text(&self) -> String {
        let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let listen = self.listen.as_ref().map(|listen| format!("{listen}, ")).unwrap_or_default();
        let mut text = format!(" Relay {}, {listen}{}{why}\n", self.name, self.state);
        text.extend(self.connections.iter().map(Connection::text));
        for Held { client, sys_name, left_seconds } in &self.held {
            let name = sys_name.as_ref().map_or_else(|| "no name".to_owned(), ToString::to_string);
            let _ = writeln!(text, "  {client} ({name}): away, its peers are held for {left_seconds} s still");
        }
        if self.held_peers > 0 {
            let _ = writeln!(text, "  Peers held: {}", self.held_peers);
        }
        if self.refused.not_allowed + self.refused.too_many > 0 {
            let Refused { not_allowed, too_many } = self.refused;
            let (most, of_source) = (self.max_connections, self.max_connections_per_source);
            let _ = writeln!(
                text,
                "  Refused: {not_allowed} of other hosts, {too_many} too-many-connections (at most {most}, {of_source} of one source)"
            );
        }
        text.extend(self.peers_without_routes.iter().take(SILENT_SHOWN).map(Silent::text));
        if let Some(more) = self.peers_without_routes.len().checked_sub(SILENT_SHOWN).filter(|more| *more > 0) {
            let _ = writeln!(text, "  And {more} more peers of which there is no route");
        }
        for Incomplete { peer, asn, not_kept } in self.incomplete_peers.iter().take(SILENT_SHOWN) {
            let ribs: Vec<_> = not_kept.iter().map(|(rib, fields)| format!("{fields} of {rib}")).collect();
            let what = if ribs.is_empty() { "families without room".to_owned() } else { ribs.join(", ") };
            let _ = writeln!(text, "  Peer {peer} (AS {asn}): not kept: {what}; stations that come late lack them");
        }
        let mut terms = Vec::new();
        if !self.allow.is_empty() {
            terms.push(format!("allow {}", self.allow.join(", ")));
        }
        if self.hold_seconds > 0 {
            terms.push(format!("hold {} s", self.hold_seconds));
        }
        if self.end_of_rib_after_seconds > 0 {
            terms.push(format!("End-of-RIB after {} s", self.end_of_rib_after_seconds));
        }
        let (most, of_source) = (self.max_connections, self.max_connections_per_source);
        if (most, of_source) != connection_limits(&config::Relay::default()) {
            terms.push(format!("at most {most} connections, {of_source} of one source"));
        }
        if !terms.is_empty() {
            let _ = writeln!(text, "  Configured: {}", terms.join("; "));
        }
        if let Some(last) = &self.last_closed {
            let _ = writeln!(text, "  Last closed: {last}");
        }
        text
    }
}

impl Connection {
    fn text(&self) -> String {
        /// More refused peers than these are in the JSON alone.
        const SHOWN: usize = 10;
        let Self { client, sys_name, messages, bytes, unannounced, .. } = self;
        let name = sys_name.as_ref().map_or_else(|| "no name".to_owned(), ToString::to_string);
        let unknown = match unannounced {
            0 => String::new(),
            _ => format!(", {unannounced} of them with routes of peers that it has not announced"),
        };
        // Writing to a string cannot fail.
        let mut text = format!("  {client} ({name}): {messages} messages, {bytes} bytes{unknown}\n");
        if !self.not_understood.is_empty() {
            let kinds: Vec<_> = self.not_understood.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            let _ = writeln!(text, "    Not understood: {}", kinds.join(", "));
        }
        if !self.odd.is_empty() {
            let odd: Vec<_> = self.odd.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            let _ = writeln!(text, "    Left out: {}", odd.join(", "));
        }
        for peer in self.refused_peers.iter().take(SHOWN) {
            let _ = writeln!(text, "    Refused: {}", peer.text());
        }
        if let Some(more) = self.refused_peers.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            let _ = writeln!(text, "    Refused: {more} more peers");
        }
        text
    }
}

pub(super) fn relays(context: &Context, config: &Config) -> Vec<Relay> {
    let peers = context.feed.peers();
    let of = |status: RelayStatus| {
        // It may have been removed between the two looks.
        let configured = config.relays.get(&status.name).cloned().unwrap_or_default();
        Relay::of(context, status, &configured, &peers)
    };
    let mut relays: Vec<_> = context.relays.snapshot().into_iter().map(of).collect();
    let idle = config.relays.iter().filter(|(_, relay)| relay.listen.is_none());
    relays.extend(idle.map(|(name, relay)| Relay::idle(name, relay)));
    relays.sort_by(|one, other| one.name.cmp(&other.name));
    relays
}

pub(super) fn relays_text(relays: &[Relay]) -> String {
    format!("Total number of relays : {}\n{}", relays.len(), relays.iter().map(Relay::text).collect::<String>())
}
