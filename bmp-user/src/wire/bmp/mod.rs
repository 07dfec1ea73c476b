//! BMP version 3: RFC 7854, with Loc-RIB (RFC 9069) and the Peer Up namespace of RFC 9736.
//!
//! A *frame* is a message as it stands in the stream, common header included.
//!
//! * [`frames`] finds whole frames in a buffer by version and length.
//! * [`BmpChunk`] has frames that are known to be whole.
//! * [`Message::parse`] reads one frame. The UPDATE in a Route Monitoring and mirrored messages
//!   stay opaque.
//! * [`build`] writes the messages that bmpd sends in its own name.

pub mod build;
mod chunk;
mod error;
mod frame;
mod header;
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
pub use frame::{Frame, Frames, frames};
pub use header::{COMMON_HEADER, MAX_FRAME, MessageType, PER_PEER_HEADER, VERSION};
pub use message::{Initiation, Message, PeerDown, PeerUp, Termination, peer_down_reason, termination_reason};
pub use peer::{PeerHeader, PeerIdentity, PeerKey, PeerType, RibView, RouteDistinguisher, peer_flags};
pub use statistics::{Statistic, StatisticType};
pub use tlv::{Tlv, Tlvs, tlv_type};
