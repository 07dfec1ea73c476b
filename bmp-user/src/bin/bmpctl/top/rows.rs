//! A row of each session, with its rate.

use std::time::Instant;

use bmp_user::escape::escaped;

use super::{
    figure,
    reading::{DeniedReading, DumpReading, SessionReading, SessionsReading},
};

/// How a session stands, in the order in which an operator wants to see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Down,
    /// Up, and down soon.
    Held,
    /// Nothing is the matter, and the session waits.
    Waiting,
    Up,
}

impl Standing {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Held => "held",
            Self::Waiting => "wait",
            Self::Up => "up",
        }
    }

    fn of(session: &SessionReading) -> Self {
        let waits = ["waiting-for-station", "waiting-for-daemon", "waiting-for-router", "initial-delay"];
        match session.reason.as_deref() {
            _ if session.state == "up" && session.held.is_some() => Self::Held,
            _ if session.state == "up" => Self::Up,
            Some(reason) if waits.contains(&reason) => Self::Waiting,
            _ => Self::Down,
        }
    }
}

/// A session with what is calculated for it.
#[derive(Clone, Debug)]
pub(super) struct SessionRow {
    /// Tells the sessions apart, also over a restart of bmpd.
    pub(super) id: String,
    /// Station, alias and VPN instance.
    pub(super) name: String,
    pub(super) standing: Standing,
    /// A bar for a session that dumps. Empty where nothing is the matter.
    pub(super) reason: String,
    /// Bytes per second. `None` before the second reading, and where nothing counts.
    pub(super) rate: Option<f64>,
    /// Packets of all causes.
    pub(super) denied: Option<u64>,
    pub(super) session: SessionReading,
}

/// What a rate is calculated from.
#[derive(Clone, Copy, Debug)]
struct CountedBytes {
    bytes: u64,
    at: Instant,
}

impl SessionRow {
    fn of(session: SessionReading) -> Self {
        let SessionReading { station, vpn_instance, alias, .. } = &session;
        let id = format!("{vpn_instance} {station} {}", alias.as_deref().unwrap_or_default());
        let alias = alias.as_ref().map(|alias| format!(" {alias}")).unwrap_or_default();
        let vpn = if vpn_instance == "_public_" { String::new() } else { format!(" ({vpn_instance})") };
        let held = session.held.as_ref().map(|held| &held.reason);
        // A session that is coming up has no reason. Its phase tells how far it is.
        let phase = if session.state == "up" { dump_bar(&session) } else { session.phase.clone() };
        let reason = escaped(held.or(session.reason.as_ref()).unwrap_or(&phase)).to_string();
        Self {
            name: escaped(&format!("{station}{alias}{vpn}")).to_string(),
            standing: Standing::of(&session),
            reason,
            rate: None,
            denied: session
                .kernel
                .denied
                .as_ref()
                .map(|DeniedReading { interface, source, mark, no_pin }| interface + source + mark + no_pin),
            id,
            session,
        }
    }

    pub(super) fn uplink(&self) -> &str {
        self.session.uplink.as_deref().unwrap_or("-")
    }

    pub(super) fn dump(&self) -> Option<&DumpReading> {
        self.session.feed.as_ref().and_then(|feed| feed.dump.as_ref())
    }

    pub(super) fn lag(&self) -> Option<u64> {
        self.session.feed.as_ref().and_then(|feed| feed.lag_bytes)
    }
}

/// Returns how far the dump of a session is that is up. Empty without a dump, and for one that only
/// tells what changed.
fn dump_bar(session: &SessionReading) -> String {
    let dump = session.feed.as_ref().and_then(|feed| feed.dump.as_ref());
    match dump.map(|dump| (dump.percent, dump.begins_in_seconds)) {
        Some((Some(percent), _)) => figure::bar(percent),
        Some((None, Some(seconds))) => format!("dump in {}", figure::age(seconds.ceil() as u64)),
        _ => String::new(),
    }
}

/// Returns the rows of a reading. Rates are those since `before`, the rows of the reading at
/// `before_at`.
pub(super) fn rows(reading: SessionsReading, before: &[SessionRow], before_at: Option<Instant>) -> Vec<SessionRow> {
    let at = reading.at;
    let counted = |row: &SessionRow, at| Some(CountedBytes { bytes: row.session.kernel.tx_bytes?, at });
    let with_rate = |session| {
        let mut row = SessionRow::of(session);
        let old = before.iter().find(|old| old.id == row.id);
        let old = old.zip(before_at).and_then(|(old, before_at)| counted(old, before_at));
        row.rate = old.zip(counted(&row, at)).and_then(|(old, new)| rate(old, new));
        row
    };
    reading.sessions.into_iter().map(with_rate).collect()
}

/// Returns bytes per second. `None` where the counter began anew.
fn rate(old: CountedBytes, new: CountedBytes) -> Option<f64> {
    let seconds = new.at.saturating_duration_since(old.at).as_secs_f64();
    let bytes = new.bytes.checked_sub(old.bytes)?;
    (seconds > 0.0).then(|| bytes as f64 / seconds)
}
