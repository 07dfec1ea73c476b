//! `display mrt-replay`: how far each replay has got, and what it could not read.

use std::fmt;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::{
    super::{
        ControlContext,
        words::{schema_is_text, words},
    },
    layout::{after, field, or_dash},
};
use crate::{
    config::{self, Config, ReplayPace},
    escape::Untrusted,
    feed::TroubleKind,
    input::mrt::{Misread, ReplayState, ReplayStatus},
};

/// All replays, by name.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(transparent)]
pub(super) struct ReplayReports(pub(super) Vec<ReplayReport>);

/// One replay. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct ReplayReport {
    pub(super) name: String,
    pub(super) file: Option<Untrusted>,
    pub(super) pace: PaceReport,
    #[serde(rename = "loop")]
    pub(super) looped: bool,
    pub(super) state: ReplayStage,
    /// Why the replay does not run.
    pub(super) why: Option<String>,
    /// How many times the file was begun.
    pub(super) rounds: u64,
    /// Bytes of the file as it is, packed or not.
    pub(super) bytes_read: u64,
    /// `None` before the file is opened.
    pub(super) file_bytes: Option<u64>,
    pub(super) records: u64,
    /// `None` before the file is surveyed.
    pub(super) file_records: Option<u64>,
    /// UPDATEs that were made of the records.
    pub(super) updates: u64,
    /// Records and parts of records that were passed over in this round, by kind.
    pub(super) passed_over: Vec<PassedOverRecords>,
    /// Errors in UPDATEs that were passed on as they came. One UPDATE may have several.
    pub(super) not_understood: u64,
    /// The same errors by kind.
    pub(super) not_understood_by_kind: Vec<UpdateErrors>,
    /// Broken records among those passed over, and `not_understood`.
    pub(super) errors: u64,
    pub(super) last_error: Option<Untrusted>,
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplayStage {
    /// The replay has no file.
    NotConfigured,
    /// Looking which peers the file has.
    Surveying,
    Reading,
    Done,
    Failed,
}

words!(ReplayStage {
    NotConfigured => "not-configured",
    Surveying => "surveying",
    Reading => "reading",
    Done => "done",
    Failed => "failed",
});

/// A pace in the words of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PaceReport(pub(super) ReplayPace);

impl fmt::Display for PaceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ReplayPace::Recorded => f.write_str("recorded"),
            ReplayPace::Maximum => f.write_str("maximum"),
            ReplayPace::UpdatesPerSecond(rate) => write!(f, "{rate} updates-per-second"),
        }
    }
}

schema_is_text!(PaceReport);

impl Serialize for PaceReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Records of one kind that were passed over.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct PassedOverRecords {
    /// The kind in words.
    pub(super) what: String,
    pub(super) records: u64,
    /// Number of the first of them, from 1.
    pub(super) first_record: u64,
    /// Where the first of them starts, in bytes of the unpacked file.
    pub(super) first_at: u64,
    pub(super) is_error: bool,
}

/// Errors of one kind in UPDATEs.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct UpdateErrors {
    pub(super) kind: TroubleKind,
    pub(super) updates: u64,
    /// Number of the record with the first of them, from 1.
    pub(super) first_record: Option<u64>,
    /// Where that record starts, in bytes of the unpacked file.
    pub(super) first_at: Option<u64>,
}

impl ReplayReports {
    /// Reports on the replays that run, and on those that have no file.
    pub(super) fn of(context: &ControlContext, config: &Config) -> Self {
        let running = context.replays.snapshot().into_iter().map(ReplayReport::running);
        let idle = config.replays.iter().filter(|(_, replay)| replay.file.is_none());
        let mut replays: Vec<_> = running.chain(idle.map(|(name, replay)| ReplayReport::idle(name, replay))).collect();
        replays.sort_by(|one, other| one.name.cmp(&other.name));
        Self(replays)
    }
}

