//! The task of a session that bmpd opens, or that its station opens.
//!
//! ```text
//!  delayed ─▶ unpinned ─┬─▶ connecting ─┬─▶ streaming ─┐
//!                ▲  ▲   └─▶ listening ──┘              │
//!                │  │         ▲ └──── station again ◀──┤
//!                │  └── backing off ◀── failed ◀───────┤
//!                └───────────────────── pin changed ◀──┘
//! ```
//!
//! The task is always in one [`Stage`]. It waits in one place ([`SessionTask::next`]) and acts on
//! each [`SessionWakeup`] in one other ([`SessionTask::act`]). A station that connects to this host
//! tries again by itself, so a listening session has nothing to back off from.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{net::TcpStream, select, sync::watch};
use tracing::{debug, info, warn};

use super::{
    DeviceIdentity,
    accepted::AcceptedConnection,
    backoff::Backoff,
    connect::{StationConnection, apply_settings, connect},
    context::{SessionContext, SessionMeans, reset_requested, stopped},
    down::{explain_silence, manual_reset, pin_replaced},
    label::SessionLabel,
    listen::{Listeners, StationListener},
    selection::selection,
    stage::{
        AttemptSettings, ListeningStage, RetryPause, SessionWakeup, Stage, StationAttempt, StationStreamEnd,
        StreamingStage, at, attempted, connected, failed,
    },
    status::{CauseOrigin, SessionPhase},
    stream::{StationStream, StreamContext},
};
use crate::{
    config::SessionConfig,
    feed::Feed,
    pin::{DownCause, Grant, ListenerState, PinState, PinView, Reason, Role, pin_changed},
    signing::{LOOK_EVERY, plan_of},
    sys,
    tasks::{Tasks, until_woken},
    tls::TlsProfiles,
};

/// How many connections may say farewell at once. A station that connects again and again thus
/// takes no more descriptors.
const FAREWELLS: usize = 8;

/// How long a connection has to last for the next failure to count as the first again.
const SUCCESS: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct SessionTask {
    context: SessionContext,
    label: SessionLabel,
    feed: Feed,
    identity: watch::Receiver<DeviceIdentity>,
    /// Where stations connect to this host.
    listeners: Listeners,
    tls: TlsProfiles,
    view: watch::Receiver<PinView>,
    /// The view that the task has acted on.
    known: PinView,
    backoff: Backoff,
    /// Connections that are being closed while the session goes on.
    farewells: Tasks,
    /// True if a connection ended last, and not an attempt to connect.
    has_lost_connection: bool,
}

impl SessionTask {
    pub(super) fn new(context: SessionContext, means: SessionMeans) -> Self {
        let SessionMeans { feed, identity, listeners, tls } = means;
        let view = context.pin.view();
        let known = view.borrow().clone();
        Self {
            label: context.label(),
            context,
            feed,
            identity,
            listeners,
            tls,
            view,
            known,
            backoff: Backoff::new(SessionConfig::CONNECT_RETRY),
            farewells: Tasks::default(),
            has_lost_connection: false,
        }
    }

    pub(super) async fn run(mut self) {
        let mut stage = Some(self.delay(Instant::now()));
        while let Some(mut now) = stage {
            let wakeup = self.next(&mut now).await;
            stage = self.act(now, wakeup).await;
        }
        self.context.status.update(|shown| {
            shown.phase = SessionPhase::Down;
            shown.local = None;
        });
        while self.farewells.join_next().await.is_some() {}
    }

    /// Waits for whatever comes next. Nothing is lost when the future is dropped.
    async fn next(&mut self, stage: &mut Stage) -> SessionWakeup {
        let due = stage.deadline();
        let follows_config = stage.follows_config();
        let awaits_route = matches!(stage, Stage::BackingOff(pause) if pause.awaits_route);
        let (attempt, listener, stream) = match stage {
            Stage::Connecting(attempt) => (Some(&mut attempt.connecting), None, None),
            Stage::Listening(listening) => (listening.opening.as_mut(), Some(&mut listening.listener), None),
            Stage::Streaming(streaming) => {
                (streaming.opening.as_mut(), streaming.listener.as_mut(), Some(&mut streaming.stream))
            }
            Stage::Delayed { .. } | Stage::Unpinned | Stage::BackingOff(_) => (None, None, None),
        };
        let Self { context, view, known, .. } = self;
        select! {
            () = stopped(&mut context.stop) => SessionWakeup::Stopped,
            () = reset_requested(&mut context.reset) => SessionWakeup::Reset,
            () = pin_changed(view, known, awaits_route) => SessionWakeup::PinChanged,
            // Without a sender the configuration stays as it is.
            Ok(()) = context.config.changed(), if follows_config => SessionWakeup::Configured,
            () = at(due) => SessionWakeup::Due,
            result = attempted(attempt) => SessionWakeup::Attempted(result),
            stream = connected(listener) => SessionWakeup::StationConnected(stream),
            cause = failed(stream) => SessionWakeup::StreamFailed(cause),
            never = until_woken() => match never {},
        }
    }

