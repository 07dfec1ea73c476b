//! The addresses that were chosen for sessions, in a file beside the configuration: a station knows the router by its source, so a choice
//! outlives a restart.
//!
//! The rule of `connect-interface INTERFACE` makes the first choice only; what is chosen is kept while it is valid on the interface. The file
//! is of use to a bmpd that ended in order: one that was killed has left its pins, with the source in them.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use super::{Pinned, Role};
use crate::{
    config::{ConnectInterface, SessionId},
    replace::{clean_up, replace_file},
    sys, tasks,
};

/// Far more than one line for each session that there can be.
const LARGEST: u64 = 1 << 20;

/// The choices, and the file that they are kept in.
#[derive(Debug)]
pub struct Chosen {
    /// Absent where the configuration is no file of its own, beside which another could be.
    path: Option<PathBuf>,
    known: BTreeMap<Pinned, Choice>,
    /// That it cannot be read or written is told once.
    warned: bool,
    /// Whether the configuration in force is one on trial: what is chosen for it is not kept.
    on_trial: watch::Receiver<bool>,
}

/// An address, and what it was chosen for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    interface: String,
    source: IpAddr,
}

impl Choice {
    /// The choice of `source`; `None` where `wanted` leaves none.
    pub(super) fn of(wanted: Option<&ConnectInterface>, source: Option<IpAddr>) -> Option<Self> {
        match (wanted?, source?) {
            (ConnectInterface::Interface(interface), source) => Some(Self { interface: interface.clone(), source }),
            (ConnectInterface::Address(_) | ConnectInterface::Both { .. }, _) => None,
        }
    }
}

/// An entry of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    whose: Whose,
    connect_interface: String,
    source: IpAddr,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Whose {
    Session { vpn_instance: Option<String>, station: IpAddr, alias: Option<String> },
    BgpPeer { bgp_peer: IpAddr, connects: bool },
}

impl Chosen {
    /// Reads `FILE.sources` beside the configuration file, which is written while no configuration is `on_trial`. One that is not there or cannot be used holds no choices; the latter is warned of.
    pub fn beside(configuration: &Path, on_trial: watch::Receiver<bool>) -> Self {
        // As the configuration itself: a symbolic link stays one.
        let path = fs::canonicalize(configuration).unwrap_or_else(|_| configuration.to_owned());
        if !path.is_file() {
            return Self { path: None, known: BTreeMap::new(), warned: false, on_trial };
        }
        let mut name = path.into_os_string();
        name.push(".sources");
        let path = PathBuf::from(name);
        clean_up(&path);
        let read = read(&path).inspect_err(|error| {
            warn!("addresses that were chosen before are not known: {}: {error}", path.display());
        });
        Self { path: Some(path), warned: read.is_err(), known: read.unwrap_or_default(), on_trial }
    }

    /// The address that was chosen before for a session, if it was for the same interface.
    pub(super) fn before(&self, id: &Pinned, wanted: Option<&ConnectInterface>) -> Option<IpAddr> {
        let choice = self.known.get(id)?;
        match wanted? {
            ConnectInterface::Interface(interface) if *interface == choice.interface => Some(choice.source),
            _ => None,
        }
    }

    /// Blocks until a trial begins or ends: [`Self::keep`] may have something to do then.
    pub(super) async fn trial_changed(&mut self) {
        if self.on_trial.changed().await.is_err() {
            // Nobody tries anything any more.
            std::future::pending().await
        }
    }

    /// Takes these for the choices of all sessions that there are, and writes them if they are others than before. During a trial it does
    /// neither: those of the configuration before it are needed when that returns.
    pub(super) async fn keep(&mut self, choices: BTreeMap<Pinned, Choice>) {
        if *self.on_trial.borrow_and_update() || self.known == choices {
            return;
        }
        self.known = choices;
        let Some(path) = self.path.clone() else { return };
        let entries: Vec<_> = self.known.iter().map(|(id, choice)| entry(id, choice)).collect();
        let beside = path.clone();
        // A disk may take its time, which the pins of other sessions have not.
        let written = tasks::blocking(move || write(&beside, &entries)).await;
        match written.flatten() {
            Ok(()) => self.warned = false,
            Err(error) => {
                if !std::mem::replace(&mut self.warned, true) {
                    warn!("a restart may choose other source addresses: cannot write {}: {error}", path.display());
                }
            }
        }
    }
}

fn entry(id: &Pinned, choice: &Choice) -> Entry {
    let whose = match id.clone() {
        Pinned::Session(SessionId { vpn_instance, station, alias }) => Whose::Session { vpn_instance, station, alias },
        // The peer connects where this host listens.
        Pinned::BgpPeer(bgp_peer, role) => Whose::BgpPeer { bgp_peer, connects: role == Role::Listen },
    };
    Entry { whose, connect_interface: choice.interface.clone(), source: choice.source }
}

fn read(path: &Path) -> io::Result<BTreeMap<Pinned, Choice>> {
    let text = match sys::read_regular(path, LARGEST) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let entries: Vec<Entry> = serde_json::from_str(&text)?;
    Ok(entries
        .into_iter()
        .map(|Entry { whose, connect_interface, source }| {
            let id = match whose {
                Whose::Session { vpn_instance, station, alias } => {
                    Pinned::Session(SessionId { vpn_instance, station, alias })
                }
                Whose::BgpPeer { bgp_peer, connects: true } => Pinned::BgpPeer(bgp_peer, Role::Listen),
                Whose::BgpPeer { bgp_peer, connects: false } => Pinned::BgpPeer(bgp_peer, Role::Connect),
            };
            (id, Choice { interface: connect_interface, source })
        })
        .collect())
}

