//! The HTTP server: metrics, health and displays for whoever may connect, and clients that mean no
//! good.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use bmp_user::control::read_json;
use lab::{
    bmpd::{Bmpd, StartOptions},
    footprint::{descriptors, resident},
    http::{HttpAnswer, connect, get, read_answer, request},
    skip::skip,
    topology::{STATION, UP1},
    trial::{LabTrial, TrialPlan, further_sessions},
    wait::{PATIENCE, patience, until},
};

/// Where the server listens in every trial, which the station's host reaches by `dn1`.
const SERVER: SocketAddr = SocketAddr::new(UP1, 9179);
const LISTEN: &str = "http listen 192.0.2.1 port 9179";

fn trial() -> LabTrial {
    TrialPlan { system: LISTEN, ..TrialPlan::session("connect-interface up2") }.start_up()
}

fn get_here(trial: &LabTrial, path: &str) -> HttpAnswer {
    get(&trial.topology.router, SERVER, path)
}

/// Returns the data of an answer in JSON.
fn data(answer: HttpAnswer) -> serde_json::Value {
    read_json(&answer.body).unwrap_or_else(|error| panic!("{error:#}: {}", answer.body))
}

#[test]
fn displays_are_served_as_json_and_health_as_a_status() {
    let trial = trial();
    assert_eq!((get_here(&trial, "/healthz").status, &*get_here(&trial, "/healthz").body), (200, "alive\n"));
    assert_eq!((get_here(&trial, "/readyz").status, &*get_here(&trial, "/readyz").body), (200, "ready\n"));
    let index = data(get_here(&trial, "/api/v1"));
    for (path, command) in index.as_object().expect("the index is an object") {
        let command = command.as_str().expect("a command is text");
        if !command.starts_with("display ") {
            continue;
        }
        let (served, displayed) = (get_here(&trial, path), trial.bmpd.display_json(command));
        assert_eq!(served.status, 200, "{path}");
        let fields = |value: &serde_json::Value| match value {
            serde_json::Value::Array(elements) => elements.first().cloned().unwrap_or_default(),
            other => other.clone(),
        };
        let names = |value: serde_json::Value| value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
        assert!(served.head.contains("content-type: application/json"), "{}", served.head);
        assert_eq!(names(fields(&data(served))), names(fields(&displayed)), "{path}");
    }
    let sessions = data(get_here(&trial, "/api/v1/bmp/session"));
    assert_eq!(sessions[0]["station"], STATION.to_string());
    assert_eq!(get_here(&trial, "/nothing").status, 404);
    assert_eq!(get_here(&trial, "/api/v1/current-configuration").status, 404);
    let head =
        request(&trial.topology.router, SERVER, b"HEAD /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let head = head.expect("HEAD is answered");
    assert_eq!((head.status, &*head.body), (200, ""));
}

/// Returns all counters of a scrape.
fn counters(metrics: &HttpAnswer) -> BTreeMap<String, f64> {
    let lines = metrics.body.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.rsplit_once(' '));
    let counters = pairs.filter(|(name, _)| name.split('{').next().is_some_and(|name| name.ends_with("_total")));
    counters.map(|(name, value)| (name.to_owned(), value.parse().expect("a value is a number"))).collect()
}

fn labels() -> String {
    format!("{{station=\"{STATION}\",vpn_instance=\"_public_\",alias=\"\"}}")
}