impl ReplayReport {
    fn running(status: ReplayStatus) -> Self {
        let (state, why) = match status.state {
            ReplayState::Surveying => (ReplayStage::Surveying, None),
            ReplayState::Reading => (ReplayStage::Reading, None),
            ReplayState::Done => (ReplayStage::Done, None),
            ReplayState::Failed(why) => (ReplayStage::Failed, Some(why)),
        };
        let passed_over = status.passed_over.into_iter().map(|(kind, count)| PassedOverRecords {
            what: kind.to_string(),
            records: count.records,
            first_record: count.first.record,
            first_at: count.first.offset,
            is_error: kind.is_error(),
        });
        Self {
            name: status.name,
            file: Some(Untrusted::new(status.file.display().to_string())),
            pace: PaceReport(status.pace),
            looped: status.looped,
            state,
            why,
            rounds: status.rounds,
            bytes_read: status.bytes_read,
            file_bytes: status.file_bytes,
            records: status.records,
            file_records: status.file_records,
            updates: status.updates,
            passed_over: passed_over.collect(),
            not_understood: status.not_understood.iter().map(|misread| misread.updates).sum(),
            not_understood_by_kind: status.not_understood.into_iter().map(UpdateErrors::of).collect(),
            errors: status.errors,
            last_error: status.last_error.map(Untrusted::new),
        }
    }

    /// A replay that has no file.
    fn idle(name: &str, configured: &config::ReplayConfig) -> Self {
        Self {
            name: name.to_owned(),
            file: None,
            pace: PaceReport(configured.pace),
            looped: configured.looped,
            state: ReplayStage::NotConfigured,
            why: Some("it replays nothing until it has `file PATH`".to_owned()),
            rounds: 0,
            bytes_read: 0,
            file_bytes: None,
            records: 0,
            file_records: None,
            updates: 0,
            passed_over: Vec::new(),
            not_understood: 0,
            not_understood_by_kind: Vec::new(),
            errors: 0,
            last_error: None,
        }
    }

    /// Returns how much of the file is replayed in this round. `None` where that is not known.
    fn percent(&self) -> Option<u64> {
        match self.state {
            ReplayStage::Done => Some(100),
            _ => (self.records * 100).checked_div(self.file_records?),
        }
    }
}

impl UpdateErrors {
    fn of(misread: Misread) -> Self {
        let Misread { kind, updates, first } = misread;
        let (first_record, first_at) = (first.map(|first| first.record), first.map(|first| first.offset));
        Self { kind, updates, first_record, first_at }
    }
}

impl fmt::Display for ReplayReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Total number of replays : {}", self.0.len())?;
        self.0.iter().try_for_each(|replay| write!(f, "{replay}"))
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, " Replay {}, {}{}", self.name, self.state, after(": ", self.why.as_ref()))?;
        field(f, "File", or_dash(self.file.as_ref()))?;
        let again = if self.looped { ", again and again" } else { "" };
        field(f, "Pace", format_args!("{}{again}", self.pace))?;
        field(f, "Round", self.rounds)?;
        let (percent, records, all) = (or_dash(self.percent()), self.records, or_dash(self.file_records));
        field(f, "Progress", format_args!("{percent} %, {records} of {all} records"))?;
        field(f, "Read", format_args!("{} of {} bytes", self.bytes_read, or_dash(self.file_bytes)))?;
        field(f, "Updates", self.updates)?;
        let records: u64 = self.passed_over.iter().map(|passed_over| passed_over.records).sum();
        field(f, "Passed over", format_args!("{records} records"))?;
        for PassedOverRecords { what, records, first_record, first_at, .. } in &self.passed_over {
            writeln!(f, "    {records} {what}, the first is record {first_record} at byte {first_at}")?;
        }
        field(f, "Not understood", format_args!("{} errors in UPDATEs", self.not_understood))?;
        for UpdateErrors { kind, updates, first_record, first_at } in &self.not_understood_by_kind {
            write!(f, "    {updates} {}", kind.as_str())?;
            if let Some((record, at)) = first_record.zip(*first_at) {
                write!(f, ", the first in record {record} at byte {at}")?;
            }
            writeln!(f)?;
        }
        let last = after(", the last: ", self.last_error.as_ref());
        field(f, "Errors", format_args!("{}{last}", self.errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_errors_of_one_update_are_two_errors_and_not_two_updates() {
        let misread = |kind| Misread { kind, updates: 1, first: None };
        let status = ReplayStatus {
            name: "archive".to_owned(),
            file: "updates".into(),
            pace: ReplayPace::Maximum,
            looped: false,
            state: ReplayState::Done,
            rounds: 1,
            bytes_read: 100,
            file_bytes: Some(100),
            records: 1,
            file_records: Some(1),
            updates: 1,
            passed_over: Vec::new(),
            not_understood: vec![misread(TroubleKind::MixedPathIds), misread(TroubleKind::MalformedAttributes)],
            errors: 2,
            last_error: None,
        };
        let report = ReplayReport::running(status);
        assert_eq!((report.updates, report.not_understood), (1, 2));
        assert!(report.to_string().contains("  Not understood      : 2 errors in UPDATEs\n"), "{report}");
    }
}
