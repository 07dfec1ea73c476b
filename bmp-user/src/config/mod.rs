//! The command language, the configuration it edits, and its printed form.

mod model;

pub use model::{Bmp, Config, ConnectInterface, Relay, Session, SessionId};
