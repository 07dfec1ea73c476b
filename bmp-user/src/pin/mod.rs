//! From `connect-interface` to what the kernel enforces: the effective source and egress of each session, the kernel tables
//! that hold them, and what the kernel counted.

mod datapath;
mod privilege;
mod reason;
mod resolve;
mod table;

pub use datapath::{Datapath, Enforcement, Mode, Options, Slot};
pub use privilege::require_privilege;
pub use reason::Reason;
pub use resolve::{Resolved, Unresolved, resolve};
pub use table::{Grant, LINGER, Pins, SessionPin, State, run};
