//! Every display as text and as JSON, compared with the answers that `golden/` keeps.
//!
//! Operators know the text, and users' scripts read the JSON. `BMPD_BLESS=1` keeps new answers: read the
//! difference before you commit it.

use std::{env, fs, path::PathBuf};

use super::{
    binding,
    json::{as_json, write_json},
    monitored, no_trial, peer, relay, replay, samples, text, trial_text,
};
use crate::wire::bgp::Family;

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

fn written(write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn sessions_are_shown_as_they_were() {
    let sessions = samples::sessions();
    is_kept("session.json", &written(|out| write_json(out, sessions.iter())));
    let monitored = [(Family::IPV4_UNICAST, 3), (Family::IPV6_UNICAST, 1)].into();
    let table = text::totals(3, 1) + &text::table_of_sessions(samples::sessions().into_iter());
    let verbose = sessions.iter().map(|report| text::session(report, &monitored)).collect::<String>();
    is_kept("session.txt", &format!("{table}{verbose}"));
}

#[test]
fn bindings_are_shown_as_they_were() {
    let bindings = samples::bindings();
    json_is_kept("binding.json", &bindings);
    is_kept("binding.txt", &binding::text(&bindings));
}

#[test]
fn the_feed_is_shown_as_it_was() {
    json_is_kept("feed.json", &samples::feed());
    is_kept("feed.txt", &samples::feed().text());
}

#[test]
fn relays_are_shown_as_they_were() {
    let relays = samples::relays();
    json_is_kept("relay.json", &relays);
    is_kept("relay.txt", &relay::relays_text(&relays));
}

#[test]
fn replays_are_shown_as_they_were() {
    let replays = samples::replays();
    json_is_kept("replay.json", &replays);
    is_kept("replay.txt", &replay::replays_text(&replays));
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
    let short = written(|out| peer::write_text(out, samples::speaker(), (4, 1), false));
    let verbose = written(|out| peer::write_text(out, samples::speaker(), (4, 1), true));
    let none = written(|out| peer::write_text(out, samples::no_speaker(), (0, 0), false));
    is_kept("peer.txt", &format!("{short}{verbose}{none}"));
}

#[test]
fn trials_are_shown_as_they_were() {
    let [none, known, unknown] = samples::trials();
    json_is_kept("trial.json", &[&none, &known, &unknown]);
    let shown = [known, unknown].into_iter().flatten().map(|trial| trial_text(&trial));
    is_kept("trial.txt", &(no_trial() + &shown.collect::<String>()));
}
