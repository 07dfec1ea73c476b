//! A session as an operator reads it. Operators know this layout.

use std::fmt;

use super::{
    super::layout::{after, age, capitalised, field, or_dash},
    DumpReport, FeedProgress, InterfaceDrops, KeychainReport, RouterConnectionReport, SentMessages, SessionOwner,
    SessionReport, SessionRole, SessionTlsReport, SignedSegments, SourceReport, UnheldConnection, UnheldReport, UpDown,
};
use crate::{config::SourceLevel, session::SessionPhase};

impl SessionReport {
    /// Returns the row of the table, and those of the routers that have their own connections.
    pub(super) fn rows(&self) -> Vec<[String; 6]> {
        let routers = self.routers.iter().flat_map(|routers| &routers.connections);
        [self.row()].into_iter().chain(routers.map(RouterConnectionReport::row)).collect()
    }

    fn row(&self) -> [String; 6] {
        let held = self.held.as_ref();
        let reason = held.map(|held| held.reason.as_str()).or(self.reason.map(|reason| reason.as_str()));
        // A session that is coming up has no reason. Its phase tells how far it is.
        let reason = reason.unwrap_or(if self.state == UpDown::Up { "-" } else { self.phase.as_str() });
        [
            self.station.to_string(),
            or_dash(self.alias.as_ref()),
            format!("{}{}", capitalised(self.state.as_str()), if held.is_some() { " (held)" } else { "" }),
            age(self.age_seconds),
            self.vpn_instance.to_string(),
            reason.to_owned(),
        ]
    }
}

/// The detailed display.
impl fmt::Display for SessionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n BMP session {}{}", self.station, after(", alias ", self.alias.as_ref()))?;
        if let Some(description) = &self.description {
            field(f, "Description", description)?;
        }
        field(f, "VPN instance", &self.vpn_instance)?;
        let label = if self.role == Some(SessionRole::Listen) { "Listening port" } else { "Station port" };
        field(f, label, self.port.map_or("not configured".to_owned(), |port| port.to_string()))?;
        self.write_state(f)?;
        if self.owner == SessionOwner::Adopted {
            let process = self.process.as_ref().map(|process| format!("{} (process {})", process.name, process.pid));
            field(f, "Opened by", process.as_deref().unwrap_or("another process, which has not connected"))?;
        }
        field(f, "Established", format_args!("{} time(s)", self.established_count))?;
        if self.source_changes > 0 {
            field(f, "Source changes", self.source_changes)?;
        }
        let local = self.local_address.zip(self.local_port);
        field(f, "Local address", or_dash(local.map(|(address, port)| format!("{address} port {port}"))))?;
        field(f, "Connect-interface", &self.connect_interface)?;
        if let Some(keychain) = &self.keychain {
            field(f, "Key chain", keychain)?;
            if let Some(segments) = &keychain.segments {
                field(f, "Signed segments", segments)?;
            }
        }
        if self.proxy_protocol {
            field(f, "PROXY header", "version 2")?;
        }
        if let Some(tls) = &self.tls {
            field(f, "TLS", tls)?;
            if let Some(peer) = &tls.peer {
                field(f, "Station certificate", peer)?;
            }
        }
        write!(f, "{}", self.egress)?;
        if let Some(seconds) = self.counters_reset_seconds {
            field(f, "Counters reset", format_args!("{} ago", age(seconds)))?;
        }
        write!(f, "{}", self.kernel)?;
        for drops in &self.interface_drops {
            field(f, "Interface drops", drops)?;
        }
        if let Some(guard) = &self.guard {
            field(f, "Guard", guard.modes())?;
            field(f, "Strangers", guard.strangers())?;
        }
        field(f, "Foreign", or_dash(self.kernel.foreign.as_ref()))?;
        if let Some(unheld) = self.unheld.as_ref().filter(|unheld| unheld.count > 0) {
            field(f, "Not held", unheld)?;
        }
        if let Some(counts) = &self.connections {
            let super::ConnectionCounts { open, established, closed, failed } = counts;
            let counts = format_args!("{open} open, {established} established, {closed} closed, {failed} failed");
            field(f, "Connections", counts)?;
        }
        // The messages of an adopted session come from its own daemon.
        if let (Some(messages), Some(feed)) = (&self.messages, &self.feed) {
            self.write_messages(f, messages, feed)?;
        }
        self.write_routers(f)
    }
}