/// Replaces the file whole; without entries there is none.
fn write(path: &Path, entries: &[Entry]) -> io::Result<()> {
    if entries.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let mut text = serde_json::to_string_pretty(entries)?;
    text.push('\n');
    replace_file(path, text.as_bytes(), 0o640)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(station: &str, vpn_instance: Option<&str>) -> Pinned {
        Pinned::Session(SessionId {
            vpn_instance: vpn_instance.map(str::to_owned),
            station: station.parse().unwrap(),
            alias: Some("lab".to_owned()),
        })
    }

    fn beside(config: &Path) -> Chosen {
        Chosen::beside(config, watch::Sender::new(false).subscribe())
    }

    fn interface(name: &str) -> ConnectInterface {
        ConnectInterface::Interface(name.to_owned())
    }

    fn choices(all: &[(&str, Option<&str>, &str, &str)]) -> BTreeMap<Pinned, Choice> {
        let choice = |name: &str, source: &str| Choice::of(Some(&interface(name)), source.parse().ok()).unwrap();
        all.iter().map(|(station, vrf, name, source)| (id(station, *vrf), choice(name, source))).collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_choice_is_there_again_for_the_same_session_and_interface() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("f");
        fs::write(&config, "").unwrap();
        let mut chosen = beside(&config);
        let both = [
            ("198.51.100.7", None, "GigabitEthernet0/1/0", "192.0.2.65"),
            ("2001:db8::7", Some("mgmt"), "up2", "2001:db8:2::1"),
        ];
        chosen.keep(choices(&both)).await;
        assert_eq!(names(folder.path()), ["f", "f.sources"]);

        let again = beside(&config);
        let before = |station: &str, vrf, name: &str| again.before(&id(station, vrf), Some(&interface(name)));
        assert_eq!(before("198.51.100.7", None, "GigabitEthernet0/1/0"), "192.0.2.65".parse().ok());
        assert_eq!(before("2001:db8::7", Some("mgmt"), "up2"), "2001:db8:2::1".parse().ok());
        assert_eq!(before("2001:db8::7", None, "up2"), None, "another VPN instance");
        assert_eq!(before("198.51.100.7", None, "up2"), None, "another interface");
        assert_eq!(again.before(&id("198.51.100.7", None), None), None);

        chosen.keep(choices(&both[1..])).await;
        assert_eq!(beside(&config).known.len(), 1);
        chosen.keep(BTreeMap::new()).await;
        assert_eq!(names(folder.path()), ["f"], "without choices there is no file");
    }

    #[tokio::test]
    async fn what_is_chosen_on_trial_is_not_kept_until_that_is_confirmed() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("f");
        fs::write(&config, "").unwrap();
        let trial = watch::Sender::new(false);
        let mut chosen = Chosen::beside(&config, trial.subscribe());
        let station = "198.51.100.7";
        let before = choices(&[(station, None, "up2", "192.0.2.65")]);
        chosen.keep(before.clone()).await;
        let file = fs::read_to_string(folder.path().join("f.sources")).unwrap();
        trial.send_replace(true);
        chosen.keep(choices(&[(station, None, "up2", "192.0.2.66")])).await;
        assert_eq!(fs::read_to_string(folder.path().join("f.sources")).unwrap(), file);
        assert_eq!(chosen.before(&id(station, None), Some(&interface("up2"))), "192.0.2.65".parse().ok());
        trial.send_replace(false);
        chosen.trial_changed().await;
        chosen.keep(choices(&[(station, None, "up2", "192.0.2.66")])).await;
        assert_ne!(fs::read_to_string(folder.path().join("f.sources")).unwrap(), file);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let (config, sources) = (folder.path().join("f"), folder.path().join("f.sources"));
        fs::write(&config, "").unwrap();
        for text in ["", "[", "{}", "[{\"station\": 7}]", "\u{fffd}"] {
            fs::write(&sources, text).unwrap();
            assert_eq!(beside(&config).known, BTreeMap::new(), "{text:?}");
        }
        let mut chosen = beside(&config);
        let one = choices(&[("198.51.100.7", None, "up2", "192.0.2.65")]);
        chosen.keep(one.clone()).await;
        assert_eq!(beside(&config).known, one, "it is replaced");
        // A folder in its place cannot be replaced, and what was to replace it does not stay.
        fs::remove_file(&sources).unwrap();
        fs::create_dir_all(sources.join("taken")).unwrap();
        chosen.keep(choices(&[("198.51.100.7", None, "up2", "192.0.2.66")])).await;
        assert!(chosen.warned);
        assert_eq!(names(folder.path()), ["f", "f.sources"]);
        assert_eq!(chosen.known.len(), 1, "it is known all the same");
        // What is configured without a file has no file beside it.
        let mut without = beside(Path::new("/dev/null"));
        without.keep(one).await;
        assert!(!Path::new("/dev/null.sources").exists() && !without.warned);
    }

    #[test]
    fn only_what_the_rule_chose_is_a_choice() {
        let source = "192.0.2.65".parse().ok();
        let both = ConnectInterface::Both { interface: "up2".to_owned(), address: source.unwrap() };
        assert_eq!(Choice::of(Some(&both), source), None);
        assert_eq!(Choice::of(Some(&ConnectInterface::Address(source.unwrap())), source), None);
        assert_eq!(Choice::of(None, source), None);
        assert_eq!(Choice::of(Some(&interface("up2")), None), None);
    }
}
