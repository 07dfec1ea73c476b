//! What `display` answers. Each display is a report: a struct with enums, whose `Display` is the
//! text and whose `Serialize` is the JSON.
//!
//! * `session`, `peer`, `binding`, `feed`, `relay`, `replay`, `monitored`, `trial`, `http`,
//!   `version`, `log_buffer`, `debugging`, `commits`: one display each
//! * `metrics`: the same reports as metrics; `status`: what the status page shows
//! * `egress`, `guard`, `hold_down`, `refused`, `routeless`, `uplink`: parts of reports
//! * `layout`: labels, columns, ages and rounding
//! * `schemas`: the schema of each answer in JSON
//! * `samples` and `golden`: the tests of all displays

mod binding;
mod commits;
mod debugging;
mod egress;
mod feed;
mod guard;
mod hold_down;
mod http;
mod layout;
mod log_buffer;
mod metrics;
mod monitored;
mod peer;
mod refused;
mod relay;
mod replay;
mod routeless;
mod schemas;
mod session;
mod status;
mod trial;
mod uplink;
mod version;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod json_document;
#[cfg(test)]
mod samples;

use std::{
    fmt,
    io::{self, Write},
};

use anyhow::anyhow;
use serde::Serialize;

pub use layout::VALUE_COLUMN;
pub use schemas::answer_schemas;

use super::{
    ControlContext, defaults,
    json::{AnswerSubject, as_json},
};
use crate::{
    config::{CandidateEditor, CommandView, Config, DisplayCommand, print_view},
    escape::escaped_lines,
    tasks,
};
use binding::BindingReports;
use commits::{CommitReports, changes_text};
use debugging::DebuggingReports;
use feed::FeedReport;
use http::HttpReport;
use log_buffer::LogReport;
use relay::RelayReports;
use replay::ReplayReports;
use session::SessionFilter;
use trial::CurrentTrial;
use version::VersionReport;

/// Writes an answer that may be large.
pub(crate) type WriteAnswer = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// The forms of a display that has a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rendering {
    /// A row for each.
    Table,
    /// Several lines for each: `verbose`.
    Detailed,
    Json,
}

impl Rendering {
    fn of(verbose: bool, json: bool) -> Self {
        match (json, verbose) {
            (true, _) => Self::Json,
            (false, true) => Self::Detailed,
            (false, false) => Self::Table,
        }
    }
}

impl ControlContext {
    /// Answers a `display`.
    ///
    /// # Errors
    ///
    /// The session or peer that is asked for is not configured, or the display has no JSON.
    pub(super) async fn display(
        &self,
        editor: &CandidateEditor,
        what: &DisplayCommand,
        json: bool,
    ) -> anyhow::Result<String> {
        let answer = self.answer(editor, what, json).await?;
        Ok(if json { answer } else { escaped_lines(&answer).to_string() })
    }

    async fn answer(&self, editor: &CandidateEditor, what: &DisplayCommand, json: bool) -> anyhow::Result<String> {
        match what {
            DisplayCommand::Candidate { .. }
            | DisplayCommand::CommitChanges { .. }
            | DisplayCommand::CurrentConfiguration { .. }
            | DisplayCommand::This
            | DisplayCommand::DefaultParameterBmp
                if json =>
            {
                Err(anyhow!("this has no JSON form: leave out --json"))
            }
            DisplayCommand::CurrentConfiguration { view: None } => Ok(self.store.running().to_string()),
            DisplayCommand::CurrentConfiguration { view: Some(view) } => part(&self.store.running(), view),
            DisplayCommand::This if *editor.view() == CommandView::User => Err(anyhow!(
                "the user view configures nothing: `display current-configuration` shows the whole configuration"
            )),
            DisplayCommand::This => part(editor.candidate(), editor.view()),
            DisplayCommand::Candidate { changes: false } => Ok(editor.candidate().to_string()),
            DisplayCommand::Candidate { changes: true } => Ok(candidate_changes(editor)),
            DisplayCommand::CommitChanges { at, last } => {
                let changes = self.store.commit_changes(at.map(u64::from), commits::most(*last)).await?;
                Ok(changes_text(&changes))
            }
            DisplayCommand::DefaultParameterBmp => Ok(defaults::text()),
            _ => self.reported(what, json).await,
        }
    }

