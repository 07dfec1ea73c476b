use super::*;
use crate::{
    bmp,
    station::TestStation,
    topology::{STATION, STATION_PORT, Topology, UP2},
};

#[test]
fn a_foreign_socket_has_its_bindings_and_can_be_taken() {
    let topology = Topology::new();
    let station = TestStation::start(&topology.station, (STATION, STATION_PORT));
    let foreign = ForeignSocket { source: Some((UP2, 0).into()), device: Some("up2") };
    let stream = foreign.connect(&topology.router, station.address()).unwrap();
    let taken = take(std::process::id(), station.address());
    assert_eq!(taken.device().unwrap().as_deref(), Some(&b"up2"[..]));
    taken.bind_device(None).unwrap();
    send_all(stream, &[bmp::termination()]);
    assert_eq!(station.wait_connection(0, "Termination", |c| c.has(bmp::TERMINATION)).peer.ip(), UP2);
}
