//! Program `guard`: put on interfaces and taken off, told what to watch over, and asked what it dropped; and the tags of the sockets that
//! it stands before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError, PerCpuHashMap, PerCpuValues};
use aya::programs::Program;
use aya::util::nr_cpus;
use bmp_ebpf::{
    GuardKey, Guarded, InetFamily, NO_SLOT, PinKey, RefusedTraffic, TAG_LISTENER, TAG_OWN, Tag, program, table,
};
use tracing::{info, warn};

use super::book::{Entries, mend};
use super::home::Layout;
use super::load::find;
use super::tables::Kernel;
use super::{Datapath, Owner, bpf};
use crate::sys;

/// How program `guard` sees an interface's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// In the driver, before there is a socket buffer.
    Native,
    /// After it, before the stack.
    Generic,
}

impl Hook {
    /// The word of `display` and of its JSON, and of the link's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// `XDP_FLAGS_*_MODE` (linux/if_link.h).
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
    /// XDP of the interface is somebody else's.
    #[error("another XDP program is there")]
    Taken,
    /// Something else.
    #[error("{0:#}")]
    Other(anyhow::Error),
}

impl Datapath {
    /// The key of an address and port of this host in tables `GUARDED` and `REFUSED`.
    pub fn guard_key(ifindex: u32, local: IpAddr, port: u16) -> GuardKey {
        GuardKey { ifindex, family: InetFamily::of(local), reserved: 0, port, local: local.into() }
    }

    /// Puts program `guard` on an interface of the calling thread's namespace, in the driver where that is wanted and can be had. One that is
    /// there already stays as it is. `None`: the kernel does not enforce.
    ///
    /// # Errors
    ///
    /// Another XDP program is there, or the kernel refuses.
    pub fn attach_guard(&self, ifindex: u32, native: bool) -> Option<Result<Hook, NoGuard>> {
        self.with(|kernel| kernel.attach_guard(ifindex, native))
    }

    /// Takes program `guard` off all interfaces but these.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn keep_guards(&self, ifindexes: &BTreeSet<u32>) -> anyhow::Result<()> {
        self.with(|kernel| kernel.keep_guards(ifindexes)).unwrap_or(Ok(()))
    }

    /// What is guarded now, also what an earlier bmpd left.
    pub fn guarded(&self) -> BTreeSet<GuardKey> {
        self.with(|kernel| kernel.guards.guarded.keys().flatten().collect()).unwrap_or_default()
    }

    /// Guards these and nothing else: from an interface, address and port to the VRF that its sessions are in. What is dropped for each is
    /// counted from now on, and on from what was counted before.
    ///
    /// # Errors
    ///
    /// There is no room for all of them, or the kernel refuses the write; those that could be written are guarded.
    pub fn set_guarded(&self, wanted: &BTreeMap<GuardKey, u32>) -> anyhow::Result<()> {
        self.with(|kernel| kernel.guards.set(self.inner.netns, wanted)).unwrap_or(Ok(()))
    }

    /// What was dropped for the keys that are wanted: by the guard, and, with interface index 0, by the listener's own program.
    pub fn refused(&self, wanted: impl Fn(&GuardKey) -> bool) -> RefusedTraffic {
        self.with(|kernel| kernel.guards.refused(wanted)).unwrap_or_default()
    }

    /// Forgets what was counted for all keys but those that are wanted or guarded.
    pub fn forget_refused(&self, wanted: impl Fn(&GuardKey) -> bool) {
        self.with(|kernel| kernel.guards.forget(wanted));
    }

    /// What the program says to a frame that comes in by the interface of index 1.
    #[cfg(test)]
    pub(super) fn run_guard(&self, frame: &[u8]) -> u32 {
        use aya::programs::{TestRun as _, TestRunOptions};
        let run = |kernel: &mut Kernel| {
            let Ok(Program::Xdp(program)) = guard(&kernel.programs) else { panic!("it is an XDP program") };
            program.test_run(TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() }).unwrap()
        };
        self.with(run).unwrap().return_value
    }

    /// Marks a socket as a listener of bmpd's. Call it before `listen`.
    ///
    /// # Errors
    ///
    /// The descriptor is not a socket, or the kernel has no memory for the mark.
    pub fn claim_listener(&self, socket: &impl AsRawFd) -> anyhow::Result<()> {
        let tag = Tag { slot: NO_SLOT, flags: TAG_OWN | TAG_LISTENER, netns: self.inner.netns, ..Tag::default() };
        self.with(|kernel| kernel.set_tag(socket, tag).context("cannot mark the socket as a listener"))
            .unwrap_or(Ok(()))
    }

    /// Puts a connection that a listener accepted under the slot that its key leads to. The programs have done so when it was established;
    /// the key may lead elsewhere since.
    ///
    /// # Errors
    ///
    /// The key leads nowhere or to a denial, or the kernel refuses the write.
    pub fn admit(&self, socket: &impl AsRawFd, key: &PinKey) -> anyhow::Result<()> {
        self.with(|kernel| kernel.admit(socket, key)).unwrap_or(Ok(()))
    }
}

