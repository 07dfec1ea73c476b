//! The kernel programs and tables: loaded, attached, written and read.
//!
//! A [`Datapath`] is all that the rest of bmpd sees of them. Where the kernel does not let bmpd have them, it is a `Datapath` that does
//! nothing: sessions are then bound from user space alone, and `display` says so.
//!
//! What is loaded is pinned in a BPF file system and outlives bmpd, unless [`Datapath::detach`] takes it out: a bmpd that is killed leaves
//! its pins in force, and the next one takes them over in place.

mod again;
mod book;
mod bpf;
mod cgroup;
mod events;
mod guard;
mod home;
mod load;
mod mounts;
mod occupied;
mod room;
mod slots;
mod tables;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use aya::maps::{MapData, MapError, RingBuf};
use bmp_ebpf::{Counters, DENY_ALL, DENY_OWN, InetFamily, NO_SLOT, Pin, PinKey, ROLE_CONNECT, ROLE_LISTEN};
use tokio::sync::{Notify, watch as watch_channel};
use tracing::warn;

use again::{is_short_of_means, load};
use home::Home;
use tables::Kernel;

use crate::sys;

pub(super) use again::AGAIN;
pub use events::{Change, Events, Occurrence, Refused, SocketEvent};
pub use guard::{Hook, NoGuard};
pub use home::DEFAULT_BPFFS;
pub use room::Room;
pub use watch::Loss;
pub(super) use watch::{LOOK, Mended};

/// What `--datapath` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// The kernel enforces if it lets bmpd load its programs; else sessions are bound from user space.
    #[default]
    Auto,
    /// The kernel enforces, or bmpd does not start.
    Ebpf,
    /// Sessions are bound from user space; nothing is loaded.
    Socket,
}

/// How to get at the kernel.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--datapath`.
    pub mode: Mode,
    /// `--cgroup`: the cgroup v2 folder to attach to, whose processes alone are then pinned, and bmpd must be one of them; `None` finds the
    /// host's root.
    pub cgroup: Option<PathBuf>,
    /// `--bpffs`: the folder in a BPF file system that is this bmpd's alone; `None` is [`DEFAULT_BPFFS`], or `bmpd` in the BPF file system
    /// that is mounted elsewhere.
    pub bpffs: Option<PathBuf>,
    /// `--sessions`.
    pub room: Room,
}

/// Who holds a session to its pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// The kernel programs, whichever process's connections they are.
    Kernel,
    /// The kernel programs, for the processes of one cgroup alone.
    Cgroup {
        /// Why not for all, in words.
        why: String,
    },
    /// Nobody but the socket's own binding.
    Socket {
        /// Why not the kernel, in words.
        why: String,
    },
}

impl Enforcement {
    /// Whether the kernel programs hold bmpd's own sessions.
    pub fn is_by_programs(&self) -> bool {
        match self {
            Self::Kernel | Self::Cgroup { .. } => true,
            Self::Socket { .. } => false,
        }
    }

    /// The word of the JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Cgroup { .. } => "cgroup",
            Self::Socket { .. } => "socket",
        }
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str(self.as_str()),
            Self::Cgroup { why } | Self::Socket { why } => write!(f, "{} ({why})", self.as_str()),
        }
    }
}

/// Whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// bmpd's own: its traffic counts as the session's.
    Bmpd,
    /// Another process's, with this id: its traffic counts as foreign.
    Process(u32),
}

/// Who opens the connections of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// This host, to the station's port.
    Connect,
    /// The station, to this host's port.
    Listen,
}

/// Which connections a pin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Who opens them.
    pub role: Role,
    /// Interface index of the VRF device; 0 is the default VRF.
    pub vrf: u32,
    /// The station's address, and the port that is connected to: the station's or, for [`Role::Listen`], this host's.
    pub station: SocketAddr,
}

/// One incarnation of a pin in the kernel tables. Whoever has it gives it back with [`Datapath::free`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    number: u32,
    generation: u32,
}

impl Slot {
    /// What [`Datapath::install`] gives when the kernel does not enforce.
    const NONE: Self = Self { number: NO_SLOT, generation: 0 };

