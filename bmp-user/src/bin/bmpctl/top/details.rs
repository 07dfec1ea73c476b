//! One session in detail, and the help, as lines.

use bmp_user::escape::escaped;

use super::{
    column::{COLUMNS, Column},
    figure,
    reading::{DeniedReading, DumpReading, SessionReading},
    rows::SessionRow,
};

/// Width of the labels, in columns.
const LABEL: usize = 16;
/// What a value needs at least to stand beside its label.
const VALUE: usize = 20;

/// A line of a page. One without a label continues the line above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageLine {
    pub(super) label: String,
    pub(super) value: String,
}

/// Returns the lines about a session, no wider than `width`.
pub(super) fn session(row: &SessionRow, width: usize) -> Vec<PageLine> {
    entries(row).into_iter().flat_map(|(label, value)| lines(label, &value, width)).collect()
}

/// Returns the lines about the keys, no wider than `width`.
pub(super) fn help(width: usize) -> Vec<PageLine> {
    let sorting = COLUMNS.map(|column| format!("{} {}", column.key(), meaning(column))).join(", ");
    let keys = [
        ("Up, Down, j, k", "select a session, or scroll".to_owned()),
        ("PgUp, PgDn", "a screenful up or down; Home and End go to the ends".to_owned()),
        ("Enter", "the selected session in detail; Enter or Esc goes back".to_owned()),
        (
            "/",
            "show the sessions that have a text in their name, state, uplink, source or reason; Esc shows all"
                .to_owned(),
        ),
        ("letters", format!("sort by {sorting}; the same letter again reverses")),
        ("<, >", "sort by the column on the left or on the right".to_owned()),
        ("i", "reverse the order".to_owned()),
        ("q, Ctrl-C", "leave".to_owned()),
        ("Ctrl-Z", "stop until the shell continues this".to_owned()),
    ];
    let meanings = [
        ("State", "up; held: up, and down soon (hold-down); wait: nothing is the matter; down".to_owned()),
        ("Uplink", "the interface that the session leaves by, or is to leave by".to_owned()),
        ("Rate", "IP bytes per second since the reading before, counted by the kernel".to_owned()),
        ("Lag", "journal bytes that the station has not been sent yet".to_owned()),
        ("Retrans", "TCP segments that were sent again".to_owned()),
        ("Denied", "packets and connects that the kernel let not leave".to_owned()),
        ("Reason", "why a session is not up; of one that is up, how far its dump is".to_owned()),
        ("-", "nothing measures this".to_owned()),
    ];
    keys.into_iter().chain(meanings).flat_map(|(label, value)| lines(label, &value, width)).collect()
}

fn meaning(column: Column) -> &'static str {
    match column {
        Column::Session => "name",
        Column::State => "state",
        Column::Uplink => "uplink",
        Column::Rate => "rate",
        Column::Lag => "lag",
        Column::Retransmissions => "retransmissions",
        Column::Denied => "denied",
        Column::Reason => "reason",
    }
}

