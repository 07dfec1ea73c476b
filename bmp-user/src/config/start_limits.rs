//! What bmpd fixed at its start, and a commit cannot exceed: the size of the kernel tables, and the
//! rights that it kept.

use std::path::{Path, PathBuf};

use super::{
    model::{Config, Transport},
    tls::TlsProfileConfig,
};

/// Ports below this one take `CAP_NET_BIND_SERVICE` (capabilities(7)).
const FIRST_FREE_PORT: u16 = 1024;

/// The most relays and replays of a configuration. Each takes a descriptor or a thread.
pub(super) const MOST_SOURCES: usize = 256;

/// What a configuration may ask for until bmpd starts again.
#[derive(Clone, Debug)]
pub struct StartLimits {
    /// The most sessions that the kernel tables have room for.
    pub sessions: usize,
    /// Whether bmpd may listen on ports below 1024, and connect from them.
    pub low_ports: bool,
    /// The folders in which files can be opened. `None` for everywhere.
    pub folders: Option<Vec<PathBuf>>,
}

/// A configuration asks for more than bmpd can do until it starts again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// It has more sessions than there is room for.
    #[error(
        "{wanted} sessions are configured (a BGP peer counts once for each end that may connect), and the kernel tables have room for {room}: \
         start bmpd with --sessions {wanted}"
    )]
    Sessions {
        /// Sessions of the configuration.
        wanted: usize,
        /// Sessions that there is room for.
        room: usize,
    },
    /// It has more relays and replays than there may be.
    #[error("{0} relays and replays are configured, and there may be {MOST_SOURCES}: run another bmpd for the others")]
    Sources(usize),
    /// It uses a low port.
    #[error(
        "{0}: bmpd gave up the right to ports below 1024 when it started, because no setting needed it: write this to its file, and restart bmpd"
    )]
    LowPort(LowPort),
    /// It names a file that bmpd cannot open.
    #[error(
        "bmpd can open no file in {} since it started, because no setting named one there: write this to its file, and restart bmpd", .0.display()
    )]
    Folder(PathBuf),
}

/// A port below 1024, and what uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowPort {
    /// The setting.
    pub of: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for LowPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} port {}", self.of, self.port)
    }
}

impl StartLimits {
    /// Limits the sessions alone.
    pub fn sessions(sessions: usize) -> Self {
        Self { sessions, low_ports: true, folders: None }
    }
}

impl Config {
    /// Returns how many entries of the kernel tables the configuration needs: one for each
    /// `bmp-session`, and one for each end that may open a BGP peer's connection.
    pub fn session_count(&self) -> usize {
        let peers = self.bgp.iter().flat_map(|bgp| {
            let listens = usize::from(bgp.listen_port.is_some());
            bgp.peers.values().map(move |peer| usize::from(!peer.listen_only) + listens)
        });
        self.bmp.sessions.len() + peers.sum::<usize>()
    }

    /// Returns how many inputs there are: relays, replays and BGP peers.
    pub fn input_count(&self) -> usize {
        self.source_count() + self.bgp.as_ref().map_or(0, |bgp| bgp.peers.len())
    }

    fn source_count(&self) -> usize {
        self.relays.len() + self.replays.len()
    }

    /// Returns a port below 1024 that the configuration listens on, or connects from.
    pub fn low_port(&self) -> Option<LowPort> {
        let bgp = self.bgp.iter().filter_map(|bgp| Some(("bgp listen-port".to_owned(), bgp.listen_port?)));
        let http = self.http_listen.iter().map(|http| ("http listen".to_owned(), http.address.port()));
        let relays = self.relays.iter().filter_map(|(name, relay)| {
            let listen = relay.listen?;
            Some((format!("bmp-relay {name} listen"), listen.port()))
        });
        let sessions = self.bmp.sessions.iter().filter_map(|(id, session)| match session.transport? {
            Transport::Listen(port) => Some((format!("bmp-session {id} tcp listen"), port)),
            Transport::Connect(_) => Some((format!("bmp-session {id} local"), session.local_port?)),
        });
        let mut all = bgp.chain(http).chain(relays).chain(sessions);
        all.find(|(_, port)| (1..FIRST_FREE_PORT).contains(port)).map(|(of, port)| LowPort { of, port })
    }

