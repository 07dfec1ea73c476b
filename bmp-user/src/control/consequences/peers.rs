//! What a change does to the BGP peers.

use std::net::IpAddr;

use super::{Before, LOOKS, PeerBefore, Said, Standing, in_words, listed};
use crate::{
    config::{Bgp, BgpPeer, Config},
    control::Context,
    input::bgp::{State as PeerState, is_same_session, missing},
    pin::{Pinned, Reason, Role, State},
};

pub(super) async fn consequences(context: &Context, before: &Before, now: &Config, said: &mut Vec<Said>) {
    let is_there = |address: &IpAddr| now.bgp.as_ref().is_some_and(|bgp| bgp.peers.contains_key(address));
    for was in before.peers.iter().filter(|was| is_up(was) && !is_there(&was.status.address)) {
        let address = was.status.address;
        said.push(Said::info(format!(
            "BGP peer {address} is closed, and its routes are withdrawn: it is not configured any more"
        )));
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
                said.push(Said::warning(format!("BGP peer {address} is not spoken to: {why}")));
            }
            continue;
        }
        if let Some((was, (earlier, earlier_peer))) = was.filter(|was| is_up(was)).zip(earlier) {
            let connect = context.standing_of_peer(address, Role::Connect);
            let listen = context.standing_of_peer(address, Role::Listen);
            let opened_by_peer = was.status.session.as_ref().map(|session| session.local.port()) == earlier.listen_port
                && earlier.listen_port.is_some();
            let another = !is_same_session(address, (earlier, earlier_peer), (bgp, peer))
                || (!opened_by_peer && was.connect != connect)
                || (opened_by_peer && (was.listen != listen || earlier.listen_port != bgp.listen_port));
            if another && !changed.is_empty() {
                let why = listed(&changed);
                said.push(Said::info(format!("BGP peer {address} is re-established, because {why} changed")));
            }
        }
        if is_new && !peer.listen_only && has_no_route(context, address).await {
            let why = format!("there is no route to {address}");
            let mend = format!("ip route add {address} via GATEWAY");
            let why = in_words(Reason::NoRoute, &why, &mend);
            said.push(Said::warning(format!("BGP peer {address} is not reached: {why}")));
        }
    }
    let port_before = before.config.bgp.as_ref().and_then(|bgp| bgp.listen_port);
    if let Some(port) = bgp.listen_port.filter(|port| Some(*port) != port_before)
        && let Some(trouble) = trouble_of_listener(context, port).await
    {
        said.push(Said::warning(format!("BGP peers cannot connect to port {port}: {trouble}")));
    }
}

fn is_up(was: &PeerBefore) -> bool {
    was.status.state == PeerState::Established
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
        let state = context.pins.of(&Pinned::BgpPeer(address, role)).subscribe().borrow().clone();
        let State::Down(unresolved) = &state else { return None };
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

async fn has_no_route(context: &Context, address: IpAddr) -> bool {
    let state = context.pins.of(&Pinned::BgpPeer(address, Role::Connect)).subscribe().borrow().clone();
    let State::Ready(grant) = state else { return false };
    let resolved = &grant.resolved;
    resolved.egress.is_empty() && matches!(context.routes.to(address, 0, resolved.source).await, Ok(None))
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

async fn trouble_of_listener(context: &Context, port: u16) -> Option<String> {
    // It says nothing where all is well.
    for _ in 0..LOOKS.0 / 5 {
        let listener = context.bgp_peers.listener();
        if listener.port == Some(port) && listener.trouble.is_some() {
            return listener.trouble;
        }
        tokio::time::sleep(LOOKS.1).await;
    }
    None
}
