//! What the HTTP server asks of bmpd: the displays as JSON, health and readiness.

use std::{collections::BTreeMap, io};

use tokio::runtime::Handle;

use super::{
    ControlContext,
    display::WriteAnswer,
    json::{AnswerSubject, JsonAnswer},
};
use crate::config::DisplayCommand;

/// A path below `/api/v1/`, and the display that it answers with.
#[derive(Debug)]
pub struct ApiPath {
    /// The words of the display, with `/` for blanks.
    pub path: &'static str,
    /// The command.
    pub command: &'static str,
    display: DisplayCommand,
}

/// The paths below `/api/v1/`.
pub static API_PATHS: [ApiPath; 9] = [
    api_path(
        "bmp/session",
        "display bmp session",
        DisplayCommand::BmpSession { vpn_instance: None, station: None, alias: None, verbose: false },
    ),
    api_path("interface-binding", "display interface-binding", DisplayCommand::InterfaceBinding),
    api_path("bgp/peer", "display bgp peer", DisplayCommand::BgpPeer { peer: None, verbose: false }),
    api_path("bgp/bmp-monitor", "display bgp bmp-monitor all", DisplayCommand::BgpBmpMonitor),
    api_path("bmp/feed", "display bmp feed", DisplayCommand::BmpFeed),
    api_path("bmp/relay", "display bmp relay", DisplayCommand::BmpRelay),
    api_path("mrt-replay", "display mrt-replay", DisplayCommand::MrtReplay),
    api_path("configuration/trial", "display configuration trial", DisplayCommand::Trial),
    api_path("http", "display http", DisplayCommand::Http),
];

const fn api_path(path: &'static str, command: &'static str, display: DisplayCommand) -> ApiPath {
    ApiPath { path, command, display }
}

/// Returns what writes the paths as JSON, with what each answers with.
pub(crate) fn api_index() -> WriteAnswer {
    let displays = API_PATHS.iter().map(|known| (format!("/api/v1/{}", known.path), known.command));
    let events = ("/api/v1/events".to_owned(), "what the status page follows, as server-sent events");
    let index: BTreeMap<_, _> = displays.chain([events]).collect();
    Box::new(move |out| JsonAnswer::new(AnswerSubject::ApiIndex, index).write(out))
}

impl ControlContext {
    /// Returns what writes the JSON of a display, without the path's `/api/v1/`; `None` for an
    /// unknown path.
    pub(crate) fn api(&self, path: &str) -> Option<WriteAnswer> {
        let ApiPath { display, .. } = API_PATHS.iter().find(|known| known.path == path)?;
        if let Some(make) = self.large(display, true) {
            return Some(make);
        }
        let context = self.clone();
        Some(Box::new(move |out| {
            let text = Handle::current().block_on(context.reported(display, true));
            out.write_all(text.map_err(io::Error::other)?.as_bytes())
        }))
    }

    /// Returns why this bmpd is not ready, a sentence each; none if it is.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.pins.is_settled() {
            faults.push("the pins of the configuration are not in force yet".to_owned());
        } else if !self.pins.follows(&self.store.running()) {
            faults.push("the pins do not follow from the configuration in force yet".to_owned());
        }
        faults.extend(self.find_loss());
        faults
    }

    /// Proves that what sessions and displays need can be had: the feed, the statuses and the
    /// kernel's tables. Blocks for as long as they are held.
    pub(crate) fn probe(&self) {
        let _ = self.feed.head();
        let config = self.store.running();
        for id in config.bmp.sessions.keys() {
            if let Some(session) = self.sessions.get(id) {
                let _ = session.status.snapshot();
            }
        }
        let _ = self.relays.snapshot();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_every_path_with_its_display() {
        const GUIDE: &str = include_str!("../../../docs/guide/monitoring.md");
        for ApiPath { path, command, .. } in &API_PATHS {
            let row = format!("| `/api/v1/{path}` | JSON of `{command}` |");
            let linked = format!("| `/api/v1/{path}` | [JSON](../reference/json.md) of `{command}` |");
            assert!(GUIDE.contains(&row) || GUIDE.contains(&linked), "{row}");
        }
    }
}