    /// Checks that bmpd can do what the configuration asks for, without a restart.
    ///
    /// # Errors
    ///
    /// The first limit that it exceeds.
    pub fn check_limits(&self, limits: &StartLimits) -> Result<(), LimitExceeded> {
        let (wanted, room) = (self.session_count(), limits.sessions);
        if wanted > room {
            return Err(LimitExceeded::Sessions { wanted, room });
        }
        let sources = self.source_count();
        if sources > MOST_SOURCES {
            return Err(LimitExceeded::Sources(sources));
        }
        if let Some(port) = self.low_port().filter(|_| !limits.low_ports) {
            return Err(LimitExceeded::LowPort(port));
        }
        let files = self.replays.values().filter_map(|replay| replay.file.as_deref());
        let files = files.chain(self.tls_profiles.values().flat_map(TlsProfileConfig::files).map(PathBuf::as_path));
        let mut folders = files.filter_map(Path::parent);
        let Some(open) = &limits.folders else { return Ok(()) };
        match folders.find(|folder| !open.iter().any(|open| folder.starts_with(open))) {
            Some(folder) => Err(LimitExceeded::Folder(folder.to_owned())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_file;

    fn exceeded(text: &str, limits: &StartLimits) -> Option<String> {
        let config = parse_file("bmpd.conf", text).expect("the configuration is right");
        config.check_limits(limits).err().map(|error| error.to_string())
    }

    #[test]
    fn a_low_port_is_refused_where_the_right_to_it_is_gone() {
        let limits = StartLimits { low_ports: false, ..StartLimits::sessions(10) };
        for (text, what) in [
            ("bgp 65000\n listen-port 179\n", "bgp listen-port port 179"),
            ("http listen 127.0.0.1 port 80\n", "http listen port 80"),
            ("bmp-relay lab\n listen 127.0.0.1 port 500\n", "bmp-relay lab listen port 500"),
            ("bmp\n bmp-session 192.0.2.9\n  tcp listen port 1023\n", "bmp-session 192.0.2.9 tcp listen port 1023"),
            (
                "bmp\n bmp-session 192.0.2.9\n  tcp connect port 9 local-port 179\n",
                "bmp-session 192.0.2.9 local port 179",
            ),
        ] {
            let why = exceeded(text, &limits).unwrap_or_default();
            assert!(why.starts_with(what) && why.ends_with("restart bmpd"), "{why}");
            assert_eq!(exceeded(text, &StartLimits::sessions(10)), None);
        }
        for text in ["bmp\n bmp-session 192.0.2.9\n  tcp connect port 100\n", "bgp 65000\n listen-port 1024\n"] {
            assert_eq!(exceeded(text, &limits), None);
        }
    }

    #[test]
    fn more_relays_and_replays_than_there_may_be_are_refused() {
        let replays = |number: usize| (0..number).map(|number| format!("mrt-replay r{number}\n")).collect::<String>();
        let most = replays(MOST_SOURCES - 1) + "bmp-relay lab\n";
        assert_eq!(exceeded(&most, &StartLimits::sessions(10)), None);
        let why = exceeded(&(most + "bmp-relay other\n"), &StartLimits::sessions(10)).unwrap_or_default();
        assert!(why.starts_with("257 relays and replays are configured, and there may be 256"), "{why}");
    }

    #[test]
    fn a_file_outside_of_the_open_folders_is_refused() {
        let limits = StartLimits { folders: Some(vec!["/var/lib/mrt".into()]), ..StartLimits::sessions(10) };
        let replay = |path: &str| format!("mrt-replay table\n file {path}\n");
        assert_eq!(exceeded(&replay("/var/lib/mrt/2026/rib.gz"), &limits), None);
        let why = exceeded(&replay("/srv/rib.gz"), &limits).unwrap_or_default();
        assert!(why.contains("in /srv since it started"), "{why}");
    }
}
