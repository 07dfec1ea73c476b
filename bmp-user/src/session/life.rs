//! One session's life, from configuration to removal (one task a session):
//!
//! ```text
//!  resolve ─▶ connect ─▶ follow ─▶ part ─┐
//!     ▲          └──── back off ◀────────┤ failed
//!     └──────────────────────────────────┘ pin changed: at once
//! ```
//!
//! Where the station connects, `connect` is to listen, and there is nothing to back off from: it is the station that tries again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{net::TcpStream, sync::watch};
use tracing::{debug, info, warn};

use super::{
    Identity,
    backoff::{Backoff, FIRST, LONGEST},
    connect::{Refusal, as_configured, connect},
    connection::Connection,
    listen::{Listeners, Seat},
    status::{Phase, Status},
};
use crate::{
    config::{self, Config, SessionId},
    feed::Feed,
    pin::{Foreign, Grant, Listening, Pinned, Pins, Reason, Role, SessionPin, State, Unresolved, back_on_its_way},
    sys,
    tasks::Tasks,
};

/// How many connections may say farewell at once: a station that connects again and again takes no more descriptors.
const FAREWELLS: usize = 8;

/// How long a connection has to last for the next failure to be the first again.
const SUCCESS: Duration = Duration::from_secs(5);

/// What one session needs.
pub(super) struct Life {
    pub(super) id: SessionId,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) feed: Feed,
    pub(super) pins: Pins,
    pub(super) pin: Arc<SessionPin>,
    pub(super) identity: watch::Receiver<Identity>,
    pub(super) status: Arc<Status>,
    /// True when the session shall end.
    pub(super) stop: watch::Receiver<bool>,
    /// Connections whose way is lost and that are still being closed.
    pub(super) farewells: Tasks,
    /// Asks the routing tables.
    pub(super) foreign: Foreign,
    /// Where stations connect to this host.
    pub(super) listeners: Listeners,
    /// Whether what ended last was a connection, and not an attempt to have one.
    pub(super) lost: bool,
    /// Changes when an operator resets the session.
    pub(super) reset: watch::Receiver<()>,
}

/// Why a connection is over.
enum End {
    /// The session is removed or bmpd goes away.
    Stopped,
    /// Another pin is in force, or none.
    PinChanged,
    /// An operator reset the session.
    Reset,
    /// While an attempt was being made, it was configured otherwise.
    AttemptChanged,
    /// The connection failed; with what would mend that, if it is known.
    Failed(Refusal, Option<String>),
    /// The station has connected anew.
    Replaced(TcpStream),
}

impl Life {
    pub(super) async fn run(mut self) {
        let mut pin = self.pin.subscribe();
        let mut backoff = Backoff::new();
        let mut begin = self.wait_at_first(&mut pin).await;
        while begin {
            let Some(grant) = self.resolve(&mut pin).await else { break };
            let end = match grant.target.role {
                Role::Connect => self.connect_and_follow(&grant, &mut pin, &mut backoff).await,
                Role::Listen => self.listen_and_follow(&grant, &mut pin).await,
            };
            match end {
                End::Stopped => begin = false,
                End::PinChanged | End::Reset | End::AttemptChanged | End::Replaced(_) => backoff.reset(),
                End::Failed(refusal, mend) => {
                    begin = self.back_off(refusal, mend, &mut pin, &mut backoff).await;
                }
            }
        }
        self.status.update(|shown| {
            shown.phase = Phase::Down;
            shown.local = None;
        });
        while self.farewells.join_next().await.is_some() {}
    }

    /// The session as it is configured now; as by default when it is not any more.
    pub(super) fn configured(&self) -> config::Session {
        self.config.borrow().bmp.sessions.get(&self.id).cloned().unwrap_or_default()
    }

    /// Waits until the session may connect. `None` when it is to end.
    async fn resolve(&mut self, pin: &mut watch::Receiver<State>) -> Option<Arc<Grant>> {
        let mut held = self.pin.held();
        loop {
            let (state, is_held) = (pin.borrow_and_update().clone(), held.borrow_and_update().is_some());
            match state {
                // What there was to hold is gone, so that it is told to be down soon.
                State::Ready(_) if is_held => self.pins.give_up(&self.pin),
                State::Ready(grant) => {
                    self.status.mended();
                    self.status.begins(grant.line);
                    return Some(grant);
                }
                State::Pending => self.status.update(|shown| shown.phase = Phase::Resolving),
                State::Down(unresolved) => self.show_unresolved(&unresolved, true),
            }
            tokio::select! {
                changed = pin.changed() => changed.ok()?,
                changed = held.changed() => changed.ok()?,
                () = stopped(&mut self.stop) => return None,
            }
        }
    }

