//! The handle to the kernel's side: [`Datapath`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bmp_ebpf::{Counters, GuardKey, InetFamily, NO_SLOT, Pin, PinKey, RefusedTraffic};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::cgroup::Scope;
use super::health::{Loss, Mended};
use super::home::{self, DEFAULT_BPFFS, FolderRefusal, Home};
use super::loaded::LoadedPrograms;
use super::options::{DatapathMode, DatapathOptions, Enforcement};
use super::retry::{AGAIN, is_short_of_means, load};
use super::slots::{Inherited, PinSlot};
use super::target::{PinTarget, SocketOwner};
use super::vrfs::Untold;
use super::xdp_guards::{Hook, NoGuard};
use crate::sys;

/// The kernel programs and tables of this bmpd. Clones share them.
///
/// Where the kernel does not let bmpd have them, every method does nothing: sessions are then bound
/// from user space alone, and `display` says so.
///
/// When the last clone goes, pinned programs and tables stay in force, as when bmpd is killed,
/// until [`Self::detach`]. Where there is no BPF file system to pin them in, they end with the last
/// clone.
#[derive(Clone)]
pub struct Datapath {
    shared: Arc<SharedDatapath>,
}

/// What the clones share.
struct SharedDatapath {
    /// `SO_NETNS_COOKIE` of the namespace that the datapath was loaded in; 0 where the kernel does
    /// not tell it.
    netns: u64,
    state: Mutex<LoadState>,
    /// A loss was found.
    lost: Notify,
    /// True if the programs are loaded.
    loaded: watch::Sender<bool>,
}

/// The programs, or why they are not loaded.
struct LoadState {
    programs: Option<LoadedPrograms>,
    why_not: String,
    /// How to try again where the kernel had no descriptors or memory left.
    again: Option<DatapathOptions>,
}

/// Loading, and what holds sessions to their pins.
impl Datapath {
    /// Loads the programs and attaches them to the host's cgroup v2 root. Where an earlier bmpd's
    /// programs are, the new ones take their places, and pins and counters go on without a gap:
    /// [`Self::inherited`] returns the earlier slots.
    ///
    /// The datapath pins connections of the calling thread's network namespace. A task of that
    /// thread's tokio runtime hands the programs' log lines on to `log`.
    ///
    /// # Errors
    ///
    /// With [`DatapathMode::Ebpf`], what the kernel refused and what to do about it; a cgroup that
    /// is not the host's root is refused too. [`DatapathMode::Auto`] falls back to
    /// [`Enforcement::Socket`] instead. In both modes: another bmpd runs with the folder, or the
    /// named folder is in no BPF file system.
    pub fn load(options: &DatapathOptions) -> anyhow::Result<Self> {
        if options.mode == DatapathMode::Socket {
            return Ok(Self::new(None, "--datapath socket".to_owned(), None));
        }
        match load(options) {
            Ok(programs) => Ok(Self::new(Some(programs), String::new(), None)),
            Err(error) if error.is::<FolderRefusal>() => Err(error),
            Err(error) if options.mode == DatapathMode::Auto => {
                let again = is_short_of_means(&error).then(|| options.clone());
                Ok(Self::new(None, format!("{error:#}"), again))
            }
            Err(error) => {
                Err(error
                    .context("the kernel does not enforce (to run without, use --datapath auto or --datapath socket)"))
            }
        }
    }

    fn new(programs: Option<LoadedPrograms>, why_not: String, again: Option<DatapathOptions>) -> Self {
        let loaded = watch::Sender::new(programs.is_some());
        // Without programs nobody looks for a key.
        let netns = sys::netns_cookie().unwrap_or_default();
        let state = Mutex::new(LoadState { programs, why_not, again });
        Self { shared: Arc::new(SharedDatapath { netns, state, lost: Notify::new(), loaded }) }
    }

    /// Returns what holds sessions to their pins, losses apart: see [`Self::enforcement_now`].
    pub fn enforcement(&self) -> Enforcement {
        let state = self.state();
        match &state.programs {
            Some(programs) => match &programs.scope {
                Scope::Host => Enforcement::Kernel,
                Scope::Cgroup { why } => Enforcement::Cgroup { why: why.clone() },
            },
            None => {
                let again = match state.again {
                    Some(_) => format!(" (it is tried again every {} s)", AGAIN.as_secs()),
                    None => String::new(),
                };
                Enforcement::Socket { why: format!("{}{again}", state.why_not) }
            }
        }
    }

    /// Returns what holds sessions to their pins, with the last loss that was found.
    pub fn enforcement_now(&self) -> Enforcement {
        match self.loss() {
            Some(loss) if !loss.enforced => Enforcement::Socket { why: format!("enforcement is lost: {}", loss.why) },
            _ => self.enforcement(),
        }
    }

