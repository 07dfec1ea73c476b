//! One operator at work: the view, and the candidate with changes that are not in force.

use std::{sync::Arc, time::Duration};

use super::{
    command::{ParsedCommand, apply, parse_line_with},
    commit::{CommitNote, CommitOrigin},
    commit_error::CommitError,
    difference::{Conflict, Difference, rebase},
    edit::ConfigEdit,
    language::line::CommandError,
    model::{Config, SessionId},
    operator::{Allow, OperatorId, Who},
    settings::{family_words, session_of},
    store::{Committed, Committer, ConfigStore},
    view::CommandView,
};

/// The most sessions that a remark names.
const REMARKED: usize = 8;

/// Returns the words that a command names a session by, without the alias: `198.51.100.7`,
/// `vpn-instance mgmt 198.51.100.7`.
fn in_words(SessionId { vpn_instance, station, .. }: &SessionId) -> String {
    let vpn_instance = vpn_instance.as_ref().map(|name| format!("vpn-instance {name} ")).unwrap_or_default();
    format!("{vpn_instance}{station}")
}

/// The candidate of one operator, and the view that the operator is in.
#[derive(Debug)]
pub struct CandidateEditor {
    store: ConfigStore,
    operator: OperatorId,
    view: CommandView,
    /// The configuration in force when the operator made the first change.
    base: Arc<Config>,
    candidate: Config,
}

impl CandidateEditor {
    /// Begins in the user view, with the configuration in force.
    pub fn new(store: ConfigStore) -> Self {
        let base = store.running();
        Self { operator: store.operator(), view: CommandView::User, candidate: Config::clone(&base), base, store }
    }

    /// Returns the view that the operator is in.
    pub fn view(&self) -> &CommandView {
        &self.view
    }

    /// Returns the candidate.
    pub fn candidate(&self) -> &Config {
        &self.candidate
    }

    /// Decides whether the candidate has changes that are not in force.
    pub fn is_pending(&self) -> bool {
        self.candidate != *self.base
    }

    /// Decides whether the configuration in force has changed since the operator's first change.
    pub fn is_behind(&self) -> bool {
        self.is_pending() && self.store.running() != self.base
    }

    /// Returns why the changes do not go together with the configuration in force, if so.
    pub fn conflict(&self) -> Option<Conflict> {
        rebase(&self.base, &self.candidate, &self.store.running()).err()
    }

    /// Returns the changes that are not in force.
    pub fn changes(&self) -> Difference {
        Difference::between(&self.base, &self.candidate)
    }

    /// Returns the prompt in the form of carrier routers: `<edge1>`, `[~edge1]`, `[*edge1-bmp]`,
    /// `[*edge1-bmp-session-198.51.100.7-lab]`, `[~edge1-bmp-session-mgmt-198.51.100.7]` in a VPN
    /// instance, `[~edge1-bmp-relay-frr]`. `*` marks pending changes.
    pub fn prompt(&self, sysname: &str) -> String {
        let inside = match &self.view {
            CommandView::User => return format!("<{sysname}>"),
            CommandView::System => String::new(),
            CommandView::Bmp => "-bmp".to_owned(),
            CommandView::Session(id) => format!("-bmp-session-{id}"),
            CommandView::Monitor(id, monitor) => {
                format!("-bmp-session-{id}-monitor-{}", monitor.to_string().replace(' ', "-"))
            }
            CommandView::Relay(name) => format!("-bmp-relay-{name}"),
            CommandView::Replay(name) => format!("-mrt-replay-{name}"),
            CommandView::Keychain(name) => format!("-keychain-{name}"),
            CommandView::TlsProfile(name) => format!("-tls-profile-{name}"),
            CommandView::RouteFilter(name) => format!("-route-filter-{name}"),
            CommandView::Key(name, id) => format!("-keychain-{name}-keyid-{id}"),
            CommandView::Bgp => "-bgp".to_owned(),
            CommandView::BgpFamily(family) => format!("-bgp-{}", family_words(*family).join("-")),
        };
        let pending = if self.is_pending() { '*' } else { '~' };
        format!("[{pending}{sysname}{inside}]")
    }

    /// Returns the lines that lead from the user view to the operator's view, outermost first.
    pub fn path(&self) -> Vec<String> {
        let line = |view: &CommandView| match view {
            CommandView::User => None,
            CommandView::System => Some("system-view".to_owned()),
            CommandView::Bgp => Some(format!("bgp {}", self.candidate.bgp.as_ref()?.asn)),
            CommandView::BgpFamily(family) => Some(family_words(*family).join(" ")),
            CommandView::Bmp
            | CommandView::Session(_)
            | CommandView::Monitor(..)
            | CommandView::Relay(_)
            | CommandView::Replay(_)
            | CommandView::Keychain(_)
            | CommandView::TlsProfile(_)
            | CommandView::RouteFilter(_)
            | CommandView::Key(..) => Some(view.to_string()),
        };
        let views = std::iter::successors(Some(self.view.clone()), CommandView::parent);
        let mut path: Vec<_> = views.filter_map(|view| line(&view)).collect();
        path.reverse();
        path
    }

