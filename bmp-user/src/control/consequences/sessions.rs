//! The consequences of a change for sessions.

use std::{fmt, sync::Arc};

use super::{Baseline, Consequences, Finding, PinVerdict, Remark, RemarkSubject, listed, reason_in_words};
use crate::{
    config::{Config, ConnectInterface, SessionConfig, SessionId, SourceLevel, Transport, effective},
    control::{ControlContext, waiting::WaitReason},
    pin::{EarlierConnection, Grant, PinState, Pinned, Reason, Role, in_words},
    session::{SessionHandle, SessionPhase, SessionSnapshot},
};

/// A session before a change.
#[derive(Debug)]
pub(super) struct SessionBaseline {
    id: SessionId,
    is_up: bool,
    verdict: PinVerdict,
    running: Option<Arc<SessionHandle>>,
    pin_line: Option<u64>,
    attempts: u64,
}

pub(super) fn baseline(context: &ControlContext, config: &Config) -> Vec<SessionBaseline> {
    let of = |id: &SessionId| {
        let running = context.sessions.get(id);
        let shown = running.as_ref().map(|running| running.status.snapshot());
        SessionBaseline {
            id: id.clone(),
            is_up: shown.as_ref().is_some_and(|shown| shown.phase.is_up()),
            verdict: PinVerdict::from(&context.pins.session(id).state()),
            running,
            pin_line: shown.as_ref().and_then(|shown| shown.pin_line),
            attempts: shown.map_or(0, |shown| shown.attempts),
        }
    };
    config.bmp.sessions.keys().map(of).collect()
}

pub(super) fn consequences<'a>(
    context: &'a ControlContext,
    before: &'a Baseline,
    now: &'a Config,
    consequences: &mut Consequences<'a>,
) {
    for was in before.sessions.iter().filter(|was| was.is_up && !now.bmp.sessions.contains_key(&was.id)) {
        let text = format!("{} is closed: it is not configured any more", name(&was.id));
        consequences.add(RemarkSubject::Session, Remark::info(text));
    }
    for (id, session) in &now.bmp.sessions {
        let was = before.sessions.binary_search_by(|was| was.id.cmp(id)).ok().and_then(|at| before.sessions.get(at));
        let earlier = before.config.bmp.sessions.get(id);
        let causes = earlier.map(|earlier| Causes::between(&before.config, earlier, now, id, session));
        let pin = context.pins.session(id);
        let state = pin.state();
        if causes.as_ref().is_none_or(|causes| !causes.is_empty()) {
            unheld(id, &pin.earlier_connections())
                .into_iter()
                .for_each(|remark| consequences.add(RemarkSubject::Session, remark));
        }
        match &state {
            PinState::Pending => {}
            PinState::Down(_) => {
                let known = was.is_some_and(|was| was.verdict == PinVerdict::from(&state));
                if !known || causes.as_ref().is_none_or(|causes| !causes.is_empty()) {
                    consequences.add(RemarkSubject::Session, denied(id, was, &state));
                }
            }
            PinState::Ready(grant) => {
                let causes = causes.unwrap_or_default();
                let is_interrupted =
                    causes.opens_otherwise || was.is_none_or(|was| was.verdict != PinVerdict::from(&state));
                let is_up = was.is_some_and(|was| was.is_up);
                let is_touched = was.is_none() || !causes.is_empty();
                if let Some(signing) = causes.signing.filter(|_| is_up && !is_interrupted) {
                    consequences.add(RemarkSubject::Session, keeps_signing(id, signing));
                } else if is_touched && (is_interrupted || !is_up) {
                    // A session that connects nowhere makes no attempt for another password.
                    let retries = causes.signing.is_some() && !session.adopt && grant.target.role == Role::Connect;
                    let is_begun = is_interrupted || retries;
                    let awaited = AwaitedSession { context, id, session, was, causes, is_begun };
                    consequences.wait_for(RemarkSubject::Session, move || awaited.look());
                }
            }
        }
    }
}

/// Warns of other processes' connections from before the pin, and names the first few.
fn unheld(id: &SessionId, unheld: &[EarlierConnection]) -> Vec<Remark> {
    const NAMED: usize = 3;
    let name = name(id);
    let mut remarks: Vec<_> = unheld.iter().take(NAMED).map(|one| Remark::warning(format!("{name}: {one}"))).collect();
    if let Some(more) = unheld.len().checked_sub(NAMED).filter(|more| *more > 0) {
        remarks.push(Remark::warning(format!("{name}: {more} more such connections (`display bmp session verbose`)")));
    }
    remarks
}

