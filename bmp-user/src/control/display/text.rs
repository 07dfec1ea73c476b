//! The layouts that operators know.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    layout::{age, capitalised, may_leave_by, table},
    session::{Egress, InterfaceDrops, Kernel, SessionReport, Unheld, UnheldConnection},
};
use crate::wire::bgp::Family;

/// What `display bmp session` begins with.
pub(super) fn totals(sessions: usize, up: usize) -> String {
    format!(" Total number of BMP session : {sessions}\n Session in up state : {up}\n")
}

/// `display bmp session` behind its totals: a row for each session.
pub(super) fn table_of_sessions(reports: impl Iterator<Item = SessionReport>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_table(&mut text, reports);
    text
}

/// One session of `display bmp session verbose`, and of how many peers it is told in each family.
pub(super) fn session(report: &SessionReport, monitored: &BTreeMap<Family, usize>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_session(&mut text, report, monitored);
    text
}

fn write_table(text: &mut String, reports: impl Iterator<Item = SessionReport>) -> std::fmt::Result {
    text.push('\n');
    let heading = ["Session", "Alias", "State", "Age", "VPN", "Reason"].map(str::to_owned);
    let rows = reports.map(|report| {
        let held = report.held.as_ref();
        // A session that is on its way to being up has no reason; how far it is says more than
        // nothing.
        let on_its_way = if report.state == "up" { "-" } else { report.phase };
        [
            report.station.to_string(),
            report.alias.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{}{}", capitalised(report.state), if held.is_some() { " (held)" } else { "" }),
            age(report.age_seconds),
            report.vpn_instance.clone(),
            held.map(|held| held.reason).or(report.reason).unwrap_or(on_its_way).to_owned(),
        ]
    });
    table(text, std::iter::once(heading).chain(rows))
}

fn write_session(text: &mut String, report: &SessionReport, monitored: &BTreeMap<Family, usize>) -> std::fmt::Result {
    writeln!(text)?;
    let alias = report.alias.as_ref().map(|alias| format!(", alias {alias}")).unwrap_or_default();
    writeln!(text, " BMP session {}{alias}", report.station)?;
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<20}: {value}");
    line("VPN instance", report.vpn_instance.clone())?;
    let name = if report.role == Some("listen") { "Listening port" } else { "Station port" };
    line(name, report.port.map_or("not configured".to_owned(), |port| port.to_string()))?;
    let held = if report.held.is_some() { ", held" } else { "" };
    let phase = if report.phase == report.state { String::new() } else { format!(" ({}{held})", report.phase) };
    line("State", format!("{}{phase}, for {}", capitalised(report.state), age(report.age_seconds)))?;
    if let Some(held) = &report.held {
        line("Held", held.in_words())?;
    }
    if let Some(reason) = report.reason {
        let detail = report.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        line("Reason", format!("{reason}{detail}"))?;
    }
    if let Some(mend) = &report.mend {
        line("To mend it", mend.clone())?;
    }
    if let Some(seconds) = report.retry_in_seconds {
        line("Next attempt in", format!("{seconds:.1} s"))?;
    }
    if report.owner == "adopted" {
        let process = report.process.as_ref().map(|process| format!("{} (process {})", process.name, process.pid));
        line("Opened by", process.unwrap_or_else(|| "another process, which has not connected".to_owned()))?;
    }
    line("Established", format!("{} time(s)", report.established_count))?;
    let local = match (report.local_address, report.local_port) {
        (Some(address), Some(port)) => format!("{address} port {port}"),
        _ => "-".to_owned(),
    };
    line("Local address", local)?;
    let asked = &report.connect_interface;
    let words: Vec<_> =
        asked.interface.iter().cloned().chain(asked.address.map(|address| address.to_string())).collect();
    let view = match asked.from {
        "session" => " (session view)",
        "bmp" => " (bmp view)",
        _ => "the kernel's choice",
    };
    line("Connect-interface", format!("{}{view}", words.join(" ")))?;
    report.egress.write(&mut line)?;
    report.kernel.write(&mut line)?;
    for drops in &report.interface_drops {
        let InterfaceDrops { name, queue, device } = drops;
        line("Interface drops", format!("{name}: {queue} by its queue, {device} by its driver, of all that it sent"))?;
    }
    if let Some(guard) = &report.guard {
        line("Guard", guard.in_words())?;
        line("Strangers", guard.strangers())?;
    }
    line(
        "Foreign",
        format!("{} bytes in {} packets", report.kernel.foreign.tx_bytes, report.kernel.foreign.tx_packets),
    )?;
    if report.unheld.count > 0 {
        line("Not held", report.unheld.in_words())?;
    }
    if let Some(told) = &report.connections {
        line(
            "Connections",
            format!(
                "{} open, {} established, {} closed, {} failed",
                told.open, told.established, told.closed, told.failed
            ),
        )?;
    }
    if report.owner == "adopted" {
        return Ok(());
    }
    line("Timers", report.timers.clone())?;
    let families: Vec<_> = monitored.iter().map(|(family, peers)| format!("{family} {peers}")).collect();
    let then = if report.state == "up" { "" } else { " (once it is up)" };
    let families = if families.is_empty() { "none".to_owned() } else { format!("{}{then}", families.join(", ")) };
    line("Monitored peers", families)?;
    let messages = &report.messages;
    line(
        "Messages",
        format!(
            "{} route monitoring, {} statistics, {} peer up, {} peer down, {} initiation, {} termination, {} mirroring",
            messages.route_monitoring,
            messages.statistics_report,
            messages.peer_up,
            messages.peer_down,
            messages.initiation,
            messages.termination,
            messages.route_mirroring
        ),
    )?;
    let feed = &report.feed;
    line("Journal", format!("at {} of {}, {} bytes behind", feed.cursor, feed.head, feed.lag_bytes))?;
    if feed.refused_peers > 0 {
        let why = "it could not tell them from those of other inputs: monitor relay NAME chooses";
        line("Peers left out", format!("{} ({why})", feed.refused_peers))?;
    }
    Ok(())
}

