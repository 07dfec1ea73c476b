//! The task of one peer: connections, timers and the feed around its machines.

use std::{future::pending, io, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    select,
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    connection::{Connection, Link, Lost, notification_of, refuse},
    dial::Target,
    fsm::{Action, Admission, COLLISION, End, Event, Notice, Pair, Settings, State, Step, Way},
    life::Life,
    open::{Local, notice_of},
    status::{Handle, Session},
    updates::Stop,
};
use crate::{
    feed::Feed,
    wire::bgp::{self, Frame, Message, MessageType, Notification, notification},
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
    /// Whether it may connect.
    pub(super) listens: bool,
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
    /// A task for a peer. `sent_open` is the plan's OPEN.
    pub(super) fn new(
        plan: Plan,
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
        let pair = Pair::new(settings, plan.connects, plan.listens, fastrand::u64(..));
        let life = Life::new(feed, plan.target.address, plan.asn);
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
                    self.fail(format!("cannot connect to {}: {error}", self.plan.target));
                    self.happened(Way::Out, Event::TcpConnectionFails);
                }
                Woken::Due => self.due(),
                Woken::Statistics => {
                    self.reported = Instant::now();
                    self.life.report();
                }
                Woken::Told(Some(Command::Incoming(link))) => self.incoming(link),
                Woken::Told(Some(Command::Stop(notice))) => return self.stop(&notice),
                Woken::Told(None) => return self.stop(&Notice::cease(notification::cease::SHUTDOWN)),
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
            self.fail(format!("{} did not answer{}", self.plan.target, self.plan.target.hint()));
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

    fn read(&mut self, way: Way, read: io::Result<usize>) {
        let Some(connection) = &mut self.connections[way as usize] else { return };
        let (lost, why) = match read {
            Ok(0) => (Lost::Closed, "the peer closed the connection".to_owned()),
            Ok(_) => {
                while self.take(way) {}
                if let Some(connection) = &mut self.connections[way as usize] {
                    connection.make_room();
                }
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                (Lost::Closed, format!("the peer reset the connection: {error}"))
            }
            Err(error) => (Lost::Broken, format!("the connection broke: {error}")),
        };
        connection.lost = Some(lost);
        self.fail(why);
        self.happened(way, Event::TcpConnectionFails);
    }

    /// Takes what comes next of what has arrived; false if there is no more to be taken.
    fn take(&mut self, way: Way) -> bool {
        if self.pair.established() == Some(way) && self.life.is_up() {
            return self.updates(way);
        }
        self.single(way)
    }

    /// Takes one message; false if none has arrived whole.
    fn single(&mut self, way: Way) -> bool {
        let Some(connection) = &mut self.connections[way as usize] else { return false };
        let bytes = match bgp::frames(&connection.input, connection.limit()).next() {
            None => return false,
            Some(Ok(frame)) => Bytes::copy_from_slice(frame.bytes()),
            Some(Err(error)) => {
                let notice = notice_of(&error, None, &connection.input);
                self.fail(format!("what the peer sends is not BGP: {}", error.problem));
                self.happened(way, Event::BgpHeaderErr(notice));
                return false;
            }
        };
        connection.used(bytes.len());
        // It was one a moment ago.
        let Ok(frame) = Frame::parse(&bytes) else { return false };
        self.status.received(frame.message_type(), 1);
        self.message(way, &frame);
        true
    }

    fn message(&mut self, way: Way, frame: &Frame<'_>) {
        let state = self.pair.machine(way).state();
        let Some(connection) = &mut self.connections[way as usize] else { return };
        let event = match (frame.message_type(), Message::parse(frame)) {
            (MessageType::Open, _) if state == State::OpenSent => match self.plan.local.check(frame, self.plan.asn) {
                Ok(remote) => {
                    let (hold, dominant) = (remote.hold, remote.dominant);
                    connection.remote = Some(remote);
                    let steps = self.pair.open(now(), way, hold, dominant);
                    return self.perform(steps);
                }
                Err((notice, why)) => {
                    self.fail(why);
                    Event::BgpOpenMsgErr(notice)
                }
            },
            (MessageType::Open, _) => Event::BgpOpen(0),
            (MessageType::Keepalive, _) => Event::KeepAliveMsg,
            (MessageType::Update, _) => Event::UpdateMsg,
            (_, Ok(Message::Notification(notification))) => {
                connection.notification = Some(Bytes::copy_from_slice(frame.bytes()));
                self.fail(format!("the peer sent a NOTIFICATION: {notification}"));
                let (code, subcode) = (notification::code::OPEN, notification::open_error::UNSUPPORTED_VERSION);
                let version = (notification.code, notification.subcode) == (code, subcode);
                if version { Event::NotifMsgVerErr } else { Event::NotifMsg }
            }
            (_, Ok(Message::RouteRefresh(refresh))) => {
                if state == State::Established {
                    self.life.refresh(&refresh, now());
                }
                Event::RouteRefreshMsg
            }
            (kind, Err(error)) => {
                self.fail(format!("a {kind} of the peer: {error}"));
                Event::BgpHeaderErr(notice_of(&error, Some(kind), frame.bytes()))
            }
            // A message is what its type says.
            (_, Ok(_)) => return,
        };
        self.happened(way, event);
    }

    /// Takes the UPDATEs and KEEPALIVEs of an established session; false if there is no more to be done.
    fn updates(&mut self, way: Way) -> bool {
        let Some(connection) = &mut self.connections[way as usize] else { return false };
        let Some(run) = self.life.updates(&connection.input) else { return false };
        connection.used(run.bytes);
        let offset = connection.offset;
        self.status.received(MessageType::Update, run.updates);
        self.status.received(MessageType::Keepalive, run.keepalives);
        if run.updates + run.keepalives > 0 {
            self.happened(way, Event::UpdateMsg);
        }
        match run.stop {
            Stop::NoMore => false,
            Stop::Other => self.single(way),
            Stop::Complete(family) => {
                self.life.complete(family);
                true
            }
            Stop::Invalid { notice, why, update } => {
                self.fail(format!("{why} (the message at byte {offset} of the connection)"));
                self.happened(way, if update { Event::UpdateMsgErr(notice) } else { Event::BgpHeaderErr(notice) });
                false
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
    }

    fn down(&mut self, way: Way, end: &End) {
        match (&end.event, &end.sent) {
            (Event::HoldTimerExpires, _) => self.fail("the peer said nothing for the hold time".to_owned()),
            // What they are about has been told.
            (Event::BgpHeaderErr(_) | Event::BgpOpenMsgErr(_) | Event::UpdateMsgErr(_), _) | (_, None) => {}
            (_, Some(notice)) => {
                let message = notification_of(notice);
                if let Ok(sent) = Frame::parse(&message).and_then(|frame| Notification::parse(&frame)) {
                    self.fail(format!("closed with a NOTIFICATION: {sent}"));
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
    fn fail(&mut self, why: String) {
        if self.told.as_ref() != Some(&why) {
            warn!(peer = %self.plan.target.address, "{why}");
            self.told = Some(why.clone());
        }
        self.status.change(|now| now.last_error = Some(why));
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
            now.treated_as_withdraw = counters.treated_as_withdraw;
            now.not_negotiated = counters.not_negotiated;
        });
    }

    fn stop(mut self, notice: &Notice) {
        let steps = self.pair.stop(now(), notice);
        self.perform(steps);
        self.life.end(notice);
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
