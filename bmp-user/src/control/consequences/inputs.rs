//! What a change does to the relays and the replays.

use std::net::{IpAddr, SocketAddr};

use super::{Before, LOOKS, Said, listed};
use crate::{
    config::{Config, Relay},
    control::Context,
    input::relay::{ConnectionStatus, RelayState, RelayStatus},
};

pub(super) async fn consequences(context: &Context, before: &Before, now: &Config, said: &mut Vec<Said>) {
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
            said.extend(why.map(|why| Said::info(closed(was, connection, why))));
        }
    }
    for (name, relay) in &now.relays {
        let Some(listen) = relay.listen else { continue };
        if before.config.relays.get(name).and_then(|relay| relay.listen) == Some(listen) {
            continue;
        }
        if let Some(why) = failure(context, name, listen).await {
            said.push(Said::warning(format!(
                "bmp-relay {name} does not listen on {} port {}: {why}",
                listen.ip(),
                listen.port()
            )));
        }
    }
    for (name, was) in &before.config.replays {
        let Some(replay) = now.replays.get(name) else {
            said.push(Said::info(format!(
                "mrt-replay {name} ends, and its peers go down: it is not configured any more"
            )));
            continue;
        };
        let changed = [
            (was.file != replay.file, "file"),
            (was.pace != replay.pace, "pace"),
            (was.looped != replay.looped, "loop"),
        ];
        let changed: Vec<_> = changed.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect();
        if changed.is_empty() || was.file.is_none() {
            continue;
        }
        let how = if replay.file.is_some() { "begins anew" } else { "ends, and its peers go down" };
        said.push(Said::info(format!("mrt-replay {name} {how}, because {} changed", listed(&changed))));
    }
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

/// Why a relay does not listen, once it has tried to.
async fn failure(context: &Context, name: &str, listen: SocketAddr) -> Option<String> {
    for _ in 0..LOOKS.0 {
        let relays = context.relays.snapshot();
        match relays.into_iter().find(|relay| relay.name == name && relay.listen == listen).map(|relay| relay.state) {
            Some(RelayState::Failed(why)) => return Some(why),
            Some(RelayState::Listening) => return None,
            Some(RelayState::Starting) | None => tokio::time::sleep(LOOKS.1).await,
        }
    }
    None
}
