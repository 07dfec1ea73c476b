//! GoBGP as the local daemon: it opens a BMP session of its own, with no source configured, for bmpd to adopt.

use std::net::{Ipv4Addr, SocketAddr};

use tempfile::TempDir;

use crate::{bgp::Prefix, netns::Netns, process::Process, speaker::Speaker};

/// GoBGP's own address and AS number.
pub const GOBGP: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 255, 0, 3), 65003);
/// Its BGP peer's address and AS number.
pub const PEER: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 255, 0, 4), 65004);

/// Its API, which it insists on: a namespace has its own loopback, so that one port serves all.
const API: &str = "127.0.0.1:50051";

/// A running gobgpd with one BGP peer and one BMP station.
#[derive(Debug)]
pub struct Gobgp {
    speaker: Option<Speaker>,
    netns: Netns,
    process: Process,
    _folder: TempDir,
}

impl Gobgp {
    /// Starts gobgpd in `netns`; it connects to `station` on its own time, and again a second after it lost it.
    pub fn start(netns: &Netns, station: SocketAddr) -> Self {
        let folder = TempDir::with_prefix("lab-gobgp-").expect("a temporary folder can be made");
        let ((own, own_as), (peer, peer_as)) = (GOBGP, PEER);
        netns.ip(&format!("addr replace {own}/32 dev lo\naddr replace {peer}/32 dev lo"));
        let configuration = format!(
            r#"[global.config]
as = {own_as}
router-id = "{own}"
port = 179
local-address-list = ["{own}"]

[[bmp-servers]]
[bmp-servers.config]
address = "{}"
port = {}
route-monitoring-policy = "pre-policy"

[[neighbors]]
[neighbors.config]
neighbor-address = "{peer}"
peer-as = {peer_as}
[neighbors.transport.config]
local-address = "{own}"
passive-mode = true
[neighbors.ebgp-multihop.config]
enabled = true
multihop-ttl = 8
"#,
            station.ip(),
            station.port(),
        );
        let file = folder.path().join("gobgpd.toml");
        std::fs::write(&file, configuration).expect("a temporary file can be written");
        let process =
            Process::start(netns.command("gobgpd").arg("-f").arg(file).args(["--api-hosts", API, "--log-plain"]));
        Self { speaker: None, netns: netns.clone(), process, _folder: folder }
    }

    /// Its BGP peer announces `routes`, in a new session where one is open.
    pub fn announce(&mut self, routes: &[Prefix]) {
        self.speaker = None;
        self.speaker = Some(Speaker::announce(&self.netns, PEER.0, PEER.1, SocketAddr::from((GOBGP.0, 179)), routes));
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends gobgpd.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }
}
