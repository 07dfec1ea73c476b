//! The lab: hosts, stations, feeders and other daemons for the integration tests.
//!
//! A [`trial::Trial`] is played on a [`topology::Topology`]: network namespaces that exist only as file descriptors, so nothing is left of them
//! however a test ends. In them run a [`bmpd::Bmpd`], a [`station::Station`], a [`feeder::Feeder`] or somebody else's
//! programs ([`frr`], [`pmacct`]), and [`capture::Capture`]s tell where the packets really went.
//!
//! Nothing here uses bmpd's own encoders or decoders: what the lab says about the bytes is a second opinion. Only [`parts`] is made of
//! bmpd's own: it is what is measured.
//!
//! What not every kernel has ([`devices`]: VRF, bond, VLAN, dummy, netem) is for the tests of the files `tests/vm_*.rs`. Each of them
//! is marked `#[ignore = "needs …: cargo xtask vm"]` with what it needs.
//!
//! A function of the lab that cannot do its work panics with one sentence: it is the failure of the test that called it.

pub mod answerer;
pub mod bgp;
pub mod bmp;
pub mod bmpd;
pub mod capture;
pub mod company;
pub mod devices;
pub mod feeder;
pub mod flood;
pub mod footprint;
pub mod frr;
pub mod gobgp;
pub mod instructions;
pub mod kernel;
pub mod netns;
pub mod parts;
pub mod passive;
pub mod peering;
pub mod pmacct;
pub mod process;
pub mod redirect;
pub mod relayed;
pub mod rib;
pub mod sabotage;
pub mod skip;
pub mod soak;
pub mod sockets;
pub mod speaker;
pub mod station;
pub mod table;
pub mod terminal;
pub mod topology;
pub mod trial;
pub mod tshark;
pub mod wait;
