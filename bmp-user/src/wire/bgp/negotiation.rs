//! What the two OPENs of a session agree on.

use super::{Capability, Family, Frame, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, Open};

/// The OPENs of a session, and what they agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiation<'a> {
    /// The OPEN that this end sent.
    pub sent: Open<'a>,
    /// The OPEN that it received.
    pub received: Open<'a>,
}

impl<'a> Negotiation<'a> {
    /// Reads two OPENs, BGP headers included; `None` if one of them cannot be read.
    pub fn of(sent: &'a [u8], received: &'a [u8]) -> Option<Self> {
        let open = |bytes| Frame::parse(bytes).and_then(|frame| Open::parse(&frame)).ok();
        Some(Self { sent: open(sent)?, received: open(received)? })
    }

    /// The families in both OPENs.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<'a> {
        let received = self.received;
        self.sent.families().filter(move |family| received.families().any(|its| its == *family))
    }

    /// True if routes that this end receives have path identifiers (RFC 7911 §4).
    pub fn receives_path_ids(&self, family: Family) -> bool {
        receives(&self.sent, family) && sends(&self.received, family)
    }

    /// True if routes that this end sends have path identifiers.
    pub fn sends_path_ids(&self, family: Family) -> bool {
        sends(&self.sent, family) && receives(&self.received, family)
    }

    /// True if both OPENs name path identifiers, in either direction.
    pub fn have_path_ids(&self, family: Family) -> bool {
        [self.sent, self.received].iter().all(|open| sends(open, family) || receives(open, family))
    }

    /// True if routes have stacks of labels (RFC 8277 §2.1).
    pub fn have_label_stacks(&self, family: Family) -> bool {
        takes_labels(&self.sent, family) && takes_labels(&self.received, family)
    }

    /// The longest message in bytes (RFC 8654 §4).
    pub fn max_message(&self) -> usize {
        let extended = [self.sent, self.received].iter().all(|open| open.has(Capability::ExtendedMessage));
        if extended { MAX_EXTENDED_MESSAGE } else { MAX_MESSAGE }
    }

    /// Bytes of an AS number in AS paths (RFC 6793 §4).
    pub fn as_size(&self) -> usize {
        if [self.sent, self.received].iter().all(|open| open.four_octet_as().is_some()) { 4 } else { 2 }
    }
}

fn sends(open: &Open<'_>, family: Family) -> bool {
    open.add_path().is_some_and(|add_path| add_path.sends(family))
}

fn receives(open: &Open<'_>, family: Family) -> bool {
    open.add_path().is_some_and(|add_path| add_path.receives(family))
}

/// True if the sender of an OPEN accepts several labels. The capability lists families, each with
/// its greatest number of labels (RFC 8277 §2.1).
fn takes_labels(open: &Open<'_>, family: Family) -> bool {
    const MULTIPLE_LABELS: u8 = 8;
    open.capabilities().any(|capability| match capability {
        Capability::Other { code: MULTIPLE_LABELS, value } => {
            value.as_chunks::<4>().0.iter().any(|&[high, low, safi, most]| {
                Family::new(u16::from_be_bytes([high, low]), safi) == family && most > 1
            })
        }
        _ => false,
    })
}