    /// Answers a `display` that has a report.
    ///
    /// # Errors
    ///
    /// The session or peer that is asked for is not configured.
    pub(super) async fn reported(&self, what: &DisplayCommand, json: bool) -> anyhow::Result<String> {
        let config = self.store.running();
        match what {
            DisplayCommand::BmpSession { vpn_instance, station, alias, verbose } => {
                let filter =
                    SessionFilter { vpn_instance: vpn_instance.clone(), station: *station, alias: alias.clone() };
                if let Some(station) = station
                    && filter.select(&config).next().is_none()
                {
                    let vpn_instance =
                        vpn_instance.as_ref().map(|name| format!("vpn-instance {name} ")).unwrap_or_default();
                    let alias = alias.as_ref().map(|alias| format!(" alias {alias}")).unwrap_or_default();
                    return Err(anyhow!("no bmp-session {vpn_instance}{station}{alias} is configured"));
                }
                let rendering = Rendering::of(*verbose, json);
                let context = self.clone();
                let write = move || in_memory(|out| session::write(&context, &config, &filter, rendering, out));
                tasks::blocking(write).await?
            }
            DisplayCommand::BgpPeer { peer, verbose } => {
                if let Some(peer) = peer.filter(|peer| !self.bgp_peers.addresses().contains(peer)) {
                    return Err(anyhow!("no peer {peer} is configured in the bgp view"));
                }
                let rendering = Rendering::of(*verbose, json);
                in_memory(|out| peer::write(self, &config, *peer, rendering, out))
            }
            DisplayCommand::BgpBmpMonitor => in_memory(|out| monitored::write(self, &config, json, out)),
            DisplayCommand::MonitoredPeer { vpn_instance, peer } => {
                in_memory(|out| monitored::write_peer(self, &config, vpn_instance.clone(), *peer, json, out))
            }
            DisplayCommand::InterfaceBinding => {
                rendered(AnswerSubject::InterfaceBinding, &BindingReports::of(self, &config).await, json)
            }
            DisplayCommand::BmpFeed => rendered(AnswerSubject::BmpFeed, &FeedReport::of(self, &config), json),
            DisplayCommand::BmpRelay => rendered(AnswerSubject::BmpRelay, &RelayReports::of(self, &config), json),
            DisplayCommand::MrtReplay => rendered(AnswerSubject::MrtReplay, &ReplayReports::of(self, &config), json),
            DisplayCommand::Trial => {
                rendered(AnswerSubject::ConfigurationTrial, &CurrentTrial(self.store.trial().await), json)
            }
            DisplayCommand::Http => rendered(AnswerSubject::Http, &HttpReport::of(self), json),
            DisplayCommand::CommitList { last } => rendered(
                AnswerSubject::ConfigurationCommitList,
                &CommitReports::of(self.store.commits().await?, *last),
                json,
            ),
            DisplayCommand::Version => rendered(AnswerSubject::Version, &VersionReport::of(self), json),
            DisplayCommand::Debugging => rendered(AnswerSubject::Debugging, &DebuggingReports::of(self, &config), json),
            DisplayCommand::LogBuffer { last } => rendered(AnswerSubject::LogBuffer, &LogReport::of(*last), json),
            DisplayCommand::CurrentConfiguration { .. }
            | DisplayCommand::This
            | DisplayCommand::Candidate { .. }
            | DisplayCommand::CommitChanges { .. }
            | DisplayCommand::DefaultParameterBmp => Err(anyhow!("this has no report")),
        }
    }

    /// Returns what writes an answer that may be large, or `None` where the answer is short.
    pub(super) fn large(&self, what: &DisplayCommand, json: bool) -> Option<WriteAnswer> {
        let (context, config) = (self.clone(), self.store.running());
        match what {
            DisplayCommand::BgpBmpMonitor => Some(Box::new(move |out| monitored::write(&context, &config, json, out))),
            // Daemons may report one address many times, with other identifiers.
            DisplayCommand::MonitoredPeer { vpn_instance, peer } => {
                let (vpn_instance, peer) = (vpn_instance.clone(), *peer);
                Some(Box::new(move |out| monitored::write_peer(&context, &config, vpn_instance, peer, json, out)))
            }
            DisplayCommand::BmpSession { vpn_instance, station: None, alias: None, verbose } => {
                let filter = SessionFilter { vpn_instance: vpn_instance.clone(), ..SessionFilter::default() };
                let rendering = Rendering::of(*verbose, json);
                Some(Box::new(move |out| session::write(&context, &config, &filter, rendering, out)))
            }
            DisplayCommand::BgpPeer { peer: None, verbose } => {
                let rendering = Rendering::of(*verbose, json);
                Some(Box::new(move |out| peer::write(&context, &config, None, rendering, out)))
            }
            _ => None,
        }
    }
}

/// Renders a report as text or as JSON.
fn rendered(subject: AnswerSubject, report: &(impl fmt::Display + Serialize), json: bool) -> anyhow::Result<String> {
    if json { as_json(subject, report) } else { Ok(report.to_string()) }
}

/// Returns an answer that fits into memory.
fn in_memory(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<String> {
    let mut text = Vec::new();
    write(&mut text)?;
    Ok(String::from_utf8(text)?)
}

/// Returns what a view of a configuration configures.
fn part(config: &Config, view: &CommandView) -> anyhow::Result<String> {
    print_view(config, view).ok_or_else(|| anyhow!("no {view} is configured"))
}

fn candidate_changes(editor: &CandidateEditor) -> String {
    let mut text = editor.changes().to_string();
    if let Some(conflict) = editor.conflict() {
        // Where it shows the other operator's lines, it has line ends of its own.
        text.push_str(&format!("Warning: a commit will be refused: {}\n", conflict.to_string().trim_end()));
    } else if editor.is_behind() {
        text.push_str(
            "Info: another configuration is in force than when this candidate was begun: \
             a commit puts these changes on top of it.\n",
        );
    }
    text
}
