//! bmpd keeps BMP sessions (RFC 7854) on the interface and source address that an operator names.
//!
//! # Layout
//!
//! ```text
//! routers, daemons, files ──▶ input ──▶ feed ──▶ session ──▶ socket ──▶ BMP station
//!                                                 ▲             ▲
//!   bmpctl ──▶ control, config                    │             │ binds, limits, counts
//!                                    link ──▶    pin ──▶ kernel programs (`bmp-ebpf`)
//! ```
//!
//! The rooms, in the direction of the data:
//!
//! * [`wire`]: parsers and builders of BGP, BMP and MRT messages. Bytes only, no sockets.
//! * [`input`]: where routes come from. `bgp` peers with routers, `relay` accepts BMP of local
//!   daemons, `mrt` replays files.
//! * [`feed`]: the routes of every peer, and the journal of BMP frames that every session follows.
//! * [`session`]: one task a BMP station. It connects, sends the feed and backs off.
//! * [`pin`]: interface and source of each session, and the kernel programs that enforce them.
//! * [`link`]: interfaces, addresses and routes of this host, read and watched over netlink.
//! * [`config`]: the command language, the model of a configuration, the file.
//! * [`control`]: the control socket, commits and every `display` command.
//! * [`doctor`]: what on this host would keep a session from working.
//! * [`http`]: metrics, health, JSON and the status page, for whoever may connect.
//! * [`agent`]: starts the tasks above, connects them, and ends them in order.
//! * [`command_line`]: the arguments of the programs.
//!
//! Small modules serve all of these rooms:
//!
//! * [`tasks`]: the only place that starts a task or a thread.
//! * `notify`: what a service manager is told.
//! * [`sandbox`]: the rights that bmpd gives up once it has started.
//! * [`log`]: the log, with limits on repeated lines.
//! * [`escape`]: text from outside, made safe for logs and terminals.
//! * `listening`: a listening TCP socket for clients.
//! * `visitors`: how many connections clients may hold.
//! * `signing`: the keys of key chains on TCP sockets, and when they change.
//! * `exposure`: whether another user can change a path that bmpd relies on.
//! * `replace`: files that are replaced whole or not at all.
//! * `sys`: system calls that no library of ours offers.

pub mod agent;
pub mod command_line;
pub mod config;
pub mod control;
pub mod doctor;
pub mod escape;
mod exposure;
pub mod feed;
pub mod http;
pub mod input;
pub mod link;
mod listening;
pub mod log;
mod notify;
pub mod pin;
mod replace;
pub mod sandbox;
pub mod session;
mod signing;
mod sys;
pub mod tasks;
pub mod tls;
mod visitors;
pub mod wire;

pub use replace::replace_file;