/// Writes one line of a report, with its name.
type Line<'a> = dyn FnMut(&str, String) -> std::fmt::Result + 'a;

impl Egress {
    pub(super) fn write(&self, line: &mut Line<'_>) -> std::fmt::Result {
        let interfaces = may_leave_by(self.any, self.vrf.as_deref(), &self.interfaces);
        let why = self.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        line("May leave by", interfaces)?;
        let enforcement = if self.enforcement == "cgroup" { "this cgroup only" } else { self.enforcement };
        line("Enforcement", format!("{enforcement}{why}"))?;
        if let Some(lost) = &self.lost {
            line("Lost", format!("for {}: {}", age(lost.for_seconds), lost.why))?;
        }
        if self.losses > 0 {
            line("Losses", format!("{} since bmpd began", self.losses))?;
        }
        Ok(())
    }
}

impl Kernel {
    pub(super) fn write(&self, line: &mut Line<'_>) -> std::fmt::Result {
        line(
            "Sent",
            format!(
                "{} bytes in {} packets, {} of payload, {} segments again",
                self.tx_bytes, self.tx_packets, self.tx_payload_bytes, self.retransmits
            ),
        )?;
        line("Received", format!("{} bytes in {} packets", self.rx_bytes, self.rx_packets))?;
        let denied = &self.denied;
        line(
            "Denied",
            format!(
                "{} by interface, {} by source, {} by mark, {} without a pin",
                denied.interface, denied.source, denied.mark, denied.no_pin
            ),
        )
    }
}

impl Unheld {
    fn in_words(&self) -> String {
        let of = |one: &UnheldConnection| {
            format!("{} ({}) from {} port {}", one.name, one.pid, one.local_address, one.local_port)
        };
        let shown: Vec<_> = self.connections.iter().map(of).collect();
        let more = match self.count - shown.len() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!("{} from before the pin: {}{more}", self.count, shown.join(", "))
    }
}
