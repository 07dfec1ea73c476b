//! UPDATE messages (RFC 4271 §4.3), split into withdrawn routes, attributes and announced routes.

use super::{
    Error, Family, HEADER, Problem,
    attribute::{attribute_type, attributes, has_as_0, is_well_formed, is_within_as},
};

/// The type of an UPDATE (RFC 4271 §4.1).
const UPDATE: u8 = 2;

/// An UPDATE. Its parts borrow from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// Withdrawn IPv4 unicast routes: the field "Withdrawn Routes".
    pub withdrawn: &'a [u8],
    /// The path attributes.
    pub attributes: &'a [u8],
    /// Announced IPv4 unicast routes: the field "NLRI".
    pub nlri: &'a [u8],
    /// MP_REACH_NLRI.
    pub reach: Option<Reach<'a>>,
    /// MP_UNREACH_NLRI.
    pub unreach: Option<Unreach<'a>>,
    /// The first error in the attributes: see [`Update::is_malformed`].
    pub malformed: Option<Error>,
    /// Whether it is an error for internal and external peers alike.
    malformed_anyhow: bool,
    /// A missing well-known attribute of announced routes (RFC 7606 §3 (d)). Apart from
    /// `malformed`, because routers leave attributes out when they report a RIB: FRR leaves out
    /// NEXT_HOP if the next hop is IPv6.
    pub missing: Option<Error>,
}

/// An MP_REACH_NLRI attribute (RFC 4760 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach<'a> {
    /// The family of its routes.
    pub family: Family,
    /// The bytes of the next hop.
    pub next_hop: &'a [u8],
    /// The routes.
    pub nlri: &'a [u8],
    /// The offset of the attribute, in bytes from the start of the attributes.
    pub at: usize,
    /// The offset of its end. The routes are its last field.
    pub end: usize,
}

/// An MP_UNREACH_NLRI attribute (RFC 4760 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreach<'a> {
    /// The family of its routes.
    pub family: Family,
    /// The routes.
    pub nlri: &'a [u8],
    /// The offset of the attribute, in bytes from the start of the attributes.
    pub at: usize,
    /// The offset of its end.
    pub end: usize,
}

/// A field of routes in an UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteField<'a> {
    /// The family of its routes.
    pub family: Family,
    /// The routes.
    pub items: &'a [u8],
    /// Whether the routes are withdrawn.
    pub withdrawn: bool,
    /// Start and end of the attribute with the routes, in bytes from the start of the attributes.
    /// `None` for the two fields that are not attributes.
    pub attribute: Option<(usize, usize)>,
}

impl Reach<'_> {
    /// True if the length of the next hop is possible (RFC 4760 §3, RFC 2545 §3, RFC 4364 §4.3.2,
    /// RFC 4659 §3.2.1, RFC 7432 §9.2, RFC 8950 §3). If not, nobody knows where the routes begin
    /// (RFC 7606 §7.11). True for a family whose next hops are not known here.
    pub fn has_likely_next_hop(&self) -> bool {
        let length = self.next_hop.len();
        match self.family {
            Family::IPV4_UNICAST | Family::IPV4_MULTICAST | Family::IPV4_LABELED => matches!(length, 4 | 16 | 32),
            Family::IPV6_UNICAST | Family::IPV6_MULTICAST | Family::IPV6_LABELED => matches!(length, 16 | 32),
            Family::VPNV4 => matches!(length, 12 | 24 | 48),
            Family::VPNV6 => matches!(length, 24 | 48),
            Family::L2VPN_EVPN => matches!(length, 4 | 16),
            _ => true,
        }
    }
}

impl<'a> Update<'a> {
    /// Splits an UPDATE, BGP header included. `as_size` is the size of an AS number in its AS_PATH,
    /// in bytes: 2 or 4.
    ///
    /// # Errors
    /// If it is not an UPDATE, or if its routes cannot be found: a session reset by RFC 7606 §3 and
    /// §5.3. Offsets are from the start of the message.
    pub fn parse(message: &'a [u8], as_size: usize) -> Result<Self, Error> {
        let mut update = Self::fields(message)?;
        let offset = (HEADER + 4 + update.withdrawn.len()) as u64;
        update.read_attributes(as_size).map_err(|error| error.after(offset))?;
        update.malformed = update.malformed.map(|error| error.after(offset));
        update.missing = update.missing.map(|error| error.after(offset));
        Ok(update)
    }

