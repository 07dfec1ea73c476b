//! The consequences of a change for BGP peers.

use std::net::IpAddr;

use super::{
    Baseline, Consequences, Finding, PeerBaseline, PinVerdict, Remark, RemarkSubject, beyond, listed, reason_in_words,
};
use crate::{
    config::{BgpConfig, BgpPeerConfig, Config},
    control::ControlContext,
    input::bgp::{BgpDownReason, BgpState, ConfiguredPeer, is_same_session, missing},
    pin::{PinState, Pinned, Reason, Role},
};

pub(super) fn consequences<'a>(
    context: &'a ControlContext,
    before: &'a Baseline,
    now: &'a Config,
    consequences: &mut Consequences<'a>,
) {
    let is_there = |address: &IpAddr| now.bgp.as_ref().is_some_and(|bgp| bgp.peers.contains_key(address));
    for was in before.peers.iter().filter(|was| is_up(was) && !is_there(&was.status.address)) {
        let address = was.status.address;
        let text = format!("BGP peer {address} is closed, and its routes are withdrawn: it is not configured any more");
        consequences.add(RemarkSubject::Peer, Remark::info(text));
    }
    let Some(bgp) = &now.bgp else { return };
    for (&address, peer) in &bgp.peers {
        let was = before.peers.iter().find(|was| was.status.address == address);
        let earlier =
            before.config.bgp.as_ref().and_then(|bgp| Some(ConfiguredPeer { bgp, peer: bgp.peers.get(&address)? }));
        let limit_before = earlier.and_then(|earlier| earlier.peer.maximum_routes);
        let routes = was.filter(|was| is_up(was)).map_or(0, |was| was.status.routes.iter().map(|(_, of)| of).sum());
        if let Some(why) = beyond(limit_before, peer.maximum_routes, routes) {
            let text = format!("BGP peer {address} is closed: {why}");
            consequences.add(RemarkSubject::Peer, Remark::info(text));
        }
        // The warnings name what is missing.
        if missing(bgp, address, peer).is_some() {
            continue;
        }
        let changed = earlier.map(|earlier| changes(earlier.bgp, earlier.peer, bgp, peer)).unwrap_or_default();
        let is_new = earlier.is_none();
        if let Some(DeniedPeer { is_known, why }) = denied(context, was, address, bgp, peer) {
            if !is_known || is_new || !changed.is_empty() {
                let text = format!("BGP peer {address} is not spoken to: {why}");
                consequences.add(RemarkSubject::Peer, Remark::warning(text));
            }
            continue;
        }
        if !is_new && changed.is_empty() {
            continue;
        }
        let connect = context.verdict_on_peer(address, Role::Connect);
        let listen = context.verdict_on_peer(address, Role::Listen);
        let is_anew = match (earlier, was) {
            (Some(earlier), Some(was)) => {
                !is_same_session(address, earlier, ConfiguredPeer { bgp, peer })
                    || (!was.is_opened_by_peer(earlier.bgp) && was.connect != connect)
            }
            _ => true,
        };
        let is_closed = was.zip(earlier).is_some_and(|(was, ConfiguredPeer { bgp: earlier, .. })| {
            was.is_opened_by_peer(earlier) && (was.listen != listen || earlier.listen_port != bgp.listen_port)
        });
        let was = was.filter(|_| !is_new);
        if is_anew || is_closed || !was.is_some_and(is_up) {
            let awaited = AwaitedPeer { context, address, peer, was, changed, is_anew, listen_port: bgp.listen_port };
            consequences.wait_for(RemarkSubject::Peer, move || awaited.look());
        }
    }
    let port_before = before.config.bgp.as_ref().and_then(|bgp| bgp.listen_port);
    if let Some(port) = bgp.listen_port.filter(|port| Some(*port) != port_before) {
        consequences.wait_for(RemarkSubject::Peer, move || find_listening(context, port));
    }
}

fn is_up(was: &PeerBaseline) -> bool {
    was.status.state == BgpState::Established
}

impl PeerBaseline {
    /// Returns true if the peer opened the session, to the port where bmpd listened then.
    fn is_opened_by_peer(&self, earlier: &BgpConfig) -> bool {
        let own = self.status.session.as_ref().map(|session| session.local.port());
        own.is_some() && own == earlier.listen_port
    }
}

/// Why bmpd does not speak to a peer: a pin denies its connections.
struct DeniedPeer {
    /// True if it was so before the change.
    is_known: bool,
    why: String,
}

/// Returns `None` where the pins of the peer deny nothing.
fn denied(
    context: &ControlContext,
    was: Option<&PeerBaseline>,
    address: IpAddr,
    bgp: &BgpConfig,
    peer: &BgpPeerConfig,
) -> Option<DeniedPeer> {
    let roles = [(Role::Connect, !peer.listen_only), (Role::Listen, bgp.listen_port.is_some())];
    roles.into_iter().filter(|(_, wanted)| *wanted).find_map(|(role, _)| {
        let state = context.pins.pin(&Pinned::BgpPeer(address, role)).state();
        let PinState::Down(unresolved) = &state else { return None };
        let mend = match &*unresolved.mend {
            mend if mend.starts_with("connect-interface ") => format!("peer {address} {mend}"),
            mend => mend.to_owned(),
        };
        let is_known = was.is_some_and(|was| {
            let before = if role == Role::Connect { &was.connect } else { &was.listen };
            *before == PinVerdict::from(&state)
        });
        Some(DeniedPeer { is_known, why: reason_in_words(unresolved.reason, &unresolved.why, &mend) })
    })
}

