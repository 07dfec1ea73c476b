//! `display mrt-replay`: how far each replay has got, and what it could not read.

use serde::Serialize;

use super::{super::Context, layout::rows};
use crate::{
    config::{self, Config, Pace},
    escape::Untrusted,
    input::mrt::{Misread, ReplayState, ReplayStatus},
};

/// One replay. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Replay {
    pub(super) name: String,
    pub(super) file: Option<Untrusted>,
    pub(super) pace: String,
    #[serde(rename = "loop")]
    pub(super) looped: bool,
    /// `not-configured`, `surveying`, `reading`, `done` or `failed`.
    pub(super) state: &'static str,
    pub(super) why: Option<String>,
    pub(super) rounds: u64,
    pub(super) bytes_read: u64,
    pub(super) file_bytes: u64,
    pub(super) records: u64,
    pub(super) file_records: u64,
    pub(super) updates: u64,
    /// What was passed over in this round, by kind.
    pub(super) passed_over: Vec<PassedOver>,
    /// UPDATEs that were told as they came, and in which something is wrong: how many such errors there are.
    pub(super) not_understood: u64,
    /// The same by kind.
    pub(super) not_understood_by_kind: Vec<NotUnderstood>,
    /// Records among those passed over that are broken, and UPDATEs that were not understood.
    pub(super) errors: u64,
    pub(super) last_error: Option<Untrusted>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct PassedOver {
    pub(super) what: String,
    pub(super) records: u64,
    /// The number of the first of them, from 1 on.
    pub(super) first_record: u64,
    /// Where the first of them starts, in bytes of the unpacked file.
    pub(super) first_at: u64,
    pub(super) is_error: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct NotUnderstood {
    pub(super) kind: &'static str,
    pub(super) updates: u64,
    /// The number of the record of the first of them, from 1 on.
    pub(super) first_record: Option<u64>,
    /// Where that starts, in bytes of the unpacked file.
    pub(super) first_at: Option<u64>,
}

impl Replay {
    fn of(status: ReplayStatus) -> Self {
        let (state, why) = match status.state {
            ReplayState::Surveying => ("surveying", None),
            ReplayState::Reading => ("reading", None),
            ReplayState::Done => ("done", None),
            ReplayState::Failed(why) => ("failed", Some(why)),
        };
        Self {
            name: status.name,
            file: Some(Untrusted::new(status.file.display().to_string())),
            pace: pace_in_words(status.pace),
            looped: status.looped,
            state,
            why,
            rounds: status.rounds,
            bytes_read: status.bytes_read,
            file_bytes: status.file_bytes,
            records: status.records,
            file_records: status.file_records,
            updates: status.updates,
            passed_over: status
                .passed_over
                .into_iter()
                .map(|(kind, count)| PassedOver {
                    what: kind.to_string(),
                    records: count.records,
                    first_record: count.first.record,
                    first_at: count.first.offset,
                    is_error: kind.is_error(),
                })
                .collect(),
            not_understood: status.not_understood.iter().map(|misread| misread.updates).sum(),
            not_understood_by_kind: status
                .not_understood
                .into_iter()
                .map(|Misread { kind, updates, first }| NotUnderstood {
                    kind: kind.as_str(),
                    updates,
                    first_record: first.map(|first| first.record),
                    first_at: first.map(|first| first.offset),
                })
                .collect(),
            errors: status.errors,
            last_error: status.last_error.map(Untrusted::new),
        }
    }

    /// A replay that is not told what to replay.
    fn idle(name: &str, configured: &config::Replay) -> Self {
        Self {
            name: name.to_owned(),
            file: None,
            pace: pace_in_words(configured.pace),
            looped: configured.looped,
            state: "not-configured",
            why: Some("it replays nothing until it has `file PATH`".to_owned()),
            rounds: 0,
            bytes_read: 0,
            file_bytes: 0,
            records: 0,
            file_records: 0,
            updates: 0,
            passed_over: Vec::new(),
            not_understood: 0,
            not_understood_by_kind: Vec::new(),
            errors: 0,
            last_error: None,
        }
    }

    fn text(&self) -> String {
        let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let percent = match self.state {
            "done" => 100,
            _ => (self.records * 100).checked_div(self.file_records).unwrap_or(0),
        };
        let last = self.last_error.as_ref().map(|error| format!(", the last: {error}")).unwrap_or_default();
        let records: u64 = self.passed_over.iter().map(|passed_over| passed_over.records).sum();
        let by_kind: String = self
            .passed_over
            .iter()
            .map(|PassedOver { what, records, first_record, first_at, .. }| {
                format!("    {records} {what}, the first is record {first_record} at byte {first_at}\n")
            })
            .collect();
        let misread: String = self
            .not_understood_by_kind
            .iter()
            .map(|NotUnderstood { kind, updates, first_record, first_at }| {
                let first = first_record.zip(*first_at);
                let first = first.map(|(record, at)| format!(", the first in record {record} at byte {at}"));
                format!("    {updates} {kind}{}\n", first.unwrap_or_default())
            })
            .collect();
        let head = rows(
            &format!(" Replay {}, {}{why}\n", self.name, self.state),
            &[
                ("File", self.file.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
                ("Pace", format!("{}{}", self.pace, if self.looped { ", again and again" } else { "" })),
                ("Round", self.rounds.to_string()),
                ("Progress", format!("{percent} %, {} of {} records", self.records, self.file_records)),
                ("Read", format!("{} of {} bytes", self.bytes_read, self.file_bytes)),
                ("Updates", self.updates.to_string()),
                ("Passed over", format!("{records} records")),
            ],
        );
        let not_understood = rows("", &[("Not understood", format!("{} UPDATEs", self.not_understood))]);
        let errors = rows("", &[("Errors", format!("{}{last}", self.errors))]);
        format!("{head}{by_kind}{not_understood}{misread}{errors}")
    }
}

pub(super) fn replays(context: &Context, config: &Config) -> Vec<Replay> {
    let mut replays: Vec<_> = context.replays.snapshot().into_iter().map(Replay::of).collect();
    let idle = config.replays.iter().filter(|(_, replay)| replay.file.is_none());
    replays.extend(idle.map(|(name, replay)| Replay::idle(name, replay)));
    replays.sort_by(|one, other| one.name.cmp(&other.name));
    replays
}

fn pace_in_words(pace: Pace) -> String {
    match pace {
        Pace::Recorded => "recorded".to_owned(),
        Pace::Maximum => "maximum".to_owned(),
        Pace::UpdatesPerSecond(rate) => format!("{rate} updates-per-second"),
    }
}

pub(super) fn replays_text(replays: &[Replay]) -> String {
    format!("Total number of replays : {}\n{}", replays.len(), replays.iter().map(Replay::text).collect::<String>())
}
