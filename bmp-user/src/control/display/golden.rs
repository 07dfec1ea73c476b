//! Every display as text and as JSON, compared with the answers that `golden/` keeps.
//!
//! Operators know the text, and users' scripts read the JSON. `BMPD_BLESS=1` keeps new answers:
//! read the difference before you commit it.

use std::{env, fs, path::PathBuf};

use super::{
    super::json::{AnswerSubject, as_json},
    CurrentTrial, Rendering, changes_text, monitored,
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

/// Compares an answer in JSON with the one that is kept.
fn json_is_kept(name: &str, subject: AnswerSubject, report: &impl serde::Serialize) {
    is_kept(name, &as_json(subject, report).unwrap());
}

pub(super) fn written(write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn sessions_are_shown_as_they_were() {
    let sessions = samples::sessions();
    json_is_kept("session.json", AnswerSubject::BmpSession, &sessions);
    let table = session::totals(4, 2) + &session::rows(samples::sessions().into_iter());
    let verbose = sessions.iter().map(ToString::to_string).collect::<String>();
    is_kept("session.txt", &format!("{table}{verbose}"));
}

#[test]
fn bindings_are_shown_as_they_were() {
    let bindings = samples::bindings();
    json_is_kept("binding.json", AnswerSubject::InterfaceBinding, &bindings);
    is_kept("binding.txt", &bindings.to_string());
}

#[test]
fn the_feed_is_shown_as_it_was() {
    json_is_kept("feed.json", AnswerSubject::BmpFeed, &samples::feed());
    is_kept("feed.txt", &[samples::feed(), samples::unlimited_feed()].map(|feed| feed.to_string()).concat());
}

#[test]
fn relays_are_shown_as_they_were() {
    let relays = samples::relays();
    json_is_kept("relay.json", AnswerSubject::BmpRelay, &relays);
    is_kept("relay.txt", &relays.to_string());
}

#[test]
fn replays_are_shown_as_they_were() {
    let replays = samples::replays();
    json_is_kept("replay.json", AnswerSubject::MrtReplay, &replays);
    is_kept("replay.txt", &replays.to_string());
}

#[test]
fn monitored_peers_are_shown_as_they_were() {
    json_is_kept("monitored.json", AnswerSubject::BgpBmpMonitor, &samples::monitored());
    let peers = || samples::monitored().into_iter();
    is_kept("monitored.txt", &written(|out| monitored::write_text(out, peers(), peers())));
    is_kept("monitored-peer.txt", &peers().map(|peer| peer.to_string()).collect::<String>());
}

#[test]
fn bgp_peers_are_shown_as_they_were() {
    json_is_kept("peer.json", AnswerSubject::BgpPeer, &samples::speaker());
    json_is_kept("peer-none.json", AnswerSubject::BgpPeer, &samples::no_speaker());
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
    let servers = samples::http();
    for (name, server) in ["http.json", "http-failed.json", "http-none.json"].iter().zip(&servers) {
        json_is_kept(name, AnswerSubject::Http, server);
    }
    is_kept("http.txt", &servers.iter().map(ToString::to_string).collect::<String>());
}

#[test]
fn commits_are_shown_as_they_were() {
    let commits = samples::commits();
    json_is_kept("commits.json", AnswerSubject::ConfigurationCommitList, &commits);
    let differences: Vec<_> = commits.commits.iter().map(|commit| (commit.clone(), "-a\n+b\n".to_owned())).collect();
    is_kept("commits.txt", &format!("{commits}{}", changes_text(&differences)));
}

#[test]
fn versions_are_shown_as_they_were() {
    let versions = samples::versions();
    for (name, version) in ["version.json", "version-without-programs.json"].iter().zip(&versions) {
        json_is_kept(name, AnswerSubject::Version, version);
    }
    is_kept("version.txt", &versions.map(|version| version.to_string()).concat());
}

#[test]
fn the_log_is_shown_as_it_was() {
    json_is_kept("log-buffer.json", AnswerSubject::LogBuffer, &samples::log());
    is_kept("log-buffer.txt", &samples::log().to_string());
}

#[test]
fn debugging_is_shown_as_it_was() {
    let debugging = samples::debugging();
    json_is_kept("debugging.json", AnswerSubject::Debugging, &debugging);
    is_kept("debugging.txt", &debugging.to_string());
}

#[test]
fn trials_are_shown_as_they_were() {
    let trials = samples::trials().map(CurrentTrial);
    for (name, trial) in ["trial-none.json", "trial.json", "trial-unknown.json"].iter().zip(&trials) {
        json_is_kept(name, AnswerSubject::ConfigurationTrial, trial);
    }
    let text = trials.map(|trial| trial.to_string());
    is_kept("trial.txt", &text.concat());
}
