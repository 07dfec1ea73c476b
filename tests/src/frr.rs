//! FRR's bgpd as the local daemon: a BGP table, reported over BMP to a relay.

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
    bgp::Prefix,
    netns::Netns,
    process::{INSTALL, Process, answer},
    speaker::Speaker,
    wait::{PATIENCE, until},
};

/// Where Debian's package has the daemon.
/// FRR's own address and AS number.
pub const FRR: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 255, 0, 1), 65000);
/// The BGP peer's address and AS number.
pub const PEER: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 255, 0, 2), 65001);

/// A running bgpd with one BGP peer.
#[derive(Debug)]
pub struct Frr {
    speaker: Option<Speaker>,
    netns: Netns,
    process: Process,
    folder: TempDir,
}

impl Frr {
    /// Starts bgpd in `netns`, gives it `routes` from a BGP peer, and lets it connect to the relay.
    ///
    /// It connects to the relay on its own time, so the routes may reach the relay as a dump or one by one.
    pub fn start(netns: &Netns, relay: SocketAddr, routes: &[Prefix]) -> Self {
        let folder = TempDir::with_prefix("lab-frr-").expect("a temporary folder can be made");
        let ((own, own_as), (peer, peer_as)) = (FRR, PEER);
        netns.ip(&format!("addr replace {own}/32 dev lo\naddr replace {peer}/32 dev lo"));
        let configuration = format!(
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
            relay.ip(),
            relay.port(),
        );
        std::fs::write(folder.path().join(CONFIGURATION), configuration).expect("a temporary file can be written");
        let process = run(netns, folder.path(), &["-M", "bmp", "-l", &own.to_string()]);
        let mut frr = Self { speaker: None, netns: netns.clone(), process, folder };
        frr.announce(routes);
        frr
    }

    /// Starts bgpd in `netns` with a configuration and arguments of the test's own. It has no BGP
    /// peer of the lab.
    pub fn configured(netns: &Netns, configuration: &str, arguments: &[String]) -> Self {
        let folder = TempDir::with_prefix("lab-frr-").expect("a temporary folder can be made");
        std::fs::write(folder.path().join(CONFIGURATION), configuration).expect("a temporary file can be written");
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let process = run(netns, folder.path(), &arguments);
        Self { speaker: None, netns: netns.clone(), process, folder }
    }

    /// The BGP peer announces `routes`, in a new session where one is open.
    fn announce(&mut self, routes: &[Prefix]) {
        self.speaker = None;
        self.speaker = Some(Speaker::announce(&self.netns, PEER.0, PEER.1, SocketAddr::from((FRR.0, 179)), routes));
    }

    /// The BGP peer goes away, with a NOTIFICATION.
    pub fn peer_down(&mut self) {
        self.speaker = None;
    }

    /// Every IPv4 unicast prefix that FRR itself says it holds.
    pub fn table(&self) -> BTreeSet<String> {
        let table = show(&self.netns, self.folder.path(), "show bgp ipv4 unicast json");
        table["routes"].as_object().map(|routes| routes.keys().cloned().collect()).unwrap_or_default()
    }

    /// Waits until FRR holds `count` prefixes, and returns them.
    pub fn wait_table(&self, count: usize) -> BTreeSet<String> {
        until(&format!("FRR holds {count} prefixes"), PATIENCE, || {
            let table = self.table();
            (table.len() == count).then_some(table)
        })
    }

    /// bgpd's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends bgpd.
    pub fn terminate(&mut self) {
        self.process.terminate();
    }
}

/// The configuration file in the folder that [`run`] is given.
pub(crate) const CONFIGURATION: &str = "bgpd.conf";

/// Starts bgpd with the configuration in `folder`; it takes commands when this returns.
pub(crate) fn run(netns: &Netns, folder: &Path, arguments: &[&str]) -> Process {
    assert!(Program::Bgpd.find().is_some(), "there is no {}{INSTALL}", Program::Bgpd.file());
    let mut command = netns.command(Program::Bgpd);
    // -Z, -n: neither zebra nor the kernel; -S: as root, in a folder of our own; -P 0: no telnet.
    command.args(["-Z", "-n", "-S", "-P", "0", "--log", "stdout"]).args(arguments);
    command.arg("-f").arg(folder.join(CONFIGURATION)).arg("-i").arg(folder.join("pid")).arg("--vty_socket").arg(folder);
    let process = Process::start(&mut command);
    until("FRR takes commands", PATIENCE, || {
        vtysh(netns, folder, "show version").output().ok()?.status.success().then_some(())
    });
    process
}

/// A command for the bgpd of that folder.
pub(crate) fn vtysh(netns: &Netns, folder: &Path, command: &str) -> Command {
    let mut vtysh = netns.command(Program::Vtysh);
    vtysh.arg("--vty_socket").arg(folder).args(["-d", "bgpd", "-c", command]);
    vtysh
}

/// What it answers, where that is JSON.
pub(crate) fn show(netns: &Netns, folder: &Path, command: &str) -> Value {
    serde_json::from_str(&answer(&mut vtysh(netns, folder, command))).expect("FRR prints JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bgp::prefixes, bmp, station::Station};

    #[test]
    fn frr_holds_the_table_and_reports_every_route_of_it() {
        let netns = Netns::new("frr");
        let relay = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
        let station = Station::start(&netns, relay);
        let routes = prefixes(2000);
        let mut frr = Frr::start(&netns, relay, &routes);
        let table = frr.wait_table(2000);
        assert_eq!(table, routes.iter().map(ToString::to_string).collect());
        let connection = station.wait_connection(0, "every route", |c| {
            let announced = c.frames.iter().filter_map(bmp::Frame::update).flat_map(|update| update.announced);
            announced.collect::<BTreeSet<_>>().len() == 2000
        });
        assert!(connection.has(bmp::INITIATION) && connection.has(bmp::PEER_UP));
        frr.peer_down();
        station.wait_connection(0, "Peer Down", |c| c.has(bmp::PEER_DOWN));
    }
}
