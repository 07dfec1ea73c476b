//! Routes as they stand in UPDATEs: one NLRI behind the other, in a form that the family says.

use bytes::{BufMut as _, BytesMut};

use super::{Error, Family, Problem};

const AFI_IPV4: u16 = Family::IPV4_UNICAST.afi;
const AFI_IPV6: u16 = Family::IPV6_UNICAST.afi;
const AFI_L2VPN: u16 = Family::L2VPN_EVPN.afi;
const AFI_LINK_STATE: u16 = Family::LINK_STATE.afi;

/// A path identifier's length in bytes (RFC 7911 §3).
pub const PATH_ID: usize = 4;
/// A label's length in bytes, with traffic class and bottom-of-stack bit (RFC 8277 §2).
const LABEL: usize = 3;
/// A route distinguisher's length in bytes (RFC 4364 §4.2).
const RD: usize = 8;
/// What stands in the place of the labels of a withdrawal (RFC 8277 §2.4).
pub const WITHDRAWN_LABEL: [u8; LABEL] = [0x80, 0, 0];

/// How the NLRI of a family are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// One octet of length in bits, and as many bits (RFC 4271 §4.3).
    Prefix {
        /// The longest prefix, in bits.
        most: u8,
    },
    /// One octet of length in bits; labels; the prefix, which a route distinguisher may be part of (RFC 8277 §2).
    Labeled {
        /// The longest prefix, in bits, without labels.
        most: u8,
        /// Whether there may be several labels, of which the last has the S bit (RFC 8277 §2.3). Else there is exactly one, and the S bit
        /// means nothing (§2.2).
        stack: bool,
    },
    /// One octet of length, or two with the first four bits set, in bytes (RFC 8955 §4.1).
    Flow,
    /// One octet of type, one of length in bytes (RFC 7432 §7).
    Evpn,
    /// A type of so many octets and a length of so many, in bytes: what is identified is all of it.
    Typed {
        /// Octets of the type.
        kind: u8,
        /// Octets of the length.
        length: u8,
    },
    /// One octet of length in bytes, one of the key's length, one of type; the key, and then what may change (RFC 9871 §2.9).
    Keyed,
    /// An octet of architecture, two of type, one of length in bytes (mobile user plane).
    Mup,
    /// Not known: all that an UPDATE says of the family is one NLRI.
    Whole,
}

impl Form {
    /// The form of a family's NLRI; `None` if it is not known.
    pub fn of(family: Family) -> Option<Self> {
        let most = match family.afi {
            AFI_IPV4 => 32,
            AFI_IPV6 => 128,
            _ => 0,
        };
        const RD_BITS: u8 = 8 * 8;
        Some(match (family.afi, family.safi) {
            (AFI_IPV4 | AFI_IPV6, 1 | 2) => Self::Prefix { most },
            (AFI_IPV4 | AFI_IPV6, 4) => Self::Labeled { most, stack: false },
            // VPNs, and classful transport (RFC 9832 §7).
            (AFI_IPV4 | AFI_IPV6, 76 | 128) => Self::Labeled { most: most + RD_BITS, stack: false },
            // Multicast in VPNs: a route distinguisher and a prefix, without labels (RFC 6514 §9.2.3.1).
            (AFI_IPV4 | AFI_IPV6, 129) => Self::Prefix { most: most + RD_BITS },
            (AFI_IPV4 | AFI_IPV6 | AFI_L2VPN, 133 | 134) => Self::Flow,
            // MCAST-VPN (RFC 6514 §4), and its like for VPLS (RFC 7117 §3).
            (AFI_IPV4 | AFI_IPV6, 5) | (AFI_L2VPN, 8) => Self::Typed { kind: 1, length: 1 },
            // Route Target constraint (RFC 4684 §4): a prefix of origin AS and Route Target, which has 20 octets for IPv6 (RFC 5701 §2).
            (AFI_IPV4, 132) => Self::Prefix { most: 96 },
            (AFI_IPV6, 132) => Self::Prefix { most: 192 },
            // MDT (RFC 6037 §4.1): a route distinguisher and two addresses.
            (AFI_IPV4, 66) => Self::Prefix { most: 128 },
            // Color-aware routes (RFC 9871 §2.9), and those of VPNs.
            (AFI_IPV4 | AFI_IPV6, 83 | 84) => Self::Keyed,
            (AFI_IPV4 | AFI_IPV6, 85) => Self::Mup,
            // SR policies (RFC 9830 §2.1): distinguisher, colour, endpoint.
            (AFI_IPV4 | AFI_IPV6, 73) => Self::Prefix { most: most + 64 },
            // VPLS (RFC 4761 §3.2.2).
            (AFI_L2VPN, 65) => Self::Typed { kind: 0, length: 2 },
            (AFI_L2VPN, 70) => Self::Evpn,
            (AFI_LINK_STATE, 71 | 72 | 80) => Self::Typed { kind: 2, length: 2 },
            _ => return None,
        })
    }
}