    /// Denies a key without taking a slot: to every process, or to bmpd alone. What is denied is counted for nobody
    /// ([`Datapath::stale`]).
    pub(super) fn shared_denial(own_only: bool) -> Self {
        Self { number: if own_only { DENY_OWN } else { DENY_ALL }, generation: 0 }
    }

    /// Whether it is one of [`Self::shared_denial`].
    pub(super) fn is_shared_denial(&self) -> bool {
        self.number >= DENY_OWN
    }

    /// The slot's number, as the kernel programs' log lines name it; 0 when the kernel does not enforce.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// A slot that an earlier bmpd left, with the sockets under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// The key that led to it last; all zeroes if none ever did.
    pub key: PinKey,
    /// The slot's number.
    pub number: u32,
    /// What it enforces.
    pub pin: Pin,
    /// Whether the key still leads to it; else its pin had been replaced, and it was about to be freed.
    pub in_force: bool,
    /// What it had counted when it was found.
    pub counters: Counters,
}

/// The VRFs that the programs do not know all interfaces of.
#[derive(Debug)]
pub(super) struct Untold {
    pub(super) vrfs: BTreeSet<u32>,
    pub(super) why: Option<MapError>,
}

/// The kernel programs and tables of this bmpd. Clones share them.
///
/// When the last clone goes, what is pinned stays in force, as when bmpd is killed; [`Self::detach`] ends it. Where there is no BPF file
/// system to pin in, it ends with the last clone.
#[derive(Clone)]
pub struct Datapath {
    inner: Arc<Inner>,
}

struct Inner {
    /// `SO_NETNS_COOKIE` of the namespace that the datapath was loaded in; 0 where the kernel does not tell it.
    netns: u64,
    state: Mutex<Loading>,
    /// Something was found lost.
    lost: Notify,
    /// Whether the programs are loaded.
    loaded: watch_channel::Sender<bool>,
}

/// What is loaded, or why nothing is.
struct Loading {
    kernel: Option<Kernel>,
    why_not: String,
    /// How to try again where the kernel had no descriptors or memory left.
    again: Option<Options>,
}

impl Datapath {
    /// Loads the programs and attaches them to the host's cgroup v2 root; or puts them in the place of those of an earlier bmpd, whose pins and
    /// counters go on without a gap. See [`Self::inherited`] for what to do with them.
    ///
    /// The network namespace that the calling thread is in is the one whose connections are pinned. What the programs log goes to `log`
    /// by a task of the calling thread's tokio runtime; without a runtime it is not read.
    ///
    /// # Errors
    ///
    /// With [`Mode::Ebpf`], what was refused and what to do about it; a cgroup that is not the host's root is refused too. [`Mode::Auto`] falls back to [`Enforcement::Socket`] instead. In both
    /// modes: the folder is another bmpd's that runs, or the one that was named is not in a BPF file system.
    pub fn load(options: &Options) -> anyhow::Result<Self> {
        if options.mode == Mode::Socket {
            return Ok(Self::new(None, "--datapath socket".to_owned(), None));
        }
        match load(options) {
            Ok(kernel) => Ok(Self::new(Some(kernel), String::new(), None)),
            Err(error) if error.is::<home::Refused>() => Err(error),
            Err(error) if options.mode == Mode::Auto => {
                let again = is_short_of_means(&error).then(|| options.clone());
                Ok(Self::new(None, format!("{error:#}"), again))
            }
            Err(error) => {
                Err(error
                    .context("the kernel does not enforce (to run without, use --datapath auto or --datapath socket)"))
            }
        }
    }

    fn new(kernel: Option<Kernel>, why_not: String, again: Option<Options>) -> Self {
        let loaded = watch_channel::Sender::new(kernel.is_some());
        // Without programs no key is looked for.
        let netns = sys::netns_cookie().unwrap_or_default();
        let state = Mutex::new(Loading { kernel, why_not, again });
        Self { inner: Arc::new(Inner { netns, state, lost: Notify::new(), loaded }) }
    }

