//! Translates the UPDATEs of an established session into Route Monitoring messages, with one copy
//! and one append a read.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};

use tracing::{debug, warn};

use super::{
    faults::{self, Approach, AttributeFault},
    fsm::OutgoingNotification,
    open::{Negotiated, notice_of},
    stale::StaleRoutes,
};
use crate::wire::{
    bgp::{
        Error, Family, Frame, MessageType, Problem, Reach, RouteField, Update, attributes,
        build::{reduced, withdrawal},
        frames, nlri,
        notification::{code, update_error},
    },
    bmp::{self, COMMON_HEADER, PER_PEER_HEADER, PeerHeader, build},
};

/// Bytes before the UPDATE in a Route Monitoring message.
const AROUND: usize = COMMON_HEADER + PER_PEER_HEADER;

/// The run of UPDATEs and KEEPALIVEs at the start of a buffer.
#[derive(Debug)]
pub(super) struct MessageRun {
    /// The length of the run in bytes.
    pub(super) bytes: usize,
    /// The number of UPDATEs.
    pub(super) updates: u64,
    /// The number of KEEPALIVEs.
    pub(super) keepalives: u64,
    /// Why the run ends.
    pub(super) stop: UpdateRunEnd,
}

/// Why a run of messages ends.
#[derive(Debug)]
pub(super) enum UpdateRunEnd {
    /// The buffer holds no further complete message.
    NoMore,
    /// A message of another type follows.
    Other,
    /// The End-of-RIB of a family with stale routes. It is part of the run.
    Complete(Family),
    /// A message that ends the session with this NOTIFICATION, for this reason.
    Invalid {
        notice: OutgoingNotification,
        why: String,
        /// True for an UPDATE, false for bytes that are no message.
        update: bool,
    },
}

/// The counters of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UpdateCounters {
    /// UPDATEs whose routes were treated as withdrawn (RFC 7606 §2).
    pub(super) treated_as_withdraw: u32,
    /// The routes that those UPDATEs announced.
    pub(super) prefixes_treated_as_withdraw: u32,
    /// UPDATEs with discarded attributes (RFC 7606 §2).
    pub(super) attributes_discarded: u64,
    /// The last error of either kind.
    pub(super) last_fault: Option<faults::AttributeProblem>,
    /// UPDATEs with routes of families that were not negotiated. Those routes are not passed on.
    pub(super) not_negotiated: u64,
}

/// An UPDATE to pass on, with its place in the buffer.
#[derive(Clone, Copy, Debug)]
struct FoundUpdate {
    start: usize,
    end: usize,
    part: ForwardedPart,
}

/// The part of an UPDATE that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ForwardedPart {
    /// The whole message, unchanged.
    Whole,
    /// The routes of negotiated families, without discarded attributes.
    Reduced,
    /// The routes of negotiated families as withdrawals, because the attributes are malformed (RFC
    /// 7606 §2).
    Withdrawal,
}

/// Translates the UPDATEs of one session.
#[derive(Debug)]
pub(super) struct UpdateTranslator {
    pub(super) negotiated: Negotiated,
    header: PeerHeader,
    session: faults::UpdateContext,
    pub(super) counters: UpdateCounters,
    /// Routes that the peer must announce again.
    pub(super) stale: Vec<StaleRoutes>,
    /// The UPDATEs found by the last `look`. Kept to reuse its memory.
    found: Vec<FoundUpdate>,
}

impl UpdateTranslator {
    /// Creates the translator of a session. `header` is the peer's header in BMP; `internal` is
    /// true for a peer in our own AS.
    pub(super) fn new(negotiated: Negotiated, header: PeerHeader, internal: bool) -> Self {
        let session = faults::UpdateContext { as_size: negotiated.as_size, internal };
        Self { negotiated, header, session, counters: UpdateCounters::default(), stale: Vec::new(), found: Vec::new() }
    }

    /// Returns the per-peer header with the current time.
    pub(super) fn header(&self) -> PeerHeader {
        // A clock before 1970 is not set. Zero then means an unknown time.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = u32::try_from(now.as_secs()).unwrap_or_default();
        PeerHeader { seconds, microseconds: now.subsec_micros(), ..self.header }
    }

