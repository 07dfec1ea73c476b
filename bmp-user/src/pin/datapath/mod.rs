//! The kernel programs and tables: loaded, attached, written and read.
//!
//! A [`Datapath`] is all that the rest of bmpd sees of them. Where the kernel does not let bmpd have them, it is a `Datapath` that does
//! nothing: sessions are then bound from user space alone, and `display` says so.

mod cgroup;
mod kernel;
mod slots;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use bmp_ebpf::{Counters, FAMILY_IPV4, FAMILY_IPV6, NO_SLOT, Pin, PinKey};
use tracing::warn;

use kernel::Kernel;

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
    /// `--cgroup`: the cgroup v2 folder to attach to, whose processes alone are then pinned; `None` finds the root.
    pub cgroup: Option<PathBuf>,
}

/// Who holds a session to its pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// The kernel programs.
    Kernel,
    /// Nobody but the socket's own binding.
    Socket {
        /// Why not the kernel, in words.
        why: String,
    },
}

impl Enforcement {
    /// The word of `display` and of its JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Socket { .. } => "socket",
        }
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str(self.as_str()),
            Self::Socket { why } => write!(f, "{} ({why})", self.as_str()),
        }
    }
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

    /// The slot's number, as the kernel programs' log lines name it; 0 when the kernel does not enforce.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// The kernel programs and tables of this bmpd. Clones share them; when the last one goes, the programs are detached.
#[derive(Clone)]
pub struct Datapath {
    inner: Arc<Inner>,
}

struct Inner {
    /// `SO_NETNS_COOKIE` of the namespace that the datapath was loaded in; 0 without kernel enforcement.
    netns: u64,
    enforcement: Enforcement,
    kernel: Option<Mutex<Kernel>>,
}

impl Datapath {
    /// Loads the programs and attaches them to the cgroup v2 root.
    ///
    /// The network namespace that the calling thread is in is the one whose connections are pinned. What the programs log goes to `log`
    /// by a task of the calling thread's tokio runtime; without a runtime it is not read.
    ///
    /// # Errors
    ///
    /// With [`Mode::Ebpf`], what was refused and what to do about it. [`Mode::Auto`] falls back to [`Enforcement::Socket`] instead.
    pub fn load(options: &Options) -> anyhow::Result<Self> {
        if options.mode == Mode::Socket {
            return Ok(Self::socket("--datapath socket".to_owned()));
        }
        match Self::kernel(options) {
            Ok(datapath) => Ok(datapath),
            Err(error) if options.mode == Mode::Auto => Ok(Self::socket(format!("{error:#}"))),
            Err(error) => {
                Err(error
                    .context("the kernel does not enforce (to run without, use --datapath auto or --datapath socket)"))
            }
        }
    }

    fn kernel(options: &Options) -> anyhow::Result<Self> {
        let netns =
            netns_cookie().context("cannot read this network namespace's cookie (Linux 5.14 or later has it)")?;
        let kernel = Kernel::load(options.cgroup.as_deref())?;
        Ok(Self {
            inner: Arc::new(Inner { netns, enforcement: Enforcement::Kernel, kernel: Some(Mutex::new(kernel)) }),
        })
    }

    fn socket(why: String) -> Self {
        Self { inner: Arc::new(Inner { netns: 0, enforcement: Enforcement::Socket { why }, kernel: None }) }
    }

    /// Who holds sessions to their pins.
    pub fn enforcement(&self) -> &Enforcement {
        &self.inner.enforcement
    }

    /// The key of a session to this station in the datapath's namespace, outside any VRF. An IPv4-mapped address is an IPv4 one.
    pub fn key(&self, station: SocketAddr) -> PinKey {
        let mut address = [0; 16];
        let family = match station.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                address[..4].copy_from_slice(&[a, b, c, d]);
                FAMILY_IPV4
            }
            IpAddr::V6(ip) => {
                address = ip.octets();
                FAMILY_IPV6
            }
        };
        PinKey { netns: self.inner.netns, vrf: 0, family, port: station.port(), station: address }
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
        match self.tables() {
            Some(mut kernel) => kernel.place(pin),
            None => Ok(Slot::NONE),
        }
    }

    /// Puts the pin of a slot in force for the connections of a key that are made from now on.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write; the key then has the slot that it had.
    pub fn point(&self, key: &PinKey, slot: &Slot) -> anyhow::Result<()> {
        match self.tables() {
            Some(mut kernel) => kernel.point(key, slot),
            None => Ok(()),
        }
    }

    /// Takes a key's pin out of force, if it is that of this slot: new connections of it go where they like. Slots stay, with the sockets
    /// under them.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write. A key that leads nowhere, or to another slot, is no error.
    pub fn remove(&self, key: &PinKey, slot: &Slot) -> anyhow::Result<()> {
        match self.tables() {
            Some(mut kernel) => kernel.remove(key, slot),
            None => Ok(()),
        }
    }

    /// Gives a slot back and returns the last reading of its counters.
    ///
    /// A socket that is still under it can send nothing any more; what it tries to send is counted in [`Self::stale`]. A key that still leads
    /// to the slot has no pin any more.
    pub fn free(&self, slot: Slot) -> Counters {
        self.tables().map(|mut kernel| kernel.free(&slot)).unwrap_or_default()
    }

    /// What was counted for a slot so far, on all CPUs.
    pub fn counters(&self, slot: &Slot) -> Counters {
        self.tables().map(|kernel| kernel.counters(slot.number)).unwrap_or_default()
    }

    /// What was denied to sockets whose slot has been freed since, on all CPUs.
    pub fn stale(&self) -> Counters {
        self.tables().map(|kernel| kernel.counters(NO_SLOT)).unwrap_or_default()
    }

    /// Marks a socket as opened by bmpd itself, so that its traffic counts as the session's own. Call it before `connect`.
    ///
    /// # Errors
    ///
    /// The descriptor is not a socket, or the kernel has no memory for the mark.
    pub fn claim(&self, socket: &impl AsRawFd) -> anyhow::Result<()> {
        match self.tables() {
            Some(mut kernel) => kernel.claim(socket),
            None => Ok(()),
        }
    }

    /// Changes a pin in place, as nothing but a test would.
    #[cfg(test)]
    fn overwrite(&self, slot: &Slot, pin: Pin) {
        self.tables().unwrap().overwrite(slot, pin);
    }

    /// The slot that the kernel's own table names for a key.
    #[cfg(test)]
    fn slot_of(&self, key: &PinKey) -> Option<u32> {
        self.tables().unwrap().slot_of(key)
    }

    fn tables(&self) -> Option<MutexGuard<'_, Kernel>> {
        // Nothing under this lock leaves the tables half written by a panic.
        Some(self.inner.kernel.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datapath")
            .field("netns", &self.inner.netns)
            .field("enforcement", &self.inner.enforcement)
            .finish()
    }
}

/// The cookie of the calling thread's network namespace (`SO_NETNS_COOKIE`, asm-generic/socket.h).
fn netns_cookie() -> io::Result<u64> {
    /// Of the C library's headers only the newest have it.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = UnixDatagram::unbound()?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the value is eight bytes, as `length` says, and the socket is open.
    let refused = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if refused == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Tells that a reading or a write that cannot fail has failed.
fn unexpected(what: &str, slot: u32, error: &dyn std::error::Error) {
    warn!("slot {slot}: {what}: {error}");
}
