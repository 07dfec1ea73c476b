//! The task of one peer. It drives the two machines with connections and timers, and feeds the
//! routes.

mod limit;
mod reading;

use std::{future::pending, io, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    select,
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use limit::LimitedPeer;

use super::{
    connection::{BgpConnection, BgpSocket, ConnectionEnds, notification_of, refuse},
    dial::PeerTarget,
    fsm::{
        Admission, BgpState, COLLISION, ConnectionStep, FsmAction, FsmEvent, FsmSettings, IdleHoldTime, Initiator,
        MachinePair, NegotiatedTimers, OutgoingNotification, SessionEnd,
    },
    open::LocalSpeaker,
    peer_feed::PeerFeed,
    reason::BgpDownReason,
    status::{EstablishedSession, PeerStatusHandle},
};
use crate::{
    config::MaximumRoutes,
    feed::{Feed, MemoryExcess, MemoryStanding},
    input::budget::{ClosingCause, RouteBudget, ordered},
    pin, tasks,
    wire::bgp::{Frame, MessageType, Notification, notification::cease},
};

/// The settings of a peer's session. Equal settings mean the same session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerPlan {
    pub(super) target: PeerTarget,
    /// The AS number of the peer.
    pub(super) asn: u32,
    pub(super) local: LocalSpeaker,
    /// The interval of KEEPALIVEs.
    pub(super) keepalive: Duration,
    /// True if this device opens connections to the peer.
    pub(super) connects: bool,
}

