//! From `connect-interface` to what the kernel enforces.
//!
//! This module owns the kernel tables and programs, the pin of each session and BGP peer, and what
//! the kernel counted for them. It never looks at BMP or BGP messages.
//!
//! - [`plan`]: what configuration and host make of each pin; pure, but for questions about routes
//! - [`keeper`]: the task that decides, writes the tables and publishes the result
//! - [`view`], [`pins`]: what a session sees of its pin, and what it asks for
//! - [`kernel`]: the kernel programs and tables
//! - [`foreign`]: sockets of other processes
//! - [`guard`], [`guarded`]: XDP for passive sessions
//! - [`steering`]: routes of sessions with a next hop
//! - [`kernel_events`], [`connections`]: what the kernel reports of connections
//! - [`bind`]: sockets that bmpd opens under a pin
//! - [`source_choices`], [`vrfs`], [`reason`], [`earlier_connection`], [`linger`],
//!   [`privilege`]
//!
//! Modules in here name each other directly. What is re-exported below is for the rest of bmpd.

mod bind;
mod connections;
mod earlier_connection;
mod foreign;
mod guard;
mod guarded;
mod keeper;
mod kernel;
mod kernel_events;
mod linger;
mod pins;
mod plan;
mod privilege;
mod reason;
mod source_choices;
mod steering;
mod view;
mod vrfs;

pub use bind::BindError;
pub use connections::{KernelConnection, KernelConnectionEnd, KernelConnections, RefusedConnect};
pub use earlier_connection::EarlierConnection;
pub use foreign::ForeignSockets;
pub(crate) use foreign::{name_of, user_of, user_of_bound};
pub use guarded::{GuardReport, GuardedInterface, GuardedPlaces, ListenerState};
pub use keeper::run;
pub use kernel::{
    ConnectRefusal, DEFAULT_BPFFS, Datapath, DatapathMode, DatapathOptions, Enforcement, Events, Hook, Inherited,
    KernelInspection, Loss, NoGuard, Occurrence, PinSlot, PinTarget, Role, Room, SocketChange, SocketEvent,
    SocketOwner, detach, inspect, pinned_in, prepare,
};
pub use kernel_events::follow;
pub use pins::Pins;
pub use plan::{
    Grant, NextHopPath, PinQuestion, Pinned, ResolvedPin, SourceRule, absent, back_on_its_way, forecast, in_words,
    led_astray, resolve, target,
};
pub use privilege::{missing_capabilities, require_privilege};
pub use reason::{DownCause, Reason};
pub use source_choices::SourceChoices;
pub use steering::{NextHopRoutes, remove_next_hop_routes};
pub use view::{EnforcedPin, HoldDown, PinState, PinView, SessionPin, pin_changed};