/// The NLRI in `bytes`, with path identifiers or without. The first that is not whole is an error, and the end.
pub fn nlri(form: Form, path_ids: bool, bytes: &[u8]) -> Nlris<'_> {
    Nlris { form, path_ids, bytes, at: 0 }
}

/// See [`nlri`].
#[derive(Clone, Debug)]
pub struct Nlris<'a> {
    form: Form,
    path_ids: bool,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Nlris<'a> {
    /// One NLRI as it stands, its path identifier included.
    type Item = Result<&'a [u8], Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let start = if self.path_ids { PATH_ID } else { 0 };
        // What nearly all are: a prefix, which is whole.
        if let (Form::Prefix { most }, Some(&bits)) = (self.form, rest.get(start))
            && bits <= most
            && let Some(item) = rest.get(..start + 1 + usize::from(bits.div_ceil(8)))
        {
            self.at += item.len();
            return Some(Ok(item));
        }
        self.next_of_any_form(rest, start)
    }
}

impl<'a> Nlris<'a> {
    fn next_of_any_form(&mut self, rest: &'a [u8], start: usize) -> Option<Result<&'a [u8], Error>> {
        let item = length(self.form, rest.get(start..).unwrap_or_default()).and_then(|length| {
            let need = start + length;
            rest.get(..need).ok_or(Problem::Short { what: "an NLRI", need, found: rest.len() })
        });
        match item {
            Ok(item) => {
                self.at += item.len();
                Some(Ok(item))
            }
            Err(problem) => {
                let at = std::mem::replace(&mut self.at, self.bytes.len());
                Some(Err(Error::new(at, problem)))
            }
        }
    }
}

/// The length in bytes of the NLRI that `bytes` starts with, without path identifier.
#[inline]
fn length(form: Form, bytes: &[u8]) -> Result<usize, Problem> {
    let short = |need| Problem::Short { what: "an NLRI", need, found: bytes.len() };
    match form {
        Form::Prefix { most } => match bytes {
            [bits, ..] if *bits <= most => Ok(1 + usize::from(bits.div_ceil(8))),
            [bits, ..] => Err(Problem::PrefixLength { most: most.into(), found: (*bits).into() }),
            [] => Err(short(1)),
        },
        Form::Labeled { most, stack } => match bytes {
            [bits, rest @ ..] => {
                let bytes = usize::from(bits.div_ceil(8));
                let item = rest.get(..bytes).ok_or_else(|| short(1 + bytes))?;
                let labels = labels(item, stack);
                match usize::from(*bits).checked_sub(8 * labels) {
                    None | Some(0) if labels == 0 => Err(short(1 + LABEL)),
                    Some(prefix) if prefix <= usize::from(most) => Ok(1 + bytes),
                    _ => Err(Problem::PrefixLength { most: most.into(), found: (*bits).into() }),
                }
            }
            [] => Err(short(1)),
        },
        Form::Flow => match bytes {
            [length, ..] if *length < 0xf0 => Ok(1 + usize::from(*length)),
            [high, low, ..] => Ok(2 + usize::from(u16::from_be_bytes([high & 0x0f, *low]))),
            _ => Err(short(bytes.len() + 1)),
        },
        Form::Evpn => typed(bytes, 1, 1).ok_or_else(|| short(2)),
        Form::Keyed => match bytes {
            [length, key, ..] if *length >= key.saturating_add(2) => Ok(1 + usize::from(*length)),
            _ => Err(short(3)),
        },
        Form::Mup => typed(bytes, 3, 1).ok_or_else(|| short(4)),
        Form::Whole => Ok(bytes.len()),
        Form::Typed { kind, length } => {
            let header = usize::from(kind) + usize::from(length);
            typed(bytes, kind.into(), length.into()).ok_or_else(|| short(header))
        }
    }
}

fn typed(bytes: &[u8], kind: usize, length: usize) -> Option<usize> {
    let said = bytes.get(kind..kind + length)?;
    Some(said.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)) + kind + length)
}

