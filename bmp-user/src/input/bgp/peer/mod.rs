//! The task of one peer: connections, timers and the feed around its machines.

mod reading;

use std::{future::pending, io, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    select,
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    Reason,
    connection::{Connection, Link, notification_of, refuse},
    dial::Target,
    fsm::{Action, Admission, COLLISION, End, Event, Notice, Pair, Settings, State, Step, Way},
    life::Life,
    open::Local,
    status::{Handle, Session},
};
use crate::{
    feed::Feed,
    pin,
    wire::bgp::{Frame, MessageType, Notification, notification::cease},
};

/// What a peer is and how it is spoken to. Two that are equal are the same session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) target: Target,
    /// Its AS number.
    pub(super) asn: u32,
    pub(super) local: Local,
    /// Between KEEPALIVEs.
    pub(super) keepalive: Duration,
    /// Whether it is connected to.
    pub(super) connects: bool,
}

/// How long an attempt to connect may take.
const CONNECT_RETRY: Duration = Duration::from_secs(20);
/// How long a peer that failed is left alone: at first, and at most.
const IDLE_HOLD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a peer may take nothing before it is given up (RFC 9687 §4: 8 minutes, or twice the hold time if that is more).
const SEND_HOLD: Duration = Duration::from_secs(480);

/// What a peer's task is told.
#[derive(Debug)]
pub(super) enum Command {
    /// The peer has connected.
    Incoming(Link),
    /// Whether the peer may connect from now on, elsewhere than before or to another port: a connection that it opened before is closed.
    Listens(bool),
    /// The session is to be closed, with this Cease.
    Stop(Notice),
}

/// An attempt to connect.
pub(super) type Attempt = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;
/// Opens connections to the peer.
pub(super) type Dial = Arc<dyn Fn() -> Attempt + Send + Sync>;

/// See the module.
pub(super) struct Task {
    plan: Plan,
    dial: Dial,
    pair: Pair,
    connections: [Option<Connection>; 2],
    attempt: Option<Attempt>,
    /// A connection of the peer that has to wait.
    parked: Option<Link>,
    life: Life,
    status: Handle,
    sent_open: Bytes,
    /// The time between Statistics Reports; zero is never.
    statistics: watch::Receiver<Duration>,
    reported: Instant,
    /// What was last logged, so that each failure is told once.
    told: Option<String>,
}

/// What the task woke up for.
enum Woken {
    Read(Way, io::Result<usize>),
    Attempted(io::Result<Link>),
    Due,
    Statistics,
    Told(Option<Command>),
}

impl Task {
    /// A task for a peer, which may connect if this `listens`. `sent_open` is the plan's OPEN.
    pub(super) fn new(
        plan: Plan,
        listens: bool,
        sent_open: Bytes,
        dial: Dial,
        feed: &Feed,
        status: Handle,
        statistics: watch::Receiver<Duration>,
    ) -> Self {
        let settings = Settings {
            passive: false,
            hold: Duration::from_secs(plan.local.hold.into()),
            keepalive: plan.keepalive,
            connect_retry: CONNECT_RETRY,
            idle_hold: IDLE_HOLD,
        };
        let pair = Pair::new(settings, plan.connects, listens, fastrand::u64(..));
        let life = Life::new(feed, plan.target.address, plan.asn, plan.local.asn);
        Self {
            plan,
            dial,
            pair,
            connections: [None, None],
            attempt: None,
            parked: None,
            life,
            status,
            sent_open,
            statistics,
            reported: Instant::now(),
            told: None,
        }
    }

