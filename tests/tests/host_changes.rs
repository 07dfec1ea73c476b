//! The host changes under sessions that are up and pinned to `up2`. Each affected session goes down
//! at once with the right reason, sends nothing elsewhere, and comes back at once from the same
//! source. Other sessions notice nothing.

use std::{net::IpAddr, time::Duration};

use lab::{
    capture::CapturedPacket,
    company::Company,
    netns::Netns,
    topology::{ROUTE_BY_UP2, STATION_2, Topology, UP2, UP2_V6},
    trial::strays,
};

/// Longer than the kernel needs to announce a change, and far shorter than a grown back-off.
const AT_ONCE: Duration = Duration::from_secs(3);

const SOURCES: [IpAddr; 2] = [UP2, UP2_V6];
const IPV4: &[usize] = &[0];
const IPV6: &[usize] = &[1];
const BOTH: &[usize] = &[0, 1];

const ROUTE_V6_BY_UP2: &str = "2001:db8:7::/64 via 2001:db8:2::2 dev up2 metric 20";
/// Lines that restore addresses and routes after `link set down`.
const WHAT_DOWN_TAKES: &str = "addr replace fe80::1/64 dev up2 nodad
     addr replace 2001:db8:2::1/64 dev up2 nodad
     route replace 198.51.100.0/24 via 192.0.2.66 dev up2 metric 20
     route replace 2001:db8:7::/64 via 2001:db8:2::2 dev up2 metric 20";

/// Renames an interface: while it is up on Linux 6.2 and newer, else while it is down, with
/// addresses and routes restored.
fn rename(topology: &Topology, from: &str, to: &str) {
    let router = &topology.router;
    if router.try_ip(&format!("link set {from} name {to}")).is_err() {
        let put_back = WHAT_DOWN_TAKES.replace("up2", to);
        router.ip(&format!("link set {from} down\nlink set {from} name {to}\nlink set {to} up\n{put_back}"));
    }
}

fn pinned() -> Company {
    Company::start("", ["connect-interface up2"; 2])
}

/// Waits until a subject is down with `reason`, and without a back-off.
fn down(company: &Company, subject: usize, reason: &str) {
    let is_down = |session: &serde_json::Value| session["state"] == "down" && session["reason"] == reason;
    let what = format!("down, {reason}");
    let session = company.bmpd.wait_session_for(company.address(subject), &what, AT_ONCE, is_down);
    assert!(session["retry_in_seconds"].is_null() && session["detail"].is_string(), "{session:#}");
}

/// Asserts that `lose` takes exactly `subjects` down with `reason`, and that `mend` brings them
/// back.
fn goes_down_and_comes_back(
    subjects: &[usize],
    lose: impl Fn(&Topology),
    reason: &str,
    mend: impl Fn(&Topology),
) -> Company {
    let mut company = pinned();
    lose(&company.topology);
    for subject in subjects {
        down(&company, *subject, reason);
    }
    // Routes that arrive meanwhile must not leave by another link.
    company.assert_others_stayed();
    mend(&company.topology);
    for subject in [0, 1] {
        if !subjects.contains(&subject) {
            company.assert_stayed(subject);
            continue;
        }
        let up = |session: &serde_json::Value| session["state"] == "up";
        company.bmpd.wait_session_for(company.address(subject), "up", AT_ONCE, up);
        assert_eq!(company.connected(subject, 1).peer.ip(), SOURCES[subject]);
        assert_eq!(company.session(subject)["established_count"], 2);
    }
    company.assert_others_stayed();
    assert_kept_to_up2(&company);
    company
}

/// Asserts that no packet with a subject's source left by `up1`.
fn assert_kept_to_up2(company: &Company) {
    let packets = company.up1.packets();
    let astray: Vec<&CapturedPacket> =
        strays(&packets).into_iter().filter(|p| SOURCES.contains(&p.source.ip())).collect();
    assert_eq!(astray, Vec::<&CapturedPacket>::new());
}

/// Asserts that no session notices the events.
fn nobody_notices(session: &str, happens: &[&str]) {
    let mut company = Company::start("", [session; 2]);
    for event in happens {
        company.topology.router.ip(event);
        company.assert_others_stayed();
    }
    for subject in [0, 1] {
        company.assert_stayed(subject);
    }
}

#[test]
fn losing_the_carrier_takes_sessions_down_until_it_is_back() {
    let (lose, mend) = (|t: &Topology| t.carrier_down("up2"), |t: &Topology| t.carrier_up("up2"));
    goes_down_and_comes_back(BOTH, lose, "interface-down", mend);
}

