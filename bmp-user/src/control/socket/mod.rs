//! The control socket: the server in bmpd, the client in bmpctl, and the JSON lines between them.

mod access;
mod admission;
mod client;
mod protocol;
mod server;

pub use access::{AccessGroups, OperatorRole};
pub use client::{Client, NoDaemon, Notices, ask};
pub use protocol::{CommandAnswer, DEFAULT_PATH, LINE_MAX, Origin, Request, RequestMode, Response};
pub use server::{ControlSocket, serve};
