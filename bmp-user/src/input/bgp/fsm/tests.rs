//! RFC 4271 §8.2.2 as a table, and the rules between two machines.

use std::time::{Duration, Instant};

use super::{
    Admission, BgpState, COLLISION, FsmAction, FsmEvent, FsmSettings, IdleHoldTime, Initiator, MachinePair,
    NegotiatedTimers, OutgoingNotification, machine::Fsm, timers::Timer,
};
use crate::wire::bgp::notification::{cease, code};

const SETTINGS: FsmSettings = FsmSettings {
    passive: false,
    hold: Duration::from_secs(90),
    keepalive: Duration::from_secs(30),
    connect_retry: Duration::from_secs(20),
    idle_hold: IdleHoldTime { first: Duration::from_secs(1), longest: Duration::from_secs(60) },
};

/// A machine brought to a state at this time.
fn machine_in(state: BgpState, now: Instant) -> Fsm {
    let mut fsm = Fsm::new(FsmSettings { passive: state == BgpState::Active, ..SETTINGS }, 7);
    for event in [FsmEvent::ManualStart, FsmEvent::TcpCrAcked, FsmEvent::BgpOpen(90), FsmEvent::KeepAliveMsg] {
        if fsm.state() == state {
            break;
        }
        fsm.on(now, event);
    }
    assert_eq!(fsm.state(), state);
    fsm
}

