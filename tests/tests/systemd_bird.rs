//! BIRD 3.4, which only Debian testing has: BGP that is signed with TCP-AO.

use lab::{
    bmpd::Bmpd,
    machine::SystemdMachine,
    passive::BRIEFLY,
    peering::{BMPD, DAEMON, Peering, bird_takes, signed_peer},
    tcp_ao::is_there,
    topology::Topology,
};

#[test]
#[ignore = "needs BIRD 3.4 and TCP-AO: cargo xtask vm --systemd --kernel testing"]
fn a_session_with_bird_is_up_if_both_have_the_key() {
    let Some(_machine) = SystemdMachine::here() else { return };
    let (peer, asn) = DAEMON;
    let bird = |secret: &str| {
        format!(
            "router id {peer};\nprotocol device {{ }}\nprotocol bgp bmpd {{\n  local {peer} as {asn};\n  neighbor {} as {};\n  \
             authentication ao;\n  keys {{\n    key {{ id 7; secret \"{secret}\"; algorithm hmac sha1; }};\n  }};\n  \
             connect retry time 2;\n  error wait time 1, 4;\n  ipv4 {{ import none; export none; }};\n}}\n",
            BMPD.0, BMPD.1
        )
    };
    if !is_there() || !bird_takes(&bird("correct-horse")) {
        return;
    }
    let topology = Topology::new();
    let bmpd = Bmpd::start(&topology.router, &signed_peer());
    let other_key = Peering::bird_configured(&topology.station, &bird("battery-staple"));
    let established = |line: &str| line.contains("BGP session established");
    std::thread::sleep(3 * BRIEFLY);
    assert!(!bmpd.log().iter().any(|line| established(line)));
    drop(other_key);
    let _same_key = Peering::bird_configured(&topology.station, &bird("correct-horse"));
    bmpd.wait_for_log("the session", established);
}
