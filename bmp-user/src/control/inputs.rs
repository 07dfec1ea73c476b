//! `display bmp feed`, `display bmp relay`, `display mrt-replay`: what comes in, and what is kept of it.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use serde::Serialize;

use super::{Context, monitored::name_of, refused::RefusedPeer, silent::Silent};
use crate::{
    config::{self, Config, Pace},
    escape::Untrusted,
    feed::{self, PeerRibs},
    input::{
        mrt::{Misread, ReplayState, ReplayStatus},
        relay::{ConnectionStatus, HeldStatus, RelayState, RelayStatus, connection_limits},
    },
};

/// How many peers without a route are named.
const SILENT_SHOWN: usize = 3;

/// The feed. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Feed {
    peers: usize,
    ribs: usize,
    routes: usize,
    /// The routes of all peers, by RIB and family.
    by_rib: Vec<ByRib>,
    attribute_sets: usize,
    withdrawals: usize,
    journal: Journal,
    memory: Memory,
    frames: u64,
    unannounced: u64,
    malformed: u64,
    mixed_path_ids: u64,
    malformed_attributes: u64,
    as_size: u64,
    incomplete: u64,
    unknown_family: u64,
    overflowed: u64,
}

#[derive(Clone, Debug, Serialize)]
struct ByRib {
    family: String,
    view: &'static str,
    /// How many peers have such a RIB.
    ribs: usize,
    routes: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Journal {
    tail: u64,
    head: u64,
    bytes: usize,
    limit: usize,
}

/// In bytes.
#[derive(Clone, Debug, Serialize)]
struct Memory {
    routes: usize,
    groups: usize,
    attribute_sets: usize,
    withdrawals: usize,
    journal: usize,
}

impl Feed {
    pub(super) fn of(feed: &feed::Feed) -> Self {
        let stats = &feed.stats();
        let mut by_rib = BTreeMap::new();
        for peer in feed.peers() {
            for rib in peer.ribs() {
                let (ribs, routes) = by_rib.entry((rib.family, rib.view)).or_insert((0, 0));
                *ribs += 1;
                *routes += rib.routes;
            }
        }
        let by_rib = by_rib.into_iter().map(|((family, view), (ribs, routes))| ByRib {
            family: family.to_string(),
            view: name_of(view),
            ribs,
            routes,
        });
        Self {
            by_rib: by_rib.collect(),
            peers: stats.peers,
            ribs: stats.ribs,
            routes: stats.routes,
            attribute_sets: stats.attribute_sets,
            withdrawals: stats.withdrawals,
            journal: Journal {
                tail: stats.tail,
                head: stats.head,
                bytes: stats.journal_bytes,
                limit: stats.journal_limit,
            },
            memory: Memory {
                routes: stats.route_bytes,
                groups: stats.group_bytes,
                attribute_sets: stats.attribute_bytes,
                withdrawals: stats.withdrawal_bytes,
                journal: stats.journal_bytes,
            },
            frames: stats.frames.total(),
            unannounced: stats.trouble.unannounced,
            malformed: stats.trouble.malformed,
            mixed_path_ids: stats.trouble.mixed_path_ids,
            malformed_attributes: stats.trouble.malformed_attributes,
            as_size: stats.trouble.as_size,
            incomplete: stats.trouble.incomplete,
            unknown_family: stats.trouble.unknown_family,
            overflowed: stats.trouble.overflowed,
        }
    }

