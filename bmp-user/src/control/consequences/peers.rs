//! What a change does to the BGP peers.

use std::net::IpAddr;

use super::{About, Before, Consequences, Outcome, PeerBefore, Said, Standing, in_words, listed};
use crate::{
    config::{Bgp, BgpPeer, Config},
    control::Context,
    input::bgp::{BgpState, is_same_session, missing},
    pin::{PinState, Pinned, Role},
};

pub(super) fn consequences<'a>(
    context: &'a Context,
    before: &'a Before,
    now: &'a Config,
    consequences: &mut Consequences<'a>,
) {
    let is_there = |address: &IpAddr| now.bgp.as_ref().is_some_and(|bgp| bgp.peers.contains_key(address));
    for was in before.peers.iter().filter(|was| is_up(was) && !is_there(&was.status.address)) {
        let address = was.status.address;
        let text = format!("BGP peer {address} is closed, and its routes are withdrawn: it is not configured any more");
        consequences.say(About::Peer, Said::info(text));
    }
    let Some(bgp) = &now.bgp else { return };
    for (&address, peer) in &bgp.peers {
        let was = before.peers.iter().find(|was| was.status.address == address);
        let earlier = before.config.bgp.as_ref().and_then(|bgp| Some((bgp, bgp.peers.get(&address)?)));
        // That is warned of in any case.
        if missing(bgp, address, peer).is_some() {
            continue;
        }
        let changed = earlier.map(|(earlier, was)| changes(earlier, was, bgp, peer)).unwrap_or_default();
        let is_new = earlier.is_none();
        if let Some((known, why)) = not_spoken_to(context, was, address, bgp, peer) {
            if !known || is_new || !changed.is_empty() {
                let text = format!("BGP peer {address} is not spoken to: {why}");
                consequences.say(About::Peer, Said::warning(text));
            }
            continue;
        }
        if !is_new && changed.is_empty() {
            continue;
        }
        let connect = context.standing_of_peer(address, Role::Connect);
        let listen = context.standing_of_peer(address, Role::Listen);
        let is_anew = match (earlier, was) {
            (Some(earlier), Some(was)) => {
                !is_same_session(address, earlier, (bgp, peer))
                    || (!was.is_opened_by_peer(earlier.0) && was.connect != connect)
            }
            _ => true,
        };
        let is_closed = was.zip(earlier).is_some_and(|(was, (earlier, _))| {
            was.is_opened_by_peer(earlier) && (was.listen != listen || earlier.listen_port != bgp.listen_port)
        });
        let was = was.filter(|_| !is_new);
        if is_anew || is_closed || !was.is_some_and(is_up) {
            let awaited = Awaited { context, address, peer, was, changed, is_anew, listen_port: bgp.listen_port };
            consequences.wait_for(About::Peer, move || awaited.look());
        }
    }
    let port_before = before.config.bgp.as_ref().and_then(|bgp| bgp.listen_port);
    if let Some(port) = bgp.listen_port.filter(|port| Some(*port) != port_before) {
        consequences.wait_for(About::Peer, move || listener(context, port));
    }
}

fn is_up(was: &PeerBefore) -> bool {
    was.status.state == BgpState::Established
}

impl PeerBefore {
    /// Whether its session was one that the peer opened, at the port where bmpd listened then.
    fn is_opened_by_peer(&self, earlier: &Bgp) -> bool {
        let own = self.status.session.as_ref().map(|session| session.local.port());
        own.is_some() && own == earlier.listen_port
    }
}

/// Why the peer's connections have no pin, and whether that was so before.
fn not_spoken_to(
    context: &Context,
    was: Option<&PeerBefore>,
    address: IpAddr,
    bgp: &Bgp,
    peer: &BgpPeer,
) -> Option<(bool, String)> {
    let roles = [(Role::Connect, !peer.listen_only), (Role::Listen, bgp.listen_port.is_some())];
    roles.into_iter().filter(|(_, wanted)| *wanted).find_map(|(role, _)| {
        let state = context.pins.pin(&Pinned::BgpPeer(address, role)).state();
        let PinState::Down(unresolved) = &state else { return None };
        let mend = match &*unresolved.mend {
            mend if mend.starts_with("connect-interface ") => format!("peer {address} {mend}"),
            mend => mend.to_owned(),
        };
        let known = was.is_some_and(|was| {
            let before = if role == Role::Connect { &was.connect } else { &was.listen };
            *before == Standing::from(&state)
        });
        Some((known, in_words(unresolved.reason, &unresolved.why, &mend)))
    })
}