    /// Acts on a wakeup. Returns the next stage, or `None` when the session is to end.
    async fn act(&mut self, stage: Stage, wakeup: SessionWakeup) -> Option<Stage> {
        let before = match wakeup {
            SessionWakeup::PinChanged => {
                let now = self.view.borrow_and_update().clone();
                Some(mem::replace(&mut self.known, now))
            }
            _ => None,
        };
        Some(match (stage, wakeup) {
            (Stage::Streaming(streaming), wakeup) => return self.act_on_stream(streaming, wakeup).await,
            (Stage::Listening(listening), wakeup) => return self.act_on_listener(listening, wakeup).await,
            (_, SessionWakeup::Stopped) => return None,
            (Stage::Delayed { .. }, SessionWakeup::Due | SessionWakeup::Reset) => self.begin(),
            (Stage::Delayed { since, .. }, _) => self.delay(since),
            (Stage::Unpinned, SessionWakeup::PinChanged) => self.begin(),
            (Stage::Connecting(attempt), SessionWakeup::Attempted(Ok(opened))) => {
                let StationAttempt { grant, denied_before, .. } = attempt;
                self.stream(opened, grant, denied_before, None).await
            }
            (Stage::Connecting(attempt), SessionWakeup::Attempted(Err(cause))) => {
                self.has_lost_connection = false;
                let cause = self.explain(cause, attempt.denied_before, &attempt.grant);
                self.back_off(&cause)
            }
            (Stage::Connecting(attempt), SessionWakeup::PinChanged) if self.is_in_force(&attempt.grant) => {
                Stage::Connecting(attempt)
            }
            (Stage::Connecting(attempt), SessionWakeup::Configured) if !self.differs(&attempt.settings) => {
                Stage::Connecting(attempt)
            }
            (Stage::Connecting(_), _) => self.begin_anew(),
            (Stage::BackingOff(_), SessionWakeup::Due) => self.begin(),
            // A new route says nothing about the station: the next pause is longer all the same.
            (Stage::BackingOff(_), SessionWakeup::PinChanged)
                if before.is_some_and(|before| before.asks_the_same(&self.known)) =>
            {
                self.begin()
            }
            (Stage::BackingOff(pause), SessionWakeup::Configured) if !self.differs(&pause.settings) => {
                Stage::BackingOff(pause)
            }
            (Stage::BackingOff(_), _) => self.begin_anew(),
            (stage @ Stage::Unpinned, _) => stage,
        })
    }

    async fn act_on_listener(&mut self, listening: ListeningStage, wakeup: SessionWakeup) -> Option<Stage> {
        let ListeningStage { grant, denied_before, mut listener, look, opening } = listening;
        Some(match wakeup {
            SessionWakeup::Stopped => {
                self.context.pin.set_listener(ListenerState::Closed);
                return None;
            }
            SessionWakeup::StationConnected(stream) => match self.accepted(stream) {
                Ok(AcceptedConnection::Open(opened)) => self.stream(opened, grant, denied_before, Some(listener)).await,
                // An earlier one that is not done yet is given up: the station has connected anew.
                Ok(AcceptedConnection::Opening(opening)) => {
                    Stage::Listening(ListeningStage { grant, denied_before, listener, look, opening: Some(opening) })
                }
                Err(cause) => self.listen_after(&cause, grant, listener),
            },
            SessionWakeup::Attempted(Ok(opened)) => self.stream(opened, grant, denied_before, Some(listener)).await,
            SessionWakeup::Attempted(Err(cause)) => self.listen_after(&cause, grant, listener),
            SessionWakeup::PinChanged if !self.is_in_force(&grant) => self.close_listener(listener),
            SessionWakeup::PinChanged => {
                listener.follow(&self.known);
                Stage::Listening(ListeningStage { grant, denied_before, listener, look, opening })
            }
            SessionWakeup::Due | SessionWakeup::Configured => {
                self.look_at_keys(ListeningStage { grant, denied_before, listener, look, opening })
            }
            // Without a connection there is nothing to reset.
            _ => Stage::Listening(ListeningStage { grant, denied_before, listener, look, opening }),
        })
    }

