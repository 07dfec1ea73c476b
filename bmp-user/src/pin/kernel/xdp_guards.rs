//! Program `guard` on interfaces: its links, and the tables of guarded listeners and refused
//! traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::Context as _;
use aya::Ebpf;
use aya::maps::{MapData, PerCpuHashMap, PerCpuValues};
use aya::programs::Program;
use aya::util::nr_cpus;
use bmp_ebpf::{GuardKey, Guarded, RefusedTraffic, table};
use tracing::{info, warn};

use super::bpf;
use super::home::Layout;
use super::object::find;
use super::written::WrittenMap;
use crate::sys;

/// Where program `guard` sees an interface's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// In the driver, before there is a socket buffer.
    Native,
    /// Behind the driver, before the stack.
    Generic,
}

impl Hook {
    /// Returns the word of `display`, of its JSON, and of the link's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// Returns `XDP_FLAGS_*_MODE` (linux/if_link.h).
    fn flags(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
        }
    }
}

/// Why an interface has no guard.
#[derive(Debug, thiserror::Error)]
pub enum NoGuard {
    /// The interface has an XDP program of somebody else.
    #[error("another XDP program is there")]
    Taken,
    /// Any other reason.
    #[error("{0:#}")]
    Other(anyhow::Error),
}

/// A link that holds the program to an interface.
struct GuardLink {
    link: OwnedFd,
    hook: Hook,
    /// Where it is pinned.
    path: Option<PathBuf>,
}

/// The program's links and tables.
pub(super) struct Guards {
    netns: u64,
    /// By interface index.
    links: BTreeMap<u32, GuardLink>,
    pub(super) guarded: WrittenMap<GuardKey, Guarded>,
    refused: PerCpuHashMap<MapData, GuardKey, RefusedTraffic>,
}

impl Guards {
    /// Takes the tables out of those of the object file. No interface has the program yet.
    pub(super) fn take(ebpf: &mut Ebpf, netns: u64) -> anyhow::Result<Self> {
        Ok(Self {
            netns,
            links: BTreeMap::new(),
            guarded: WrittenMap::take(ebpf, table::GUARDED)?,
            refused: find(ebpf.take_map(table::REFUSED), table::REFUSED)?.try_into()?,
        })
    }

