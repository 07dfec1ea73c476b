//! The control socket: the server in bmpd, the client in bmpctl, and the JSON lines between them.

mod client;
mod clients;
mod pieces;
mod protocol;
mod server;

pub use client::{Client, Notices, ask};
pub use protocol::{DEFAULT_PATH, LINE_MAX, Mode, Origin, Outcome, Request, Response};
pub use server::{ControlSocket, serve};