    /// True if loading failed for want of descriptors or memory, and is to be tried again.
    pub(in crate::pin) fn is_tried_again(&self) -> bool {
        self.state().again.is_some()
    }

    /// Tries to load once more. True if the programs are loaded now: the caller must put every pin
    /// in force anew. Blocks for some tenths of a second.
    pub(in crate::pin) fn try_again(&self) -> bool {
        let Some(options) = self.state().again.clone() else { return false };
        let result = load(&options);
        let mut state = self.state();
        // The datapath was detached meanwhile.
        if state.again.is_none() {
            return false;
        }
        match result {
            Ok(programs) => {
                info!("egress is enforced and counted by the kernel programs from now on");
                if let Scope::Cgroup { why } = &programs.scope {
                    warn!("egress is enforced for this cgroup only: {why}");
                }
                (state.programs, state.again) = (Some(programs), None);
                drop(state);
                self.shared.loaded.send_replace(true);
                true
            }
            Err(error) => {
                let why = format!("{error:#}");
                if !is_short_of_means(&error) {
                    warn!("enforcement in the kernel is not tried again: {why}");
                    state.again = None;
                }
                state.why_not = why;
                false
            }
        }
    }

    /// Returns when the programs are loaded.
    pub async fn loaded(&self) {
        // There is no error: the sender is in `self`.
        let _ = self.shared.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    /// Begins to hand the programs' log lines on to `log`, on the runtime of the calling thread.
    pub fn follow_log(&self) {
        self.with(LoadedPrograms::follow_log);
    }

    /// Ends the kernel's side after a start that failed. What an earlier bmpd left stays in force.
    pub fn abandon(self) {
        let is_anothers = self.with(|programs| programs.taken_over) == Some(true);
        if let Err(error) = self.detach(is_anothers) {
            warn!("the kernel programs are left behind (`bmpd detach` removes them): {error:#}");
        }
    }

    /// Ends the kernel's side: takes programs, tables and links out of the kernel and of the BPF
    /// file system. With `keep`, everything but guards stays in force for the next bmpd: the
    /// listeners end with this one. Other clones do nothing from then on.
    ///
    /// # Errors
    ///
    /// The objects that could not be removed.
    pub fn detach(self, keep: bool) -> anyhow::Result<()> {
        let programs = {
            let mut state = self.state();
            (state.why_not, state.again) = ("it was detached".to_owned(), None);
            state.programs.take()
        };
        match programs {
            Some(programs) if keep => programs.leave(),
            Some(programs) => programs.detach(),
            None => Ok(()),
        }
    }

    /// Calls `f` with the programs, if they are loaded.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut LoadedPrograms) -> R) -> Option<R> {
        self.state().programs.as_mut().map(f)
    }

    fn state(&self) -> MutexGuard<'_, LoadState> {
        // A panic under this lock leaves no table half written.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Losses.
impl Datapath {
    /// Looks for losses and returns the loss. The task that keeps the pins mends it at once.
    pub fn look(&self) -> Option<Loss> {
        let is_new = self.with(|programs| {
            let was_lost = programs.health.now.is_some();
            programs.look(false);
            programs.health.now.is_some() && !was_lost
        });
        if is_new == Some(true) {
            self.shared.lost.notify_one();
        }
        self.loss()
    }

    /// Returns the loss that was found last, if it is not mended.
    pub fn loss(&self) -> Option<Loss> {
        self.with(|programs| programs.health.now.clone()).flatten()
    }

    /// Returns how many losses there were since bmpd began. `None` while no programs are loaded.
    pub fn losses(&self) -> Option<u64> {
        self.with(|programs| programs.health.losses)
    }

    /// Returns when [`Self::look`] has found a loss.
    pub(in crate::pin) async fn lost(&self) {
        self.shared.lost.notified().await;
    }

    /// Looks for losses, and mends them.
    pub(in crate::pin) fn mend(&self) -> Mended {
        self.with(LoadedPrograms::mend).unwrap_or(Mended::Nothing)
    }
}

/// Pins, slots and counters.
impl Datapath {
    /// Returns the key of these connections in the datapath's namespace. An IPv4-mapped address is
    /// an IPv4 one.
    pub fn key(&self, target: &PinTarget) -> PinKey {
        target.key(self.shared.netns)
    }

    /// Returns the connections of a key; `None` if it is of another network namespace.
    pub(in crate::pin) fn target(&self, key: &PinKey) -> Option<PinTarget> {
        PinTarget::of(key).filter(|_| key.netns == self.shared.netns)
    }

