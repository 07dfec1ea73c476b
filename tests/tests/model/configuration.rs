//! The configuration in the model: the typed words, and their meaning.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
};

/// Identifies a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ModelSessionId {
    pub(crate) station: IpAddr,
    pub(crate) alias: &'static str,
}

impl ModelSessionId {
    fn view(&self) -> String {
        format!("bmp-session {} alias {}", self.station, self.alias)
    }
}

/// A `connect-interface` of a session view: its words, and the interface and address that they
/// name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceSetting {
    pub(crate) words: String,
    pub(crate) interface: Option<String>,
    pub(crate) address: Option<IpAddr>,
}

impl SourceSetting {
    pub(crate) fn address(address: IpAddr) -> Self {
        Self { words: address.to_string(), interface: None, address: Some(address) }
    }

    pub(crate) fn interface(name: &str) -> Self {
        Self { words: name.to_owned(), interface: Some(name.to_owned()), address: None }
    }

    /// Names the interface by its type and number.
    pub(crate) fn spelled(kind: &str, number: &str) -> Self {
        Self { words: format!("{kind} {number}"), interface: Some(format!("{kind}{number}")), address: None }
    }

    /// Adds an address.
    pub(crate) fn with(self, address: IpAddr) -> Self {
        Self { words: format!("{} {address}", self.words), address: Some(address), ..self }
    }
}

/// A session view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionView {
    pub(crate) port: Option<u16>,
    pub(crate) source: Option<SourceSetting>,
    pub(crate) egress: Vec<String>,
    pub(crate) shutdown: bool,
}

/// The parts of a configuration that the model knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelConfiguration {
    /// `interface-alias`: from the alias to the kernel's name.
    pub(crate) aliases: BTreeMap<String, String>,
    /// `connect-interface` of the BMP view.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) sessions: BTreeMap<ModelSessionId, SessionView>,
}

/// A change of a configuration.
#[derive(Clone, Debug)]
pub(crate) enum ConfigurationEdit {
    BmpAddress(Option<Ipv4Addr>),
    /// Sets or removes an alias of the interface with this kernel name.
    Alias(String, Option<String>),
    Add(ModelSessionId, SessionView),
    Remove(ModelSessionId),
    Port(ModelSessionId, Option<u16>),
    /// Sets `connect-interface`, or removes it by `undo` with the configured words.
    Source(ModelSessionId, Option<SourceSetting>),
    Egress(ModelSessionId, Vec<String>),
    Shutdown(ModelSessionId, bool),
}

impl ModelConfiguration {
    /// Returns the lines to type in the system view for `edit`, before it is applied.
    fn lines(&self, edit: &ConfigurationEdit) -> String {
        let in_bmp = |line: &str| format!("bmp\n{line}\nquit\n");
        let in_session = |id: &ModelSessionId, lines: &str| in_bmp(&format!("{}\n{lines}\nquit", id.view()));
        let session = |id: &ModelSessionId| self.sessions.get(id).cloned().unwrap_or_default();
        match edit {
            ConfigurationEdit::BmpAddress(Some(address)) => in_bmp(&format!("connect-interface {address}")),
            ConfigurationEdit::BmpAddress(None) => in_bmp("undo connect-interface"),
            ConfigurationEdit::Alias(name, Some(kernel_name)) => format!("interface-alias {kernel_name} {name}\n"),
            ConfigurationEdit::Alias(name, None) => match self.aliases.get(name) {
                Some(kernel_name) => format!("undo interface-alias {kernel_name} {name}\n"),
                None => String::new(),
            },
            ConfigurationEdit::Add(id, session) => in_session(id, session.lines().trim_end()),
            ConfigurationEdit::Remove(id) => in_bmp(&format!("undo {}", id.view())),
            ConfigurationEdit::Port(id, Some(port)) => in_session(id, &format!("tcp connect port {port}")),
            ConfigurationEdit::Port(id, None) => in_session(id, "undo tcp connect port"),
            ConfigurationEdit::Source(id, Some(source)) => {
                in_session(id, &format!("connect-interface {}", source.words))
            }
            ConfigurationEdit::Source(id, None) => match session(id).source {
                Some(source) => in_session(id, &format!("undo connect-interface {}", source.words)),
                None => in_session(id, "undo connect-interface"),
            },
            ConfigurationEdit::Egress(id, names) if names.is_empty() => in_session(id, "undo egress-interface"),
            ConfigurationEdit::Egress(id, names) => in_session(id, &format!("egress-interface {}", names.join(" "))),
            ConfigurationEdit::Shutdown(id, true) => in_session(id, "shutdown"),
            ConfigurationEdit::Shutdown(id, false) => in_session(id, "undo shutdown"),
        }
    }

