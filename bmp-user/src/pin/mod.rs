//! From `connect-interface` to what the kernel enforces: the effective source and egress of each session, the kernel tables
//! that hold them, and what the kernel counted.

mod reason;

pub use reason::Reason;
