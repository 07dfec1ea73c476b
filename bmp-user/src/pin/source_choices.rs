//! The source addresses that were chosen for sessions, in a file of bmpd's state.
//!
//! A station knows the router by its source, so a choice outlives a restart. The rule of
//! `connect-interface INTERFACE` makes the first choice only; the choice is kept while it is valid
//! on the interface. A bmpd that was killed has left its pins, with the source in them. The file
//! serves a bmpd that ended in order.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use super::{kernel::Role, plan::Pinned};
use crate::{
    config::{ConnectInterface, SessionId},
    replace::{clean_up, replace_file},
    sys, tasks,
};

/// The largest file that is read, in bytes: far more than the entries of all sessions need.
const LARGEST: u64 = 1 << 20;

/// The choices, and the file that holds them.
#[derive(Debug)]
pub struct SourceChoices {
    /// `None` where the configuration is not a regular file.
    path: Option<PathBuf>,
    known: BTreeMap<Pinned, SourceChoice>,
    /// True after a warning that the file cannot be read or written.
    warned: bool,
    /// True while the configuration in force is on trial: its choices are not kept.
    on_trial: watch::Receiver<bool>,
}

/// An address, and the interface that it was chosen for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceChoice {
    interface: String,
    source: IpAddr,
}

impl SourceChoice {
    /// Returns the choice of `source`. `None` where the configuration names the address, or
    /// nothing.
    pub(super) fn of(wanted: Option<&ConnectInterface>, source: Option<IpAddr>) -> Option<Self> {
        match (wanted?, source?) {
            (ConnectInterface::Interface(interface), source) => Some(Self { interface: interface.clone(), source }),
            (ConnectInterface::Address(_) | ConnectInterface::Both { .. }, _) => None,
        }
    }
}

/// An entry of the file.
#[derive(Debug, Serialize, Deserialize)]
struct SourcesEntry {
    #[serde(flatten)]
    whose: SourcesOwner,
    connect_interface: String,
    source: IpAddr,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum SourcesOwner {
    Session { vpn_instance: Option<String>, station: IpAddr, alias: Option<String> },
    BgpPeer { bgp_peer: IpAddr, connects: bool },
}

impl SourceChoices {
    /// Reads `sources` in the folder of bmpd's state. A file that is absent or unusable holds no
    /// choices; the latter is logged. The file is not written while a configuration is `on_trial`.
    pub fn in_folder(state: &Path, on_trial: watch::Receiver<bool>) -> Self {
        Self::at(state.join("sources"), on_trial)
    }

    /// Reads `FILE.sources` beside the configuration file, as [`Self::in_folder`] reads its file.
    pub fn beside(configuration: &Path, on_trial: watch::Receiver<bool>) -> Self {
        // Follow a symbolic link, as the configuration itself does.
        let path = fs::canonicalize(configuration).unwrap_or_else(|_| configuration.to_owned());
        if !path.is_file() {
            return Self { path: None, known: BTreeMap::new(), warned: false, on_trial };
        }
        let mut name = path.into_os_string();
        name.push(".sources");
        Self::at(name.into(), on_trial)
    }

    fn at(path: PathBuf, on_trial: watch::Receiver<bool>) -> Self {
        clean_up(&path);
        let read = read(&path).inspect_err(|error| {
            warn!("cannot read the source addresses that were chosen before: {}: {error}", path.display());
        });
        Self { path: Some(path), warned: read.is_err(), known: read.unwrap_or_default(), on_trial }
    }

    /// Returns the address that was chosen before for a session and the same interface.
    pub(super) fn before(&self, id: &Pinned, wanted: Option<&ConnectInterface>) -> Option<IpAddr> {
        let choice = self.known.get(id)?;
        match wanted? {
            ConnectInterface::Interface(interface) if *interface == choice.interface => Some(choice.source),
            _ => None,
        }
    }

    /// Returns when a trial begins or ends: [`Self::keep`] may have something to do then.
    pub(super) async fn trial_changed(&mut self) {
        if self.on_trial.changed().await.is_err() {
            // No trial can begin any more.
            std::future::pending().await
        }
    }

