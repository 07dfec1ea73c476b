//! Capabilities (RFC 5492): code, length, value.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Error, Family, Problem};
use crate::wire::reader::{ByteReader, Short};

/// The codes of the capabilities that bmpd knows.
pub mod code {
    /// Multiprotocol extensions (RFC 4760 §8).
    pub const MULTIPROTOCOL: u8 = 1;
    /// Route refresh (RFC 2918 §2).
    pub const ROUTE_REFRESH: u8 = 2;
    /// Extended message (RFC 8654 §3).
    pub const EXTENDED_MESSAGE: u8 = 6;
    /// Graceful restart (RFC 4724 §3).
    pub const GRACEFUL_RESTART: u8 = 64;
    /// 4-octet AS numbers (RFC 6793 §3).
    pub const FOUR_OCTET_AS: u8 = 65;
    /// Several paths for a prefix (RFC 7911 §4).
    pub const ADD_PATH: u8 = 69;
    /// Enhanced route refresh (RFC 7313 §3.1).
    pub const ENHANCED_ROUTE_REFRESH: u8 = 70;
}

/// The Send/Receive field of an add-path capability (RFC 7911 §4). A family with any other value is
/// ignored.
pub mod add_path {
    /// The sender can receive several paths.
    pub const RECEIVE: u8 = 1;
    /// The sender can send several paths.
    pub const SEND: u8 = 2;
    /// Both.
    pub const BOTH: u8 = 3;
}

/// The flags of a graceful restart capability.
pub mod graceful_restart {
    /// R: the sender has restarted (RFC 4724 §3).
    pub const RESTARTED: u8 = 0x8;
    /// N: the restart procedure also follows a NOTIFICATION (RFC 8538 §2).
    pub const NOTIFICATION: u8 = 0x4;
    /// F, of a family: the sender has kept its forwarding state (RFC 4724 §3).
    pub const FORWARDING: u8 = 0x80;
}

/// One capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability<'a> {
    /// Routes of this family (RFC 4760 §8).
    Multiprotocol(Family),
    /// The sender accepts ROUTE-REFRESH (RFC 2918 §2).
    RouteRefresh,
    /// The sender marks the beginning and the end of a route refresh (RFC 7313 §3.1).
    EnhancedRouteRefresh,
    /// Messages may be up to 65,535 bytes (RFC 8654 §3).
    ExtendedMessage,
    /// The AS number of the sender. AS paths have 4-octet numbers if both ends have this capability
    /// (RFC 6793 §3).
    FourOctetAs(u32),
    /// Several paths for a prefix, by family (RFC 7911 §4).
    AddPath(AddPath<'a>),
    /// Graceful restart (RFC 4724 §3).
    GracefulRestart(GracefulRestart<'a>),
    /// Another capability, or a known one with a value of a wrong length.
    Other {
        /// Its code.
        code: u8,
        /// Its value, at most 255 bytes.
        value: &'a [u8],
    },
}

impl<'a> Capability<'a> {
    /// Reads a capability from its code and its value.
    pub fn new(code: u8, value: &'a [u8]) -> Self {
        match (code, value) {
            // A receiver ignores the third octet, which is reserved (RFC 4760 §8).
            (code::MULTIPROTOCOL, &[a0, a1, _reserved, safi]) => {
                Self::Multiprotocol(Family::new(u16::from_be_bytes([a0, a1]), safi))
            }
            (code::ROUTE_REFRESH, []) => Self::RouteRefresh,
            (code::ENHANCED_ROUTE_REFRESH, []) => Self::EnhancedRouteRefresh,
            (code::EXTENDED_MESSAGE, []) => Self::ExtendedMessage,
            (code::FOUR_OCTET_AS, &[a, b, c, d]) => Self::FourOctetAs(u32::from_be_bytes([a, b, c, d])),
            (code::ADD_PATH, list) if list.len() % ENTRY == 0 => Self::AddPath(AddPath(list)),
            (code::GRACEFUL_RESTART, &[high, low, ref list @ ..]) if list.len() % ENTRY == 0 => {
                let field = u16::from_be_bytes([high, low]);
                let (flags, restart_time) = (high >> 4, field & 0x0fff);
                Self::GracefulRestart(GracefulRestart { flags, restart_time, families: Families(list) })
            }
            (code, value) => Self::Other { code, value },
        }
    }
}

/// Length of a family and one byte.
const ENTRY: usize = 4;

/// The families of an add-path capability (RFC 7911 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddPath<'a>(&'a [u8]);

impl<'a> AddPath<'a> {
    /// Each family with its Send/Receive field: see [`add_path`].
    pub fn iter(&self) -> impl Iterator<Item = (Family, u8)> + use<'a> {
        Families(self.0).iter()
    }

    /// True if the sender can send several paths of a family.
    pub fn sends(&self, family: Family) -> bool {
        self.says(family, add_path::SEND)
    }

    /// True if the sender can receive several paths of a family.
    pub fn receives(&self, family: Family) -> bool {
        self.says(family, add_path::RECEIVE)
    }

    fn says(&self, family: Family, what: u8) -> bool {
        self.iter().any(|(of, field)| of == family && field <= add_path::BOTH && field & what != 0)
    }
}

