//! Peers of a relay that are up and have no route, and what may be the matter.

use std::net::IpAddr;

use serde::Serialize;

use crate::{
    feed::{PeerRibs, View},
    wire::bmp::PeerType,
};

/// A peer without a route. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Silent {
    pub(super) peer: IpAddr,
    #[serde(rename = "as")]
    pub(super) asn: u32,
    /// Whether anything of a table has come: a route that is gone again, or an End-of-RIB.
    pub(super) heard: bool,
    /// What may be the matter.
    pub(super) hint: String,
}

/// A daemon, as far as it tells by its sysDescr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Daemon {
    Frr,
    GoBgp,
    Other,
}

impl Daemon {
    fn of(sys_descr: Option<&str>, sys_name: Option<&str>) -> Self {
        let starts = |text: Option<&str>, name: &str| {
            text.and_then(|text| text.get(..name.len())).is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        let is = |name| starts(sys_descr, name) || starts(sys_name, name);
        match () {
            () if is("FRRouting") => Self::Frr,
            () if is("GoBGP") => Self::GoBgp,
            () => Self::Other,
        }
    }
}

impl Silent {
    /// A peer of a daemon that says this of itself.
    pub(super) fn of(peer: &PeerRibs, sys_descr: Option<&str>, sys_name: Option<&str>) -> Self {
        let (header, daemon) = (peer.header(), Daemon::of(sys_descr, sys_name));
        let (address, heard) = (header.address(), !peer.ribs().is_empty());
        let is_loc_rib = header.key.peer_type == PeerType::LOC_RIB;
        let is_before_policy = peer.ribs().iter().any(|rib| rib.view == View::AdjRibInPre);
        let family = if address.is_ipv6() { "ipv6" } else { "ipv4" };
        let inbound = format!("`neighbor {address} soft-reconfiguration inbound`");
        let hint = match (heard, is_loc_rib, daemon) {
            (true, false, Daemon::Frr) if is_before_policy => {
                format!("no route is there: its table is empty, or FRR lacks {inbound}")
            }
            (true, ..) => "no route is there: its table is empty".to_owned(),
            (false, true, Daemon::Frr) => {
                "no route has come: FRR has selected none, or lacks `bmp monitor ipv4 unicast loc-rib` (likewise ipv6)"
                    .to_owned()
            }
            // Without the second FRR keeps nothing that it could report, and says not even End-of-RIB of a neighbour that came up after BMP.
            (false, false, Daemon::Frr) => format!(
                "no route has come: it announces none, or FRR lacks `bmp monitor {family} unicast pre-policy` or {inbound}"
            ),
            (false, _, Daemon::GoBgp) => {
                "no route has come: there is none, or `route-monitoring-policy` of GoBGP leaves this table out"
                    .to_owned()
            }
            (false, _, Daemon::Other) => {
                "no route has come: it announces none, or its daemon does not report routes (route monitoring)"
                    .to_owned()
            }
        };
        Self { peer: address, asn: header.asn, heard, hint }
    }

    /// A line of `display bmp relay`.
    pub(super) fn text(&self) -> String {
        let Self { peer, asn, hint, .. } = self;
        if peer.is_unspecified() {
            return format!("  Loc-RIB (AS {asn}): up, {hint}\n");
        }
        format!("  Peer {peer} (AS {asn}): up, {hint}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        feed::{Feed, Input},
        wire::bmp::samples::{peer_header, peer_up_of},
    };

    /// The hint about the one peer of an input.
    fn hint(feed: &Feed, descr: Option<&str>) -> String {
        Silent::of(&feed.peers()[0], descr, None).text()
    }

    fn up(feed: &Feed, peer_type: PeerType, address: u8) -> Input {
        let mut input = feed.input("relay");
        let up = peer_up_of(&peer_header(address, peer_type, 0), 179, &[]);
        input.append(up.clone().into(), up.len()).unwrap();
        input
    }

    #[test]
    fn a_hint_is_of_the_daemon_and_of_the_table() {
        let cases = [
            (
                Some("FRRouting 8.4.4"),
                PeerType::GLOBAL,
                &["bmp monitor ipv4 unicast pre-policy", "soft-reconfiguration"][..],
            ),
            (Some("FRRouting 10.3"), PeerType::LOC_RIB, &["Loc-RIB (AS", "bmp monitor ipv4 unicast loc-rib"]),
            (Some("GoBGP 3.10.0"), PeerType::GLOBAL, &["`route-monitoring-policy` of GoBGP"]),
            (Some("Juniper"), PeerType::GLOBAL, &["its daemon does not report routes"]),
            (None, PeerType::LOC_RIB, &["its daemon does not report routes"]),
        ];
        for (descr, peer_type, expected) in cases {
            let feed = Feed::default();
            let _input = up(&feed, peer_type, 1);
            let found = hint(&feed, descr);
            assert!(expected.iter().all(|text| found.contains(text)), "{found}");
            let of_frr = descr.is_some_and(|descr| descr.starts_with("FRR"));
            assert_eq!(found.contains("FRR"), of_frr, "{found}");
            assert_eq!(found.contains("soft-reconfiguration"), of_frr && peer_type == PeerType::GLOBAL, "{found}");
        }
    }
}
