//! What a changed setting does to a session that is up is what the reference says.

use std::{fs, path::Path};

use lab::{
    topology::STATION,
    trial::TrialPlan,
    wait::{PATIENCE, until},
};

/// Settings of the bmp-session view, each with a line that changes it.
const LINES: [(&str, &str); 12] = [
    ("connect-interface", "connect-interface up1"),
    ("next-hop", "next-hop 192.0.2.66"),
    ("hold-down", "hold-down 50"),
    ("tcp mss", "tcp mss 600"),
    ("dscp", "dscp 46"),
    ("keepalive", "keepalive 5"),
    ("connect-retry", "connect-retry 1 2"),
    ("initial-delay", "initial-delay 5"),
    ("flap-damping", "flap-damping 1"),
    ("route-mirroring", "route-mirroring"),
    ("monitor", "monitor public"),
    ("shutdown", "shutdown"),
];

/// Returns what the reference says that a change of a session's setting does.
fn effect_of(setting: &str, reference: &str) -> String {
    let (_, view) = reference.split_once("\n## The bmp-session view\n").expect("the reference has the view");
    let (_, entry) = view.split_once(&format!("\n### `{setting}`\n")).expect("the view has the setting");
    let (_, effect) = entry.split_once("\n* Change while up: ").expect("the entry has the effect");
    let (effect, _) = effect.split_once("\n* ").expect("`undo` follows");
    effect.replace("\n  ", " ")
}

#[test]
fn a_change_does_to_a_session_that_is_up_what_the_reference_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/commands.md");
    let reference = fs::read_to_string(path).expect("the reference can be read");
    for (setting, line) in LINES {
        let effect = effect_of(setting, &reference);
        let trial = TrialPlan::session("connect-interface up2").start_up();
        trial.bmpd.commit(STATION, line);
        // A commit has waited until the pins follow it.
        let is_so = |connections: u64, state: &str| {
            until(&format!("{line}: {effect}"), PATIENCE, || {
                let session = trial.bmpd.session(STATION);
                let connected = session["established_count"] == connections;
                (connected && session["state"] == state).then_some(())
            });
        };
        match &*effect {
            effect if effect.contains(" stay up") || effect.contains(" stays up") => is_so(1, "up"),
            effect if effect.contains(" connects again") => is_so(2, "up"),
            effect if effect.contains(" stays down") => is_so(1, "down"),
            effect => panic!("{setting}: unknown effect: {effect}"),
        }
    }
}
