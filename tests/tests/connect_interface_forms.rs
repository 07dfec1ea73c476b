//! Every form of connect-interface: the session's source address at the station, and the only link
//! of its packets.

use std::net::IpAddr;

use lab::{
    bmp,
    station::RecordedEnd,
    topology::{LOOPBACK, LOOPBACK_V6, STATION, STATION_V6, Topology, UP1, UP1_V6, UP2, UP2_OTHER, UP2_V6},
    trial::{TrialPlan, assert_left_only_by},
};

#[derive(Clone, Copy)]
enum ExpectedLink {
    Up1,
    Up2,
}
use ExpectedLink::{Up1, Up2};

/// Plays a whole session, from the first SYN to the last FIN.
fn leaves(plan: &TrialPlan<'_>, source: IpAddr, link: ExpectedLink) {
    leaves_on(Topology::new(), plan, source, link);
}

fn leaves_on(topology: Topology, plan: &TrialPlan<'_>, source: IpAddr, link: ExpectedLink) {
    let trial = plan.start_on(topology);
    let session = trial.bmpd.wait_up(plan.station);
    assert_eq!(session["local_address"], source.to_string());
    assert_eq!(session["egress"]["enforcement"], "kernel");

    let mut feeder = trial.feeder();
    let connection = trial.routes_arrive(&mut feeder, 500, 0);
    assert_eq!(connection.peer.ip(), source);

    trial.bmpd.terminate();
    let connection = trial.station.wait_connection(0, "the end", |c| c.end.is_some());
    assert_eq!(connection.end, Some(RecordedEnd::Fin));
    assert!(connection.has(bmp::TERMINATION));
    match link {
        Up1 => assert_left_only_by(&trial.up1, &trial.up2, &connection),
        Up2 => assert_left_only_by(&trial.up2, &trial.up1, &connection),
    }
    assert_eq!(trial.station.connections().len(), 1);
}

#[test]
fn without_connect_interface_routing_chooses_link_and_source() {
    leaves(&TrialPlan::default(), UP1, Up1);
}

#[test]
fn an_interface_name_gives_its_address_and_only_that_link() {
    leaves(&TrialPlan::session("connect-interface up2"), UP2, Up2);
}

#[test]
fn an_interface_type_and_number_name_the_interface_they_spell() {
    leaves(&TrialPlan::session("connect-interface up 2"), UP2, Up2);
}

#[test]
fn an_address_is_the_source_and_routing_chooses_the_link() {
    leaves(&TrialPlan::session("connect-interface 192.0.2.65"), UP2, Up1);
}

#[test]
fn a_name_and_an_address_give_that_address_and_only_that_link() {
    leaves(&TrialPlan::session("connect-interface up2 192.0.2.129"), UP2_OTHER, Up2);
}

#[test]
fn type_number_and_address_give_that_address_and_only_that_link() {
    leaves(&TrialPlan::session("connect-interface up 2 192.0.2.129"), UP2_OTHER, Up2);
}

#[test]
fn a_loopback_interface_lends_its_address_and_routing_chooses_the_link() {
    leaves(&TrialPlan::session("connect-interface lo"), LOOPBACK, Up1);
}

#[test]
fn a_loopback_interface_and_its_address_let_routing_choose_the_link() {
    leaves(&TrialPlan::session("connect-interface lo 203.0.113.1"), LOOPBACK, Up1);
}

#[test]
fn loopback0_is_the_loopback_interface() {
    leaves(&TrialPlan::session("connect-interface LoopBack0"), LOOPBACK, Up1);
}

#[test]
fn loopback_and_0_are_the_loopback_interface() {
    leaves(&TrialPlan::session("connect-interface LoopBack 0"), LOOPBACK, Up1);
}

#[test]
fn an_interface_alias_names_the_interface() {
    let system = "interface-alias up2 GigabitEthernet0/1/0";
    leaves(&TrialPlan { system, ..TrialPlan::session("connect-interface GigabitEthernet0/1/0") }, UP2, Up2);
}

#[test]
fn a_type_and_a_number_with_slashes_spell_an_interface_alias() {
    let system = "interface-alias up2 GigabitEthernet0/1/0";
    let session = "connect-interface GigabitEthernet 0/1/0 192.0.2.129";
    leaves(&TrialPlan { system, ..TrialPlan::session(session) }, UP2_OTHER, Up2);
}

#[test]
fn an_alternative_name_of_the_kernel_names_the_interface() {
    let topology = Topology::new();
    topology.router.ip("link property add dev up2 altname uplink-to-the-north");
    leaves_on(topology, &TrialPlan::session("connect-interface uplink-to-the-north"), UP2, Up2);
}

