//! OPEN (RFC 4271 §4.2), with optional parameters that may be longer than 255 bytes (RFC 9072).

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};

use super::{
    Capabilities, Capability, Error, Family, Frame, HEADER, MAX_MESSAGE, MessageType, Problem,
    capability::{self, AddPath, GracefulRestart},
    frame::header,
};
use crate::wire::reader::{ByteReader, Short};

/// The version of BGP.
pub const VERSION: u8 = 4;

/// AS_TRANS: the 2-octet AS number in the place of a longer one (RFC 6793 §9).
pub const AS_TRANS: u16 = 23456;

/// The optional parameter that holds capabilities (RFC 5492 §4).
pub const CAPABILITIES: u8 = 2;

/// The type that says that lengths have two octets, and is not a parameter (RFC 9072 §2).
const EXTENDED: u8 = 255;

/// An OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    /// My Autonomous System, in two octets. [`Open::asn`] is the whole number.
    pub my_as: u16,
    /// Hold time in seconds; zero for none.
    pub hold_time: u16,
    /// BGP identifier.
    pub bgp_id: Ipv4Addr,
    /// The optional parameters.
    pub parameters: Parameters<'a>,
}

impl<'a> Open<'a> {
    /// Reads an OPEN. Checks that its version is 4, and that its parameters and capabilities are
    /// whole. [`Open::check`] checks the values.
    ///
    /// # Errors
    ///
    /// At the first field that is wrong. Offsets are within the frame.
    pub fn parse(frame: &Frame<'a>) -> Result<Self, Error> {
        let mut reader = ByteReader::new(frame.bytes(), HEADER);
        let at = reader.at();
        let version = reader.u8("the version")?;
        if version != VERSION {
            return Err(Error::new(at, Problem::Version(version)));
        }
        Ok(Self {
            my_as: reader.u16("the AS number")?,
            hold_time: reader.u16("the hold time")?,
            bgp_id: Ipv4Addr::from(reader.u32("the BGP identifier")?),
            parameters: Parameters::parse(reader)?,
        })
    }

    /// Checks for values that a receiver must refuse (RFC 4271 §6.2, RFC 6286 §2.1, RFC 7607 §2).
    ///
    /// # Errors
    ///
    /// At the first field to refuse. [`Problem::notification`] is the answer.
    pub fn check(&self) -> Result<(), Error> {
        let (as_at, hold_at, id_at, parameters_at) = (HEADER + 1, HEADER + 3, HEADER + 5, HEADER + 10);
        if self.my_as == 0 || self.asn() == 0 {
            return Err(Error::new(as_at, Problem::AsNumber));
        }
        if let 1 | 2 = self.hold_time {
            return Err(Error::new(hold_at, Problem::HoldTime(self.hold_time)));
        }
        if self.bgp_id.is_unspecified() {
            return Err(Error::new(id_at, Problem::Identifier));
        }
        match self.parameters.iter().find(|parameter| parameter.kind != CAPABILITIES) {
            Some(parameter) => Err(Error::new(parameters_at, Problem::Parameter(parameter.kind))),
            None => Ok(()),
        }
    }

    /// The capabilities, in order.
    pub fn capabilities(&self) -> impl Iterator<Item = Capability<'a>> + use<'a> {
        let of = |parameter: Parameter<'a>| (parameter.kind == CAPABILITIES).then_some(parameter.value);
        self.parameters.iter().filter_map(of).flat_map(capability::iter)
    }

    /// The AS number: that of the 4-octet AS capability if there is one (RFC 6793 §4.1).
    pub fn asn(&self) -> u32 {
        self.four_octet_as().unwrap_or(u32::from(self.my_as))
    }

    /// The AS number of the 4-octet AS capability.
    pub fn four_octet_as(&self) -> Option<u32> {
        self.capabilities().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(asn),
            _ => None,
        })
    }

    /// The families: those of the multiprotocol capabilities, or IPv4 unicast if there is none (RFC
    /// 4760 §8).
    pub fn families(&self) -> impl Iterator<Item = Family> + use<'a> {
        let of = |capability| match capability {
            Capability::Multiprotocol(family) => Some(family),
            _ => None,
        };
        let implied = self.capabilities().find_map(of).is_none().then_some(Family::IPV4_UNICAST);
        self.capabilities().filter_map(of).chain(implied)
    }

    /// The add-path capability. The last one counts (RFC 7911 §4).
    pub fn add_path(&self) -> Option<AddPath<'a>> {
        let of = |capability| match capability {
            Capability::AddPath(add_path) => Some(add_path),
            _ => None,
        };
        self.capabilities().filter_map(of).last()
    }

    /// The graceful restart capability. The last one counts (RFC 4724 §3).
    pub fn graceful_restart(&self) -> Option<GracefulRestart<'a>> {
        let of = |capability| match capability {
            Capability::GracefulRestart(graceful_restart) => Some(graceful_restart),
            _ => None,
        };
        self.capabilities().filter_map(of).last()
    }

    /// True if the OPEN has a capability without a value, for example
    /// [`Capability::ExtendedMessage`].
    pub fn has(&self, wanted: Capability<'_>) -> bool {
        self.capabilities().any(|capability| capability == wanted)
    }
}

