//! Every display as text and as JSON, compared with the answers that `golden/` keeps.
//!
//! Operators know the text, and users' scripts read the JSON. `BMPD_BLESS=1` keeps new answers:
//! read the difference before you commit it.

use std::{env, fs, path::PathBuf};

use super::{
    CurrentTrial, Rendering,
    json::{as_json, write_json},
    monitored,
    peer::{self, PeerTotals},
    samples, session,
};

/// Compares an answer with the one that is kept.
fn is_kept(name: &str, answer: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/control/display/golden").join(name);
    if env::var_os("BMPD_BLESS").is_some() {
        fs::write(&path, answer).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == answer, "{} has\n{kept}\nand the answer is\n{answer}", path.display());
}

fn json_is_kept(name: &str, report: &impl serde::Serialize) {
    is_kept(name, &as_json(report).unwrap());
}

pub(super) fn written(write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn sessions_are_shown_as_they_were() {
    let sessions = samples::sessions();
    is_kept("session.json", &written(|out| write_json(out, sessions.iter())));
    let table = session::totals(3, 1) + &session::rows(samples::sessions().into_iter());
    let verbose = sessions.iter().map(ToString::to_string).collect::<String>();
    is_kept("session.txt", &format!("{table}{verbose}"));
}

#[test]
fn bindings_are_shown_as_they_were() {
    let bindings = samples::bindings();
    json_is_kept("binding.json", &bindings);
    is_kept("binding.txt", &bindings.to_string());
}

#[test]
fn the_feed_is_shown_as_it_was() {
    json_is_kept("feed.json", &samples::feed());
    is_kept("feed.txt", &samples::feed().to_string());
}

#[test]
fn relays_are_shown_as_they_were() {
    let relays = samples::relays();
    json_is_kept("relay.json", &relays);
    is_kept("relay.txt", &relays.to_string());
}

#[test]
fn replays_are_shown_as_they_were() {
    let replays = samples::replays();
    json_is_kept("replay.json", &replays);
    is_kept("replay.txt", &replays.to_string());
}

#[test]
fn monitored_peers_are_shown_as_they_were() {
    is_kept("monitored.json", &written(|out| write_json(out, samples::monitored().iter())));
    let peers = || samples::monitored().into_iter();
    is_kept("monitored.txt", &written(|out| monitored::write_text(out, peers(), peers())));
}

#[test]
fn bgp_peers_are_shown_as_they_were() {
    json_is_kept("peer.json", &samples::speaker());
    json_is_kept("peer-none.json", &samples::no_speaker());
    let short =
        written(|out| peer::write_text(out, samples::speaker(), PeerTotals { peers: 4, up: 1 }, Rendering::Table));
    let verbose =
        written(|out| peer::write_text(out, samples::speaker(), PeerTotals { peers: 4, up: 1 }, Rendering::Detailed));
    let none =
        written(|out| peer::write_text(out, samples::no_speaker(), PeerTotals { peers: 0, up: 0 }, Rendering::Table));
    is_kept("peer.txt", &format!("{short}{verbose}{none}"));
}

#[test]
fn the_http_server_is_shown_as_it_was() {
    json_is_kept("http.json", &samples::http());
    is_kept("http.txt", &samples::http().iter().map(ToString::to_string).collect::<String>());
}

#[test]
fn trials_are_shown_as_they_were() {
    let [none, known, unknown] = samples::trials();
    json_is_kept("trial.json", &[&none, &known, &unknown]);
    let text = [none, known, unknown].map(|trial| CurrentTrial(trial).to_string());
    is_kept("trial.txt", &text.concat());
}