    /// Splits an UPDATE whose MP_REACH_NLRI or MP_UNREACH_NLRI is broken or there twice. The routes
    /// of the two fields that are not attributes can still be read. The broken attribute stays
    /// among the attributes, and [`Update::malformed`] is `broken`.
    ///
    /// # Errors
    /// If the message is not an UPDATE, or its three fields do not fill it.
    pub fn parse_plain(message: &'a [u8], broken: Error) -> Result<Self, Error> {
        Ok(Self { malformed: Some(broken), malformed_anyhow: true, ..Self::fields(message)? })
    }

    /// Splits an UPDATE into its three fields. Does not look at the attributes.
    #[inline]
    fn fields(message: &'a [u8]) -> Result<Self, Error> {
        let short = |offset, what, need, found| Error::new(offset, Problem::Short { what, need, found });
        let &[.., high, low, kind] = message
            .first_chunk::<HEADER>()
            .ok_or_else(|| short(0, "the header of a BGP message", HEADER, message.len()))?;
        if kind != UPDATE {
            return Err(Error::new(HEADER - 1, Problem::NotAnUpdate(kind)));
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let body = message
            .get(HEADER..length)
            .ok_or_else(|| short(HEADER - 3, "a BGP message", length.max(HEADER), message.len()))?;
        let mut at = HEADER;
        let mut field = |rest: &'a [u8], what| {
            let (size, rest) = rest.split_first_chunk::<2>().ok_or_else(|| short(at, what, 2, rest.len()))?;
            let size = usize::from(u16::from_be_bytes(*size));
            let taken = rest.split_at_checked(size).ok_or_else(|| short(at, what, 2 + size, 2 + rest.len()))?;
            at += 2 + size;
            Ok::<_, Error>(taken)
        };
        let (withdrawn, rest) = field(body, "the withdrawn routes")?;
        let (all, nlri) = field(rest, "the path attributes")?;
        Ok(Self {
            withdrawn,
            attributes: all,
            nlri,
            reach: None,
            unreach: None,
            malformed: None,
            malformed_anyhow: false,
            missing: None,
        })
    }

    fn read_attributes(&mut self, as_size: usize) -> Result<(), Error> {
        let mut present = 0u64;
        for attribute in attributes(self.attributes) {
            let attribute = match attribute {
                Ok(attribute) => attribute,
                // RFC 7606 §4: the routes of the other two fields can still be read.
                Err(error) => {
                    self.malformed.get_or_insert(error);
                    self.malformed_anyhow = true;
                    break;
                }
            };
            let (kind, at, end, value) = (attribute.kind, attribute.at, attribute.end, attribute.value);
            let bit = 1u64.checked_shl(kind.into()).unwrap_or(0);
            match kind {
                // RFC 7606 §3 (g).
                attribute_type::MP_REACH_NLRI | attribute_type::MP_UNREACH_NLRI if present & bit != 0 => {
                    return Err(Error::new(at, Problem::Twice(kind)));
                }
                attribute_type::MP_REACH_NLRI => {
                    let (family, next_hop, nlri) = reach(value).map_err(|problem| Error::new(at, problem))?;
                    self.reach = Some(Reach { family, next_hop, nlri, at, end });
                }
                attribute_type::MP_UNREACH_NLRI => {
                    let (family, nlri) = unreach(value).map_err(|problem| Error::new(at, problem))?;
                    self.unreach = Some(Unreach { family, nlri, at, end });
                }
                // Of any other attribute the first one counts (RFC 7606 §3 (g)).
                _ if present & bit != 0 => {}
                _ if !is_well_formed(&attribute, as_size) => {
                    self.malformed.get_or_insert(Error::new(at, Problem::Attribute(kind)));
                    self.malformed_anyhow |= !is_within_as(kind);
                }
                _ => {}
            }
            present |= bit;
        }
        // RFC 7606 §3 (d).
        let missing = |kind: u8| present & 1 << kind == 0;
        let announces = !self.nlri.is_empty() || self.reach.is_some_and(|reach| !reach.nlri.is_empty());
        let needed = [
            (announces, attribute_type::ORIGIN),
            (announces, attribute_type::AS_PATH),
            (!self.nlri.is_empty(), attribute_type::NEXT_HOP),
        ];
        for (needed, kind) in needed {
            if needed && missing(kind) {
                self.missing.get_or_insert(Error::new(0, Problem::Missing(kind)));
            }
        }
        Ok(())
    }