    /// Puts a pin in force for connections of a key that are made from now on.
    ///
    /// The pin gets a slot of its own, with counters at zero and `PIN_LIVE` set. The key's earlier
    /// slot stays live for its sockets until it is freed.
    ///
    /// # Errors
    ///
    /// Every slot is taken, the pin names too many interfaces, or the kernel refuses the write. The
    /// key then keeps its slot.
    pub fn install(&self, key: &PinKey, pin: Pin) -> anyhow::Result<PinSlot> {
        let slot = self.place(pin)?;
        match self.point(key, &slot) {
            Ok(()) => Ok(slot),
            Err(error) => {
                self.free(slot);
                Err(error)
            }
        }
    }

    /// Gives a pin a slot to which no key leads yet, with counters at zero and `PIN_LIVE` set.
    ///
    /// # Errors
    ///
    /// Every slot is taken, the pin names too many interfaces, or the kernel refuses the write.
    pub fn place(&self, pin: Pin) -> anyhow::Result<PinSlot> {
        self.with(|programs| programs.tables.place(pin)).unwrap_or(Ok(PinSlot::NONE))
    }

    /// Puts the pin of a slot in force for connections of a key that are made from now on.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write. The key then keeps its slot.
    pub fn point(&self, key: &PinKey, slot: &PinSlot) -> anyhow::Result<()> {
        self.with(|programs| programs.tables.point(key, slot)).unwrap_or(Ok(()))
    }

    /// True if [`Self::place`] would find a slot.
    pub(in crate::pin) fn has_free_slot(&self) -> bool {
        self.with(|programs| programs.tables.book.has_free()).unwrap_or(true)
    }

    /// Takes a key's pin out of force, if it is the pin of this slot: new connections of the key
    /// are free. The slot stays, with its sockets.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write. A key that leads nowhere, or to another slot, is no error.
    pub fn remove(&self, key: &PinKey, slot: &PinSlot) -> anyhow::Result<()> {
        self.with(|programs| programs.tables.remove(key, slot)).unwrap_or(Ok(()))
    }

    /// Gives a slot back and returns the last reading of its counters.
    ///
    /// A socket that is still under it can send nothing any more: [`Self::stale`] counts its
    /// packets. A key that still leads to the slot has no pin any more.
    pub fn free(&self, slot: PinSlot) -> Counters {
        self.with(|programs| programs.tables.free(&slot)).unwrap_or_default()
    }

    /// Returns what all CPUs counted for a slot so far.
    pub fn counters(&self, slot: &PinSlot) -> Counters {
        self.with(|programs| programs.tables.counters(slot.number)).unwrap_or_default()
    }

    /// Returns what all CPUs denied to sockets whose slot has been freed.
    pub fn stale(&self) -> Counters {
        self.with(|programs| programs.tables.counters(NO_SLOT)).unwrap_or_default()
    }

    /// Returns what the freed slots of a key counted, an earlier bmpd's too, while the key has a
    /// pin. With the counters of the slots that are not freed it is the key's whole count.
    pub fn history(&self, key: &PinKey) -> Counters {
        self.with(|programs| programs.tables.history(key)).unwrap_or_default()
    }

    /// Tells the programs which interfaces of the datapath's namespace are in a VRF: from interface
    /// index to that of the VRF device. It replaces the earlier ones. Where there is no room for
    /// all, the VRFs in `first` go before the others.
    ///
    /// # Errors
    ///
    /// The table is full, or the kernel refuses the write: the VRFs of which the programs take
    /// interfaces for ones of the default VRF.
    pub(in crate::pin) fn set_vrfs(&self, vrfs: &BTreeMap<u32, u32>, first: &BTreeSet<u32>) -> Result<(), Untold> {
        self.with(|programs| programs.tables.vrfs.set(self.shared.netns, vrfs, first)).unwrap_or(Ok(()))
    }
}

/// What an earlier bmpd left.
impl Datapath {
    /// True if an earlier bmpd's tables go on. Then a start that fails now must leave them: see
    /// [`Self::detach`].
    pub fn taken_over(&self) -> bool {
        self.with(|programs| programs.taken_over).unwrap_or_default()
    }

    /// Returns the slots that an earlier bmpd left and that are neither adopted nor retired yet, by
    /// number. All of them are in force.
    pub fn inherited(&self) -> Vec<Inherited> {
        self.with(|programs| programs.tables.inherited()).unwrap_or_default()
    }

