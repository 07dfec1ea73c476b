//! The OPENs of a session: ours, the checks on the peer's, and what both negotiate.

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};

use super::fsm::OutgoingNotification;
use crate::wire::bgp::{
    Capabilities, Capability, Error, Family, Form, Frame, MessageType, Negotiation, Open, Problem, build,
    capability::{add_path, graceful_restart},
    notification::{code, header_error, open_error},
    open,
};

/// This device as the peer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalSpeaker {
    pub(super) asn: u32,
    pub(super) bgp_id: Ipv4Addr,
    /// The hold time in seconds. Zero means none.
    pub(super) hold: u16,
    pub(super) families: Vec<Family>,
}

impl LocalSpeaker {
    /// Builds our OPEN. It has every configured family, add-path to receive in each (RFC 7911),
    /// 4-octet AS numbers, route refresh (plain and enhanced) and extended messages. Graceful
    /// restart is announced for a speaker that only helps others to restart (RFC 4724 §3: no
    /// family, no restart time), including restarts after a NOTIFICATION (RFC 8538 §2).
    ///
    /// # Errors
    ///
    /// Fails if the OPEN is too long, which no list of assigned families causes.
    pub(super) fn open(&self) -> Result<Bytes, Error> {
        let mut out = BytesMut::new();
        open::build(&mut out, self.asn, self.hold, self.bgp_id, &self.capabilities()?)?;
        Ok(out.freeze())
    }

    fn capabilities(&self) -> Result<Capabilities, Error> {
        let mut capabilities = Capabilities::new();
        for family in &self.families {
            capabilities.push(&Capability::Multiprotocol(*family))?;
        }
        for plain in [
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::ExtendedMessage,
            Capability::FourOctetAs(self.asn),
        ] {
            capabilities.push(&plain)?;
        }
        capabilities.push_add_path(self.families.iter().map(|family| (*family, add_path::RECEIVE)))?;
        capabilities.push_graceful_restart(graceful_restart::NOTIFICATION, 0, [])?;
        Ok(capabilities)
    }

    /// Checks the OPEN of a peer that is expected to have AS number `asn`.
    ///
    /// # Errors
    ///
    /// Fails with the NOTIFICATION to send and the reason in words.
    pub(super) fn check(&self, frame: &Frame<'_>, asn: u32) -> Result<PeerOpen, (OutgoingNotification, String)> {
        let open = Open::parse(frame).and_then(|open| open.check().map(|()| open)).map_err(|error| {
            (notice_of(&error, Some(MessageType::Open), frame.bytes()), format!("the peer's OPEN: {error}"))
        })?;
        let refuse = |subcode, data, why| Err((OutgoingNotification { code: code::OPEN, subcode, data }, why));
        if open.asn() != asn {
            let peer_asn = open.asn();
            let why = format!(
                "the peer says that it is AS {peer_asn}, not AS {asn}: correct `peer ADDRESS as-number` here or its own there"
            );
            return refuse(open_error::BAD_PEER_AS, Bytes::new(), why);
        }
        // RFC 6286 §2.2: BGP identifiers are unique within an AS.
        if open.bgp_id == self.bgp_id && asn == self.asn {
            let why = format!("the peer's BGP identifier {} is this device's too: change one `router-id`", open.bgp_id);
            return refuse(open_error::BAD_IDENTIFIER, Bytes::new(), why);
        }
        // Our OPEN has been sent, so building and parsing it again succeeds.
        let own_error = |error: Error| {
            (notice_of(&error, Some(MessageType::Open), &[]), format!("the OPEN of this device: {error}"))
        };
        let own = self.open().map_err(own_error)?;
        let sent = Frame::parse(&own).and_then(|frame| Open::parse(&frame)).map_err(own_error)?;
        let negotiated = Negotiated::new(self, &Negotiation { sent, received: open });
        if negotiated.families.is_empty() {
            let why = "the peer offers none of the address families that are enabled here: enable one on both ends";
            // RFC 5492 §5: the data lists the missing capabilities. Each has four bytes, so all of
            // them fit.
            let mut missed = Capabilities::new();
            for family in &self.families {
                let _ = missed.push(&Capability::Multiprotocol(*family));
            }
            let data = Bytes::copy_from_slice(missed.bytes());
            return refuse(open_error::UNSUPPORTED_CAPABILITY, data, why.to_owned());
        }
        Ok(PeerOpen {
            hold: open.hold_time,
            bgp_id: open.bgp_id,
            // RFC 6286 §2.3.
            dominant: (self.bgp_id.to_bits(), self.asn) > (open.bgp_id.to_bits(), asn),
            capabilities: open.capabilities().map(|capability| describe(&capability)).collect(),
            negotiated,
            open: Bytes::copy_from_slice(frame.bytes()),
        })
    }
}

