//! What a change does to the sessions.

use std::{fmt, sync::Arc};

use super::{About, Before, Consequences, Outcome, Said, Standing, in_words, listed};
use crate::{
    config::{Config, ConnectInterface, From, Session, SessionId, Transport, effective},
    control::{Context, waiting::WaitReason},
    pin::{EarlierConnection, Grant, PinState, Pinned, Reason, Role, in_words as pin_in_words},
    session::{SessionHandle, SessionPhase, SessionSnapshot},
};

/// A session before a change.
#[derive(Debug)]
pub(super) struct SessionBefore {
    id: SessionId,
    is_up: bool,
    standing: Standing,
    running: Option<Arc<SessionHandle>>,
    pin_line: Option<u64>,
    attempts: u64,
}

pub(super) fn before(context: &Context, config: &Config) -> Vec<SessionBefore> {
    let of = |id: &SessionId| {
        let running = context.sessions.get(id);
        let shown = running.as_ref().map(|running| running.status.snapshot());
        SessionBefore {
            id: id.clone(),
            is_up: shown.as_ref().is_some_and(|shown| shown.phase.is_up()),
            standing: Standing::from(&context.pins.session(id).state()),
            running,
            pin_line: shown.as_ref().and_then(|shown| shown.pin_line),
            attempts: shown.map_or(0, |shown| shown.attempts),
        }
    };
    config.bmp.sessions.keys().map(of).collect()
}

pub(super) fn consequences<'a>(
    context: &'a Context,
    before: &'a Before,
    now: &'a Config,
    consequences: &mut Consequences<'a>,
) {
    for was in before.sessions.iter().filter(|was| was.is_up && !now.bmp.sessions.contains_key(&was.id)) {
        let text = format!("{} is closed: it is not configured any more", name(&was.id));
        consequences.say(About::Session, Said::info(text));
    }
    for (id, session) in &now.bmp.sessions {
        let was = before.sessions.binary_search_by(|was| was.id.cmp(id)).ok().and_then(|at| before.sessions.get(at));
        let earlier = before.config.bmp.sessions.get(id);
        let causes = earlier.map(|earlier| Causes::between(&before.config, earlier, now, id, session));
        let pin = context.pins.session(id);
        let state = pin.state();
        if causes.as_ref().is_none_or(|causes| !causes.is_empty()) {
            unheld(id, &pin.earlier_connections()).into_iter().for_each(|said| consequences.say(About::Session, said));
        }
        match &state {
            PinState::Pending => {}
            PinState::Down(_) => {
                let known = was.is_some_and(|was| was.standing == Standing::from(&state));
                if !known || causes.as_ref().is_none_or(|causes| !causes.is_empty()) {
                    consequences.say(About::Session, denied(id, was, &state));
                }
            }
            PinState::Ready(grant) => {
                let causes = causes.unwrap_or_default();
                let is_interrupted =
                    causes.adopts_otherwise || was.is_none_or(|was| was.standing != Standing::from(&state));
                let is_up = was.is_some_and(|was| was.is_up);
                let is_touched = was.is_none() || !causes.is_empty();
                if causes.password && is_up && !is_interrupted {
                    consequences.say(About::Session, keeps_password(id));
                } else if is_touched && (is_interrupted || !is_up) {
                    // Where nothing connects, the password is used by nobody.
                    let retries = causes.password && !session.adopt && grant.target.role == Role::Connect;
                    let is_begun = is_interrupted || retries;
                    let awaited = Awaited { context, id, session, was, causes, is_begun };
                    consequences.wait_for(About::Session, move || awaited.look());
                }
            }
        }
    }
}

/// Warns of other processes' connections from before the pin: of the first few by name.
fn unheld(id: &SessionId, unheld: &[EarlierConnection]) -> Vec<Said> {
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

fn keeps_password(id: &SessionId) -> Said {
    let SessionId { vpn_instance, station, alias } = id;
    let vpn_instance = vpn_instance.as_ref().map(|name| format!("vpn-instance {name} ")).unwrap_or_default();
    let alias = alias.as_ref().map(|alias| format!(" alias {alias}")).unwrap_or_default();
    Said::info(format!(
        "{} stays up: its next connection is the first with the other password (`reset bmp session \
         {vpn_instance}{station}{alias}` has it connect again)",
        name(id)
    ))
}

/// How a session fares that is down now, beside what it was before.
fn fares(was: Option<&SessionBefore>) -> &'static str {
    if was.is_some_and(|was| was.is_up) { "goes down" } else { "stays down" }
}

