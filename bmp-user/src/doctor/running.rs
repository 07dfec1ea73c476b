//! What a bmpd that runs says of itself, its sessions and its relays.

use std::path::Path;

use serde_json::Value;

use super::{DoctorFinding, Examined, FindingState};
use crate::control::{Client, CommandAnswer, Request, read_json};

/// Asks the bmpd behind the control socket. `None` if none serves it.
pub(super) fn examine(control: &Path) -> Option<Vec<DoctorFinding>> {
    let mut client = match Client::connect(control) {
        Ok(client) => client,
        Err(_) if !control.exists() => return None,
        Err(error) => return Some(vec![DoctorFinding::problem(Examined::Daemon, format!("{error:#}"))]),
    };
    Some(ask(&mut client).unwrap_or_else(|error| vec![DoctorFinding::problem(Examined::Daemon, format!("{error:#}"))]))
}

fn ask(client: &mut Client) -> anyhow::Result<Vec<DoctorFinding>> {
    let mut lost = None;
    let mut display = |command: &str| -> anyhow::Result<Vec<Value>> {
        let response = client.ask(&Request { command: command.to_owned(), json: true, ..Request::default() })?;
        lost = lost.take().or(response.lost);
        match response.answer {
            CommandAnswer::Done(json) => read_json(&json),
            other => anyhow::bail!("bmpd does not answer `{command}`: {other:?}"),
        }
    };
    let sessions = display("display bmp session")?;
    let bindings = display("display interface-binding")?;
    let relays = display("display bmp relay")?;
    let mut findings = vec![match lost {
        Some(lost) => DoctorFinding::problem(Examined::Daemon, lost),
        None => DoctorFinding::ok(Examined::Daemon, "bmpd runs, and enforces what it can"),
    }];
    findings.extend(sessions.iter().map(session));
    findings.extend(bindings.iter().flat_map(warnings));
    findings.extend(relays.iter().flat_map(relay));
    Ok(findings)
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Names a session as `display` does: `198.51.100.7`, with its VPN instance and alias.
fn name(session: &Value) -> String {
    let mut name = text(session, "station").to_owned();
    for (word, field) in [("vpn-instance", "vpn_instance"), ("alias", "alias")] {
        let value = text(session, field);
        if !value.is_empty() && value != "_public_" {
            name.push_str(&format!(" {word} {value}"));
        }
    }
    name
}

fn session(session: &Value) -> DoctorFinding {
    let name = name(session);
    match (text(session, "state"), text(session, "reason")) {
        ("up", _) => DoctorFinding::ok(Examined::Session, format!("{name} is up")),
        // It waits for the other end, or for the time that an operator set.
        (
            _,
            reason @ (""
            | "waiting-for-station"
            | "waiting-for-daemon"
            | "waiting-for-router"
            | "initial-delay"
            | "shutdown"),
        ) => {
            let reason = if reason.is_empty() { "has not connected yet" } else { reason };
            DoctorFinding::new(Examined::Session, FindingState::Warning, format!("{name} is not up: {reason}"))
        }
        (_, reason) => {
            DoctorFinding::problem(Examined::Session, format!("{name} is down: {reason}: {}", text(session, "detail")))
                .mended_by(text(session, "mend"))
        }
    }
}

fn warnings(binding: &Value) -> Vec<DoctorFinding> {
    let warnings = binding.get("warnings").and_then(Value::as_array).into_iter().flatten();
    warnings.filter_map(Value::as_str).map(|warning| DoctorFinding::warning(Examined::Session, warning)).collect()
}

fn relay(relay: &Value) -> Vec<DoctorFinding> {
    let name = text(relay, "name");
    let mut findings = vec![match text(relay, "state") {
        "listening" => DoctorFinding::ok(Examined::Relay, format!("{name} listens on {}", text(relay, "listen"))),
        "failed" => DoctorFinding::problem(Examined::Relay, format!("{name} does not listen: {}", text(relay, "why"))),
        state => DoctorFinding::warning(Examined::Relay, format!("{name} is {state}")),
    }];
    let peers = relay.get("peers_without_routes").and_then(Value::as_array).into_iter().flatten();
    findings.extend(peers.map(|peer| {
        let text = format!("{name}: peer {} is up and has no route: {}", text(peer, "peer"), text(peer, "hint"));
        DoctorFinding::warning(Examined::Relay, text)
    }));
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_session_that_is_down_is_a_problem_with_its_reason_and_mend() {
        let down = json!({
            "station": "198.51.100.7", "vpn_instance": "blue", "alias": "lab", "state": "down",
            "reason": "no-route", "detail": "there is no route", "mend": "ip route add",
        });
        let expected = DoctorFinding::problem(
            Examined::Session,
            "198.51.100.7 vpn-instance blue alias lab is down: no-route: there is no route",
        );
        assert_eq!(session(&down), expected.mended_by("ip route add"));
        let waiting = json!({ "station": "198.51.100.7", "vpn_instance": "_public_", "alias": null, "state": "down",
            "reason": "waiting-for-station" });
        assert_eq!(
            session(&waiting),
            DoctorFinding::warning(Examined::Session, "198.51.100.7 is not up: waiting-for-station")
        );
    }
}