fn entries(row: &SessionRow) -> Vec<(&'static str, String)> {
    let SessionReading { process, held, connect_interface, egress, kernel, detail, mend, .. } = &row.session;
    let session = &row.session;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let after =
        |before: &str, text: &Option<String>| text.as_ref().map(|text| format!("{before}{text}")).unwrap_or_default();
    let mut entries = vec![
        ("Session", row.name.clone()),
        ("State", format!("{} ({}), for {}", session.state, session.phase, figure::age(session.age_seconds))),
    ];
    if let Some(held) = held {
        let left = held.for_seconds;
        entries.push(("Held", format!("{}: {}; down in {left:.1} s unless that is mended", held.reason, held.detail)));
    }
    if let Some(reason) = &session.reason {
        entries.push(("Reason", format!("{reason}{}", after(": ", detail))));
    }
    if let Some(mend) = mend {
        entries.push(("To mend it", mend.clone()));
    }
    if let Some(dump) = row.dump() {
        entries.push(("Dump", dump_line(dump)));
    }
    if let Some(seconds) = session.retry_in_seconds {
        entries.push(("Next attempt in", format!("{seconds:.1} s")));
    }
    let port = session.port.map_or("not configured".to_owned(), |port| port.to_string());
    let end = if session.role.as_deref() == Some("listen") { "Listening port" } else { "Station port" };
    entries.push((end, port));
    if session.owner == "adopted" {
        let process = process.as_ref().map(|process| format!("{} (process {})", process.name, process.pid));
        entries.push(("Opened by", process.unwrap_or_else(|| "another process, which has not connected".to_owned())));
    }
    let asked: Vec<_> = connect_interface.interface.iter().chain(&connect_interface.address).cloned().collect();
    let leave = match (egress.any, egress.interfaces.is_empty()) {
        (true, _) => "any interface".to_owned(),
        (false, true) => "none".to_owned(),
        (false, false) => egress.interfaces.join(", "),
    };
    let local = session.local_address.as_ref().zip(session.local_port);
    entries.extend([
        ("Asked", if asked.is_empty() { "no connect-interface".to_owned() } else { asked.join(" ") }),
        ("Uplink", row.uplink().to_owned()),
        ("May leave by", leave),
        ("Enforced by", format!("{}{}", egress.enforcement, after(": ", &egress.why))),
        ("Local address", or_dash(local.map(|(address, port)| format!("{address} port {port}")))),
        (
            "Established",
            format!("{} time(s), {} with another source", session.established_count, session.source_changes),
        ),
        ("Rate", row.rate.map_or("-".to_owned(), figure::rate)),
        (
            "Sent",
            or_dash(
                kernel
                    .tx_bytes
                    .zip(kernel.tx_packets)
                    .map(|(bytes, packets)| format!("{} in {packets} packets", figure::bytes(bytes as f64))),
            ),
        ),
        ("Received", or_dash(kernel.rx_bytes.map(|bytes| figure::bytes(bytes as f64)))),
        ("Lag", or_dash(row.lag().map(|lag| figure::bytes(lag as f64)))),
        ("Retransmissions", or_dash(kernel.retransmits.map(|segments| format!("{segments} segments")))),
        ("Denied", or_dash(kernel.denied.as_ref().map(denied))),
    ]);
    entries
}

fn dump_line(dump: &DumpReading) -> String {
    let DumpReading { routes_told, routes_total, percent, remaining_seconds, begins_in_seconds } = dump;
    if let Some(seconds) = begins_in_seconds {
        return format!("begins in {seconds:.1} s");
    }
    let far = percent.zip(routes_told.zip(*routes_total));
    let far = far.map_or("of what has changed".to_owned(), |(percent, (told, total))| {
        format!("{}, {told} of {total} routes", figure::bar(percent))
    });
    far + &remaining_seconds.map(|seconds| format!(", {} left", figure::age(seconds))).unwrap_or_default()
}

fn denied(denied: &DeniedReading) -> String {
    let DeniedReading { interface, source, mark, no_pin } = denied;
    format!("{interface} by interface, {source} by source, {mark} by mark, {no_pin} without a pin")
}

/// Breaks a value between words. On a narrow screen it begins below its label.
fn lines(label: &str, value: &str, width: usize) -> Vec<PageLine> {
    let value = escaped(value).to_string();
    let label = format!("{label:<LABEL$}");
    if width < LABEL + VALUE {
        let below = textwrap::wrap(&value, width.saturating_sub(2).max(1));
        let below = below.into_iter().map(|line| PageLine { label: String::new(), value: format!("  {line}") });
        return [PageLine { label, value: String::new() }].into_iter().chain(below).collect();
    }
    let broken = textwrap::wrap(&value, width - LABEL);
    let mut broken = broken.into_iter().map(|line| line.into_owned());
    let first = PageLine { label, value: broken.next().unwrap_or_default() };
    let more = broken.map(|line| PageLine { label: String::new(), value: format!("{:LABEL$}{line}", "") });
    [first].into_iter().chain(more).collect()
}
