//! A link with delay and loss: the session stays, and the counters still equal the packets that
//! left.

use lab::{
    bmpd::number,
    capture::{PacketDirection, sum},
    devices::{impair_arrivals, tc},
    topology::STATION,
    trial::{TrialPlan, assert_left_only_by},
};

#[test]
#[ignore = "needs netem: cargo xtask vm"]
fn a_session_over_a_lossy_link_stays_up_and_is_counted_to_the_byte() {
    let trial = TrialPlan { without_offload: true, ..TrialPlan::session("connect-interface up2") }.start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 10, 0);
    impair_arrivals(&trial.topology.station, "dn2", "delay 5ms loss 10%");
    tc(&trial.topology.station, "qdisc add dev dn2 root netem delay 5ms");
    let mut connection = trial.routes_arrive(&mut feeder, 2000, 0);
    for _ in 0..50 {
        if number(&trial.bmpd.session(STATION)["kernel"]["retransmits"]) > 0 {
            break;
        }
        connection = trial.routes_arrive(&mut feeder, 200, 0);
    }
    assert_left_only_by(&trial.up2, &trial.up1, &connection);

    let (session, packets) = trial.at_rest(&trial.up2);
    let kernel = &session["kernel"];
    let station = trial.station.address();
    assert!(number(&kernel["retransmits"]) > 0, "{kernel}");
    assert_eq!((&session["state"], &session["established_count"]), (&"up".into(), &1.into()), "{session:#}");
    let sent = sum(&packets, |packet| packet.left_for(station));
    assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), sent, "{kernel}");
    let received = sum(&packets, |packet| packet.direction == PacketDirection::In && packet.source == station);
    assert_eq!((number(&kernel["rx_bytes"]), number(&kernel["rx_packets"])), received, "{kernel}");
    // A retransmitted segment was sent and counted twice.
    let payload: u64 = packets.iter().filter(|p| p.left_for(station)).map(|p| p.payload_bytes).sum();
    assert_eq!(number(&kernel["tx_payload_bytes"]), payload, "{kernel}");
    assert!(payload > connection.bytes, "{payload} bytes were sent, {} arrived", connection.bytes);
}
