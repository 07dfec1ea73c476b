//! The lab's own devices behave as tests expect.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    time::Duration,
};

use lab::{
    devices::vrf,
    topology::{STATION, STATION_PORT, STATION_V6, Topology, UP1, UP2, UP2_V6},
};
use socket2::{Domain, Socket, Type};

/// Returns the source that the station sees when the router connects with a socket bound to
/// `device`.
fn seen(topology: &Topology, device: Option<&str>, station: IpAddr) -> IpAddr {
    let listener = topology.station.enter(|| TcpListener::bind((station, STATION_PORT)).expect("the port is free"));
    let _client = topology.router.enter(|| {
        let socket = Socket::new(Domain::for_address((station, 0).into()), Type::STREAM, None).expect("a socket");
        socket.bind_device(device.map(str::as_bytes)).expect("the device exists");
        let station = SocketAddr::from((station, STATION_PORT));
        socket.connect_timeout(&station.into(), Duration::from_secs(20)).expect("the station answers");
        socket
    });
    listener.accept().expect("the router has connected").1.ip()
}

#[test]
#[ignore = "needs a VRF: cargo xtask vm"]
fn a_socket_in_the_vrf_reaches_the_station_by_the_vrfs_uplink() {
    let topology = Topology::new();
    vrf(&topology, "mgmt");
    assert_eq!(seen(&topology, Some("mgmt"), STATION), UP2);
    assert_eq!(seen(&topology, Some("up2"), STATION), UP2);
    assert_eq!(seen(&topology, Some("mgmt"), STATION_V6), UP2_V6);
    assert_eq!(seen(&topology, None, STATION), UP1);
}