/// Bytes of the labels that the rest of a labeled NLRI starts with. A stack ends with the bottom bit (RFC 8277 §2.3); what stands
/// in its place in a withdrawal is one label (§2.4), and so is zero, which older speakers send there.
fn labels(item: &[u8], stack: bool) -> usize {
    let mut at = 0;
    while let Some(&[high, middle, low]) = item.get(at..at + LABEL) {
        at += LABEL;
        if !stack || low & 1 != 0 || [high, middle, low] == WITHDRAWN_LABEL || [high, middle, low] == [0; LABEL] {
            break;
        }
    }
    at
}

/// What tells one route of a RIB from another: the NLRI without what may change while it stays the same route (labels; of EVPN also
/// Ethernet segment and gateway, RFC 7432 §7, RFC 9136 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity<'a> {
    /// The length in bits where it is not part of the parts as it stands.
    bits: u8,
    parts: [&'a [u8]; 3],
}

impl Identity<'_> {
    /// The length in bits of a labeled NLRI's prefix.
    pub(super) fn bits(&self) -> u8 {
        self.bits
    }
}

impl Form {
    /// Whether all of an NLRI is its [`Identity`].
    #[inline]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Prefix { .. } | Self::Flow | Self::Typed { .. } | Self::Whole)
    }

    /// The length of an NLRI that says nothing, in bytes.
    #[inline]
    pub(super) fn least(self) -> usize {
        match self {
            Self::Whole => 0,
            Self::Prefix { .. } | Self::Labeled { .. } | Self::Flow => 1,
            Self::Evpn => 2,
            Self::Keyed => 3,
            Self::Mup => 4,
            Self::Typed { kind, length } => usize::from(kind) + usize::from(length),
        }
    }

    /// The form of the NLRI in a withdrawal: whatever there is in an announcement, one field stands in the place of labels (RFC 8277 §2.4).
    #[inline]
    #[must_use]
    pub fn withdrawn(self) -> Self {
        match self {
            Self::Labeled { most, .. } => Self::Labeled { most, stack: false },
            other => other,
        }
    }

    /// With stacks of labels, or with one label, where there are labels at all.
    #[must_use]
    pub fn with_stack(self, stack: bool) -> Self {
        match self {
            Self::Labeled { most, .. } => Self::Labeled { most, stack },
            other => other,
        }
    }
}

/// The identity of an NLRI that [`nlri`] gave.
#[inline]
pub fn identity(form: Form, path_ids: bool, item: &[u8]) -> Identity<'_> {
    match form {
        Form::Labeled { stack, .. } => labeled_identity(stack, path_ids, item),
        Form::Evpn => evpn_identity(path_ids, item),
        Form::Keyed => keyed_identity(path_ids, item),
        Form::Mup => mup_identity(path_ids, item),
        _ => Identity { bits: 0, parts: [item, &[], &[]] },
    }
}

fn split_path_id(path_ids: bool, item: &[u8]) -> (&[u8], &[u8]) {
    item.split_at_checked(if path_ids { PATH_ID } else { 0 }).unwrap_or((item, &[]))
}

fn mup_identity(path_ids: bool, item: &[u8]) -> Identity<'_> {
    const HEADER: usize = 4;
    let (path_id, rest) = split_path_id(path_ids, item);
    // Of a session of one endpoint (type 3) the key ends with the prefix; how to reach it may change.
    let key = match rest {
        [_, 0, 3, _, ..] => rest.get(HEADER + RD).and_then(|bits| {
            let prefix = usize::from(bits.div_ceil(8));
            rest.get(HEADER..HEADER + RD + 1 + prefix)
        }),
        _ => None,
    };
    match key {
        // Types cannot be mistaken for one another.
        Some(key) => Identity { bits: 3, parts: [path_id, rest.get(..3).unwrap_or_default(), key] },
        None => Identity { bits: 0, parts: [item, &[], &[]] },
    }
}

fn keyed_identity(path_ids: bool, item: &[u8]) -> Identity<'_> {
    const HEADER: usize = 2;
    let (path_id, rest) = split_path_id(path_ids, item);
    // The type, and the key.
    let key = rest.get(1).and_then(|length| rest.get(HEADER..HEADER + 1 + usize::from(*length)));
    Identity { bits: 0, parts: [path_id, key.unwrap_or(rest), &[]] }
}