    async fn act_on_stream(&mut self, mut streaming: Box<StreamingStage>, wakeup: SessionWakeup) -> Option<Stage> {
        let end = match wakeup {
            SessionWakeup::Stopped => StationStreamEnd::Stopped,
            SessionWakeup::Reset => StationStreamEnd::Reset,
            SessionWakeup::PinChanged if !self.known.continues(&streaming.grant) => StationStreamEnd::PinChanged,
            SessionWakeup::PinChanged => {
                if let Some(listener) = &mut streaming.listener {
                    listener.follow(&self.known);
                }
                return Some(Stage::Streaming(streaming));
            }
            SessionWakeup::StreamFailed(cause) => {
                StationStreamEnd::Failed(self.explain(cause, streaming.denied_before, &streaming.grant))
            }
            SessionWakeup::StationConnected(stream) => match self.accepted(stream) {
                Ok(AcceptedConnection::Open(opened)) => StationStreamEnd::Replaced(opened),
                // The connection that is up stays until the other has proved whose it is.
                Ok(AcceptedConnection::Opening(opening)) => {
                    streaming.opening = Some(opening);
                    return Some(Stage::Streaming(streaming));
                }
                Err(cause) => {
                    self.warn_of_closed(&cause);
                    return Some(Stage::Streaming(streaming));
                }
            },
            SessionWakeup::Attempted(Ok(opened)) => StationStreamEnd::Replaced(opened),
            SessionWakeup::Attempted(Err(cause)) => {
                streaming.opening = None;
                self.warn_of_closed(&cause);
                return Some(Stage::Streaming(streaming));
            }
            SessionWakeup::Configured | SessionWakeup::Due => return Some(Stage::Streaming(streaming)),
        };
        let StreamingStage { grant, stream, since, listener, .. } = *streaming;
        self.part(stream, &end).await;
        self.has_lost_connection = true;
        match listener {
            None => self.after_own_connection(end, since),
            Some(listener) => self.after_station_connection(end, grant, listener).await,
        }
    }

    /// What follows when a connection is over that bmpd opened.
    fn after_own_connection(&mut self, end: StationStreamEnd, since: Instant) -> Option<Stage> {
        if since.elapsed() >= SUCCESS {
            self.backoff.reset();
        }
        match end {
            StationStreamEnd::Stopped => None,
            StationStreamEnd::Failed(cause) => Some(self.back_off(&cause)),
            StationStreamEnd::Reset | StationStreamEnd::PinChanged | StationStreamEnd::Replaced(_) => {
                Some(self.begin_anew())
            }
        }
    }

    /// What follows when a connection is over that the station opened.
    async fn after_station_connection(
        &mut self,
        end: StationStreamEnd,
        grant: Arc<Grant>,
        listener: StationListener,
    ) -> Option<Stage> {
        match end {
            StationStreamEnd::Stopped => {
                self.context.pin.set_listener(ListenerState::Closed);
                None
            }
            StationStreamEnd::PinChanged => Some(self.close_listener(listener)),
            StationStreamEnd::Replaced(opened) => {
                let ListeningStage { grant, denied_before, listener, .. } = self.listening(grant, listener);
                Some(self.stream(opened, grant, denied_before, Some(listener)).await)
            }
            StationStreamEnd::Failed(cause) => {
                warn!(session = %self.label, reason = %cause.reason, "down: {}: {}; listening", cause.reason, cause.why);
                self.context.status.update(|shown| shown.set_cause(&cause, CauseOrigin::Connection));
                Some(Stage::Listening(self.listening(grant, listener)))
            }
            // The station was told, and may come back at once.
            StationStreamEnd::Reset => Some(Stage::Listening(self.listening(grant, listener))),
        }
    }