    /// Its fields of routes, by family. Leaves out empty fields for IPv4 unicast, which every
    /// UPDATE has.
    pub fn routes(&self) -> impl Iterator<Item = (Family, &'a [u8])> + use<'a> {
        self.route_fields().map(|field| (field.family, field.items))
    }

    /// The same, with the kind and the place of each field.
    pub fn route_fields(&self) -> impl Iterator<Item = RouteField<'a>> + use<'a> {
        let plain = [(self.withdrawn, true), (self.nlri, false)].into_iter().filter(|(items, _)| !items.is_empty());
        let family = Family::IPV4_UNICAST;
        let plain = plain.map(move |(items, withdrawn)| RouteField { family, items, withdrawn, attribute: None });
        let unreach = self.unreach.map(|Unreach { family, nlri: items, at, end }| {
            let attribute = Some((at, end));
            RouteField { family, items, withdrawn: true, attribute }
        });
        let reach = self.reach.map(|Reach { family, nlri: items, at, end, .. }| {
            let attribute = Some((at, end));
            RouteField { family, items, withdrawn: false, attribute }
        });
        plain.chain(unreach).chain(reach)
    }

    /// True if its routes have to be treated as withdrawn, because of an error in its attributes
    /// (RFC 7606 §2). `internal` is true for a peer of the same AS. From an external peer, a
    /// receiver ignores LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST (§7.5, §7.9, §7.10).
    pub fn is_malformed(&self, internal: bool) -> bool {
        self.malformed_anyhow || (internal && self.malformed.is_some())
    }

    /// True if its AS_PATH has AS 0, which a speaker must not accept (RFC 7607 §2). Some routers
    /// do, and report such routes. `as_size` is as for [`Update::parse`].
    pub fn has_as_0(&self, as_size: usize) -> bool {
        let mut all = attributes(self.attributes).flatten();
        let path = all.find(|attribute| attribute.kind == attribute_type::AS_PATH);
        path.is_some_and(|path| has_as_0(path.value, as_size))
    }

    /// The family, if the UPDATE is an End-of-RIB marker (RFC 4724 §2).
    pub fn end_of_rib(&self) -> Option<Family> {
        if !self.withdrawn.is_empty() || !self.nlri.is_empty() || self.reach.is_some() {
            return None;
        }
        match self.unreach {
            None => self.attributes.is_empty().then_some(Family::IPV4_UNICAST),
            Some(unreach) => (unreach.nlri.is_empty() && unreach.at == 0 && unreach.end == self.attributes.len())
                .then_some(unreach.family),
        }
    }
}

fn family_of(value: &[u8]) -> Option<(Family, &[u8])> {
    let (&[high, low, safi], rest) = value.split_first_chunk::<3>()?;
    Some((Family::new(u16::from_be_bytes([high, low]), safi), rest))
}

fn reach(value: &[u8]) -> Result<(Family, &[u8], &[u8]), Problem> {
    let parts = || {
        let (family, rest) = family_of(value)?;
        let (&length, rest) = rest.split_first()?;
        let (next_hop, rest) = rest.split_at_checked(usize::from(length))?;
        // The reserved octet was once a number of SNPAs (RFC 2858 §2). No router sends any.
        let (_reserved, nlri) = rest.split_first()?;
        Some((family, next_hop, nlri))
    };
    let need = 5 + value.get(3).copied().map_or(0, usize::from);
    parts().ok_or(Problem::Short { what: "MP_REACH_NLRI", need, found: value.len() })
}

fn unreach(value: &[u8]) -> Result<(Family, &[u8]), Problem> {
    family_of(value).ok_or(Problem::Short { what: "MP_UNREACH_NLRI", need: 3, found: value.len() })
}
