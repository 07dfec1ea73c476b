//! The consequences of a change for relays, replays and the HTTP server.

use std::net::{IpAddr, SocketAddr};

use super::{Baseline, Consequences, Finding, Remark, RemarkSubject, listed};
use crate::{
    config::{Config, HttpListen, RelayConfig, ReplayConfig},
    control::{ControlContext, HttpListenerState},
    input::{
        mrt::ReplayState,
        relay::{ConnectionStatus, RelayState, RelayStatus},
    },
};

pub(super) fn consequences<'a>(
    context: &'a ControlContext,
    before: &'a Baseline,
    now: &'a Config,
    consequences: &mut Consequences<'a>,
) {
    for was in &before.relays {
        let relay = now.relays.get(&was.name);
        let why = match relay {
            None => Some("the relay is not configured any more"),
            Some(relay) if relay.listen != Some(was.listen) => Some("`listen` changed"),
            Some(_) => None,
        };
        for connection in &was.connections {
            let why = why.or_else(|| {
                let shut_out = relay.is_some_and(|relay| !lets_in(context, relay, was, connection.client.ip()));
                shut_out.then_some("`allow` does not let it in any more")
            });
            if let Some(why) = why {
                consequences.add(RemarkSubject::Relay, Remark::info(closed(was, connection, why)));
            }
        }
    }
    for (name, relay) in &now.relays {
        let Some(listen) = relay.listen else { continue };
        if before.config.relays.get(name).and_then(|relay| relay.listen) == Some(listen) {
            continue;
        }
        consequences.wait_for(RemarkSubject::Relay, move || find_listening(context, name, listen));
    }
    if let Some(listen) = now.http_listen.as_ref().filter(|listen| before.config.http_listen.as_ref() != Some(listen)) {
        consequences.wait_for(RemarkSubject::Http, move || find_http(context, listen));
    }
    for name in before.config.replays.keys().filter(|name| !now.replays.contains_key(*name)) {
        let text = format!("mrt-replay {name} ends, and its peers go down: it is not configured any more");
        consequences.add(RemarkSubject::Replay, Remark::info(text));
    }
    for (name, replay) in &now.replays {
        let was = before.config.replays.get(name);
        let changed = was.map(|was| changes(was, replay));
        if changed.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        // A restart is news only where the replay ran before.
        let why = changed.filter(|_| was.is_some_and(|was| was.file.is_some())).map(|changed| listed(&changed));
        if replay.file.is_some() {
            consequences.wait_for(RemarkSubject::Replay, move || find_replaying(context, name, replay, why.as_deref()));
        } else if let Some(why) = why {
            let text = format!("mrt-replay {name} ends, and its peers go down, because {why} changed");
            consequences.add(RemarkSubject::Replay, Remark::info(text));
        }
    }
}

/// Returns the settings of a replay that differ from those before.
fn changes(was: &ReplayConfig, now: &ReplayConfig) -> Vec<&'static str> {
    let changed = [(was.file != now.file, "file"), (was.pace != now.pace, "pace"), (was.looped != now.looped, "loop")];
    changed.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect()
}

fn closed(relay: &RelayStatus, connection: &ConnectionStatus, why: &str) -> String {
    format!("bmp-relay {}: the connection of {} is closed: {why}", relay.name, connection.client)
}

/// Decides as the relay does whether a client may connect. The address that the client has
/// connected to is not known here: a relay that listens on all addresses lets any address of this
/// host in.
fn lets_in(context: &ControlContext, relay: &RelayConfig, was: &RelayStatus, client: IpAddr) -> bool {
    let client = client.to_canonical();
    let own = was.listen.ip().to_canonical();
    let local = client.is_loopback()
        || client == own
        || own.is_unspecified() && context.host.borrow().link_with_address(client).is_some();
    local || relay.allow.iter().any(|prefix| prefix.contains(client))
}

/// Finds whether a relay listens.
fn find_listening(context: &ControlContext, name: &str, listen: SocketAddr) -> Finding {
    match context.relays.state(name).filter(|(address, _)| *address == listen) {
        Some((_, RelayState::Listening)) => Finding::Settled(None),
        Some((_, RelayState::Failed(why))) => {
            let (address, port) = (listen.ip(), listen.port());
            let text = format!("bmp-relay {name} does not listen on {address} port {port}: {why}");
            Finding::Settled(Some(Remark::warning(text)))
        }
        Some((_, RelayState::Starting)) | None => Finding::Open(None),
    }
}

/// Finds whether the HTTP server listens.
fn find_http(context: &ControlContext, listen: &HttpListen) -> Finding {
    match context.http.listener() {
        (Some(known), HttpListenerState::Listening) if known == *listen => Finding::Settled(None),
        (Some(known), HttpListenerState::Failed(why)) if known == *listen => {
            Finding::Settled(Some(Remark::warning(format!("bmpd does not serve HTTP on {listen}: {why}"))))
        }
        _ => Finding::Open(None),
    }
}

/// Finds whether a replay can read its file. `why` are the settings that changed, where it ran
/// before.
fn find_replaying(context: &ControlContext, name: &str, replay: &ReplayConfig, why: Option<&str>) -> Finding {
    let anew = why.map(|why| Remark::info(format!("mrt-replay {name} begins anew, because {why} changed")));
    let shown = context.replays.status(name).filter(|shown| {
        Some(&shown.file) == replay.file.as_ref() && shown.pace == replay.pace && shown.looped == replay.looped
    });
    // A file that is not MRT fails at its first record.
    let has_begun = shown.as_ref().is_some_and(|shown| shown.records > 0);
    match shown.map(|shown| shown.state) {
        Some(ReplayState::Failed(reason)) => {
            Finding::Settled(Some(Remark::warning(format!("mrt-replay {name} fails: {reason}"))))
        }
        Some(ReplayState::Done) => Finding::Settled(anew),
        Some(ReplayState::Reading) if has_begun => Finding::Settled(anew),
        Some(ReplayState::Surveying) => {
            let text = format!("mrt-replay {name} looks which peers its file has, and replays it then");
            Finding::Open(Some(Remark::info(text)))
        }
        Some(ReplayState::Reading) | None => Finding::Open(anew),
    }
}
