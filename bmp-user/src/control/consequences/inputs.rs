//! The consequences of a change for relays, replays and the HTTP server.

use std::net::SocketAddr;

use super::{Baseline, Consequences, Finding, Remark, RemarkSubject, beyond, listed, warnings::unknown_users};
use crate::{
    config::{AllowedUser, Config, HttpListen, MEGABYTE, RelayConfig, ReplayConfig},
    control::{ControlContext, HttpListenerState},
    input::{
        mrt::ReplayState,
        relay::{ConnectionStatus, RelayState, RelayStatus, lets_in, looked_up_users},
    },
};

pub(super) fn consequences<'a>(
    context: &'a ControlContext,
    before: &'a Baseline,
    now: &'a Config,
    consequences: &mut Consequences<'a>,
) {
    if let Some(text) = beyond_memory(before, now) {
        consequences.add(RemarkSubject::Configuration, Remark::info(text));
    }
    for was in &before.relays {
        let relay = now.relays.get(&was.name);
        let why = match relay {
            None => Some("the relay is not configured any more"),
            Some(relay) if relay.listen != Some(was.listen) => Some("`listen` changed"),
            Some(relay) => {
                let earlier = before.config.relays.get(&was.name);
                match earlier {
                    Some(earlier) if earlier.keychain != relay.keychain => Some("`keychain` changed"),
                    Some(earlier) if earlier.tls != relay.tls => Some("`tls` changed"),
                    _ => None,
                }
            }
        };
        for connection in &was.connections {
            let why = why.map(str::to_owned).or_else(|| {
                let shut_out = relay.is_some_and(|relay| !lets_in(relay, &context.relays, connection));
                shut_out.then(|| "`allow` does not let it in any more".to_owned())
            });
            let why = why.or_else(|| {
                let earlier = before.config.relays.get(&was.name).and_then(|relay| relay.maximum_routes);
                let routes = before.routes.get(&connection.id).copied().unwrap_or_default();
                beyond(earlier, relay?.maximum_routes, routes)
            });
            if let Some(why) = why {
                consequences.add(RemarkSubject::Relay, Remark::info(closed(was, connection, &why)));
            }
        }
    }
    for (name, relay) in &now.relays {
        let earlier = before.config.relays.get(name);
        let is_new = |user: &&AllowedUser| earlier.is_none_or(|earlier| !earlier.allow_users.contains(user));
        let new: Vec<_> = relay.allow_users.iter().filter(is_new).filter_map(AllowedUser::name).collect();
        if !new.is_empty() {
            consequences.wait_for(RemarkSubject::Relay, move || find_users(context, name, relay, &new));
        }
    }
    for (name, relay) in &now.relays {
        let Some(listen) = relay.listen else { continue };
        let is_same =
            |was: &RelayConfig| (was.listen, &was.keychain, &was.tls) == (Some(listen), &relay.keychain, &relay.tls);
        if before.config.relays.get(name).is_some_and(is_same) {
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

/// Returns what a changed `memory-limit` closes, if the feed takes more.
fn beyond_memory(before: &Baseline, now: &Config) -> Option<String> {
    let limit = now.memory_limit.filter(|_| before.config.memory_limit != now.memory_limit)?;
    let is_beyond = now.memory_limit_bytes().is_some_and(|limit| before.memory > limit);
    is_beyond.then(|| {
        let used = before.memory.div_ceil(MEGABYTE);
        format!(
            "inputs are closed until the feed takes less memory, the one that has grown most first: it takes {used} MB, more than memory-limit {limit}"
        )
    })
}

/// Returns the settings of a replay that differ from those before.
fn changes(was: &ReplayConfig, now: &ReplayConfig) -> Vec<&'static str> {
    let changed = [(was.file != now.file, "file"), (was.pace != now.pace, "pace"), (was.looped != now.looped, "loop")];
    changed.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect()
}

fn closed(relay: &RelayStatus, connection: &ConnectionStatus, why: &str) -> String {
    format!("bmp-relay {}: the connection of {} is closed: {why}", relay.name, connection.client)
}

/// Finds whether this host knows the users that a relay newly lets in by name.
fn find_users(context: &ControlContext, name: &str, relay: &RelayConfig, new: &[&str]) -> Finding {
    let looked_up = looked_up_users(relay, &context.relays);
    let found = |user: &str| looked_up.iter().find(|(name, _)| name == user).map(|(_, is_known)| *is_known);
    if new.iter().any(|user| found(user).is_none()) {
        return Finding::Open(None);
    }
    let unknown: Vec<_> = new.iter().copied().filter(|user| found(user) == Some(false)).collect();
    Finding::Settled((!unknown.is_empty()).then(|| Remark::warning(unknown_users(name, &unknown))))
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
