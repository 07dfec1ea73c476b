//! A scrape of the metrics of 256 sessions and 1,000 peers.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use lab::{
    bmp::{self, ReportedPeer},
    bmpd::{Bmpd, number},
    http,
    wait::{PATIENCE, until},
};

use super::{BENCH, SESSIONS, crowd::Crowd, hosts::BenchHosts, percentile};
use crate::{
    BenchSetting,
    dump::one,
    report::{BenchReport, RatioGoal, Samples},
    say,
    subject::RELAY,
};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9179);
const PEERS: u32 = 1000;
const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n";
/// Milliseconds within which a scrape must be answered.
const SCRAPED: f64 = 10.0;
/// Scrapes in each run.
const SCRAPES: usize = 20;

pub(super) fn run(
    setting: &BenchSetting,
    hosts: &BenchHosts,
    bmpd: &Bmpd,
    crowd: &Crowd,
    report: &mut BenchReport,
) -> io::Result<()> {
    say(&format!("connect: {SESSIONS} sessions and {PEERS} peers are scraped"))?;
    bmpd.commit_lines(&format!("http listen {} port {}\nhttp peer-metrics", SERVER.ip(), SERVER.port()));
    let mut daemon = hosts.router.enter(|| std::net::TcpStream::connect(RELAY))?;
    let mut bytes = bmp::initiation("daemon");
    for peer in 0..PEERS {
        let address = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 2, 0, 1)) + peer);
        bytes.extend(bmp::peer_up(&ReportedPeer { address, asn: 65_001, router_id: address }));
    }
    daemon.write_all(&bytes)?;
    until("the peers are in the feed", PATIENCE, || {
        (number(&bmpd.display_json("display bmp feed")["peers"]) >= PEERS.into()).then_some(())
    });
    let established = established(bmpd);
    let (mut milliseconds, mut length, mut bytes) = (Vec::new(), 0, Vec::new());
    for scrape in 0..=SCRAPES * setting.runs {
        bytes.clear();
        let began = Instant::now();
        let mut scraper = http::connect(&hosts.router, SERVER)?;
        scraper.write_all(REQUEST)?;
        scraper.read_to_end(&mut bytes)?;
        let took = began.elapsed();
        let answer = http::read_answer(&mut bytes.as_slice())?;
        let (sessions, peers) =
            (answer.body.matches("\nbmpd_session_up{").count(), answer.body.matches("\nbmpd_peer_up{").count());
        if sessions != SESSIONS || peers < PEERS as usize {
            return Err(io::Error::other(format!("{sessions} sessions and {peers} peers are scraped")));
        }
        length = answer.body.len();
        if scrape > 0 {
            milliseconds.push(1e3 * took.as_secs_f64());
        }
    }
    if self::established(bmpd) != established || crowd.bytes() == 0 {
        return Err(io::Error::other("a scrape has disturbed a session"));
    }
    let what = format!("ms to scrape {SESSIONS} sessions and {PEERS} peers, 99 of 100");
    report.ratio(BENCH, what, percentile(&milliseconds, 0.99), RatioGoal::AtMost(SCRAPED));
    let mut samples = Samples::default();
    milliseconds.iter().for_each(|value| samples.push(*value));
    report.row(BENCH, "/metrics", "median", "ms", samples);
    report.row(BENCH, "/metrics", "length", "KiB", one(length as f64 / 1024.0));
    Ok(())
}

/// Returns how many connections all sessions have established.
fn established(bmpd: &Bmpd) -> u64 {
    bmpd.sessions().iter().map(|session| number(&session["established_count"])).sum()
}
