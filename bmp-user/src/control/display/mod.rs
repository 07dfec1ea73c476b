//! What `display` answers.

mod binding;
mod enforcement;
mod feed;
mod guard;
mod json;
mod layout;
mod monitored;
mod names;
mod peer;
mod refused;
mod relay;
mod replay;
mod session;
mod silent;
mod text;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod samples;

use std::io::{self, Write};

use anyhow::anyhow;

pub(super) use json::as_json;
use json::write_json;
pub(super) use names::egress_names;
use session::Wanted;
pub(super) use session::waiting;

use super::{Context, defaults};
use crate::{
    config::{Config, Display, Editor, TrialReport},
    escape::escaped_lines,
};

/// Writes an answer.
pub(super) type Make = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

impl Context {
    pub(super) async fn display(&self, editor: &Editor, what: &Display, json: bool) -> anyhow::Result<String> {
        let answer = self.answer(editor, what, json).await?;
        Ok(if json { answer } else { escaped_lines(&answer).to_string() })
    }

    async fn answer(&self, editor: &Editor, what: &Display, json: bool) -> anyhow::Result<String> {
        let config = self.store.running();
        match what {
            Display::BmpSession { vpn_instance, station, alias, verbose } => {
                let wanted = Wanted { vpn_instance: vpn_instance.clone(), station: *station, alias: alias.clone() };
                if let Some(station) = station
                    && wanted.of(&config).next().is_none()
                {
                    let vpn_instance =
                        vpn_instance.as_ref().map(|name| format!("vpn-instance {name} ")).unwrap_or_default();
                    let alias = alias.as_ref().map(|alias| format!(" alias {alias}")).unwrap_or_default();
                    return Err(anyhow!("no bmp-session {vpn_instance}{station}{alias} is configured"));
                }
                let mut text = Vec::new();
                self.write_sessions(&mut text, &config, &wanted, *verbose, json)?;
                Ok(String::from_utf8(text)?)
            }
            Display::InterfaceBinding => {
                let bindings = binding::bindings(self, &config).await;
                if json { as_json(&bindings) } else { Ok(binding::text(&bindings)) }
            }
            Display::BgpPeer { peer, verbose } => {
                if let Some(peer) = peer.filter(|peer| !self.bgp_peers.addresses().contains(peer)) {
                    return Err(anyhow!("no peer {peer} is configured in the bgp view"));
                }
                let mut text = Vec::new();
                peer::write(self, &config, *peer, *verbose, json, &mut text)?;
                Ok(String::from_utf8(text)?)
            }
            Display::BgpBmpMonitor => {
                let mut text = Vec::new();
                monitored::write(self, &config, json, &mut text)?;
                Ok(String::from_utf8(text)?)
            }
            Display::BmpFeed => {
                let feed = feed::Feed::of(&self.feed);
                if json { as_json(&feed) } else { Ok(feed.text()) }
            }
            Display::BmpRelay => {
                let relays = relay::relays(self, &config);
                if json { as_json(&relays) } else { Ok(relay::relays_text(&relays)) }
            }
            Display::MrtReplay => {
                let replays = replay::replays(self, &config);
                if json { as_json(&replays) } else { Ok(replay::replays_text(&replays)) }
            }
            Display::Trial => {
                let trial = self.store.trial().await;
                if json { as_json(&trial) } else { Ok(trial.map_or_else(no_trial, |trial| trial_text(&trial))) }
            }
            _ if json => Err(anyhow!("this has no JSON form: leave out --json")),
            Display::CurrentConfiguration => Ok(config.to_string()),
            Display::Candidate { changes: false } => Ok(editor.candidate().to_string()),
            Display::Candidate { changes: true } => {
                let mut text = editor.changes().to_string();
                if let Some(conflict) = editor.conflict() {
                    // With line ends of its own where it shows what the other operator did.
                    text.push_str(&format!("Warning: a commit will be refused: {}\n", conflict.to_string().trim_end()));
                } else if editor.is_behind() {
                    text.push_str(
                        "Info: another configuration is in force than when this candidate was begun: \
                         a commit puts these changes on top of it.\n",
                    );
                }
                Ok(text)
            }
            Display::DefaultParameterBmp => Ok(defaults::text()),
        }
    }

    /// What makes an answer that may be large; `None` where it is not.
    pub(super) fn large(&self, what: &Display, json: bool) -> Option<Make> {
        let (context, config) = (self.clone(), self.store.running());
        match what {
            Display::BgpBmpMonitor => Some(Box::new(move |out| monitored::write(&context, &config, json, out))),
            Display::BmpSession { vpn_instance, station: None, alias: None, verbose } => {
                let (wanted, verbose) = (Wanted { vpn_instance: vpn_instance.clone(), ..Wanted::default() }, *verbose);
                Some(Box::new(move |out| context.write_sessions(out, &config, &wanted, verbose, json)))
            }
            Display::BgpPeer { peer: None, verbose } => {
                let verbose = *verbose;
                Some(Box::new(move |out| peer::write(&context, &config, None, verbose, json, out)))
            }
            _ => None,
        }
    }

    /// Writes one session after another, each as it is when its turn comes. Of text that others have a part in is what would harm a terminal
    /// escaped.
    fn write_sessions(
        &self,
        out: &mut dyn Write,
        config: &Config,
        wanted: &Wanted,
        verbose: bool,
        json: bool,
    ) -> io::Result<()> {
        let reports = || session::sessions(self, config, wanted);
        if json {
            return write_json(out, reports());
        }
        let is_up = |id| self.sessions.get(id).is_some_and(|session| session.status.snapshot().phase.is_up());
        let (number, up) = (wanted.of(config).count(), wanted.of(config).filter(|(id, _)| is_up(id)).count());
        out.write_all(text::totals(number, up).as_bytes())?;
        if !verbose {
            return write!(out, "{}", escaped_lines(&text::table_of_sessions(reports())));
        }
        let monitored = monitored::ByFamily::of(&self.feed);
        for (report, (_, session)) in reports().zip(wanted.of(config)) {
            write!(out, "{}", escaped_lines(&text::session(&report, &monitored.told(session))))?;
        }
        Ok(())
    }
}

fn no_trial() -> String {
    "No trial is in force.\n".to_owned()
}

fn trial_text(trial: &TrialReport) -> String {
    let user =
        trial.user.clone().or(trial.uid.map(|uid| format!("user {uid}"))).unwrap_or_else(|| "unknown".to_owned());
    let process = trial.process.map(|process| format!("process {process}, ")).unwrap_or_default();
    let connected = if trial.connected { "connected" } else { "its connection is closed" };
    format!(
        " Owner       : {user}\n Connection  : {process}{connected}\n Time left   : {} s of {} s\n",
        trial.seconds_left, trial.seconds
    )
}
