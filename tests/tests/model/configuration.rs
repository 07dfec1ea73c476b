//! The configuration as the model has it: what was typed, and what the words mean.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
};

/// What tells one session from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) station: IpAddr,
    pub(crate) alias: &'static str,
}

impl Id {
    fn view(&self) -> String {
        format!("bmp-session {} alias {}", self.station, self.alias)
    }
}

/// A `connect-interface` of a session view: its words as typed, and the interface and address that they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) words: String,
    pub(crate) interface: Option<String>,
    pub(crate) address: Option<IpAddr>,
}

impl Source {
    pub(crate) fn address(address: IpAddr) -> Self {
        Self { words: address.to_string(), interface: None, address: Some(address) }
    }

    pub(crate) fn interface(name: &str) -> Self {
        Self { words: name.to_owned(), interface: Some(name.to_owned()), address: None }
    }

    /// The same interface by its type and its number.
    pub(crate) fn spelled(kind: &str, number: &str) -> Self {
        Self { words: format!("{kind} {number}"), interface: Some(format!("{kind}{number}")), address: None }
    }

    /// An interface and an address.
    pub(crate) fn with(self, address: IpAddr) -> Self {
        Self { words: format!("{} {address}", self.words), address: Some(address), ..self }
    }
}

/// A session view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) port: Option<u16>,
    pub(crate) source: Option<Source>,
    pub(crate) egress: Vec<String>,
    pub(crate) shutdown: bool,
}

/// What the model needs to know of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// `interface-alias`: from the name given to the kernel's.
    pub(crate) aliases: BTreeMap<String, String>,
    /// `connect-interface` of the BMP view.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) sessions: BTreeMap<Id, Session>,
}

/// One change of a configuration.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    BmpAddress(Option<Ipv4Addr>),
    /// Gives an interface of that kernel name the name, or takes the name back.
    Alias(String, Option<String>),
    Add(Id, Session),
    Remove(Id),
    Port(Id, Option<u16>),
    /// `undo` with the words that are configured, where there is nothing to set.
    Source(Id, Option<Source>),
    Egress(Id, Vec<String>),
    Shutdown(Id, bool),
}

impl Configuration {
    /// The lines that are typed in the system view for `edit`, which is made before they are.
    fn lines(&self, edit: &Edit) -> String {
        let in_bmp = |line: &str| format!("bmp\n{line}\nquit\n");
        let in_session = |id: &Id, lines: &str| in_bmp(&format!("{}\n{lines}\nquit", id.view()));
        let session = |id: &Id| self.sessions.get(id).cloned().unwrap_or_default();
        match edit {
            Edit::BmpAddress(Some(address)) => in_bmp(&format!("connect-interface {address}")),
            Edit::BmpAddress(None) => in_bmp("undo connect-interface"),
            Edit::Alias(name, Some(kernel_name)) => format!("interface-alias {kernel_name} {name}\n"),
            Edit::Alias(name, None) => match self.aliases.get(name) {
                Some(kernel_name) => format!("undo interface-alias {kernel_name} {name}\n"),
                None => String::new(),
            },
            Edit::Add(id, session) => in_session(id, session.lines().trim_end()),
            Edit::Remove(id) => in_bmp(&format!("undo {}", id.view())),
            Edit::Port(id, Some(port)) => in_session(id, &format!("tcp connect port {port}")),
            Edit::Port(id, None) => in_session(id, "undo tcp connect port"),
            Edit::Source(id, Some(source)) => in_session(id, &format!("connect-interface {}", source.words)),
            Edit::Source(id, None) => match session(id).source {
                Some(source) => in_session(id, &format!("undo connect-interface {}", source.words)),
                None => in_session(id, "undo connect-interface"),
            },
            Edit::Egress(id, names) if names.is_empty() => in_session(id, "undo egress-interface"),
            Edit::Egress(id, names) => in_session(id, &format!("egress-interface {}", names.join(" "))),
            Edit::Shutdown(id, true) => in_session(id, "shutdown"),
            Edit::Shutdown(id, false) => in_session(id, "undo shutdown"),
        }
    }

    fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::BmpAddress(address) => self.address = *address,
            Edit::Alias(name, Some(kernel_name)) => drop(self.aliases.insert(name.clone(), kernel_name.clone())),
            Edit::Alias(name, None) => drop(self.aliases.remove(name)),
            Edit::Add(id, session) => drop(self.sessions.insert(*id, session.clone())),
            Edit::Remove(id) => drop(self.sessions.remove(id)),
            Edit::Port(id, port) => self.session(id).port = *port,
            Edit::Source(id, source) => self.session(id).source.clone_from(source),
            Edit::Egress(id, names) => self.session(id).egress.clone_from(names),
            Edit::Shutdown(id, shutdown) => self.session(id).shutdown = *shutdown,
        }
    }

    fn session(&mut self, id: &Id) -> &mut Session {
        self.sessions.get_mut(id).expect("only a session that is there is changed")
    }

    /// The configuration after these edits and what is typed to make them, a commit aside; `None` where that is an error on the way, because two
    /// sessions would have one station address and port.
    pub(crate) fn edited(&self, edits: &[Edit]) -> Option<(Self, String)> {
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

    /// The same where only the outcome has to be without error, as in a file.
    pub(crate) fn replaced(&self, edits: &[Edit]) -> Option<Self> {
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

    /// As a file holds it.
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

impl Session {
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
