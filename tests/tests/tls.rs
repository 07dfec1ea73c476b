//! TLS against openssl(1), in both directions: who is let in, who is not, and why.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::SystemTime,
};

use lab::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, number},
    capture::LinkCapture,
    feeder::BmpFeeder,
    keychain::UNANSWERED,
    passive::listening,
    pmacct::Pmbmpd,
    skip::skip,
    station::{StationMode, TestStation},
    stunnel::Stunnel,
    tls::{OpensslPeer, STATION_NAMES, TestCa, TestCertificate, profile, session},
    tls_station::{RustlsStation, StationAct},
    topology::{STATION, STATION_PORT, Topology, UP2},
    trial::{RELAY, outgoing},
    wait::{PATIENCE, until},
};
use nix::sys::signal::Signal;

/// Returns the arguments by which openssl demands a certificate of this CA.
fn demands(ca: &TestCa) -> Vec<String> {
    ["-Verify", "1", "-verify_return_error", "-CAfile"].map(str::to_owned).into_iter().chain([path(ca)]).collect()
}

fn path(ca: &TestCa) -> String {
    ca.file().display().to_string()
}

fn as_str(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn a_session_with_tls_tells_a_station_everything_by_its_pinned_uplink() {
    let topology = Topology::without_offload();
    let ca = TestCa::new("Lab CA");
    let [station, own] = [("station", STATION_NAMES), ("edge1", "DNS:edge1.example.net")]
        .map(|(name, names)| ca.issue(name, &format!("{name}.example.net"), names, 20));
    let [other, link] = ["up1", "up2"].map(|uplink| LinkCapture::start(&topology.router, uplink, STATION_PORT));
    let far = OpensslPeer::station(&topology.station, (STATION, STATION_PORT), &station, &as_str(&demands(&ca)));
    let configuration = profile("mutual", &ca, Some(&own), "") + &session("tcp connect", "mutual");
    let bmpd = Bmpd::start(&topology.router, &configuration);
    let (peer, routes) = (ReportedPeer::default(), prefixes(20_000));
    let mut feeder = BmpFeeder::with_peer(&topology.router, RELAY, &peer);
    feeder.announce(&peer, &routes, 10);
    far.wait_for("all routes", |record| {
        let announced = record.frames.iter().filter_map(|frame| Some(frame.update()?.announced.len()));
        record.count(bmp::INITIATION) == 1 && announced.sum::<usize>() == routes.len()
    });
    let shown = bmpd.wait_up(STATION);
    assert_eq!(shown["tls"]["profile"], "mutual", "{shown:#}");
    assert_eq!(shown["tls"]["peer"], "CN=station.example.net");
    assert!(shown["tls"]["cipher"].as_str().is_some_and(|cipher| cipher.starts_with("TLS13_")), "{shown:#}");
    let left = shown["tls"]["certificate_expires_in_seconds"].as_i64().unwrap_or_default();
    assert!((19 * 86_400..=20 * 86_400).contains(&left), "{left}");
    assert_eq!(shown["established_count"], 1);
    // The kernel counts what leaves encrypted.
    until("the kernel has counted every packet", PATIENCE, || {
        let packets = link.packets();
        let sent: u64 = outgoing(&packets).iter().map(|packet| packet.ip_bytes).sum();
        (number(&bmpd.session(STATION)["kernel"]["tx_bytes"]) == sent).then_some(())
    });
    // It expires in less than 30 days, and the CA too.
    bmpd.wait_for_log("a warning", |line| line.contains("expires at") && line.contains("tls profile mutual"));
    let key = std::fs::read_to_string(&own.key).expect("the key can be read");
    let secret = key.lines().nth(1).expect("a key has a second line");
    for display in ["display bmp session verbose", "display current-configuration"] {
        assert!(!bmpd.display(display).contains(secret), "{display}");
    }
    assert!(!bmpd.log().iter().any(|line| line.contains(secret)));
    drop(feeder);
    let setup = bmpd.terminate();
    far.wait_for("the Termination", |record| record.count(bmp::TERMINATION) == 1);
    drop(setup);
    assert!(outgoing(&link.stop()).len() > 10);
    assert_eq!(other.count(), 0, "packets have left by up1");
}

#[test]
fn a_station_that_is_not_the_right_one_is_refused_with_the_reason() {
    let topology = Topology::new();
    let (ca, other) = (TestCa::new("Lab CA"), TestCa::new("Other CA"));
    let good = ca.issue("good", "station", STATION_NAMES, 10);
    let cases = [
        (
            "name",
            ca.issue("name", "other", "DNS:other.example.net,IP:198.51.100.8", 10),
            "certificate-mismatch",
            "other.example.net",
        ),
        (
            "ca",
            other.issue("station", "station", STATION_NAMES, 10),
            "unknown-ca",
            "does not lead to a CA of `trusted-ca`",
        ),
        ("expired", ca.issue("expired", "station", STATION_NAMES, 0), "certificate-expired", "expired at"),
        ("version", good.clone(), "tls-version", "TLS 1.3"),
        ("fingerprint", good.clone(), "certificate-mismatch", "with the fingerprint sha256"),
        ("nobody", good.clone(), "tls-failed", "certificate_required"),
    ];
    // The certificate is valid to the end of the second in which it was made.
    let made = SystemTime::now();
    until("a certificate has expired", PATIENCE, || (made.elapsed().ok()?.as_secs() >= 1).then_some(()));
    let named = |name: &str| format!(" verify-name {name}\n");
    let mut configuration = profile("plain", &ca, None, "");
    configuration += &profile("named", &ca, None, &named("station.example.net"));
    configuration += &profile("wrong-name", &ca, None, &named("edge9.example.net"));
    configuration += &format!("tls profile pinned\n fingerprint sha256 {}\n", "00".repeat(32));
    configuration += "bmp\n";
    let mut stations = Vec::new();
    for (port, (case, certificate, ..)) in (12_001_u16..).zip(&cases) {
        let arguments = match *case {
            "version" => vec!["-tls1_2".to_owned()],
            "nobody" => demands(&ca),
            _ => Vec::new(),
        };
        stations.push(OpensslPeer::station(&topology.station, (STATION, port), certificate, &as_str(&arguments)));
        let profile = if *case == "fingerprint" { "pinned" } else { "plain" };
        configuration += &format!(
            " bmp-session {STATION} alias {case}\n  tcp connect port {port} tls {profile}\n  connect-interface up2\n"
        );
    }
    // Stations without TLS: one reads on and says nothing, one closes, one resets.
    let modes = [("closes", StationMode::Close), ("resets", StationMode::Reset)];
    let mut plain = Vec::new();
    for (port, (case, mode)) in (12_101_u16..).zip(modes) {
        let station = TestStation::start(&topology.station, (STATION, port));
        station.set_mode(mode);
        plain.push(station);
        configuration += &format!(
            " bmp-session {STATION} alias {case}\n  tcp connect port {port} tls plain\n  connect-interface up2\n"
        );
    }
    // The right one, by its address and by its name, and by a wrong one.
    for (case, profile) in [("right", "plain"), ("named", "named"), ("misnamed", "wrong-name")] {
        let port = 12_200 + u16::try_from(stations.len()).expect("a few stations");
        stations.push(OpensslPeer::station(&topology.station, (STATION, port), &good, &[]));
        configuration += &format!(
            " bmp-session {STATION} alias {case}\n  tcp connect port {port} tls {profile}\n  connect-interface up2\n"
        );
    }
    let bmpd = Bmpd::start(&topology.router, &configuration);
    let is = |alias: &str, reason: Option<&str>, detail: &str| {
        until(&format!("{alias} is down with {reason:?} and {detail:?}, or up"), UNANSWERED, || {
            let sessions = bmpd.sessions();
            let shown = sessions.iter().find(|session| session["alias"] == alias)?;
            let says = |detail: &str| shown["detail"].as_str().is_some_and(|why| why.contains(detail));
            let is_so = match reason {
                Some(reason) => shown["reason"] == reason && says(detail),
                None => shown["state"] == "up",
            };
            is_so.then_some(())
        });
    };
    for (case, _, reason, detail) in &cases {
        is(case, Some(reason), detail);
    }
    is("closes", Some("not-tls"), "instead of a TLS handshake");
    // The reset may come before the handshake has begun: then it is a connection that was reset.
    until("resets is down for a reset", UNANSWERED, || {
        let sessions = bmpd.sessions();
        let shown = sessions.iter().find(|session| session["alias"] == "resets")?;
        let is_told = shown["reason"] == "not-tls" || shown["reason"] == "connection-reset";
        (is_told && shown["detail"].as_str()?.contains("reset")).then_some(())
    });
    is("misnamed", Some("certificate-mismatch"), "not for edge9.example.net");
    is("right", None, "");
    is("named", None, "");
}

#[test]
fn a_station_that_sends_something_else_or_nothing_is_not_tls() {
    let topology = Topology::new();
    let ca = TestCa::new("Lab CA");
    let far = TestStation::start(&topology.station, (STATION, STATION_PORT));
    far.set_mode(StationMode::Stall);
    let bmpd = Bmpd::start(&topology.router, &(profile("plain", &ca, None, "") + &session("tcp connect", "plain")));
    let shown = bmpd.wait_session_for(STATION, "not-tls", UNANSWERED, |session| session["reason"] == "not-tls");
    assert!(shown["detail"].to_string().contains("sent nothing within 10 s"), "{shown:#}");
    until("the station has a connection", UNANSWERED, || {
        far.send(b"220 mail.example.net ESMTP\r\n");
        let shown = bmpd.session(STATION);
        shown["detail"].to_string().contains("is not TLS").then_some(())
    });
}

#[test]
fn a_fingerprint_alone_lets_a_station_in() {
    let topology = Topology::new();
    let ca = TestCa::new("Lab CA");
    let station = ca.issue("station", "station", "DNS:whatever.example.net", 10);
    let _far = OpensslPeer::station(&topology.station, (STATION, STATION_PORT), &station, &[]);
    let pinned = format!("tls profile pinned\n fingerprint sha256 {}\n", station.fingerprint());
    let bmpd = Bmpd::start(&topology.router, &(pinned + &session("tcp connect", "pinned")));
    bmpd.wait_up(STATION);
}

#[test]
fn a_passive_session_takes_a_station_with_a_certificate_of_its_ca_alone() {
    let topology = Topology::new();
    let (ca, other) = (TestCa::new("Lab CA"), TestCa::new("Other CA"));
    let own = ca.issue("edge1", "edge1", "DNS:edge1.example.net,IP:192.0.2.65", 10);
    let [station, stranger] = [&ca, &other].map(|ca| ca.issue("station", "station", STATION_NAMES, 10));
    let configuration = profile("mutual", &ca, Some(&own), " verify-name station.example.net\n");
    let bmpd = Bmpd::start(&topology.router, &(configuration + &session("tcp listen", "mutual")));
    listening(&bmpd, STATION);
    let call = |certificate: Option<&TestCertificate>| {
        let mut arguments = ["-bind", "198.51.100.7:0", "-verify_return_error", "-CAfile"].map(str::to_owned).to_vec();
        arguments.push(path(&ca));
        if let Some(TestCertificate { certificate, key }) = certificate {
            let files = [("-cert", certificate), ("-key", key)];
            arguments.extend(files.into_iter().flat_map(|(word, file)| [word.to_owned(), file.display().to_string()]));
        }
        OpensslPeer::client(&topology.station, (UP2, STATION_PORT), &as_str(&arguments))
    };
    let refused = |detail: &str| {
        bmpd.wait_session_for(STATION, detail, UNANSWERED, |session| session["detail"].to_string().contains(detail));
    };
    let _nobody = call(None);
    refused("presents no certificate");
    let _stranger = call(Some(&stranger));
    refused("unknown-ca");
    let plain = TestStation::start(&topology.station, SocketAddr::new(STATION, 0));
    plain.call((UP2, STATION_PORT), PATIENCE).expect("bmpd listens");
    plain.send(&bmp::initiation("a station that does not speak TLS"));
    refused("not-tls");
    let right = call(Some(&station));
    right.wait_for("the Initiation", |record| record.count(bmp::INITIATION) == 1);
    let shown = bmpd.wait_up(STATION);
    assert_eq!(shown["tls"]["peer"], "CN=station");
    // Whoever cannot prove that it is the station does not end the connection that is up.
    let _again = call(Some(&stranger));
    until("the stranger is refused a second time", UNANSWERED, || {
        let refused = |line: &&String| {
            line.contains("closed a connection of the station") && line.contains("does not lead to a CA")
        };
        (bmpd.log().iter().filter(refused).count() == 2).then_some(())
    });
    assert_eq!(bmpd.session(STATION)["established_count"], 1);
    assert_eq!(bmpd.session(STATION)["state"], "up");
    let second = call(Some(&station));
    second.wait_for("the Initiation", |record| record.count(bmp::INITIATION) == 1);
    until("the newer connection is up", PATIENCE, || (bmpd.session(STATION)["established_count"] == 2).then_some(()));
}

#[test]
fn a_relay_takes_clients_with_a_certificate_of_its_ca_alone() {
    let topology = Topology::new();
    let ca = TestCa::new("Lab CA");
    let [own, client] = ["relay", "client"].map(|name| ca.issue(name, name, "IP:127.0.0.1", 10));
    let relay = format!("bmp-relay lab\n listen {} port {} tls relay\n", RELAY.ip(), RELAY.port());
    let station = format!("bmp\n bmp-session {STATION}\n  tcp connect port {STATION_PORT}\n  connect-interface up2\n");
    let far = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let bmpd = Bmpd::start(&topology.router, &(profile("relay", &ca, Some(&own), "") + &relay + &station));
    bmpd.wait_for_log("that it listens", |line| line.contains("relay listening"));
    let [trusted, certificate, key] =
        [path(&ca), client.certificate.display().to_string(), client.key.display().to_string()];
    let peer = ReportedPeer::default();
    let routes = prefixes(5000);
    let report = |client: &mut OpensslPeer| {
        client.send(&bmp::initiation("feeder"));
        client.send(&bmp::peer_up(&peer));
        bmp::announcements(&peer, &routes, 50).iter().for_each(|message| client.send(message));
    };
    let trust = ["-CAfile", &trusted, "-verify_return_error"];
    let _stranger = OpensslPeer::client(&topology.router, RELAY, &trust);
    bmpd.wait_for_log("that it is refused", |line| line.contains("presents no certificate"));
    BmpFeeder::connect(&topology.router, RELAY).send(bmp::initiation("plain"));
    bmpd.wait_for_log("that it is refused", |line| line.contains("is not TLS"));
    let arguments = [&trust[..], &["-cert", &certificate, "-key", &key]].concat();
    let mut right = OpensslPeer::client(&topology.router, RELAY, &arguments);
    report(&mut right);
    far.wait_connection(0, "all routes", |connection| connection.announced() == routes.len());
    bmpd.wait_for_log("whose certificate it is", |line| line.contains("with the certificate of CN=client"));
}

#[test]
fn a_new_certificate_counts_for_new_connections_and_those_that_are_up_stay_up() {
    let topology = Topology::new();
    let ca = TestCa::new("Lab CA");
    let station = ca.issue("station", "station", STATION_NAMES, 10);
    let own = ca.issue("edge1", "edge1", "DNS:edge1.example.net", 5);
    let far = OpensslPeer::station(&topology.station, (STATION, STATION_PORT), &station, &as_str(&demands(&ca)));
    let bmpd =
        Bmpd::start(&topology.router, &(profile("mutual", &ca, Some(&own), "") + &session("tcp connect", "mutual")));
    let days = || {
        let seconds = bmpd.session(STATION)["tls"]["certificate_expires_in_seconds"].as_i64().unwrap_or_default();
        // Some seconds of the last day are over already, or none.
        (seconds + 3600) / 86_400
    };
    bmpd.wait_up(STATION);
    assert_eq!(days(), 5);
    // Nonsense in its place is not used.
    std::fs::write(&own.certificate, "nonsense").expect("the file can be written");
    bmpd.signal(Signal::SIGHUP);
    bmpd.wait_for_log("a warning", |line| line.contains("new connections have what was read before"));
    assert_eq!(days(), 5);
    ca.issue("next", "edge1", "DNS:edge1.example.net", 20).replace(&own);
    bmpd.signal(Signal::SIGHUP);
    until("bmpd has the new certificate", PATIENCE, || (days() == 20).then_some(()));
    assert_eq!(bmpd.session(STATION)["established_count"], 1);
    bmpd.display(&format!("reset bmp session {STATION}"));
    far.wait_for("the next connection", |record| record.count(bmp::INITIATION) == 2);
    let metrics = bmpd.session(STATION);
    assert_eq!(metrics["established_count"], 2, "{metrics:#}");
}

#[test]
fn a_changed_profile_counts_for_new_connections_and_those_that_are_up_stay_up() {
    let topology = Topology::new();
    let (ca, other) = (TestCa::new("Lab CA"), TestCa::new("Other CA"));
    let station = ca.issue("station", "station", STATION_NAMES, 10);
    let _far = OpensslPeer::station(&topology.station, (STATION, STATION_PORT), &station, &[]);
    // The sandbox lets bmpd read the files of both.
    let configuration = profile("unused", &other, None, "") + &profile("plain", &ca, None, "");
    let bmpd = Bmpd::start(&topology.router, &(configuration + &session("tcp connect", "plain")));
    let mut established = 1;
    bmpd.wait_up(STATION);
    let trusts = |ca: &TestCa| format!("trusted-ca {}", path(ca));
    let changes = [
        ("verify-name other.example.net".to_owned(), "undo verify-name".to_owned(), "certificate-mismatch"),
        (
            format!("fingerprint sha256 {}", "00".repeat(32)),
            "undo fingerprint sha256".to_owned(),
            "certificate-mismatch",
        ),
        (trusts(&other), trusts(&ca), "unknown-ca"),
    ];
    for (change, back, reason) in changes {
        bmpd.commit_lines(&format!("tls profile plain\n{change}"));
        let shown = bmpd.session(STATION);
        assert_eq!((&shown["state"], &shown["established_count"]), (&"up".into(), &established.into()), "{change}");
        bmpd.display(&format!("reset bmp session {STATION}"));
        bmpd.wait_down(STATION, reason);
        // An attempt with the former profile does not go on.
        bmpd.commit_lines(&format!("tls profile plain\n{back}"));
        established += 1;
        let shown = bmpd.wait_up(STATION);
        assert_eq!(shown["established_count"], established, "{back}");
    }
}

#[test]
fn a_profile_that_cannot_be_used_keeps_its_session_down_and_a_commit_warns() {
    let topology = Topology::new();
    let ca = TestCa::new("Lab CA");
    let far = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let bmpd = Bmpd::start(&topology.router, &(profile("plain", &ca, None, "") + &session("tcp connect", "nothing")));
    let shown = bmpd.wait_down(STATION, "tls-profile-unusable");
    assert!(shown["detail"].to_string().contains("there is no tls profile nothing"), "{shown:#}");
    let said = bmpd.commit_lines("tls profile nothing\nverify-name station.example.net");
    assert!(said.contains("needs `trusted-ca` or `fingerprint`"), "{said}");
    assert!(far.connections().is_empty(), "bmpd connected without TLS");
    let (done, said) = bmpd.typed("system-view\ntls profile nothing\ntrusted-ca relative.pem\n");
    assert!(said.contains("give the whole path"), "{done}: {said}");
    // The sandbox has closed every folder that no setting named.
    let (_, said) = bmpd.typed("system-view\ntls profile nothing\ntrusted-ca /srv/ca.pem\ncommit\n");
    assert!(said.contains("bmpd can open no file in /srv since it started"), "{said}");
}

#[test]
fn a_station_may_change_its_keys_where_bmpd_encrypts_itself() {
    let topology = Topology::new();
    let ca = TestCa::new("Lab CA");
    let far = RustlsStation::start(
        &topology.station,
        (STATION, STATION_PORT),
        &ca.issue("station", "station", STATION_NAMES, 10),
    );
    let bmpd = Bmpd::start(&topology.router, &(profile("plain", &ca, None, "") + &session("tcp connect", "plain")));
    let shown = bmpd.wait_up(STATION);
    if shown["tls"]["in_kernel"] == true {
        skip("the kernel has TLS, which changes no keys: tests/vm_tls.rs is for such");
        return;
    }
    let (peer, routes) = (ReportedPeer::default(), prefixes(2000));
    let mut feeder = BmpFeeder::with_peer(&topology.router, RELAY, &peer);
    for round in 1..=3 {
        far.act(StationAct::ChangeKeys);
        feeder.announce(&peer, &routes, 10);
        far.wait_for(0, "all routes once more", |record| record.announced() == round * routes.len());
    }
    assert_eq!(bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_pmbmpd_behind_stunnel_gets_every_route() {
    let topology = Topology::new();
    let ca = TestCa::new("Lab CA");
    let [station, own] = [("station", STATION_NAMES), ("edge1", "DNS:edge1.example.net")]
        .map(|(name, names)| ca.issue(name, name, names, 10));
    let behind = SocketAddr::from((Ipv4Addr::LOCALHOST, STATION_PORT));
    let collector = Pmbmpd::start(&topology.station, behind);
    let _stunnel = Stunnel::start(&topology.station, (STATION, STATION_PORT), behind, &station, &ca);
    let configuration = profile("mutual", &ca, Some(&own), "") + &session("tcp connect", "mutual");
    let bmpd = Bmpd::start(&topology.router, &configuration);
    bmpd.wait_up(STATION);
    let (peer, routes) = (ReportedPeer::default(), prefixes(2000));
    let mut feeder = BmpFeeder::with_peer(&topology.router, RELAY, &peer);
    feeder.announce(&peer, &routes, 10);
    collector.wait_for("every route", UNANSWERED, |messages| {
        let known: BTreeSet<_> = messages.iter().filter_map(|message| message["ip_prefix"].as_str()).collect();
        (known.len() == routes.len()).then_some(())
    });
    assert_eq!(collector.complaints(), Vec::<String>::new());
}
