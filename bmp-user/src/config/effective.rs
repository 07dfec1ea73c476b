//! What is in force for a session of settings that the session view and the bmp view have.

use super::model::{BmpConfig, ConnectInterface, LineText, SessionConfig, SessionId};

/// The view that the connect-interface in force comes from. JSON has its name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceLevel {
    /// The session's own view.
    Session,
    /// The `bmp` view.
    Bmp,
    /// No view. The kernel chooses the source.
    Default,
}

impl SourceLevel {
    /// All levels.
    pub const ALL: [Self; 3] = [Self::Session, Self::Bmp, Self::Default];

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
pub struct EffectiveSource {
    /// The source of the session. `None` leaves it to the kernel.
    pub connect: Option<ConnectInterface>,
    /// The view that configures it.
    pub from: SourceLevel,
}

/// Returns the connect-interface in force. The session view precedes the bmp view, which counts for
/// IPv4 stations only.
pub fn effective(bmp: &BmpConfig, id: &SessionId, session: &SessionConfig) -> EffectiveSource {
    match (&session.connect_interface, bmp.connect_interface) {
        (Some(connect), _) => EffectiveSource { connect: Some(connect.clone()), from: SourceLevel::Session },
        (None, Some(address)) if id.station.is_ipv4() => {
            EffectiveSource { connect: Some(ConnectInterface::Address(address.into())), from: SourceLevel::Bmp }
        }
        (None, _) => EffectiveSource { connect: None, from: SourceLevel::Default },
    }
}

/// Returns the text that a station is told with the name of this device. The session view precedes
/// the bmp view.
pub fn initiation_message<'a>(bmp: &'a BmpConfig, session: &'a SessionConfig) -> Option<&'a LineText> {
    session.initiation_message.as_ref().or(bmp.initiation_message.as_ref())
}