    /// Waits for the rest of `initial-delay`, as it is configured now. A session that is down for
    /// another cause shows that meanwhile.
    fn delay(&mut self, since: Instant) -> Stage {
        let until = since + self.context.configured().initial_delay;
        if until <= Instant::now() {
            return self.begin();
        }
        self.known.clone_from(&self.view.borrow_and_update());
        match &self.known.state {
            PinState::Down(cause) => self.context.show_down(cause, CauseOrigin::Pin),
            PinState::Pending | PinState::Ready(_) => {
                self.context.status.clear_pin_cause();
                self.context.status.update(|shown| {
                    shown.phase = SessionPhase::Down;
                    shown.retry_at = Some(until);
                });
            }
        }
        Stage::Delayed { since, until }
    }

    /// Begins without regard to earlier failures: something else is in force than when they
    /// happened.
    fn begin_anew(&mut self) -> Stage {
        self.backoff.reset();
        self.begin()
    }

    /// Connects or listens, as soon as the pin is ready.
    fn begin(&mut self) -> Stage {
        self.known.clone_from(&self.view.borrow_and_update());
        let SessionContext { pin, status, .. } = &self.context;
        match &self.known.state {
            // No connection is left to hold, and none is opened by a way that is lost. Those of
            // other routers may be up.
            PinState::Ready(_) if self.known.hold_down.is_some() => {
                if self.label.router.is_none() {
                    pin.end_hold_down();
                }
            }
            PinState::Ready(grant) => {
                let grant = Arc::clone(grant);
                status.clear_pin_cause();
                status.begin_attempt(grant.line);
                // The way is there again: do not wait for what earlier connections still have to
                // say.
                self.farewells.abort_all();
                return match grant.target.role {
                    Role::Connect => self.connect(grant),
                    Role::Listen => self.listen(grant),
                };
            }
            PinState::Pending => status.update(|shown| shown.phase = SessionPhase::Resolving),
            PinState::Down(cause) => self.context.show_down(cause, CauseOrigin::Pin),
        }
        Stage::Unpinned
    }

    fn connect(&mut self, grant: Arc<Grant>) -> Stage {
        self.context.status.update(|shown| {
            shown.phase = SessionPhase::Connecting;
            shown.retry_at = None;
        });
        let configured = self.context.configured();
        self.backoff.within(configured.retry_waits());
        // A reset from before has nothing left to do.
        self.context.reset.mark_unchanged();
        let config = self.context.whole_config();
        let (settings, denied_before) = (AttemptSettings::of(&configured, &config), self.denied());
        let (datapath, to, tls) = (self.context.pins.datapath().clone(), Arc::clone(&grant), self.tls.clone());
        let steps = self.context.steps();
        let header = configured.proxy_protocol.then(|| self.context.proxy_header());
        let connecting =
            Box::pin(async move { connect(&to, &datapath, (&configured, header), &config, &tls, &steps).await });
        Stage::Connecting(StationAttempt { grant, settings, denied_before, connecting })
    }

    fn listen(&mut self, grant: Arc<Grant>) -> Stage {
        let context = &self.context;
        let listener = match self.listeners.open(&context.id, &grant, context.pins.datapath()) {
            Ok(listener) => listener,
            Err(cause) => {
                context.pin.set_listener(ListenerState::Closed);
                return self.back_off(&cause);
            }
        };
        // From now on the guard keeps strangers away and lets the station in.
        context.pin.set_listener(ListenerState::Open(Arc::clone(&grant)));
        context.steps().log(|| format!("waits for the station on {listener}"));
        info!(session = %self.label, "listening on {listener} for {}", context.id.station);
        Stage::Listening(self.listening(grant, listener))
    }

    fn listening(&mut self, grant: Arc<Grant>, listener: StationListener) -> ListeningStage {
        self.context.status.update(|shown| {
            shown.phase = SessionPhase::Listening;
            shown.retry_at = None;
        });
        let look = self.context.configured().keychain.map(|_| Instant::now() + LOOK_EVERY);
        ListeningStage { grant, denied_before: self.denied(), listener, look, opening: None }
    }

