//! The kernel's side: programs and tables, loaded, attached, written, read and watched.
//!
//! The rest of bmpd sees a [`Datapath`]. Programs and tables are pinned in a BPF file system and
//! outlive bmpd, unless [`Datapath::detach`] removes them: the pins of a bmpd that is killed stay
//! in force, and the next one takes them over in place.
//!
//! From the top down:
//!
//! * `datapath`: the handle; `events`: the ring of events; `options`, `target`: what both
//!   speak of.
//! * `loaded`: programs and tables in the kernel, with `retry`, `health` and `held` (what is lost,
//!   and what is held open to put it back).
//! * `inspect`: what of the kernel could be used.
//! * `load`: loading and attaching, or taking over; `object`: the object file; `room`: the sizes of
//!   tables; `log`: the programs' log.
//! * `tables`, `tags`, `vrfs`, `xdp_guards`: the tables, by purpose; `written`: a table with a copy
//!   of what bmpd wrote; `slots`: which slots are taken; `counters`: sums over CPUs.
//! * `home`: the folder in the BPF file system, and `prepare`, which gives it to a user; `cgroup`,
//!   `occupied`: the cgroup; `mounts`, `bpf`: the system calls below.

mod bpf;
mod cgroup;
mod counters;
mod datapath;
mod events;
mod health;
mod held;
mod home;
mod inspect;
mod load;
mod loaded;
mod log;
mod mounts;
mod object;
mod occupied;
mod options;
mod prepare;
mod retry;
mod room;
mod slots;
mod tables;
mod tags;
mod target;
#[cfg(test)]
mod tests;
mod vrfs;
mod written;
mod xdp_guards;

pub use datapath::{Datapath, detach, pinned_in};
pub use events::{ConnectRefusal, Events, Occurrence, SocketChange, SocketEvent};
pub use health::Loss;
pub(super) use health::{LOOK, Mended};
pub use home::DEFAULT_BPFFS;
pub use inspect::{KernelInspection, inspect};
pub use options::{DatapathMode, DatapathOptions, Enforcement};
pub use prepare::prepare;
pub(super) use retry::AGAIN;
pub use room::Room;
pub use slots::{Inherited, PinSlot};
pub use target::{PinTarget, Role, SocketOwner};
pub use xdp_guards::{Hook, NoGuard};