/// Returns `session 198.51.100.7`, with the VPN instance if it has one.
fn name(id: &SessionId) -> String {
    Pinned::Session(id.clone()).to_string()
}

/// Returns the remark about a session that stays up. `signing` is what its connections are signed
/// or encrypted with, in words.
fn keeps_signing(id: &SessionId, signing: &str) -> Remark {
    let SessionId { vpn_instance, station, alias } = id;
    let vpn_instance = vpn_instance.as_ref().map(|name| format!("vpn-instance {name} ")).unwrap_or_default();
    let alias = alias.as_ref().map(|alias| format!(" alias {alias}")).unwrap_or_default();
    Remark::info(format!(
        "{} stays up: its next connection is the first with the other {signing} (`reset bmp session \
         {vpn_instance}{station}{alias}` has it connect again)",
        name(id)
    ))
}

/// Returns the verb for a session that is down now.
fn goes_or_stays_down(was: Option<&SessionBaseline>) -> &'static str {
    if was.is_some_and(|was| was.is_up) { "goes down" } else { "stays down" }
}

/// Returns the remark about a session whose pin denies it.
fn denied(id: &SessionId, was: Option<&SessionBaseline>, state: &PinState) -> Remark {
    let PinState::Down(unresolved) = state else { return Remark::info(name(id)) };
    let name = name(id);
    if unresolved.reason == Reason::Shutdown {
        return Remark::info(format!("{name} is shut down (what mends it: `{}`)", unresolved.mend));
    }
    let why = reason_in_words(unresolved.reason, &unresolved.why, &unresolved.mend);
    Remark::warning(format!("{name} {}: {why}", goes_or_stays_down(was)))
}

/// A session that connects or waits under a pin that the change has given it.
struct AwaitedSession<'a> {
    context: &'a ControlContext,
    id: &'a SessionId,
    session: &'a SessionConfig,
    was: Option<&'a SessionBaseline>,
    causes: Causes,
    /// True if the change makes the session begin an attempt. The status of an earlier attempt does
    /// not count then.
    is_begun: bool,
}

impl AwaitedSession<'_> {
    fn look(&self) -> Finding {
        let state = self.context.pins.session(self.id).state();
        let grant = match &state {
            // The pin was ready, and is being decided about again.
            PinState::Pending => return Finding::Open(None),
            PinState::Down(_) => return Finding::Settled(Some(denied(self.id, self.was, &state))),
            PinState::Ready(grant) => grant,
        };
        let Some(running) = self.context.sessions.get(self.id) else { return Finding::Open(Some(self.tries(grant))) };
        let shown = running.status.snapshot();
        let delayed = shown.phase == SessionPhase::Down && shown.pin_line.is_none() && shown.reason.is_none();
        if delayed && shown.retry_at.is_some() {
            return Finding::Settled(self.waits(&shown, &state, false));
        }
        if shown.pin_line != Some(grant.line) || !self.has_begun(&running, &shown) {
            return Finding::Open(Some(self.tries(grant)));
        }
        let was_up = self.was.is_some_and(|was| was.is_up);
        match shown.phase {
            phase if phase.is_up() => Finding::Settled(was_up.then(|| self.again(grant))),
            SessionPhase::Listening => self.open_if(was_up, self.waits(&shown, &state, was_up)),
            // A daemon whose connection was closed connects again by itself.
            SessionPhase::Connecting if self.session.adopt => {
                self.open_if(was_up || shown.reason.is_some(), self.waits(&shown, &state, was_up))
            }
            SessionPhase::Connecting if self.session.per_router.is_some() && shown.routers == 0 => {
                self.open_if(was_up, self.waits(&shown, &state, was_up))
            }
            SessionPhase::Down if shown.reason.is_some() => {
                self.open_if(self.session.adopt && was_up, Some(self.failed(&shown, grant)))
            }
            _ => Finding::Open(Some(self.tries(grant))),
        }
    }

    fn open_if(&self, open: bool, remark: Option<Remark>) -> Finding {
        if open { Finding::Open(remark) } else { Finding::Settled(remark) }
    }

    /// Returns true if the status is of an attempt since the change, where the change makes one
    /// begin.
    fn has_begun(&self, running: &Arc<SessionHandle>, shown: &SessionSnapshot) -> bool {
        let Some(was) = self.was.filter(|_| self.is_begun) else { return true };
        let is_another = was.running.as_ref().is_none_or(|before| !Arc::ptr_eq(before, running));
        is_another || shown.pin_line != was.pin_line || shown.attempts > was.attempts
    }

    fn again(&self, grant: &Grant) -> Remark {
        let words = in_words(&grant.resolved);
        Remark::info(format!("{} is re-established, because {}: {words}", name(self.id), self.causes))
    }

    fn waits(&self, shown: &SessionSnapshot, state: &PinState, was_up: bool) -> Option<Remark> {
        let WaitReason { wait: reason, detail } = WaitReason::of(self.id, self.session, shown, state)?;
        if was_up {
            return Some(Remark::warning(format!(
                "{} goes down, because {}: {reason}: {detail}",
                name(self.id),
                self.causes
            )));
        }
        Some(Remark::info(format!("{} waits: {reason}: {detail}", name(self.id))))
    }

    fn failed(&self, shown: &SessionSnapshot, grant: &Grant) -> Remark {
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
            (again.unwrap_or_default(), reason_in_words(reason, why, shown.mend.as_deref().unwrap_or_default()));
        Remark::warning(format!("{} {}: {why}{advice}{again}", name(self.id), goes_or_stays_down(self.was)))
    }

    /// Returns the remark about an attempt without an outcome yet.
    fn tries(&self, grant: &Grant) -> Remark {
        let (name, fares, station) = (name(self.id), goes_or_stays_down(self.was), grant.target.station);
        let source = grant.resolved.source.map(|source| format!(" from {source}")).unwrap_or_default();
        Remark::warning(format!(
            "{name} {fares} for now: {} port {} has not answered yet{source}, and bmpd goes on trying",
            station.ip(),
            station.port()
        ))
    }
}