    /// Goes on listening while the key chain of the session can sign, and closes the listener
    /// otherwise: it would take connections that nobody has signed.
    fn look_at_keys(&mut self, listening: ListeningStage) -> Stage {
        let ListeningStage { listener, .. } = &listening;
        let (config, chain) = (self.context.whole_config(), self.context.configured().keychain);
        match chain.map(|chain| plan_of(&chain, &config)).transpose() {
            Ok(plan) => {
                let look = plan.map(|_| Instant::now() + LOOK_EVERY);
                let report = listener.key_report().filter(|_| look.is_some());
                self.context.status.update(|shown| shown.keys = report);
                Stage::Listening(ListeningStage { look, ..listening })
            }
            Err(error) => {
                self.context.pin.set_listener(ListenerState::Closed);
                drop(listening);
                self.back_off(&error.cause())
            }
        }
    }

    fn close_listener(&mut self, listener: StationListener) -> Stage {
        self.context.pin.set_listener(ListenerState::Closed);
        drop(listener);
        self.begin_anew()
    }

    /// Takes a connection that the station opened, as [`AcceptedConnection::new`] does.
    fn accepted(&mut self, stream: TcpStream) -> Result<AcceptedConnection, DownCause> {
        let (config, session) = (self.context.whole_config(), self.context.configured());
        self.context.steps().accepted(&stream);
        AcceptedConnection::new(stream, &self.context.id, session, config, self.tls.clone())
    }

    fn warn_of_closed(&self, cause: &DownCause) {
        let DownCause { reason, why, .. } = cause;
        warn!(session = %self.label, %reason, "closed a connection of the station: {why}");
    }

    /// Goes on listening after a connection of the station that was refused.
    fn listen_after(&mut self, cause: &DownCause, grant: Arc<Grant>, listener: StationListener) -> Stage {
        self.warn_of_closed(cause);
        self.context.status.update(|shown| shown.set_cause(cause, CauseOrigin::Connection));
        Stage::Listening(self.listening(grant, listener))
    }

    /// Begins to tell the station what is in force. With a `listener` the station opened the
    /// connection.
    async fn stream(
        &mut self,
        StationConnection { transport, keys }: StationConnection,
        grant: Arc<Grant>,
        denied_before: u64,
        listener: Option<StationListener>,
    ) -> Stage {
        let socket = transport.socket();
        let (local, peer) = (socket.local_addr().ok(), socket.peer_addr().unwrap_or(grant.target.station));
        let configured = self.context.configured();
        match local {
            Some(local) => {
                let (interface, source) = (grant.resolved.interface_names(), local.ip());
                info!(session = %self.label, station = %peer, interface, source = %source, "up from {local} to {peer}");
            }
            None => info!(session = %self.label, station = %peer, "up to {peer}"),
        }
        self.context.steps().log(|| format!("established: Initiation and the state follow, to {peer}"));
        self.context.show_up(&grant, local, |shown| {
            shown.phase = SessionPhase::Dumping;
            shown.established += 1;
            shown.tls = transport.tls_report().cloned();
        });
        if listener.is_some() {
            self.unbind(socket, &grant).await;
            if let Err(error) = apply_settings(&SockRef::from(socket), &configured) {
                warn!(session = %self.label, "cannot set keepalive, mss and dscp of the connection: {error}");
            }
        }
        let SessionContext { id, config, status, .. } = &self.context;
        let (label, status) = (self.label.clone(), Arc::clone(status));
        let context = StreamContext { id: id.clone(), label, config: config.clone(), status };
        let router = self.label.router.as_ref();
        let selection = selection(&self.context.whole_config(), &configured, router, &self.feed);
        let follower = self.feed.attach(selection);
        let stream =
            StationStream::new(context, StationConnection { transport, keys }, follower, &self.identity.borrow());
        let since = Instant::now();
        Stage::Streaming(Box::new(StreamingStage { grant, stream, since, denied_before, listener, opening: None }))
    }

    /// Unbinds a connection from the interface that the station came by, where the session may
    /// leave by others too. It goes by the routing tables from now on, as if bmpd had opened it,
    /// unless they lead where it may not leave.
    async fn unbind(&self, stream: &TcpStream, grant: &Grant) {
        let Grant { target, resolved, .. } = grant;
        let has_own_device = resolved.device.as_ref().is_some_and(|device| device.index != target.vrf);
        let is_bound = resolved.egress.is_empty() || has_own_device;
        if is_bound || self.context.foreign.led_astray(&self.context.pinned(), resolved).await.is_some() {
            return;
        }
        if let Err(error) = sys::bind_to_interface(stream, target.vrf) {
            debug!(session = %self.label, "the connection stays bound to the interface that it came by: {error}");
        }
    }

