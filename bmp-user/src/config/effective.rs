//! Which connect-interface is in force.

use super::model::{Bmp, ConnectInterface, Session, SessionId};

/// The view that a connect-interface in force comes from; in JSON its name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum From {
    /// The session's own view.
    Session,
    /// The `bmp` view.
    Bmp,
    /// Neither: the kernel chooses.
    Default,
}

impl From {
    /// As in JSON: `session`, `bmp`, `default`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Bmp => "bmp",
            Self::Default => "default",
        }
    }
}

/// The connect-interface in force for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// What the session's source is to be; `None` leaves it to the kernel.
    pub connect: Option<ConnectInterface>,
    /// Where that is configured.
    pub from: From,
}

/// The session view goes before the bmp view, whatever form it has; the bmp view counts for IPv4 stations only.
pub fn effective(bmp: &Bmp, id: &SessionId, session: &Session) -> Effective {
    match (&session.connect_interface, bmp.connect_interface) {
        (Some(connect), _) => Effective { connect: Some(connect.clone()), from: From::Session },
        (None, Some(address)) if id.station.is_ipv4() => {
            Effective { connect: Some(ConnectInterface::Address(address.into())), from: From::Bmp }
        }
        (None, _) => Effective { connect: None, from: From::Default },
    }
}
