//! `debugging`: what an operator wants to see of a session, for a time.

use std::{net::IpAddr, time::Duration};

use super::{
    language::{argument::ArgumentKind, token::ArgumentTokens},
    model::SessionId,
};

/// What is shown of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebuggingTopic {
    /// Each step of its connections.
    Connection,
    /// The messages that it sends.
    Messages,
}

impl DebuggingTopic {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Connection, Self::Messages];

    /// The keyword of the command.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Messages => "messages",
        }
    }
}

/// The sessions that `debugging` names: `[ vpn-instance V ] ADDR [ alias A ]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebuggedSessions {
    /// In this VPN instance; in none if absent.
    pub vpn_instance: Option<String>,
    /// To this station.
    pub station: IpAddr,
    /// With this alias; `None` is any alias and none.
    pub alias: Option<String>,
}

impl DebuggedSessions {
    /// Whether the session is meant.
    pub fn names(&self, id: &SessionId) -> bool {
        let Self { vpn_instance, station, alias } = self;
        *station == id.station && *vpn_instance == id.vpn_instance && (alias.is_none() || *alias == id.alias)
    }
}

/// `debugging ...`, `undo debugging ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DebuggingCommand {
    /// `debugging bmp session ... { connection | messages } [ for MINUTES ]`.
    Start {
        /// Of these sessions.
        sessions: DebuggedSessions,
        /// What is shown.
        topic: DebuggingTopic,
        /// For how long.
        time: Duration,
    },
    /// `undo debugging bmp session ... [ connection | messages ]`.
    Stop {
        /// Of these sessions.
        sessions: DebuggedSessions,
        /// What is shown no more; `None` is both.
        topic: Option<DebuggingTopic>,
    },
    /// `undo debugging all`.
    StopAll,
}

impl DebuggingCommand {
    /// For how long, unless the command says it.
    pub const TIME: Duration = Duration::from_secs(10 * 60);

    /// Reads the command; `None` if it is not complete, which the grammar does not let pass.
    pub(super) fn read(undo: bool, arguments: ArgumentTokens<'_>) -> Option<Self> {
        let topic = DebuggingTopic::ALL.into_iter().find(|topic| arguments.has(topic.as_str()));
        let Some(station) = arguments.address_of(ArgumentKind::Station) else {
            return undo.then_some(Self::StopAll);
        };
        let sessions = DebuggedSessions {
            vpn_instance: arguments.text_of(ArgumentKind::VpnInstance),
            station,
            alias: arguments.text_of(ArgumentKind::Alias),
        };
        if undo {
            return Some(Self::Stop { sessions, topic });
        }
        let minutes = arguments.number::<u32>().map(|minutes| Duration::from_secs(60 * u64::from(minutes)));
        Some(Self::Start { sessions, topic: topic?, time: minutes.unwrap_or(Self::TIME) })
    }
}