    fn apply(&mut self, edit: &ConfigurationEdit) {
        match edit {
            ConfigurationEdit::BmpAddress(address) => self.address = *address,
            ConfigurationEdit::Alias(name, Some(kernel_name)) => {
                drop(self.aliases.insert(name.clone(), kernel_name.clone()))
            }
            ConfigurationEdit::Alias(name, None) => drop(self.aliases.remove(name)),
            ConfigurationEdit::Add(id, session) => drop(self.sessions.insert(*id, session.clone())),
            ConfigurationEdit::Remove(id) => drop(self.sessions.remove(id)),
            ConfigurationEdit::Port(id, port) => self.session(id).port = *port,
            ConfigurationEdit::Source(id, source) => self.session(id).source.clone_from(source),
            ConfigurationEdit::Egress(id, names) => self.session(id).egress.clone_from(names),
            ConfigurationEdit::Shutdown(id, shutdown) => self.session(id).shutdown = *shutdown,
        }
    }

    fn session(&mut self, id: &ModelSessionId) -> &mut SessionView {
        self.sessions.get_mut(id).expect("only a session that is there is changed")
    }

    /// Returns the configuration after these edits, and the lines to type before the commit. `None`
    /// if two sessions would share station and port on the way.
    pub(crate) fn edited(&self, edits: &[ConfigurationEdit]) -> Option<(Self, String)> {
        let (mut configuration, mut typed) = (self.clone(), "system-view\n".to_owned());
        for edit in edits {
            typed.push_str(&configuration.lines(edit));
            configuration.apply(edit);
            if !configuration.is_sound() {
                return None;
            }
        }
        Some((configuration, typed))
    }

    /// Returns the configuration after these edits, as in a file, where only the result must be
    /// valid.
    pub(crate) fn replaced(&self, edits: &[ConfigurationEdit]) -> Option<Self> {
        let mut configuration = self.clone();
        edits.iter().for_each(|edit| configuration.apply(edit));
        configuration.is_sound().then_some(configuration)
    }

    fn is_sound(&self) -> bool {
        let mut taken: Vec<_> =
            self.sessions.iter().filter_map(|(id, session)| Some((id.station, session.port?))).collect();
        let count = taken.len();
        taken.sort_unstable();
        taken.dedup();
        taken.len() == count
    }

    /// Prints the configuration as a file.
    pub(crate) fn text(&self) -> String {
        let mut text = "sysname edge1\n".to_owned();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        for (name, kernel_name) in &self.aliases {
            line(&format!("interface-alias {kernel_name} {name}"));
        }
        line("bmp-relay lab\n listen 127.0.0.1 port 5000\nbmp");
        if let Some(address) = self.address {
            line(&format!(" connect-interface {address}"));
        }
        for (id, session) in &self.sessions {
            line(&format!(" {}\n{}", id.view(), session.lines()));
        }
        line("return");
        text
    }
}

impl SessionView {
    fn lines(&self) -> String {
        let mut lines = String::new();
        // Writing to a string cannot fail.
        if let Some(port) = self.port {
            let _ = writeln!(lines, "  tcp connect port {port}");
        }
        if let Some(source) = &self.source {
            let _ = writeln!(lines, "  connect-interface {}", source.words);
        }
        if !self.egress.is_empty() {
            let _ = writeln!(lines, "  egress-interface {}", self.egress.join(" "));
        }
        if self.shutdown {
            let _ = writeln!(lines, "  shutdown");
        }
        lines
    }
}
