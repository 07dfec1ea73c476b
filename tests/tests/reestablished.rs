//! What a commit re-establishes, and what it leaves alone (the table "When a session is
//! re-established"). An affected session ends in order by its old link, and connects again. No
//! other session notices.

use std::net::IpAddr;

use lab::{
    bmp,
    capture::LinkCapture,
    company::Company,
    station::TestStation,
    topology::{LOOPBACK, LOOPBACK_V6, STATION_PORT, UP1, UP1_V6, UP2, UP2_OTHER, UP2_V6},
};

/// A source address of each IP version.
type SourcePair = [IpAddr; 2];

const ON_UP1: SourcePair = [UP1, UP1_V6];
const ON_UP2: SourcePair = [UP2, UP2_V6];
const ON_LO: SourcePair = [LOOPBACK, LOOPBACK_V6];
const BOTH: [usize; 2] = [0, 1];

#[derive(Clone, Copy)]
enum LeavingLink {
    Up1,
    Up2,
}
use LeavingLink::{Up1, Up2};

impl LeavingLink {
    /// Returns the capture on this link, and the one on the other link.
    fn captures(self, company: &Company) -> (&LinkCapture, &LinkCapture) {
        match self {
            Up1 => (&company.up1, &company.up2),
            Up2 => (&company.up2, &company.up1),
        }
    }
}

/// Commits other lines for one subject after the other. Each must connect again: from the old
/// source by the old link before, from the new source after.
fn reconnects_each(before: [&str; 2], commit: [&str; 2], (old, old_link): (SourcePair, LeavingLink), new: SourcePair) {
    let mut company = Company::start("", before);
    for subject in BOTH {
        assert_eq!(company.connected(subject, 0).peer.ip(), old[subject]);
        company.bmpd.commit(company.address(subject), commit[subject]);
        assert_eq!(company.connected(subject, 1).peer.ip(), new[subject]);
        let (here, there) = old_link.captures(&company);
        company.assert_terminated(subject, 0, here, there);
        assert_eq!(company.session(subject)["established_count"], 2);
        if subject == 0 {
            company.assert_stayed(1);
        }
    }
    company.assert_others_stayed();
}

fn reconnects(before: &str, commit: &str, old: (SourcePair, LeavingLink), new: SourcePair) {
    reconnects_each([before; 2], [commit; 2], old, new);
}

#[test]
fn setting_connect_interface_reconnects_its_session_alone() {
    reconnects("", "connect-interface up2", (ON_UP1, Up1), ON_UP2);
}

#[test]
fn another_interface_in_connect_interface_reconnects_its_session_alone() {
    reconnects("connect-interface up2", "connect-interface up1", (ON_UP2, Up2), ON_UP1);
}

#[test]
fn a_donor_in_connect_interface_reconnects_its_session_alone() {
    reconnects("connect-interface up2", "connect-interface lo", (ON_UP2, Up2), ON_LO);
}

#[test]
fn removing_connect_interface_reconnects_its_session_alone() {
    reconnects("connect-interface up2", "undo connect-interface", (ON_UP2, Up2), ON_UP1);
}

#[test]
fn adding_an_interface_to_an_address_reconnects_its_session_alone() {
    let (before, after) = (
        ["connect-interface 192.0.2.65", "connect-interface 2001:db8:2::1"],
        ["connect-interface up2 192.0.2.65", "connect-interface up2 2001:db8:2::1"],
    );
    reconnects_each(before, after, (ON_UP2, Up1), ON_UP2);
}

#[test]
fn setting_egress_interfaces_reconnects_their_session_alone() {
    reconnects("connect-interface lo", "egress-interface up1 up2", (ON_LO, Up1), ON_LO);
}

#[test]
fn replacing_egress_interfaces_reconnects_their_session_alone() {
    reconnects("connect-interface lo\n  egress-interface up1 up2", "egress-interface up1", (ON_LO, Up1), ON_LO);
}

#[test]
fn removing_egress_interfaces_reconnects_their_session_alone() {
    reconnects("connect-interface lo\n  egress-interface up1", "undo egress-interface", (ON_LO, Up1), ON_LO);
}