    pub(super) fn text(&self) -> String {
        let Self { journal, memory, .. } = self;
        let bytes = |bytes: usize| format!("{} KiB", bytes.div_ceil(1024));
        let head = rows(
            " What there is to tell stations\n",
            &[
                ("Peers up", self.peers.to_string()),
                ("RIBs", self.ribs.to_string()),
                ("Routes", self.routes.to_string()),
            ],
        );
        let by_rib: String = self
            .by_rib
            .iter()
            .map(|ByRib { family, view, ribs, routes }| format!("    {family} {view}: {routes}, of {ribs} peers\n"))
            .collect();
        let rest = rows(
            "",
            &[
                ("Attribute sets", self.attribute_sets.to_string()),
                ("Withdrawals kept", self.withdrawals.to_string()),
                (
                    "Journal",
                    format!(
                        "messages {} to {}, {} of {}",
                        journal.tail,
                        journal.head,
                        bytes(journal.bytes),
                        bytes(journal.limit)
                    ),
                ),
                ("Memory of routes", bytes(memory.routes)),
                ("  of groups", bytes(memory.groups)),
                ("  of attributes", bytes(memory.attribute_sets)),
                ("  of withdrawals", format!("{} (of that of routes)", bytes(memory.withdrawals))),
                ("Messages", self.frames.to_string()),
                ("  of unknown peers", self.unannounced.to_string()),
                ("  malformed", self.malformed.to_string()),
                ("  mixed path IDs", self.mixed_path_ids.to_string()),
                ("  bad attributes", self.malformed_attributes.to_string()),
                ("  other AS size", self.as_size.to_string()),
                ("  lack attributes", self.incomplete.to_string()),
                ("  unknown family", self.unknown_family.to_string()),
                ("  not kept", self.overflowed.to_string()),
            ],
        );
        format!("{head}{by_rib}{rest}")
    }
}

/// One relay. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Relay {
    name: String,
    listen: Option<String>,
    /// `not-configured`, `starting`, `listening` or `failed`.
    state: &'static str,
    why: Option<String>,
    connections: Vec<Connection>,
    /// Who may connect besides this host.
    allow: Vec<String>,
    hold_seconds: u64,
    end_of_rib_after_seconds: u64,
    /// How many connections it has at most, and of those from one source: as configured, and as bmpd's descriptors allow.
    max_connections: usize,
    max_connections_per_source: usize,
    /// The daemons that went away and whose peers are held.
    held: Vec<Held>,
    /// Peers of this relay whose daemon is not back.
    held_peers: usize,
    refused: Refused,
    /// Peers that are up and of which there is no route.
    peers_without_routes: Vec<Silent>,
    /// Peers of which a station that comes late lacks routes, because there are more than can be kept.
    incomplete_peers: Vec<Incomplete>,
    last_closed: Option<Untrusted>,
}

/// Connections that were closed at once, by cause.
#[derive(Clone, Debug, Serialize)]
struct Refused {
    /// From a host that may not connect.
    not_allowed: u64,
    /// There were too many already.
    #[serde(rename = "too-many-connections")]
    too_many: u64,
}

/// A peer of which not all is kept.
#[derive(Clone, Debug, Serialize)]
struct Incomplete {
    peer: IpAddr,
    #[serde(rename = "as")]
    asn: u32,
    /// By family and view, how many fields of UPDATEs were dropped. Empty if it has more families of unknown form than there is room for.
    not_kept: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Serialize)]
struct Held {
    client: String,
    sys_name: Option<Untrusted>,
    left_seconds: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Connection {
    client: String,
    sys_name: Option<Untrusted>,
    sys_descr: Option<Untrusted>,
    messages: u64,
    bytes: u64,
    unannounced: u64,
    /// Messages that were passed on although they are not what they should be, by kind.
    not_understood: BTreeMap<&'static str, u64>,
    /// Messages that were left out because nobody could read them, by kind.
    odd: BTreeMap<&'static str, u64>,
    /// Messages that were dropped because they are about peers of another connection.
    refused_messages: u64,
    /// Those peers.
    refused_peers: Vec<RefusedPeer>,
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

/// One replay. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Replay {
    name: String,
    file: Option<Untrusted>,
    pace: String,
    #[serde(rename = "loop")]
    looped: bool,
    /// `not-configured`, `surveying`, `reading`, `done` or `failed`.
    state: &'static str,
    why: Option<String>,
    rounds: u64,
    bytes_read: u64,
    file_bytes: u64,
    records: u64,
    file_records: u64,
    updates: u64,
    /// What was passed over in this round, by kind.
    passed_over: Vec<PassedOver>,
    /// UPDATEs that were told as they came, and in which something is wrong: how many such errors there are.
    not_understood: u64,
    /// The same by kind.
    not_understood_by_kind: Vec<NotUnderstood>,
    /// Records among those passed over that are broken, and UPDATEs that were not understood.
    errors: u64,
    last_error: Option<Untrusted>,
}

#[derive(Clone, Debug, Serialize)]
struct PassedOver {
    what: String,
    records: u64,
    /// The number of the first of them, from 1 on.
    first_record: u64,
    /// Where the first of them starts, in bytes of the unpacked file.
    first_at: u64,
    is_error: bool,
}

#[derive(Clone, Debug, Serialize)]
struct NotUnderstood {
    kind: &'static str,
    updates: u64,
    /// The number of the record of the first of them, from 1 on.
    first_record: Option<u64>,
    /// Where that starts, in bytes of the unpacked file.
    first_at: Option<u64>,
}

impl Replay {
    fn of(status: ReplayStatus) -> Self {
        let (state, why) = match status.state {
            ReplayState::Surveying => ("surveying", None),
            ReplayState::Reading => ("reading", None),
            ReplayState::Done => ("done", None),
            ReplayState::Failed(why) => ("failed", Some(why)),
        };
        Self {
            name: status.name,
            file: Some(Untrusted::new(status.file.display().to_string())),
            pace: pace_in_words(status.pace),
            looped: status.looped,
            state,
            why,
            rounds: status.rounds,
            bytes_read: status.bytes_read,
            file_bytes: status.file_bytes,
            records: status.records,
            file_records: status.file_records,
            updates: status.updates,
            passed_over: status
                .passed_over
                .into_iter()
                .map(|(kind, count)| PassedOver {
                    what: kind.to_string(),
                    records: count.records,
                    first_record: count.first.record,
                    first_at: count.first.offset,
                    is_error: kind.is_error(),
                })
                .collect(),
            not_understood: status.not_understood.iter().map(|misread| misread.updates).sum(),
            not_understood_by_kind: status
                .not_understood
                .into_iter()
                .map(|Misread { kind, updates, first }| NotUnderstood {
                    kind: kind.as_str(),
                    updates,
                    first_record: first.map(|first| first.record),
                    first_at: first.map(|first| first.offset),
                })
                .collect(),
            errors: status.errors,
            last_error: status.last_error.map(Untrusted::new),
        }
    }