    /// Shows the session down and closes the connection, with a Termination message.
    ///
    /// A session that has lost its way does not wait for the farewell: the way may be back before.
    async fn part(&mut self, stream: StationStream, end: &StationStreamEnd) {
        let view = self.view.borrow().clone();
        let has_lost_way = matches!(view.state, PinState::Down(_)) || view.hold_down.is_some();
        let status = &self.context.status;
        match end {
            StationStreamEnd::Failed(_) => {}
            StationStreamEnd::PinChanged => match &view.state {
                PinState::Down(cause) => self.context.show_down(cause, CauseOrigin::Pin),
                _ => self.context.show_down(&pin_replaced(), CauseOrigin::Connection),
            },
            StationStreamEnd::Reset => self.context.show_down(&manual_reset(), CauseOrigin::Connection),
            StationStreamEnd::Stopped => info!(session = %self.label, "closing"),
            StationStreamEnd::Replaced(_) => {
                info!(session = %self.label, "the station has connected anew, which ends the connection before");
            }
        }
        self.context.steps().log(|| format!("the connection is closed: {}", end.in_words()));
        let retransmits = stream.retransmits();
        status.update(|shown| {
            shown.local = None;
            shown.keys = None;
            shown.tls = None;
            shown.retransmits += retransmits;
            shown.live_retransmits = 0;
        });
        match end {
            StationStreamEnd::Failed(_) => {}
            StationStreamEnd::PinChanged | StationStreamEnd::Reset if has_lost_way => {
                self.farewells.passing("farewell", stream.say_farewell());
            }
            // A station that was started again does not know the old connection and answers
            // nothing.
            StationStreamEnd::Replaced(_) if self.farewells.len() < FAREWELLS => {
                self.farewells.passing("farewell", stream.say_farewell());
            }
            StationStreamEnd::Replaced(_) => drop(stream),
            StationStreamEnd::PinChanged | StationStreamEnd::Reset | StationStreamEnd::Stopped => {
                stream.say_farewell().await
            }
        }
    }

    /// Waits before the next attempt.
    fn back_off(&mut self, cause: &DownCause) -> Stage {
        let configured = self.context.configured();
        let least = if self.has_lost_connection { configured.flap_damping } else { Duration::ZERO };
        let delay = self.backoff.delay().max(least);
        let status = &self.context.status;
        let line = format!("down: {}: {}; next attempt in {:.1} s", cause.reason, cause.why, delay.as_secs_f64());
        self.context.steps().log(|| line.clone());
        // The same reason again is no change of state.
        if status.snapshot().reason == Some(cause.reason) {
            debug!(session = %self.label, reason = %cause.reason, "{line}");
        } else {
            warn!(session = %self.label, reason = %cause.reason, "{line}");
        }
        let until = Instant::now() + delay;
        status.update(|shown| {
            shown.phase = SessionPhase::Down;
            shown.set_cause(cause, CauseOrigin::Connection);
            shown.retry_at = Some(until);
        });
        self.known.routes_epoch = self.view.borrow().routes_epoch;
        let awaits_route = cause.reason == Reason::NoRoute;
        let settings = AttemptSettings::of(&configured, &self.context.whole_config());
        Stage::BackingOff(RetryPause { until, settings, awaits_route })
    }

    /// True if a session may open a connection under this grant.
    fn is_in_force(&self, grant: &Grant) -> bool {
        self.known.continues(grant) && self.known.hold_down.is_none()
    }

    /// True if attempts are configured otherwise now.
    fn differs(&mut self, settings: &AttemptSettings) -> bool {
        let config = self.context.config.borrow_and_update();
        let session = config.bmp.sessions.get(&self.context.id);
        session.is_some_and(|session| AttemptSettings::of(session, &config) != *settings)
    }

    /// Returns how many packets the kernel has denied.
    fn denied(&self) -> u64 {
        let counters = self.context.counters();
        counters.denied_interface + counters.denied_source + counters.denied_mark + counters.denied_no_pin
    }

    /// Looks for a better explanation of a failure.
    fn explain(&self, cause: DownCause, denied_before: u64, grant: &Grant) -> DownCause {
        explain_silence(cause, self.denied().saturating_sub(denied_before), grant)
    }
}
