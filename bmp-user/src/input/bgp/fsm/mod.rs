//! The finite state machine of RFC 4271 §8 for one connection: events in, actions out. It has no
//! sockets and reads no clock.
//!
//! A peer has two machines, one for the connection that this device opens and one for the
//! connection that the peer opens. [`MachinePair`] holds both and resolves collisions between them
//! (§6.8).
//!
//! * `state`: the states. `event`: events and actions. `timers`: when a machine wakes up.
//! * `machine`: what all states share. `states`: what each state does with each event.
//! * `pair`: the two machines of a peer.
//!
//! Of the optional attributes, the machine implements DampPeerOscillations (§8.1.1) with its
//! IdleHoldTimer, and PassiveTcpEstablishment for connections that the peer opens. It implements
//! neither CollisionDetectEstablishedState nor DelayOpen.

mod event;
mod machine;
mod pair;
mod state;
mod states;
#[cfg(test)]
mod tests;
mod timers;

pub(super) use event::{COLLISION, FsmAction, FsmEvent, OutgoingNotification, SessionEnd};
pub(super) use machine::{FsmSettings, IdleHoldTime, NegotiatedTimers};
pub(super) use pair::{Admission, ConnectionStep, Initiator, MachinePair};
pub use state::BgpState;