    /// Speaks to the peer until it is told to stop, or until nobody could tell it any more.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let steps = self.pair.start(now());
        self.perform(steps);
        loop {
            self.show();
            match self.next(&mut commands).await {
                Woken::Read(way, read) => self.read(way, read),
                Woken::Attempted(Ok(link)) => self.open(Way::Out, link),
                Woken::Attempted(Err(error)) => {
                    let why = format!("cannot connect to {}: {error}", self.plan.target);
                    self.fail(Reason::of_connect(&error), why);
                    self.happened(Way::Out, Event::TcpConnectionFails);
                }
                Woken::Due => self.due(),
                Woken::Statistics => {
                    self.reported = Instant::now();
                    self.life.report();
                }
                Woken::Told(Some(Command::Incoming(link))) => self.incoming(link),
                Woken::Told(Some(Command::Listens(listens))) => {
                    self.parked = None;
                    let steps = self.pair.listen(now(), listens, &Notice::cease(cease::CONFIGURATION_CHANGE));
                    self.perform(steps);
                }
                Woken::Told(Some(Command::Stop(notice))) => return self.stop(&notice),
                Woken::Told(None) => return self.stop(&Notice::cease(cease::SHUTDOWN)),
            }
            if self.pair.accepts()
                && let Some(link) = self.parked.take()
            {
                self.open(Way::In, link);
            }
        }
    }

    async fn next(&mut self, commands: &mut mpsc::Receiver<Command>) -> Woken {
        let due = self.deadline();
        let interval = *self.statistics.borrow_and_update();
        let report = (self.life.is_up() && !interval.is_zero()).then(|| self.reported + interval);
        let Self { connections: [out, incoming], attempt, statistics, .. } = self;
        select! {
            read = turn(out) => Woken::Read(Way::Out, read),
            read = turn(incoming) => Woken::Read(Way::In, read),
            link = attempted(attempt) => Woken::Attempted(link),
            () = at(due) => Woken::Due,
            () = at(report) => Woken::Statistics,
            command = commands.recv() => Woken::Told(command),
            // Another interval: the time is reckoned anew. Without a sender it stays as it is.
            Ok(()) = statistics.changed() => Woken::Due,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let stuck = self.connections.iter().flatten().filter_map(Connection::stuck_since);
        let own = self.pair.deadline().into_iter().chain(self.life.deadline()).map(Instant::from_std);
        own.chain(stuck.map(|since| since + self.send_hold())).min()
    }

    fn send_hold(&self) -> Duration {
        SEND_HOLD.max(2 * Duration::from_secs(self.plan.local.hold.into()))
    }

    fn due(&mut self) {
        let trying = self.attempt.is_some();
        let steps = self.pair.expire(now());
        if trying && steps.iter().any(|step| step.action == Action::Connect) {
            let why = format!("{} did not answer{}", self.plan.target, self.plan.target.hint());
            self.fail(pin::Reason::ConnectTimeout.into(), why);
        }
        self.perform(steps);
        for way in Way::ALL {
            let stuck = self.connections[way as usize].as_ref().and_then(Connection::stuck_since);
            if stuck.is_some_and(|since| since.elapsed() >= self.send_hold()) {
                self.happened(way, Event::SendHoldTimerExpires);
            }
        }
        self.life.expire(now());
    }

    /// A connection is open.
    fn open(&mut self, way: Way, link: Link) {
        self.connections[way as usize] = Some(Connection::new(link));
        self.happened(way, if way == Way::Out { Event::TcpCrAcked } else { Event::TcpConnectionConfirmed });
    }

    /// The peer has connected.
    fn incoming(&mut self, link: Link) {
        let (admission, steps) = self.pair.incoming(now(), self.life.restarts());
        self.perform(steps);
        match admission {
            Admission::Taken => self.open(Way::In, link),
            // The one before is closed: the peer has given it up.
            Admission::Parked => self.parked = Some(link),
            Admission::Refused => {
                debug!(peer = %self.plan.target.address, "refused a second connection: the session stays");
                refuse(link, &COLLISION);
            }
        }
    }

    fn happened(&mut self, way: Way, event: Event) {
        let steps = self.pair.on(now(), way, event);
        self.perform(steps);
    }

    fn perform(&mut self, steps: Vec<Step>) {
        for Step { way, action } in steps {
            match action {
                Action::Connect => self.attempt = Some((self.dial)()),
                Action::SendOpen => {
                    let open = self.sent_open.clone();
                    self.send(way, MessageType::Open, |connection| connection.send(&open));
                }
                Action::SendKeepalive => self.send(way, MessageType::Keepalive, Connection::send_keepalive),
                Action::SendNotification(notice) => {
                    let message = notification_of(&notice);
                    self.send(way, MessageType::Notification, |connection| connection.send(&message));
                }
                // A connection is closed when the machine says that it is down, or below.
                Action::Close if way == Way::Out => self.attempt = None,
                Action::Close => {}
                Action::Up => self.up(way),
                Action::Down(end) => self.down(way, &end),
            }
        }
        // A connection whose machine has none is closed: it gave way to the other.
        for way in Way::ALL {
            if self.pair.machine(way).state() < State::OpenSent
                && let Some(connection) = self.connections[way as usize].take()
            {
                connection.close();
            }
        }
    }

    fn send(&mut self, way: Way, message: MessageType, send: impl FnOnce(&mut Connection)) {
        if let Some(connection) = &mut self.connections[way as usize] {
            send(connection);
            self.status.sent(message);
        }
    }

    fn up(&mut self, way: Way) {
        let Some(connection) = &self.connections[way as usize] else { return };
        let Some(peer) = &connection.remote else { return };
        let (local, remote) = connection.ends();
        self.life.up(peer, &self.sent_open, (local, remote), now());
        let end_of_ribs = peer.negotiated.end_of_ribs();
        info!(peer = %self.plan.target.address, asn = self.plan.asn, %local, %remote, "BGP session established");
        let (hold, keepalive) = self.pair.machine(way).negotiated();
        let session = Session {
            hold,
            keepalive,
            bgp_id: peer.bgp_id,
            capabilities: peer.capabilities.clone(),
            families: peer.negotiated.families.iter().map(|routes| routes.family).collect(),
            local,
            remote,
        };
        self.told = None;
        self.reported = Instant::now();
        self.status.change(|now| {
            now.session = Some(session);
            now.established_count += 1;
        });
        for end_of_rib in &end_of_ribs {
            self.send(way, MessageType::Update, |connection| connection.send(end_of_rib));
        }
    }

    fn down(&mut self, way: Way, end: &End) {
        match (&end.event, &end.sent) {
            (Event::HoldTimerExpires, _) => {
                self.fail(Reason::HoldTimerExpired, "the peer said nothing for the hold time".to_owned());
            }
            // What they are about has been told.
            (Event::BgpHeaderErr(_) | Event::BgpOpenMsgErr(_) | Event::UpdateMsgErr(_), _) | (_, None) => {}
            (_, Some(notice)) => {
                let message = notification_of(notice);
                if let Ok(sent) = Frame::parse(&message).and_then(|frame| Notification::parse(&frame)) {
                    self.fail(Reason::NotificationSent, format!("closed with a NOTIFICATION: {sent}"));
                }
            }
        }
        let connection = self.connections[way as usize].take();
        if end.state == State::Established {
            let received = connection.as_ref().and_then(|connection| connection.notification.clone());
            let lost = connection.as_ref().and_then(|connection| connection.lost);
            self.life.down(end, received.as_deref(), lost, now());
            self.status.change(|now| now.session = None);
            info!(peer = %self.plan.target.address, "BGP session down");
        }
        if let Some(connection) = connection {
            connection.close();
        }
    }

    /// Why something failed, for the log and for display.
    fn fail(&mut self, reason: Reason, why: String) {
        if self.told.as_ref() != Some(&why) {
            warn!(peer = %self.plan.target.address, "{why}");
            self.told = Some(why.clone());
        }
        self.status.change(|now| now.fail(reason, why));
    }

    fn show(&self) {
        let state = self.pair.state();
        let (retry_at, restart_until) = (self.pair.idle_until(), self.life.restart_until());
        let (stale, counters) = (self.life.stale(), self.life.counters());
        self.status.change(|now| {
            if (now.state == State::Established) != (state == State::Established) {
                now.since = std::time::Instant::now();
            }
            now.state = state;
            now.retry_at = retry_at.filter(|_| state == State::Idle);
            now.restart_until = restart_until;
            now.stale = stale;
            now.counters = counters;
        });
    }

    fn stop(mut self, notice: &Notice) {
        let steps = self.pair.stop(now(), notice);
        self.perform(steps);
        self.show();
        self.life.end(notice);
        self.status.change(|now| (now.restart_until, now.stale) = (None, 0));
    }
}

/// The time, which tests may move.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn turn(connection: &mut Option<Connection>) -> io::Result<usize> {
    match connection {
        Some(connection) => connection.turn().await,
        None => pending().await,
    }
}

async fn attempted(attempt: &mut Option<Attempt>) -> io::Result<Link> {
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