#[test]
fn replacing_a_port_reconnects_its_session_alone() {
    let mut company = Company::start("", ["connect-interface up2"; 2]);
    for subject in BOTH {
        let address = company.address(subject);
        let other = TestStation::start(&company.topology.station, (address, STATION_PORT + 1));
        company.bmpd.commit(address, &format!("tcp connect port {}", STATION_PORT + 1));
        assert_eq!(other.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION)).peer.ip(), ON_UP2[subject]);
        company.assert_terminated(subject, 0, &company.up2, &company.up1);
        assert_eq!(company.session(subject)["established_count"], 2);
    }
    company.assert_others_stayed();
}

#[test]
fn removing_a_port_ends_its_session_alone_and_setting_it_starts_it() {
    let mut company = Company::start("", ["connect-interface up2"; 2]);
    for subject in BOTH {
        let address = company.address(subject);
        company.bmpd.commit(address, "undo tcp connect port");
        company.bmpd.wait_down(address, "not-configured");
        company.assert_terminated(subject, 0, &company.up2, &company.up1);
        company.bmpd.commit(address, &format!("tcp connect port {STATION_PORT}"));
        assert_eq!(company.connected(subject, 1).peer.ip(), ON_UP2[subject]);
    }
    company.assert_others_stayed();
}

#[test]
fn an_equivalent_form_reconnects_no_session() {
    let mut company = Company::start("", ["connect-interface up2"; 2]);
    let forms = [
        ["connect-interface up 2"; 2],
        ["connect-interface up2 192.0.2.65", "connect-interface up2 2001:db8:2::1"],
        ["egress-interface up2"; 2],
    ];
    for form in forms {
        for subject in BOTH {
            company.bmpd.commit(company.address(subject), form[subject]);
            company.assert_stayed(subject);
        }
    }
    company.assert_others_stayed();
}

#[test]
fn committing_the_same_value_reconnects_no_session() {
    let mut company =
        Company::start("connect-interface 192.0.2.1", ["connect-interface up2\n  egress-interface up2"; 2]);
    for subject in BOTH {
        let same = format!("connect-interface up2\negress-interface up2\ntcp connect port {STATION_PORT}");
        company.bmpd.commit(company.address(subject), &same);
        company.bmpd.commit(company.address(subject), &format!("undo connect-interface\n{same}"));
    }
    let (accepted, answer) = company.bmpd.typed("system-view\nbmp\nconnect-interface 192.0.2.1\ncommit\n");
    assert!(accepted && answer.contains("nothing to commit"), "{answer}");
    for subject in BOTH {
        company.assert_stayed(subject);
    }
    company.assert_others_stayed();
}

/// Commits a change of the BMP view. Only the IPv4 subject, which has no source of its own, must
/// connect again, from another address.
fn the_bmp_view_reconnects(before: &str, commit: &str, old: IpAddr, new: IpAddr) {
    let mut company = Company::start(before, [""; 2]);
    assert_eq!(company.connected(0, 0).peer.ip(), old);
    company.bmpd.commit_lines(&format!("bmp\n{commit}"));
    assert_eq!(company.connected(0, 1).peer.ip(), new);
    company.assert_terminated(0, 0, &company.up1, &company.up2);
    assert_eq!(company.session(0)["established_count"], 2);
    // The BMP view's address does not concern IPv6.
    company.assert_stayed(1);
    company.assert_others_stayed();
}

#[test]
fn setting_the_bmp_view_address_reconnects_inheriting_ipv4_sessions_alone() {
    the_bmp_view_reconnects("", "connect-interface 192.0.2.65", UP1, UP2);
}

#[test]
fn replacing_the_bmp_view_address_reconnects_inheriting_ipv4_sessions_alone() {
    the_bmp_view_reconnects("connect-interface 192.0.2.65", "connect-interface 192.0.2.129", UP2, UP2_OTHER);
}

#[test]
fn removing_the_bmp_view_address_reconnects_inheriting_ipv4_sessions_alone() {
    the_bmp_view_reconnects("connect-interface 192.0.2.65", "undo connect-interface", UP2, UP1);
}
