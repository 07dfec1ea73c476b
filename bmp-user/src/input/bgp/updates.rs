//! An established session's UPDATEs: from BGP messages to Route Monitoring, one copy and one append a read.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    fsm::Notice,
    open::{Negotiated, notice_of},
    stale::Stale,
};
use crate::wire::{
    bgp::{
        Error, Family, Frame, MessageType, Problem, Reach, Update,
        build::{of_families, withdrawal},
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
    /// UPDATEs that were treated as withdrawals (RFC 7606).
    pub(super) treated_as_withdraw: u32,
    /// Routes in them.
    pub(super) prefixes_treated_as_withdraw: u32,
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
    /// All, as it is.
    Whole,
    /// What it says of families that were negotiated: it says something of others too.
    Negotiated,
    /// All that it announces, as withdrawn: it lacks an attribute without which its routes are none (RFC 7606 §3 (d)), or has AS 0 in its path.
    Withdrawal,
}

/// Translates one session's UPDATEs.
#[derive(Debug)]
pub(super) struct Translator {
    pub(super) negotiated: Negotiated,
    header: PeerHeader,
    /// Whether the peer is of the same AS.
    internal: bool,
    pub(super) counters: Counters,
    /// Routes that are to be announced again.
    pub(super) stale: Vec<Stale>,
    /// What was found last; kept for its memory.
    found: Vec<Found>,
}

impl Translator {
    /// Of a session with a peer that has this header in BMP, and is of the same AS or not.
    pub(super) fn new(negotiated: Negotiated, header: PeerHeader, internal: bool) -> Self {
        Self { negotiated, header, internal, counters: Counters::default(), stale: Vec::new(), found: Vec::new() }
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
                    Ok(Verdict::Complete(family)) => {
                        run.stop = Stop::Complete(family);
                        return run;
                    }
                    Err(error) => {
                        let (notice, why) = (update_notice(&error), format!("an UPDATE of the peer: {error}"));
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
                Part::Negotiated => self.write_negotiated(update, &header, &mut out),
                Part::Withdrawal => self.write_withdrawal(update, &header, &mut out),
            }
        }
        let block = out.capacity();
        Some((out.freeze(), block))
    }

    /// What an UPDATE says of families that were negotiated.
    fn write_negotiated(&self, update: &[u8], header: &PeerHeader, out: &mut BytesMut) {
        let Ok(update) = Update::parse(update, self.negotiated.as_size) else { return };
        let is_negotiated = |family| self.negotiated.routes(family).is_some();
        build::route_monitoring_of(out, header, |out| of_families(out, &update, is_negotiated));
    }

    /// All that an UPDATE announces and withdraws, as withdrawals.
    fn write_withdrawal(&self, update: &[u8], header: &PeerHeader, out: &mut BytesMut) {
        let Ok(update) = Update::parse(update, self.negotiated.as_size) else { return };
        for (family, items) in update.routes() {
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

    fn judge(&mut self, frame: &Frame<'_>) -> Result<Verdict, Error> {
        let update = Update::parse(frame.bytes(), self.negotiated.as_size)?;
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
            return Err(Error::new(at, Problem::NextHop { family: reach.family, found: reach.next_hop.len() }));
        }
        let mut count: u32 = 0;
        let (mut some, mut others) = (false, false);
        for (family, items) in update.routes() {
            let Some(routes) = self.negotiated.routes(family) else {
                others = true;
                continue;
            };
            some |= !items.is_empty();
            let Some(form) = routes.form else { continue };
            for item in nlri(form, routes.path_ids, items) {
                item?;
                count += 1;
            }
        }
        if others {
            if !some {
                return Ok(Verdict::NotNegotiated);
            }
            self.counters.not_negotiated += 1;
        }
        let malformed = update.is_malformed(self.internal);
        // Whoever is told of malformed attributes sees that they are, and treats the routes alike. What lacks an attribute, or has AS 0 in its path,
        // may be a route of a router that took it, for all that a station knows.
        let not_to_be_seen = !malformed
            && (update.missing.is_some() || (announces(&update) && update.has_as_0(self.negotiated.as_size)));
        if malformed || not_to_be_seen {
            let Counters { treated_as_withdraw, prefixes_treated_as_withdraw, .. } = &mut self.counters;
            *treated_as_withdraw = treated_as_withdraw.wrapping_add(1);
            *prefixes_treated_as_withdraw = prefixes_treated_as_withdraw.wrapping_add(count);
        }
        for stale in &mut self.stale {
            stale.update(&update);
        }
        Ok(Verdict::Pass(match (not_to_be_seen, others) {
            (true, _) => Part::Withdrawal,
            (false, true) => Part::Negotiated,
            (false, false) => Part::Whole,
        }))
    }
}

fn announces(update: &Update<'_>) -> bool {
    !update.nlri.is_empty() || update.reach.is_some()
}

enum Verdict {
    Pass(Part),
    NotNegotiated,
    Complete(Family),
}

/// The NOTIFICATION for an UPDATE that ends the session (RFC 4271 §6.3; RFC 7606 §3 says which these are).
fn update_notice(error: &Error) -> Notice {
    let subcode = match error.problem {
        Problem::PrefixLength { .. } | Problem::Short { what: "an NLRI", .. } => update_error::INVALID_NETWORK_FIELD,
        Problem::Short { what: "MP_REACH_NLRI" | "MP_UNREACH_NLRI", .. } | Problem::NextHop { .. } => {
            update_error::OPTIONAL_ATTRIBUTE
        }
        _ => update_error::MALFORMED_ATTRIBUTE_LIST,
    };
    Notice::new(code::UPDATE, subcode)
}
