//! What `display` answers, and what a commit warns of.

use std::{fs, net::IpAddr};

use anyhow::{Context as _, anyhow};

use super::{Context, binding, defaults, report, text};
use crate::config::{Config, Display, Editor, effective, print};

impl Context {
    pub(super) fn display(&self, editor: &Editor, what: &Display, json: bool) -> anyhow::Result<String> {
        let config = self.store.running();
        match what {
            Display::BmpSession { vpn_instance, station, verbose } => {
                self.display_sessions(&config, vpn_instance.as_deref(), *station, *verbose, json)
            }
            Display::InterfaceBinding => {
                let bindings = binding::bindings(self, &config);
                if json { as_json(&bindings) } else { Ok(binding::text(&bindings)) }
            }
            _ if json => Err(anyhow!("this has no JSON form: leave out --json")),
            Display::CurrentConfiguration => Ok(print(&config)),
            Display::Candidate { changes: false } => Ok(print(editor.candidate())),
            Display::Candidate { changes: true } => {
                let mut text = editor.changes().to_string();
                if editor.is_behind() {
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

    fn display_sessions(
        &self,
        config: &Config,
        vpn_instance: Option<&str>,
        station: Option<IpAddr>,
        verbose: bool,
        json: bool,
    ) -> anyhow::Result<String> {
        let reports = report::sessions(self, config, vpn_instance, station);
        if reports.is_empty()
            && let Some(station) = station
        {
            return Err(match vpn_instance {
                Some(name) => anyhow!("no bmp-session vpn-instance {name} {station} is configured"),
                None => anyhow!("no bmp-session {station} is configured"),
            });
        }
        if json { as_json(&reports) } else { Ok(text::sessions(&reports, verbose)) }
    }

    /// What an operator should know about sessions whose source a commit has changed; a line each.
    pub(super) fn warnings(&self, before: &Config, now: &Config) -> String {
        let host = self.host.borrow();
        let mut text = String::new();
        for (id, session) in &now.bmp.sessions {
            let wanted = effective(&now.bmp, id, session).connect;
            let was = before.bmp.sessions.get(id).and_then(|session| effective(&before.bmp, id, session).connect);
            let Some(name) = wanted.as_ref().filter(|_| wanted != was).and_then(|connect| connect.interface()) else {
                continue;
            };
            let Some(link) = host.link_named(name, &now.interface_aliases) else { continue };
            if link.layer2(&host) {
                text.push_str(&format!(
                    "Warning: interface {name} is a layer 2 port: session {id} stays down while it is.\n"
                ));
            }
            // The session's socket takes replies on that interface alone; with a next hop it is not bound to it.
            if id.station.is_ipv4() && !link.donor() && session.next_hop.is_none() && strict_rp_filter(&link.name) {
                text.push_str(&format!(
                    "Warning: rp_filter is strict on interface {name}: replies to session {id} are dropped there where \
                     another interface has the better route to the station (sysctl net.ipv4.conf.{}.rp_filter=2).\n",
                    link.name
                ));
            }
        }
        text
    }
}

/// Strict reverse path filtering (ip-sysctl of the kernel's documentation): the higher of the interface's value and that of `all`
/// counts, and 1 is strict.
fn strict_rp_filter(interface: &str) -> bool {
    let value = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
        text.ok().and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0)
    };
    value("all").max(value(interface)) == 1
}

fn as_json(answer: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(answer).context("cannot write the answer as JSON")?;
    text.push('\n');
    Ok(text)
}