#[test]
fn setting_a_link_down_takes_sessions_down_until_it_is_up() {
    let lose = |t: &Topology| t.router.ip("link set up2 down");
    let mend = |t: &Topology| t.router.ip(&format!("link set up2 up\n{WHAT_DOWN_TAKES}"));
    goes_down_and_comes_back(BOTH, lose, "interface-down", mend);
}

#[test]
fn losing_the_last_route_takes_the_session_down_until_it_is_back() {
    let lose = |t: &Topology| t.router.ip(&format!("route del {ROUTE_BY_UP2}"));
    let mend = |t: &Topology| t.router.ip(&format!("route add {ROUTE_BY_UP2}"));
    goes_down_and_comes_back(IPV4, lose, "no-route", mend);
}

#[test]
fn losing_the_last_ipv6_route_takes_the_session_down_until_it_is_back() {
    let lose = |t: &Topology| t.router.ip(&format!("route del {ROUTE_V6_BY_UP2}"));
    let mend = |t: &Topology| t.router.ip(&format!("route add {ROUTE_V6_BY_UP2}"));
    goes_down_and_comes_back(IPV6, lose, "no-route", mend);
}

#[test]
fn losing_one_of_several_routes_touches_no_session() {
    nobody_notices(
        "connect-interface up2",
        &[
            "route add 198.51.100.0/25 via 192.0.2.66 dev up2\nroute add 2001:db8:7::/72 via 2001:db8:2::2 dev up2",
            "route del 198.51.100.0/24 metric 20\nroute del 2001:db8:7::/64 metric 20",
        ],
    );
}

#[test]
fn losing_the_interfaces_addresses_takes_the_session_down_until_one_is_back() {
    let lose = |t: &Topology| t.router.ip("addr del 192.0.2.129/26 dev up2\naddr del 192.0.2.65/26 dev up2");
    let mend = |t: &Topology| t.router.ip(&format!("addr add 192.0.2.65/26 dev up2\nroute add {ROUTE_BY_UP2}"));
    goes_down_and_comes_back(IPV4, lose, "address-absent", mend);
}

#[test]
fn losing_the_interfaces_ipv6_address_takes_the_session_down_until_it_is_back() {
    let lose = |t: &Topology| t.router.ip("addr del 2001:db8:2::1/64 dev up2");
    let mend = |t: &Topology| {
        t.router.ip(&format!("addr add 2001:db8:2::1/64 dev up2 nodad\nroute replace {ROUTE_V6_BY_UP2}"));
    };
    goes_down_and_comes_back(IPV6, lose, "address-absent", mend);
}

#[test]
fn losing_a_named_address_takes_sessions_down_until_it_is_back() {
    let mut company = Company::start("", ["connect-interface up2 192.0.2.129", "connect-interface up2 2001:db8:2::1"]);
    company.topology.router.ip("addr del 192.0.2.129/26 dev up2\naddr del 2001:db8:2::1/64 dev up2");
    for subject in [0, 1] {
        down(&company, subject, "address-absent");
    }
    company.topology.router.ip(&format!("addr add 192.0.2.129/26 dev up2\n{WHAT_DOWN_TAKES}"));
    for subject in [0, 1] {
        let (old, new) = (company.connected(subject, 0), company.connected(subject, 1));
        assert_eq!(old.peer.ip(), new.peer.ip());
    }
    company.assert_others_stayed();
}

#[test]
fn an_address_in_use_stays_when_it_becomes_deprecated() {
    let better = "addr add 2001:db8:2::9/64 dev up2 nodad\naddr change 2001:db8:2::1/64 dev up2 preferred_lft 0";
    let again = "addr change 2001:db8:2::1/64 dev up2 preferred_lft forever";
    nobody_notices("connect-interface up2", &[better, again]);
}

#[test]
fn a_deprecated_address_is_not_chosen_until_it_is_preferred() {
    let topology = Topology::new();
    topology.router.ip("addr change 2001:db8:2::1/64 dev up2 preferred_lft 0");
    let plan = lab::trial::TrialPlan {
        station: lab::topology::STATION_V6,
        ..lab::trial::TrialPlan::session("connect-interface up2")
    };
    let trial = plan.start_on(topology);
    trial.bmpd.wait_down(plan.station, "address-absent");
    trial.topology.router.ip("addr change 2001:db8:2::1/64 dev up2 preferred_lft forever");
    trial.bmpd.wait_session_for(plan.station, "up", AT_ONCE, |session| session["state"] == "up");
    assert_eq!(trial.station.wait_connection(0, "it", |_| true).peer.ip(), UP2_V6);
}

