//! An established session's UPDATEs: from BGP messages to Route Monitoring, one copy and one append a read.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};

use tracing::{debug, warn};

use super::{
    faults::{self, Approach, Fault},
    fsm::Notice,
    open::{Negotiated, notice_of},
    stale::Stale,
};
use crate::wire::{
    bgp::{
        Error, Family, Field, Frame, MessageType, Problem, Reach, Update, attributes,
        build::{reduced, withdrawal},
        frames, nlri,
        notification::{code, update_error},
    },
    bmp::{self, COMMON_HEADER, PER_PEER_HEADER, PeerHeader, build},
};

/// What comes before an UPDATE in a Route Monitoring message, in bytes.
const AROUND: usize = COMMON_HEADER + PER_PEER_HEADER;

/// What came of the messages at the start of a buffer.
#[derive(Debug)]
pub(super) struct Run {
    /// How many bytes they have.
    pub(super) bytes: usize,
    /// How many of them are UPDATEs.
    pub(super) updates: u64,
    /// How many of them are KEEPALIVEs.
    pub(super) keepalives: u64,
    /// What comes then.
    pub(super) stop: Stop,
}

/// Why a run of messages ends.
#[derive(Debug)]
pub(super) enum Stop {
    /// With what has arrived.
    NoMore,
    /// Before a message of another type.
    Other,
    /// Before the End-of-RIB of a family that has stale routes.
    Complete(Family),
    /// Before something that ends the session, with this NOTIFICATION and for this reason.
    Invalid {
        notice: Notice,
        why: String,
        /// Whether it is an UPDATE, or no message at all.
        update: bool,
    },
}

/// What has been counted of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// UPDATEs whose routes were treated as withdrawn (RFC 7606 §2).
    pub(super) treated_as_withdraw: u32,
    /// Routes that these announced.
    pub(super) prefixes_treated_as_withdraw: u32,
    /// UPDATEs of which attributes were discarded (RFC 7606 §2).
    pub(super) attributes_discarded: u64,
    /// The last error of either kind.
    pub(super) last_fault: Option<faults::Problem>,
    /// UPDATEs with routes of families that were not negotiated: these routes are not passed on.
    pub(super) not_negotiated: u64,
}

/// An UPDATE to be passed on: where it is in the buffer.
#[derive(Clone, Copy, Debug)]
struct Found {
    start: usize,
    end: usize,
    part: Part,
}

/// What is passed on of an UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The message as it came.
    Whole,
    /// The routes of negotiated families, without the attributes that are to be discarded.
    Reduced,
    /// The routes of negotiated families, as withdrawn: the attributes are malformed (RFC 7606 §2).
    Withdrawal,
}

/// Translates one session's UPDATEs.
#[derive(Debug)]
pub(super) struct Translator {
    pub(super) negotiated: Negotiated,
    header: PeerHeader,
    session: faults::Session,
    pub(super) counters: Counters,
    /// Routes that are to be announced again.
    pub(super) stale: Vec<Stale>,
    /// What was found last; kept for its memory.
    found: Vec<Found>,
}

impl Translator {
    /// Of a session with a peer that has this header in BMP, and is of the same AS or not.
    pub(super) fn new(negotiated: Negotiated, header: PeerHeader, internal: bool) -> Self {
        let session = faults::Session { as_size: negotiated.as_size, internal };
        Self { negotiated, header, session, counters: Counters::default(), stale: Vec::new(), found: Vec::new() }
    }

    /// The per-peer header with the time as it is now.
    pub(super) fn header(&self) -> PeerHeader {
        // A clock before 1970 is one that is not set: the time is not known then.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = u32::try_from(now.as_secs()).unwrap_or_default();
        PeerHeader { seconds, microseconds: now.subsec_micros(), ..self.header }
    }

