//! Routes as they stand in UPDATEs: one NLRI behind the other. The family says their form.

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
pub(super) const RD: usize = 8;
/// The field in the place of the labels in a withdrawal (RFC 8277 §2.4).
pub const WITHDRAWN_LABEL: [u8; LABEL] = [0x80, 0, 0];

/// How the NLRI of a family are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// One octet of length in bits, and the prefix (RFC 4271 §4.3).
    Prefix {
        /// The longest prefix, in bits.
        most: u8,
    },
    /// One octet of length in bits, labels, and the prefix (RFC 8277 §2). A route distinguisher may
    /// be a part of the prefix.
    Labeled {
        /// The longest prefix, in bits, without labels.
        most: u8,
        /// Whether there may be several labels. The last one has the S bit (RFC 8277 §2.3).
        /// Otherwise there is exactly one label, and the S bit means nothing (§2.2).
        stack: bool,
    },
    /// A length in bytes: one octet, or two with the first four bits set (RFC 8955 §4.1).
    Flow,
    /// One octet of type and one of length in bytes (RFC 7432 §7).
    Evpn,
    /// A type and a length in bytes. All of the NLRI is its identity.
    Typed {
        /// Octets of the type.
        kind: u8,
        /// Octets of the length.
        length: u8,
    },
    /// One octet each for the length in bytes, the length of the key, and the type. Then the key,
    /// and fields that may change (RFC 9871 §2.9).
    Keyed,
    /// One octet of architecture, two of type, one of length in bytes (mobile user plane).
    Mup,
    /// Not known: a whole field of an UPDATE counts as one NLRI.
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
            // Multicast in VPNs: a route distinguisher and a prefix, without labels (RFC 6514
            // §9.2.3.1).
            (AFI_IPV4 | AFI_IPV6, 129) => Self::Prefix { most: most + RD_BITS },
            (AFI_IPV4 | AFI_IPV6 | AFI_L2VPN, 133 | 134) => Self::Flow,
            // MCAST-VPN (RFC 6514 §4) and MCAST-VPLS (RFC 7117 §3).
            (AFI_IPV4 | AFI_IPV6, 5) | (AFI_L2VPN, 8) => Self::Typed { kind: 1, length: 1 },
            // Route Target constraint (RFC 4684 §4): a prefix of origin AS and Route Target. The
            // Route Target has 20 octets for IPv6 (RFC 5701 §2).
            (AFI_IPV4, 132) => Self::Prefix { most: 96 },
            (AFI_IPV6, 132) => Self::Prefix { most: 192 },
            // MDT (RFC 6037 §4.1): a route distinguisher and two addresses.
            (AFI_IPV4, 66) => Self::Prefix { most: 128 },
            // Color-aware routes (RFC 9871 §2.9), with or without VPN.
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

/// Splits `bytes` into NLRI, with path identifiers or without. An NLRI that is not whole is an
/// error, and the end.
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
    /// The bytes of one NLRI, path identifier included.
    type Item = Result<&'a [u8], Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let start = if self.path_ids { PATH_ID } else { 0 };
        // The common case: a whole prefix.
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

/// The length in bytes of the first NLRI in `bytes`, without path identifier.
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

/// Bytes of the labels at the start of the rest of a labeled NLRI. A stack ends with the bottom bit
/// (RFC 8277 §2.3). The field in its place in a withdrawal is as long as one label (§2.4). Older
/// speakers write zero there.
pub(super) fn labels(item: &[u8], stack: bool) -> usize {
    let mut at = 0;
    while let Some(&[high, middle, low]) = item.get(at..at + LABEL) {
        at += LABEL;
        if !stack || low & 1 != 0 || [high, middle, low] == WITHDRAWN_LABEL || [high, middle, low] == [0; LABEL] {
            break;
        }
    }
    at
}

/// The identity of a route in its RIB: the NLRI without the fields that may change. These are
/// labels, and in EVPN also Ethernet segment and gateway (RFC 7432 §7, RFC 9136 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NlriIdentity<'a> {
    /// The length in bits, if the parts do not have it.
    bits: u8,
    parts: [&'a [u8]; 3],
}

impl NlriIdentity<'_> {
    /// The length in bits of a labeled NLRI's prefix.
    pub(super) fn bits(&self) -> u8 {
        self.bits
    }
}