    /// The key of these connections in the datapath's namespace. An IPv4-mapped address is an IPv4 one.
    pub fn key(&self, target: &Target) -> PinKey {
        let station = target.station.ip().to_canonical();
        let role = match target.role {
            Role::Connect => ROLE_CONNECT,
            Role::Listen => ROLE_LISTEN,
        };
        let port = target.station.port();
        let (family, station) = (InetFamily::of(station), station.into());
        PinKey { netns: self.inner.netns, vrf: target.vrf, family, role, port, station }
    }

    /// The connections of a key; `None` if it is of another network namespace.
    pub(super) fn target(&self, key: &PinKey) -> Option<Target> {
        let role = match key.role {
            ROLE_CONNECT => Role::Connect,
            ROLE_LISTEN => Role::Listen,
            _ => return None,
        };
        let station = key.station.to_ip(key.family)?;
        let target = Target { role, vrf: key.vrf, station: SocketAddr::new(station, key.port) };
        (key.netns == self.inner.netns).then_some(target)
    }

    /// Puts a pin in force for the connections of a key that are made from now on.
    ///
    /// The pin gets a slot of its own, with counters at zero and `PIN_LIVE` set. The slot that the key had before stays live for the sockets
    /// that were connected under it, until it is freed.
    ///
    /// # Errors
    ///
    /// Every slot is taken, the pin names more interfaces than there is room for, or the kernel refuses the write; the key then has the
    /// slot that it had.
    pub fn install(&self, key: &PinKey, pin: Pin) -> anyhow::Result<Slot> {
        let slot = self.place(pin)?;
        match self.point(key, &slot) {
            Ok(()) => Ok(slot),
            Err(error) => {
                self.free(slot);
                Err(error)
            }
        }
    }

    /// Gives a pin a slot of its own to which no key leads yet, with counters at zero and `PIN_LIVE` set.
    ///
    /// # Errors
    ///
    /// Every slot is taken, the pin names more interfaces than there is room for, or the kernel refuses the write.
    pub fn place(&self, pin: Pin) -> anyhow::Result<Slot> {
        self.with(|kernel| kernel.place(pin)).unwrap_or(Ok(Slot::NONE))
    }

    /// Puts the pin of a slot in force for the connections of a key that are made from now on.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write; the key then has the slot that it had.
    pub fn point(&self, key: &PinKey, slot: &Slot) -> anyhow::Result<()> {
        self.with(|kernel| kernel.point(key, slot)).unwrap_or(Ok(()))
    }

    /// Whether [`Self::place`] would find a slot.
    pub(super) fn has_free_slot(&self) -> bool {
        self.with(|kernel| kernel.has_free_slot()).unwrap_or(true)
    }

    /// Takes a key's pin out of force, if it is that of this slot: new connections of it go where they like. Slots stay, with the sockets
    /// under them.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write. A key that leads nowhere, or to another slot, is no error.
    pub fn remove(&self, key: &PinKey, slot: &Slot) -> anyhow::Result<()> {
        self.with(|kernel| kernel.remove(key, slot)).unwrap_or(Ok(()))
    }

    /// Gives a slot back and returns the last reading of its counters.
    ///
    /// A socket that is still under it can send nothing any more; what it tries to send is counted in [`Self::stale`]. A key that still leads
    /// to the slot has no pin any more.
    pub fn free(&self, slot: Slot) -> Counters {
        self.with(|kernel| kernel.free(&slot)).unwrap_or_default()
    }

    /// What was counted for a slot so far, on all CPUs.
    pub fn counters(&self, slot: &Slot) -> Counters {
        self.with(|kernel| kernel.counters(slot.number)).unwrap_or_default()
    }

    /// What was denied to sockets whose slot has been freed since, on all CPUs.
    pub fn stale(&self) -> Counters {
        self.with(|kernel| kernel.counters(NO_SLOT)).unwrap_or_default()
    }

    /// Tells the programs which interfaces of the datapath's namespace are in a VRF: from an interface's index to the VRF device's. What
    /// was told before is forgotten. Where there is no room for all, the VRFs in `first` go before the others.
    ///
    /// # Errors
    ///
    /// The table is full, or the kernel refuses the write: which VRFs have interfaces that the programs take for ones of the default VRF.
    pub(super) fn set_vrfs(&self, vrfs: &BTreeMap<u32, u32>, first: &BTreeSet<u32>) -> Result<(), Untold> {
        self.with(|kernel| kernel.set_vrfs(self.inner.netns, vrfs, first)).unwrap_or(Ok(()))
    }

