//! The beginning of most tests: bmpd with one session on the router, its station, and captures on
//! both uplinks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;

use crate::{
    bgp::{Ipv4Prefix, prefixes},
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, StartOptions, array},
    capture::{CapturedPacket, LinkCapture, PacketDirection},
    feeder::BmpFeeder,
    station::{RecordedConnection, TestStation},
    topology::{STATION, STATION_PORT, Topology},
    wait::{PATIENCE, until},
};

/// Address and port of the relay in every trial.
pub const RELAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// First port of further stations at the address of the first.
pub const FURTHER_PORTS: u16 = 12_001;

/// Returns lines of the BMP view: `count` more sessions to the usual address, each with `lines` in
/// its view.
pub fn further_sessions(count: u16, lines: &str) -> String {
    let session = |number| {
        format!(
            "bmp-session {STATION} alias s{number}\n  tcp connect port {}\n{lines}\n quit\n",
            FURTHER_PORTS + number
        )
    };
    (0..count).map(session).collect()
}

/// The starting conditions of a trial. The fields are lines to add: relay and port are in the
/// configuration already.
#[derive(Clone, Copy, Debug)]
pub struct TrialPlan<'a> {
    /// The station's address.
    pub station: IpAddr,
    /// Lines of the system view.
    pub system: &'a str,
    /// Lines of the BMP view.
    pub bmp: &'a str,
    /// Lines of the session view.
    pub session: &'a str,
    /// Options that bmpd starts with.
    pub options: StartOptions<'a>,
    /// Turns off segmentation offload, so that packets cross the links as on a wire.
    pub without_offload: bool,
}

impl Default for TrialPlan<'_> {
    fn default() -> Self {
        let options = StartOptions { arguments: &[], through: &[] };
        Self { station: STATION, system: "", bmp: "", session: "", options, without_offload: false }
    }
}

impl TrialPlan<'_> {
    /// Plans one session to the usual station, with these lines in its view.
    pub fn session(session: &str) -> TrialPlan<'_> {
        TrialPlan { session, ..TrialPlan::default() }
    }

    /// Returns the whole configuration.
    pub fn configuration(&self) -> String {
        let Self { station, system, bmp, session, .. } = self;
        format!(
            "sysname edge1
{system}
bmp-relay lab
 listen {} port {}
bmp
{bmp}
 bmp-session {station}
  tcp connect port {STATION_PORT}
{session}
return
",
            RELAY.ip(),
            RELAY.port()
        )
    }

    /// Makes the topology and starts station, captures and bmpd. The session may still be down.
    pub fn start(&self) -> LabTrial {
        let topology = if self.without_offload { Topology::without_offload() } else { Topology::new() };
        self.start_on(topology)
    }

    /// Starts the trial on a topology that the test has prepared.
    pub fn start_on(&self, topology: Topology) -> LabTrial {
        let station = TestStation::start(&topology.station, (self.station, STATION_PORT));
        let up1 = LinkCapture::start(&topology.router, "up1", STATION_PORT);
        let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
        let bmpd = Bmpd::start_with(&topology.router, &self.configuration(), &self.options);
        LabTrial { bmpd, station, up1, up2, topology }
    }

    /// Starts the trial and waits until the session is up at both ends.
    pub fn start_up(&self) -> LabTrial {
        let trial = self.start();
        // From here on, frames reach the station as they arrive, and not in a dump.
        trial.bmpd.wait_session(self.station, "following", |session| session["phase"] == "following");
        trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
        trial
    }
}

/// A running trial. The captures started before bmpd.
#[derive(Debug)]
pub struct LabTrial {
    /// The program under test.
    pub bmpd: Bmpd,
    /// The station.
    pub station: TestStation,
    /// Every packet from or to the station's port on `up1`.
    pub up1: LinkCapture,
    /// Every packet from or to the station's port on `up2`.
    pub up2: LinkCapture,
    /// The hosts.
    pub topology: Topology,
}