#[test]
fn metrics_are_those_of_the_session_and_the_kernel_keeps_them_over_a_crash() {
    let trial = trial();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 100, 0);
    let (session, _) = trial.at_rest(&trial.up2);
    let metrics = get_here(&trial, "/metrics");
    assert!(metrics.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", metrics.head);
    assert!(metrics.body.ends_with("# EOF\n"));
    let of_session = |name: &str| metrics.metric(&format!("{name}{}", labels()));
    assert_eq!(of_session("bmpd_session_up"), Some(1.0));
    assert_eq!(of_session("bmpd_session_established_total"), Some(1.0));
    assert_eq!(of_session("bmpd_session_transmit_bytes_total"), session["kernel"]["tx_bytes"].as_f64());
    let kernel = labels().replace('}', ",mode=\"kernel\"}");
    assert_eq!(metrics.metric(&format!("bmpd_session_enforcement{kernel}")), Some(1.0));
    let by_up2 = labels().replace('}', ",interface=\"up2\"}");
    assert_eq!(metrics.metric(&format!("bmpd_session_egress{by_up2}")), Some(1.0));
    let routes = "bmpd_feed_routes{rib=\"adj-rib-in pre-policy\",family=\"IPv4 unicast\"}";
    assert_eq!(metrics.metric(routes), Some(100.0), "{}", metrics.body);
    assert_eq!(metrics.metric("bmpd_relay_up{relay=\"lab\"}"), Some(1.0));
    assert!(!metrics.body.contains("bmpd_peer_up"), "a series for each peer was not asked for");
    trial.bmpd.commit_lines("http peer-metrics");
    assert!(get_here(&trial, "/metrics").body.contains("\nbmpd_peer_up{input=\"lab\",peer="));

    let before = counters(&metrics);
    let LabTrial { bmpd, station, topology, .. } = trial;
    let bmpd = Bmpd::start_in(bmpd.crash(), &StartOptions::default());
    station.wait_connection(1, "an Initiation", |c| c.has(lab::bmp::INITIATION));
    bmpd.wait_up(STATION);
    let after = counters(&get(&topology.router, SERVER, "/metrics"));
    let kept = ["transmit_", "receive_", "denied_", "retransmitted_", "foreign_"];
    for (name, value) in &before {
        if kept.iter().any(|kept| name.starts_with(&format!("bmpd_session_{kept}"))) {
            assert!(after[name] >= *value, "{name} went back from {value} to {}", after[name]);
        }
    }
    let sent = format!("bmpd_session_transmit_bytes_total{}", labels());
    assert!(after[&sent] > before[&sent]);
}

#[test]
fn a_port_in_use_or_a_missing_address_is_told_once_and_tried_again() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    let router = &trial.topology.router;
    let taken = router.enter(|| TcpListener::bind(SERVER).expect("the port is free"));
    let answer = trial.bmpd.commit_lines(LISTEN);
    assert!(answer.contains("Warning: bmpd does not serve HTTP on 192.0.2.1 port 9179: "), "{answer}");
    assert!(answer.contains("another program listens there"), "{answer}");
    let shown = trial.bmpd.display_json("display http");
    assert_eq!(shown["state"], "failed");
    assert!(shown["why"].as_str().is_some_and(|why| why.contains("another program listens there")), "{shown}");
    drop(taken);
    listens(&trial);

    let answer = trial.bmpd.commit_lines("http listen 192.0.2.50 port 9179");
    assert!(answer.contains("the address is not on this host"), "{answer}");
    router.ip("addr add 192.0.2.50/32 dev up1");
    listens(&trial);
    assert_eq!(get(router, (Ipv4Addr::new(192, 0, 2, 50), 9179).into(), "/healthz").status, 200);
    let errors = trial.bmpd.log().iter().filter(|line| line.contains("cannot serve HTTP on")).count();
    assert_eq!(errors, 2, "one line a reason");

    trial.bmpd.commit_lines("undo http listen");
    assert_eq!(trial.bmpd.display_json("display http")["state"], "not-configured");
    until("nobody listens", PATIENCE, || connect(router, SERVER).is_err().then_some(()));
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

fn listens(trial: &LabTrial) {
    until("bmpd listens", 2 * PATIENCE, || {
        (trial.bmpd.display_json("display http")["state"] == "listening").then_some(())
    });
}

