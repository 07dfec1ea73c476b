//! What the configuration and the host make of each pin.
//!
//! Everything here is a pure function of values, but for one question to the kernel's routing
//! tables: is there a route ([`reachability`]).
//!
//! - [`demand`]: the settings of each pin
//! - [`resolve`]: connect-interface to source and egress
//! - [`decision`]: ready or down, and what the kernel enforces for that; [`grant`]: what is ready
//! - [`forecast`]: all of that for a bmpd that does not run
//!
//! Nothing here changes the kernel: that is the keeper's part.

mod decision;
mod demand;
mod forecast;
mod grant;
mod reachability;
mod resolve;

use std::net::IpAddr;

pub(super) use decision::{PinDecision, denial, denies, pin_of, station_links};
pub use decision::{in_words, target};
pub use demand::Pinned;
pub(super) use demand::{PinDemand, PinSettings, demands};
pub use forecast::forecast;
pub use grant::Grant;
pub(super) use reachability::{RouteAnswer, has_route, needs_route, no_route};
pub use reachability::{back_on_its_way, led_astray};
pub use resolve::{NextHopPath, PinQuestion, ResolvedPin, SourceRule, absent, resolve};

use crate::{
    link::Host,
    pin::{
        kernel::PinTarget,
        reason::{DownCause, Reason},
    },
};

/// What can be decided about a pin without the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PinDraft {
    /// A source and an egress. Whether they lead to the station is for the routing tables to say.
    Resolved {
        /// The connections that the pin is for.
        target: PinTarget,
        /// Source and egress.
        resolved: ResolvedPin,
    },
    /// Down, with the connections that the kernel can deny: none where no port is configured.
    Down {
        /// The connections to deny.
        target: Option<PinTarget>,
        /// Why.
        cause: DownCause,
    },
}

/// Decides what can be decided without the kernel. `kept` is the source that an earlier answer
/// chose.
pub(super) fn draft(pinned: &Pinned, settings: &PinSettings, kept: Option<IpAddr>, host: &Host) -> PinDraft {
    let down = |target, reason, why: String, mend: &str| {
        let cause = DownCause { reason, why, mend: mend.to_owned() };
        PinDraft::Down { target, cause }
    };
    if let Some(session) = &settings.taken_by {
        let why = format!("bmp-session {session} has the connections to this address and port");
        return down(None, Reason::SourceConflict, why, "another port for one of the two");
    }
    let target = target(pinned, settings.transport, host);
    if settings.shutdown {
        let why = "the session is shut down by configuration".to_owned();
        return down(target, Reason::Shutdown, why, "undo shutdown");
    }
    if settings.transport.is_none() {
        return down(None, Reason::NotConfigured, "no port is configured".to_owned(), "tcp connect port PORT");
    }
    let question = PinQuestion {
        connect: settings.connect.as_ref(),
        vpn_instance: pinned.vpn_instance(),
        egress_interfaces: &settings.egress_interfaces,
        next_hop: settings.next_hop,
        station: pinned.far(),
        aliases: &settings.aliases,
        keep: kept,
    };
    match (resolve(&question, host), target) {
        (Ok(resolved), Some(target)) => PinDraft::Resolved { target, resolved },
        // Without a target there is no VRF, and without a VRF nothing resolves.
        (Ok(resolved), None) => PinDraft::Down { target: None, cause: no_route(pinned, &resolved) },
        (Err(cause), target) => PinDraft::Down { target, cause },
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{
        config::{BgpConfig, BgpPeerConfig, Config, ConnectInterface, SessionConfig, SessionId, Transport},
        link::{InterfaceAddress, Link},
        pin::kernel::Role,
    };

    const STATION: &str = "198.51.100.7";

    fn host() -> Host {
        let address = InterfaceAddress::in_words("192.0.2.65/26");
        let link =
            Link { index: 3, name: "up2".into(), up: true, carrier: true, addresses: vec![address], ..Link::default() };
        Host { links: BTreeMap::from([(3, link)]), routes_epoch: 0 }
    }

    fn session(change: impl FnOnce(&mut SessionConfig)) -> (Pinned, PinSettings) {
        let id = SessionId { vpn_instance: None, station: STATION.parse().unwrap(), alias: None };
        let mut session = SessionConfig {
            transport: Some(Transport::Connect(11019)),
            connect_interface: Some(ConnectInterface::Interface("up2".to_owned())),
            ..SessionConfig::default()
        };
        change(&mut session);
        let mut config = Config::default();
        config.bmp.sessions.insert(id.clone(), session);
        let pinned = Pinned::Session(id);
        let settings = demands(&config).remove(&pinned).unwrap().settings;
        (pinned, settings)
    }

    fn reason(change: impl FnOnce(&mut SessionConfig)) -> (Reason, bool) {
        let (pinned, settings) = session(change);
        match draft(&pinned, &settings, None, &host()) {
            PinDraft::Down { target, cause } => (cause.reason, target.is_some()),
            PinDraft::Resolved { .. } => panic!("it is resolved"),
        }
    }

    #[test]
    fn a_session_resolves_to_the_address_of_its_interface() {
        let (pinned, settings) = session(|_| ());
        let PinDraft::Resolved { target, resolved } = draft(&pinned, &settings, None, &host()) else {
            panic!("it is down");
        };
        assert_eq!(target.station, "198.51.100.7:11019".parse().unwrap());
        assert_eq!(resolved.source, Some([192, 0, 2, 65].into()));
    }

    #[test]
    fn a_session_that_is_down_is_denied_unless_it_has_no_port() {
        assert_eq!(reason(|session| session.shutdown = true), (Reason::Shutdown, true));
        assert_eq!(reason(|session| session.transport = None), (Reason::NotConfigured, false));
        let absent = Some(ConnectInterface::Interface("up9".to_owned()));
        assert_eq!(reason(|session| session.connect_interface = absent), (Reason::InterfaceAbsent, true));
    }

    #[test]
    fn a_bgp_peer_leaves_the_connections_to_a_session_with_the_same_port() {
        let id = SessionId { vpn_instance: None, station: STATION.parse().unwrap(), alias: None };
        let mut config = Config::default();
        let session =
            SessionConfig { transport: Some(Transport::Connect(BgpPeerConfig::PORT)), ..SessionConfig::default() };
        config.bmp.sessions.insert(id.clone(), session);
        let peers = BTreeMap::from([(id.station, BgpPeerConfig::default())]);
        config.bgp = Some(BgpConfig { asn: 64512, router_id: None, listen_port: None, peers });
        let pinned = Pinned::BgpPeer(id.station, Role::Connect);
        let demand = demands(&config).remove(&pinned).unwrap();
        assert_eq!((demand.hold_down, demand.settings.own_only), (Duration::ZERO, true));
        let PinDraft::Down { target: None, cause } = draft(&pinned, &demand.settings, None, &host()) else {
            panic!("it has a pin");
        };
        assert_eq!(cause.reason, Reason::SourceConflict);
    }
}
