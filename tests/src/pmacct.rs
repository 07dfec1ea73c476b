//! pmacct's pmbmpd as a station of another project. It logs every message as JSON.

use std::{net::SocketAddr, time::Duration};

use programs::Program;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    netns::Netns,
    process::ChildProgram,
    wait::{PATIENCE, until},
};

/// A running pmbmpd.
#[derive(Debug)]
pub struct Pmbmpd {
    process: ChildProgram,
    folder: TempDir,
}

impl Pmbmpd {
    /// Starts pmbmpd in `netns`. It listens on `address` on return.
    pub fn start(netns: &Netns, address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        let folder = TempDir::with_prefix("lab-pmbmpd-").expect("a temporary folder can be made");
        let configuration = format!(
            "daemonize: false
bmp_daemon_ip: {}
bmp_daemon_port: {}
bmp_daemon_max_peers: 8
bmp_daemon_msglog_file: {}/messages.json
bmp_daemon_msglog_output: json
",
            address.ip(),
            address.port(),
            folder.path().display()
        );
        let file = folder.path().join("pmbmpd.conf");
        std::fs::write(&file, configuration).expect("a temporary file can be written");
        let process = ChildProgram::start(netns.command(Program::Pmbmpd).arg("-f").arg(file));
        let pmbmpd = Self { process, folder };
        pmbmpd.process.wait_for_line("that it listens", 0, PATIENCE, |line| line.contains("waiting for BMP data"));
        pmbmpd
    }

    /// Returns every complete line of its message log so far.
    pub fn messages(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.folder.path().join("messages.json")).unwrap_or_default();
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Returns its warnings and errors: messages that it refuses or does not understand.
    pub fn complaints(&self) -> Vec<String> {
        let lines = self.process.lines().into_iter();
        lines.filter(|line| line.starts_with("WARN") || line.starts_with("ERROR")).collect()
    }

    /// Waits until `look` finds something in the message log.
    ///
    /// # Panics
    /// After `patience`, with `what` as the missing entry.
    pub fn wait_for<R>(&self, what: &str, patience: Duration, mut look: impl FnMut(&[Value]) -> Option<R>) -> R {
        until(&format!("pmbmpd logs {what}"), patience, || look(&self.messages()))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::Ipv4Addr, net::TcpStream};

    use super::*;
    use crate::{
        bgp::prefixes,
        bmp::{self, ReportedPeer},
    };

    #[test]
    fn pmbmpd_logs_the_messages_of_the_lab() {
        let netns = Netns::new("collector");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 11019));
        let collector = Pmbmpd::start(&netns, address);
        let mut stream = netns.enter(|| TcpStream::connect(address)).unwrap();
        let peer = ReportedPeer::default();
        stream.write_all(&[bmp::initiation("here"), bmp::peer_up(&peer)].concat()).unwrap();
        stream.write_all(&bmp::announcements(&peer, &prefixes(10), 1).concat()).unwrap();
        collector.wait_for("ten prefixes", PATIENCE, |messages| {
            let prefixes = messages.iter().filter(|m| m["bmp_router"] == "127.0.0.1" && m["ip_prefix"].is_string());
            (prefixes.count() == 10).then_some(())
        });
    }
}
