//! BMP version 3: RFC 7854, with Loc-RIB (RFC 9069) and the Peer Up namespace of RFC 9736.
//!
//! A message as it stands in the stream, common header included, is called a frame here. [`frames`] finds the whole ones in a
//! buffer, and looks at version and length alone; [`Message::parse`] reads one, and [`build`] writes the few that bmpd itself has to say. Route Monitoring and
//! mirrored messages stay opaque: they are passed on, not understood.

pub mod build;
mod chunk;
mod error;
mod frame;
mod message;
mod peer;
#[cfg(test)]
pub(crate) mod samples;
pub mod statistics;
#[cfg(test)]
mod tests;
mod tlv;

pub use chunk::{BmpChunk, ChunkEnd, TakenChunk, WholeFrames, check, whole_frames};
pub use error::{Error, Problem};
pub use frame::{COMMON_HEADER, Frame, Frames, MAX_FRAME, MessageType, VERSION, frames};
pub use message::{Initiation, Message, PeerDown, PeerUp, Termination, peer_down_reason, termination_reason};
pub use peer::{PER_PEER_HEADER, PeerHeader, PeerIdentity, PeerKey, PeerType, RibView, peer_flags};
pub use statistics::{Statistic, StatisticType};
pub use tlv::{Tlv, Tlvs, tlv_type};
