//! One operator at work: where they are, what they have changed, and what of it is not in force.

use std::{sync::Arc, time::Duration};

use super::{
    command::{Command, Edit, apply},
    commit_error::CommitError,
    difference::{Conflict, Difference, rebase},
    language::line::Error,
    model::{Config, SessionId},
    operator::{Allow, OperatorId, Who},
    settings::{family_words, session_of},
    store::{Committed, Store},
    view::View,
};

/// How many sessions a remark names.
const REMARKED: usize = 8;

/// `198.51.100.7`, `vpn-instance mgmt 198.51.100.7`: as in a command, without the alias.
fn in_words(SessionId { vpn_instance, station, .. }: &SessionId) -> String {
    let vpn_instance = vpn_instance.as_ref().map(|name| format!("vpn-instance {name} ")).unwrap_or_default();
    format!("{vpn_instance}{station}")
}

/// A candidate that one operator edits, and the view they are in.
#[derive(Debug)]
pub struct Editor {
    store: Store,
    operator: OperatorId,
    view: View,
    /// What was in force when the first change was made.
    base: Arc<Config>,
    candidate: Config,
}

impl Editor {
    /// Begins in the user view, with what is in force.
    pub fn new(store: Store) -> Self {
        let base = store.running();
        Self { operator: store.operator(), view: View::User, candidate: Config::clone(&base), base, store }
    }

    /// Where the operator is.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The configuration being edited.
    pub fn candidate(&self) -> &Config {
        &self.candidate
    }

    /// Whether anything was changed that is not in force.
    pub fn is_pending(&self) -> bool {
        self.candidate != *self.base
    }

    /// Whether the configuration in force is another than when the first change was made.
    pub fn is_behind(&self) -> bool {
        self.is_pending() && self.store.running() != self.base
    }

    /// Why the changes cannot be put on top of what is in force by now, if they cannot.
    pub fn conflict(&self) -> Option<Conflict> {
        rebase(&self.base, &self.candidate, &self.store.running()).err()
    }

    /// What was changed and is not in force.
    pub fn changes(&self) -> Difference {
        Difference::between(&self.base, &self.candidate)
    }

    /// As carrier routers show where one is: `<edge1>`, `[~edge1]`, `[*edge1-bmp]`, `[*edge1-bmp-session-198.51.100.7-lab]`,
    /// `[~edge1-bmp-session-mgmt-198.51.100.7]` in a VPN instance, `[~edge1-bmp-relay-frr]`; `*` where something is pending.
    pub fn prompt(&self, sysname: &str) -> String {
        let inside = match &self.view {
            View::User => return format!("<{sysname}>"),
            View::System => String::new(),
            View::Bmp => "-bmp".to_owned(),
            View::Session(id) => format!("-bmp-session-{id}"),
            View::Monitor(id, monitor) => {
                format!("-bmp-session-{id}-monitor-{}", monitor.to_string().replace(' ', "-"))
            }
            View::Relay(name) => format!("-bmp-relay-{name}"),
            View::Replay(name) => format!("-mrt-replay-{name}"),
            View::Bgp => "-bgp".to_owned(),
            View::BgpFamily(family) => format!("-bgp-{}", family_words(*family).join("-")),
        };
        let pending = if self.is_pending() { '*' } else { '~' };
        format!("[{pending}{sysname}{inside}]")
    }

    /// Where nothing is pending, takes up what is in force by now; a view that is gone from it is left.
    pub fn follow(&mut self) {
        if !self.is_pending() {
            self.clear();
        }
    }

    /// What an operator should know before a command is done: which sessions `undo bmp-session ADDRESS` leaves there, where others to the same
    /// station have an alias.
    pub fn remark(&self, command: &Command) -> Option<String> {
        let Command::Configure(configure) = command else { return None };
        let Edit::Undo(setting) = configure.edit() else { return None };
        let id = &session_of(setting)?;
        let sessions = &self.candidate.bmp.sessions;
        let same =
            |other: &&SessionId| *other != id && other.station == id.station && other.vpn_instance == id.vpn_instance;
        let others: Vec<_> = sessions.keys().filter(same).collect();
        let named = |id: &SessionId| match &id.alias {
            Some(alias) => format!("`undo bmp-session {} alias {alias}`", in_words(id)),
            None => format!("`undo bmp-session {}`", in_words(id)),
        };
        let commands: Vec<_> = others.iter().take(REMARKED).map(|other| named(other)).collect();
        let more = others.len().saturating_sub(REMARKED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let commands = commands.join(", ");
        let alias = id.alias.as_ref().map_or("without an alias".to_owned(), |alias| format!("alias {alias}"));
        let station = in_words(id);
        match (sessions.contains_key(id), others.is_empty()) {
            (_, true) => None,
            (true, false) => Some(format!(
                "bmp-session {station} {alias} alone goes; others to this station stay, until {commands}{more}"
            )),
            (false, false) => Some(format!(
                "there is no bmp-session {station} {alias}, so nothing goes; those to this station go by {commands}{more}"
            )),
        }
    }

    /// Does to candidate and view what the command says; see [`apply`].
    ///
    /// # Errors
    ///
    /// See [`apply`]: nothing has changed then.
    pub fn apply(&mut self, command: &Command) -> Result<(), Error> {
        apply(&mut self.candidate, &mut self.view, command)?;
        self.leave_what_is_gone();
        Ok(())
    }

    /// `clear configuration candidate`.
    pub fn clear(&mut self) {
        self.base = self.store.running();
        self.candidate.clone_from(&self.base);
        self.leave_what_is_gone();
    }

    /// `commit`, by `who`.
    ///
    /// # Errors
    ///
    /// See [`Store::commit`]: the candidate stays as it is.
    pub async fn commit(&mut self, who: &Who, allow: Allow) -> Result<Committed, CommitError> {
        let committed = self.store.commit(&self.operator, who, &self.base, &self.candidate, allow).await?;
        self.clear();
        Ok(committed)
    }

    /// `commit trial SECONDS`.
    ///
    /// # Errors
    ///
    /// See [`Store::commit_trial`]: the candidate stays as it is.
    pub async fn commit_trial(&mut self, who: &Who, time: Duration) -> Result<Committed, CommitError> {
        let committed = self.store.commit_trial(&self.operator, who, &self.base, &self.candidate, time).await?;
        self.clear();
        Ok(committed)
    }

    /// `abort trial`.
    ///
    /// # Errors
    ///
    /// See [`Store::abort_trial`].
    pub async fn abort_trial(&mut self, who: &Who, allow: Allow) -> Result<(), CommitError> {
        self.store.abort_trial(&self.operator, who, allow).await?;
        self.follow();
        Ok(())
    }

    fn leave_what_is_gone(&mut self) {
        let is_there = |view: &View| match view {
            View::User | View::System | View::Bmp => true,
            View::Bgp | View::BgpFamily(_) => self.candidate.bgp.is_some(),
            View::Session(id) => self.candidate.bmp.sessions.contains_key(id),
            View::Monitor(id, monitor) => {
                self.candidate.bmp.sessions.get(id).is_some_and(|session| session.monitors.contains_key(monitor))
            }
            View::Replay(name) => self.candidate.replays.contains_key(name),
            View::Relay(name) => self.candidate.relays.contains_key(name),
        };
        while !is_there(&self.view) {
            self.view = self.view.parent().unwrap_or(View::User);
        }
    }
}