    /// Replaces the choices by those of all sessions, and writes them if they changed. Does nothing
    /// during a trial: the configuration before it needs its own choices when it returns.
    pub(super) async fn keep(&mut self, choices: BTreeMap<Pinned, SourceChoice>) {
        if *self.on_trial.borrow_and_update() || self.known == choices {
            return;
        }
        self.known = choices;
        let Some(path) = self.path.clone() else { return };
        let entries: Vec<_> = self.known.iter().map(|(id, choice)| entry(id, choice)).collect();
        let beside = path.clone();
        // A slow disk must not hold up the pins of other sessions.
        // Nor is it a fault of bmpd that a restart would mend.
        let written = tasks::idle(tasks::blocking(move || write(&beside, &entries))).await;
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

fn entry(id: &Pinned, choice: &SourceChoice) -> SourcesEntry {
    let whose = match id.clone() {
        Pinned::Session(SessionId { vpn_instance, station, alias }) => {
            SourcesOwner::Session { vpn_instance, station, alias }
        }
        // The peer connects to the port where this host listens.
        Pinned::BgpPeer(bgp_peer, role) => SourcesOwner::BgpPeer { bgp_peer, connects: role == Role::Listen },
    };
    SourcesEntry { whose, connect_interface: choice.interface.clone(), source: choice.source }
}

fn read(path: &Path) -> io::Result<BTreeMap<Pinned, SourceChoice>> {
    let text = match sys::read_regular(path, LARGEST) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let entries: Vec<SourcesEntry> = serde_json::from_str(&text)?;
    Ok(entries
        .into_iter()
        .map(|SourcesEntry { whose, connect_interface, source }| {
            let id = match whose {
                SourcesOwner::Session { vpn_instance, station, alias } => {
                    Pinned::Session(SessionId { vpn_instance, station, alias })
                }
                SourcesOwner::BgpPeer { bgp_peer, connects: true } => Pinned::BgpPeer(bgp_peer, Role::Listen),
                SourcesOwner::BgpPeer { bgp_peer, connects: false } => Pinned::BgpPeer(bgp_peer, Role::Connect),
            };
            (id, SourceChoice { interface: connect_interface, source })
        })
        .collect())
}

/// Replaces the whole file. Without entries, removes it.
fn write(path: &Path, entries: &[SourcesEntry]) -> io::Result<()> {
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

    fn beside(config: &Path) -> SourceChoices {
        SourceChoices::beside(config, watch::Sender::new(false).subscribe())
    }

    fn interface(name: &str) -> ConnectInterface {
        ConnectInterface::Interface(name.to_owned())
    }

    fn choices(all: &[(&str, Option<&str>, &str, &str)]) -> BTreeMap<Pinned, SourceChoice> {
        let choice = |name: &str, source: &str| SourceChoice::of(Some(&interface(name)), source.parse().ok()).unwrap();
        all.iter().map(|(station, vrf, name, source)| (id(station, *vrf), choice(name, source))).collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_choice_is_found_again_for_the_same_session_and_interface() {
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
    async fn a_choice_during_a_trial_is_kept_once_the_trial_is_confirmed() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("f");
        fs::write(&config, "").unwrap();
        let trial = watch::Sender::new(false);
        let mut chosen = SourceChoices::beside(&config, trial.subscribe());
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
    async fn an_unusable_file_counts_as_no_choices() {
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
        // A folder in its place cannot be replaced, and the new file does not stay.
        fs::remove_file(&sources).unwrap();
        fs::create_dir_all(sources.join("taken")).unwrap();
        chosen.keep(choices(&[("198.51.100.7", None, "up2", "192.0.2.66")])).await;
        assert!(chosen.warned);
        assert_eq!(names(folder.path()), ["f", "f.sources"]);
        assert_eq!(chosen.known.len(), 1, "the choice is known all the same");
        // A configuration that is not a regular file has no file beside it.
        let mut without = beside(Path::new("/dev/null"));
        without.keep(one).await;
        assert!(!Path::new("/dev/null.sources").exists() && !without.warned);
    }

    #[test]
    fn only_an_address_that_the_rule_chose_is_a_choice() {
        let source = "192.0.2.65".parse().ok();
        let both = ConnectInterface::Both { interface: "up2".to_owned(), address: source.unwrap() };
        assert_eq!(SourceChoice::of(Some(&both), source), None);
        assert_eq!(SourceChoice::of(Some(&ConnectInterface::Address(source.unwrap())), source), None);
        assert_eq!(SourceChoice::of(None, source), None);
        assert_eq!(SourceChoice::of(Some(&interface("up2")), None), None);
    }
}