#[test]
fn nonsense_and_endless_requests_get_a_bounded_refusal() {
    let trial = trial();
    let router = &trial.topology.router;
    let before = resident(trial.bmpd.pid());
    let status = |bytes: &[u8]| request(router, SERVER, bytes).map(|answer| answer.status).unwrap_or_default();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n");
        assert!(matches!(status(request.as_bytes()), 400 | 405), "{method}");
    }
    assert_eq!(status(b"GET /metrics HTTP/1.1\r\nhost: lab\r\ncontent-length: 5\r\n\r\nhello"), 413);
    assert_eq!(status(b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n"), 400);
    assert_eq!(status(b"GET /metrics HTTP/7.7\r\n\r\n"), 400);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    assert_eq!(status(many.as_bytes()), 431);
    let long = format!("GET /{} HTTP/1.1\r\nhost: lab\r\n\r\n", "a".repeat(200_000));
    assert!(matches!(status(long.as_bytes()), 0 | 414 | 431));

    // A request of 1 GB: the server closes the connection long before.
    let mut stream = connect(router, SERVER).expect("the server listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: lab\r\ncontent-length: 1073741824\r\n\r\n")
        .expect("the server reads");
    let piece = vec![0; 1 << 20];
    let sent = (0..1024).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(sent < 64, "{sent} MiB were taken");
    let grown = resident(trial.bmpd.pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes of memory for nonsense");
    assert_eq!(get_here(&trial, "/healthz").status, 200);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_thousand_slow_clients_hold_a_few_places_for_a_while() {
    let trial = trial();
    let before = descriptors(trial.bmpd.pid());
    let began = Instant::now();
    // A client that is refused finds its connection reset. Those that are let in are held.
    let held: Vec<_> = (0..1000)
        .filter_map(|_| {
            let mut stream = connect(&trial.topology.station, SERVER).ok()?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").ok()?;
            Some(stream)
        })
        .collect();
    let most = descriptors(trial.bmpd.pid()) - before;
    assert!(most <= 32, "{most} descriptors for one host");
    // Another host has places of its own.
    assert_eq!(get_here(&trial, "/metrics").status, 200);
    let shown = trial.bmpd.display_json("display http");
    assert!(shown["refused"].as_u64().is_some_and(|refused| refused > 900), "{shown}");
    until("the slow clients are closed", 2 * PATIENCE, || {
        let shown = trial.bmpd.display_json("display http");
        (shown["connections"] == 0 && shown["slow"].as_u64() > Some(0)).then_some(())
    });
    assert!(began.elapsed() >= Duration::from_secs(9), "they had their time");
    drop(held);
    assert_eq!(get(&trial.topology.station, SERVER, "/healthz").status, 200);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_client_that_reads_nothing_is_closed() {
    let sessions = further_sessions(200, "shutdown");
    let plan = TrialPlan { bmp: &sessions, system: LISTEN, ..TrialPlan::session("connect-interface up2") };
    let trial = plan.start_up();
    let mut reader = connect(&trial.topology.station, SERVER).expect("the server listens");
    // More than the buffers of both ends hold.
    for _ in 0..40 {
        if reader.write_all(b"GET /metrics HTTP/1.1\r\nhost: lab\r\n\r\n").is_err() {
            break;
        }
    }
    until("the connection is closed", 3 * PATIENCE, || {
        let shown = trial.bmpd.display_json("display http");
        (shown["connections"] == 0 && shown["slow"] == 1).then_some(())
    });
    reader.set_read_timeout(Some(patience(PATIENCE))).expect("a timeout is set");
    let mut all = Vec::new();
    // It ends with a reset, as what was sent last was not taken.
    let _ = reader.read_to_end(&mut all);
    let whole = String::from_utf8_lossy(&all).matches("# EOF").count();
    assert!(whole < 40, "{whole} answers were taken");
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
    let mut patient = connect(&trial.topology.station, SERVER).expect("the server listens");
    patient.write_all(b"GET /metrics HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n").expect("it is read");
    assert!(read_answer(&mut patient).expect("it is answered").body.ends_with("# EOF\n"));
}

#[test]
fn the_server_follows_the_configuration_and_sessions_stay_up() {
    let trial = trial();
    let router = &trial.topology.router;
    assert_eq!(get_here(&trial, "/healthz").status, 200);
    assert_eq!(trial.bmpd.commit_lines("http listen 127.0.0.1 port 9180"), "");
    let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);
    assert_eq!(get(router, local, "/healthz").status, 200);
    until("the old address is free", PATIENCE, || connect(router, SERVER).is_err().then_some(()));
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn health_names_the_task_that_hangs() {
    for task in ["pins", "session", "interfaces"] {
        let trial = trial();
        if trial.bmpd.fault("list").is_none() {
            return skip("this bmpd was built without debug assertions, so it has no faults on demand");
        }
        assert_eq!(get_here(&trial, "/healthz").status, 200);
        trial.bmpd.fault(&format!("stop {task}"));
        let answer = get_here(&trial, "/healthz");
        assert_eq!((answer.status, &*answer.body), (503, &*format!("the task `{task}` hangs\n")));
        let LabTrial { bmpd, .. } = trial;
        bmpd.crash();
    }
}