/// How long an attempt to connect may take.
const CONNECT_RETRY: Duration = Duration::from_secs(20);
/// How long a failed peer is left alone.
const IDLE_HOLD: IdleHoldTime = IdleHoldTime { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// How long a peer may read nothing before its session ends (RFC 9687 §4: 8 minutes, or twice the
/// hold time if that is longer).
const SEND_HOLD: Duration = Duration::from_secs(480);

/// A command to a peer's task.
#[derive(Debug)]
pub(super) enum PeerCommand {
    /// The peer has opened this connection.
    Incoming(BgpSocket),
    /// Whether the peer may connect from now on. A connection that it opened before is closed,
    /// because port or pin changed.
    Listens(bool),
    /// Close the session with this Cease and end.
    Stop(OutgoingNotification),
}

/// A pending attempt to connect.
pub(super) type ConnectAttempt = Pin<Box<dyn Future<Output = io::Result<BgpSocket>> + Send>>;
/// Starts an attempt to connect to the peer.
pub(super) type Dial = Arc<dyn Fn() -> ConnectAttempt + Send + Sync>;

/// The task of one peer; see the module.
pub(super) struct PeerTask {
    plan: PeerPlan,
    dial: Dial,
    pair: MachinePair,
    connections: [Option<BgpConnection>; 2],
    attempt: Option<ConnectAttempt>,
    /// A connection of the peer that waits until it can be taken.
    parked: Option<BgpSocket>,
    peer_feed: PeerFeed,
    status: PeerStatusHandle,
    sent_open: Bytes,
    watches: PeerWatches,
    resets: watch::Receiver<u64>,
    budget: RouteBudget,
    /// Why the last session was closed, while the peer is not spoken to.
    limited: Option<LimitedPeer>,
    /// Where the feed wants the session closed.
    orders: watch::Receiver<Option<MemoryExcess>>,
    reported: Instant,
    /// When the last report was kept for the stations that get them at times of their own.
    kept_report: Instant,
    /// The failure that was logged last. A repeated failure is not logged again.
    logged_failure: Option<String>,
}

/// Settings that change while a session stays.
#[derive(Clone, Debug)]
pub(super) struct PeerWatches {
    /// The interval of Statistics Reports. Zero disables them.
    pub(super) statistics: watch::Receiver<Duration>,
    /// The interval of reports for the stations that get them at times of their own. Zero if there
    /// are none.
    pub(super) kept_statistics: watch::Receiver<Duration>,
    /// `maximum-routes`.
    pub(super) limit: watch::Receiver<Option<MaximumRoutes>>,
    /// `memory-limit`, and how near it is.
    pub(super) memory: watch::Receiver<MemoryStanding>,
}

/// Why the task woke up.
enum PeerWakeup {
    Read(Initiator, io::Result<usize>),
    Attempted(io::Result<BgpSocket>),
    Due,
    Statistics,
    KeptStatistics,
    /// `maximum-routes` or `memory-limit` may be another.
    Limit,
    /// The feed takes too much memory, and this peer has grown most.
    Memory(ClosingCause),
    /// An operator resets the peer.
    Reset,
    Commanded(Option<PeerCommand>),
}

impl PeerTask {
    /// Creates a task. The peer may connect if `listens`. `sent_open` is the OPEN that `plan` leads
    /// to.
    pub(super) fn new(
        plan: PeerPlan,
        listens: bool,
        sent_open: Bytes,
        dial: Dial,
        feed: &Feed,
        status: PeerStatusHandle,
        mut watches: PeerWatches,
    ) -> Self {
        let settings = FsmSettings {
            passive: false,
            hold: Duration::from_secs(plan.local.hold.into()),
            keepalive: plan.keepalive,
            connect_retry: CONNECT_RETRY,
            idle_hold: IDLE_HOLD,
        };
        let pair = MachinePair::new(settings, plan.connects, listens, fastrand::u64(..));
        let peer_feed = PeerFeed::new(feed, plan.target.address, plan.asn, plan.local.asn);
        let (resets, mut budget) = (status.resets(), RouteBudget::default());
        budget.set(*watches.limit.borrow_and_update());
        let orders = peer_feed.orders_to_close();
        Self {
            plan,
            dial,
            pair,
            connections: [None, None],
            attempt: None,
            parked: None,
            peer_feed,
            status,
            sent_open,
            watches,
            resets,
            budget,
            limited: None,
            orders,
            reported: Instant::now(),
            kept_report: Instant::now(),
            logged_failure: None,
        }
    }

    /// Runs until a command stops the task, or until the sender of commands is gone.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<PeerCommand>) {
        let steps = self.pair.start(now());
        self.perform(steps);
        loop {
            self.show();
            match self.next(&mut commands).await {
                PeerWakeup::Read(initiator, read) => self.read(initiator, read),
                PeerWakeup::Attempted(Ok(link)) => self.open(Initiator::Local, link),
                PeerWakeup::Attempted(Err(error)) => {
                    let why = format!("cannot connect to {}: {error}", self.plan.target);
                    self.fail(BgpDownReason::of_connect(&error), why);
                    self.handle(Initiator::Local, FsmEvent::TcpConnectionFails);
                }
                PeerWakeup::Due => self.due(),
                PeerWakeup::Statistics => {
                    self.reported = Instant::now();
                    self.peer_feed.report(*self.watches.limit.borrow());
                }
                PeerWakeup::KeptStatistics => {
                    self.kept_report = Instant::now();
                    self.peer_feed.keep_report(*self.watches.limit.borrow());
                }
                PeerWakeup::Limit => self.follow_limit(),
                PeerWakeup::Memory(cause) => self.free_memory(cause),
                PeerWakeup::Reset => self.reset(),
                PeerWakeup::Commanded(Some(PeerCommand::Incoming(link))) => self.incoming(link),
                PeerWakeup::Commanded(Some(PeerCommand::Listens(listens))) => {
                    self.parked = None;
                    let steps =
                        self.pair.listen(now(), listens, &OutgoingNotification::cease(cease::CONFIGURATION_CHANGE));
                    self.perform(steps);
                }
                PeerWakeup::Commanded(Some(PeerCommand::Stop(notice))) => return self.stop(&notice),
                PeerWakeup::Commanded(None) => return self.stop(&OutgoingNotification::cease(cease::SHUTDOWN)),
            }
            if self.pair.accepts()
                && let Some(link) = self.parked.take()
            {
                self.open(Initiator::Peer, link);
            }
        }
    }

    async fn next(&mut self, commands: &mut mpsc::Receiver<PeerCommand>) -> PeerWakeup {
        let due = self.deadline();
        let interval = *self.watches.statistics.borrow_and_update();
        let report = (self.peer_feed.is_up() && !interval.is_zero()).then(|| self.reported + interval);
        let interval = *self.watches.kept_statistics.borrow_and_update();
        let kept_report = (self.peer_feed.is_up() && !interval.is_zero()).then(|| self.kept_report + interval);
        let Self { connections: [out, incoming], attempt, watches, resets, orders, .. } = self;
        select! {
            read = turn(out) => PeerWakeup::Read(Initiator::Local, read),
            read = turn(incoming) => PeerWakeup::Read(Initiator::Peer, read),
            link = attempted(attempt) => PeerWakeup::Attempted(link),
            () = at(due) => PeerWakeup::Due,
            () = at(report) => PeerWakeup::Statistics,
            () = at(kept_report) => PeerWakeup::KeptStatistics,
            command = commands.recv() => PeerWakeup::Commanded(command),
            // Computes the deadline again with the new interval. A closed channel disables this
            // branch.
            Ok(()) = watches.statistics.changed() => PeerWakeup::Due,
            Ok(()) = watches.kept_statistics.changed() => PeerWakeup::Due,
            Ok(()) = watches.limit.changed() => PeerWakeup::Limit,
            Ok(()) = watches.memory.changed() => PeerWakeup::Limit,
            cause = ordered(orders) => PeerWakeup::Memory(cause),
            Ok(()) = resets.changed() => PeerWakeup::Reset,
            never = tasks::until_woken() => match never {},
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let stuck = self.connections.iter().flatten().filter_map(BgpConnection::stuck_since);
        let own = self.pair.deadline().into_iter().chain(self.peer_feed.deadline()).map(Instant::from_std);
        own.chain(stuck.map(|since| since + self.send_hold())).min()
    }

    fn send_hold(&self) -> Duration {
        SEND_HOLD.max(2 * Duration::from_secs(self.plan.local.hold.into()))
    }

    fn due(&mut self) {
        self.wait_for_memory();
        let trying = self.attempt.is_some();
        let steps = self.pair.expire(now());
        if trying && steps.iter().any(|step| step.action == FsmAction::Connect) {
            let why = format!("{} did not answer{}", self.plan.target, self.plan.target.hint());
            self.fail(pin::Reason::ConnectTimeout.into(), why);
        }
        self.perform(steps);
        for initiator in Initiator::ALL {
            let stuck = self.connections[initiator as usize].as_ref().and_then(BgpConnection::stuck_since);
            if stuck.is_some_and(|since| since.elapsed() >= self.send_hold()) {
                self.handle(initiator, FsmEvent::SendHoldTimerExpires);
            }
        }
        self.peer_feed.expire(now());
    }

    /// Starts to use an open connection.
    fn open(&mut self, initiator: Initiator, link: BgpSocket) {
        self.connections[initiator as usize] = Some(BgpConnection::new(link));
        self.handle(
            initiator,
            if initiator == Initiator::Local { FsmEvent::TcpCrAcked } else { FsmEvent::TcpConnectionConfirmed },
        );
    }

    /// Handles a connection that the peer has opened.
    fn incoming(&mut self, link: BgpSocket) {
        if let Some(cause) = self.limited_by() {
            debug!(peer = %self.plan.target.address, "refused a connection: {}", cause.as_str());
            return refuse(link, &OutgoingNotification::cease(cease::REJECTED));
        }
        let (admission, steps) = self.pair.incoming(now(), self.peer_feed.restarts());
        self.perform(steps);
        match admission {
            Admission::Taken => self.open(Initiator::Peer, link),
            // Replaces an earlier waiting connection, which the peer has abandoned.
            Admission::Parked => self.parked = Some(link),
            Admission::Refused => {
                debug!(peer = %self.plan.target.address, "refused a second connection: the session stays");
                refuse(link, &COLLISION);
            }
        }
    }

    fn handle(&mut self, initiator: Initiator, event: FsmEvent) {
        let steps = self.pair.on(now(), initiator, event);
        self.perform(steps);
    }

    fn perform(&mut self, steps: Vec<ConnectionStep>) {
        for ConnectionStep { initiator, action } in steps {
            match action {
                FsmAction::Connect => self.attempt = Some((self.dial)()),
                FsmAction::SendOpen => {
                    let open = self.sent_open.clone();
                    self.send(initiator, MessageType::Open, |connection| connection.send(&open));
                }
                FsmAction::SendKeepalive => self.send(initiator, MessageType::Keepalive, BgpConnection::send_keepalive),
                FsmAction::SendNotification(notice) => {
                    let message = notification_of(&notice);
                    self.send(initiator, MessageType::Notification, |connection| connection.send(&message));
                }
                // A connection is closed together with its machine's `Down`, or at the end of this
                // function.
                FsmAction::Close if initiator == Initiator::Local => self.attempt = None,
                FsmAction::Close => {}
                FsmAction::Up => self.up(initiator),
                FsmAction::Down(end) => self.down(initiator, &end),
            }
        }
        // A machine below OpenSent has no connection: this one lost a collision.
        for initiator in Initiator::ALL {
            if self.pair.machine(initiator).state() < BgpState::OpenSent
                && let Some(connection) = self.connections[initiator as usize].take()
            {
                connection.close();
            }
        }
    }

    fn send(&mut self, initiator: Initiator, message: MessageType, send: impl FnOnce(&mut BgpConnection)) {
        if let Some(connection) = &mut self.connections[initiator as usize] {
            send(connection);
            self.status.sent(message);
        }
    }

    fn up(&mut self, initiator: Initiator) {
        let Some(connection) = &self.connections[initiator as usize] else { return };
        let Some(peer) = &connection.remote else { return };
        let ends @ ConnectionEnds { local, remote } = connection.ends();
        self.peer_feed.up(peer, &self.sent_open, ends, now());
        let end_of_ribs = peer.negotiated.end_of_ribs();
        info!(peer = %self.plan.target.address, asn = self.plan.asn, %local, %remote, "BGP session established");
        let NegotiatedTimers { hold, keepalive } = self.pair.machine(initiator).negotiated();
        let session = EstablishedSession {
            hold,
            keepalive,
            bgp_id: peer.bgp_id,
            capabilities: peer.capabilities.clone(),
            families: peer.negotiated.families.iter().map(|routes| routes.family).collect(),
            local,
            remote,
        };
        self.logged_failure = None;
        self.budget.begin();
        self.reported = Instant::now();
        self.status.change(|now| now.establish(session));
        for end_of_rib in &end_of_ribs {
            self.send(initiator, MessageType::Update, |connection| connection.send(end_of_rib));
        }
    }

    fn down(&mut self, initiator: Initiator, end: &SessionEnd) {
        match (&end.event, &end.sent) {
            (FsmEvent::HoldTimerExpires, _) => {
                self.fail(BgpDownReason::HoldTimerExpired, "the peer sent nothing within the hold time".to_owned());
            }
            // The failure was reported when the message was read, or the routes were counted.
            (
                FsmEvent::BgpHeaderErr(_)
                | FsmEvent::BgpOpenMsgErr(_)
                | FsmEvent::UpdateMsgErr(_)
                | FsmEvent::AutomaticStop(..),
                _,
            )
            | (_, None) => {}
            (_, Some(notice)) => {
                let message = notification_of(notice);
                if let Ok(sent) = Frame::parse(&message).and_then(|frame| Notification::parse(&frame)) {
                    self.fail(BgpDownReason::NotificationSent, format!("closed with a NOTIFICATION: {sent}"));
                }
            }
        }
        let connection = self.connections[initiator as usize].take();
        if end.state == BgpState::Established {
            let received = connection.as_ref().and_then(|connection| connection.notification.clone());
            let lost = connection.as_ref().and_then(|connection| connection.lost);
            self.peer_feed.down(end, received.as_deref(), lost, now());
            self.status.change(|now| now.session = None);
            info!(peer = %self.plan.target.address, "BGP session down");
        }
        if let Some(connection) = connection {
            connection.close();
        }
    }

    /// Reports a failure in the log and in the status.
    fn fail(&mut self, reason: BgpDownReason, why: String) {
        if self.logged_failure.as_ref() != Some(&why) {
            warn!(peer = %self.plan.target.address, "{why}");
            self.logged_failure = Some(why.clone());
        }
        self.status.change(|now| now.fail(reason, why));
    }

    fn show(&self) {
        let state = self.pair.state();
        let (retry_at, restart_until) = (self.pair.idle_until(), self.peer_feed.restart_until());
        let (stale, counters) = (self.peer_feed.stale(), self.peer_feed.counters());
        self.status.change(|now| {
            if (now.state == BgpState::Established) != (state == BgpState::Established) {
                now.since = std::time::Instant::now();
            }
            now.state = state;
            now.retry_at = retry_at.filter(|_| state == BgpState::Idle);
            now.restart_until = restart_until;
            now.stale = stale;
            now.counters = counters;
        });
    }

    fn stop(mut self, notice: &OutgoingNotification) {
        let steps = self.pair.stop(now(), notice);
        self.perform(steps);
        self.show();
        self.peer_feed.end(notice);
        self.status.change(|now| (now.restart_until, now.stale) = (None, 0));
    }
}

/// Returns the current time, which tests may advance.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn turn(connection: &mut Option<BgpConnection>) -> io::Result<usize> {
    match connection {
        Some(connection) => connection.turn().await,
        None => pending().await,
    }
}

async fn attempted(attempt: &mut Option<ConnectAttempt>) -> io::Result<BgpSocket> {
    let Some(running) = attempt else { return pending().await };
    let result = running.await;
    *attempt = None;
    result
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
