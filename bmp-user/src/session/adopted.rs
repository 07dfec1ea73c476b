//! The task of an adopted session, which another local process opens.
//!
//! bmpd pins and counts the connection, shows it, and closes it where it must connect again. What
//! it shows comes from the kernel's events alone.

use std::{mem, time::Instant};

use bmp_ebpf::Counters;
use tokio::{select, sync::watch};
use tracing::{info, warn};

use super::{
    context::{SessionContext, reset_requested, stopped},
    down::{explain_silence, manual_reset, pin_replaced},
    status::{CauseOrigin, SessionPhase, SessionProcess},
};
use crate::{
    escape::Untrusted,
    pin::{
        self, ConnectRefusal, DownCause, EnforcedPin, Enforcement, Grant, KernelConnection, KernelConnectionEnd,
        KernelConnections, PinState, PinView, Reason, pin_changed,
    },
    tasks::until_woken,
};

/// States of a TCP connection as include/net/tcp_states.h numbers them.
const SYN_SENT: u16 = 2;
const CLOSE_WAIT: u16 = 8;
const LAST_ACK: u16 = 9;
/// The states after this host's own close: FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT, CLOSING.
const CLOSED_BY_OWNER: [u16; 4] = [4, 5, 6, 11];

/// Why a connection is closed whose session is gone.
const REMOVED: &str = "the session is not configured any more";

/// See the module.
pub(super) struct AdoptedSession {
    context: SessionContext,
    view: watch::Receiver<PinView>,
    connections: watch::Receiver<KernelConnections>,
    seen: SeenConnections,
}

/// What the task has shown of the connections so far.
struct SeenConnections {
    established: u64,
    end_reports: u64,
    refusals: u64,
    lost: u64,
    received: u64,
    denied: u64,
    /// Socket cookie of the connection that is up.
    up: Option<u64>,
    /// Why bmpd closed the connection, which its end does not tell.
    closed_for: Option<DownCause>,
}

impl SeenConnections {
    /// Starts with what exists: earlier connections are not the session's, unless they go on.
    fn starting_from(connections: &KernelConnections, counters: &Counters) -> Self {
        Self {
            established: connections.established,
            end_reports: connections.end_reports,
            refusals: connections.refusals,
            lost: connections.lost,
            received: received(counters),
            denied: denied(counters),
            up: None,
            closed_for: None,
        }
    }

    /// Notes that bmpd is about to close the connection, if one is up.
    fn close_for(&mut self, cause: DownCause) {
        if self.up.is_some() {
            self.closed_for = Some(cause);
        }
    }
}

/// Why the task woke up.
enum AdoptedWakeup {
    /// The pin or a connection changed.
    Changed,
    /// An operator resets the session.
    Reset,
    /// The session is removed, or bmpd ends.
    Stopped,
}

impl AdoptedSession {
    pub(super) fn new(context: SessionContext) -> Self {
        let (view, connections) = (context.pin.view(), context.pin.connections());
        let seen = SeenConnections::starting_from(&connections.borrow(), &context.counters());
        Self { context, view, connections, seen }
    }

    pub(super) async fn run(mut self) {
        if !self.has_programs().await {
            return;
        }
        self.restart();
        let mut known: Option<PinView> = None;
        loop {
            let view = self.view.borrow_and_update().clone();
            if view.enforced.as_ref() != known.as_ref().and_then(|known| known.enforced.as_ref()) {
                self.change_pin(known.as_ref(), &view).await;
            }
            let view = known.insert(view);
            if !self.look(view).await {
                continue;
            }
            match self.next(view).await {
                AdoptedWakeup::Changed => {}
                AdoptedWakeup::Reset => self.reset(view).await,
                AdoptedWakeup::Stopped => break,
            }
        }
        // Under a pin that is gone, a connection could send nothing any more.
        if let Some(enforced) = known.and_then(|known| known.enforced)
            && self.context.is_removed()
        {
            self.close(&enforced, None, REMOVED).await;
        }
        self.context.status.update(|shown| {
            shown.phase = SessionPhase::Down;
            shown.local = None;
            shown.process = None;
        });
    }

    /// Waits until the kernel programs are loaded: nothing else can hold an adopted session. False
    /// when the session is to end.
    async fn has_programs(&mut self) -> bool {
        let datapath = self.context.pins.datapath().clone();
        let Enforcement::Socket { why } = datapath.enforcement() else { return true };
        let why = format!("only the kernel programs can hold an adopted session, and they are not there: {why}");
        self.context.show_down(&DownCause::without_mend(Reason::NotPermitted, why), CauseOrigin::Pin);
        select! {
            () = stopped(&mut self.context.stop) => false,
            () = datapath.loaded() => true,
            never = until_woken() => match never {},
        }
    }