    async fn connect_and_follow(
        &mut self,
        grant: &Arc<Grant>,
        pin: &mut watch::Receiver<State>,
        backoff: &mut Backoff,
    ) -> End {
        // What has not been said by now is not worth waiting for: the way back is there.
        self.farewells.abort_all();
        self.status.update(|shown| {
            shown.phase = Phase::Connecting;
            shown.retry_at = None;
        });
        let denied = self.denied();
        let configured = self.configured();
        let retry = configured.connect_retry;
        backoff.within(retry.map_or(FIRST, |retry| retry.first), retry.map_or(LONGEST, |retry| retry.longest));
        // What was asked while there was nothing to reset is done.
        self.reset.mark_unchanged();
        let connected = tokio::select! {
            connected = connect(grant, self.pins.datapath(), &configured) => connected,
            () = other_pin(pin, grant) => return End::PinChanged,
            () = way_lost(&self.pin) => return End::PinChanged,
            () = attempted_otherwise(&mut self.config, &self.id, &configured) => return End::AttemptChanged,
            () = changed(&mut self.reset) => return End::Reset,
            () = stopped(&mut self.stop) => return End::Stopped,
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(refusal) => {
                self.lost = false;
                return self.failed(refusal, denied, grant);
            }
        };
        let began = Instant::now();
        let end = self.follow(stream, grant, pin, denied, None).await;
        if began.elapsed() >= SUCCESS {
            backoff.reset();
        }
        end
    }

    /// Waits for the station, again and again, as long as what is granted is in force.
    async fn listen_and_follow(&mut self, grant: &Arc<Grant>, pin: &mut watch::Receiver<State>) -> End {
        self.farewells.abort_all();
        let mut seat = match self.listeners.seat(grant, &self.pins, &self.pin) {
            Ok(seat) => seat,
            Err(refusal) => {
                self.pins.tell_listening(&self.pin, Listening::No);
                return End::Failed(refusal, None);
            }
        };
        // Strangers are kept away from now on, and the station is not.
        self.pins.tell_listening(&self.pin, Listening::As(Arc::clone(grant)));
        info!(session = %self.id, "listening on {seat} for {}", self.id.station);
        let mut anew = None;
        let end = loop {
            self.status.update(|shown| {
                shown.phase = Phase::Listening;
                shown.retry_at = None;
            });
            let denied = self.denied();
            // What was asked while there was nothing to reset is done.
            self.reset.mark_unchanged();
            let stream = match anew.take() {
                Some(stream) => stream,
                None => tokio::select! {
                    stream = seat.connected() => stream,
                    () = other_pin(pin, grant) => break End::PinChanged,
                    () = way_lost(&self.pin) => break End::PinChanged,
                    () = stopped(&mut self.stop) => break End::Stopped,
                },
            };
            match self.follow(stream, grant, pin, denied, Some(&mut seat)).await {
                End::Replaced(stream) => anew = Some(stream),
                // It is told, and may come back at once.
                End::Reset => {}
                End::Failed(refusal, mend) => self.show_failed(&refusal, mend),
                end => break end,
            }
        };
        self.pins.tell_listening(&self.pin, Listening::No);
        end
    }

    /// Follows a connection until it ends, whyever. `seat` is where the station may connect anew.
    async fn follow(
        &mut self,
        stream: TcpStream,
        grant: &Arc<Grant>,
        pin: &mut watch::Receiver<State>,
        denied: u64,
        seat: Option<&mut Seat>,
    ) -> End {
        let (local, peer) = (stream.local_addr().ok(), stream.peer_addr().unwrap_or(grant.target.station));
        self.status.update(|shown| {
            shown.phase = Phase::Dumping;
            shown.no_reason();
            shown.local = local;
            shown.established += 1;
        });
        match local {
            Some(local) => info!(session = %self.id, "up from {local} to {peer}"),
            None => info!(session = %self.id, "up to {peer}"),
        }
        if seat.is_some() {
            self.set_free(&stream, grant).await;
        }
        if seat.is_some()
            && let Err(error) = as_configured(&SockRef::from(&stream), &self.configured())
        {
            warn!(session = %self.id, "what is configured of the connection cannot be set: {error}");
        }
        let mut connection = Connection::new(self, stream);
        let end = tokio::select! {
            refusal = connection.follow() => self.failed(refusal, denied, grant),
            () = other_pin(pin, grant) => End::PinChanged,
            () = changed(&mut self.reset) => End::Reset,
            () = stopped(&mut self.stop) => End::Stopped,
            stream = another(seat) => End::Replaced(stream),
        };
        self.part(connection, &end, pin).await;
        self.lost = true;
        end
    }