    /// Examines the run of UPDATEs and KEEPALIVEs at the start of `buffer`.
    pub(super) fn look(&mut self, buffer: &[u8]) -> MessageRun {
        self.found.clear();
        let mut run = MessageRun { bytes: 0, updates: 0, keepalives: 0, stop: UpdateRunEnd::NoMore };
        let mut whole = frames(buffer, self.negotiated.limit);
        loop {
            let start = whole.consumed();
            run.bytes = start;
            let frame = match whole.next() {
                None => return run,
                Some(Err(error)) => {
                    let notice = notice_of(&error, None, buffer.get(start..).unwrap_or_default());
                    let why = format!("what the peer sends is not BGP: {}", error.problem);
                    run.stop = UpdateRunEnd::Invalid { notice, why, update: false };
                    return run;
                }
                Some(Ok(frame)) => frame,
            };
            match frame.message_type() {
                MessageType::Keepalive => run.keepalives += 1,
                MessageType::Update => match self.judge(&frame) {
                    Ok(UpdateVerdict::Pass(part)) => {
                        self.found.push(FoundUpdate { start, end: whole.consumed(), part });
                        run.updates += 1;
                    }
                    Ok(UpdateVerdict::NotNegotiated) => {
                        self.counters.not_negotiated += 1;
                        run.updates += 1;
                    }
                    Ok(UpdateVerdict::SaysNothing) => run.updates += 1,
                    Ok(UpdateVerdict::Complete(family)) => {
                        run.stop = UpdateRunEnd::Complete(family);
                        return run;
                    }
                    Err(Invalid { notice, why }) => {
                        let why = format!("an UPDATE of the peer: {why}");
                        run.stop = UpdateRunEnd::Invalid { notice, why, update: true };
                        return run;
                    }
                },
                _ => {
                    run.stop = UpdateRunEnd::Other;
                    return run;
                }
            }
        }
    }

    /// Returns Route Monitoring messages for the UPDATEs that `look` found in `buffer`.
    pub(super) fn write(&self, buffer: &[u8]) -> Option<BytesMut> {
        if self.found.is_empty() {
            return None;
        }
        let size = self.found.iter().map(|found| found.end - found.start + AROUND).sum();
        let mut out = BytesMut::with_capacity(size);
        let header = self.header();
        let mut template = BytesMut::with_capacity(AROUND);
        build::route_monitoring(&mut template, &header, &[]);
        let template = template.get(COMMON_HEADER - 1..).unwrap_or_default();
        for found in &self.found {
            let update = buffer.get(found.start..found.end).unwrap_or_default();
            match found.part {
                ForwardedPart::Whole => {
                    out.put_u8(bmp::VERSION);
                    // A read has at most 64 KiB, so the length fits.
                    out.put_u32((AROUND + update.len()) as u32);
                    out.put_slice(template);
                    out.put_slice(update);
                }
                ForwardedPart::Reduced => self.write_reduced(update, &header, &mut out),
                ForwardedPart::Withdrawal => self.write_withdrawal(update, &header, &mut out),
            }
        }
        Some(out)
    }

    /// Writes the routes of negotiated families, without discarded attributes.
    fn write_reduced(&self, update: &[u8], header: &PeerHeader, out: &mut BytesMut) {
        let Ok(update) = Update::parse(update, self.negotiated.as_size) else { return };
        let is_negotiated = |family| self.negotiated.routes(family).is_some();
        let mut discarded = Vec::new();
        self.session.examine(&update, |at, end| discarded.push((at, end)));
        build::route_monitoring_of(out, header, |out| reduced(out, &update, is_negotiated, &discarded));
    }

    /// Writes withdrawals for all routes that an UPDATE announces or withdraws.
    fn write_withdrawal(&self, update: &[u8], header: &PeerHeader, out: &mut BytesMut) {
        let Ok(update) = Update::parse(update, self.negotiated.as_size) else { return };
        // A withdrawal without routes would be an End-of-RIB.
        for (family, items) in update.routes().filter(|(_, items)| !items.is_empty()) {
            let Some((form, path_ids)) =
                self.negotiated.routes(family).and_then(|routes| Some((routes.form?, routes.path_ids)))
            else {
                continue;
            };
            let items = nlri(form, path_ids, items).flatten();
            build::route_monitoring_of(out, header, |out| withdrawal(out, family, form, path_ids, items));
        }
    }

