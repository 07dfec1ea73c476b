//! From `connect-interface` to what the kernel enforces: the effective source and egress of each session, the kernel tables
//! that hold them, and what the kernel counted.

mod datapath;
mod keeper;
mod privilege;
mod reason;
mod resolve;
mod table;

pub use datapath::{
    Change, DEFAULT_BPFFS, Datapath, Enforcement, Events, Inherited, Mode, Occurrence, Options, Owner, Refused, Role,
    Slot, SocketEvent, Target, detach,
};
pub use keeper::{LINGER, run};
pub use privilege::require_privilege;
pub use reason::Reason;
pub use resolve::{Resolved, Rule, Unresolved, resolve};
pub use table::{Grant, Pins, SessionPin, State};