    async fn next(&mut self, known: &PinView) -> AdoptedWakeup {
        let Self { context, view, connections, .. } = self;
        select! {
            () = pin_changed(view, known, false) => AdoptedWakeup::Changed,
            // The sender is in the pin, which is here.
            Ok(()) = connections.changed() => AdoptedWakeup::Changed,
            () = reset_requested(&mut context.reset) => AdoptedWakeup::Reset,
            () = stopped(&mut context.stop) => AdoptedWakeup::Stopped,
            never = until_woken() => match never {},
        }
    }

    fn restart(&mut self) {
        self.seen = SeenConnections::starting_from(&self.connections.borrow_and_update(), &self.context.counters());
    }

    /// Shows what pin and connections are now. False to look again.
    async fn look(&mut self, view: &PinView) -> bool {
        let connections = self.connections.borrow_and_update().clone();
        let status = &self.context.status;
        match &view.state {
            PinState::Pending => status.update(|shown| shown.phase = SessionPhase::Resolving),
            PinState::Down(cause) => {
                self.context.show_down(cause, CauseOrigin::Pin);
                status.update(|shown| shown.pin_line = None);
                // Connections that were closed for this have ended for this, however their end
                // looks.
                self.seen = SeenConnections::starting_from(&connections, &self.context.counters());
            }
            PinState::Ready(grant) => {
                if mem::replace(&mut self.seen.lost, connections.lost) != connections.lost {
                    self.take_in(grant, view.enforced.as_ref()).await;
                    return false;
                }
                self.show(grant, &connections);
                self.context.status.update(|shown| shown.pin_line = Some(grant.line));
                // Without a connection there is nothing to hold, and its daemon is denied the next
                // one.
                if view.hold_down.is_some() && connections.foreign().is_none() {
                    self.context.pin.end_hold_down();
                }
            }
        }
        true
    }

    async fn reset(&mut self, view: &PinView) {
        // Denied first: its daemon must not connect by a way that is lost.
        if self.view.borrow().hold_down.is_some() {
            return self.context.pin.end_hold_down();
        }
        self.seen.close_for(manual_reset());
        if let Some(enforced) = &view.enforced {
            self.close(enforced, None, "an operator reset the session").await;
        }
    }

    /// Closes the connections of the earlier pin, which must connect again. At first there is none:
    /// then an earlier connection stays if it complies with the pin.
    async fn change_pin(&mut self, before: Option<&PinView>, now: &PinView) {
        let enforced_before = before.and_then(|before| before.enforced.as_ref());
        if let (Some(PinState::Ready(before)), PinState::Ready(grant)) =
            (before.map(|before| &before.state), &now.state)
        {
            if before.line == grant.line {
                return;
            }
            self.seen.close_for(pin_replaced());
        }
        let why = match &now.state {
            PinState::Down(cause) => cause.why.clone(),
            // The pin of a removed session may go before its task is told to end.
            PinState::Pending if self.context.is_removed() => REMOVED.to_owned(),
            PinState::Ready(_) | PinState::Pending => pin_replaced().why,
        };
        if let Some(old) = enforced_before
            && now.enforced.as_ref().is_none_or(|enforced| enforced.target != old.target)
        {
            self.close(old, None, &why).await;
        }
        let Some(enforced) = &now.enforced else { return };
        match &now.state {
            PinState::Ready(grant) if enforced_before.is_none() => self.take_in(grant, Some(enforced)).await,
            PinState::Ready(_) => self.close(enforced, Some(enforced), &why).await,
            PinState::Pending | PinState::Down(_) => self.close(enforced, None, &why).await,
        }
    }

    async fn take_in(&self, grant: &Grant, enforced: Option<&EnforcedPin>) {
        let Some(enforced) = enforced else { return };
        let SessionContext { id, pin, foreign, status, .. } = &self.context;
        match foreign.take_in(id, pin, grant, &enforced.slot, &[]).await {
            Ok(None) => {}
            // Its daemon has not connected as the pin says, and this is why.
            Ok(Some(closed)) => status.update(|shown| {
                shown.phase = SessionPhase::Connecting;
                let cause = DownCause::without_mend(Reason::ConfigurationChanged, closed);
                shown.set_cause(&cause, CauseOrigin::Connection);
            }),
            Err(error) => {
                warn!(session = %id, "cannot hold earlier connections to the pin: {error:#}");
            }
        }
    }

    /// Closes the connections to the target of `pin`, except those under the slot of `but`.
    async fn close(&self, pin: &EnforcedPin, but: Option<&EnforcedPin>, why: &str) {
        let SessionContext { id, pin: session_pin, foreign, .. } = &self.context;
        let but = but.map(|enforced| &enforced.slot);
        if let Err(error) = foreign.close_all(id, session_pin, pin.target, but, &[], why).await {
            warn!(session = %id, "cannot close its connections: {error:#}");
        }
    }

