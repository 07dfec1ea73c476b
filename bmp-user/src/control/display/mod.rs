//! What `display` answers. Each display is a report: a struct with enums, whose `Display` is the
//! text and whose `Serialize` is the JSON.
//!
//! * `session`, `peer`, `binding`, `feed`, `relay`, `replay`, `monitored`, `trial`, `http`: one
//!   display each
//! * `metrics`: the same reports as metrics; `status`: what the status page shows
//! * `egress`, `guard`, `hold_down`, `refused`, `routeless`: parts of reports
//! * `layout`: labels, columns, ages and rounding; `json`: how JSON is written
//! * `samples` and `golden`: the tests of all displays

mod binding;
mod egress;
mod feed;
mod guard;
mod hold_down;
mod http;
mod json;
mod layout;
mod metrics;
mod monitored;
mod peer;
mod refused;
mod relay;
mod replay;
mod routeless;
mod session;
mod status;
mod trial;

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

pub(super) use json::as_json;
pub use layout::VALUE_COLUMN;

use super::{ControlContext, defaults};
use crate::{
    config::{CandidateEditor, DisplayCommand},
    escape::escaped_lines,
};
use binding::BindingReports;
use feed::FeedReport;
use http::HttpReport;
use relay::RelayReports;
use replay::ReplayReports;
use session::SessionFilter;
use trial::CurrentTrial;

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
            | DisplayCommand::CurrentConfiguration
            | DisplayCommand::DefaultParameterBmp
                if json =>
            {
                Err(anyhow!("this has no JSON form: leave out --json"))
            }
            DisplayCommand::CurrentConfiguration => Ok(self.store.running().to_string()),
            DisplayCommand::Candidate { changes: false } => Ok(editor.candidate().to_string()),
            DisplayCommand::Candidate { changes: true } => Ok(candidate_changes(editor)),
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
                in_memory(|out| session::write(self, &config, &filter, rendering, out))
            }
            DisplayCommand::BgpPeer { peer, verbose } => {
                if let Some(peer) = peer.filter(|peer| !self.bgp_peers.addresses().contains(peer)) {
                    return Err(anyhow!("no peer {peer} is configured in the bgp view"));
                }
                let rendering = Rendering::of(*verbose, json);
                in_memory(|out| peer::write(self, &config, *peer, rendering, out))
            }
            DisplayCommand::BgpBmpMonitor => in_memory(|out| monitored::write(self, &config, json, out)),
            DisplayCommand::InterfaceBinding => rendered(&BindingReports::of(self, &config).await, json),
            DisplayCommand::BmpFeed => rendered(&FeedReport::of(&self.feed), json),
            DisplayCommand::BmpRelay => rendered(&RelayReports::of(self, &config), json),
            DisplayCommand::MrtReplay => rendered(&ReplayReports::of(self, &config), json),
            DisplayCommand::Trial => rendered(&CurrentTrial(self.store.trial().await), json),
            DisplayCommand::Http => rendered(&HttpReport::of(self), json),
            DisplayCommand::CurrentConfiguration
            | DisplayCommand::Candidate { .. }
            | DisplayCommand::DefaultParameterBmp => Err(anyhow!("this has no report")),
        }
    }

    /// Returns what writes an answer that may be large, or `None` where the answer is short.
    pub(super) fn large(&self, what: &DisplayCommand, json: bool) -> Option<WriteAnswer> {
        let (context, config) = (self.clone(), self.store.running());
        match what {
            DisplayCommand::BgpBmpMonitor => Some(Box::new(move |out| monitored::write(&context, &config, json, out))),
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
fn rendered(report: &(impl fmt::Display + Serialize), json: bool) -> anyhow::Result<String> {
    if json { as_json(report) } else { Ok(report.to_string()) }
}

/// Returns an answer that fits into memory.
fn in_memory(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<String> {
    let mut text = Vec::new();
    write(&mut text)?;
    Ok(String::from_utf8(text)?)
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
