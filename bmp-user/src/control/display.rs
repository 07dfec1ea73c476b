//! What `display` answers, and what a commit warns of.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use anyhow::{Context as _, anyhow};

use super::{Context, bgp, binding, defaults, inputs, monitored, pieces::Make, report, text, warnings};
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
                let named = (vpn_instance.as_deref(), *station, alias.as_deref());
                self.display_sessions(&config, named, *verbose, json)
            }
            Display::InterfaceBinding => {
                let bindings = binding::bindings(self, &config).await;
                if json { as_json(&bindings) } else { Ok(binding::text(&bindings)) }
            }
            Display::BgpPeer { peer, verbose } => {
                let speaker = bgp::speaker(self, &config, *peer);
                if let Some(peer) = peer.filter(|_| speaker.is_empty()) {
                    return Err(anyhow!("no peer {peer} is configured in the bgp view"));
                }
                if json { as_json(&speaker) } else { Ok(speaker.text(*verbose)) }
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
            Display::BmpSession { vpn_instance: None, station: None, alias: None, verbose } if json || *verbose => {
                let verbose = *verbose;
                Some(Box::new(move |out| match json {
                    true => write_json(out, report::sessions(&context, &config, None, None)),
                    false => {
                        let text = context.display_sessions(&config, (None, None, None), verbose, false);
                        write!(out, "{}", escaped_lines(&text.map_err(io::Error::other)?))
                    }
                }))
            }
            _ => None,
        }
    }

    fn display_sessions(
        &self,
        config: &Config,
        (vpn_instance, station, alias): (Option<&str>, Option<IpAddr>, Option<&str>),
        verbose: bool,
        json: bool,
    ) -> anyhow::Result<String> {
        let mut reports = report::sessions(self, config, vpn_instance, station).collect::<Vec<_>>();
        reports.retain(|report| alias.is_none() || report.alias.as_deref() == alias);
        if reports.is_empty()
            && let Some(station) = station
        {
            let vpn_instance = vpn_instance.map(|name| format!("vpn-instance {name} ")).unwrap_or_default();
            let alias = alias.map(|alias| format!(" alias {alias}")).unwrap_or_default();
            return Err(anyhow!("no bmp-session {vpn_instance}{station}{alias} is configured"));
        }
        if json {
            return as_json(&reports);
        }
        let monitored = monitored::by_family(&self.feed, config);
        Ok(text::sessions(&reports, verbose.then_some(&monitored)))
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
        let known = warnings::of_inputs(before);
        sentences.extend(warnings::of_inputs(now).into_iter().filter(|sentence| !known.contains(sentence)));
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
