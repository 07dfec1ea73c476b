//! A session that another local process opens: bmpd pins it, counts it, shows it, and closes it where it must connect again (one task a
//! session).

use std::{sync::Arc, time::Instant};

use bmp_ebpf::Counters;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{
    life::{changed, changed_for, stopped},
    status::{Phase, Process, Status},
};
use crate::{
    config::{Config, SessionId},
    escape::Untrusted,
    pin::{
        self, Connection, Connections, Current, Ended, Foreign, Grant, Pins, Reason, Refused, SessionPin, Standing,
        State, Unresolved, back_on_its_way,
    },
};

/// States of a TCP connection as include/net/tcp_states.h numbers them.
const SYN_SENT: u16 = 2;
const CLOSE_WAIT: u16 = 8;
const LAST_ACK: u16 = 9;
const BY_OWNER: [u16; 4] = [4, 5, 6, 11];

/// Why a connection is closed whose session is gone.
const REMOVED: &str = "the session is not configured any more";

/// What one adopted session needs.
pub(super) struct Adopted {
    pub(super) id: SessionId,
    pub(super) pins: Pins,
    pub(super) pin: Arc<SessionPin>,
    pub(super) foreign: Foreign,
    pub(super) status: Arc<Status>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    /// True when the task shall end.
    pub(super) stop: watch::Receiver<bool>,
    /// Changes when an operator resets the session.
    pub(super) reset: watch::Receiver<()>,
}

/// What the task has seen of the connections so far.
struct Seen {
    established: u64,
    ends: u64,
    refusals: u64,
    lost: u64,
    received: u64,
    denied: u64,
    up: Option<u64>,
    /// The connection was closed from here, for this reason, which its end does not know.
    closed_for: Option<Unresolved>,
}

impl Seen {
    /// What there was before is not the session's, unless it goes on.
    fn from(told: &Connections, counters: &Counters) -> Self {
        Self {
            established: told.established,
            ends: told.closed + told.failed,
            refusals: told.refusals,
            lost: told.lost,
            received: received(counters),
            denied: counters.denied_interface + counters.denied_mark,
            up: None,
            closed_for: None,
        }
    }

    /// A connection that is up is about to be closed from here.
    fn close_for(&mut self, why: Unresolved) {
        if self.up.is_some() {
            self.closed_for = Some(why);
        }
    }
}

impl Adopted {
    pub(super) async fn run(mut self) {
        if let pin::Enforcement::Socket { why } = self.pins.datapath().enforcement() {
            let why = format!("only the kernel programs can hold an adopted session, and they are not there: {why}");
            self.down(&Unresolved { reason: Reason::NotPermitted, why, mend: String::new() }, true);
            let datapath = self.pins.datapath().clone();
            tokio::select! {
                () = stopped(&mut self.stop) => return,
                () = datapath.loaded() => {}
            }
        }
        let (mut standing, mut connections) = (self.pin.standing(), self.pin.connections());
        let mut held = self.pin.held();
        let mut seen = Seen::from(&connections.borrow_and_update(), &self.counters());
        let mut before = Standing { state: State::Pending, current: None };
        loop {
            let now = standing.borrow_and_update().clone();
            if now.current != before.current {
                self.change(&before, &now, &mut seen).await;
            }
            before = now;
            let told = connections.borrow_and_update().clone();
            match &before.state {
                State::Pending => self.status.update(|shown| shown.phase = Phase::Resolving),
                State::Down(unresolved) => {
                    self.down(unresolved, true);
                    self.status.update(|shown| shown.pin_line = None);
                    // What was closed for this has ended for this, whatever its end looks like.
                    seen = Seen::from(&told, &self.counters());
                }
                State::Ready(grant) => {
                    if std::mem::replace(&mut seen.lost, told.lost) != told.lost {
                        self.take_in(grant, before.current.as_ref()).await;
                        continue;
                    }
                    self.show(grant, &told, &mut seen);
                    self.status.update(|shown| shown.pin_line = Some(grant.line));
                    // Nothing is held for a connection that is not there; its daemon is denied the next one.
                    if held.borrow_and_update().is_some() && told.foreign().is_none() {
                        self.pins.give_up(&self.pin);
                    }
                }
            }
            tokio::select! {
                changed = standing.changed() => if changed.is_err() { break },
                _ = connections.changed() => {}
                changed = held.changed() => if changed.is_err() { break },
                () = changed(&mut self.reset) => {
                    // Denied first: its daemon is not to find the way open that is lost.
                    if held.borrow().is_some() {
                        self.pins.give_up(&self.pin);
                        continue;
                    }
                    seen.close_for(changed_for(Reason::ManualReset));
                    if let Some(current) = &before.current {
                        self.close(current, None, "an operator reset the session").await;
                    }
                }
                () = stopped(&mut self.stop) => break,
            }
        }
        // What was held to a pin that is no more could send nothing any more.
        if let Some(current) = before.current
            && self.is_removed()
        {
            self.close(&current, None, REMOVED).await;
        }
        self.status.update(|shown| {
            shown.phase = Phase::Down;
            shown.local = None;
            shown.process = None;
        });
    }

