//! Many sessions: 256 of them, to 256 stations, over 8 interfaces.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use lab::{
    bmp,
    bmpd::Bmpd,
    netns::Netns,
    station::{RecordedEnd, TestStation},
    topology::STATION_PORT,
    wait::{PATIENCE, patience, until},
};

const INTERFACES: u8 = 8;
/// Stations behind each interface.
const STATIONS: u8 = 32;
/// Stations behind each interface whose sessions take their source from the BMP view.
const INHERITING: u8 = 8;

/// Makes a router with `p0` to `p7`, each with a route to 32 addresses of the station.
fn hosts() -> (Netns, Netns) {
    let (router, station) = (Netns::new("router"), Netns::new("station"));
    for host in [&router, &station] {
        for scope in ["all", "default"] {
            host.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0");
        }
    }
    let far = station.path();
    router.ip("addr add 203.0.113.1/32 dev lo\naddr add 203.0.113.2/32 dev lo");
    for i in 0..INTERFACES {
        router.ip(&format!("link add p{i} type veth peer name q{i} netns {}", far.display()));
        station.ip(&format!("addr add 10.20.{i}.2/24 dev q{i}\nlink set q{i} up"));
        let add: Vec<_> = (1..=STATIONS).map(|j| format!("addr add 10.30.{i}.{j}/32 dev lo")).collect();
        station.ip(&add.join("\n"));
        router.ip(&format!(
            "addr add 10.20.{i}.1/24 dev p{i}\nlink set p{i} up\nroute add 10.30.{i}.0/24 via 10.20.{i}.2"
        ));
    }
    station.ip("route add 203.0.113.0/24 via 10.20.0.1");
    (router, station)
}

/// A station, and the source of its session while the BMP view has `203.0.113.1`.
struct SessionPlace {
    station: TestStation,
    source: IpAddr,
    inherits: bool,
}

#[test]
fn two_hundred_and_fifty_six_sessions_come_up_display_fast_and_some_move() {
    let (router, station) = hosts();
    let mut places = Vec::new();
    let mut configuration = "bmp\n connect-interface 203.0.113.1\n".to_owned();
    for (i, j) in (0..INTERFACES).flat_map(|i| (1..=STATIONS).map(move |j| (i, j))) {
        let (address, inherits) = (IpAddr::from([10, 30, i, j]), j <= INHERITING);
        let own = if inherits { String::new() } else { format!("  connect-interface p{i}\n") };
        configuration += &format!(" bmp-session {address}\n  tcp connect port {STATION_PORT}\n{own}");
        let source = if inherits { [203, 0, 113, 1].into() } else { [10, 20, i, 1].into() };
        places.push(SessionPlace { station: TestStation::start(&station, (address, STATION_PORT)), source, inherits });
    }
    let bmpd = Bmpd::start(&router, &configuration);
    until("every session is up", PATIENCE, || {
        let sessions = bmpd.sessions();
        (sessions.len() == 256 && sessions.iter().all(|session| session["state"] == "up")).then_some(())
    });
    for SessionPlace { station, source, .. } in &places {
        assert_eq!(station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), *source);
    }

    // The best of several attempts, because other tests may delay most of them.
    let tries = (0..20).map(|_| {
        let start = Instant::now();
        let text = bmpd.display("display bmp session");
        (start.elapsed(), text)
    });
    let (best, text) = tries.min().expect("there were attempts");
    assert!(text.contains("Total number of BMP session : 256") && text.contains("up state : 256"), "{text}");
    assert!(best < patience(Duration::from_millis(100)), "display bmp session took {best:?} at best");

    bmpd.commit_lines("bmp\nconnect-interface 203.0.113.2");
    for SessionPlace { station, .. } in places.iter().filter(|place| place.inherits) {
        let old = station.wait_connection(0, "its end", |c| c.end.is_some());
        assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(RecordedEnd::Fin)));
        let new = station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
        assert_eq!(new.peer.ip(), IpAddr::from([203, 0, 113, 2]));
    }
    let sessions = bmpd.sessions();
    for SessionPlace { station, inherits, .. } in &places {
        let address = station.address().ip().to_string();
        let session = sessions.iter().find(|session| session["station"] == address).expect("the session is configured");
        assert_eq!(session["established_count"], if *inherits { 2 } else { 1 }, "{session:#}");
        assert_eq!(station.connections().len(), if *inherits { 2 } else { 1 });
    }

    bmpd.terminate();
    for SessionPlace { station, .. } in &places {
        let last = station.wait_for("the end", PATIENCE, |c| c.last().filter(|c| c.end.is_some()).cloned());
        assert_eq!((last.has(bmp::TERMINATION), last.end), (true, Some(RecordedEnd::Fin)));
    }
}