    /// A connection is bound to the interface by which the station came. Where the session may leave by others too it goes by the routing tables from here
    /// on, as if bmpd had opened it; unless they lead where it may not leave.
    async fn set_free(&self, stream: &TcpStream, grant: &Grant) {
        let Grant { target, resolved, .. } = grant;
        let is_bound = resolved.egress.is_empty() || resolved.device.as_ref().is_some_and(|own| own.0 != target.vrf);
        if is_bound || self.foreign.led_astray(&Pinned::Session(self.id.clone()), resolved).await.is_some() {
            return;
        }
        if let Err(error) = sys::bind_to_interface(stream, target.vrf) {
            debug!(session = %self.id, "the connection stays bound to the interface that it came by: {error}");
        }
    }

    /// Shows the session down and closes the connection, with a Termination message. A session that has lost its way does not
    /// wait for what the station says to that: the way may be back before.
    async fn part(&mut self, connection: Connection, end: &End, pin: &watch::Receiver<State>) {
        let lost_way = matches!(&*pin.borrow(), State::Down(_)) || self.pin.held().borrow().is_some();
        match end {
            End::Failed(..) | End::AttemptChanged => {}
            End::PinChanged => {
                let (unresolved, of_pin) = match &*pin.borrow() {
                    State::Down(unresolved) => (Arc::clone(unresolved), true),
                    _ => (Arc::new(changed_for(Reason::ConfigurationChanged)), false),
                };
                self.show_unresolved(&unresolved, of_pin);
            }
            End::Reset => self.show_unresolved(&changed_for(Reason::ManualReset), false),
            End::Stopped => info!(session = %self.id, "closing"),
            End::Replaced(_) => {
                info!(session = %self.id, "the station has connected anew, which ends the connection before");
            }
        }
        let retransmits = connection.retransmits();
        self.status.update(|shown| {
            shown.local = None;
            shown.retransmits += retransmits;
            shown.live_retransmits = 0;
        });
        match end {
            End::Failed(..) | End::AttemptChanged => {}
            End::PinChanged | End::Reset if lost_way => self.farewells.passing("farewell", connection.say_farewell()),
            // A station that was started again knows nothing of the old one and answers nothing there.
            End::Replaced(_) if self.farewells.len() < FAREWELLS => {
                self.farewells.passing("farewell", connection.say_farewell());
            }
            End::Replaced(_) => drop(connection),
            End::PinChanged | End::Reset | End::Stopped => connection.say_farewell().await,
        }
    }

    /// `initial-delay`, as it is configured by then. What keeps the session down otherwise is shown meanwhile. False when the session is to end.
    async fn wait_at_first(&mut self, pin: &mut watch::Receiver<State>) -> bool {
        let began = Instant::now();
        loop {
            self.config.mark_unchanged();
            let delay = self.configured().initial_delay;
            let left = delay.saturating_sub(began.elapsed());
            if left.is_zero() {
                return true;
            }
            let state = pin.borrow_and_update().clone();
            match state {
                State::Down(unresolved) => self.show_unresolved(&unresolved, true),
                State::Pending | State::Ready(_) => {
                    self.status.mended();
                    self.status.update(|shown| {
                        shown.phase = Phase::Down;
                        shown.retry_at = Some(began + delay);
                    });
                }
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                // Without a sender it stays as it is.
                Ok(()) = self.config.changed() => {}
                Ok(()) = pin.changed() => {}
                () = changed(&mut self.reset) => return true,
                () = stopped(&mut self.stop) => return false,
            }
        }
    }

    /// True when the session goes on, false when it is to end.
    async fn back_off(
        &mut self,
        refusal: Refusal,
        mend: Option<String>,
        pin: &mut watch::Receiver<State>,
        backoff: &mut Backoff,
    ) -> bool {
        let least = if self.lost { self.configured().flap_damping } else { Duration::ZERO };
        let delay = backoff.delay().max(least);
        let said = self.status.snapshot().reason == Some(refusal.reason);
        let line = format!("down: {}: {}; next attempt in {:.1} s", refusal.reason, refusal.why, delay.as_secs_f64());
        // The same again is no change of state.
        if said {
            debug!(session = %self.id, "{line}")
        } else {
            warn!(session = %self.id, "{line}")
        }
        let mut routes = self.pin.routes();
        let configured = self.configured();
        let no_route = refusal.reason == Reason::NoRoute;
        self.status.update(|shown| {
            shown.phase = Phase::Down;
            shown.for_reason(refusal.reason, refusal.why, mend);
            shown.retry_at = Some(Instant::now() + delay);
        });
        tokio::select! {
            () = tokio::time::sleep(delay) => true,
            // Whatever it was that changed, the next attempt need not wait.
            changed = pin.changed() => {
                backoff.reset();
                changed.is_ok()
            }
            () = way_lost(&self.pin) => {
                backoff.reset();
                true
            }
            () = attempted_otherwise(&mut self.config, &self.id, &configured) => {
                backoff.reset();
                true
            }
            Ok(()) = routes.changed(), if no_route => true,
            () = changed(&mut self.reset) => {
                backoff.reset();
                true
            }
            () = stopped(&mut self.stop) => false,
        }
    }

