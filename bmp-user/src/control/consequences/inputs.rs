//! What a change does to the relays and the replays.

use std::net::{IpAddr, SocketAddr};

use super::{About, Before, Consequences, Outcome, Said, listed};
use crate::{
    config::{Config, Relay, Replay},
    control::Context,
    input::{
        mrt::ReplayState,
        relay::{ConnectionStatus, RelayState, RelayStatus},
    },
};

pub(super) fn consequences<'a>(
    context: &'a Context,
    before: &'a Before,
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
                consequences.say(About::Relay, Said::info(closed(was, connection, why)));
            }
        }
    }
    for (name, relay) in &now.relays {
        let Some(listen) = relay.listen else { continue };
        if before.config.relays.get(name).and_then(|relay| relay.listen) == Some(listen) {
            continue;
        }
        consequences.wait_for(About::Relay, move || listens(context, name, listen));
    }
    for name in before.config.replays.keys().filter(|name| !now.replays.contains_key(*name)) {
        let text = format!("mrt-replay {name} ends, and its peers go down: it is not configured any more");
        consequences.say(About::Replay, Said::info(text));
    }
    for (name, replay) in &now.replays {
        let was = before.config.replays.get(name);
        let changed = was.map(|was| changes(was, replay));
        if changed.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        // That it is begun anew is news where one ran before.
        let why = changed.filter(|_| was.is_some_and(|was| was.file.is_some())).map(|changed| listed(&changed));
        if replay.file.is_some() {
            consequences.wait_for(About::Replay, move || replays(context, name, replay, why.as_deref()));
        } else if let Some(why) = why {
            let text = format!("mrt-replay {name} ends, and its peers go down, because {why} changed");
            consequences.say(About::Replay, Said::info(text));
        }
    }
}

/// The settings of a replay that are others than before.
fn changes(was: &Replay, now: &Replay) -> Vec<&'static str> {
    let changed = [(was.file != now.file, "file"), (was.pace != now.pace, "pace"), (was.looped != now.looped, "loop")];
    changed.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect()
}

fn closed(relay: &RelayStatus, connection: &ConnectionStatus, why: &str) -> String {
    format!("bmp-relay {}: the connection of {} is closed: {why}", relay.name, connection.client)
}

/// As the relay decides it, but for the address that the client has connected to, which is any of
/// this host's where it listens on all.
fn lets_in(context: &Context, relay: &Relay, was: &RelayStatus, client: IpAddr) -> bool {
    let client = client.to_canonical();
    let own = was.listen.ip().to_canonical();
    let local = client.is_loopback()
        || client == own
        || own.is_unspecified() && context.host.borrow().link_with_address(client).is_some();
    local || relay.allow.iter().any(|prefix| prefix.contains(client))
}

/// Whether a relay listens, once it has tried to.
fn listens(context: &Context, name: &str, listen: SocketAddr) -> Outcome {
    match context.relays.state(name).filter(|(address, _)| *address == listen) {
        Some((_, RelayState::Listening)) => Outcome::Settled(None),
        Some((_, RelayState::Failed(why))) => {
            let (address, port) = (listen.ip(), listen.port());
            let text = format!("bmp-relay {name} does not listen on {address} port {port}: {why}");
            Outcome::Settled(Some(Said::warning(text)))
        }
        Some((_, RelayState::Starting)) | None => Outcome::Open(None),
    }
}

/// Whether a replay can read its file. `why` is what of it changed, where it ran before.
fn replays(context: &Context, name: &str, replay: &Replay, why: Option<&str>) -> Outcome {
    let anew = why.map(|why| Said::info(format!("mrt-replay {name} begins anew, because {why} changed")));
    let shown = context.replays.status(name).filter(|shown| {
        Some(&shown.file) == replay.file.as_ref() && shown.pace == replay.pace && shown.looped == replay.looped
    });
    // A file that is no MRT fails at its first record.
    let has_begun = shown.as_ref().is_some_and(|shown| shown.records > 0);
    match shown.map(|shown| shown.state) {
        Some(ReplayState::Failed(reason)) => {
            Outcome::Settled(Some(Said::warning(format!("mrt-replay {name} fails: {reason}"))))
        }
        Some(ReplayState::Done) => Outcome::Settled(anew),
        Some(ReplayState::Reading) if has_begun => Outcome::Settled(anew),
        Some(ReplayState::Surveying) => {
            let text = format!("mrt-replay {name} looks which peers its file has, and replays it then");
            Outcome::Open(Some(Said::info(text)))
        }
        Some(ReplayState::Reading) | None => Outcome::Open(anew),
    }
}
