//! The lab: hosts, stations, feeders and daemons for the integration tests.
//!
//! Most tests play a [`trial::LabTrial`] on a [`topology::Topology`]. Its hosts are network
//! namespaces that only file descriptors hold, so the kernel removes them however a test ends. The
//! hosts run [`bmpd::Bmpd`], a [`station::TestStation`], a [`feeder::BmpFeeder`] and the daemons of
//! other projects ([`frr`], [`gobgp`], [`pmacct`]). A [`capture::LinkCapture`] shows by which link
//! each packet left.
//!
//! The lab has encoders and decoders of its own and uses none of bmpd's: its reading of the bytes
//! is a second opinion. [`parts`] is the exception, because it measures bmpd's code.
//!
//! [`devices`] makes devices that many kernels lack: VRF, bond, VLAN, dummy and netem. Only the
//! tests in `tests/vm_*.rs` use them, and each of these is marked
//! `#[ignore = "needs …: cargo xtask vm"]`.
//!
//! [`machine`] and [`unit`] are for the tests in `tests/systemd_*.rs`, which have a machine with
//! systemd for themselves: `cargo xtask vm --systemd`.
//!
//! A function of the lab that cannot do its work panics with one sentence. The test that called it
//! fails with that sentence.

pub mod answerer;
pub mod bgp;
pub mod bmp;
pub mod bmpd;
pub mod browser;
pub mod capture;
pub mod company;
pub mod daemons;
pub mod devices;
pub mod feeder;
pub mod flood;
pub mod footprint;
pub mod frr;
pub mod gobgp;
pub mod haproxy;
pub mod http;
pub mod installed;
pub mod instructions;
pub mod kernel;
pub mod keychain;
pub mod machine;
pub mod manager;
pub mod netns;
pub mod parts;
pub mod passive;
pub mod peering;
pub mod pmacct;
pub mod process;
pub mod prometheus;
pub mod redirect;
pub mod relayed;
pub mod rib;
pub mod sabotage;
pub mod skip;
pub mod soak;
pub mod sockets;
pub mod speaker;
pub mod station;
pub mod stunnel;
pub mod table;
pub mod tcp_ao;
pub mod terminal;
pub mod tls;
pub mod tls_station;
pub mod topology;
pub mod trial;
pub mod tshark;
pub mod unit;
pub mod wait;