    /// Shows what the kernel reports of the session's connections.
    fn show(&mut self, grant: &Grant, connections: &KernelConnections) {
        let counters = self.context.counters();
        let seen = &mut self.seen;
        let new = connections.established.saturating_sub(mem::replace(&mut seen.established, connections.established));
        let has_ended = mem::replace(&mut seen.end_reports, connections.end_reports) != connections.end_reports;
        let is_refused = mem::replace(&mut seen.refusals, connections.refusals) != connections.refusals;
        let received = received(&counters);
        let has_received = mem::replace(&mut seen.received, received) != received;
        if let Some((cookie, connection)) = connections.newest_foreign() {
            if seen.up.replace(cookie) != Some(cookie) {
                seen.closed_for = None;
                self.show_up(grant, connection, new.max(1));
            }
            return;
        }
        let is_over = seen.up.take().is_some() || has_ended;
        if is_over && let Some(cause) = seen.closed_for.take() {
            return self.context.show_down(&cause, CauseOrigin::Connection);
        }
        match (&connections.last_end, &connections.last_refusal) {
            (_, Some(refusal)) if is_refused && !refusal.own => {
                self.show_conflict(grant, refusal.refused, refusal.process);
            }
            (Some(end), _) if is_over && !end.own => {
                let denied_now = denied(&counters);
                let denied = denied_now.saturating_sub(mem::replace(&mut seen.denied, denied_now));
                let cause = explain_silence(why_ended(grant, end, has_received), denied, grant);
                self.context.show_down(&cause, CauseOrigin::Connection);
            }
            _ => {
                self.context.status.clear_pin_cause();
                self.context.status.update(|shown| {
                    if shown.reason.is_none() {
                        shown.phase = SessionPhase::Connecting;
                    }
                });
            }
        }
    }

    fn show_up(&self, grant: &Grant, connection: &KernelConnection, times: u64) {
        let process = (connection.process != 0).then(|| SessionProcess {
            id: connection.process,
            name: pin::name_of(connection.process).unwrap_or_else(|| Untrusted::new("?")),
        });
        let by = process.as_ref().map(|process| format!(" by {} ({})", process.name, process.id)).unwrap_or_default();
        let (id, local, station) = (&self.context.id, connection.local, grant.target.station);
        let (interface, source) = (grant.resolved.interface_names(), local.ip());
        info!(session = %id, %station, interface, %source, "up from {local} to {station}, opened{by}");
        self.context.show_up(grant, Some(local), |shown| {
            shown.phase = SessionPhase::Following;
            shown.process = process;
            shown.established += times;
            // It is another connection, even if there was no moment without one.
            shown.since = Instant::now();
        });
    }

    /// Shows that the process binds its socket to something else than the pin, which the kernel
    /// refuses.
    fn show_conflict(&self, grant: &Grant, refused: ConnectRefusal, process: u32) {
        let name = pin::name_of(process).unwrap_or_else(|| Untrusted::new("a process"));
        let resolved = &grant.resolved;
        let source = resolved.source.map_or("any source".to_owned(), |source| source.to_string());
        let why = match refused {
            ConnectRefusal::Source => format!("{name} ({process}) binds its socket to another source than {source}"),
            ConnectRefusal::Interface => {
                let names: Vec<_> = resolved.egress.iter().map(|interface| interface.name.as_str()).collect();
                format!("{name} ({process}) binds its socket to another interface than {}", names.join(" or "))
            }
            ConnectRefusal::NoPin => return,
        };
        let mend = "take source and interface out of that process's own configuration".to_owned();
        self.context.show_down(&DownCause { reason: Reason::SourceConflict, why, mend }, CauseOrigin::Connection);
    }
}

/// Returns how many packets have come from the station.
fn received(counters: &Counters) -> u64 {
    counters.foreign_rx.packets
}

/// Returns how many packets of the session the kernel has dropped because they would have left
/// elsewhere.
fn denied(counters: &Counters) -> u64 {
    counters.denied_interface + counters.denied_mark
}

/// Says why a connection or an attempt ended. `has_received`: packets have come from the station
/// since the last end.
fn why_ended(grant: &Grant, end: &KernelConnectionEnd, has_received: bool) -> DownCause {
    let station = grant.target.station;
    let owner = pin::name_of(end.process).map_or("its owner".to_owned(), |name| format!("{name} ({})", end.process));
    let (reason, why) = match (end.established, end.tcp_state) {
        (true, CLOSE_WAIT | LAST_ACK) => (Reason::StationClosed, "the station closed the connection".to_owned()),
        (true, state) if CLOSED_BY_OWNER.contains(&state) => {
            (Reason::ConnectionReset, format!("{owner} closed the connection"))
        }
        (true, 0) => (Reason::ConnectionReset, "the connection is gone".to_owned()),
        (true, _) => (Reason::ConnectionReset, "the connection was reset".to_owned()),
        (false, SYN_SENT) if has_received => {
            (Reason::ConnectRefused, format!("{station} refused the connection of {owner}"))
        }
        (false, _) => (Reason::ConnectTimeout, format!("{station} did not answer {owner}")),
    };
    DownCause::without_mend(reason, why)
}