    /// A replay that is not told what to replay.
    fn idle(name: &str, configured: &config::Replay) -> Self {
        Self {
            name: name.to_owned(),
            file: None,
            pace: pace_in_words(configured.pace),
            looped: configured.looped,
            state: "not-configured",
            why: Some("it replays nothing until it has `file PATH`".to_owned()),
            rounds: 0,
            bytes_read: 0,
            file_bytes: 0,
            records: 0,
            file_records: 0,
            updates: 0,
            passed_over: Vec::new(),
            not_understood: 0,
            not_understood_by_kind: Vec::new(),
            errors: 0,
            last_error: None,
        }
    }

    fn text(&self) -> String {
        let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let percent = match self.state {
            "done" => 100,
            _ => (self.records * 100).checked_div(self.file_records).unwrap_or(0),
        };
        let last = self.last_error.as_ref().map(|error| format!(", the last: {error}")).unwrap_or_default();
        let records: u64 = self.passed_over.iter().map(|passed_over| passed_over.records).sum();
        let by_kind: String = self
            .passed_over
            .iter()
            .map(|PassedOver { what, records, first_record, first_at, .. }| {
                format!("    {records} {what}, the first is record {first_record} at byte {first_at}\n")
            })
            .collect();
        let misread: String = self
            .not_understood_by_kind
            .iter()
            .map(|NotUnderstood { kind, updates, first_record, first_at }| {
                let first = first_record.zip(*first_at);
                let first = first.map(|(record, at)| format!(", the first in record {record} at byte {at}"));
                format!("    {updates} {kind}{}\n", first.unwrap_or_default())
            })
            .collect();
        let head = rows(
            &format!(" Replay {}, {}{why}\n", self.name, self.state),
            &[
                ("File", self.file.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
                ("Pace", format!("{}{}", self.pace, if self.looped { ", again and again" } else { "" })),
                ("Round", self.rounds.to_string()),
                ("Progress", format!("{percent} %, {} of {} records", self.records, self.file_records)),
                ("Read", format!("{} of {} bytes", self.bytes_read, self.file_bytes)),
                ("Updates", self.updates.to_string()),
                ("Passed over", format!("{records} records")),
            ],
        );
        let not_understood = rows("", &[("Not understood", format!("{} UPDATEs", self.not_understood))]);
        let errors = rows("", &[("Errors", format!("{}{last}", self.errors))]);
        format!("{head}{by_kind}{not_understood}{misread}{errors}")
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

pub(super) fn replays(context: &Context, config: &Config) -> Vec<Replay> {
    let mut replays: Vec<_> = context.replays.snapshot().into_iter().map(Replay::of).collect();
    let idle = config.replays.iter().filter(|(_, replay)| replay.file.is_none());
    replays.extend(idle.map(|(name, replay)| Replay::idle(name, replay)));
    replays.sort_by(|one, other| one.name.cmp(&other.name));
    replays
}

fn pace_in_words(pace: Pace) -> String {
    match pace {
        Pace::Recorded => "recorded".to_owned(),
        Pace::Maximum => "maximum".to_owned(),
        Pace::UpdatesPerSecond(rate) => format!("{rate} updates-per-second"),
    }
}

pub(super) fn relays_text(relays: &[Relay]) -> String {
    format!("Total number of relays : {}\n{}", relays.len(), relays.iter().map(Relay::text).collect::<String>())
}

pub(super) fn replays_text(replays: &[Replay]) -> String {
    format!("Total number of replays : {}\n{}", replays.len(), replays.iter().map(Replay::text).collect::<String>())
}

fn rows(title: &str, rows: &[(&str, String)]) -> String {
    let mut text = title.to_owned();
    for (name, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<20}: {value}");
    }
    text
}
