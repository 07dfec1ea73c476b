//! haproxy(1), a load balancer that sends PROXY headers.

use std::net::SocketAddr;

use programs::Program;
use tempfile::TempDir;

use crate::{netns::Netns, process::ChildProgram};

/// A running HAProxy.
#[derive(Debug)]
pub struct Haproxy {
    process: ChildProgram,
    _folder: TempDir,
}

impl Haproxy {
    /// Starts HAProxy, which takes connections on some addresses and opens one to `to` for each.
    /// `server` is what its configuration says of `to`, such as `send-proxy`. HAProxy may not
    /// listen yet on return.
    pub fn start(netns: &Netns, from: &[SocketAddr], to: SocketAddr, server: &str) -> Self {
        let folder = TempDir::with_prefix("lab-haproxy-").expect("a temporary folder can be made");
        let binds: String = from.iter().map(|address| format!(" bind {address}\n")).collect();
        let configuration = format!(
            "global
 maxconn 200
defaults
 mode tcp
 timeout connect 5s
 timeout client 1h
 timeout server 1h
frontend routers
{binds} default_backend relay
backend relay
 server bmpd {to} {server}
"
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, configuration).expect("a temporary file can be written");
        let process = ChildProgram::start(netns.command(Program::Haproxy).arg("-db").arg("-f").arg(file));
        Self { process, _folder: folder }
    }

    /// Returns what it has written.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }
}