    /// Marks a socket as opened by bmpd itself, so that its traffic counts as the session's own. Call it before `connect`.
    ///
    /// # Errors
    ///
    /// The descriptor is not a socket, or the kernel has no memory for the mark.
    pub fn claim(&self, socket: &impl AsRawFd) -> anyhow::Result<()> {
        self.with(|kernel| kernel.claim(socket)).unwrap_or(Ok(()))
    }

    /// Puts a socket of bmpd's own that has connected under the slot that its key leads to, where the programs have not done so: they were not
    /// there for a moment. One that they have seen stays as it is.
    ///
    /// # Errors
    ///
    /// The key leads nowhere or to a denial, or the kernel refuses the write.
    pub fn confirm(&self, socket: &impl AsRawFd, target: &Target) -> anyhow::Result<()> {
        let key = self.key(target);
        self.with(|kernel| kernel.confirm(socket, &key)).unwrap_or(Ok(()))
    }

    /// Puts a socket under a slot from user space: a listener, whose accepted sockets then begin under it too, or a connection that was
    /// there before its pin. The pin holds from the next packet on.
    ///
    /// A connection that is established already is counted, but makes no [`Events`] and its retransmissions are not counted: the kernel lets
    /// only a program that is called for the socket ask for them.
    ///
    /// # Errors
    ///
    /// The slot is free, the descriptor is not a socket, or the kernel has no memory for the tag.
    pub fn tag(&self, socket: &impl AsRawFd, slot: &Slot, owner: Owner) -> anyhow::Result<()> {
        self.with(|kernel| kernel.tag(socket, slot, owner)).unwrap_or(Ok(()))
    }

    /// Moves a socket that is under one slot to another, whoever has it. False if it is not under that slot.
    ///
    /// # Errors
    ///
    /// The slot to move to is free, or the kernel does not write the tag.
    pub(super) fn retag(&self, socket: &impl AsRawFd, from: &Slot, to: &Slot) -> anyhow::Result<bool> {
        self.with(|kernel| kernel.retag(socket, from, to)).unwrap_or(Ok(false))
    }

    /// Whether a socket is under that slot, whoever has it.
    ///
    /// # Errors
    ///
    /// The kernel does not tell its tag.
    pub(super) fn is_under(&self, socket: &impl AsRawFd, slot: &Slot) -> anyhow::Result<bool> {
        self.with(|kernel| Ok(kernel.tag_under(socket, slot)?.is_some())).unwrap_or(Ok(false))
    }

    /// Whether a socket is under any slot, whoever has it.
    ///
    /// # Errors
    ///
    /// The kernel does not tell its tag.
    pub(super) fn is_held(&self, socket: &impl AsRawFd) -> anyhow::Result<bool> {
        self.with(|kernel| kernel.is_held(socket)).unwrap_or(Ok(false))
    }

    /// Whether an earlier bmpd's tables go on, so that a start that fails now must leave them: see [`Self::detach`].
    pub fn taken_over(&self) -> bool {
        self.with(|kernel| kernel.taken_over()).unwrap_or_default()
    }

    /// The slots that an earlier bmpd left and that are neither adopted nor retired yet, by number. All of them are in force.
    pub fn inherited(&self) -> Vec<Inherited> {
        self.with(|kernel| kernel.inherited()).unwrap_or_default()
    }

    /// Takes the slot that an earlier bmpd left in force for a key, if it enforces the very same (generation and `PIN_LIVE` apart). It keeps its
    /// number, its counters and its sockets, none of which notices. `None`: [`Self::install`] puts the pin in force.
    pub fn adopt(&self, key: &PinKey, pin: &Pin) -> Option<Slot> {
        self.with(|kernel| kernel.adopt(key, pin)).flatten()
    }