    /// Withdraws the routes that the peer did not announce again, of one family or of all.
    pub(super) fn sweep(&mut self, family: Option<Family>) -> BytesMut {
        let header = self.header();
        let mut out = BytesMut::new();
        let over = |stale: &mut StaleRoutes| family.is_none_or(|family| family == stale.family);
        for stale in self.stale.extract_if(.., over) {
            stale.withdraw(&header, &mut out);
        }
        out
    }

    fn judge(&mut self, frame: &Frame<'_>) -> Result<UpdateVerdict, Invalid> {
        let parsed = Update::parse(frame.bytes(), self.negotiated.as_size);
        let update = parsed.map_err(|error| Invalid::unsplit(&error, frame.bytes()))?;
        let mut discards = false;
        let fault = self.session.examine(&update, |_, _| discards = true);
        if let Some(fault) = fault.filter(|fault| fault.approach == Approach::Reset) {
            return Err(Invalid::attributes(&fault, &update));
        }
        if let Some(family) = update.end_of_rib() {
            return Ok(match self.negotiated.routes(family) {
                None => UpdateVerdict::NotNegotiated,
                Some(_) if self.stale.iter().any(|stale| stale.family == family) => UpdateVerdict::Complete(family),
                Some(_) => UpdateVerdict::Pass(ForwardedPart::Whole),
            });
        }
        let negotiated = |reach: &Reach<'_>| self.negotiated.routes(reach.family).is_some();
        if let Some(reach) = update.reach.filter(|reach| negotiated(reach) && !reach.has_likely_next_hop()) {
            let at = frame.bytes().len() - frame.body().len() + 4 + update.withdrawn.len() + reach.at;
            let problem = Problem::NextHop { family: reach.family, found: reach.next_hop.len() };
            return Err(Invalid::routes(&Error::new(at, problem), &update, Some((reach.at, reach.end))));
        }
        let routes = self.check_routes(&update)?;
        if routes.of_others {
            if !routes.of_negotiated {
                return Ok(UpdateVerdict::NotNegotiated);
            }
            self.counters.not_negotiated += 1;
        }
        for stale in &mut self.stale {
            stale.update(&update);
        }
        let withdraws = fault.filter(|fault| fault.approach == Approach::Withdraw);
        if let Some(fault) = withdraws {
            // RFC 7606 §3 (j): routes that cannot be distinguished cannot be withdrawn.
            if routes.of_unknown_form {
                return Err(Invalid::attributes(&fault, &update));
            }
            self.note_withdrawal(&fault, announced(&update, &self.negotiated), frame);
        } else if let Some(fault) = fault {
            self.counters.attributes_discarded += 1;
            self.note(&fault, "discarded an attribute", self.counters.attributes_discarded, frame);
        }
        // Without its discarded attributes, an UPDATE without routes could look like an End-of-RIB.
        if discards && !routes.of_negotiated {
            return Ok(UpdateVerdict::SaysNothing);
        }
        Ok(UpdateVerdict::Pass(match withdraws {
            Some(_) => ForwardedPart::Withdrawal,
            None if routes.of_others || discards => ForwardedPart::Reduced,
            None => ForwardedPart::Whole,
        }))
    }

    /// Reads the routes of negotiated families.
    ///
    /// # Errors
    ///
    /// Fails if a route cannot be read (RFC 7606 §5.3).
    fn check_routes(&self, update: &Update<'_>) -> Result<RoutesFound, Invalid> {
        let mut found = RoutesFound::default();
        for RouteField { family, items, attribute, .. } in update.route_fields() {
            let Some(routes) = self.negotiated.routes(family) else {
                found.of_others = true;
                continue;
            };
            found.of_negotiated |= !items.is_empty();
            let Some(form) = routes.form else {
                found.of_unknown_form |= !items.is_empty();
                continue;
            };
            if let Some(error) = nlri(form, routes.path_ids, items).find_map(Result::err) {
                return Err(Invalid::routes(&error, update, attribute));
            }
        }
        Ok(found)
    }

