//! An interface of `egress-interface` goes, and comes back with another index. No session connects
//! again for it, and each may leave by it at once.

use std::{io::Write as _, net::TcpStream};

use lab::{
    bmp,
    bmpd::number,
    capture::LinkCapture,
    passive,
    sockets::ForeignSocket,
    topology::{LOOPBACK, STATION, STATION_PORT, Topology},
    trial::{LabTrial, TrialPlan, outgoing},
    wait::{PATIENCE, until},
};

/// The source is the loopback address. The session may leave by either uplink, of which routing
/// prefers `up1`.
const LENT: &str = "connect-interface 203.0.113.1\negress-interface up1 up2";

/// Deletes the second uplink and makes it again, with all its routes.
fn make_anew(topology: &Topology) {
    topology.router.ip("link del up2");
    topology.recreate_uplink2();
    topology.station.ip("route replace 203.0.113.1/32 via 192.0.2.65 dev dn2 metric 20");
}

fn egress(trial: &LabTrial) -> Vec<String> {
    let session = trial.bmpd.session(STATION);
    let names = session["egress"]["interfaces"].as_array().expect("interfaces is a list").iter();
    names.filter_map(|name| name.as_str()).map(str::to_owned).collect()
}

#[test]
fn a_session_survives_the_loss_of_an_unused_interface_and_uses_the_new_one() {
    let trial = TrialPlan::session(LENT).start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 10, 0);
    trial.topology.router.ip("link del up2");
    until("the session may leave by up1 alone", PATIENCE, || (egress(&trial) == ["up1"]).then_some(()));
    trial.routes_arrive(&mut feeder, 10, 0);

    trial.topology.recreate_uplink2();
    trial.topology.station.ip("route replace 203.0.113.1/32 via 192.0.2.65 dev dn2 metric 20");
    until("the session may leave by both", PATIENCE, || (egress(&trial).len() == 2).then_some(()));
    let up2 = LinkCapture::start(&trial.topology.router, "up2", STATION_PORT);
    trial.topology.carrier_down("up1");
    trial.routes_arrive(&mut feeder, 500, 0);
    assert!(
        outgoing(&up2.packets()).iter().any(|packet| packet.payload_bytes > 0),
        "no payload left by the new interface"
    );

    let session = trial.bmpd.session(STATION);
    assert_eq!((session["state"].as_str(), session["established_count"].as_u64()), (Some("up"), Some(1)));
    let connections = trial.station.connections();
    assert_eq!((connections.len(), connections[0].peer.ip(), &connections[0].end), (1, LOOPBACK, &None));
    assert_eq!(number(&session["kernel"]["denied"]["interface"]), 0, "the kernel denied a packet");
}

#[test]
fn an_adopted_connection_survives_the_loss_of_an_unused_interface() {
    let trial = TrialPlan::session(&format!("adopt\n{LENT}")).start();
    trial.bmpd.wait_session(STATION, "waiting for its daemon", |session| session["phase"] == "connecting");
    let mut stream: TcpStream = ForeignSocket::default()
        .connect(&trial.topology.router, trial.station.address())
        .expect("the pin lets it connect");
    trial.bmpd.wait_up(STATION);
    make_anew(&trial.topology);
    until("the session may leave by both", PATIENCE, || (egress(&trial).len() == 2).then_some(()));
    trial.topology.carrier_down("up1");
    stream.write_all(&bmp::initiation("foreign")).expect("the connection is open");
    let connection = trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!((connection.peer.ip(), connection.end), (LOOPBACK, None));
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_passive_connection_survives_the_loss_of_an_unused_interface() {
    let lines = format!("tcp listen port {}\n{LENT}", passive::PORT);
    let trial = passive::connected(&TrialPlan::session(&lines), LOOPBACK);
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 10, 0);
    make_anew(&trial.topology);
    until("the session may leave by both", PATIENCE, || (egress(&trial).len() == 2).then_some(()));
    trial.topology.carrier_down("up1");
    trial.routes_arrive(&mut feeder, 100, 0);
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 1);
}

#[test]
fn a_station_connects_by_a_returned_interface() {
    let lines = format!("tcp listen port {}\n{LENT}", passive::PORT);
    let trial = passive::connected(&TrialPlan::session(&lines), LOOPBACK);
    make_anew(&trial.topology);
    until("the session may leave by both", PATIENCE, || (egress(&trial).len() == 2).then_some(()));
    let up2 = LinkCapture::start(&trial.topology.router, "up2", STATION_PORT);
    trial.topology.station.ip("route del 203.0.113.1/32 via 192.0.2.1 dev dn1 metric 10");
    // The listener by the interface that has returned follows the pin by a moment.
    let to = (LOOPBACK, passive::PORT);
    let index = until("bmpd accepts the station", PATIENCE, || trial.station.call(to, PATIENCE).ok());
    trial.station.wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION));
    assert_eq!(trial.bmpd.session(STATION)["established_count"], 2);
    assert!(outgoing(&up2.packets()).iter().any(|p| p.syn && p.ack), "no SYN-ACK left by the interface of the SYN");
    // After that, the connection follows routing to the other interface.
    let before = outgoing(&trial.up1.packets()).len();
    trial.routes_arrive(&mut trial.feeder(), 100, index);
    assert!(outgoing(&trial.up1.packets()).len() > before);
}

#[test]
fn changing_egress_interface_connects_the_session_again() {
    let trial = TrialPlan::session(LENT).start_up();
    trial.bmpd.commit(STATION, "egress-interface up1");
    let old = trial.station.wait_connection(0, "its end", |c| c.end.is_some());
    assert!(old.has(bmp::TERMINATION));
    trial.station.wait_connection(1, "Initiation", |c| c.has(bmp::INITIATION));
}