/// The OPEN of the peer, and what it negotiates with ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerOpen {
    /// The hold time in seconds.
    pub(super) hold: u16,
    pub(super) bgp_id: Ipv4Addr,
    /// True if a collision is decided in favour of the connection that this device opened.
    pub(super) dominant: bool,
    /// The capabilities in words.
    pub(super) capabilities: Vec<String>,
    pub(super) negotiated: Negotiated,
    /// The whole message.
    pub(super) open: Bytes,
}

/// What both OPENs have negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Negotiated {
    pub(super) families: Vec<FamilyEncoding>,
    /// The size of an AS number in AS paths, in bytes.
    pub(super) as_size: usize,
    /// The longest message in bytes.
    pub(super) limit: usize,
    pub(super) restart: Option<PeerRestart>,
}

/// The encoding of a family's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FamilyEncoding {
    pub(super) family: Family,
    pub(super) form: Option<Form>,
    pub(super) path_ids: bool,
}

/// The graceful restart capability of the peer (RFC 4724 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerRestart {
    /// The restart time in seconds.
    pub(super) seconds: u16,
    /// True if routes also survive a NOTIFICATION (RFC 8538).
    pub(super) notification: bool,
    /// The families, and whether their forwarding state was kept.
    pub(super) families: Vec<(Family, bool)>,
}

impl Negotiated {
    fn new(local: &LocalSpeaker, opens: &Negotiation<'_>) -> Self {
        let both: Vec<Family> = opens.families().collect();
        let routes = |&family: &Family| FamilyEncoding {
            family,
            form: Form::of(family),
            path_ids: opens.receives_path_ids(family),
        };
        let restart = opens.received.graceful_restart().map(|restart| PeerRestart {
            seconds: restart.restart_time,
            notification: restart.flags & graceful_restart::NOTIFICATION != 0,
            families: restart
                .families
                .iter()
                .map(|(family, flags)| (family, flags & graceful_restart::FORWARDING != 0))
                .collect(),
        });
        Self {
            families: local.families.iter().filter(|family| both.contains(family)).map(routes).collect(),
            as_size: opens.as_size(),
            limit: opens.max_message(),
            restart,
        }
    }

    /// Returns an End-of-RIB for each family, for a peer with graceful restart (RFC 4724 §4.2).
    /// Such a peer waits for them after a restart. A peer without the capability gets none.
    pub(super) fn end_of_ribs(&self) -> Vec<Bytes> {
        let families = self.families.iter().filter(|_| self.restart.is_some());
        let end_of_rib = |routes: &FamilyEncoding| {
            let mut message = BytesMut::new();
            build::end_of_rib(&mut message, routes.family);
            message.freeze()
        };
        families.map(end_of_rib).collect()
    }

    pub(super) fn routes(&self, family: Family) -> Option<&FamilyEncoding> {
        self.families.iter().find(|routes| routes.family == family)
    }
}

/// Returns the NOTIFICATION for a malformed message (RFC 4271 §6.1, §6.2). `bytes` are the start of
/// the message.
pub(super) fn notice_of(error: &Error, message: Option<MessageType>, bytes: &[u8]) -> OutgoingNotification {
    let (code, subcode) = error.problem.notification(message);
    let data = match (code, subcode, &error.problem) {
        (code::MESSAGE_HEADER, header_error::BAD_LENGTH, _) => bytes.get(16..18),
        (code::MESSAGE_HEADER, header_error::BAD_TYPE, _) => bytes.get(18..19),
        // The data is the version that this device supports.
        (code::OPEN, _, Problem::Version(_)) => Some(&[0, open::VERSION][..]),
        // RFC 7313 §5: the data is the whole message.
        (code::ROUTE_REFRESH, ..) => Some(bytes),
        _ => None,
    };
    OutgoingNotification { code, subcode, data: Bytes::copy_from_slice(data.unwrap_or_default()) }
}

/// Describes a capability in words.
fn describe(capability: &Capability<'_>) -> String {
    match capability {
        Capability::Multiprotocol(family) => format!("multiprotocol {family}"),
        Capability::RouteRefresh => "route refresh".to_owned(),
        Capability::EnhancedRouteRefresh => "enhanced route refresh".to_owned(),
        Capability::ExtendedMessage => "extended message".to_owned(),
        Capability::FourOctetAs(asn) => format!("4-octet AS {asn}"),
        Capability::AddPath(families) => {
            let word = |field| match field {
                add_path::RECEIVE => "receive",
                add_path::SEND => "send",
                add_path::BOTH => "both",
                _ => "ignored",
            };
            let families: Vec<_> = families.iter().map(|(family, field)| format!("{family} {}", word(field))).collect();
            format!("add-path {}", families.join(", "))
        }
        Capability::GracefulRestart(restart) => {
            let families: Vec<_> = restart.families.iter().map(|(family, _)| format!(", {family}")).collect();
            format!("graceful restart {} s{}", restart.restart_time, families.concat())
        }
        Capability::Other { code, .. } => format!("capability {code}"),
    }
}