    fn is_removed(&self) -> bool {
        !self.config.borrow().bmp.sessions.contains_key(&self.id)
    }

    /// Another pin is in force: what was connected under the one before connects again. At first there was none: what was connected
    /// before stays if it keeps to it.
    async fn change(&self, before: &Standing, now: &Standing, seen: &mut Seen) {
        if let (State::Ready(before), State::Ready(now)) = (&before.state, &now.state)
            && before.line == now.line
        {
            return;
        }
        if let (State::Ready(_), State::Ready(_)) = (&before.state, &now.state) {
            seen.close_for(changed_for(Reason::ConfigurationChanged));
        }
        let why = match &now.state {
            State::Down(unresolved) => unresolved.why.clone(),
            // Its pin may go before its task is told to end.
            State::Pending if self.is_removed() => REMOVED.to_owned(),
            State::Ready(_) | State::Pending => changed_for(Reason::ConfigurationChanged).why,
        };
        if let Some(old) = &before.current
            && now.current.as_ref().is_none_or(|current| current.target != old.target)
        {
            self.close(old, None, &why).await;
        }
        let Some(current) = &now.current else { return };
        match &now.state {
            State::Ready(grant) if before.current.is_none() => self.take_in(grant, Some(current)).await,
            State::Ready(_) => self.close(current, Some(current), &why).await,
            State::Pending | State::Down(_) => self.close(current, None, &why).await,
        }
    }

    async fn take_in(&self, grant: &Grant, current: Option<&Current>) {
        let Some(current) = current else { return };
        match self.foreign.take_in(&self.id, &self.pin, grant, &current.slot, &[]).await {
            Ok(None) => {}
            // Its daemon has not connected as it is to, and this is why.
            Ok(Some(closed)) => self.status.update(|shown| {
                shown.phase = Phase::Connecting;
                shown.for_reason(Reason::ConfigurationChanged, closed, None);
            }),
            Err(error) => {
                warn!(session = %self.id, "connections that were there before are not held to the pin: {error:#}");
            }
        }
    }

    async fn close(&self, of: &Current, but: Option<&Current>, why: &str) {
        let but = but.map(|current| &current.slot);
        if let Err(error) = self.foreign.close_all(&self.id, &self.pin, of.target, but, &[], why).await {
            warn!(session = %self.id, "its connections are not closed: {error:#}");
        }
    }

    /// Shows what the kernel tells of the session's connections.
    fn show(&self, grant: &Grant, told: &Connections, seen: &mut Seen) {
        let news = told.established.saturating_sub(std::mem::replace(&mut seen.established, told.established));
        let ends = told.closed + told.failed;
        let ended = std::mem::replace(&mut seen.ends, ends) != ends;
        let refused = std::mem::replace(&mut seen.refusals, told.refusals) != told.refusals;
        let counters = self.counters();
        let received = received(&counters);
        let heard = std::mem::replace(&mut seen.received, received) != received;
        if let Some((&cookie, connection)) =
            told.open.iter().filter(|(_, one)| !one.own).max_by_key(|(_, one)| one.since)
        {
            if seen.up.replace(cookie) != Some(cookie) {
                seen.closed_for = None;
                self.up(grant, connection, news.max(1));
            }
            return;
        }
        let was_up = seen.up.take().is_some();
        match (&told.last_end, &told.last_refusal) {
            _ if (was_up || ended) && seen.closed_for.is_some() => {
                if let Some(closed) = seen.closed_for.take() {
                    self.down(&closed, false);
                }
            }
            (_, Some(refusal)) if refused && !refusal.own => self.conflict(grant, refusal.refused, refusal.process),
            (Some(end), _) if (was_up || ended) && !end.own => {
                let (reason, why) = why_ended(grant, end, heard);
                let now = counters.denied_interface + counters.denied_mark;
                let denied = now.saturating_sub(std::mem::replace(&mut seen.denied, now));
                let unresolved = match reason {
                    // Silence has a better explanation.
                    Reason::ConnectTimeout if denied > 0 => Unresolved {
                        reason: Reason::EgressDenied,
                        why: format!("the kernel dropped {denied} packets that would have left elsewhere ({why})"),
                        mend: back_on_its_way(&grant.target, &grant.resolved).unwrap_or_default(),
                    },
                    _ => Unresolved { reason, why, mend: String::new() },
                };
                self.down(&unresolved, false);
            }
            _ => {
                self.status.mended();
                self.status.update(|shown| {
                    if shown.reason.is_none() {
                        shown.phase = Phase::Connecting;
                    }
                });
            }
        }
    }