    /// Looks at the UPDATEs and KEEPALIVEs that `buffer` starts with.
    pub(super) fn look(&mut self, buffer: &[u8]) -> Run {
        self.found.clear();
        let mut run = Run { bytes: 0, updates: 0, keepalives: 0, stop: Stop::NoMore };
        let mut whole = frames(buffer, self.negotiated.limit);
        loop {
            let start = whole.consumed();
            run.bytes = start;
            let frame = match whole.next() {
                None => return run,
                Some(Err(error)) => {
                    let notice = notice_of(&error, None, buffer.get(start..).unwrap_or_default());
                    let why = format!("what the peer sends is not BGP: {}", error.problem);
                    run.stop = Stop::Invalid { notice, why, update: false };
                    return run;
                }
                Some(Ok(frame)) => frame,
            };
            match frame.message_type() {
                MessageType::Keepalive => run.keepalives += 1,
                MessageType::Update => match self.judge(&frame) {
                    Ok(Verdict::Pass(part)) => {
                        self.found.push(Found { start, end: whole.consumed(), part });
                        run.updates += 1;
                    }
                    Ok(Verdict::NotNegotiated) => {
                        self.counters.not_negotiated += 1;
                        run.updates += 1;
                    }
                    Ok(Verdict::SaysNothing) => run.updates += 1,
                    Ok(Verdict::Complete(family)) => {
                        run.stop = Stop::Complete(family);
                        return run;
                    }
                    Err(Invalid { notice, why }) => {
                        let why = format!("an UPDATE of the peer: {why}");
                        run.stop = Stop::Invalid { notice, why, update: true };
                        return run;
                    }
                },
                _ => {
                    run.stop = Stop::Other;
                    return run;
                }
            }
        }
    }

