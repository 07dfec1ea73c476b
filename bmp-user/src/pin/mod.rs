//! From `connect-interface` to what the kernel enforces: the effective source and egress of each session, the kernel tables
//! that hold them, and what the kernel counted.

mod asked;
mod chosen;
mod connections;
mod datapath;
mod decision;
mod foreign;
mod guard;
mod keeper;
mod overruled;
mod privilege;
mod reach;
mod reason;
mod resolve;
mod socket;
mod steer;
mod table;
mod vrfs;

pub use asked::Pinned;
pub use chosen::Chosen;
pub use connections::{Connection, Connections, Ended, Refusal, follow};
pub use datapath::{
    Change, DEFAULT_BPFFS, Datapath, Enforcement, Events, Hook, Inherited, Loss, Mode, NoGuard, Occurrence, Options,
    Owner, Refused, Role, Room, Slot, SocketEvent, Target, detach,
};
pub use decision::{in_words, target};
pub use foreign::{Foreign, Unheld};
pub(crate) use foreign::{name_of, user_of};
pub use guard::{GuardReport, GuardedInterface, Listening};
pub use keeper::{LINGER, run};
pub use privilege::require_privilege;
pub use reach::{back_on_its_way, led_astray};
pub use reason::Reason;
pub use resolve::{Question, Resolved, Rule, Unresolved, Way, absent, resolve};
pub use socket::Unbound;
pub use steer::{Steers, unsteer};
pub(crate) use table::add;
pub use table::{Current, Grant, Held, Pins, SessionPin, Standing, State};