impl Kernel {
    fn attach_guard(&mut self, ifindex: u32, native: bool) -> Result<Hook, NoGuard> {
        let code = guard(&self.programs).map_err(NoGuard::Other)?;
        self.guards.attach(code, self.home.as_ref().map(|home| home.layout()), ifindex, native)
    }

    fn keep_guards(&mut self, ifindexes: &BTreeSet<u32>) -> anyhow::Result<()> {
        self.guards.retain(|ifindex| ifindexes.contains(&ifindex))
    }

    /// See [`Datapath::confirm`].
    pub(super) fn confirm(&mut self, socket: &impl AsRawFd, key: &PinKey) -> anyhow::Result<()> {
        if self.is_held(socket)? { Ok(()) } else { self.admit(socket, key) }
    }

    fn admit(&mut self, socket: &impl AsRawFd, key: &PinKey) -> anyhow::Result<()> {
        let slot = self.slots.number_of(key).and_then(|number| self.slots.held(number));
        let slot = slot.context("the session has no pin any more")?;
        if self.pin_slots.get(&slot.number, 0)?.denies() {
            bail!("the session is denied");
        }
        self.tag(socket, &slot, Owner::Bmpd)
    }
}

/// The program.
pub(super) fn guard(programs: &Ebpf) -> anyhow::Result<&Program> {
    find(programs.program(program::GUARD), program::GUARD)
}

/// A link that holds the program to an interface.
struct Held {
    link: OwnedFd,
    hook: Hook,
    /// Where it is pinned.
    path: Option<PathBuf>,
}

/// Where the program is, and its tables.
pub(super) struct Guards {
    netns: u64,
    /// By interface index.
    links: BTreeMap<u32, Held>,
    guarded: HashMap<MapData, GuardKey, Guarded>,
    /// What was written into it.
    book: Entries<GuardKey, Guarded>,
    refused: PerCpuHashMap<MapData, GuardKey, RefusedTraffic>,
}

impl Guards {
    /// None attached yet, with the tables of the object file.
    pub(super) fn new(ebpf: &mut Ebpf, netns: u64) -> anyhow::Result<Self> {
        Ok(Self {
            netns,
            links: BTreeMap::new(),
            guarded: find(ebpf.take_map(table::GUARDED), table::GUARDED)?.try_into()?,
            book: Entries::new(),
            refused: find(ebpf.take_map(table::REFUSED), table::REFUSED)?.try_into()?,
        })
    }

