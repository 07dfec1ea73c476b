//! `display default-parameter bmp`: what is so where nothing is configured.

use std::fmt::Write as _;

use crate::{
    config::{BgpPeer, Bmp, Relay},
    feed::{DEFAULT_JOURNAL_BYTES, DEFAULT_WITHDRAWAL_BYTES},
    input::relay::connection_limits,
    session::defaults,
};

/// The table.
pub(super) fn text() -> String {
    let mut text = String::from(" Default parameters of BMP\n");
    let (most, of_source) = connection_limits(&Relay::default());
    let rows = [
        ("Source of a session", "the kernel's choice (connect-interface)".to_owned()),
        ("May leave by", "the source interface; any, where none is named (egress-interface)".to_owned()),
        ("Port", "none: a session needs tcp connect port or tcp listen port".to_owned()),
        ("Next hop", "as routing says (next-hop)".to_owned()),
        ("Hold-down", "0 ms (hold-down)".to_owned()),
        ("Owner", "bmpd (adopt)".to_owned()),
        ("Kept when bmpd ends", "nothing, unless a session is adopted (persist)".to_owned()),
        (
            "Retry",
            format!("{} s to {} s, doubling", defaults::RETRY_FIRST.as_secs(), defaults::RETRY_LONGEST.as_secs()),
        ),
        ("Initial delay", "0 s (initial-delay)".to_owned()),
        ("Flap damping", "0 s (flap-damping)".to_owned()),
        ("Keepalive of TCP", format!("after {} s of silence (keepalive)", defaults::KEEPALIVE.as_secs())),
        ("DSCP, TCP MSS", "as the kernel chooses (dscp, tcp mss)".to_owned()),
        ("TCP MD5", "none (tcp connect port N password md5)".to_owned()),
        ("Station is dead", format!("after {} s without an acknowledgement", defaults::DEAD_AFTER.as_secs())),
        ("Slow station", "kept, however slow".to_owned()),
        ("Termination message", format!("{} s to be taken", defaults::FAREWELL.as_secs())),
        ("Journal", format!("{} MiB", DEFAULT_JOURNAL_BYTES >> 20)),
        ("Withdrawals kept", format!("{} MiB", DEFAULT_WITHDRAWAL_BYTES >> 20)),
        ("Told to a station", "everything (monitor, route-mode)".to_owned()),
        ("Mirrored messages", "passed on; with monitor, left out (route-mirroring)".to_owned()),
        ("Statistics Reports", format!("of BGP peers, every {} s (statistics-timer)", Bmp::STATISTICS_TIMER.as_secs())),
        ("A relay takes", "connections of this host alone (allow)".to_owned()),
        ("A relay has", format!("{most} connections, {of_source} of one source (max-connections)")),
        ("A relay that is gone", "takes its peers down at once (hold)".to_owned()),
        ("Missing End-of-RIB", "is not told in a daemon's stead (end-of-rib-after)".to_owned()),
        ("Pace of a replay", "as it was recorded (pace)".to_owned()),
        ("BGP peer's port", format!("{} (peer A port)", BgpPeer::PORT)),
        (
            "BGP peer's timers",
            format!("keepalive {} s, hold {} s (peer A timer)", BgpPeer::TIMER.keepalive, BgpPeer::TIMER.hold),
        ),
    ];
    for (name, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<20}: {value}");
    }
    text
}