#[test]
fn more_addresses_on_the_interface_touch_no_session() {
    nobody_notices(
        "connect-interface up2",
        // One address is in the station's prefix. It would be the first choice, but the choice is
        // made already.
        &[
            "addr add 198.51.100.200/24 dev up2 noprefixroute\naddr add 2001:db8:7::99/64 dev up2 nodad noprefixroute",
            "addr del 198.51.100.200/24 dev up2",
        ],
    );
}

#[test]
fn a_recreated_interface_with_another_index_brings_the_session_back() {
    let index = std::cell::Cell::new(0);
    let lose = |t: &Topology| {
        index.set(t.router.ifindex("up2"));
        t.router.ip("link del up2");
    };
    let mend = |t: &Topology| {
        t.router.ip("link add spare type veth peer name spare2");
        t.recreate_uplink2();
        t.router.ip(&format!("route add {ROUTE_V6_BY_UP2}"));
        assert_ne!(t.router.ifindex("up2"), index.get());
    };
    let company = goes_down_and_comes_back(BOTH, lose, "interface-absent", mend);
    // A pin with the old index would have denied packets.
    for subject in [0, 1] {
        assert_eq!(company.session(subject)["kernel"]["denied"]["interface"], 0);
    }
}

#[test]
fn a_renamed_interface_is_absent_until_it_has_its_name_again() {
    goes_down_and_comes_back(BOTH, |t| rename(t, "up2", "north0"), "interface-absent", |t| rename(t, "north0", "up2"));
}

#[test]
fn a_renamed_interface_is_back_once_its_name_is_an_alternative_name() {
    let mend = |t: &Topology| t.router.ip("link property add dev north0 altname up2");
    goes_down_and_comes_back(BOTH, |t| rename(t, "up2", "north0"), "interface-absent", mend);
}

#[test]
fn an_interface_with_a_configured_alternative_name_may_be_renamed() {
    let topology = Topology::new();
    topology.router.ip("link property add dev up2 altname uplink-to-the-north");
    let mut company = Company::start_on(topology, "", ["connect-interface uplink-to-the-north"; 2]);
    if company.topology.router.try_ip("link set up2 name north0").is_err() {
        return lab::skip::skip("this kernel renames no interface that is up (Linux does since 6.2)");
    }
    company.assert_others_stayed();
    company.topology.router.ip("link set north0 name up2");
    company.assert_others_stayed();
    for subject in [0, 1] {
        company.assert_stayed(subject);
    }
}

#[test]
fn becoming_a_bridge_port_takes_sessions_down_until_released() {
    let lose = |t: &Topology| t.router.ip("link add br0 type bridge\nlink set up2 master br0");
    let mend = |t: &Topology| t.router.ip("link set up2 nomaster");
    goes_down_and_comes_back(BOTH, lose, "interface-layer2", mend);
}

#[test]
fn an_interface_in_another_namespace_is_absent_until_it_is_back() {
    let elsewhere = Netns::new("elsewhere");
    let to = |netns: &Netns| format!("link set up2 netns {}", netns.path().display());
    let lose = |t: &Topology| t.router.ip(&to(&elsewhere));
    let mend = |t: &Topology| {
        elsewhere.ip(&to(&t.router));
        t.router.ip(&format!(
            "link set up2 addrgenmode none\naddr add 192.0.2.65/26 dev up2\nlink set up2 up\n{WHAT_DOWN_TAKES}"
        ));
    };
    goes_down_and_comes_back(BOTH, lose, "interface-absent", mend);
}

#[test]
fn events_on_another_interface_touch_no_session() {
    let mut company = pinned();
    for event in [
        "link add spare type veth peer name spare2\nlink set spare up\nlink set spare2 up",
        "addr add 192.0.2.66/32 dev spare\naddr add 2001:db8:2::77/128 dev spare nodad",
        "link add br0 type bridge\nlink set spare master br0",
        "link set spare down\nlink set spare name up3\nlink set up3 up",
        "link del up3\nlink del br0",
        "route add 198.51.100.7/32 via 192.0.2.2 dev up1 metric 1\nroute add 2001:db8:7::7/128 via 2001:db8:1::2 dev up1",
    ] {
        company.topology.router.ip(event);
        company.assert_others_stayed();
    }
    // The other uplink goes down with its own sessions only.
    company.topology.router.ip("link set up1 down");
    company.bmpd.wait_down(STATION_2, "interface-down");
    for subject in [0, 1] {
        company.assert_stayed(subject);
    }
}
