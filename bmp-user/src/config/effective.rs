//! What is in force for a session of settings that the session view and the bmp view have.

use std::{num::NonZeroU32, time::Duration};

use super::{
    model::{BmpConfig, ConnectInterface, LineText, SessionConfig, SessionId},
    refresh::InitialRefresh,
};

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

/// Returns how many routes a second of a dump a session may send; `None`: any number. The session
/// view precedes the bmp view.
pub fn dump_rate(bmp: &BmpConfig, session: &SessionConfig) -> Option<NonZeroU32> {
    session.dump_rate.or(bmp.dump_rate).and_then(NonZeroU32::new)
}

/// Returns how long a session waits before the first dump of a connection. The sessions share the
/// spread in the order of the configuration: of four, the last begins after three quarters of it.
pub fn initial_refresh_wait(bmp: &BmpConfig, session: &SessionId) -> Duration {
    let Some(InitialRefresh { delay, spread }) = bmp.initial_refresh else { return Duration::ZERO };
    let told = || bmp.sessions.iter().filter(|(_, config)| !config.adopt && !config.shutdown);
    let before = told().take_while(|(id, _)| *id < session).count();
    // A session that is not among them has the turn of the next one.
    let all = told().count().max(before + 1);
    let [before, all] = [before, all].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    delay + spread * before / all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(last: u8) -> SessionId {
        SessionId { vpn_instance: None, station: [192, 0, 2, last].into(), alias: None }
    }

    #[test]
    fn the_rate_of_the_session_view_precedes_that_of_the_bmp_view_and_zero_is_no_limit() {
        for (of_bmp, own, expected) in [
            (None, None, None),
            (Some(100), None, Some(100)),
            (Some(100), Some(5), Some(5)),
            (Some(100), Some(0), None),
            (Some(0), None, None),
        ] {
            let bmp = BmpConfig { dump_rate: of_bmp, ..BmpConfig::default() };
            let session = SessionConfig { dump_rate: own, ..SessionConfig::default() };
            assert_eq!(dump_rate(&bmp, &session).map(NonZeroU32::get), expected);
        }
    }

    #[test]
    fn sessions_share_the_spread_of_the_initial_refresh_evenly() {
        let mut bmp = BmpConfig::default();
        bmp.sessions.extend((1..=4).map(|last| (id(last), SessionConfig::default())));
        assert_eq!(initial_refresh_wait(&bmp, &id(3)), Duration::ZERO);
        let [delay, spread] = [10, 60].map(Duration::from_secs);
        bmp.initial_refresh = Some(InitialRefresh { delay, spread });
        let waits = |bmp: &BmpConfig| (1..=4).map(|last| initial_refresh_wait(bmp, &id(last)).as_secs()).collect();
        let all: Vec<_> = waits(&bmp);
        assert_eq!(all, [10, 25, 40, 55]);
        // Sessions that bmpd does not open take no share.
        bmp.sessions.insert(id(1), SessionConfig { adopt: true, ..SessionConfig::default() });
        bmp.sessions.insert(id(2), SessionConfig { shutdown: true, ..SessionConfig::default() });
        let left: Vec<_> = waits(&bmp);
        assert_eq!(left[2..], [10, 40]);
    }
}
