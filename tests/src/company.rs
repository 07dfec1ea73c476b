//! One session of each IP version for a change to hit, beside bystander sessions that must not
//! notice.
//!
//! The subjects are the sessions to the usual stations. The bystanders leave by `up1`: one of each
//! IP version is pinned to it, and one has the loopback address as source, which routing sends
//! there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::{
    bgp::prefixes,
    bmp::{self, ReportedPeer},
    bmpd::Bmpd,
    capture::{CapturedPacket, LinkCapture},
    feeder::BmpFeeder,
    station::{RecordedConnection, RecordedEnd, TestStation},
    topology::{STATION, STATION_2, STATION_PORT, STATION_V6, Topology},
    trial::{RELAY, outgoing, strays},
    wait::PATIENCE,
};

/// Station of the bystander with the loopback address.
const STATION_LO: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9));
/// Station of the IPv6 bystander.
const STATION_V6_2: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 8));

/// Stations of the bystanders, and the lines of their session views.
const OTHERS: [(IpAddr, &str); 3] = [
    (STATION_2, "connect-interface up1"),
    (STATION_V6_2, "connect-interface up1"),
    (STATION_LO, "connect-interface 203.0.113.1"),
];

/// Two subjects and three bystanders, all up.
#[derive(Debug)]
pub struct Company {
    /// The program under test.
    pub bmpd: Bmpd,
    /// Stations of the subjects, IPv4 first.
    pub subjects: [TestStation; 2],
    others: Vec<TestStation>,
    /// Every packet from or to the usual port on `up1`.
    pub up1: LinkCapture,
    /// Every packet from or to the usual port on `up2`.
    pub up2: LinkCapture,
    feeder: BmpFeeder,
    /// The hosts.
    pub topology: Topology,
}

impl Company {
    /// Starts everything, with these lines in the subjects' views and `bmp` in the BMP view. All
    /// sessions are up on return.
    pub fn start(bmp: &str, subjects: [&str; 2]) -> Self {
        Self::start_on(Topology::new(), bmp, subjects)
    }

    /// Starts everything on a topology that the test has prepared.
    pub fn start_on(topology: Topology, bmp: &str, subjects: [&str; 2]) -> Self {
        topology.station.ip(&format!("addr add {STATION_LO}/32 dev lo\naddr add {STATION_V6_2}/128 dev lo nodad"));
        let station = |address: IpAddr| TestStation::start(&topology.station, (address, STATION_PORT));
        let (stations, others) = ([STATION, STATION_V6].map(station), OTHERS.map(|(address, _)| station(address)));
        let up1 = LinkCapture::start(&topology.router, "up1", STATION_PORT);
        let up2 = LinkCapture::start(&topology.router, "up2", STATION_PORT);
        let (relay, port) = (RELAY.ip(), RELAY.port());
        let sessions = [(STATION, subjects[0]), (STATION_V6, subjects[1])].into_iter().chain(OTHERS);
        let sessions = sessions
            .map(|(address, lines)| format!(" bmp-session {address}\n  tcp connect port {STATION_PORT}\n  {lines}\n"));
        let sessions = sessions.collect::<String>();
        let configuration =
            format!("sysname edge1\nbmp-relay lab\n listen {relay} port {port}\nbmp\n {bmp}\n{sessions}return\n");
        let bmpd = Bmpd::start(&topology.router, &configuration);
        let feeder = BmpFeeder::with_peer(&topology.router, RELAY, &ReportedPeer::default());
        let company = Self { bmpd, subjects: stations, others: others.into(), up1, up2, feeder, topology };
        for station in company.subjects.iter().chain(&company.others) {
            station.wait_connection(0, "Initiation", |c| c.has(bmp::INITIATION));
            company.bmpd.wait_up(station.address().ip());
        }
        company
    }

    /// Returns the session of a subject.
    pub fn session(&self, subject: usize) -> Value {
        self.bmpd.session(self.address(subject))
    }

    /// Returns the address of a subject's station.
    pub fn address(&self, subject: usize) -> IpAddr {
        self.subjects[subject].address().ip()
    }

    /// Waits until connection `index` of a subject has its Initiation, and returns it.
    pub fn connected(&self, subject: usize, index: usize) -> RecordedConnection {
        self.bmpd.wait_up(self.address(subject));
        self.subjects[subject].wait_connection(index, "Initiation", |c| c.has(bmp::INITIATION))
    }

    /// Asserts that connection `index` of a subject ended with Termination and FIN, all on link
    /// `here` and nothing on link `there`.
    ///
    /// # Panics
    /// If the connection ended otherwise.
    pub fn assert_terminated(&self, subject: usize, index: usize, here: &LinkCapture, there: &LinkCapture) {
        let old = self.subjects[subject].wait_connection(index, "its end", |c| c.end.is_some());
        assert_eq!((old.has(bmp::TERMINATION), old.end), (true, Some(RecordedEnd::Fin)));
        let of_it = |packets: &[&CapturedPacket]| {
            packets.iter().filter(|p| p.source == old.peer).map(|p| (*p).clone()).collect()
        };
        let (left, strayed): (Vec<CapturedPacket>, Vec<CapturedPacket>) =
            (of_it(&outgoing(&here.packets())), of_it(&strays(&there.packets())));
        assert!(left.iter().any(|packet| packet.fin), "no FIN left by the old link: {left:#?}");
        assert_eq!(strayed, [], "packets left by the other link");
    }

    /// Asserts that a subject is still up over its first connection.
    ///
    /// # Panics
    /// If it is not.
    pub fn assert_stayed(&self, subject: usize) {
        self.stayed(&self.subjects[subject]);
    }

    /// Asserts that no bystander noticed anything: each is still up over its first connection, and
    /// receives new routes over it.
    ///
    /// # Panics
    /// If one did.
    pub fn assert_others_stayed(&mut self) {
        let routes = prefixes(3);
        let before: Vec<_> = self.others.iter().map(|station| station.connections()[0].announced()).collect();
        self.feeder.announce(&ReportedPeer::default(), &routes, 1);
        for (station, before) in self.others.iter().zip(before) {
            station.wait_for("the new routes", PATIENCE, |connections| {
                (connections.last()?.announced() >= before + routes.len()).then_some(())
            });
            self.stayed(station);
        }
    }

    fn stayed(&self, station: &TestStation) {
        let session = self.bmpd.session(station.address().ip());
        assert_eq!((&session["established_count"], &session["state"]), (&1.into(), &"up".into()), "{session:#}");
        let connections = station.connections();
        assert_eq!((connections.len(), &connections[0].end), (1, &None), "{session:#}");
    }
}