    /// Ends what an earlier bmpd left and nobody adopted. Call it once, when every session has its pin.
    ///
    /// Keys that still lead to such a slot have no pin any more. Each slot, with the key that it was given for, stays live for the sockets under it
    /// until it is freed, as if it had just been replaced. What an earlier bmpd left in folders of other layouts is removed at once.
    pub fn retire(&self) -> Vec<(PinKey, Slot)> {
        self.with(Kernel::retire).unwrap_or_default()
    }

    /// What the slots counted that were given for a key and are freed, also by an earlier bmpd, as long as the key has a pin: with the
    /// counters of the slots that are not freed, the whole of what was counted for it.
    pub fn history(&self, key: &PinKey) -> Counters {
        self.with(|kernel| kernel.history(key)).unwrap_or_default()
    }

    /// The events of all tagged sockets, for one reader. Those that happened while no bmpd ran come first. Without kernel enforcement there
    /// are none.
    ///
    /// # Errors
    ///
    /// They have been asked for before, or the ring cannot be waited for.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn events(&self) -> anyhow::Result<Events> {
        let ring = match self.with(Kernel::take_events) {
            None => None,
            Some(None) => anyhow::bail!("the events of the kernel programs have one reader, which is there already"),
            Some(ring) => ring,
        };
        Events::new(ring, self.clone()).context("the events of the kernel programs cannot be waited for")
    }

    /// The ring of events, once, when the programs are loaded.
    async fn take_ring(&self) -> Option<RingBuf<MapData>> {
        self.loaded().await;
        self.with(Kernel::take_events).flatten()
    }

    /// Ends the kernel's part: takes programs, tables and links out of the kernel and of the BPF file system; or, with `keep`, leaves what
    /// is in force to the next bmpd, but for the guards: the listeners end with this one. Other clones do nothing from then on.
    ///
    /// # Errors
    ///
    /// What could not be removed.
    pub fn detach(self, keep: bool) -> anyhow::Result<()> {
        let kernel = {
            let mut state = self.state();
            (state.why_not, state.again) = ("it was detached".to_owned(), None);
            state.kernel.take()
        };
        match kernel {
            Some(kernel) if keep => kernel.leave(),
            Some(kernel) => kernel.detach(),
            None => Ok(()),
        }
    }

    /// The slot of no pin.
    #[cfg(test)]
    pub(in crate::pin) fn no_slot() -> Slot {
        Slot::NONE
    }

    /// Changes a pin in place, as nothing but a test would.
    #[cfg(test)]
    fn overwrite(&self, slot: &Slot, pin: Pin) {
        self.with(|kernel| kernel.overwrite(slot, pin)).unwrap();
    }

    /// The slot that the kernel's own table names for a key.
    #[cfg(test)]
    fn slot_of(&self, key: &PinKey) -> Option<u32> {
        self.with(|kernel| kernel.slot_of(key)).unwrap()
    }

    fn with<R>(&self, what: impl FnOnce(&mut Kernel) -> R) -> Option<R> {
        self.state().kernel.as_mut().map(what)
    }

    fn state(&self) -> MutexGuard<'_, Loading> {
        // Nothing under this lock leaves the tables half written by a panic.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes everything that a bmpd left in the kernel, whatever its version, and says what in one line for each folder.
///
/// `bpffs` as in [`Options::bpffs`].
///
/// # Errors
///
/// A bmpd runs with the folder, or something could not be removed.
pub fn detach(bpffs: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let Some(home) = Home::find(bpffs)? else {
        let folder = bpffs.unwrap_or(Path::new(DEFAULT_BPFFS));
        return Ok(vec![format!("nothing to remove: there is no {}", folder.display())]);
    };
    let mut said = Vec::new();
    for folder in home.all() {
        said.push(format!("{}: removed {}", folder.display(), Home::remove(&folder)?));
    }
    if said.is_empty() {
        said.push(format!("nothing to remove: {} is empty", home.path().display()));
    }
    home.give_up();
    Ok(said)
}

impl fmt::Debug for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datapath").field("netns", &self.inner.netns).field("enforcement", &self.enforcement()).finish()
    }
}

/// Tells that a reading or a write that cannot fail has failed.
fn unexpected(what: &str, slot: u32, error: &dyn std::error::Error) {
    warn!("slot {slot}: {what}: {error}");
}
