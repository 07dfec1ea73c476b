//! Storms of events: bmpd arrives at the right end, keeps nothing, and breaks a session only if its
//! own interface has changed.

use std::{fmt::Write as _, time::Duration};

use lab::{company::Company, footprint::Footprint, netns::Netns, soak, topology::STATION};

/// Longer than bmpd needs to read everything, and far shorter than a grown back-off.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Lines that set `up2` up again, and restore the addresses and routes that `link set down`
/// removed.
const UP2_AGAIN: &str = "link set up2 up
addr replace fe80::1/64 dev up2 nodad
addr replace 2001:db8:2::1/64 dev up2 nodad
route replace 198.51.100.0/24 via 192.0.2.66 dev up2 metric 20
route replace 2001:db8:7::/64 via 2001:db8:2::2 dev up2 metric 20
";

/// Starts subjects that are pinned to `up2`, with one more pair of links for events.
fn pinned() -> Company {
    let company = Company::start("", ["connect-interface up2"; 2]);
    company.topology.router.ip("link add spare type veth peer name spare2\nlink set spare up");
    company
}

/// Returns commands that cause at least this many link events without any effect on a session.
fn noise(events: usize) -> String {
    let mut commands = String::new();
    for round in 0..events / 4 {
        let (number, spare2) = (round % 100, if round % 2 == 0 { "up" } else { "down" });
        writeln!(commands, "link set spare mtu {}\nlink set spare2 {spare2}", 1400 + number)
            .expect("a string has room");
        writeln!(commands, "link set up2 alias n{number}\nlink set up1 txqueuelen {}", 500 + number)
            .expect("a string has room");
    }
    commands
}

#[test]
fn a_storm_of_10_000_link_events_leaks_nothing_and_breaks_no_other_session() {
    let mut company = pinned();
    // The loss below is the first change.
    let mut changes = 1;
    let mut storm = |company: &Company, events: usize| {
        changes += 1;
        let noise = noise(events / 2);
        company.topology.router.ip(&format!("{noise}link set up2 down\n{UP2_AGAIN}{noise}"));
        for subject in [0, 1] {
            company.bmpd.wait_up(company.address(subject));
        }
        changes
    };
    // The first events and the first certain loss allocate things that stay, which is no leak.
    storm(&company, 400);
    company.topology.carrier_down("up2");
    for subject in [0, 1] {
        company.bmpd.wait_down(company.address(subject), "interface-down");
    }
    company.topology.carrier_up("up2");
    storm(&company, 400);
    let before = Footprint::of(&company.bmpd);
    for _ in 0..soak::times(1, 20) {
        for _ in 0..5 {
            let changes = storm(&company, 2000);
            for subject in [0, 1] {
                let session = company.session(subject);
                let established = lab::bmpd::number(&session["established_count"]);
                assert!(established <= 1 + changes, "{changes} changes of its interface: {session:#}");
            }
        }
    }
    company.assert_others_stayed();
    before.wait_no_more(&company.bmpd);
}

/// Returns the link events that bmpd lost because the receive buffer of its socket was full.
fn lost(router: &Netns) -> u64 {
    // Sum over all sockets with RTMGRP_LINK. The file names its columns; proc_pid_net(5) does not.
    let table =
        router.enter(|| std::fs::read_to_string("/proc/thread-self/net/netlink").expect("the file is readable"));
    let drops = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let groups = u32::from_str_radix(columns.get(3)?, 16).ok()?;
        (groups & 1 != 0).then_some(columns.get(8)?.parse::<u64>().ok()?)
    });
    drops.sum()
}

/// Makes bmpd lose events, and `event` as the last of them.
fn lose_the_event(company: &Company, event: &str) {
    company.bmpd.halted(|| {
        let (router, before) = (&company.topology.router, lost(&company.topology.router));
        for _ in 0..40 {
            if lost(router) > before {
                break;
            }
            router.ip(&noise(1000));
        }
        assert!(lost(router) > before, "the receive buffer never filled up");
        router.ip(event);
    });
}

#[test]
fn changes_among_lost_events_are_found_at_once() {
    let mut company = pinned();
    lose_the_event(&company, "link set up2 down");
    company.bmpd.wait_session_for(STATION, "down, interface-down", AT_ONCE, |s| s["reason"] == "interface-down");
    lose_the_event(&company, UP2_AGAIN);
    for subject in [0, 1] {
        company.bmpd.wait_session_for(company.address(subject), "up", AT_ONCE, |session| session["state"] == "up");
        company.connected(subject, 1);
        assert_eq!(company.session(subject)["established_count"], 2);
    }
    company.assert_others_stayed();
}