fn labeled_identity(stack: bool, path_ids: bool, item: &[u8]) -> Identity<'_> {
    let (path_id, rest) = split_path_id(path_ids, item);
    let (bits, rest) = rest.split_first().map_or((0, rest), |(bits, rest)| (*bits, rest));
    let labels = labels(rest, stack);
    let bits = bits.saturating_sub(u8::try_from(8 * labels).unwrap_or(u8::MAX));
    Identity { bits, parts: [path_id, rest.get(labels..).unwrap_or_default(), &[]] }
}

fn evpn_identity(path_ids: bool, item: &[u8]) -> Identity<'_> {
    const ESI: usize = 10;
    const TAG: usize = 4;
    let (path_id, rest) = split_path_id(path_ids, item);
    let whole = Identity { bits: 0, parts: [item, &[], &[]] };
    let [kind, _length, value @ ..] = rest else { return whole };
    let ranges = match kind {
        // Ethernet A-D: RD, ESI, tag; then the label.
        1 => value.get(..RD + ESI + TAG).map(|start| (start, &[][..])),
        // MAC/IP: RD, [ESI], tag, MAC length, MAC, IP length, IP; then labels.
        2 => value.get(..RD).zip(value.get(RD + ESI..).and_then(|rest| {
            const MAC: usize = 1 + 6;
            let ip = usize::from(rest.get(TAG + MAC)?.div_ceil(8));
            rest.get(..TAG + MAC + 1 + ip)
        })),
        // IP prefix: RD, [ESI], tag, length, prefix; then gateway and label (RFC 9136 §3.1). IPv4 has 34 bytes in all, IPv6 58.
        5 => value.get(..RD).zip(value.get(RD + ESI..).and_then(|rest| {
            let address = if value.len() > 34 { 16 } else { 4 };
            rest.get(..TAG + 1 + address)
        })),
        _ => None,
    };
    match ranges {
        // Types cannot be mistaken for one another.
        Some((start, end)) => Identity { bits: *kind, parts: [path_id, start, end] },
        None => whole,
    }
}

/// Bits behind the end of a prefix mean nothing (RFC 4271 §4.3): the byte they are in, without them. `None` where there are none.
#[inline]
pub fn without_trailing_bits(form: Form, path_ids: bool, item: &[u8]) -> Option<u8> {
    let (Form::Prefix { .. } | Form::Labeled { .. }) = form else { return None };
    let bits = *item.get(if path_ids { PATH_ID } else { 0 })?;
    let last = *item.last()?;
    let mask = match bits % 8 {
        0 => return None,
        used => 0xffu8 << (8 - used),
    };
    (last & !mask != 0).then_some(last & mask)
}

/// A withdrawal's NLRI of a form with stacks of labels, with what ends a stack in the place of labels, so that its [`identity`] is that of what it
/// withdraws. `None` where it has that already.
pub fn with_withdrawn_label(form: Form, path_ids: bool, item: &[u8]) -> Option<Vec<u8>> {
    let Form::Labeled { stack: true, .. } = form else { return None };
    let start = if path_ids { PATH_ID } else { 0 } + 1;
    let label = item.get(start..start + LABEL)?;
    if label == WITHDRAWN_LABEL {
        return None;
    }
    let mut meant = item.to_vec();
    meant.get_mut(start..start + LABEL)?.copy_from_slice(&WITHDRAWN_LABEL);
    Some(meant)
}

/// Writes the NLRI that withdraws a route which was announced with `item` (RFC 8277 §2.4 for those with labels).
pub fn put_withdrawal(form: Form, path_ids: bool, item: &[u8], out: &mut BytesMut) {
    let Form::Labeled { stack, .. } = form else {
        out.extend_from_slice(item);
        return;
    };
    let (path_id, rest) = split_path_id(path_ids, item);
    let (bits, rest) = rest.split_first().map_or((0, rest), |(bits, rest)| (*bits, rest));
    let labels = labels(rest, stack);
    let prefix = bits.saturating_sub(u8::try_from(8 * labels).unwrap_or(u8::MAX));
    out.extend_from_slice(path_id);
    out.put_u8(prefix.saturating_add(8 * LABEL as u8));
    out.extend_from_slice(&WITHDRAWN_LABEL);
    out.extend_from_slice(rest.get(labels..).unwrap_or_default());
}
