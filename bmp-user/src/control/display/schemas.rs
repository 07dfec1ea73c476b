//! The schema of each answer in JSON, by the type of its data.

use std::collections::BTreeMap;

use super::{
    super::{consequences::Remark, json::AnswerSubject, schema::AnswerSchema},
    binding::BindingReports,
    commits::CommitReports,
    debugging::DebuggingReports,
    feed::FeedReport,
    http::HttpReport,
    log_buffer::LogReport,
    monitored::MonitoredPeer,
    peer::{BgpPeerReport, SpeakerReport},
    relay::RelayReports,
    replay::ReplayReports,
    session::SessionReport,
    status::StatusReport,
    trial::CurrentTrial,
    version::VersionReport,
};

/// Returns the schemas of all answers but that of `bmpd doctor`.
///
/// # Errors
///
/// `docs/reference/json.md` lacks a field of an answer, or has one that no answer has.
pub fn answer_schemas() -> anyhow::Result<Vec<AnswerSchema>> {
    Ok(vec![
        AnswerSchema::of::<Vec<SessionReport>>(AnswerSubject::BmpSession)?,
        AnswerSchema::of::<BindingReports>(AnswerSubject::InterfaceBinding)?,
        AnswerSchema::of::<SpeakerReport<std::vec::IntoIter<BgpPeerReport>>>(AnswerSubject::BgpPeer)?,
        AnswerSchema::of::<Vec<MonitoredPeer>>(AnswerSubject::BgpBmpMonitor)?,
        AnswerSchema::of::<FeedReport>(AnswerSubject::BmpFeed)?,
        AnswerSchema::of::<RelayReports>(AnswerSubject::BmpRelay)?,
        AnswerSchema::of::<ReplayReports>(AnswerSubject::MrtReplay)?,
        AnswerSchema::of::<CurrentTrial>(AnswerSubject::ConfigurationTrial)?,
        AnswerSchema::of::<CommitReports>(AnswerSubject::ConfigurationCommitList)?,
        AnswerSchema::of::<HttpReport>(AnswerSubject::Http)?,
        AnswerSchema::of::<VersionReport>(AnswerSubject::Version)?,
        AnswerSchema::of::<LogReport>(AnswerSubject::LogBuffer)?,
        AnswerSchema::of::<DebuggingReports>(AnswerSubject::Debugging)?,
        AnswerSchema::of::<Vec<Remark>>(AnswerSubject::Commit)?,
        AnswerSchema::of::<BTreeMap<String, String>>(AnswerSubject::ApiIndex)?,
        AnswerSchema::of::<StatusReport>(AnswerSubject::ApiEvents)?,
    ])
}
