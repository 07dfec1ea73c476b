//! bmpctl at a terminal while bmpd is started again: it comes back to the same candidate.

use std::fs;

use lab::{
    bmpd::{Bmpd, StartOptions},
    netns::Netns,
    terminal::{ENTER, TestTerminal},
};

const SOCKET: StartOptions<'_> = StartOptions { arguments: &["--datapath", "socket"], through: &[] };

/// Starts a device named HUAWEI with this configuration.
fn start(configuration: &str) -> Bmpd {
    Bmpd::start_with(&Netns::new("router"), &format!("sysname HUAWEI\n{configuration}"), &SOCKET)
}

/// Starts bmpctl at a terminal and waits for its first prompt.
fn sit_down(bmpd: &Bmpd) -> TestTerminal {
    let mut bmpctl = bmpd.bmpctl("");
    // Nothing is remembered there.
    bmpctl.env("HOME", "/nonexistent");
    let terminal = TestTerminal::start(bmpctl);
    terminal.wait_prompt("<HUAWEI>");
    terminal
}

#[test]
fn a_candidate_outlives_a_restart_of_bmpd() {
    let mut bmpd = start("");
    let mut terminal = sit_down(&bmpd);
    for (line, prompt) in [
        ("system-view", "[~HUAWEI]"),
        ("bmp", "[*HUAWEI-bmp]"),
        ("bmp-session 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]"),
        ("tcp connect port 11019 password md5 hunter2", "[*HUAWEI-bmp-session-10.1.1.1]"),
        ("quit", "[*HUAWEI-bmp]"),
        ("statistics-timer 60", "[*HUAWEI-bmp]"),
    ] {
        terminal.answers(line, prompt);
    }
    // A line that is being typed stays.
    terminal.press("display this");
    terminal.wait_prompt("[*HUAWEI-bmp]display this");
    let setup = bmpd.crash();
    terminal.wait_text("waiting for bmpd to come back");
    bmpd = Bmpd::start_in(setup, &SOCKET);
    terminal.wait_text("Info: bmpd is back, and the candidate has its changes again.");
    terminal.wait_prompt("[*HUAWEI-bmp]display this");
    terminal.press(ENTER);
    terminal.wait_text("password md5 ******");
    terminal.wait_prompt("[*HUAWEI-bmp]");
    assert!(!terminal.text().contains("has changed meanwhile"), "{}", terminal.text());

    // Another operator commits, and bmpd is started once more.
    bmpd.commit_lines("sysname edge1");
    let setup = bmpd.terminate();
    bmpd = Bmpd::start_in(setup, &SOCKET);
    terminal.wait_text("Warning: the configuration in force has changed meanwhile");
    terminal.wait_prompt("[*edge1-bmp]");
    terminal.answers("commit", "[~edge1-bmp]");
    let file = fs::read_to_string(bmpd.setup().file()).expect("the file is readable");
    for line in ["sysname edge1", "statistics-timer 60", "password md5 cipher "] {
        assert!(file.contains(line), "{file}");
    }
}

#[test]
fn without_a_candidate_a_restart_of_bmpd_leads_back_to_the_view() {
    let bmpd = start("bgp 65001\n ipv4-family unicast\n");
    let mut terminal = sit_down(&bmpd);
    for (line, prompt) in [
        ("system-view", "[~HUAWEI]"),
        ("bgp 65001", "[~HUAWEI-bgp]"),
        ("ipv4-family unicast", "[~HUAWEI-bgp-ipv4-family-unicast]"),
    ] {
        terminal.answers(line, prompt);
    }
    let _bmpd = Bmpd::start_in(bmpd.terminate(), &SOCKET);
    terminal.wait_text("Info: bmpd is back.");
    terminal.wait_prompt("[~HUAWEI-bgp-ipv4-family-unicast]");
}