/// Of a session whose pin denies it.
fn denied(id: &SessionId, was: Option<&SessionBefore>, state: &PinState) -> Said {
    let PinState::Down(unresolved) = state else { return Said::info(name(id)) };
    let name = name(id);
    if unresolved.reason == Reason::Shutdown {
        return Said::info(format!("{name} is shut down (what mends it: `{}`)", unresolved.mend));
    }
    let why = in_words(unresolved.reason, &unresolved.why, &unresolved.mend);
    Said::warning(format!("{name} {}: {why}", fares(was)))
}

/// A session that connects, or waits, under a pin that the change has given it.
struct Awaited<'a> {
    context: &'a Context,
    id: &'a SessionId,
    session: &'a Session,
    was: Option<&'a SessionBefore>,
    causes: Causes,
    /// The change has it begin an attempt: what is shown of an earlier one says nothing.
    is_begun: bool,
}

impl Awaited<'_> {
    fn look(&self) -> Outcome {
        let state = self.context.pins.session(self.id).state();
        let grant = match &state {
            // It was ready, and will be decided about anew.
            PinState::Pending => return Outcome::Open(None),
            PinState::Down(_) => return Outcome::Settled(Some(denied(self.id, self.was, &state))),
            PinState::Ready(grant) => grant,
        };
        let Some(running) = self.context.sessions.get(self.id) else { return Outcome::Open(Some(self.tries(grant))) };
        let shown = running.status.snapshot();
        let delayed = shown.phase == SessionPhase::Down && shown.pin_line.is_none() && shown.reason.is_none();
        if delayed && shown.retry_at.is_some() {
            return Outcome::Settled(self.waits(&shown, &state, false));
        }
        if shown.pin_line != Some(grant.line) || !self.has_begun(&running, &shown) {
            return Outcome::Open(Some(self.tries(grant)));
        }
        let was_up = self.was.is_some_and(|was| was.is_up);
        match shown.phase {
            phase if phase.is_up() => Outcome::Settled(was_up.then(|| self.again(grant))),
            SessionPhase::Listening => self.open_if(was_up, self.waits(&shown, &state, was_up)),
            // A daemon whose connection was closed comes back by itself.
            SessionPhase::Connecting if self.session.adopt => {
                self.open_if(was_up || shown.reason.is_some(), self.waits(&shown, &state, was_up))
            }
            SessionPhase::Down if shown.reason.is_some() => {
                self.open_if(self.session.adopt && was_up, Some(self.failed(&shown, grant)))
            }
            _ => Outcome::Open(Some(self.tries(grant))),
        }
    }

    fn open_if(&self, open: bool, said: Option<Said>) -> Outcome {
        if open { Outcome::Open(said) } else { Outcome::Settled(said) }
    }

    /// Whether what is shown is of an attempt that was begun since the change, where the change has one begun.
    fn has_begun(&self, running: &Arc<SessionHandle>, shown: &SessionSnapshot) -> bool {
        let Some(was) = self.was.filter(|_| self.is_begun) else { return true };
        let is_another = was.running.as_ref().is_none_or(|before| !Arc::ptr_eq(before, running));
        is_another || shown.pin_line != was.pin_line || shown.attempts > was.attempts
    }

    fn again(&self, grant: &Grant) -> Said {
        let words = pin_in_words(&grant.resolved);
        Said::info(format!("{} is re-established, because {}: {words}", name(self.id), self.causes))
    }

    fn waits(&self, shown: &SessionSnapshot, state: &PinState, was_up: bool) -> Option<Said> {
        let WaitReason { wait: reason, detail } = WaitReason::of(self.id, self.session, shown, state)?;
        if was_up {
            return Some(Said::warning(format!(
                "{} goes down, because {}: {reason}: {detail}",
                name(self.id),
                self.causes
            )));
        }
        Some(Said::info(format!("{} waits: {reason}: {detail}", name(self.id))))
    }

    fn failed(&self, shown: &SessionSnapshot, grant: &Grant) -> Said {
        let (Some(reason), Some(why)) = (shown.reason, &shown.why) else { return self.tries(grant) };
        let advice = match shown.mend {
            Some(_) => String::new(),
            None => advice(reason, self.id, self.session).map(|advice| format!(" ({advice})")).unwrap_or_default(),
        };
        let again = shown.retry_at.map(|at| {
            let left = at.saturating_duration_since(std::time::Instant::now());
            format!("; next attempt in {:.1} s", left.as_secs_f64())
        });
        let (again, why) =
            (again.unwrap_or_default(), in_words(reason, why, shown.mend.as_deref().unwrap_or_default()));
        Said::warning(format!("{} {}: {why}{advice}{again}", name(self.id), fares(self.was)))
    }

    /// It has come to nothing by now.
    fn tries(&self, grant: &Grant) -> Said {
        let (name, fares, station) = (name(self.id), fares(self.was), grant.target.station);
        let source = grant.resolved.source.map(|source| format!(" from {source}")).unwrap_or_default();
        Said::warning(format!(
            "{name} {fares} for now: {} port {} has not answered yet{source}, and bmpd goes on trying",
            station.ip(),
            station.port()
        ))
    }
}

