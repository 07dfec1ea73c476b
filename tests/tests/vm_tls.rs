//! TLS in the kernel: what a session tells, what is counted, and what a station can do to it.

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, number},
    capture::LinkCapture,
    feeder::BmpFeeder,
    keychain::UNANSWERED,
    passive::listening,
    tls::{OpensslPeer, STATION_NAMES, TestCa, profile, session},
    tls_station::{RustlsStation, StationAct},
    topology::{STATION, STATION_PORT, Topology, UP2},
    trial::{RELAY, outgoing},
    wait::{PATIENCE, until},
};

/// A session with TLS to a station of rustls, which is up.
struct KernelTlsTrial {
    far: RustlsStation,
    bmpd: Bmpd,
    /// Every packet of the session on the other uplink, and on its own.
    other: LinkCapture,
    link: LinkCapture,
    topology: Topology,
    _ca: TestCa,
}

impl KernelTlsTrial {
    fn start() -> Self {
        let (topology, ca) = (Topology::without_offload(), TestCa::new("Lab CA"));
        let station = ca.issue("station", "station", STATION_NAMES, 10);
        let far = RustlsStation::start(&topology.station, (STATION, STATION_PORT), &station);
        let configuration = profile("plain", &ca, None, "") + &session("tcp connect", "plain");
        let [other, link] = ["up1", "up2"].map(|uplink| LinkCapture::start(&topology.router, uplink, STATION_PORT));
        let bmpd = Bmpd::start(&topology.router, &configuration);
        let shown = bmpd.wait_up(STATION);
        assert_eq!(shown["tls"]["in_kernel"], true, "{shown:#}");
        Self { far, bmpd, other, link, topology, _ca: ca }
    }

    /// Waits until the session was down with these, and is up again.
    fn is_back_after(&self, connections: u64, reason: &str, detail: &str) {
        self.bmpd.wait_for_log(detail, |line| line.contains(reason) && line.contains(detail));
        let count = |session: &serde_json::Value| number(&session["established_count"]);
        self.bmpd.wait_session_for(STATION, "up again", UNANSWERED, |session| {
            session["state"] == "up" && count(session) == connections
        });
    }
}

#[test]
#[ignore = "needs TLS in the kernel: cargo xtask vm"]
fn a_session_encrypted_in_the_kernel_is_complete_and_counted_and_ends_in_order() {
    let KernelTlsTrial { far, bmpd, other, link, topology, _ca } = KernelTlsTrial::start();
    far.wait_for(0, "the Initiation", |record| record.count(bmp::INITIATION) == 1);
    let verbose = bmpd.display("display bmp session verbose");
    assert!(verbose.contains("_SHA384 in the kernel"), "{verbose}");
    // More than the sockets of both ends have room for: the station must make bmpd wait.
    far.act(StationAct::Pause);
    let (peer, routes) = (ReportedPeer::default(), prefixes(20_000));
    let mut feeder = BmpFeeder::with_peer(&topology.router, RELAY, &peer);
    let rounds = 10;
    for _ in 0..rounds {
        feeder.announce(&peer, &routes, 4);
    }
    let all = (rounds * routes.len() / 4) as u64;
    until("the feed has all of it", PATIENCE, || {
        (number(&bmpd.display_json("display bmp feed")["frames"]) >= all).then_some(())
    });
    far.act(StationAct::GoOn);
    far.wait_for(0, "all routes", |record| {
        let mut known: Vec<_> =
            record.frames.iter().filter_map(bmp::ReceivedFrame::update).flat_map(|update| update.announced).collect();
        known.sort_unstable();
        known.dedup();
        known.len() == routes.len() && record.error.is_none()
    });
    until("the kernel has counted every packet", PATIENCE, || {
        let sent: u64 = outgoing(&link.packets()).iter().map(|packet| packet.ip_bytes).sum();
        (number(&bmpd.session(STATION)["kernel"]["tx_bytes"]) == sent).then_some(())
    });
    drop(feeder);
    let setup = bmpd.terminate();
    far.wait_for(0, "the Termination, and the end of TLS", |record| {
        record.count(bmp::TERMINATION) == 1 && record.is_closed && record.error.is_none()
    });
    drop(setup);
    assert_eq!(other.count(), 0, "packets have left by up1");
}

#[test]
#[ignore = "needs TLS in the kernel: cargo xtask vm"]
fn what_a_station_says_and_sends_to_the_kernel_is_understood() {
    let trial = KernelTlsTrial::start();
    trial.far.act(StationAct::Close);
    trial.is_back_after(2, "station-closed", "the station closed the connection");
    trial.far.act(StationAct::CloseUnannounced);
    trial.is_back_after(3, "station-closed", "without saying so in TLS (close_notify)");
    trial.far.act(StationAct::SendOtherRecord);
    trial.is_back_after(4, "tls-failed", "a record that cannot be decrypted");
    assert_eq!(trial.bmpd.session(STATION)["tls"]["in_kernel"], true);
    // The kernel's keys stay, so the session goes on in user space.
    trial.far.act(StationAct::ChangeKeys);
    trial.is_back_after(5, "tls-failed", "the far end changes the keys of TLS");
    assert_eq!(trial.bmpd.session(STATION)["tls"]["in_kernel"], false);
    trial.far.act(StationAct::ChangeKeys);
    let (peer, routes) = (ReportedPeer::default(), prefixes(2000));
    let mut feeder = BmpFeeder::with_peer(&trial.topology.router, RELAY, &peer);
    feeder.announce(&peer, &routes, 10);
    trial.far.wait_for(4, "all routes", |record| record.announced() == routes.len());
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 5);
}

#[test]
#[ignore = "needs TLS in the kernel: cargo xtask vm"]
fn a_passive_session_is_encrypted_in_the_kernel_too() {
    let topology = Topology::new();
    let ca = TestCa::new("Lab CA");
    let own = ca.issue("edge1", "edge1", "IP:192.0.2.65", 10);
    let station = ca.issue("station", "station", STATION_NAMES, 10);
    let configuration = profile("mutual", &ca, Some(&own), "") + &session("tcp listen", "mutual");
    let bmpd = Bmpd::start(&topology.router, &configuration);
    listening(&bmpd, STATION);
    let [trusted, certificate, key] =
        [&ca.file(), &station.certificate, &station.key].map(|file| file.display().to_string());
    let arguments = ["-bind", "198.51.100.7:0", "-CAfile", &trusted, "-cert", &certificate, "-key", &key];
    let far = OpensslPeer::client(&topology.station, (UP2, STATION_PORT), &arguments);
    assert_eq!(bmpd.wait_up(STATION)["tls"]["in_kernel"], true);
    let (peer, routes) = (ReportedPeer::default(), prefixes(2000));
    let mut feeder = BmpFeeder::with_peer(&topology.router, RELAY, &peer);
    feeder.announce(&peer, &routes, 10);
    far.wait_for("all routes", |record| {
        let announced = record.frames.iter().filter_map(|frame| Some(frame.update()?.announced.len()));
        announced.sum::<usize>() == routes.len()
    });
}
