//! RFC 4271 §8.2.2 as a table, and what is between two machines.

use std::time::{Duration, Instant};

use super::{Action, Admission, COLLISION, Event, Fsm, Notice, Pair, Settings, State, Timer, Way};
use crate::wire::bgp::notification::{cease, code};

const SETTINGS: Settings = Settings {
    passive: false,
    hold: Duration::from_secs(90),
    keepalive: Duration::from_secs(30),
    connect_retry: Duration::from_secs(20),
    idle_hold: (Duration::from_secs(1), Duration::from_secs(60)),
};

/// A machine that has come to a state, at this time.
fn machine_in(state: State, now: Instant) -> Fsm {
    let mut fsm = Fsm::new(Settings { passive: state == State::Active, ..SETTINGS }, 7);
    for event in [Event::ManualStart, Event::TcpCrAcked, Event::BgpOpen(90), Event::KeepAliveMsg] {
        if fsm.state() == state {
            break;
        }
        fsm.on(now, event);
    }
    assert_eq!(fsm.state(), state);
    fsm
}

/// What the actions are, in a word each: the NOTIFICATION as `code/subcode`, the end as the number of its event.
fn words(actions: &[Action], state: State) -> String {
    let word = |action: &Action| match action {
        Action::Connect => "connect".to_owned(),
        Action::SendOpen => "open".to_owned(),
        Action::SendKeepalive => "keepalive".to_owned(),
        Action::SendNotification(notice) => format!("{}/{}", notice.code, notice.subcode),
        Action::Close => "close".to_owned(),
        Action::Up => "up".to_owned(),
        Action::Down(end) => {
            assert_eq!(end.state, state);
            format!("down {}", end.event.number())
        }
    };
    actions.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// What a state does: stays as it is, without a word; goes to Idle, with a NOTIFICATION or without; or something else.
#[derive(Clone, Copy)]
enum Does {
    Stays,
    Fails,
    Says(&'static str),
    Goes(State, &'static str),
}

/// Every event with what Idle, Connect, Active, OpenSent, OpenConfirm and Established do.
fn table() -> [(Event, [Does; 6]); 19] {
    use Does::{Fails, Goes, Says, Stays};
    use State::{Connect, Established, OpenConfirm, OpenSent};
    let alike = |event, notice| (event, [Stays, Fails, Fails, Says(notice), Says(notice), Says(notice)]);
    [
        (Event::ManualStart, [Goes(Connect, "connect"), Stays, Stays, Stays, Stays, Stays]),
        alike(Event::ManualStop(Notice::cease(cease::SHUTDOWN)), "6/2"),
        (
            Event::ConnectRetryTimerExpires,
            [Stays, Goes(Connect, "close connect"), Goes(Connect, "connect"), Says("5/1"), Says("5/2"), Says("5/3")],
        ),
        alike(Event::HoldTimerExpires, "4/0"),
        (
            Event::KeepaliveTimerExpires,
            [Stays, Fails, Fails, Says("5/1"), Goes(OpenConfirm, "keepalive"), Goes(Established, "keepalive")],
        ),
        (Event::IdleHoldTimerExpires, [Goes(Connect, "connect"), Fails, Fails, Says("5/1"), Says("5/2"), Says("5/3")]),
        (Event::TcpCrAcked, [Stays, Goes(OpenSent, "open"), Goes(OpenSent, "open"), Stays, Stays, Stays]),
        (
            Event::TcpConnectionConfirmed,
            [Goes(State::Idle, "close"), Goes(OpenSent, "open"), Goes(OpenSent, "open"), Stays, Stays, Stays],
        ),
        (Event::TcpConnectionFails, [Stays, Fails, Fails, Fails, Fails, Fails]),
        (Event::BgpOpen(90), [Stays, Fails, Fails, Goes(OpenConfirm, "keepalive"), Says("5/2"), Says("5/3")]),
        alike(Event::BgpHeaderErr(Notice::new(code::MESSAGE_HEADER, 1)), "1/1"),
        alike(Event::BgpOpenMsgErr(Notice::new(code::OPEN, 2)), "2/2"),
        alike(Event::OpenCollisionDump, "6/7"),
        (Event::NotifMsgVerErr, [Stays, Fails, Fails, Fails, Fails, Fails]),
        (Event::NotifMsg, [Stays, Fails, Fails, Fails, Fails, Fails]),
        (Event::KeepAliveMsg, [Stays, Fails, Fails, Says("5/1"), Goes(Established, "up"), Stays]),
        (Event::UpdateMsg, [Stays, Fails, Fails, Says("5/1"), Says("5/2"), Stays]),
        alike(Event::UpdateMsgErr(Notice::new(code::UPDATE, 1)), "3/1"),
        (Event::RouteRefreshMsg, [Stays, Fails, Fails, Says("5/1"), Says("5/2"), Stays]),
    ]
}

#[test]
fn every_state_does_with_every_event_what_the_rfc_says() {
    let now = Instant::now();
    for (event, outcomes) in table() {
        for (state, does) in State::ALL.into_iter().zip(outcomes) {
            let mut fsm = machine_in(state, now);
            let done = words(&fsm.on(now, event.clone()), state);
            let down = format!("close down {}", event.number());
            let (after, expected) = match does {
                Does::Stays => (state, String::new()),
                Does::Fails => (State::Idle, down),
                Does::Says(notice) => (State::Idle, format!("{notice} {down}")),
                Does::Goes(state, done) => (state, done.to_owned()),
            };
            assert_eq!((fsm.state(), done), (after, expected), "{event:?} in {state}");
            if fsm.state() == State::Idle && state != State::Idle {
                let for_good = matches!(event, Event::ManualStop(_) | Event::OpenCollisionDump);
                assert_eq!(fsm.timers().get(Timer::IdleHold).is_none(), for_good, "{event:?} in {state}");
                let others = [Timer::ConnectRetry, Timer::Hold, Timer::Keepalive];
                assert!(others.iter().all(|timer| fsm.timers().get(*timer).is_none()), "{event:?} in {state}");
            }
        }
    }
}

#[test]
fn an_unexpected_message_is_named_in_the_data_of_its_notification() {
    let now = Instant::now();
    let actions = machine_in(State::OpenSent, now).on(now, Event::UpdateMsg);
    assert!(matches!(&actions[0], Action::SendNotification(notice) if *notice.data == [2]), "{actions:?}");
}

#[test]
fn the_smaller_hold_time_counts_and_keepalives_come_three_times_in_it() {
    let now = Instant::now();
    for (theirs, hold, keepalive) in [(90, 90, 30), (300, 90, 30), (30, 30, 10), (3, 3, 1), (0, 0, 0)] {
        let mut fsm = machine_in(State::OpenSent, now);
        fsm.on(now, Event::BgpOpen(theirs));
        assert_eq!(fsm.negotiated(), (Duration::from_secs(hold), Duration::from_secs(keepalive)));
        assert_eq!(fsm.timers().get(Timer::Hold), (hold > 0).then(|| now + Duration::from_secs(hold)));
        let due = fsm.timers().get(Timer::Keepalive).map(|at| at - now);
        assert!(due.is_none_or(|due| due <= Duration::from_secs(keepalive)), "{due:?}");
        assert_eq!(due.is_some(), hold > 0, "without a hold time there are none (RFC 4271 §4.2)");
    }
}

#[test]
fn a_peer_that_fails_is_left_alone_for_longer_each_time_until_a_session_lasted() {
    let mut now = Instant::now();
    let mut fsm = machine_in(State::Connect, now);
    for nominal in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
        fsm.on(now, Event::TcpConnectionFails);
        let hold = fsm.timers().get(Timer::IdleHold).unwrap() - now;
        assert!((nominal * 0.75..=nominal).contains(&hold.as_secs_f64()), "{hold:?} for {nominal} s");
        assert_eq!(fsm.expired(now), None);
        now += hold;
        assert_eq!(fsm.expired(now), Some(Event::IdleHoldTimerExpires));
        fsm.on(now, Event::IdleHoldTimerExpires);
    }
    for event in [Event::TcpCrAcked, Event::BgpOpen(90), Event::KeepAliveMsg] {
        fsm.on(now, event);
    }
    now += Duration::from_secs(61);
    fsm.on(now, Event::TcpConnectionFails);
    assert!(fsm.timers().get(Timer::IdleHold).unwrap() - now <= Duration::from_secs(1));
}

fn pair() -> (Pair, Instant) {
    let now = Instant::now();
    let mut pair = Pair::new(SETTINGS, true, true, 7);
    assert_eq!(pair.start(now).len(), 1);
    (pair, now)
}

fn states(pair: &Pair) -> (State, State) {
    (pair.machine(Way::Out).state(), pair.machine(Way::In).state())
}

/// Both connections have sent their OPENs.
fn both_open() -> (Pair, Instant) {
    let (mut pair, now) = pair();
    pair.on(now, Way::Out, Event::TcpCrAcked);
    assert_eq!(pair.incoming(now, false), (Admission::Taken, vec![]));
    pair.on(now, Way::In, Event::TcpConnectionConfirmed);
    assert_eq!(states(&pair), (State::OpenSent, State::OpenSent));
    (pair, now)
}

#[test]
fn of_two_connections_that_of_the_higher_identifier_stays_whichever_opens_first() {
    for (first, dominant) in [(Way::Out, true), (Way::Out, false), (Way::In, true), (Way::In, false)] {
        let (mut pair, now) = both_open();
        pair.open(now, first, 90, dominant);
        assert_eq!(pair.machine(first).state(), State::OpenConfirm);
        let steps = pair.open(now, first.other(), 90, dominant);
        let stays = if dominant { Way::Out } else { Way::In };
        assert_eq!(pair.machine(stays).state(), State::OpenConfirm, "{first:?} {dominant}");
        let dumped = steps.iter().find(|step| step.way != stays && step.action == Action::SendNotification(COLLISION));
        assert!(dumped.is_some(), "{steps:?}");
        pair.on(now, stays, Event::KeepAliveMsg);
        assert_eq!(pair.established(), Some(stays));
        assert_eq!(pair.machine(stays.other()).state(), State::Idle);
        assert_eq!(pair.idle_until(), None, "a collision is nobody's failure");
    }
}

#[test]
fn an_established_session_stays_whoever_has_the_higher_identifier() {
    let (mut pair, now) = both_open();
    pair.open(now, Way::In, 90, true);
    pair.on(now, Way::In, Event::KeepAliveMsg);
    let steps = pair.open(now, Way::Out, 90, true);
    assert_eq!(states(&pair), (State::Idle, State::Established));
    assert!(steps.iter().any(|step| step.action == Action::SendNotification(COLLISION)));
    let later = now + Duration::from_secs(60);
    assert_eq!(pair.incoming(later, false), (Admission::Refused, vec![]));
}

#[test]
fn an_attempt_is_given_up_when_the_peer_was_faster() {
    let (mut pair, now) = pair();
    pair.incoming(now, false);
    pair.on(now, Way::In, Event::TcpConnectionConfirmed);
    assert_eq!(states(&pair), (State::Connect, State::OpenSent));
    let steps = pair.open(now, Way::In, 90, true);
    assert_eq!((states(&pair), steps[0].way), ((State::Idle, State::OpenConfirm), Way::Out));
    assert_eq!(steps[0].action, Action::Close);
}

#[test]
fn a_peer_that_failed_is_neither_called_nor_answered_for_a_while() {
    let (mut pair, now) = both_open();
    pair.open(now, Way::In, 90, false);
    pair.on(now, Way::In, Event::KeepAliveMsg);
    pair.on(now, Way::Out, Event::TcpConnectionFails);
    pair.on(now, Way::In, Event::UpdateMsgErr(Notice::new(code::UPDATE, 1)));
    assert_eq!(states(&pair), (State::Idle, State::Idle));
    assert_eq!(pair.incoming(now, false), (Admission::Parked, vec![]));
    let until = pair.deadline().unwrap();
    assert!(until > now);
    pair.expire(until);
    assert!(pair.accepts());
    assert_eq!(states(&pair), (State::Connect, State::Active));
}

#[test]
fn a_peer_that_comes_again_has_restarted_if_it_said_that_it_might() {
    let (mut pair, now) = both_open();
    pair.open(now, Way::In, 90, false);
    pair.on(now, Way::In, Event::KeepAliveMsg);
    assert_eq!(pair.incoming(now + Duration::from_secs(1), true).0, Admission::Refused, "it may have collided");
    let later = now + Duration::from_secs(30);
    let (admission, steps) = pair.incoming(later, true);
    assert_eq!(admission, Admission::Taken);
    assert!(matches!(&steps[1].action, Action::Down(end) if end.event == Event::TcpConnectionFails), "{steps:?}");
    assert!(!steps.iter().any(|step| matches!(step.action, Action::SendNotification(_))), "{steps:?}");
}

#[test]
fn a_stopped_peer_stays_so() {
    let (mut pair, now) = both_open();
    let steps = pair.stop(now, &Notice::cease(cease::DE_CONFIGURED));
    assert_eq!(steps.iter().filter(|step| matches!(step.action, Action::SendNotification(_))).count(), 2);
    assert_eq!((states(&pair), pair.deadline()), ((State::Idle, State::Idle), None));
    assert_eq!(pair.incoming(now, true).0, Admission::Refused);
}
