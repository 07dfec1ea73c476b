//! From `connect-interface` to what the kernel enforces: the effective source and egress of each session, the kernel tables
//! that hold them, and what the kernel counted.

mod datapath;
mod reason;
mod resolve;

pub use datapath::{Datapath, Enforcement, Mode, Options, Slot};
pub use reason::Reason;
pub use resolve::{Given, Resolved, Rule, Unresolved, in_force, resolve};