/// Returns the advice about an attempt that has failed.
fn advice(reason: Reason, id: &SessionId, session: &SessionConfig) -> Option<String> {
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

/// The changed settings that decide how a session connects.
#[derive(Debug, Default)]
struct Causes {
    /// Names of settings.
    changed: Vec<&'static str>,
    /// `tcp listen` instead of `tcp connect`, or the reverse.
    direction: Option<&'static str>,
    /// True if another task than before is to open the connections.
    opens_otherwise: bool,
    /// What the next connection is signed with, in words, where that has changed. Such a change
    /// alone leaves a session up.
    signing: Option<&'static str>,
}

impl Causes {
    fn between(earlier: &Config, was: &SessionConfig, now: &Config, id: &SessionId, session: &SessionConfig) -> Self {
        let (before, after) = (effective(&earlier.bmp, id, was), effective(&now.bmp, id, session));
        let named = |config: &Config, connect: &Option<ConnectInterface>, session: &SessionConfig| {
            let names = connect.as_ref().and_then(ConnectInterface::interface).into_iter();
            let names = names.chain(session.egress_interfaces.iter().map(String::as_str));
            names.map(|name| config.interface_aliases.get(name).cloned()).collect::<Vec<_>>()
        };
        // The bmp view counts if the session takes its source from there, before the change or
        // after it.
        let of_bmp_view = earlier.bmp.connect_interface != now.bmp.connect_interface
            && [before.from, after.from].contains(&SourceLevel::Bmp);
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
            (was.per_router != session.per_router, "per-router"),
            (was.password != session.password, "password"),
            (was.keychain != session.keychain, "keychain"),
            (was.tls != session.tls, "tls"),
            (
                !connects_otherwise && named(earlier, &before.connect, was) != named(now, &after.connect, session),
                "interface-alias",
            ),
        ];
        Self {
            changed: changed.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect(),
            direction,
            opens_otherwise: was.adopt != session.adopt || was.per_router.is_some() != session.per_router.is_some(),
            signing: if was.tls != session.tls {
                Some("TLS profile")
            } else if was.keychain != session.keychain {
                Some("keys")
            } else {
                (was.password != session.password).then_some("password")
            },
        }
    }

    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.direction.is_none()
    }
}

/// Shows `connect-interface and next-hop changed, and tcp listen replaced tcp connect`.
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