impl SessionReport {
    fn write_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = if self.held.is_some() { ", held" } else { "" };
        let phase = match self.phase {
            SessionPhase::Down => String::new(),
            phase => format!(" ({}{held})", phase.as_str()),
        };
        let state = capitalised(self.state.as_str());
        field(f, "State", format_args!("{state}{phase}, for {}", age(self.age_seconds)))?;
        if let Some(held) = &self.held {
            field(f, "Held", held)?;
        }
        if let Some(reason) = self.reason {
            field(f, "Reason", format_args!("{}{}", reason.as_str(), after(": ", self.detail.as_ref())))?;
        }
        if let Some(mend) = &self.mend {
            field(f, "To mend it", mend)?;
        }
        if let Some(seconds) = self.retry_in_seconds {
            field(f, "Next attempt in", format_args!("{seconds:.1} s"))?;
        }
        Ok(())
    }

    /// Writes a line for each router that has its own connection.
    fn write_routers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(routers) = &self.routers else { return Ok(()) };
        let of = routers.relay.as_ref().map_or("of all relays".to_owned(), |relay| format!("of bmp-relay {relay}"));
        let left_out = match routers.left_out {
            0 => String::new(),
            routers => format!(", {routers} without a connection: too many"),
        };
        field(f, "Connections for", format_args!("{} routers {of}{left_out}", routers.connections.len()))?;
        routers.connections.iter().try_for_each(|router| field(f, "Router", router))
    }

    /// Writes the messages that the session sends and has sent.
    fn write_messages(&self, f: &mut fmt::Formatter<'_>, messages: &SentMessages, feed: &FeedProgress) -> fmt::Result {
        field(f, "Timers", &self.timers)?;
        let families: Vec<_> = self.monitored_peers.iter().map(|(family, peers)| format!("{family} {peers}")).collect();
        let then = if self.state == UpDown::Up { "" } else { " (once it is up)" };
        let families = if families.is_empty() { "none".to_owned() } else { format!("{}{then}", families.join(", ")) };
        field(f, "Monitored peers", families)?;
        if let Some(text) = &self.initiation_message {
            field(f, "Initiation message", text)?;
        }
        field(f, "Messages", messages)?;
        if let Some(rate) = self.dump_rate {
            field(f, "Dump rate", format_args!("{rate} routes a second"))?;
        }
        if let Some(dump) = &feed.dump {
            field(f, "Dump", dump)?;
        }
        let FeedProgress { cursor, head, lag_bytes, lag_limit_bytes, refused_peers, .. } = feed;
        let (cursor, lag) = (or_dash(*cursor), or_dash(*lag_bytes));
        let limit = lag_limit_bytes.map(|bytes| format!("{bytes} at most"));
        let limit = after(", ", limit.as_ref());
        field(f, "Journal", format_args!("at {cursor} of {head}, {lag} bytes behind{limit}"))?;
        if *refused_peers > 0 {
            let why = "it could not tell them from those of other inputs: monitor relay NAME chooses";
            field(f, "Peers left out", format_args!("{refused_peers} ({why})"))?;
        }
        Ok(())
    }
}

impl fmt::Display for DumpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { routes_told, routes_total, percent, remaining_seconds, begins_in_seconds } = self;
        if let Some(seconds) = begins_in_seconds {
            return write!(f, "begins in {seconds:.1} s");
        }
        match (percent, routes_told, routes_total) {
            (Some(percent), Some(told), Some(total)) => write!(f, "{percent:.1} %, {told} of {total} routes")?,
            _ => f.write_str("of what has changed")?,
        }
        match remaining_seconds {
            Some(seconds) => write!(f, ", {} left", age(*seconds)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.map(|address| address.to_string());
        let words: Vec<_> = self.interface.iter().cloned().chain(address).collect();
        let view = match self.from {
            SourceLevel::Session => " (session view)",
            SourceLevel::Bmp => " (bmp view)",
            SourceLevel::Default => "the kernel's choice",
        };
        write!(f, "{}{view}", words.join(" "))
    }
}

impl fmt::Display for KeychainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, current_key, requested_key, next_key, next_key_in_seconds, .. } = self;
        f.write_str(name)?;
        if let (Some(current), Some(requested)) = (current_key, requested_key) {
            write!(f, ", signs with key {current}, asks for key {requested}")?;
        }
        match (next_key, next_key_in_seconds) {
            (Some(next), Some(seconds)) => write!(f, ", key {next} in {}", age(*seconds)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for SessionTlsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, cipher, in_kernel, certificate_expires_in_seconds, .. } = self;
        f.write_str(profile)?;
        if let Some(cipher) = cipher {
            write!(f, ", TLS 1.3 with {cipher}")?;
        }
        if *in_kernel == Some(true) {
            f.write_str(" in the kernel")?;
        }
        match certificate_expires_in_seconds.map(u64::try_from) {
            Some(Ok(seconds)) => write!(f, ", own certificate for {}", age(seconds)),
            Some(Err(_)) => f.write_str(", own certificate expired"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SignedSegments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { good, bad, unknown_key, unsigned } = self;
        write!(f, "{good} good, {bad} wrong, {unknown_key} with an unknown key, {unsigned} without a signature")
    }
}

impl fmt::Display for InterfaceDrops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, queue, device } = self;
        write!(f, "{name}: {} by its queue, {device} by its driver, of all that it sent", or_dash(*queue))
    }
}

impl fmt::Display for UnheldReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.connections.iter().map(ToString::to_string).collect();
        write!(f, "{} from before the pin: {}", self.count, shown.join(", "))?;
        match self.count - shown.len() {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

impl fmt::Display for UnheldConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, name, local_address, local_port } = self;
        write!(f, "{name} ({pid}) from {local_address} port {local_port}")
    }
}

impl fmt::Display for SentMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route_monitoring, statistics_report, peer_up, peer_down, initiation, termination, route_mirroring } =
            self;
        write!(
            f,
            "{route_monitoring} route monitoring, {statistics_report} statistics, {peer_up} peer up, \
             {peer_down} peer down, {initiation} initiation, {termination} termination, {route_mirroring} mirroring"
        )
    }
}
