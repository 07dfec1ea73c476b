//! Reports with every field set, and reports with as little as can be, for the tests of all
//! displays.
//!
//! Each literal names every field, so a new field does not compile until a sample has it. From
//! there the tests require the field in the kept answers and in `docs/reference/json.md`.

mod inputs;
mod peers;
mod sessions;

use std::net::{IpAddr, Ipv4Addr};

pub(super) use inputs::{feed, monitored, relays, replays};
pub(super) use peers::{no_speaker, speaker};
pub(super) use sessions::{bindings, sessions};

use super::http::{HttpReport, HttpState};
use crate::{config::TrialReport, escape::Untrusted};

const STATION: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 65));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn outside(text: &str) -> Option<Untrusted> {
    Some(Untrusted::new(text))
}

/// A server that listens, one that cannot, and none.
pub(super) fn http() -> Vec<HttpReport> {
    let listening = HttpReport {
        listen: text("192.0.2.1:9179"),
        vpn_instance: text("mgmt"),
        state: HttpState::Listening,
        why: None,
        connections: 2,
        requests: 345,
        refused: 6,
        slow: 7,
    };
    let failed = HttpReport {
        vpn_instance: None,
        state: HttpState::Failed,
        why: text("the address is not on this host"),
        ..listening.clone()
    };
    let none = HttpReport { listen: None, why: None, state: HttpState::NotConfigured, ..failed.clone() };
    vec![listening, failed, none]
}

/// A trial of a user with a name whose connection is open, and one of a user that nobody knows.
pub(super) fn trials() -> [Option<TrialReport>; 3] {
    let trial = TrialReport {
        user: text("root"),
        uid: Some(0),
        process: Some(4713),
        connected: true,
        seconds: 30,
        seconds_left: 12,
    };
    let unknown = TrialReport { user: None, uid: None, process: None, connected: false, ..trial.clone() };
    [None, Some(trial), Some(unknown)]
}