    /// A connection that the station made is over, and the session waits for the next.
    fn show_failed(&self, refusal: &Refusal, mend: Option<String>) {
        warn!(session = %self.id, "down: {}: {}; listening", refusal.reason, refusal.why);
        self.status.update(|shown| shown.for_reason(refusal.reason, refusal.why.clone(), mend));
    }

    /// Logged once for each change. `of_pin`: it is what keeps the pin from being in force.
    fn show_unresolved(&self, unresolved: &Unresolved, of_pin: bool) {
        let shown = self.status.snapshot();
        if shown.phase != Phase::Down || shown.why.as_ref() != Some(&unresolved.why) {
            warn!(session = %self.id, "down: {}: {}", unresolved.reason, unresolved.why);
        }
        self.status.update(|shown| {
            shown.phase = Phase::Down;
            shown.for_unresolved(unresolved, of_pin);
            shown.retry_at = None;
        });
    }

    fn denied(&self) -> u64 {
        let counters = self.pins.counters(&self.pin);
        counters.denied_interface + counters.denied_source + counters.denied_mark + counters.denied_no_pin
    }

    /// Silence has a better explanation where the kernel dropped the session's packets.
    fn failed(&self, refusal: Refusal, denied_before: u64, grant: &Grant) -> End {
        let denied = self.denied().saturating_sub(denied_before);
        let silent = matches!(refusal.reason, Reason::ConnectTimeout | Reason::KeepaliveTimeout);
        if !silent || denied == 0 {
            return End::Failed(refusal, None);
        }
        let why = format!("the kernel dropped {denied} packets that would have left elsewhere ({})", refusal.why);
        let mend = back_on_its_way(&grant.target, &grant.resolved);
        End::Failed(Refusal { reason: Reason::EgressDenied, why }, mend)
    }
}

/// Why a connection is closed that nothing was the matter with.
pub(super) fn changed_for(reason: Reason) -> Unresolved {
    let why = match reason {
        Reason::ManualReset => "an operator reset the session",
        _ => "what is in force for the session changed",
    };
    Unresolved { reason, why: why.to_owned(), mend: String::new() }
}

/// Returns when another pin than `grant` is in force.
async fn other_pin(pin: &mut watch::Receiver<State>, grant: &Arc<Grant>) {
    let same = |state: &State| matches!(state, State::Ready(now) if now.line == grant.line);
    // An error means that nobody decides about pins any more: the one in force stays.
    if pin.wait_for(|state| !same(state)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns when the session is held although its way is lost: no connection is opened by it then.
async fn way_lost(pin: &SessionPin) {
    // An error means that nobody decides about pins any more.
    if pin.held().wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns when the session's attempts are configured otherwise than in `before`: what is waited for, or tried, is not what is wanted any more.
async fn attempted_otherwise(config: &mut watch::Receiver<Arc<Config>>, id: &SessionId, before: &config::Session) {
    let of = |session: &config::Session| {
        let config::Session { password, mss, dscp, keepalive, connect_retry, flap_damping, .. } = session.clone();
        (password, mss, dscp, keepalive, connect_retry, flap_damping)
    };
    let before = of(before);
    let otherwise = |now: &Arc<Config>| now.bmp.sessions.get(id).is_some_and(|session| of(session) != before);
    // An error means that nothing is configured any more: it stays as it is.
    if config.wait_for(otherwise).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns when the station has connected anew.
async fn another(seat: Option<&mut Seat>) -> TcpStream {
    match seat {
        Some(seat) => seat.connected().await,
        None => std::future::pending().await,
    }
}

/// Returns when an operator resets the session.
pub(super) async fn changed(reset: &mut watch::Receiver<()>) {
    // An error means that nobody can any more.
    if reset.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns when the session is to end.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the owner is gone, which is an end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