/// A graceful restart capability (RFC 4724 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulRestart<'a> {
    /// Four bits of flags: see [`mod@graceful_restart`].
    pub flags: u8,
    /// The longest restart, in seconds. Has twelve bits.
    pub restart_time: u16,
    /// The families, each with its flags.
    pub families: Families<'a>,
}

/// Families, each with one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families<'a>(&'a [u8]);

impl<'a> Families<'a> {
    /// In the order of the message.
    pub fn iter(&self) -> impl Iterator<Item = (Family, u8)> + use<'a> {
        let (entries, _) = self.0.as_chunks::<ENTRY>();
        entries.iter().map(|&[a0, a1, safi, byte]| (Family::new(u16::from_be_bytes([a0, a1]), safi), byte))
    }
}

/// Reads the capabilities in `value`, the value of an optional parameter of type 2.
///
/// Ends at a capability that is not whole.
pub(super) fn iter(value: &[u8]) -> impl Iterator<Item = Capability<'_>> {
    let mut reader = ByteReader::new(value, 0);
    std::iter::from_fn(move || take(&mut reader).ok())
}

/// Checks that whole capabilities fill `reader`.
pub(super) fn check(mut reader: ByteReader<'_>) -> Result<(), Error> {
    while !reader.is_empty() {
        take(&mut reader)?;
    }
    Ok(())
}

fn take<'a>(reader: &mut ByteReader<'a>) -> Result<Capability<'a>, Short> {
    let code = reader.u8("the code of a capability")?;
    let length = reader.u8("the length of a capability")?;
    Ok(Capability::new(code, reader.bytes(usize::from(length), "the value of a capability")?))
}

/// A list of capabilities to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    bytes: BytesMut,
}

impl Capabilities {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of all of them, as in an optional parameter.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = Capability<'_>> {
        iter(&self.bytes)
    }

    /// Adds a capability.
    ///
    /// # Errors
    ///
    /// If its value is longer than 255 bytes. Nothing is added then.
    pub fn push(&mut self, capability: &Capability<'_>) -> Result<(), Error> {
        match *capability {
            Capability::Multiprotocol(Family { afi, safi }) => {
                let [a0, a1] = afi.to_be_bytes();
                self.put(code::MULTIPROTOCOL, &[a0, a1, 0, safi])
            }
            Capability::RouteRefresh => self.put(code::ROUTE_REFRESH, &[]),
            Capability::EnhancedRouteRefresh => self.put(code::ENHANCED_ROUTE_REFRESH, &[]),
            Capability::ExtendedMessage => self.put(code::EXTENDED_MESSAGE, &[]),
            Capability::FourOctetAs(asn) => self.put(code::FOUR_OCTET_AS, &asn.to_be_bytes()),
            Capability::AddPath(AddPath(list)) => self.put(code::ADD_PATH, list),
            Capability::GracefulRestart(GracefulRestart { flags, restart_time, families: Families(list) }) => {
                self.put(code::GRACEFUL_RESTART, &[&restart_field(flags, restart_time), list].concat())
            }
            Capability::Other { code, value } => self.put(code, value),
        }
    }

    /// Adds an add-path capability. Each family has a Send/Receive field of [`add_path`].
    ///
    /// # Errors
    ///
    /// If there are more than 63 families. Nothing is added then.
    pub fn push_add_path(&mut self, families: impl IntoIterator<Item = (Family, u8)>) -> Result<(), Error> {
        self.push(&Capability::AddPath(AddPath(&list(families))))
    }

    /// Adds a graceful restart capability: flags of [`mod@graceful_restart`], the restart time in
    /// seconds (at most 4095), and each family with its flags.
    ///
    /// # Errors
    ///
    /// If there are more than 63 families. Nothing is added then.
    pub fn push_graceful_restart(
        &mut self,
        flags: u8,
        restart_time: u16,
        families: impl IntoIterator<Item = (Family, u8)>,
    ) -> Result<(), Error> {
        let families = Families(&list(families));
        self.push(&Capability::GracefulRestart(GracefulRestart { flags, restart_time, families }))
    }

    fn put(&mut self, code: u8, value: &[u8]) -> Result<(), Error> {
        let most = usize::from(u8::MAX);
        let Ok(length) = u8::try_from(value.len()) else {
            let problem = Problem::TooLong { what: "the value of a capability", most, found: value.len() };
            return Err(Error::new(self.bytes.len(), problem));
        };
        self.bytes.put_u8(code);
        self.bytes.put_u8(length);
        self.bytes.put_slice(value);
        Ok(())
    }
}

fn restart_field(flags: u8, restart_time: u16) -> [u8; 2] {
    (u16::from(flags & 0xf) << 12 | restart_time.min(0x0fff)).to_be_bytes()
}

fn list(families: impl IntoIterator<Item = (Family, u8)>) -> Bytes {
    let mut list = BytesMut::new();
    for (Family { afi, safi }, byte) in families {
        list.put_u16(afi);
        list.put_u8(safi);
        list.put_u8(byte);
    }
    list.freeze()
}
