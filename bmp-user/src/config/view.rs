//! The views of the command language.

use std::fmt;

use super::model::{MonitorId, SessionId};
use crate::wire::bgp::Family;

/// Where an operator is, or the reader of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommandView {
    /// The view that an operator begins in. It configures nothing.
    User,
    /// The outermost view of the configuration.
    System,
    /// `bmp`.
    Bmp,
    /// `bmp-session ...`.
    Session(SessionId),
    /// `monitor ...` in a session.
    Monitor(SessionId, MonitorId),
    /// `bmp-relay NAME`.
    Relay(String),
    /// `mrt-replay NAME`.
    Replay(String),
    /// `keychain NAME`.
    Keychain(String),
    /// `tls profile NAME`.
    TlsProfile(String),
    /// `route-filter NAME`.
    RouteFilter(String),
    /// `key-id N` in a key chain.
    Key(String, u8),
    /// `bgp AS-NUMBER`.
    Bgp,
    /// `ipv4-family unicast` and the other families of the bgp view.
    BgpFamily(Family),
}

impl CommandView {
    /// Returns what kind of view this is.
    pub(super) fn kind(&self) -> ViewKind {
        match self {
            Self::User => ViewKind::User,
            Self::System => ViewKind::System,
            Self::Bmp => ViewKind::Bmp,
            Self::Session(_) => ViewKind::Session,
            Self::Monitor(..) => ViewKind::Monitor,
            Self::Relay(_) => ViewKind::Relay,
            Self::Replay(_) => ViewKind::Replay,
            Self::Keychain(_) => ViewKind::Keychain,
            Self::TlsProfile(_) => ViewKind::TlsProfile,
            Self::RouteFilter(_) => ViewKind::RouteFilter,
            Self::Key(..) => ViewKind::Key,
            Self::Bgp => ViewKind::Bgp,
            Self::BgpFamily(_) => ViewKind::BgpFamily,
        }
    }

    /// Returns the view around this one, where `quit` goes; `None` for the user view.
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::User => None,
            Self::System => Some(Self::User),
            Self::Bmp
            | Self::Relay(_)
            | Self::Replay(_)
            | Self::Keychain(_)
            | Self::TlsProfile(_)
            | Self::RouteFilter(_)
            | Self::Bgp => Some(Self::System),
            Self::Session(_) => Some(Self::Bmp),
            Self::Key(chain, _) => Some(Self::Keychain(chain.clone())),
            Self::Monitor(id, _) => Some(Self::Session(id.clone())),
            Self::BgpFamily(_) => Some(Self::Bgp),
        }
    }
}

/// The line that enters the view, as far as the view itself says it.
impl fmt::Display for CommandView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User | Self::System | Self::Bmp | Self::Bgp => f.write_str(self.kind().name()),
            Self::Session(SessionId { vpn_instance, station, alias }) => {
                let vpn_instance = vpn_instance.iter().map(|name| format!("vpn-instance {name} "));
                let alias = alias.iter().map(|alias| format!(" alias {alias}"));
                let (vpn_instance, alias) = (vpn_instance.collect::<String>(), alias.collect::<String>());
                write!(f, "bmp-session {vpn_instance}{station}{alias}")
            }
            Self::Monitor(_, monitor) => write!(f, "monitor {monitor}"),
            Self::Relay(name) => write!(f, "bmp-relay {name}"),
            Self::Replay(name) => write!(f, "mrt-replay {name}"),
            Self::Keychain(name) => write!(f, "keychain {name}"),
            Self::TlsProfile(name) => write!(f, "tls profile {name}"),
            Self::RouteFilter(name) => write!(f, "route-filter {name}"),
            Self::Key(_, id) => write!(f, "key-id {id}"),
            Self::BgpFamily(family) => write!(f, "{family}"),
        }
    }
}

/// The kinds of view. A command that a view does not know is looked up in the views around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ViewKind {
    User,
    System,
    Bmp,
    Session,
    Monitor,
    Relay,
    Replay,
    Keychain,
    Key,
    TlsProfile,
    RouteFilter,
    Bgp,
    BgpFamily,
}

impl ViewKind {
    pub(super) const ALL: [Self; 13] = [
        Self::User,
        Self::System,
        Self::Bmp,
        Self::Session,
        Self::Monitor,
        Self::Relay,
        Self::Replay,
        Self::Keychain,
        Self::Key,
        Self::TlsProfile,
        Self::RouteFilter,
        Self::Bgp,
        Self::BgpFamily,
    ];

    /// Returns the view around it. The user view is around none, because it configures nothing.
    pub(super) fn parent(self) -> Option<Self> {
        match self {
            Self::User | Self::System => None,
            Self::Bmp
            | Self::Relay
            | Self::Replay
            | Self::Keychain
            | Self::TlsProfile
            | Self::RouteFilter
            | Self::Bgp => Some(Self::System),
            Self::Session => Some(Self::Bmp),
            Self::Key => Some(Self::Keychain),
            Self::Monitor => Some(Self::Session),
            Self::BgpFamily => Some(Self::Bgp),
        }
    }

    /// Returns the name that messages use.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System => "system",
            Self::Bmp => "bmp",
            Self::Session => "bmp-session",
            Self::Monitor => "monitor",
            Self::Relay => "bmp-relay",
            Self::Replay => "mrt-replay",
            Self::Keychain => "keychain",
            Self::Key => "key-id",
            Self::TlsProfile => "tls profile",
            Self::RouteFilter => "route-filter",
            Self::Bgp => "bgp",
            Self::BgpFamily => "bgp family",
        }
    }
}
