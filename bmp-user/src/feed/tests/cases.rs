//! Small inputs after public bug reports. Early and late stations know the same, and it is right.

use std::{fs, path::Path};

use super::{
    super::*,
    append,
    captures::{CaptureStation, about_peers, assert_same},
    dump, following, take_all,
};

/// A case: its file, its number of Peer Ups, its number of routes, and the messages that are left
/// out.
type BugReportCase = (&'static str, usize, usize, &'static [(&'static str, u64)]);

const CASES: [BugReportCase; 7] = [
    ("c-two-loc-rib-tables", 2, 10, &[]),
    ("f-peer-up-time-differs", 1, 5, &[]),
    ("u-peer-down-of-another-view", 1, 0, &[("other-peer", 1)]),
    ("u-peer-down-without-reason", 2, 6, &[("short-message", 1)]),
    ("u-peer-up-19-octet-open", 1, 6, &[("broken-open", 1)]),
    ("u-peer-up-cut-tlv", 0, 5, &[("cut-tlv", 1)]),
    ("u-unnumbered-same-link-local", 2, 6, &[]),
];

/// The bytes of a case; none, with a line on stderr, where there are no cases.
#[expect(clippy::print_stderr, reason = "a test that could not look at the real data has to say so")]
fn bytes_of_case(name: &str) -> Option<Vec<u8>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/cases");
    let read = fs::read(Path::new(file).join(format!("{name}.bmp")));
    if read.is_err() {
        eprintln!("skipped: no {name} in {file}");
    }
    read.ok()
}

#[test]
fn in_each_case_late_and_early_stations_know_the_same_and_it_is_right() {
    for (name, ups, routes, left_out) in CASES {
        let Some(stream) = bytes_of_case(name) else { continue };
        let feed = Feed::default();
        let mut input = feed.input(InputId::relay("relay"));
        let mut early = following(&feed);
        append(&mut input, &about_peers(&stream));
        let told = super::bytes_of(&take_all(&mut early));
        let early = CaptureStation::read(&told);
        assert_same(name, &CaptureStation::read(&dump(&feed)), &early);
        let known: usize = early.peers.values().map(|(ups, _)| ups.len()).sum();
        assert_eq!((known, early.routes(), feed.stats().routes), (ups, routes, routes), "{name}");
        let odd: Vec<_> = input.totals().odd.iter().map(|(oddity, count)| (oddity.as_str(), count)).collect();
        assert_eq!(odd, left_out, "{name}");
    }
}
