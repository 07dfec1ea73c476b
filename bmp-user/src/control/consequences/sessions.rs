//! What a change does to the sessions.

use super::{Before, Said, Standing, in_words, listed};
use crate::{
    config::{Config, ConnectInterface, From, Session, SessionId, effective},
    control::Context,
    pin::{Grant, Pinned, Reason, Role, State, Unheld, in_words as pin_in_words},
};

/// A session before a change.
#[derive(Debug)]
pub(super) struct SessionBefore {
    id: SessionId,
    is_up: bool,
    standing: Standing,
}

pub(super) fn before(context: &Context, config: &Config) -> Vec<SessionBefore> {
    let of = |id: &SessionId| SessionBefore {
        id: id.clone(),
        is_up: context.sessions.get(id).is_some_and(|session| session.status.snapshot().phase.is_up()),
        standing: Standing::from(&*context.pins.session(id).subscribe().borrow()),
    };
    config.bmp.sessions.keys().map(of).collect()
}

pub(super) async fn consequences(context: &Context, before: &Before, now: &Config, said: &mut Vec<Said>) {
    for was in before.sessions.iter().filter(|was| was.is_up && !now.bmp.sessions.contains_key(&was.id)) {
        said.push(Said::info(format!("{} is closed: it is not configured any more", name(&was.id))));
    }
    for (id, session) in &now.bmp.sessions {
        let was = before.sessions.iter().find(|was| was.id == *id);
        let changed = before.config.bmp.sessions.get(id).map(|was| changes(&before.config, was, now, id, session));
        let pin = context.pins.session(id);
        let state = pin.subscribe().borrow().clone();
        if changed.as_ref().is_none_or(|changed| !changed.is_empty()) {
            said.extend(unheld(id, &pin.unheld()));
        }
        match &state {
            State::Pending => {}
            State::Down(unresolved) => {
                let known = was.is_some_and(|was| was.standing == Standing::from(&state));
                if known && changed.is_some_and(|changed| changed.is_empty()) {
                    continue;
                }
                let name = name(id);
                if unresolved.reason == Reason::Shutdown {
                    said.push(Said::info(format!("{name} is shut down (what mends it: `{}`)", unresolved.mend)));
                    continue;
                }
                let how = if was.is_some_and(|was| was.is_up) { "goes down" } else { "stays down" };
                let why = in_words(unresolved.reason, &unresolved.why, &unresolved.mend);
                said.push(Said::warning(format!("{name} {how}: {why}")));
            }
            State::Ready(grant) => {
                let changed = changed.unwrap_or_default();
                let is_new = was.is_none();
                if was.is_some_and(|was| {
                    was.is_up && (was.standing != Standing::from(&state) || changed.contains(&ADOPT))
                }) && !changed.is_empty()
                {
                    said.push(Said::info(format!(
                        "{} is re-established, because {} changed: {}",
                        name(id),
                        listed(&changed),
                        pin_in_words(&grant.resolved)
                    )));
                }
                if (is_new || !changed.is_empty()) && has_no_route(context, id, grant).await {
                    let why = format!("there is no route to {}", id.station);
                    let mend = format!("ip route add {} via GATEWAY", id.station);
                    let how = if was.is_some_and(|was| was.is_up) { "goes down" } else { "stays down" };
                    said.push(Said::warning(format!("{} {how}: {}", name(id), in_words(Reason::NoRoute, &why, &mend))));
                }
            }
        }
    }
}

/// Warns of other processes' connections from before the pin: of the first few by name.
fn unheld(id: &SessionId, unheld: &[Unheld]) -> Vec<Said> {
    const SAID: usize = 3;
    let name = name(id);
    let mut said: Vec<_> = unheld.iter().take(SAID).map(|one| Said::warning(format!("{name}: {one}"))).collect();
    if let Some(more) = unheld.len().checked_sub(SAID).filter(|more| *more > 0) {
        said.push(Said::warning(format!("{name}: {more} more such connections (`display bmp session verbose`)")));
    }
    said
}

/// `session 198.51.100.7`; in a VPN instance it is named.
fn name(id: &SessionId) -> String {
    Pinned::Session(id.clone()).to_string()
}

/// Whether a session that connects, and that may leave by any interface of the default VRF, has a
/// route by none. Of all others that is a part of the pin.
async fn has_no_route(context: &Context, id: &SessionId, grant: &Grant) -> bool {
    let resolved = &grant.resolved;
    let any = resolved.egress.is_empty() && resolved.way.is_none() && resolved.device.is_none();
    let any = any && grant.target.role == Role::Connect;
    any && matches!(context.routes.to(id.station, 0, resolved.source).await, Ok(None))
}

const ADOPT: &str = "adopt";

/// The settings that decide how a session connects and that are others than before.
fn changes(earlier: &Config, was: &Session, now: &Config, id: &SessionId, session: &Session) -> Vec<&'static str> {
    let (before, after) = (effective(&earlier.bmp, id, was), effective(&now.bmp, id, session));
    let named = |config: &Config, connect: &Option<ConnectInterface>, session: &Session| {
        let names = connect.as_ref().and_then(ConnectInterface::interface).into_iter();
        let names = names.chain(session.egress_interfaces.iter().map(String::as_str));
        names.map(|name| config.interface_aliases.get(name).cloned()).collect::<Vec<_>>()
    };
    let of_bmp_view = [before.from, after.from].contains(&From::Bmp);
    [
        (before.connect != after.connect && of_bmp_view, "connect-interface of the bmp view"),
        (before.connect != after.connect && !of_bmp_view, "connect-interface"),
        (was.egress_interfaces != session.egress_interfaces, "egress-interface"),
        (was.next_hop != session.next_hop, "next-hop"),
        (was.transport != session.transport, "tcp port"),
        (was.shutdown != session.shutdown, "shutdown"),
        (was.adopt != session.adopt, ADOPT),
        (
            before.connect == after.connect
                && named(earlier, &before.connect, was) != named(now, &after.connect, session),
            "interface-alias",
        ),
    ]
    .into_iter()
    .filter_map(|(differs, name)| differs.then_some(name))
    .collect()
}