    fn note_withdrawal(&mut self, fault: &AttributeFault, prefixes: u32, frame: &Frame<'_>) {
        let counters = &mut self.counters;
        counters.treated_as_withdraw = counters.treated_as_withdraw.wrapping_add(1);
        counters.prefixes_treated_as_withdraw = counters.prefixes_treated_as_withdraw.wrapping_add(prefixes);
        let count = counters.treated_as_withdraw.into();
        self.note(fault, "treated the routes of an UPDATE as withdrawn", count, frame);
    }

    /// Counts an error and logs the first one of a session. RFC 7606 §6 asks for the whole message,
    /// which the debug log has.
    fn note(&mut self, fault: &AttributeFault, what: &'static str, count: u64, frame: &Frame<'_>) {
        self.counters.last_fault = Some(fault.problem);
        let peer = self.header.address();
        if count == 1 {
            warn!(%peer, "{what}: {}; `display bgp peer {peer} verbose` counts further ones", fault.problem);
        }
        debug!(%peer, "{what}: {}, in {:02x?}", fault.problem, frame.bytes());
    }
}

/// The kinds of routes in an UPDATE.
#[derive(Clone, Copy, Debug, Default)]
struct RoutesFound {
    of_negotiated: bool,
    of_others: bool,
    of_unknown_form: bool,
}

/// Returns how many routes of negotiated families an UPDATE announces.
fn announced(update: &Update<'_>, negotiated: &Negotiated) -> u32 {
    let plain = (Family::IPV4_UNICAST, update.nlri);
    let all = std::iter::once(plain).chain(update.reach.map(|reach| (reach.family, reach.nlri)));
    let count = |(family, items)| {
        let routes = negotiated.routes(family)?;
        u32::try_from(nlri(routes.form?, routes.path_ids, items).count()).ok()
    };
    all.filter_map(count).fold(0, u32::wrapping_add)
}

enum UpdateVerdict {
    Pass(ForwardedPart),
    NotNegotiated,
    /// The UPDATE has no routes, and attributes are discarded: nothing remains to pass on.
    SaysNothing,
    Complete(Family),
}

/// An UPDATE that ends the session.
struct Invalid {
    notice: OutgoingNotification,
    why: String,
}

impl Invalid {
    fn attributes(fault: &AttributeFault, update: &Update<'_>) -> Self {
        Self { notice: fault.notice(update.attributes), why: fault.problem.to_string() }
    }

    /// An UPDATE with unreadable routes, in an attribute or in a field of their own.
    fn routes(error: &Error, update: &Update<'_>, attribute: Option<(usize, usize)>) -> Self {
        let notice = match attribute {
            // RFC 4760 §7, RFC 7606 §5.3.
            Some((at, end)) => optional_attribute(update.attributes.get(at..end).unwrap_or_default()),
            // RFC 4271 §6.3.
            None => OutgoingNotification::new(code::UPDATE, update_error::INVALID_NETWORK_FIELD),
        };
        Self { notice, why: error.to_string() }
    }

    /// An UPDATE that cannot be split: its fields do not fill it, or a multiprotocol attribute is
    /// truncated or occurs twice.
    fn unsplit(error: &Error, message: &[u8]) -> Self {
        let notice = match error.problem {
            Problem::Short { what: "MP_REACH_NLRI" | "MP_UNREACH_NLRI", .. } => {
                let rest = usize::try_from(error.offset).ok().and_then(|at| message.get(at..)).unwrap_or_default();
                let attribute = attributes(rest).next().and_then(Result::ok);
                optional_attribute(attribute.and_then(|attribute| rest.get(..attribute.end)).unwrap_or_default())
            }
            _ => OutgoingNotification::new(code::UPDATE, update_error::MALFORMED_ATTRIBUTE_LIST),
        };
        Self { notice, why: error.to_string() }
    }
}

/// Returns the NOTIFICATION for an optional attribute with an error in its value (RFC 4271 §6.3).
/// The data is the attribute.
fn optional_attribute(attribute: &[u8]) -> OutgoingNotification {
    let data = Bytes::copy_from_slice(attribute);
    OutgoingNotification { data, ..OutgoingNotification::new(code::UPDATE, update_error::OPTIONAL_ATTRIBUTE) }
}
