//! Resets that the kernel itself sends for a connection of a session.

use lab::{
    answerer::Answerer,
    bmpd::number,
    capture::{CapturedPacket, PacketDirection, sum},
    topology::{STATION_PORT, Topology, UP2},
    trial::{TrialPlan, outgoing},
    wait::PATIENCE,
};

/// True if this kernel shows programs the socket of such a reset.
fn tells_whose_resets() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|word| word.trim().parse().ok()).collect();
    numbers >= vec![6, 13]
}

#[test]
fn a_kernel_reset_leaves_by_the_pin_and_is_counted_since_linux_6_13() {
    let plan = TrialPlan::session("connect-interface up2");
    let topology = Topology::without_offload();
    topology.station.ip(&format!("rule add pref 10 ipproto tcp sport {STATION_PORT} blackhole"));
    let _wrong = Answerer::acknowledging_wrongly(&topology.station, "dn2");
    let trial = plan.start_on(topology);
    trial.up2.wait_for("two resets", PATIENCE, |packets| {
        (packets.iter().filter(|p| p.rst && p.direction == PacketDirection::Out).count() >= 2).then_some(())
    });
    let (session, packets) = trial.at_rest(&trial.up2);
    let is_counted = |p: &CapturedPacket| p.direction == PacketDirection::Out && (tells_whose_resets() || !p.rst);
    let kernel = &session["kernel"];
    assert_eq!((number(&kernel["tx_bytes"]), number(&kernel["tx_packets"])), sum(&packets, is_counted), "{kernel:#}");
    assert!(outgoing(&packets).iter().all(|packet| packet.source.ip() == UP2));
    assert_eq!(outgoing(&trial.up1.packets()), Vec::<&CapturedPacket>::new());
}