/// An optional parameter (RFC 4271 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Its type.
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

/// The optional parameters of an OPEN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters<'a> {
    bytes: &'a [u8],
    /// Their lengths have two octets (RFC 9072 §2).
    extended: bool,
}

impl<'a> Parameters<'a> {
    fn parse(mut reader: ByteReader<'a>) -> Result<Self, Error> {
        const WHAT: &str = "the optional parameters";
        let mut length = usize::from(reader.u8("the length of the optional parameters")?);
        // With that type, the one-octet length only says that there are parameters (RFC 9072 §2).
        let extended = length != 0 && reader.rest().first() == Some(&EXTENDED);
        if extended {
            reader.u8(WHAT)?;
            length = usize::from(reader.u16("the extended length of the optional parameters")?);
        }
        let mut inside = reader.part(length, WHAT)?;
        if !reader.is_empty() {
            return Err(Error::new(reader.at(), Problem::Trailing { what: "the OPEN", found: reader.rest().len() }));
        }
        let parameters = Self { bytes: inside.rest(), extended };
        while !inside.is_empty() {
            let (kind, value) = take(&mut inside, extended)?;
            if kind == CAPABILITIES {
                capability::check(value)?;
            }
        }
        Ok(parameters)
    }

    /// In the order of the message.
    pub fn iter(&self) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
        let mut reader = ByteReader::new(self.bytes, 0);
        let extended = self.extended;
        std::iter::from_fn(move || {
            take(&mut reader, extended).ok().map(|(kind, value)| Parameter { kind, value: value.rest() })
        })
    }

    /// True if the lengths have two octets (RFC 9072).
    pub fn is_extended(&self) -> bool {
        self.extended
    }
}

fn take<'a>(reader: &mut ByteReader<'a>, extended: bool) -> Result<(u8, ByteReader<'a>), Short> {
    const LENGTH: &str = "the length of an optional parameter";
    let kind = reader.u8("the type of an optional parameter")?;
    let length = if extended { reader.u16(LENGTH)? } else { u16::from(reader.u8(LENGTH)?) };
    Ok((kind, reader.part(usize::from(length), "the value of an optional parameter")?))
}

/// Appends an OPEN with these capabilities in one parameter. Uses the extended format (RFC 9072)
/// only if they need it.
///
/// Writes [`AS_TRANS`] for an AS number that does not fit two octets (RFC 6793 §4.2.1). The caller
/// adds the 4-octet AS capability.
///
/// # Errors
///
/// If the message would be longer than 4096 bytes. Nothing is appended then.
pub fn build(
    out: &mut BytesMut,
    asn: u32,
    hold_time: u16,
    bgp_id: Ipv4Addr,
    capabilities: &Capabilities,
) -> Result<(), Error> {
    const FIXED: usize = 10;
    let value = capabilities.bytes();
    let extended = value.len() + 2 > usize::from(u8::MAX);
    let parameters = match (value.len(), extended) {
        (0, _) => 0,
        (length, false) => 2 + length,
        (length, true) => 3 + 3 + length,
    };
    let found = HEADER + FIXED + parameters;
    if found > MAX_MESSAGE {
        return Err(Error::new(out.len(), Problem::TooLong { what: "the OPEN", most: MAX_MESSAGE, found }));
    }
    header(out, MessageType::Open, FIXED + parameters);
    out.put_u8(VERSION);
    out.put_u16(u16::try_from(asn).unwrap_or(AS_TRANS));
    out.put_u16(hold_time);
    out.put_u32(bgp_id.to_bits());
    // Checked above: a message of 4096 bytes has no longer field.
    let (byte, word) = (|n: usize| u8::try_from(n).unwrap_or(u8::MAX), |n: usize| u16::try_from(n).unwrap_or(u16::MAX));
    if extended {
        out.put_u8(u8::MAX);
        out.put_u8(EXTENDED);
        out.put_u16(word(3 + value.len()));
        out.put_u8(CAPABILITIES);
        out.put_u16(word(value.len()));
    } else {
        out.put_u8(byte(parameters));
        if parameters > 0 {
            out.put_u8(CAPABILITIES);
            out.put_u8(byte(value.len()));
        }
    }
    out.put_slice(value);
    Ok(())
}