    /// Puts the program under the links that an earlier bmpd left. Links and entries of another
    /// namespace go, and links of interfaces that are gone.
    pub(super) fn inherit(&mut self, code: &Program, layout: &Layout) -> anyhow::Result<()> {
        let code = code.fd()?.as_fd();
        for path in layout.links() {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|name| name.starts_with(PREFIX)) else { continue };
            let context = || format!("cannot take over {}", path.display());
            let link = bpf::open(&path).with_context(context)?;
            let known = LinkName::parse(name).filter(|name| name.netns == self.netns);
            let replaced = known.filter(|name| is_on(&link, name.ifindex) && bpf::replace(&link, code).is_ok());
            match replaced {
                Some(LinkName { ifindex, hook, .. }) => {
                    self.links.insert(ifindex, GuardLink { link, hook, path: Some(path) });
                }
                None => {
                    bpf::detach(&link).with_context(context)?;
                    fs::remove_file(&path).with_context(context)?;
                }
            }
        }
        self.guarded.inherit()?;
        let written = self.guarded.written().iter();
        let strange = written.filter(|(_, guarded)| guarded.netns != self.netns).map(|(key, _)| *key);
        for key in strange.collect::<Vec<_>>() {
            self.guarded.remove(&key)?;
        }
        Ok(())
    }

    /// See [`Datapath::attach_guard`](super::Datapath::attach_guard).
    pub(super) fn attach(
        &mut self,
        code: &Program,
        layout: Option<Layout>,
        ifindex: u32,
        native: bool,
    ) -> Result<Hook, NoGuard> {
        if let Some(held) = self.links.get(&ifindex) {
            if is_on(&held.link, ifindex) {
                return Ok(held.hook);
            }
            // The interface went, and another has its index now.
            self.detach(ifindex).map_err(NoGuard::Other)?;
        }
        let other = |error: anyhow::Error| NoGuard::Other(error);
        let code = code.fd().map_err(|error| other(error.into()))?.as_fd();
        let hooks: &[Hook] = if native { &[Hook::Native, Hook::Generic] } else { &[Hook::Generic] };
        let mut refused = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        for &hook in hooks {
            let link = match bpf::attach_xdp(code, ifindex, hook.flags()) {
                Ok(link) => link,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) => {
                    return Err(NoGuard::Taken);
                }
                // Most often the driver has no native XDP, or not for this MTU.
                Err(error) => {
                    refused = error;
                    continue;
                }
            };
            let name = LinkName { netns: self.netns, ifindex, hook };
            let path = layout.map(|layout| layout.link(&name.to_string()));
            if let Some(path) = &path {
                // A start that was cut short here may have left one.
                let _ = fs::remove_file(path);
                bpf::pin(path, link.as_fd()).map_err(|error| other(error.into()))?;
            }
            self.links.insert(ifindex, GuardLink { link, hook, path });
            return Ok(hook);
        }
        Err(other(refused.into()))
    }

    fn detach(&mut self, ifindex: u32) -> anyhow::Result<()> {
        let Some(held) = self.links.remove(&ifindex) else { return Ok(()) };
        let context = || format!("cannot take program `guard` off interface {ifindex}");
        bpf::detach(&held.link).with_context(context)?;
        match held.path.map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(context),
            _ => Ok(()),
        }
    }

    /// Returns the interfaces that are there and have lost the program of this id.
    pub(super) fn lost(&self, program: u32) -> Vec<u32> {
        let is_whole = |ifindex: u32, held: &GuardLink| {
            bpf::link_info(&held.link).is_ok_and(|info| info.xdp_ifindex() == ifindex && info.program == program)
        };
        let lost = self.links.iter().filter(|(ifindex, held)| !is_whole(**ifindex, held)).map(|(ifindex, _)| *ifindex);
        lost.filter(|ifindex| sys::has_interface(*ifindex)).collect()
    }

    /// Puts the program back where another is under its link. A detached link is forgotten:
    /// [`Self::attach`] makes another.
    pub(super) fn put_back(&mut self, code: &Program, ifindex: u32) -> anyhow::Result<()> {
        match self.links.get(&ifindex) {
            Some(held) if is_on(&held.link, ifindex) => Ok(bpf::replace(&held.link, code.fd()?.as_fd())?),
            _ => self.detach(ifindex),
        }
    }

    /// Returns where its links are pinned.
    pub(super) fn pinned(&self) -> impl Iterator<Item = PathBuf> {
        self.links.values().filter_map(|held| held.path.clone())
    }

    /// Pins the links that are not pinned any more.
    pub(super) fn pin_again(&self) -> anyhow::Result<()> {
        for held in self.links.values() {
            if let Some(path) = held.path.as_ref().filter(|path| fs::symlink_metadata(path).is_err()) {
                bpf::pin(path, held.link.as_fd()).with_context(|| format!("cannot pin {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Takes the program off all interfaces but the wanted ones.
    pub(super) fn retain(&mut self, wanted: impl Fn(u32) -> bool) -> anyhow::Result<()> {
        let unwanted: Vec<_> = self.links.keys().copied().filter(|&ifindex| !wanted(ifindex)).collect();
        for ifindex in unwanted {
            self.detach(ifindex)?;
            info!("guard: taken off interface {ifindex}");
        }
        Ok(())
    }

    /// Takes the program off all interfaces.
    pub(super) fn detach_all(&mut self) -> anyhow::Result<()> {
        self.retain(|_| false)
    }

    /// Guards no listener any more. Counts of dropped packets stay.
    pub(super) fn leave(&mut self) -> anyhow::Result<()> {
        self.set(&BTreeMap::new())?;
        self.detach_all()
    }

    /// Returns the guarded keys as the kernel has them.
    pub(super) fn keys(&self) -> BTreeSet<GuardKey> {
        self.guarded.entries().flatten().map(|(key, _)| key).collect()
    }

    /// See [`Datapath::set_guarded`](super::Datapath::set_guarded).
    pub(super) fn set(&mut self, wanted: &BTreeMap<GuardKey, u32>) -> anyhow::Result<()> {
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        let known: BTreeSet<GuardKey> = self
            .guarded
            .entries()
            .map(|entry| entry.map(|(key, _)| key))
            .collect::<Result<_, _>>()
            .context("cannot read table GUARDED")?;
        for key in known.iter().filter(|key| !wanted.contains_key(*key)) {
            self.guarded.remove(key).context("cannot write table GUARDED of the kernel")?;
        }
        let mut refused = None;
        let mut left_out = 0;
        for (key, &vrf) in wanted {
            if let Err(error) = self.set_one(*key, Guarded { netns: self.netns, vrf, reserved: 0 }, cpus) {
                left_out += 1;
                refused = refused.or(Some(error));
            }
        }
        match refused {
            Some(error) => Err(error.context(format!(
                "{left_out} of {} addresses and ports have no guard, and strangers are refused there by the listener's own program instead",
                wanted.len()
            ))),
            None => Ok(()),
        }
    }

    fn set_one(&mut self, key: GuardKey, value: Guarded, cpus: usize) -> anyhow::Result<()> {
        // The counter comes first, so that every dropped packet is counted.
        for key in [key, GuardKey { ifindex: 0, ..key }] {
            if self.refused.get(&key, 0).is_err() {
                let zero = PerCpuValues::try_from(vec![RefusedTraffic::default(); cpus])?;
                self.refused.insert(key, zero, 0).context("cannot write table REFUSED of the kernel")?;
            }
        }
        if self.guarded.get(&key) != Some(value) || self.guarded.written().get(&key) != Some(&value) {
            self.guarded.insert(key, value).context("cannot write table GUARDED of the kernel")?;
        }
        Ok(())
    }

    /// See [`Datapath::refused`](super::Datapath::refused).
    pub(super) fn refused(&self, wanted: impl Fn(&GuardKey) -> bool) -> RefusedTraffic {
        let mut sum = RefusedTraffic::default();
        for (_, cpus) in self.refused.iter().flatten().filter(|(key, _)| wanted(key)) {
            cpus.iter().for_each(|of_cpu| sum += *of_cpu);
        }
        sum
    }

    /// See [`Datapath::forget_refused`](super::Datapath::forget_refused).
    pub(super) fn forget(&mut self, wanted: impl Fn(&GuardKey) -> bool) {
        let unwanted = |key: &GuardKey| !wanted(key) && self.guarded.get(key).is_none();
        let unwanted: Vec<_> = self.refused.keys().flatten().filter(unwanted).collect();
        for key in &unwanted {
            if let Err(error) = self.refused.remove(key) {
                warn!("an entry of table REFUSED stays: {error}");
            }
        }
    }
}

/// True if a link holds its program to the interface of this index.
fn is_on(link: &OwnedFd, ifindex: u32) -> bool {
    bpf::link_info(link).is_ok_and(|info| info.kind == bpf::LINK_TYPE_XDP && info.xdp_ifindex() == ifindex)
}

/// How the names of these links begin.
const PREFIX: &str = "guard-";

/// The name under which a link is pinned: `guard-NETNS-IFINDEX-HOOK`. The kernel tells nothing of
/// that about a link, or a part of it only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LinkName {
    netns: u64,
    ifindex: u32,
    hook: Hook,
}

impl std::fmt::Display for LinkName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}-{}-{}", self.netns, self.ifindex, self.hook.as_str())
    }
}

impl LinkName {
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let (netns, ifindex) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let word = parts.next()?;
        let hook = [Hook::Native, Hook::Generic].into_iter().find(|hook| hook.as_str() == word)?;
        parts.next().is_none().then_some(Self { netns, ifindex, hook })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_name_is_read_back_and_other_names_are_refused() {
        for name in [
            LinkName { netns: 7, ifindex: 3, hook: Hook::Generic },
            LinkName { netns: u64::MAX, ifindex: u32::MAX, hook: Hook::Native },
        ] {
            assert_eq!(LinkName::parse(&name.to_string()), Some(name));
        }
        for other in ["egress", "guard-", "guard-1-2", "guard-1-2-offload", "guard-1-2-native-3", "guard-a-2-native"] {
            assert_eq!(LinkName::parse(other), None, "{other}");
        }
    }
}
