//! Keepalive probes of TCP, by which the kernel notices that a daemon's host vanished.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// After this silence the kernel probes a daemon, at this interval, and gives up after so many
/// probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// The same while another connection waits for the answer: 4 s until a daemon is known to be gone.
const URGENT_IDLE: Duration = Duration::from_secs(1);
const URGENT_INTERVAL: Duration = Duration::from_secs(1);

/// Has the kernel probe a daemon that is idle. Otherwise nobody would notice that its host
/// vanished: bmpd sends nothing that the host would have to acknowledge.
pub(super) fn probe_idle_daemon(stream: &TcpStream) -> io::Result<()> {
    set_keepalive(stream, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL)
}

/// Has the kernel probe a daemon's host at once.
pub(super) fn probe_urgently(stream: &TcpStream) -> io::Result<()> {
    set_keepalive(stream, URGENT_IDLE, URGENT_INTERVAL)
}

fn set_keepalive(stream: &TcpStream, idle: Duration, interval: Duration) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(KEEPALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
