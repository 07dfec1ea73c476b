//! `debugging`: has the log buffer show what sessions do, for a bounded time.

use anyhow::anyhow;

use super::ControlContext;
use crate::{
    config::{DebuggedSessions, DebuggingCommand, DebuggingTopic},
    session::SessionDebugging,
};

impl ControlContext {
    /// Carries out `debugging` or its `undo`, and says what it means.
    ///
    /// # Errors
    ///
    /// No such session is configured, or another process opens it.
    pub(super) fn debug(&self, command: &DebuggingCommand) -> anyhow::Result<String> {
        match command {
            DebuggingCommand::Start { sessions, topic, time } => {
                let count = self.each_debugged(sessions, |debugging| debugging.start(*topic, *time))?;
                let which = if count == 1 { "the session".to_owned() } else { format!("{count} sessions") };
                Ok(format!(
                    "Info: the log buffer shows the {} of {which} for {} minutes: `display logbuffer`.\n",
                    match topic {
                        DebuggingTopic::Connection => "connection steps",
                        DebuggingTopic::Messages => "sent messages",
                    },
                    time.as_secs() / 60
                ))
            }
            DebuggingCommand::Stop { sessions, topic } => {
                let topics = DebuggingTopic::ALL.into_iter().filter(|known| topic.is_none_or(|topic| topic == *known));
                let topics: Vec<_> = topics.collect();
                self.each_debugged(sessions, |debugging| topics.iter().for_each(|topic| debugging.stop(*topic)))?;
                Ok(String::new())
            }
            DebuggingCommand::StopAll => {
                for id in self.store.running().bmp.sessions.keys() {
                    if let Some(session) = self.sessions.get(id) {
                        DebuggingTopic::ALL.into_iter().for_each(|topic| session.status.debugging().stop(topic));
                    }
                }
                Ok(String::new())
            }
        }
    }

    /// Does something for each session that is named. Returns how many these are.
    fn each_debugged(&self, sessions: &DebuggedSessions, act: impl Fn(&SessionDebugging)) -> anyhow::Result<usize> {
        let running = self.store.running();
        let named: Vec<_> = running.bmp.sessions.iter().filter(|(id, _)| sessions.names(id)).collect();
        if named.is_empty() {
            return Err(anyhow!("no such bmp-session is configured"));
        }
        let own: Vec<_> = named.iter().filter(|(_, session)| !session.adopt).collect();
        if own.is_empty() {
            return Err(anyhow!("another process opens this session: bmpd does nothing that could be shown"));
        }
        let found = own.iter().filter_map(|(id, _)| self.sessions.get(id));
        Ok(found.map(|session| act(session.status.debugging())).count())
    }
}
