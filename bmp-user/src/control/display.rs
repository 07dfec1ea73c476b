//! What `display` answers, and what a commit warns of.

use std::io::{self, Write};

use anyhow::{Context as _, anyhow};

use super::{
    Context, bgp, binding, defaults, inputs, monitored,
    pieces::Make,
    report::{self, Wanted},
    text, warnings,
};
use crate::{
    config::{Config, Display, Editor, SessionId, TrialReport, effective},
    escape::escaped_lines,
    pin::{Reason, State},
};

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
                bgp::write(self, &config, *peer, *verbose, json, &mut text)?;
                Ok(String::from_utf8(text)?)
            }
            Display::BgpBmpMonitor => {
                let mut text = Vec::new();
                monitored::write(self, &config, json, &mut text)?;
                Ok(String::from_utf8(text)?)
            }
            Display::BmpFeed => {
                let feed = inputs::Feed::of(&self.feed);
                if json { as_json(&feed) } else { Ok(feed.text()) }
            }
            Display::BmpRelay => {
                let relays = inputs::relays(self, &config);
                if json { as_json(&relays) } else { Ok(inputs::relays_text(&relays)) }
            }
            Display::MrtReplay => {
                let replays = inputs::replays(self, &config);
                if json { as_json(&replays) } else { Ok(inputs::replays_text(&replays)) }
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
                Some(Box::new(move |out| bgp::write(&context, &config, None, verbose, json, out)))
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
        let reports = || report::sessions(self, config, wanted);
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

    /// What an operator should know about what a commit has changed though nothing is down for it;
    /// a sentence each.
    pub(super) async fn warnings(&self, before: &Config, now: &Config) -> Vec<String> {
        let host = self.host.borrow().clone();
        let mut sentences = Vec::new();
        for (id, session) in &now.bmp.sessions {
            let wanted = effective(&now.bmp, id, session).connect;
            let changed = before.bmp.sessions.get(id).is_none_or(|was| {
                effective(&before.bmp, id, was).connect != wanted
                    || was.next_hop != session.next_hop
                    || was.egress_interfaces != session.egress_interfaces
                    || was.transport != session.transport
            });
            // Of one that is down the reason is said, which is more.
            let is_down = matches!(&*self.pins.session(id).subscribe().borrow(), State::Down(_));
            if changed && !is_down {
                sentences.extend(warnings::of(now, id, session, &host, &self.routes).await);
            }
        }
        let peers = |config: &Config| config.bgp.as_ref().map(|bgp| bgp.peers.clone()).unwrap_or_default();
        let earlier = peers(before);
        for (address, peer) in peers(now) {
            let changed = earlier.get(&address).is_none_or(|was| was.connect_interface != peer.connect_interface);
            if changed {
                sentences.extend(warnings::of_peer(now, address, &peer, &host));
            }
        }
        let nothing = |_: &SessionId, _: &str| false;
        let known = warnings::of_names(before, &host, nothing);
        let is_said = |id: &SessionId, name: &str| match &*self.pins.session(id).subscribe().borrow() {
            State::Down(unresolved) => {
                unresolved.reason == Reason::InterfaceAbsent && unresolved.why.contains(&format!("interface {name} "))
            }
            State::Pending | State::Ready(_) => false,
        };
        let named = warnings::of_names(now, &host, is_said);
        sentences.extend(named.into_iter().filter(|sentence| !known.contains(sentence)));
        let inputs = |config: &Config| [warnings::of_configuration(config), warnings::of_relays(config)].concat();
        let known = inputs(before);
        sentences.extend(inputs(now).into_iter().filter(|sentence| !known.contains(sentence)));
        sentences
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

/// Writes an array of JSON, one element after another.
pub(super) fn write_json<T: serde::Serialize>(
    out: &mut dyn Write,
    elements: impl Iterator<Item = T>,
) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::pretty(&mut *out);
    serde::Serializer::collect_seq(&mut serializer, elements)?;
    out.write_all(b"\n")
}

pub(super) fn as_json(answer: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(answer).context("cannot write the answer as JSON")?;
    text.push('\n');
    Ok(text)
}