    /// Takes the slot that an earlier bmpd left in force for a key, if its pin is the same
    /// (generation and `PIN_LIVE` apart). Number, counters and sockets stay. `None`: use
    /// [`Self::install`].
    pub fn adopt(&self, key: &PinKey, pin: &Pin) -> Option<PinSlot> {
        self.with(|programs| programs.tables.adopt(key, pin)).flatten()
    }

    /// Ends what an earlier bmpd left and nobody adopted. Call it once, when every session has its
    /// pin.
    ///
    /// Keys that lead to such a slot have no pin any more. Each returned slot stays live for its
    /// sockets until it is freed, as if its pin had just been replaced. Folders of other layouts
    /// are removed at once.
    pub fn retire(&self) -> Vec<(PinKey, PinSlot)> {
        self.with(LoadedPrograms::retire).unwrap_or_default()
    }
}

/// Sockets.
impl Datapath {
    /// Marks a socket as opened by bmpd: its traffic counts as the session's own. Call it before
    /// `connect`.
    ///
    /// # Errors
    ///
    /// The descriptor is not a socket, or the kernel has no memory for the mark.
    pub fn claim(&self, socket: &impl AsRawFd) -> anyhow::Result<()> {
        self.with(|programs| programs.tables.tags.claim(socket)).unwrap_or(Ok(()))
    }

    /// Marks a socket as a listener of bmpd's. Call it before `listen`.
    ///
    /// # Errors
    ///
    /// The descriptor is not a socket, or the kernel has no memory for the mark.
    pub fn claim_listener(&self, socket: &impl AsRawFd) -> anyhow::Result<()> {
        self.with(|programs| programs.tables.tags.claim_listener(socket, self.shared.netns)).unwrap_or(Ok(()))
    }

    /// Puts a connected socket of bmpd's own under the slot of its key, if the programs were away
    /// for a moment and have not done so.
    ///
    /// # Errors
    ///
    /// The key leads nowhere or to a denial, or the kernel refuses the write.
    pub fn confirm(&self, socket: &impl AsRawFd, target: &PinTarget) -> anyhow::Result<()> {
        let key = self.key(target);
        self.with(|programs| programs.tables.confirm(socket, &key)).unwrap_or(Ok(()))
    }

    /// Puts an accepted connection under the slot of its key. The programs did so when it was
    /// established; the key may lead elsewhere since.
    ///
    /// # Errors
    ///
    /// The key leads nowhere or to a denial, or the kernel refuses the write.
    pub fn admit(&self, socket: &impl AsRawFd, key: &PinKey) -> anyhow::Result<()> {
        self.with(|programs| programs.tables.admit(socket, key)).unwrap_or(Ok(()))
    }

    /// Puts a socket under a slot from user space: a listener, whose accepted sockets then begin
    /// under it, or a connection from before its pin. The pin holds from the next packet on.
    ///
    /// A connection that is established already is counted, but makes no [`Events`](super::Events),
    /// and its retransmissions are not counted: only a program that the kernel calls for the socket
    /// can request them.
    ///
    /// # Errors
    ///
    /// The slot is free, the descriptor is not a socket, or the kernel has no memory for the tag.
    pub fn tag(&self, socket: &impl AsRawFd, slot: &PinSlot, owner: SocketOwner) -> anyhow::Result<()> {
        self.with(|programs| programs.tables.tag(socket, slot, owner)).unwrap_or(Ok(()))
    }

    /// Moves a socket from one slot to another, whichever process has it. False if it is not under
    /// the first slot.
    ///
    /// # Errors
    ///
    /// The other slot is free, or the kernel does not write the tag.
    pub(in crate::pin) fn retag(&self, socket: &impl AsRawFd, from: &PinSlot, to: &PinSlot) -> anyhow::Result<bool> {
        self.with(|programs| programs.tables.retag(socket, from, to)).unwrap_or(Ok(false))
    }

    /// True if a socket is under this slot, whichever process has it.
    ///
    /// # Errors
    ///
    /// The kernel does not tell its tag.
    pub(in crate::pin) fn is_under(&self, socket: &impl AsRawFd, slot: &PinSlot) -> anyhow::Result<bool> {
        self.with(|programs| programs.tables.tags.is_under(socket, slot)).unwrap_or(Ok(false))
    }

    /// True if a socket is under any slot, whichever process has it.
    ///
    /// # Errors
    ///
    /// The kernel does not tell its tag.
    pub(in crate::pin) fn is_held(&self, socket: &impl AsRawFd) -> anyhow::Result<bool> {
        self.with(|programs| programs.tables.tags.is_held(socket)).unwrap_or(Ok(false))
    }
}

/// Guards of listeners.
impl Datapath {
    /// Returns the key of an address and port of this host in tables `GUARDED` and `REFUSED`.
    pub fn guard_key(ifindex: u32, local: IpAddr, port: u16) -> GuardKey {
        GuardKey { ifindex, family: InetFamily::of(local), reserved: 0, port, local: local.into() }
    }