/// A peer that is spoken to anew.
struct Awaited<'a> {
    context: &'a Context,
    address: IpAddr,
    peer: &'a BgpPeer,
    was: Option<&'a PeerBefore>,
    changed: Vec<&'static str>,
    /// Its task is begun anew; otherwise only a connection that the peer opened is closed, if even that.
    is_anew: bool,
    listen_port: Option<u16>,
}

impl Awaited<'_> {
    fn look(&self) -> Outcome {
        let was_up = self.was.is_some_and(is_up);
        let Some(progress) = self.context.bgp_peers.progress(self.address) else {
            return Outcome::Open(Some(self.tries(was_up, None)));
        };
        let began = self.was.is_none_or(|was| match self.is_anew {
            true => progress.started != was.started,
            false => !was_up || progress.established_count > was.status.established_count,
        });
        if !began {
            return Outcome::Open(Some(self.tries(was_up, None)));
        }
        if progress.state == BgpState::Established {
            return Outcome::Settled(was_up.then(|| self.again()));
        }
        if self.peer.listen_only {
            let waits = Some(self.waits(was_up));
            return if was_up { Outcome::Open(waits) } else { Outcome::Settled(waits) };
        }
        match progress.failure {
            // A peer whose session was closed just now may refuse the first attempt.
            Some(why) if was_up => Outcome::Open(Some(self.tries(was_up, Some(why)))),
            Some(why) => Outcome::Settled(Some(self.tries(was_up, Some(why)))),
            None => Outcome::Open(Some(self.tries(was_up, None))),
        }
    }

    fn again(&self) -> Said {
        let (address, why) = (self.address, listed(&self.changed));
        Said::info(format!("BGP peer {address} is re-established, because {why} changed"))
    }

    /// The beginning of a sentence about a peer that is not up.
    fn is_down(&self, was_up: bool) -> String {
        let address = self.address;
        match (was_up, self.changed.is_empty()) {
            (true, false) => format!("BGP peer {address} goes down, because {} changed", listed(&self.changed)),
            (true, true) => format!("BGP peer {address} goes down"),
            (false, _) => format!("BGP peer {address} is not up"),
        }
    }

    fn waits(&self, was_up: bool) -> Said {
        let port = self.listen_port.map(|port| format!(" to port {port}")).unwrap_or_default();
        let text = format!("{}: it has not connected{port} yet (listen-only)", self.is_down(was_up));
        if was_up { Said::warning(text) } else { Said::info(text) }
    }

    fn tries(&self, was_up: bool, failure: Option<String>) -> Said {
        let begin = self.is_down(was_up);
        let (address, port) = (self.address, self.peer.port.unwrap_or(BgpPeer::PORT));
        Said::warning(match failure {
            Some(why) => format!("{begin}: {why}; bmpd goes on trying"),
            None => {
                let hint = match self.peer.password {
                    Some(_) => "it is not there, or its password is another one",
                    None => "it is not there, or wants a password",
                };
                format!("{begin}: {address} port {port} has not answered yet: {hint}; bmpd goes on trying")
            }
        })
    }
}

/// What of the configuration of a peer is another than before.
fn changes(earlier: &Bgp, was: &BgpPeer, now: &Bgp, peer: &BgpPeer) -> Vec<&'static str> {
    [
        (earlier.asn != now.asn, "the AS of this device"),
        (earlier.router_id != now.router_id, "router-id"),
        (earlier.listen_port != now.listen_port, "listen-port"),
        (was.asn != peer.asn, "as-number"),
        (was.port != peer.port, "port"),
        (was.password != peer.password, "password"),
        (was.listen_only != peer.listen_only, "listen-only"),
        (was.connect_interface != peer.connect_interface, "connect-interface"),
        (was.timer != peer.timer, "timer"),
        (was.families != peer.families, "its address families"),
    ]
    .into_iter()
    .filter_map(|(differs, name)| differs.then_some(name))
    .collect()
}

fn listener(context: &Context, port: u16) -> Outcome {
    let listener = context.bgp_peers.listener();
    match listener.trouble.filter(|_| listener.port == Some(port)) {
        Some(trouble) => {
            let text = format!("BGP peers cannot connect to port {port}: {trouble}");
            Outcome::Settled(Some(Said::warning(text)))
        }
        None if listener.port == Some(port) && listener.listens => Outcome::Settled(None),
        None => Outcome::Open(None),
    }
}
