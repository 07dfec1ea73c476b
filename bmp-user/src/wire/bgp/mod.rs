//! BGP-4 (RFC 4271), as far as bmpd needs it to receive routes and to pass them on.
//!
//! A *frame* is a message as it stands in the stream, header included. [`frames`] finds whole
//! frames in a buffer. [`Message::parse`] reads one frame, [`Update`] an UPDATE. The module of each
//! message has a `build` that appends a whole frame to a buffer.
//!
//! Routes stay bytes: [`nlri`] splits them, [`identity`] tells them apart, and [`Reading`] finds
//! out how they are written.

mod as_path;
mod attribute;
pub mod build;
pub mod capability;
mod community;
mod error;
mod error_code;
mod family;
mod frame;
mod header;
mod message;
mod negotiation;
mod nlri;
mod nlri_prefix;
pub mod notification;
pub mod open;
mod reading;
pub mod route_refresh;
#[cfg(test)]
mod tests;
mod update;

pub use as_path::AsPath;
pub use attribute::{Attribute, Attributes, as_path_size, attribute_flags, attribute_type, attributes};
pub use capability::{Capabilities, Capability};
pub use community::{CommunityOwner, CommunityPart, CommunityPattern, NoCommunity};
pub use error::{Error, Problem};
pub use family::Family;
pub use frame::{Frame, Frames, frames, keepalive, update_header};
pub use header::{HEADER, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, MessageType};
pub use message::Message;
pub use negotiation::Negotiation;
pub use nlri::{
    Form, NlriIdentity, Nlris, PATH_ID, WITHDRAWN_LABEL, identity, nlri, put_withdrawal, with_withdrawn_label,
    without_trailing_bits,
};
pub use nlri_prefix::{NlriPrefix, PrefixBits};
pub use notification::Notification;
pub use open::Open;
pub use reading::{Fit, Reading};
pub use route_refresh::RouteRefresh;
pub use update::{Reach, RouteField, Unreach, Update};
