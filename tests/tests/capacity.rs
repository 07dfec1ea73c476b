//! More sessions than the kernel maps have room for: the rest is refused or denied, and none of its
//! packets leaves.

use std::net::SocketAddr;

use lab::{
    bmp,
    bmpd::{Bmpd, BmpdSetup, StartOptions, WRONG_CONFIGURATION},
    capture::{CapturedPacket, PacketDirection},
    netns::Netns,
    sockets::ForeignSocket,
    station::TestStation,
    topology::{STATION, STATION_PORT, Topology, UP1, UP2, UP2_OTHER},
    trial::{FURTHER_PORTS, TrialPlan, further_sessions},
};
use programs::Built;

const ROOM_FOR_THREE: StartOptions<'static> = StartOptions { arguments: &["--sessions", "3"], through: &[] };

#[test]
fn a_start_refuses_a_file_with_too_many_sessions() {
    let netns = Netns::new("router");
    let four = further_sessions(4, "");
    let setup = BmpdSetup::new(&netns, format!("bmp\n{four}"));
    let ended = setup.run(&ROOM_FOR_THREE);
    assert_eq!(ended.code, Some(WRONG_CONFIGURATION), "{:?}", ended.lines);
    let answer = ended.lines.join("\n");
    assert!(
        answer.contains("4 sessions are configured") && answer.contains("start bmpd with --sessions 4"),
        "{answer}"
    );
    for (room, code) in [("3", 1), ("4", 0)] {
        let mut check = netns.command(Built::at(setup.command(&StartOptions::default()).get_program()));
        check.arg("check").arg("--config").arg(setup.file()).args(["--sessions", room]);
        assert_eq!(check.status().expect("bmpd can be started").code(), Some(code));
    }
}

#[test]
fn a_commit_or_reload_with_too_many_sessions_is_refused_whole() {
    let two = further_sessions(2, "");
    let trial =
        TrialPlan { bmp: &two, options: ROOM_FOR_THREE, ..TrialPlan::session("connect-interface up2") }.start_up();
    let more = further_sessions(4, "");
    for how in ["commit", "commit trial 60"] {
        let (accepted, answer) = trial.bmpd.typed(&format!("system-view\nbmp\n{more}\n{how}\n"));
        assert!(!accepted && answer.contains("5 sessions are configured"), "{answer}");
    }
    let file = TrialPlan { bmp: &more, ..TrialPlan::session("connect-interface up2") }.configuration();
    std::fs::write(trial.bmpd.setup().file(), file).expect("a temporary file can be written");
    // SAFETY: the call sends a signal.
    assert_eq!(unsafe { libc::kill(trial.bmpd.pid().cast_signed(), libc::SIGHUP) }, 0);
    trial.bmpd.wait_for_log("why the file is refused", |line| line.contains("5 sessions are configured"));
    assert_eq!(trial.bmpd.sessions().len(), 3);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

/// Counts the outgoing SYNs.
fn attempts(packets: &[CapturedPacket]) -> usize {
    packets.iter().filter(|packet| packet.direction == PacketDirection::Out && packet.syn).count()
}

#[test]
fn a_session_without_a_slot_is_denied_to_every_process_until_one_is_free() {
    let further = further_sessions(2, "connect-interface up1");
    let plan = TrialPlan { bmp: &further, options: ROOM_FOR_THREE, ..TrialPlan::session("connect-interface up1") };
    let topology = Topology::new();
    let stations = [0, 1].map(|number| TestStation::start(&topology.station, (STATION, FURTHER_PORTS + number)));
    let trial = plan.start_on(topology);
    let up_from = |address: std::net::IpAddr| {
        trial.bmpd.wait_session(STATION, "up from another address", |_| {
            let sessions = trial.bmpd.sessions();
            sessions.iter().all(|s| s["state"] == "up" && s["local_address"] == address.to_string())
        })
    };
    let all_from = |lines: &str| {
        let sessions = ["", " alias s0", " alias s1"]
            .map(|alias| format!("bmp-session {STATION}{alias}\nconnect-interface {lines}\nquit\n"));
        trial.bmpd.commit_lines(&format!("bmp\n{}", sessions.concat()));
    };
    up_from(UP1);
    all_from("up2");
    up_from(UP2);

    // Three slots are in force and three linger, so the next three pins find none.
    all_from(&format!("up2 {UP2_OTHER}"));
    let denied = trial.bmpd.wait_down(STATION, "not-permitted");
    assert!(denied["detail"].as_str().expect("there is a detail").contains("slots of the kernel tables"), "{denied:#}");
    let before = attempts(&trial.up1.packets());
    let ports = [STATION_PORT, FURTHER_PORTS, FURTHER_PORTS + 1];
    let foreign =
        ports.map(|port| ForeignSocket::default().connect(&trial.topology.router, SocketAddr::new(STATION, port)));
    assert_eq!(trial.bmpd.session(STATION)["state"], "down", "the session found a slot too early");
    for attempt in foreign {
        assert_eq!(attempt.expect_err("the pin denies it").raw_os_error(), Some(libc::EPERM));
    }

    up_from(UP2_OTHER);
    for station in std::iter::once(&trial.station).chain(&stations) {
        let last = station.wait_for("Initiation", lab::wait::PATIENCE, |c| {
            c.last().filter(|c| c.peer.ip() == UP2_OTHER && c.has(bmp::INITIATION)).cloned()
        });
        assert_eq!(last.end, None);
    }
    assert_eq!(attempts(&trial.up1.packets()), before, "a SYN left by the other link");
}

#[test]
fn maps_of_a_killed_bmpd_grow_while_the_session_stays_pinned_and_counted() {
    let trial = TrialPlan { options: ROOM_FOR_THREE, ..TrialPlan::session("connect-interface up2") }.start_up();
    trial.routes_arrive(&mut trial.feeder(), 200, 0);
    let before = trial.bmpd.session(STATION);
    let setup = trial.bmpd.crash();
    let foreign = ForeignSocket::default().connect(&trial.topology.router, trial.station.address());
    let bmpd = Bmpd::start_in(setup, &StartOptions { arguments: &["--sessions", "300"], through: &[] });
    bmpd.wait_up(STATION);
    let after = bmpd.session(STATION);
    let sent = |session: &serde_json::Value| lab::bmpd::number(&session["kernel"]["tx_bytes"]);
    assert!(sent(&after) > sent(&before), "{after:#}");
    drop(foreign.expect("the pin lets it connect"));
    assert_eq!(lab::trial::strays(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}