impl Form {
    /// True if all of an NLRI is its [`NlriIdentity`].
    #[inline]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Prefix { .. } | Self::Flow | Self::Typed { .. } | Self::Whole)
    }

    /// The length of an empty NLRI, in bytes.
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

    /// The form of the NLRI in a withdrawal: one field takes the place of all labels (RFC 8277
    /// §2.4).
    #[inline]
    #[must_use]
    pub fn withdrawn(self) -> Self {
        match self {
            Self::Labeled { most, .. } => Self::Labeled { most, stack: false },
            other => other,
        }
    }

    /// The same form with stacks of labels, or with one label. A form without labels stays.
    #[must_use]
    pub fn with_stack(self, stack: bool) -> Self {
        match self {
            Self::Labeled { most, .. } => Self::Labeled { most, stack },
            other => other,
        }
    }
}

/// The identity of an NLRI that [`nlri`] returned.
#[inline]
pub fn identity(form: Form, path_ids: bool, item: &[u8]) -> NlriIdentity<'_> {
    match form {
        Form::Labeled { stack, .. } => labeled_identity(stack, path_ids, item),
        Form::Evpn => evpn_identity(path_ids, item),
        Form::Keyed => keyed_identity(path_ids, item),
        Form::Mup => mup_identity(path_ids, item),
        _ => NlriIdentity { bits: 0, parts: [item, &[], &[]] },
    }
}

fn split_path_id(path_ids: bool, item: &[u8]) -> (&[u8], &[u8]) {
    item.split_at_checked(if path_ids { PATH_ID } else { 0 }).unwrap_or((item, &[]))
}

fn mup_identity(path_ids: bool, item: &[u8]) -> NlriIdentity<'_> {
    const HEADER: usize = 4;
    let (path_id, rest) = split_path_id(path_ids, item);
    // The key of a session of one endpoint (type 3) ends with the prefix. The fields behind it may
    // change.
    let key = match rest {
        [_, 0, 3, _, ..] => rest.get(HEADER + RD).and_then(|bits| {
            let prefix = usize::from(bits.div_ceil(8));
            rest.get(HEADER..HEADER + RD + 1 + prefix)
        }),
        _ => None,
    };
    match key {
        // With the type, two types are never the same route.
        Some(key) => NlriIdentity { bits: 3, parts: [path_id, rest.get(..3).unwrap_or_default(), key] },
        None => NlriIdentity { bits: 0, parts: [item, &[], &[]] },
    }
}

fn keyed_identity(path_ids: bool, item: &[u8]) -> NlriIdentity<'_> {
    const HEADER: usize = 2;
    let (path_id, rest) = split_path_id(path_ids, item);
    // The type, and the key.
    let key = rest.get(1).and_then(|length| rest.get(HEADER..HEADER + 1 + usize::from(*length)));
    NlriIdentity { bits: 0, parts: [path_id, key.unwrap_or(rest), &[]] }
}

fn labeled_identity(stack: bool, path_ids: bool, item: &[u8]) -> NlriIdentity<'_> {
    let (path_id, rest) = split_path_id(path_ids, item);
    let (bits, rest) = rest.split_first().map_or((0, rest), |(bits, rest)| (*bits, rest));
    let labels = labels(rest, stack);
    let bits = bits.saturating_sub(u8::try_from(8 * labels).unwrap_or(u8::MAX));
    NlriIdentity { bits, parts: [path_id, rest.get(labels..).unwrap_or_default(), &[]] }
}

fn evpn_identity(path_ids: bool, item: &[u8]) -> NlriIdentity<'_> {
    const ESI: usize = 10;
    const TAG: usize = 4;
    let (path_id, rest) = split_path_id(path_ids, item);
    let whole = NlriIdentity { bits: 0, parts: [item, &[], &[]] };
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
        // IP prefix: RD, [ESI], tag, length, prefix; then gateway and label (RFC 9136 §3.1). IPv4
        // has 34 bytes in total, IPv6 58.
        5 => value.get(..RD).zip(value.get(RD + ESI..).and_then(|rest| {
            let address = if value.len() > 34 { 16 } else { 4 };
            rest.get(..TAG + 1 + address)
        })),
        _ => None,
    };
    match ranges {
        // With the type, two types are never the same route.
        Some((start, end)) => NlriIdentity { bits: *kind, parts: [path_id, start, end] },
        None => whole,
    }
}

/// The last byte of a prefix without the bits behind its end, which mean nothing (RFC 4271 §4.3).
/// `None` if these bits are zero.
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

/// The NLRI of a withdrawal, of a form with stacks of labels, with [`WITHDRAWN_LABEL`] in the place
/// of labels. So its [`identity`] is that of the route that it withdraws. `None` if it has that
/// field already.
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

/// Appends the NLRI that withdraws a route that was announced with `item` (with labels: RFC 8277
/// §2.4).
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
