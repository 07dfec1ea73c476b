//! What most tests begin with: bmpd on the router with one session, its station, and captures on both uplinks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;

use crate::{
    bgp::{Prefix, prefixes},
    bmp::{self, Peer},
    bmpd::{Bmpd, Options},
    capture::{Capture, Direction, Packet},
    feeder::Feeder,
    station::{Connection, Station},
    topology::{STATION, STATION_PORT, Topology},
    wait::{PATIENCE, until},
};

/// Where the relay of every trial listens.
pub const RELAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// Ports of further stations at the address of the plan's own, from here on.
pub const FURTHER_PORTS: u16 = 12_001;

/// Lines of the BMP view: so many more sessions to the usual station's address, each with these lines in its view.
pub fn further_sessions(count: u16, lines: &str) -> String {
    let session = |number| {
        format!(
            "bmp-session {STATION} alias s{number}\n  tcp connect port {}\n{lines}\n quit\n",
            FURTHER_PORTS + number
        )
    };
    (0..count).map(session).collect()
}

/// What a trial begins with. Views are lines of configuration; the relay and the session's port are there already.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The station's address.
    pub station: IpAddr,
    /// Lines of the system view.
    pub system: &'a str,
    /// Lines of the BMP view.
    pub bmp: &'a str,
    /// Lines of the session view.
    pub session: &'a str,
    /// How bmpd is started.
    pub options: Options<'a>,
    /// Packets cross the links as on a wire, without segmentation offload.
    pub without_offload: bool,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        let options = Options { arguments: &[], through: &[] };
        Self { station: STATION, system: "", bmp: "", session: "", options, without_offload: false }
    }
}

impl Plan<'_> {
    /// A session to the usual station with these lines in its view.
    pub fn session(session: &str) -> Plan<'_> {
        Plan { session, ..Plan::default() }
    }

    /// The whole configuration.
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

    /// Makes the topology and starts station, captures and bmpd. The session need not be up yet.
    pub fn start(&self) -> Trial {
        let topology = if self.without_offload { Topology::without_offload() } else { Topology::new() };
        self.start_on(topology)
    }

    /// The same on a topology that the test has prepared.
    pub fn start_on(&self, topology: Topology) -> Trial {
        let station = Station::start(&topology.station, (self.station, STATION_PORT));
        let up1 = Capture::start(&topology.router, "up1", STATION_PORT);
        let up2 = Capture::start(&topology.router, "up2", STATION_PORT);
        let bmpd = Bmpd::start_with(&topology.router, &self.configuration(), &self.options);
        Trial { bmpd, station, up1, up2, topology }
    }

    /// The same, and waits until the session is up at both ends.
    pub fn start_up(&self) -> Trial {
        let trial = self.start();
        // What is fed from now on is passed on as it comes, and not in a dump.
        trial.bmpd.wait_session(self.station, "following", |session| session["phase"] == "following");
        trial.station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
        trial
    }
}

/// A running trial. The captures began before bmpd did.
#[derive(Debug)]
pub struct Trial {
    /// The program under test.
    pub bmpd: Bmpd,
    /// The station.
    pub station: Station,
    /// Every packet from or to the station's port on `up1`.
    pub up1: Capture,
    /// The same on `up2`.
    pub up2: Capture,
    /// The hosts.
    pub topology: Topology,
}

impl Trial {
    /// Waits until the only BGP peer is established.
    pub fn wait_peer_established(&self) {
        until("the peer is established", 3 * PATIENCE, || {
            self.bmpd.display("display bgp peer").contains("Established").then_some(())
        });
    }

    /// A local daemon with one peer, connected to the relay.
    pub fn feeder(&self) -> Feeder {
        Feeder::with_peer(&self.topology.router, RELAY, &Peer::default())
    }

    /// The session's JSON and the packets captured on `link` before it was asked for, where none was captured meanwhile: what the
    /// kernel has counted of them is in the one as they are in the other.
    pub fn at_rest(&self, link: &Capture) -> (Value, Vec<Packet>) {
        let station = self.station.address().ip();
        until("bmpd and capture are at rest", PATIENCE, || {
            let before = link.packets();
            let session = self.bmpd.session(station);
            (link.count() == before.len()).then_some((session, before))
        })
    }

    /// Feeds `count` routes, one a message, and waits until connection `index` of the station has all of them.
    pub fn routes_arrive(&self, feeder: &mut Feeder, count: usize, index: usize) -> Connection {
        let before = self.station.connections().get(index).map_or(0, Connection::announced);
        let routes: Vec<Prefix> = prefixes(count);
        feeder.announce(&Peer::default(), &routes, 1);
        self.station.wait_connection(index, &format!("{count} more routes"), |c| c.announced() >= before + count)
    }
}

/// The packets that left the host.
pub fn outgoing(packets: &[Packet]) -> Vec<&Packet> {
    packets.iter().filter(|packet| packet.direction == Direction::Out).collect()
}

/// The packets that left by a link which their session must not leave by.
///
/// A bare acknowledgement of an IPv6 session is none of them: after the side that closed first has got the other's FIN, its last
/// acknowledgement comes from a TIME_WAIT entry, which is no socket. IPv6 routes that as if nothing were bound
/// (ip6_route_output_flags), and no program of a cgroup sees it. IPv4 keeps to the interface.
pub fn strays(packets: &[Packet]) -> Vec<&Packet> {
    let bare = |p: &&Packet| p.ack && p.payload_bytes == 0 && !p.syn && !p.fin && !p.rst;
    outgoing(packets).into_iter().filter(|p| p.source.is_ipv4() || !bare(p)).collect()
}

/// Asserts that a capture saw the session of `connection` leave, and that nothing left on the other link for its station.
///
/// # Panics
/// If that is not so.
pub fn assert_left_only_by(here: &Capture, there: &Capture, connection: &Connection) {
    let (here, there) = (here.packets(), there.packets());
    let session = here.iter().filter(|p| p.direction == Direction::Out && p.source == connection.peer);
    let payload: u64 = session.map(|packet| packet.payload_bytes).sum();
    assert!(
        payload >= connection.bytes,
        "{payload} bytes of the session from {} were captured where it should leave, the station has {}",
        connection.peer,
        connection.bytes
    );
    assert_eq!(strays(&there), Vec::<&Packet>::new(), "packets left by the other link");
}