impl LabTrial {
    /// Waits until the only BGP peer is Established.
    pub fn wait_peer_established(&self) {
        until("the peer is established", 3 * PATIENCE, || {
            self.bmpd.display("display bgp peer").contains("Established").then_some(())
        });
    }

    /// Connects a local daemon with one peer to the relay.
    pub fn feeder(&self) -> BmpFeeder {
        BmpFeeder::with_peer(&self.topology.router, RELAY, &ReportedPeer::default())
    }

    /// Returns the JSON of the relay `name`.
    ///
    /// # Panics
    /// If bmpd does not display this relay.
    pub fn relay(&self, name: &str) -> Value {
        let relays = array(self.bmpd.display_json("display bmp relay"));
        relays.into_iter().find(|relay| relay["name"] == name).unwrap_or_else(|| panic!("no relay {name}"))
    }

    /// Returns the session's JSON and the packets on `link`, taken while no packet passed. So the
    /// kernel's counters and the capture describe the same packets.
    pub fn at_rest(&self, link: &LinkCapture) -> (Value, Vec<CapturedPacket>) {
        let station = self.station.address().ip();
        until("bmpd and capture are at rest", PATIENCE, || {
            let before = link.packets();
            let session = self.bmpd.session(station);
            (link.count() == before.len()).then_some((session, before))
        })
    }

    /// Feeds `count` routes, one a message, and waits until connection `index` of the station has
    /// them.
    pub fn routes_arrive(&self, feeder: &mut BmpFeeder, count: usize, index: usize) -> RecordedConnection {
        let before = self.station.connections().get(index).map_or(0, RecordedConnection::announced);
        let routes: Vec<Ipv4Prefix> = prefixes(count);
        feeder.announce(&ReportedPeer::default(), &routes, 1);
        self.station.wait_connection(index, &format!("{count} more routes"), |c| c.announced() >= before + count)
    }
}

/// Returns the packets that left the host.
pub fn outgoing(packets: &[CapturedPacket]) -> Vec<&CapturedPacket> {
    packets.iter().filter(|packet| packet.direction == PacketDirection::Out).collect()
}

/// Returns the packets that left by a link which is forbidden to their session.
///
/// Bare acknowledgements of IPv6 are exempt. The side that closes first acknowledges the other's
/// FIN from a TIME_WAIT entry, which is no socket. IPv6 routes this packet without the binding
/// (ip6_route_output_flags), and no cgroup program sees it. IPv4 keeps to the interface.
///
/// Resets without an acknowledgement are exempt, too: they answer a segment that arrives when its
/// connection has ended (RFC 9293 §3.5.2), and belong to no socket.
pub fn strays(packets: &[CapturedPacket]) -> Vec<&CapturedPacket> {
    let bare = |p: &CapturedPacket| p.ack && p.payload_bytes == 0 && !p.syn && !p.fin && !p.rst;
    let of_no_socket = |p: &CapturedPacket| p.rst && !p.ack || p.source.is_ipv6() && bare(p);
    outgoing(packets).into_iter().filter(|p| !of_no_socket(p)).collect()
}

/// Asserts that the session of `connection` left on link `here`, and nothing for its station on
/// link `there`.
///
/// # Panics
/// If either is not the case.
pub fn assert_left_only_by(here: &LinkCapture, there: &LinkCapture, connection: &RecordedConnection) {
    let (here, there) = (here.packets(), there.packets());
    let session = here.iter().filter(|p| p.direction == PacketDirection::Out && p.source == connection.peer);
    let payload: u64 = session.map(|packet| packet.payload_bytes).sum();
    assert!(
        payload >= connection.bytes,
        "{payload} bytes of the session from {} left by its link, but the station received {}",
        connection.peer,
        connection.bytes
    );
    assert_eq!(strays(&there), Vec::<&CapturedPacket>::new(), "packets of the session left by the other link");
}