#[test]
fn the_bmp_view_gives_the_address_if_the_session_view_has_none() {
    leaves(&TrialPlan { bmp: "connect-interface 192.0.2.65", ..TrialPlan::default() }, UP2, Up1);
}

#[test]
fn the_session_view_beats_the_bmp_view() {
    let plan = TrialPlan { bmp: "connect-interface 203.0.113.1", ..TrialPlan::session("connect-interface up2") };
    leaves(&plan, UP2, Up2);
}

#[test]
fn an_address_in_the_session_view_beats_the_bmp_view() {
    let plan = TrialPlan { bmp: "connect-interface 192.0.2.65", ..TrialPlan::session("connect-interface 203.0.113.1") };
    leaves(&plan, LOOPBACK, Up1);
}

#[test]
fn the_last_connect_interface_of_a_view_replaces_the_earlier_ones() {
    leaves(&TrialPlan::session("connect-interface up1\n  connect-interface up2 192.0.2.129"), UP2_OTHER, Up2);
}

#[test]
fn undo_removes_connect_interface() {
    let session = "connect-interface up2\n  undo connect-interface";
    leaves(&TrialPlan { bmp: "connect-interface 203.0.113.1", ..TrialPlan::session(session) }, LOOPBACK, Up1);
}

fn v6(session: &str) -> TrialPlan<'_> {
    TrialPlan { station: STATION_V6, ..TrialPlan::session(session) }
}

#[test]
fn an_ipv6_session_ignores_the_ipv4_address_of_the_bmp_view() {
    leaves(&TrialPlan { bmp: "connect-interface 192.0.2.65", ..v6("") }, UP1_V6, Up1);
}

#[test]
fn an_ipv6_session_takes_the_ipv6_address_of_the_interface() {
    leaves(&v6("connect-interface up2"), UP2_V6, Up2);
}

#[test]
fn an_ipv6_session_takes_an_ipv6_address_and_routing_chooses_the_link() {
    leaves(&v6("connect-interface 2001:db8:ff::1"), LOOPBACK_V6, Up1);
}

#[test]
fn an_ipv6_session_takes_an_interface_and_an_ipv6_address() {
    leaves(&v6("connect-interface up 2 2001:db8:2::1"), UP2_V6, Up2);
}

#[test]
fn an_ipv6_session_takes_the_ipv6_address_of_the_loopback_interface() {
    leaves(&v6("connect-interface lo"), LOOPBACK_V6, Up1);
}

#[test]
fn an_ipv6_session_takes_the_loopback_interface_and_its_ipv6_address() {
    leaves(&v6("connect-interface lo 2001:db8:ff::1"), LOOPBACK_V6, Up1);
}

#[test]
fn the_bmp_view_does_not_affect_a_session_with_its_own_source() {
    let bmp = "connect-interface 192.0.2.1";
    leaves(&TrialPlan { bmp, ..TrialPlan::session("connect-interface up2 192.0.2.129") }, UP2_OTHER, Up2);
    leaves(&TrialPlan { bmp, ..TrialPlan::session("connect-interface lo") }, LOOPBACK, Up1);
    leaves(&TrialPlan { bmp, ..v6("connect-interface up2") }, UP2_V6, Up2);
}

#[test]
fn an_address_of_another_interface_can_be_the_source_on_the_named_link() {
    for (plan, source) in [
        (TrialPlan::session("connect-interface up2 203.0.113.1"), LOOPBACK),
        (v6("connect-interface up2 2001:db8:ff::1"), LOOPBACK_V6),
    ] {
        let topology = Topology::new();
        // The station's answers must arrive on the interface of the session.
        topology.station.ip("route del 203.0.113.1/32 via 192.0.2.1 dev dn1
             route del 2001:db8:ff::1/128 via 2001:db8:1::1 dev dn1");
        leaves_on(topology, &plan, source, Up2);
    }
}

#[test]
fn an_address_in_the_stations_prefix_is_preferred_to_the_first_address() {
    let topology = Topology::new();
    // The station is on the link of up2 too, in the prefix of the interface's last address.
    topology.router.ip("addr add 198.51.100.1/24 dev up2");
    topology.station.ip("addr del 198.51.100.7/32 dev lo\naddr add 198.51.100.7/24 dev dn2");
    let source = IpAddr::from([198, 51, 100, 1]);
    leaves_on(topology, &TrialPlan { station: STATION, ..TrialPlan::session("connect-interface up2") }, source, Up2);
}