/// Describes actions, a word each: a NOTIFICATION as `code/subcode`, an end by the number of its
/// event.
fn words(actions: &[FsmAction], state: BgpState) -> String {
    let word = |action: &FsmAction| match action {
        FsmAction::Connect => "connect".to_owned(),
        FsmAction::SendOpen => "open".to_owned(),
        FsmAction::SendKeepalive => "keepalive".to_owned(),
        FsmAction::SendNotification(notice) => format!("{}/{}", notice.code, notice.subcode),
        FsmAction::Close => "close".to_owned(),
        FsmAction::Up => "up".to_owned(),
        FsmAction::Down(end) => {
            assert_eq!(end.state, state);
            format!("down {}", end.event.number())
        }
    };
    actions.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// The reaction of a state: it stays without an action, fails to Idle with or without a
/// NOTIFICATION, or goes elsewhere.
#[derive(Clone, Copy)]
enum Reaction {
    Stays,
    Fails,
    Says(&'static str),
    Goes(BgpState, &'static str),
}

/// Each event with the reactions of Idle, Connect, Active, OpenSent, OpenConfirm and Established.
fn table() -> [(FsmEvent, [Reaction; 6]); 19] {
    use BgpState::{Connect, Established, OpenConfirm, OpenSent};
    use Reaction::{Fails, Goes, Says, Stays};
    let alike = |event, notice| (event, [Stays, Fails, Fails, Says(notice), Says(notice), Says(notice)]);
    [
        (FsmEvent::ManualStart, [Goes(Connect, "connect"), Stays, Stays, Stays, Stays, Stays]),
        alike(FsmEvent::ManualStop(OutgoingNotification::cease(cease::SHUTDOWN)), "6/2"),
        (
            FsmEvent::ConnectRetryTimerExpires,
            [Stays, Goes(Connect, "close connect"), Goes(Connect, "connect"), Says("5/1"), Says("5/2"), Says("5/3")],
        ),
        alike(FsmEvent::HoldTimerExpires, "4/0"),
        (
            FsmEvent::KeepaliveTimerExpires,
            [Stays, Fails, Fails, Says("5/1"), Goes(OpenConfirm, "keepalive"), Goes(Established, "keepalive")],
        ),
        (
            FsmEvent::IdleHoldTimerExpires,
            [Goes(Connect, "connect"), Fails, Fails, Says("5/1"), Says("5/2"), Says("5/3")],
        ),
        (FsmEvent::TcpCrAcked, [Stays, Goes(OpenSent, "open"), Goes(OpenSent, "open"), Stays, Stays, Stays]),
        (
            FsmEvent::TcpConnectionConfirmed,
            [Goes(BgpState::Idle, "close"), Goes(OpenSent, "open"), Goes(OpenSent, "open"), Stays, Stays, Stays],
        ),
        (FsmEvent::TcpConnectionFails, [Stays, Fails, Fails, Fails, Fails, Fails]),
        (FsmEvent::BgpOpen(90), [Stays, Fails, Fails, Goes(OpenConfirm, "keepalive"), Says("5/2"), Says("5/3")]),
        alike(FsmEvent::BgpHeaderErr(OutgoingNotification::new(code::MESSAGE_HEADER, 1)), "1/1"),
        alike(FsmEvent::BgpOpenMsgErr(OutgoingNotification::new(code::OPEN, 2)), "2/2"),
        alike(FsmEvent::OpenCollisionDump, "6/7"),
        (FsmEvent::NotifMsgVerErr, [Stays, Fails, Fails, Fails, Fails, Fails]),
        (FsmEvent::NotifMsg, [Stays, Fails, Fails, Fails, Fails, Fails]),
        (FsmEvent::KeepAliveMsg, [Stays, Fails, Fails, Says("5/1"), Goes(Established, "up"), Stays]),
        (FsmEvent::UpdateMsg, [Stays, Fails, Fails, Says("5/1"), Says("5/2"), Stays]),
        alike(FsmEvent::UpdateMsgErr(OutgoingNotification::new(code::UPDATE, 1)), "3/1"),
        (FsmEvent::RouteRefreshMsg, [Stays, Fails, Fails, Says("5/1"), Says("5/2"), Stays]),
    ]
}

#[test]
fn every_state_reacts_to_every_event_as_the_rfc_says() {
    let now = Instant::now();
    for (event, outcomes) in table() {
        for (state, does) in BgpState::ALL.into_iter().zip(outcomes) {
            let mut fsm = machine_in(state, now);
            let done = words(&fsm.on(now, event.clone()), state);
            let down = format!("close down {}", event.number());
            let (after, expected) = match does {
                Reaction::Stays => (state, String::new()),
                Reaction::Fails => (BgpState::Idle, down),
                Reaction::Says(notice) => (BgpState::Idle, format!("{notice} {down}")),
                Reaction::Goes(state, done) => (state, done.to_owned()),
            };
            assert_eq!((fsm.state(), done), (after, expected), "{event:?} in {state}");
            if fsm.state() == BgpState::Idle && state != BgpState::Idle {
                let for_good = matches!(event, FsmEvent::ManualStop(_) | FsmEvent::OpenCollisionDump);
                assert_eq!(fsm.timers().get(Timer::IdleHold).is_none(), for_good, "{event:?} in {state}");
                let others = [Timer::ConnectRetry, Timer::Hold, Timer::Keepalive];
                assert!(others.iter().all(|timer| fsm.timers().get(*timer).is_none()), "{event:?} in {state}");
            }
        }
    }
}

#[test]
fn the_notification_for_an_unexpected_message_names_its_type() {
    let now = Instant::now();
    let actions = machine_in(BgpState::OpenSent, now).on(now, FsmEvent::UpdateMsg);
    assert!(matches!(&actions[0], FsmAction::SendNotification(notice) if *notice.data == [2]), "{actions:?}");
}

#[test]
fn the_smaller_hold_time_counts_and_holds_three_keepalives() {
    let now = Instant::now();
    for (theirs, hold, keepalive) in [(90, 90, 30), (300, 90, 30), (30, 30, 10), (3, 3, 1), (0, 0, 0)] {
        let mut fsm = machine_in(BgpState::OpenSent, now);
        fsm.on(now, FsmEvent::BgpOpen(theirs));
        let expected = NegotiatedTimers { hold: Duration::from_secs(hold), keepalive: Duration::from_secs(keepalive) };
        assert_eq!(fsm.negotiated(), expected);
        assert_eq!(fsm.timers().get(Timer::Hold), (hold > 0).then(|| now + Duration::from_secs(hold)));
        let due = fsm.timers().get(Timer::Keepalive).map(|at| at - now);
        assert!(due.is_none_or(|due| due <= Duration::from_secs(keepalive)), "{due:?}");
        assert_eq!(due.is_some(), hold > 0, "without a hold time there are none (RFC 4271 §4.2)");
    }
}

#[test]
fn the_wait_after_a_failure_doubles_until_a_session_has_lasted() {
    let mut now = Instant::now();
    let mut fsm = machine_in(BgpState::Connect, now);
    for nominal in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
        fsm.on(now, FsmEvent::TcpConnectionFails);
        let hold = fsm.timers().get(Timer::IdleHold).unwrap() - now;
        assert!((nominal * 0.75..=nominal).contains(&hold.as_secs_f64()), "{hold:?} for {nominal} s");
        assert_eq!(fsm.expired(now), None);
        now += hold;
        assert_eq!(fsm.expired(now), Some(FsmEvent::IdleHoldTimerExpires));
        fsm.on(now, FsmEvent::IdleHoldTimerExpires);
    }
    for event in [FsmEvent::TcpCrAcked, FsmEvent::BgpOpen(90), FsmEvent::KeepAliveMsg] {
        fsm.on(now, event);
    }
    now += Duration::from_secs(61);
    fsm.on(now, FsmEvent::TcpConnectionFails);
    assert!(fsm.timers().get(Timer::IdleHold).unwrap() - now <= Duration::from_secs(1));
}

fn pair() -> (MachinePair, Instant) {
    let now = Instant::now();
    let mut pair = MachinePair::new(SETTINGS, true, true, 7);
    assert_eq!(pair.start(now).len(), 1);
    (pair, now)
}

fn states(pair: &MachinePair) -> (BgpState, BgpState) {
    (pair.machine(Initiator::Local).state(), pair.machine(Initiator::Peer).state())
}

/// Both connections have sent their OPENs.
fn both_open() -> (MachinePair, Instant) {
    let (mut pair, now) = pair();
    pair.on(now, Initiator::Local, FsmEvent::TcpCrAcked);
    assert_eq!(pair.incoming(now, false), (Admission::Taken, vec![]));
    pair.on(now, Initiator::Peer, FsmEvent::TcpConnectionConfirmed);
    assert_eq!(states(&pair), (BgpState::OpenSent, BgpState::OpenSent));
    (pair, now)
}

#[test]
fn in_a_collision_the_connection_of_the_higher_identifier_stays() {
    for (first, dominant) in
        [(Initiator::Local, true), (Initiator::Local, false), (Initiator::Peer, true), (Initiator::Peer, false)]
    {
        let (mut pair, now) = both_open();
        pair.open(now, first, 90, dominant);
        assert_eq!(pair.machine(first).state(), BgpState::OpenConfirm);
        let steps = pair.open(now, first.other(), 90, dominant);
        let stays = if dominant { Initiator::Local } else { Initiator::Peer };
        assert_eq!(pair.machine(stays).state(), BgpState::OpenConfirm, "{first:?} {dominant}");
        let dumped =
            steps.iter().find(|step| step.initiator != stays && step.action == FsmAction::SendNotification(COLLISION));
        assert!(dumped.is_some(), "{steps:?}");
        pair.on(now, stays, FsmEvent::KeepAliveMsg);
        assert_eq!(pair.established(), Some(stays));
        assert_eq!(pair.machine(stays.other()).state(), BgpState::Idle);
        assert_eq!(pair.idle_until(), None, "a collision is nobody's failure");
    }
}

#[test]
fn an_established_session_survives_a_collision() {
    let (mut pair, now) = both_open();
    pair.open(now, Initiator::Peer, 90, true);
    pair.on(now, Initiator::Peer, FsmEvent::KeepAliveMsg);
    let steps = pair.open(now, Initiator::Local, 90, true);
    assert_eq!(states(&pair), (BgpState::Idle, BgpState::Established));
    assert!(steps.iter().any(|step| step.action == FsmAction::SendNotification(COLLISION)));
    let later = now + Duration::from_secs(60);
    assert_eq!(pair.incoming(later, false), (Admission::Refused, vec![]));
}

#[test]
fn an_attempt_is_abandoned_when_the_peer_connects_first() {
    let (mut pair, now) = pair();
    pair.incoming(now, false);
    pair.on(now, Initiator::Peer, FsmEvent::TcpConnectionConfirmed);
    assert_eq!(states(&pair), (BgpState::Connect, BgpState::OpenSent));
    let steps = pair.open(now, Initiator::Peer, 90, true);
    assert_eq!((states(&pair), steps[0].initiator), ((BgpState::Idle, BgpState::OpenConfirm), Initiator::Local));
    assert_eq!(steps[0].action, FsmAction::Close);
}

#[test]
fn a_failed_peer_is_neither_called_nor_answered_until_the_wait_is_over() {
    let (mut pair, now) = both_open();
    pair.open(now, Initiator::Peer, 90, false);
    pair.on(now, Initiator::Peer, FsmEvent::KeepAliveMsg);
    pair.on(now, Initiator::Local, FsmEvent::TcpConnectionFails);
    pair.on(now, Initiator::Peer, FsmEvent::UpdateMsgErr(OutgoingNotification::new(code::UPDATE, 1)));
    assert_eq!(states(&pair), (BgpState::Idle, BgpState::Idle));
    assert_eq!(pair.incoming(now, false), (Admission::Parked, vec![]));
    let until = pair.deadline().unwrap();
    assert!(until > now);
    pair.expire(until);
    assert!(pair.accepts());
    assert_eq!(states(&pair), (BgpState::Connect, BgpState::Active));
}

#[test]
fn a_new_connection_means_a_restart_if_the_peer_announced_restarts() {
    let (mut pair, now) = both_open();
    pair.open(now, Initiator::Peer, 90, false);
    pair.on(now, Initiator::Peer, FsmEvent::KeepAliveMsg);
    assert_eq!(pair.incoming(now + Duration::from_secs(1), true).0, Admission::Refused, "it may have collided");
    let later = now + Duration::from_secs(30);
    let (admission, steps) = pair.incoming(later, true);
    assert_eq!(admission, Admission::Taken);
    assert!(matches!(&steps[1].action, FsmAction::Down(end) if end.event == FsmEvent::TcpConnectionFails), "{steps:?}");
    assert!(!steps.iter().any(|step| matches!(step.action, FsmAction::SendNotification(_))), "{steps:?}");
}

#[test]
fn a_stopped_peer_stays_stopped() {
    let (mut pair, now) = both_open();
    let steps = pair.stop(now, &OutgoingNotification::cease(cease::DE_CONFIGURED));
    assert_eq!(steps.iter().filter(|step| matches!(step.action, FsmAction::SendNotification(_))).count(), 2);
    assert_eq!((states(&pair), pair.deadline()), ((BgpState::Idle, BgpState::Idle), None));
    assert_eq!(pair.incoming(now, true).0, Admission::Refused);
}