    /// Route Monitoring messages of the UPDATEs that were found in `buffer`, and the memory that they take, in bytes.
    pub(super) fn write(&self, buffer: &[u8]) -> Option<(Bytes, usize)> {
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
                Part::Whole => {
                    out.put_u8(bmp::VERSION);
                    // A read has 64 KiB.
                    out.put_u32((AROUND + update.len()) as u32);
                    out.put_slice(template);
                    out.put_slice(update);
                }
                Part::Reduced => self.write_reduced(update, &header, &mut out),
                Part::Withdrawal => self.write_withdrawal(update, &header, &mut out),
            }
        }
        let block = out.capacity();
        Some((out.freeze(), block))
    }

    /// The routes of negotiated families, without the attributes that are to be discarded.
    fn write_reduced(&self, update: &[u8], header: &PeerHeader, out: &mut BytesMut) {
        let Ok(update) = Update::parse(update, self.negotiated.as_size) else { return };
        let is_negotiated = |family| self.negotiated.routes(family).is_some();
        let mut discarded = Vec::new();
        self.session.examine(&update, |at, end| discarded.push((at, end)));
        build::route_monitoring_of(out, header, |out| reduced(out, &update, is_negotiated, &discarded));
    }

    /// All that an UPDATE announces and withdraws, as withdrawals.
    fn write_withdrawal(&self, update: &[u8], header: &PeerHeader, out: &mut BytesMut) {
        let Ok(update) = Update::parse(update, self.negotiated.as_size) else { return };
        // A withdrawal of nothing would be an End-of-RIB.
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

    /// Withdraws what was not announced again of a family, or of all.
    pub(super) fn sweep(&mut self, family: Option<Family>) -> BytesMut {
        let header = self.header();
        let mut out = BytesMut::new();
        let over = |stale: &mut Stale| family.is_none_or(|family| family == stale.family);
        for stale in self.stale.extract_if(.., over) {
            stale.withdraw(&header, &mut out);
        }
        out
    }

    fn judge(&mut self, frame: &Frame<'_>) -> Result<Verdict, Invalid> {
        let parsed = Update::parse(frame.bytes(), self.negotiated.as_size);
        let update = parsed.map_err(|error| Invalid::unsplit(&error, frame.bytes()))?;
        let mut discards = false;
        let fault = self.session.examine(&update, |_, _| discards = true);
        if let Some(fault) = fault.filter(|fault| fault.approach == Approach::Reset) {
            return Err(Invalid::attributes(&fault, &update));
        }
        if let Some(family) = update.end_of_rib() {
            return Ok(match self.negotiated.routes(family) {
                None => Verdict::NotNegotiated,
                Some(_) if self.stale.iter().any(|stale| stale.family == family) => Verdict::Complete(family),
                Some(_) => Verdict::Pass(Part::Whole),
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
                return Ok(Verdict::NotNegotiated);
            }
            self.counters.not_negotiated += 1;
        }
        for stale in &mut self.stale {
            stale.update(&update);
        }
        let withdraws = fault.filter(|fault| fault.approach == Approach::Withdraw);
        if let Some(fault) = withdraws {
            // RFC 7606 §3 (j): routes that cannot be told from one another cannot be withdrawn.
            if routes.of_unknown_form {
                return Err(Invalid::attributes(&fault, &update));
            }
            self.note_withdrawal(&fault, announced(&update, &self.negotiated), frame);
        } else if let Some(fault) = fault {
            self.counters.attributes_discarded += 1;
            self.note(&fault, "discarded an attribute", self.counters.attributes_discarded, frame);
        }
        // Without the attribute it may look like an End-of-RIB.
        if discards && !routes.of_negotiated {
            return Ok(Verdict::SaysNothing);
        }
        Ok(Verdict::Pass(match withdraws {
            Some(_) => Part::Withdrawal,
            None if routes.of_others || discards => Part::Reduced,
            None => Part::Whole,
        }))
    }

    /// Reads the routes of negotiated families.
    ///
    /// # Errors
    /// If one of them cannot be read (RFC 7606 §5.3).
    fn check_routes(&self, update: &Update<'_>) -> Result<RoutesFound, Invalid> {
        let mut found = RoutesFound::default();
        for Field { family, items, attribute, .. } in update.route_fields() {
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

    fn note_withdrawal(&mut self, fault: &Fault, prefixes: u32, frame: &Frame<'_>) {
        let counters = &mut self.counters;
        counters.treated_as_withdraw = counters.treated_as_withdraw.wrapping_add(1);
        counters.prefixes_treated_as_withdraw = counters.prefixes_treated_as_withdraw.wrapping_add(prefixes);
        let count = counters.treated_as_withdraw.into();
        self.note(fault, "treated the routes of an UPDATE as withdrawn", count, frame);
    }

    /// Remembers an error, and logs the first of each session. RFC 7606 §6 asks for the whole
    /// message, which is there for those who look for it.
    fn note(&mut self, fault: &Fault, what: &'static str, count: u64, frame: &Frame<'_>) {
        self.counters.last_fault = Some(fault.problem);
        let peer = self.header.address();
        if count == 1 {
            warn!(%peer, "{what}: {}; `display bgp peer {peer} verbose` counts further ones", fault.problem);
        }
        debug!(%peer, "{what}: {}, in {:02x?}", fault.problem, frame.bytes());
    }
}

/// What kinds of routes an UPDATE has.
#[derive(Clone, Copy, Debug, Default)]
struct RoutesFound {
    of_negotiated: bool,
    of_others: bool,
    of_unknown_form: bool,
}

/// How many routes of negotiated families an UPDATE announces.
fn announced(update: &Update<'_>, negotiated: &Negotiated) -> u32 {
    let plain = (Family::IPV4_UNICAST, update.nlri);
    let all = std::iter::once(plain).chain(update.reach.map(|reach| (reach.family, reach.nlri)));
    let count = |(family, items)| {
        let routes = negotiated.routes(family)?;
        u32::try_from(nlri(routes.form?, routes.path_ids, items).count()).ok()
    };
    all.filter_map(count).fold(0, u32::wrapping_add)
}

enum Verdict {
    Pass(Part),
    NotNegotiated,
    /// There is no route, and attributes are to be discarded.
    SaysNothing,
    Complete(Family),
}

/// An UPDATE that ends the session.
struct Invalid {
    notice: Notice,
    why: String,
}

impl Invalid {
    fn attributes(fault: &Fault, update: &Update<'_>) -> Self {
        Self { notice: fault.notice(update.attributes), why: fault.problem.to_string() }
    }

    /// Routes that cannot be read, in an attribute or in a field of their own.
    fn routes(error: &Error, update: &Update<'_>, attribute: Option<(usize, usize)>) -> Self {
        let notice = match attribute {
            // RFC 4760 §7, RFC 7606 §5.3.
            Some((at, end)) => optional_attribute(update.attributes.get(at..end).unwrap_or_default()),
            // RFC 4271 §6.3.
            None => Notice::new(code::UPDATE, update_error::INVALID_NETWORK_FIELD),
        };
        Self { notice, why: error.to_string() }
    }

    /// An UPDATE that cannot be split: its fields do not fill it, or a multiprotocol attribute is cut or there twice.
    fn unsplit(error: &Error, message: &[u8]) -> Self {
        let notice = match error.problem {
            Problem::Short { what: "MP_REACH_NLRI" | "MP_UNREACH_NLRI", .. } => {
                let rest = usize::try_from(error.offset).ok().and_then(|at| message.get(at..)).unwrap_or_default();
                let attribute = attributes(rest).next().and_then(Result::ok);
                optional_attribute(attribute.and_then(|attribute| rest.get(..attribute.end)).unwrap_or_default())
            }
            _ => Notice::new(code::UPDATE, update_error::MALFORMED_ATTRIBUTE_LIST),
        };
        Self { notice, why: error.to_string() }
    }
}

/// The NOTIFICATION for an optional attribute with an error in its value, which it holds (RFC 4271 §6.3).
fn optional_attribute(attribute: &[u8]) -> Notice {
    let data = Bytes::copy_from_slice(attribute);
    Notice { data, ..Notice::new(code::UPDATE, update_error::OPTIONAL_ATTRIBUTE) }
}
