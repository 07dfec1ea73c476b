//! FRR's bgpd as the local daemon: it reports its BGP table over BMP to a relay.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use programs::Program;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    bgp::Ipv4Prefix,
    daemons::daemon,
    netns::Netns,
    process::{ChildProgram, answer},
    speaker::LabBgpSpeaker,
    wait::{PATIENCE, until},
};

/// Address and AS number of FRR.
pub const FRR: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 255, 0, 1), 65000);
/// Address and AS number of FRR's BGP peer.
pub const PEER: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 255, 0, 2), 65001);

/// A running bgpd with one BGP peer.
#[derive(Debug)]
pub struct Frr {
    speaker: Option<LabBgpSpeaker>,
    netns: Netns,
    process: ChildProgram,
    folder: TempDir,
}

impl Frr {
    /// Starts bgpd in `netns`, feeds it `routes` from a BGP peer, and lets it connect to the relay.
    ///
    /// bgpd chooses the time of the connection, so the relay may receive the routes in a dump or
    /// one by one.
    pub fn start(netns: &Netns, relay: SocketAddr, routes: &[Ipv4Prefix]) -> Self {
        let folder = TempDir::with_prefix("lab-frr-").expect("a temporary folder can be made");
        let (own, peer) = (FRR.0, PEER.0);
        netns.ip(&format!("addr replace {own}/32 dev lo\naddr replace {peer}/32 dev lo"));
        let configuration = reporting(relay);
        std::fs::write(folder.path().join(CONFIGURATION), configuration).expect("a temporary file can be written");
        let process = run(netns, folder.path(), &["-M", "bmp", "-l", &own.to_string()]);
        let mut frr = Self { speaker: None, netns: netns.clone(), process, folder };
        frr.announce(routes);
        frr
    }

    /// Starts bgpd in `netns` with the test's own configuration and arguments, without a BGP peer
    /// of the lab.
    pub fn configured(netns: &Netns, configuration: &str, arguments: &[String]) -> Self {
        let folder = TempDir::with_prefix("lab-frr-").expect("a temporary folder can be made");
        std::fs::write(folder.path().join(CONFIGURATION), configuration).expect("a temporary file can be written");
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let process = run(netns, folder.path(), &arguments);
        Self { speaker: None, netns: netns.clone(), process, folder }
    }

    /// Announces `routes` from the BGP peer, in a new session.
    fn announce(&mut self, routes: &[Ipv4Prefix]) {
        self.speaker = None;
        self.speaker =
            Some(LabBgpSpeaker::announce(&self.netns, PEER.0, PEER.1, SocketAddr::from((FRR.0, 179)), routes));
    }

    /// Ends the session of the BGP peer with a NOTIFICATION.
    pub fn peer_down(&mut self) {
        self.speaker = None;
    }

    /// Returns every IPv4 unicast prefix in FRR's own table.
    pub fn table(&self) -> BTreeSet<String> {
        let table = show(&self.netns, self.folder.path(), "show bgp ipv4 unicast json");
        table["routes"].as_object().map(|routes| routes.keys().cloned().collect()).unwrap_or_default()
    }

    /// Waits until FRR has `count` prefixes, and returns them.
    pub fn wait_table(&self, count: usize) -> BTreeSet<String> {
        until(&format!("FRR has {count} prefixes"), PATIENCE, || {
            let table = self.table();
            (table.len() == count).then_some(table)
        })
    }

    /// Returns the process id of bgpd.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends bgpd with SIGTERM.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }
}

/// Returns the configuration of a bgpd that waits for its BGP peer and reports what the peer
/// announces to the station or relay at `to`.
pub fn reporting(to: SocketAddr) -> String {
    let ((own, own_as), (peer, peer_as)) = (FRR, PEER);
    format!(
        "hostname frr
router bgp {own_as}
 bgp router-id {own}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor {peer} remote-as {peer_as}
 neighbor {peer} passive
 neighbor {peer} disable-connected-check
 address-family ipv4 unicast
  neighbor {peer} activate
  neighbor {peer} soft-reconfiguration inbound
 exit-address-family
 bmp targets lab
  bmp connect {} port {} min-retry 100 max-retry 500
  bmp monitor ipv4 unicast pre-policy
 exit
exit
",
        to.ip(),
        to.port(),
    )
}

/// Name of the configuration file in the folder of [`run`].
pub(crate) const CONFIGURATION: &str = "bgpd.conf";

/// Starts bgpd with the configuration in `folder`. bgpd answers commands on return.
pub(crate) fn run(netns: &Netns, folder: &Path, arguments: &[&str]) -> ChildProgram {
    let mut command = netns.command(daemon(Program::Bgpd));
    // -Z, -n: without zebra and kernel. -S: as root. -P 0: without telnet.
    command.args(["-Z", "-n", "-S", "-P", "0", "--log", "stdout"]).args(arguments);
    command.arg("-f").arg(folder.join(CONFIGURATION)).arg("-i").arg(folder.join("pid")).arg("--vty_socket").arg(folder);
    let process = ChildProgram::start(&mut command);
    until("FRR takes commands", PATIENCE, || {
        vtysh(netns, folder, "show version").output().ok()?.status.success().then_some(())
    });
    process
}

/// Returns a vtysh command for the bgpd of `folder`.
pub(crate) fn vtysh(netns: &Netns, folder: &Path, command: &str) -> Command {
    let mut vtysh = netns.command(daemon(Program::Vtysh));
    vtysh.arg("--vty_socket").arg(folder).args(["-d", "bgpd", "-c", command]);
    vtysh
}

/// Returns the JSON that a vtysh command prints.
pub(crate) fn show(netns: &Netns, folder: &Path, command: &str) -> Value {
    serde_json::from_str(&answer(&mut vtysh(netns, folder, command))).expect("FRR prints JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bgp::prefixes, bmp, station::TestStation};

    #[test]
    fn frr_reports_every_route_of_its_table() {
        let netns = Netns::new("frr");
        let relay = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
        let station = TestStation::start(&netns, relay);
        let routes = prefixes(2000);
        let mut frr = Frr::start(&netns, relay, &routes);
        let table = frr.wait_table(2000);
        assert_eq!(table, routes.iter().map(ToString::to_string).collect());
        let connection = station.wait_connection(0, "every route", |c| {
            let announced = c.frames.iter().filter_map(bmp::ReceivedFrame::update).flat_map(|update| update.announced);
            announced.collect::<BTreeSet<_>>().len() == 2000
        });
        assert!(connection.has(bmp::INITIATION) && connection.has(bmp::PEER_UP));
        frr.peer_down();
        station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    }
}