    fn up(&self, grant: &Grant, connection: &Connection, times: u64) {
        let process = (connection.process != 0).then(|| Process {
            id: connection.process,
            name: pin::name_of(connection.process).unwrap_or_else(|| Untrusted::new("?")),
        });
        let by = process.as_ref().map(|process| format!(" by {} ({})", process.name, process.id)).unwrap_or_default();
        info!(session = %self.id, "up from {} to {}, opened{by}", connection.local, grant.target.station);
        let local = connection.local;
        self.status.update(|shown| {
            shown.phase = Phase::Following;
            shown.no_reason();
            shown.local = Some(local);
            shown.process = process;
            shown.established += times;
            // Another connection, though there was no moment without one.
            shown.since = Instant::now();
        });
    }

    /// The process has bound its socket to something else than the pin, and the kernel refused it.
    fn conflict(&self, grant: &Grant, refused: Refused, process: u32) {
        let name = pin::name_of(process).unwrap_or_else(|| Untrusted::new("a process"));
        let resolved = &grant.resolved;
        let source = resolved.source.map_or("any source".to_owned(), |source| source.to_string());
        let why = match refused {
            Refused::Source => format!("{name} ({process}) binds its socket to another source than {source}"),
            Refused::Interface => {
                let names: Vec<_> = resolved.egress.iter().map(|(_, name)| name.as_str()).collect();
                format!("{name} ({process}) binds its socket to another interface than {}", names.join(" or "))
            }
            Refused::NoPin => return,
        };
        let mend = "take source and interface out of that process's own configuration".to_owned();
        self.down(&Unresolved { reason: Reason::SourceConflict, why, mend }, false);
    }

    /// `of_pin`: it is what keeps the pin from being in force.
    fn down(&self, unresolved: &Unresolved, of_pin: bool) {
        let shown = self.status.snapshot();
        if shown.phase != Phase::Down || shown.why.as_ref() != Some(&unresolved.why) {
            warn!(session = %self.id, "down: {}: {}", unresolved.reason, unresolved.why);
        }
        self.status.update(|shown| {
            shown.phase = Phase::Down;
            shown.for_unresolved(unresolved, of_pin);
            shown.local = None;
            shown.process = None;
        });
    }

    fn counters(&self) -> Counters {
        self.pins.counters(&self.pin)
    }
}

/// What has come from the station.
fn received(counters: &Counters) -> u64 {
    counters.foreign_rx.packets
}

/// What an end says about the session. `heard`: something has come from the station since the last one.
fn why_ended(grant: &Grant, end: &Ended, heard: bool) -> (Reason, String) {
    let station = grant.target.station;
    let owner = pin::name_of(end.process).map_or("its owner".to_owned(), |name| format!("{name} ({})", end.process));
    match (end.established, end.tcp_state) {
        (true, CLOSE_WAIT | LAST_ACK) => (Reason::StationClosed, "the station closed the connection".to_owned()),
        (true, state) if BY_OWNER.contains(&state) => {
            (Reason::ConnectionReset, format!("{owner} closed the connection"))
        }
        (true, 0) => (Reason::ConnectionReset, "the connection is gone".to_owned()),
        (true, _) => (Reason::ConnectionReset, "the connection was reset".to_owned()),
        (false, SYN_SENT) if heard => (Reason::ConnectRefused, format!("{station} refused the connection of {owner}")),
        (false, _) => (Reason::ConnectTimeout, format!("{station} did not answer {owner}")),
    }
}
