//! Peers of a relay that are up and have no route, with the likely cause.

use std::{fmt, net::IpAddr};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    feed::PeerRibs,
    wire::bmp::{PeerType, RibView},
};

/// A peer without a route. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct RoutelessPeer {
    /// Unspecified for a Loc-RIB.
    pub(super) peer: IpAddr,
    #[serde(rename = "as")]
    pub(super) asn: u32,
    /// True if anything of a table has come: a route that is gone again, or an End-of-RIB.
    pub(super) heard: bool,
    /// The likely cause.
    pub(super) hint: String,
}

/// A daemon that a hint can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownDaemon {
    Frr,
    GoBgp,
    Other,
}

/// How a daemon presents itself in its Initiation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DaemonIdentity<'a> {
    pub(super) sys_descr: Option<&'a str>,
    pub(super) sys_name: Option<&'a str>,
}

impl DaemonIdentity<'_> {
    fn known(self) -> KnownDaemon {
        let starts = |text: Option<&str>, name: &str| {
            text.and_then(|text| text.get(..name.len())).is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        let is = |name| starts(self.sys_descr, name) || starts(self.sys_name, name);
        match () {
            () if is("FRRouting") => KnownDaemon::Frr,
            () if is("GoBGP") => KnownDaemon::GoBgp,
            () => KnownDaemon::Other,
        }
    }
}

impl RoutelessPeer {
    /// Describes a peer of this daemon.
    pub(super) fn of(peer: &PeerRibs, daemon: DaemonIdentity<'_>) -> Self {
        let (header, daemon) = (peer.header(), daemon.known());
        let (address, heard) = (header.address(), !peer.ribs().is_empty());
        let is_loc_rib = header.key.peer_type == PeerType::LOC_RIB;
        let is_before_policy = peer.ribs().iter().any(|rib| rib.view == RibView::AdjRibInPre);
        let family = if address.is_ipv6() { "ipv6" } else { "ipv4" };
        let inbound = format!("`neighbor {address} soft-reconfiguration inbound`");
        let hint = match (heard, is_loc_rib, daemon) {
            (true, false, KnownDaemon::Frr) if is_before_policy => {
                format!("no route is there: its table is empty, or FRR lacks {inbound}")
            }
            (true, ..) => "no route is there: its table is empty".to_owned(),
            (false, true, KnownDaemon::Frr) => {
                "no route has come: FRR has selected none, or lacks `bmp monitor ipv4 unicast loc-rib` (likewise ipv6)"
                    .to_owned()
            }
            // Without soft-reconfiguration FRR keeps nothing that it could report. It does not even
            // send End-of-RIB for a neighbour that came up after BMP.
            (false, false, KnownDaemon::Frr) => format!(
                "no route has come: it announces none, or FRR lacks `bmp monitor {family} unicast pre-policy` or {inbound}"
            ),
            (false, _, KnownDaemon::GoBgp) => {
                "no route has come: there is none, or `route-monitoring-policy` of GoBGP leaves this table out"
                    .to_owned()
            }
            (false, _, KnownDaemon::Other) => {
                "no route has come: it announces none, or its daemon does not report routes (route monitoring)"
                    .to_owned()
            }
        };
        Self { peer: address, asn: header.asn, heard, hint }
    }
}

/// Shows the peer as `Peer 203.0.113.1 (AS 65001): up, no route is there`.
impl fmt::Display for RoutelessPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, asn, hint, .. } = self;
        if peer.is_unspecified() {
            return write!(f, "Loc-RIB (AS {asn}): up, {hint}");
        }
        write!(f, "Peer {peer} (AS {asn}): up, {hint}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        feed::{Feed, Input, InputId},
        wire::bmp::{
            BmpChunk,
            samples::{peer_header, peer_up_of},
        },
    };

    fn up(feed: &Feed, peer_type: PeerType, address: u8) -> Input {
        let mut input = feed.input(InputId::relay("relay"));
        let up = peer_up_of(&peer_header(address, peer_type, 0), 179, &[]);
        input.append(BmpChunk::built(up[..].into()));
        input
    }

    #[test]
    fn a_hint_is_about_the_daemon_and_the_table() {
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
        for (sys_descr, peer_type, expected) in cases {
            let feed = Feed::default();
            let _input = up(&feed, peer_type, 1);
            let hint = RoutelessPeer::of(&feed.peers()[0], DaemonIdentity { sys_descr, sys_name: None }).to_string();
            assert!(expected.iter().all(|text| hint.contains(text)), "{hint}");
            let of_frr = sys_descr.is_some_and(|descr| descr.starts_with("FRR"));
            assert_eq!(hint.contains("FRR"), of_frr, "{hint}");
            assert_eq!(hint.contains("soft-reconfiguration"), of_frr && peer_type == PeerType::GLOBAL, "{hint}");
        }
    }
}