/// What an operator does about an attempt that has failed.
fn advice(reason: Reason, id: &SessionId, session: &Session) -> Option<String> {
    let (station, port) = (id.station, session.port()?);
    let vrf = id.vpn_instance.as_ref().map(|name| format!(" vrf {name}")).unwrap_or_default();
    Some(match (reason, session.next_hop) {
        (Reason::NoRoute, Some(next_hop)) => {
            format!("does the next hop answer? `ip neigh show {next_hop}{vrf}`, or another `next-hop`")
        }
        (Reason::NoRoute, None) => format!("what mends it: `ip route add {station}{vrf} via GATEWAY`"),
        (Reason::SourceConflict, _) => {
            format!("`ss -ltnp sport = :{port}` shows who listens there: end it, or choose another `tcp listen port`")
        }
        (Reason::ConnectRefused, _) => {
            "start what listens there, or name another port with `tcp connect port`".to_owned()
        }
        _ => return None,
    })
}

/// Which settings are others than before that decide how a session connects.
#[derive(Debug, Default)]
struct Causes {
    /// What changed.
    changed: Vec<&'static str>,
    /// `tcp listen` instead of `tcp connect`, or the other way round.
    direction: Option<&'static str>,
    adopts_otherwise: bool,
    /// That alone leaves a session up.
    password: bool,
}

impl Causes {
    fn between(earlier: &Config, was: &Session, now: &Config, id: &SessionId, session: &Session) -> Self {
        let (before, after) = (effective(&earlier.bmp, id, was), effective(&now.bmp, id, session));
        let named = |config: &Config, connect: &Option<ConnectInterface>, session: &Session| {
            let names = connect.as_ref().and_then(ConnectInterface::interface).into_iter();
            let names = names.chain(session.egress_interfaces.iter().map(String::as_str));
            names.map(|name| config.interface_aliases.get(name).cloned()).collect::<Vec<_>>()
        };
        // The bmp view counts where a session takes its source from there, before the change or after it.
        let of_bmp_view = earlier.bmp.connect_interface != now.bmp.connect_interface
            && [before.from, after.from].contains(&From::Bmp);
        let connects_otherwise = before.connect != after.connect;
        let direction = match (was.transport, session.transport) {
            (Some(Transport::Connect(_)), Some(Transport::Listen(_))) => Some("tcp listen replaced tcp connect"),
            (Some(Transport::Listen(_)), Some(Transport::Connect(_))) => Some("tcp connect replaced tcp listen"),
            _ => None,
        };
        let port = match session.transport.or(was.transport) {
            Some(Transport::Listen(_)) => "tcp listen port",
            Some(Transport::Connect(_)) | None => "tcp connect port",
        };
        let changed = [
            (connects_otherwise && was.connect_interface != session.connect_interface, "connect-interface"),
            (connects_otherwise && of_bmp_view, "connect-interface of the bmp view"),
            (was.egress_interfaces != session.egress_interfaces, "egress-interface"),
            (was.next_hop != session.next_hop, "next-hop"),
            (was.transport != session.transport && direction.is_none(), port),
            (was.shutdown != session.shutdown, "shutdown"),
            (was.adopt != session.adopt, "adopt"),
            (was.password != session.password, "password"),
            (
                !connects_otherwise && named(earlier, &before.connect, was) != named(now, &after.connect, session),
                "interface-alias",
            ),
        ];
        Self {
            changed: changed.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect(),
            direction,
            adopts_otherwise: was.adopt != session.adopt,
            password: was.password != session.password,
        }
    }

    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.direction.is_none()
    }
}

/// `connect-interface and next-hop changed, and tcp listen replaced tcp connect`.
impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.changed.is_empty(), self.direction) {
            (true, None) => f.write_str("its pin is another one"),
            (true, Some(direction)) => f.write_str(direction),
            (false, None) => write!(f, "{} changed", listed(&self.changed)),
            (false, Some(direction)) => write!(f, "{} changed, and {direction}", listed(&self.changed)),
        }
    }
}