    /// Takes up the configuration in force unless changes are pending. Leaves views that are gone.
    pub fn follow(&mut self) {
        if !self.is_pending() {
            self.clear();
        }
    }

    /// Returns what an operator should know before a command takes effect: the sessions to the same
    /// station that `undo bmp-session ADDRESS` leaves, because they have another alias.
    pub fn remark(&self, command: &ParsedCommand) -> Option<String> {
        let ParsedCommand::Configure(configure) = command else { return None };
        let ConfigEdit::Undo(setting) = configure.edit() else { return None };
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

    /// Reads a line of the operator as [`parse_line`](super::parse_line) does, and opens a sealed
    /// secret in it.
    ///
    /// # Errors
    ///
    /// The line is no command here, or the key of this host does not open the secret.
    pub fn parse(&self, line: &str) -> Result<ParsedCommand, CommandError> {
        parse_line_with(&self.view, line, true, self.store.keys())
    }

    /// Applies a command to candidate and view; see [`apply`].
    ///
    /// # Errors
    ///
    /// See [`apply`]. Nothing has changed then.
    pub fn apply(&mut self, command: &ParsedCommand) -> Result<(), CommandError> {
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
    /// See [`ConfigStore::commit`]. The candidate stays as it is.
    pub async fn commit(&mut self, who: &Who, note: &CommitNote, allow: Allow) -> Result<Committed, CommitError> {
        let by = Committer { operator: &self.operator, who, note, origin: CommitOrigin::Commit };
        let committed = self.store.commit(by, &self.base, &self.candidate, allow).await?;
        self.clear();
        Ok(committed)
    }

    /// `commit trial SECONDS`.
    ///
    /// # Errors
    ///
    /// See [`ConfigStore::commit_trial`]. The candidate stays as it is.
    pub async fn commit_trial(
        &mut self,
        who: &Who,
        note: &CommitNote,
        time: Duration,
    ) -> Result<Committed, CommitError> {
        let by = Committer { operator: &self.operator, who, note, origin: CommitOrigin::Commit };
        let committed = self.store.commit_trial(by, &self.base, &self.candidate, time).await?;
        self.clear();
        Ok(committed)
    }

    /// `rollback configuration`: puts the configuration `earlier` in force, for a time where a
    /// trial is wanted.
    ///
    /// # Errors
    ///
    /// See [`ConfigStore::commit`] and [`ConfigStore::commit_trial`].
    pub async fn roll_back(
        &mut self,
        who: &Who,
        note: &CommitNote,
        earlier: &Config,
        trial: Option<Duration>,
    ) -> Result<Committed, CommitError> {
        let by = Committer { operator: &self.operator, who, note, origin: CommitOrigin::Rollback };
        let base = self.store.running();
        let committed = match trial {
            Some(time) => self.store.commit_trial(by, &base, earlier, time).await?,
            None => self.store.commit(by, &base, earlier, Allow::Own).await?,
        };
        self.clear();
        Ok(committed)
    }

    /// `abort trial`.
    ///
    /// # Errors
    ///
    /// See [`ConfigStore::abort_trial`].
    pub async fn abort_trial(&mut self, who: &Who, allow: Allow) -> Result<(), CommitError> {
        self.store.abort_trial(&self.operator, who, allow).await?;
        self.follow();
        Ok(())
    }

    fn leave_what_is_gone(&mut self) {
        let is_there = |view: &CommandView| match view {
            CommandView::User | CommandView::System | CommandView::Bmp => true,
            CommandView::Bgp | CommandView::BgpFamily(_) => self.candidate.bgp.is_some(),
            CommandView::Session(id) => self.candidate.bmp.sessions.contains_key(id),
            CommandView::Monitor(id, monitor) => {
                self.candidate.bmp.sessions.get(id).is_some_and(|session| session.monitors.contains_key(monitor))
            }
            CommandView::Replay(name) => self.candidate.replays.contains_key(name),
            CommandView::Relay(name) => self.candidate.relays.contains_key(name),
            CommandView::Keychain(name) => self.candidate.keychains.contains_key(name),
            CommandView::TlsProfile(name) => self.candidate.tls_profiles.contains_key(name),
            CommandView::RouteFilter(name) => self.candidate.route_filters.contains_key(name),
            CommandView::Key(name, id) => {
                self.candidate.keychains.get(name).is_some_and(|chain| chain.keys.contains_key(id))
            }
        };
        while !is_there(&self.view) {
            self.view = self.view.parent().unwrap_or(CommandView::User);
        }
    }
}
