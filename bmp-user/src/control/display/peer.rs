//! `display bgp peer`: the BGP peers that bmpd takes routes from. Field names are those of the JSON and are stable.

use std::{
    cell::Cell,
    fmt::Write as _,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use bmp_ebpf::Counters;
use serde::{Serialize, Serializer};

use super::{
    super::Context,
    enforcement::Enforcing,
    layout::{age, table},
    names::egress_names,
    session::{Egress, Kernel, kernel},
};
use crate::{
    config::{BgpPeer, Config, ConnectInterface},
    escape::{Untrusted, escaped_lines},
    input::bgp::{BgpDownReason, BgpState, MessageCounts, PeerStatus},
    pin::{Pinned, Role, SessionPin, State as PinState},
    wire::bgp::MessageType,
};

/// All of them, and where they connect to. The peers are looked at one after another, each when it is written.
#[derive(Serialize)]
pub(super) struct Speaker<P: Iterator<Item = Peer>> {
    pub(super) local_as: Option<u32>,
    pub(super) router_id: Option<Ipv4Addr>,
    pub(super) listener: Listener,
    #[serde(serialize_with = "as_sequence")]
    pub(super) peers: Cell<Option<P>>,
}

/// Of an iterator that is serialized once.
fn as_sequence<S: Serializer>(
    peers: &Cell<Option<impl Iterator<Item = Peer>>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(peers.take().into_iter().flatten())
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Listener {
    pub(super) port: Option<u16>,
    /// Why it does not listen, or not for all.
    pub(super) trouble: Option<String>,
    /// Connections from nobody's peer that were closed; where the kernel programs are, such are not even answered.
    pub(super) refused: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Peer {
    pub(super) peer: IpAddr,
    #[serde(rename = "as")]
    pub(super) asn: Option<u32>,
    /// `Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm` or `Established` (RFC 4271 §8.2.2).
    pub(super) state: String,
    /// How long it has been established, or has not been.
    pub(super) age_seconds: u64,
    /// Why it is not established: a word, and the same in words.
    pub(super) reason: Option<&'static str>,
    pub(super) last_error: Option<Untrusted>,
    pub(super) established_count: u64,
    pub(super) retry_in_seconds: Option<f64>,
    pub(super) local_address: Option<IpAddr>,
    pub(super) local_port: Option<u16>,
    pub(super) remote_port: Option<u16>,
    pub(super) bgp_id: Option<Ipv4Addr>,
    pub(super) hold_seconds: Option<u64>,
    pub(super) keepalive_seconds: Option<u64>,
    pub(super) capabilities: Vec<String>,
    /// Negotiated.
    pub(super) families: Vec<String>,
    pub(super) routes: Vec<Routes>,
    pub(super) received: Messages,
    pub(super) sent: Messages,
    /// How long the routes of a peer that is restarting stay (RFC 4724).
    pub(super) restart_left_seconds: Option<u64>,
    pub(super) stale: usize,
    /// UPDATEs whose routes were treated as withdrawn, and how many routes these announced.
    pub(super) treated_as_withdraw: u32,
    pub(super) prefixes_treated_as_withdraw: u32,
    /// UPDATEs of which attributes were discarded.
    pub(super) attributes_discarded: u64,
    /// What was wrong with the last UPDATE of either kind.
    pub(super) last_malformed: Option<String>,
    pub(super) not_negotiated: u64,
    pub(super) configured: Configured,
    pub(super) connect_interface: Asked,
    pub(super) egress: Egress,
    pub(super) kernel: Kernel,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Routes {
    pub(super) family: String,
    pub(super) routes: usize,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Messages {
    pub(super) open: u64,
    pub(super) update: u64,
    pub(super) notification: u64,
    pub(super) keepalive: u64,
    pub(super) route_refresh: u64,
    pub(super) total: u64,
}

/// What of a peer is so before it is up.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Configured {
    pub(super) port: u16,
    pub(super) listen_only: bool,
    /// Whether there is a secret of TCP MD5.
    pub(super) password: bool,
    pub(super) hold_seconds: u16,
    pub(super) keepalive_seconds: u16,
    pub(super) families: Vec<String>,
}

impl Configured {
    fn of(peer: &BgpPeer) -> Self {
        let timer = peer.timer.unwrap_or(BgpPeer::TIMER);
        Self {
            port: peer.port.unwrap_or(BgpPeer::PORT),
            listen_only: peer.listen_only,
            password: peer.password.is_some(),
            hold_seconds: timer.hold,
            keepalive_seconds: timer.keepalive,
            families: peer.families.iter().map(ToString::to_string).collect(),
        }
    }

    fn in_words(&self) -> String {
        let mut words = vec![
            if self.listen_only { "the peer connects".to_owned() } else { format!("port {}", self.port) },
            format!("hold time {} s, keepalive every {} s", self.hold_seconds, self.keepalive_seconds),
        ];
        words.extend(self.password.then(|| "TCP MD5".to_owned()));
        words.push(match self.families.join(", ") {
            none if none.is_empty() => "no address family".to_owned(),
            families => families,
        });
        words.join("; ")
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Asked {
    pub(super) interface: Option<String>,
    pub(super) address: Option<IpAddr>,
}

/// Writes the peers that are configured, or one of them.
pub(super) fn write(
    context: &Context,
    config: &Config,
    only: Option<IpAddr>,
    verbose: bool,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let bgp = config.bgp.as_ref();
    let listener = context.bgp_peers.listener();
    let addresses = context.bgp_peers.addresses();
    let wanted = || addresses.iter().copied().filter(|address| only.is_none_or(|only| only == *address));
    let peers = wanted().filter_map(|address| {
        let status = context.bgp_peers.peer(address, &context.feed)?;
        Some(peer(context, status, bgp.and_then(|bgp| bgp.peers.get(&address))))
    });
    let speaker = Speaker {
        local_as: bgp.map(|bgp| bgp.asn),
        router_id: bgp.and_then(|bgp| bgp.router_id),
        listener: Listener { port: listener.port, trouble: listener.trouble, refused: listener.refused },
        peers: Cell::new(Some(peers)),
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &speaker)?;
        return out.write_all(b"\n");
    }
    let is_up = |address: &IpAddr| {
        context.bgp_peers.progress(*address).is_some_and(|progress| progress.state == BgpState::Established)
    };
    write_text(out, speaker, (wanted().count(), wanted().filter(is_up).count()), verbose)
}

/// As an operator reads it, with how many peers there are and are up.
pub(super) fn write_text(
    out: &mut dyn Write,
    speaker: Speaker<impl Iterator<Item = Peer>>,
    numbers: (usize, usize),
    verbose: bool,
) -> io::Result<()> {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = speaker.write_head(&mut text, numbers);
    let peers = speaker.peers.take().into_iter().flatten();
    if !verbose {
        let _ = write_table(&mut text, peers);
        return write!(out, "{}", escaped_lines(&text));
    }
    write!(out, "{}", escaped_lines(&text))?;
    for peer in peers {
        text.clear();
        let _ = peer.write(&mut text);
        write!(out, "{}", escaped_lines(&text))?;
    }
    Ok(())
}

fn peer(context: &Context, status: PeerStatus, configured: Option<&BgpPeer>) -> Peer {
    let session = status.session.as_ref();
    let seconds = |time: Duration| time.as_secs();
    let connect = configured.and_then(|peer| peer.connect_interface.as_ref());
    let (egress, kernel) = enforced(context, status.address);
    Peer {
        peer: status.address,
        asn: status.asn,
        state: status.state.to_string(),
        age_seconds: seconds(status.age),
        established_count: status.established_count,
        retry_in_seconds: status.retry_in.map(|left| (left.as_secs_f64() * 10.0).round() / 10.0),
        local_address: session.map(|session| session.local.ip()),
        local_port: session.map(|session| session.local.port()),
        remote_port: session.map(|session| session.remote.port()),
        bgp_id: session.map(|session| session.bgp_id),
        hold_seconds: session.map(|session| seconds(session.hold)),
        keepalive_seconds: session.map(|session| seconds(session.keepalive)),
        capabilities: session.map(|session| session.capabilities.clone()).unwrap_or_default(),
        families: session.into_iter().flat_map(|session| &session.families).map(ToString::to_string).collect(),
        routes: status
            .routes
            .iter()
            .map(|(family, routes)| Routes { family: family.to_string(), routes: *routes })
            .collect(),
        received: messages(&status.received),
        sent: messages(&status.sent),
        restart_left_seconds: status.restart_left.map(seconds),
        stale: status.stale,
        treated_as_withdraw: status.treated_as_withdraw,
        prefixes_treated_as_withdraw: status.prefixes_treated_as_withdraw,
        attributes_discarded: status.attributes_discarded,
        last_malformed: status.last_fault,
        not_negotiated: status.not_negotiated,
        configured: Configured::of(configured.unwrap_or(&BgpPeer::default())),
        connect_interface: Asked {
            interface: connect.and_then(ConnectInterface::interface).map(str::to_owned),
            address: connect.and_then(ConnectInterface::address),
        },
        egress,
        kernel,
        reason: status.reason.filter(|_| status.state != BgpState::Established).map(BgpDownReason::as_str),
        last_error: status.last_error.map(Untrusted::new),
    }
}

/// What the kernel enforces for the peer's connections, and counted for them, whoever opened them.
fn enforced(context: &Context, address: IpAddr) -> (Egress, Kernel) {
    let pins = [Role::Connect, Role::Listen].map(|role| context.pins.of(&Pinned::BgpPeer(address, role)));
    let state = |pin: &Arc<SessionPin>| pin.subscribe().borrow().clone();
    let grant = pins.iter().find_map(|pin| match state(pin) {
        PinState::Ready(grant) => Some(grant),
        PinState::Pending | PinState::Down(_) => None,
    });
    let pinned = pins.iter().any(|pin| !matches!(state(pin), PinState::Pending));
    let Enforcing { word: enforcement, why, lost, losses } = Enforcing::of(context, pinned);
    let any = grant.as_ref().is_some_and(|grant| grant.resolved.egress.is_empty());
    let interfaces = grant.map(|grant| egress_names(&grant.resolved, &context.host.borrow())).unwrap_or_default();
    let mut counters = Counters::default();
    for pin in &pins {
        crate::pin::add(&mut counters, &context.pins.counters(pin));
    }
    let egress = Egress { any, interfaces, enforcement, why, lost, losses, vrf: None };
    (egress, kernel(&counters, counters.retransmits))
}

fn messages(counts: &MessageCounts) -> Messages {
    Messages {
        open: counts.of(MessageType::Open),
        update: counts.of(MessageType::Update),
        notification: counts.of(MessageType::Notification),
        keepalive: counts.of(MessageType::Keepalive),
        route_refresh: counts.of(MessageType::RouteRefresh),
        total: counts.total(),
    }
}

fn shown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

impl<P: Iterator<Item = Peer>> Speaker<P> {
    /// What is in front of the peers.
    fn write_head(&self, text: &mut String, (peers, up): (usize, usize)) -> std::fmt::Result {
        writeln!(text, " BGP local router ID : {}", shown(self.router_id.map(|id| id.to_string())))?;
        writeln!(text, " Local AS number : {}", shown(self.local_as.map(|asn| asn.to_string())))?;
        if let Listener { port: Some(port), trouble, .. } = &self.listener {
            let trouble = trouble.as_ref().map(|trouble| format!(", {trouble}")).unwrap_or_default();
            writeln!(text, " Listening on port : {port}{trouble}")?;
        }
        writeln!(text, " Total number of peers : {peers}")?;
        writeln!(text, " Peers in established state : {up}")
    }
}

/// A row for each peer.
fn write_table(text: &mut String, peers: impl Iterator<Item = Peer>) -> std::fmt::Result {
    text.push('\n');
    let heading = ["Peer", "AS", "MsgRcvd", "MsgSent", "Up/Down", "State", "PrefRcv", "Reason"].map(str::to_owned);
    let rows = peers.map(|peer| {
        [
            peer.peer.to_string(),
            shown(peer.asn.map(|asn| asn.to_string())),
            peer.received.total.to_string(),
            peer.sent.total.to_string(),
            age(peer.age_seconds),
            peer.state.clone(),
            peer.routes.iter().map(|family| family.routes).sum::<usize>().to_string(),
            peer.reason_in_table().to_owned(),
        ]
    });
    table(text, std::iter::once(heading).chain(rows))
}

impl Peer {
    /// A peer that is established has no reason, nor has one that nothing has happened to yet.
    fn reason_in_table(&self) -> &'static str {
        let waits = self.state != BgpState::Established.to_string() && self.configured.listen_only;
        self.reason.unwrap_or(if waits { "waiting-for-peer" } else { "-" })
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let asn = self.asn.map_or("no AS number".to_owned(), |asn| format!("AS {asn}"));
        writeln!(text, "\n BGP peer {}, {asn}", self.peer)?;
        let mut line = |name: &str, value: String| writeln!(text, "  {name:<20}: {value}");
        line("State", format!("{}, for {}", self.state, age(self.age_seconds)))?;
        if let Some(error) = &self.last_error {
            match self.reason {
                // A reason of the pin begins with the word.
                Some(reason) if error.to_string().starts_with(reason) => line("Reason", error.to_string())?,
                Some(reason) => line("Reason", format!("{reason}: {error}"))?,
                None => line("Last error", error.to_string())?,
            }
        }
        if let Some(seconds) = self.retry_in_seconds {
            line("Next attempt in", format!("{seconds:.1} s"))?;
        }
        if let Some(seconds) = self.restart_left_seconds {
            line("Restarting", format!("its routes stay for {seconds} s"))?;
        }
        line("Configured", self.configured.in_words())?;
        line("Established", format!("{} time(s)", self.established_count))?;
        if let (Some(address), Some(local), Some(remote)) = (self.local_address, self.local_port, self.remote_port) {
            line("Local address", format!("{address} port {local}, to port {remote}"))?;
        }
        if let (Some(id), Some(hold), Some(keepalive)) = (self.bgp_id, self.hold_seconds, self.keepalive_seconds) {
            line("Remote router ID", id.to_string())?;
            line("Hold time", format!("{hold} s, keepalive every {keepalive} s"))?;
            line("Capabilities", self.capabilities.join(", "))?;
            line("Address families", self.families.join(", "))?;
        }
        for Routes { family, routes } in &self.routes {
            line(&format!("Routes {family}"), routes.to_string())?;
        }
        if self.stale > 0 {
            line("Stale routes", self.stale.to_string())?;
        }
        for (name, counts) in [("Received", &self.received), ("Sent", &self.sent)] {
            line(
                name,
                format!(
                    "{} open, {} update, {} notification, {} keepalive, {} route-refresh",
                    counts.open, counts.update, counts.notification, counts.keepalive, counts.route_refresh
                ),
            )?;
        }
        let (updates, prefixes) = (self.treated_as_withdraw, self.prefixes_treated_as_withdraw);
        line("Treat-as-withdraw", format!("{updates} UPDATEs with {prefixes} routes"))?;
        line("Attribute discard", format!("{} UPDATEs", self.attributes_discarded))?;
        if let Some(malformed) = &self.last_malformed {
            line("Last malformed", malformed.clone())?;
        }
        line("Not negotiated", format!("{} UPDATEs", self.not_negotiated))?;
        let asked = &self.connect_interface;
        let words: Vec<_> = asked.interface.clone().into_iter().chain(asked.address.map(|ip| ip.to_string())).collect();
        let words = if words.is_empty() { "the kernel's choice".to_owned() } else { words.join(" ") };
        line("Connect-interface", words)?;
        self.egress.write(&mut line)?;
        self.kernel.write(&mut line)
    }
}