/// A peer that bmpd begins to speak to.
struct AwaitedPeer<'a> {
    context: &'a ControlContext,
    address: IpAddr,
    peer: &'a BgpPeerConfig,
    was: Option<&'a PeerBaseline>,
    changed: Vec<&'static str>,
    /// True if its task is restarted. Otherwise at most a connection that the peer opened is
    /// closed.
    is_anew: bool,
    listen_port: Option<u16>,
}

impl AwaitedPeer<'_> {
    fn look(&self) -> Finding {
        let was_up = self.was.is_some_and(is_up);
        let Some(progress) = self.context.bgp_peers.progress(self.address) else {
            return Finding::Open(Some(self.tries(was_up, None)));
        };
        let began = self.was.is_none_or(|was| match self.is_anew {
            true => progress.started != was.started,
            false => !was_up || progress.established_count > was.status.established_count,
        });
        if !began {
            return Finding::Open(Some(self.tries(was_up, None)));
        }
        if progress.state == BgpState::Established {
            return Finding::Settled(was_up.then(|| self.again()));
        }
        if self.peer.listen_only {
            let waits = Some(self.waits(was_up));
            return if was_up { Finding::Open(waits) } else { Finding::Settled(waits) };
        }
        match progress.failure {
            // A peer whose session has just been closed may refuse the first attempt.
            Some(why) if was_up => Finding::Open(Some(self.tries(was_up, Some(why)))),
            Some(why) => Finding::Settled(Some(self.tries(was_up, Some(why)))),
            None => Finding::Open(Some(self.tries(was_up, None))),
        }
    }

    fn again(&self) -> Remark {
        let (address, why) = (self.address, listed(&self.changed));
        Remark::info(format!("BGP peer {address} is re-established, because {why} changed"))
    }

    /// Returns the beginning of a sentence about a peer that is not up.
    fn is_down(&self, was_up: bool) -> String {
        let address = self.address;
        match (was_up, self.changed.is_empty()) {
            (true, false) => format!("BGP peer {address} goes down, because {} changed", listed(&self.changed)),
            (true, true) => format!("BGP peer {address} goes down"),
            (false, _) => format!("BGP peer {address} is not up"),
        }
    }

    fn waits(&self, was_up: bool) -> Remark {
        let port = self.listen_port.map(|port| format!(" to port {port}")).unwrap_or_default();
        let text = format!("{}: it has not connected{port} yet (listen-only)", self.is_down(was_up));
        if was_up { Remark::warning(text) } else { Remark::info(text) }
    }

    /// Returns the command that mends the last failure, in parentheses, where one is known.
    fn advice(&self) -> String {
        let status = self.context.bgp_peers.peer(self.address, &self.context.feed);
        match status.and_then(|status| status.reason) {
            Some(BgpDownReason::Pin(Reason::NoRoute)) => {
                format!(" (what mends it: `ip route add {} via GATEWAY`)", self.address)
            }
            _ => String::new(),
        }
    }

    fn tries(&self, was_up: bool, failure: Option<String>) -> Remark {
        let begin = self.is_down(was_up);
        let (address, port) = (self.address, self.peer.port.unwrap_or(BgpPeerConfig::PORT));
        Remark::warning(match failure {
            Some(why) => format!("{begin}: {why}{}; bmpd goes on trying", self.advice()),
            None => {
                let hint = match (&self.peer.keychain, &self.peer.password) {
                    (Some(_), _) => "it is not there, or its keys are other ones",
                    (None, Some(_)) => "it is not there, or its password is another one",
                    (None, None) => "it is not there, or wants a password",
                };
                format!("{begin}: {address} port {port} has not answered yet: {hint}; bmpd goes on trying")
            }
        })
    }
}

/// Returns the settings of a peer that differ from those before.
fn changes(earlier: &BgpConfig, was: &BgpPeerConfig, now: &BgpConfig, peer: &BgpPeerConfig) -> Vec<&'static str> {
    [
        (earlier.asn != now.asn, "the AS of this device"),
        (earlier.router_id != now.router_id, "router-id"),
        (earlier.listen_port != now.listen_port, "listen-port"),
        (was.asn != peer.asn, "as-number"),
        (was.port != peer.port, "port"),
        (was.password != peer.password, "password"),
        (was.keychain != peer.keychain, "keychain"),
        (was.listen_only != peer.listen_only, "listen-only"),
        (was.connect_interface != peer.connect_interface, "connect-interface"),
        (was.timer != peer.timer, "timer"),
        (was.families != peer.families, "its address families"),
    ]
    .into_iter()
    .filter_map(|(differs, name)| differs.then_some(name))
    .collect()
}

fn find_listening(context: &ControlContext, port: u16) -> Finding {
    let listener = context.bgp_peers.listener();
    match listener.trouble.filter(|_| listener.port == Some(port)) {
        Some(trouble) => {
            let text = format!("BGP peers cannot connect to port {port}: {trouble}");
            Finding::Settled(Some(Remark::warning(text)))
        }
        None if listener.port == Some(port) && listener.listens => Finding::Settled(None),
        None => Finding::Open(None),
    }
}