    /// Puts program `guard` on an interface of the calling thread's namespace: in the driver if
    /// `native` is wanted and can be had. A guard that is there stays. `None`: the kernel does not
    /// enforce.
    ///
    /// # Errors
    ///
    /// Another XDP program is there, or the kernel refuses.
    pub fn attach_guard(&self, ifindex: u32, native: bool) -> Option<Result<Hook, NoGuard>> {
        self.with(|programs| programs.attach_guard(ifindex, native))
    }

    /// Takes program `guard` off all interfaces but these.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn keep_guards(&self, ifindexes: &BTreeSet<u32>) -> anyhow::Result<()> {
        self.with(|programs| programs.guards.retain(|ifindex| ifindexes.contains(&ifindex))).unwrap_or(Ok(()))
    }

    /// Returns what is guarded now, with what an earlier bmpd left.
    pub fn guarded(&self) -> BTreeSet<GuardKey> {
        self.with(|programs| programs.guards.keys()).unwrap_or_default()
    }

    /// Guards these and nothing else: from an interface, address and port to the VRF of its
    /// sessions. Counts of dropped packets go on.
    ///
    /// # Errors
    ///
    /// There is no room for all of them, or the kernel refuses a write. The others are guarded.
    pub fn set_guarded(&self, wanted: &BTreeMap<GuardKey, u32>) -> anyhow::Result<()> {
        self.with(|programs| programs.guards.set(wanted)).unwrap_or(Ok(()))
    }

    /// Returns what was dropped for the wanted keys: by guards and, for interface index 0, by
    /// `ingress`.
    pub fn refused(&self, wanted: impl Fn(&GuardKey) -> bool) -> RefusedTraffic {
        self.with(|programs| programs.guards.refused(wanted)).unwrap_or_default()
    }

    /// Forgets the counts of all keys that are neither wanted nor guarded.
    pub fn forget_refused(&self, wanted: impl Fn(&GuardKey) -> bool) {
        self.with(|programs| programs.guards.forget(wanted));
    }
}

#[cfg(test)]
impl Datapath {
    /// Returns the slot of no pin.
    pub(in crate::pin) fn no_slot() -> PinSlot {
        PinSlot::NONE
    }

    /// Changes a pin in place, as only a test does.
    pub(super) fn overwrite(&self, slot: &PinSlot, pin: Pin) {
        self.with(|programs| programs.tables.overwrite(slot, pin)).unwrap();
    }

    /// Returns the slot that the kernel's own table has for a key.
    pub(super) fn slot_of(&self, key: &PinKey) -> Option<u32> {
        self.with(|programs| programs.tables.pins.get(key)).unwrap()
    }

    /// Returns what `guard` answers to a frame that comes in by the interface of index 1.
    pub(super) fn run_guard(&self, frame: &[u8]) -> u32 {
        use aya::programs::{Program, TestRun as _, TestRunOptions};
        let run = |programs: &mut LoadedPrograms| {
            let guard = super::object::program(&programs.programs, bmp_ebpf::program::GUARD);
            let Ok(Program::Xdp(program)) = guard else { panic!("it is an XDP program") };
            program.test_run(TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() }).unwrap()
        };
        self.with(run).unwrap().return_value
    }
}

impl fmt::Debug for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datapath").field("netns", &self.shared.netns).field("enforcement", &self.enforcement()).finish()
    }
}

/// Returns the folder of the BPF file system in which bmpd pins programs and tables, if there is
/// one.
pub fn pinned_in(options: &DatapathOptions) -> Option<PathBuf> {
    home::around(options.bpffs.as_deref())
}

/// Removes everything that a bmpd of any version left in the kernel, and returns a line for each
/// folder. `bpffs` is [`DatapathOptions::bpffs`].
///
/// # Errors
///
/// A bmpd runs with the folder, or an object could not be removed.
pub fn detach(bpffs: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let Some(home) = Home::find(bpffs)? else {
        let folder = bpffs.unwrap_or(Path::new(DEFAULT_BPFFS));
        return Ok(vec![format!("nothing to remove: there is no {}", folder.display())]);
    };
    let mut lines = Vec::new();
    for folder in home.all() {
        lines.push(format!("{}: removed {}", folder.display(), Home::remove(&folder)?));
    }
    if lines.is_empty() {
        lines.push(format!("nothing to remove: {} is empty", home.path().display()));
    }
    home.give_up();
    Ok(lines)
}
