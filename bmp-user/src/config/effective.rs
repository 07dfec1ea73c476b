//! The connect-interface in force for a session.

use super::model::{Bmp, ConnectInterface, Session, SessionId};

/// The view that the connect-interface in force comes from. JSON has its name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum From {
    /// The session's own view.
    Session,
    /// The `bmp` view.
    Bmp,
    /// No view. The kernel chooses the source.
    Default,
}

impl From {
    /// Returns the word of the JSON form: `session`, `bmp`, `default`.
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
    /// The source of the session. `None` leaves it to the kernel.
    pub connect: Option<ConnectInterface>,
    /// The view that configures it.
    pub from: From,
}

/// Returns the connect-interface in force. The session view precedes the bmp view, which counts for
/// IPv4 stations only.
pub fn effective(bmp: &Bmp, id: &SessionId, session: &Session) -> Effective {
    match (&session.connect_interface, bmp.connect_interface) {
        (Some(connect), _) => Effective { connect: Some(connect.clone()), from: From::Session },
        (None, Some(address)) if id.station.is_ipv4() => {
            Effective { connect: Some(ConnectInterface::Address(address.into())), from: From::Bmp }
        }
        (None, _) => Effective { connect: None, from: From::Default },
    }
}
