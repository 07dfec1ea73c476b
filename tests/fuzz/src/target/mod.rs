//! The targets: each takes bytes, and panics if a property does not hold.

mod bgp;
mod bmp;
mod certificate;
mod config;
mod control;
mod feed;
mod keychain;
mod mrt;
mod proxy;
mod replay;
mod tls;
mod update;

pub use bgp::bgp;
pub use bmp::bmp;
pub use certificate::certificate;
pub use config::config;
pub use control::control;
pub use feed::{HistoryStep, feed};
pub use keychain::keychain;
pub use mrt::mrt;
pub use proxy::proxy;
pub use replay::replay;
pub use tls::tls;
pub use update::update;

/// A target.
pub type FuzzFunction = fn(&[u8]);

/// All targets, by name.
pub const ALL: [(&str, FuzzFunction); 12] = [
    ("bmp", bmp),
    ("bgp", bgp),
    ("update", update),
    ("mrt", mrt),
    ("replay", replay),
    ("config", config),
    ("control", control),
    ("keychain", keychain),
    ("certificate", certificate),
    ("tls", tls),
    ("proxy", proxy),
    ("feed", feed),
];

/// True if `part` lies inside `whole`, as borrowed data does. Equal bytes elsewhere do not count.
fn is_within(part: &[u8], whole: &[u8]) -> bool {
    let whole = whole.as_ptr_range();
    let part = part.as_ptr_range();
    part.is_empty() || whole.start <= part.start && part.end <= whole.end
}