    /// Puts the program under the links that an earlier bmpd left. Those of interfaces that are gone, and of another namespace, go.
    pub(super) fn inherit(&mut self, code: &Program, layout: &Layout) -> anyhow::Result<()> {
        let code = code.fd()?.as_fd();
        for path in layout.links() {
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with(PREFIX))
            else {
                continue;
            };
            let context = || format!("cannot take over {}", path.display());
            let link = bpf::open(&path).with_context(context)?;
            let known = parse(name).filter(|(netns, ..)| *netns == self.netns);
            let replaced = known.filter(|(_, ifindex, _)| is_on(&link, *ifindex) && bpf::replace(&link, code).is_ok());
            match replaced {
                Some((_, ifindex, hook)) => {
                    self.links.insert(ifindex, Held { link, hook, path: Some(path) });
                }
                None => {
                    bpf::detach(&link).with_context(context)?;
                    fs::remove_file(&path).with_context(context)?;
                }
            }
        }
        let strange = |entry: Result<(GuardKey, Guarded), MapError>| {
            entry.ok().filter(|(_, guarded)| guarded.netns != self.netns).map(|(key, _)| key)
        };
        let strange: Vec<_> = self.guarded.iter().filter_map(strange).collect();
        for key in strange {
            self.guarded.remove(&key)?;
        }
        self.book = self.guarded.iter().collect::<Result<_, _>>()?;
        Ok(())
    }

    /// What table `GUARDED` is to hold.
    pub(super) fn book(&self) -> &Entries<GuardKey, Guarded> {
        &self.book
    }

    /// Writes the entries of table `GUARDED` that are others than they are to be.
    pub(super) fn mend_table(&mut self, differences: Vec<(GuardKey, Option<Guarded>)>) -> anyhow::Result<()> {
        mend(&mut self.guarded, differences).context("cannot write table GUARDED of the kernel")
    }

    fn attach(&mut self, code: &Program, layout: Option<Layout>, ifindex: u32, native: bool) -> Result<Hook, NoGuard> {
        if let Some(held) = self.links.get(&ifindex) {
            if is_on(&held.link, ifindex) {
                return Ok(held.hook);
            }
            // Its interface went, and another has the number now.
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
            let path = layout.map(|layout| layout.link(&name(self.netns, ifindex, hook)));
            if let Some(path) = &path {
                // Left by a start that was cut short just here.
                let _ = fs::remove_file(path);
                bpf::pin(path, link.as_fd()).map_err(|error| other(error.into()))?;
            }
            self.links.insert(ifindex, Held { link, hook, path });
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

    /// The interfaces that are there and from which somebody took the program, whose id this is.
    pub(super) fn lost(&self, program: u32) -> Vec<u32> {
        let is_whole = |ifindex: u32, held: &Held| {
            bpf::link_info(&held.link).is_ok_and(|info| info.xdp_ifindex() == ifindex && info.program == program)
        };
        let lost = self.links.iter().filter(|(ifindex, held)| !is_whole(**ifindex, held)).map(|(ifindex, _)| *ifindex);
        lost.filter(|ifindex| sys::has_interface(*ifindex)).collect()
    }

    /// Puts the program back where another is under its link. Where the link was detached, [`Self::attach`] makes another.
    pub(super) fn put_back(&mut self, code: &Program, ifindex: u32) -> anyhow::Result<()> {
        match self.links.get(&ifindex) {
            Some(held) if is_on(&held.link, ifindex) => Ok(bpf::replace(&held.link, code.fd()?.as_fd())?),
            _ => self.detach(ifindex),
        }
    }

    /// Where its links are pinned.
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

    fn retain(&mut self, wanted: impl Fn(u32) -> bool) -> anyhow::Result<()> {
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

    /// Nobody is kept away from any listener any more. What was dropped stays counted.
    pub(super) fn leave(&mut self) -> anyhow::Result<()> {
        let netns = self.netns;
        self.set(netns, &BTreeMap::new())?;
        self.detach_all()
    }

    fn set(&mut self, netns: u64, wanted: &BTreeMap<GuardKey, u32>) -> anyhow::Result<()> {
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        let known: BTreeSet<_> = self.guarded.keys().collect::<Result<_, _>>().context("cannot read table GUARDED")?;
        for key in known.iter().filter(|key| !wanted.contains_key(*key)) {
            match self.guarded.remove(key) {
                Ok(()) | Err(MapError::KeyNotFound) => drop(self.book.remove(key)),
                Err(error) => return Err(error).context("cannot write table GUARDED of the kernel"),
            }
        }
        let mut refused = None;
        let mut left_out = 0;
        for (key, &vrf) in wanted {
            if let Err(error) = self.set_one(*key, Guarded { netns, vrf, reserved: 0 }, cpus) {
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
        // The counter first: what is dropped is counted.
        for key in [key, GuardKey { ifindex: 0, ..key }] {
            if self.refused.get(&key, 0).is_err() {
                let zero = PerCpuValues::try_from(vec![RefusedTraffic::default(); cpus])?;
                self.refused.insert(key, zero, 0).context("cannot write table REFUSED of the kernel")?;
            }
        }
        if self.guarded.get(&key, 0).ok() != Some(value) {
            self.guarded.insert(key, value, 0).context("cannot write table GUARDED of the kernel")?;
        }
        self.book.insert(key, value);
        Ok(())
    }

    fn refused(&self, wanted: impl Fn(&GuardKey) -> bool) -> RefusedTraffic {
        let mut sum = RefusedTraffic::default();
        for (_, cpus) in self.refused.iter().flatten().filter(|(key, _)| wanted(key)) {
            cpus.iter().for_each(|of_cpu| sum += *of_cpu);
        }
        sum
    }

    fn forget(&mut self, wanted: impl Fn(&GuardKey) -> bool) {
        let all: Vec<_> = self.refused.keys().flatten().collect();
        for key in all.iter().filter(|key| !wanted(key) && self.guarded.get(key, 0).is_err()).collect::<Vec<_>>() {
            if let Err(error) = self.refused.remove(key) {
                warn!("an entry of table REFUSED stays: {error}");
            }
        }
    }
}

/// Whether a link holds its program to the interface of this number still.
fn is_on(link: &OwnedFd, ifindex: u32) -> bool {
    bpf::link_info(link).is_ok_and(|info| info.kind == bpf::LINK_TYPE_XDP && info.xdp_ifindex() == ifindex)
}

/// What the names of these links begin with.
const PREFIX: &str = "guard-";

/// `guard-NETNS-IFINDEX-HOOK`: what the kernel does not tell about a link, or only in part.
fn name(netns: u64, ifindex: u32, hook: Hook) -> String {
    format!("{PREFIX}{netns}-{ifindex}-{}", hook.as_str())
}

fn parse(name: &str) -> Option<(u64, u32, Hook)> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let (netns, ifindex) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let word = parts.next()?;
    let hook = [Hook::Native, Hook::Generic].into_iter().find(|hook| hook.as_str() == word)?;
    parts.next().is_none().then_some((netns, ifindex, hook))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_is_read_back_and_others_are_not_taken_for_one() {
        assert_eq!(parse(&name(7, 3, Hook::Generic)), Some((7, 3, Hook::Generic)));
        assert_eq!(parse(&name(u64::MAX, u32::MAX, Hook::Native)), Some((u64::MAX, u32::MAX, Hook::Native)));
        for other in ["egress", "guard-", "guard-1-2", "guard-1-2-offload", "guard-1-2-native-3", "guard-a-2-native"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
