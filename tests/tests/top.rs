//! `bmpctl top` at a terminal: what it shows is what happens, and the terminal is restored however
//! it ends.

use std::process::Output;

use lab::{
    bmp::ReportedPeer,
    bmpd::Bmpd,
    terminal::{ENTER, TestTerminal},
    topology::STATION,
    trial::{LabTrial, TrialPlan},
    wait::{PATIENCE, until},
};
use nix::sys::signal::Signal;

/// A session by up2, and one by up1 whose station is not there.
fn trial() -> LabTrial {
    TrialPlan {
        bmp: "bmp-session 198.51.100.8 alias lab\n  tcp connect port 11020\n  connect-interface up1\n quit\n",
        ..TrialPlan::session("connect-interface up2")
    }
    .start_up()
}

/// Starts `bmpctl top` at a terminal of 80 columns.
fn top(bmpd: &Bmpd) -> TestTerminal {
    TestTerminal::start_with_rows(bmpd.bmpctl("top --interval 0.2"), 24, 80)
}

/// Returns the cells of the row that begins with `name`.
fn row(terminal: &TestTerminal, name: &str) -> Option<Vec<String>> {
    let screen = terminal.text();
    let row = screen.lines().find(|line| line.starts_with(name))?;
    Some(row.split_whitespace().map(str::to_owned).collect())
}

/// Waits until the row of the usual station has these words, in this order, behind the address.
fn wait_row(terminal: &TestTerminal, words: &[&str]) {
    let has = || {
        let mut cells = row(terminal, &STATION.to_string())?.into_iter();
        words.iter().all(|word| cells.any(|cell| cell == *word)).then_some(())
    };
    until(&format!("the row of {STATION} has {words:?}"), PATIENCE, has);
}

#[test]
fn a_link_that_loses_its_carrier_is_shown_with_the_reason_and_what_mends_it() {
    let trial = trial();
    let mut terminal = top(&trial.bmpd);
    wait_row(&terminal, &["up", "up2"]);
    terminal.wait_text("edge1: 1 of 2 sessions up");
    until("the session whose station is not there is down by up1", PATIENCE, || {
        let cells = row(&terminal, "198.51.100.8 lab")?;
        (cells.get(2..4)? == ["down", "up1"] && cells.last()?.starts_with("connect")).then_some(())
    });

    trial.topology.carrier_down("up2");
    let down = trial.bmpd.wait_down(STATION, "interface-down");
    wait_row(&terminal, &["down", "up2", "interface-down"]);
    terminal.press(&format!("/{STATION}{ENTER}{ENTER}"));
    let details = terminal.wait_text("To mend it");
    for field in ["detail", "mend"] {
        let text = down[field].as_str().expect("a sentence");
        assert!(text.split_whitespace().all(|word| details.contains(word)), "{text} is not in\n{details}");
    }
    terminal.press(ENTER);

    trial.topology.carrier_up("up2");
    wait_row(&terminal, &["up", "up2"]);
    terminal.press("q");
    assert_eq!(terminal.wait_end().code(), Some(0));
    assert!(terminal.is_restored(), "{}", terminal.text());
}

#[test]
fn the_rate_is_that_of_the_bytes_that_the_kernel_counts() {
    let trial = trial();
    let terminal = top(&trial.bmpd);
    wait_row(&terminal, &["up", "up2", "0", "B/s"]);
    let mut feeder = trial.feeder();
    let peer = ReportedPeer::default();
    let routes = lab::bgp::prefixes(20_000);
    until("routes that are sent are seen in the rate", PATIENCE, || {
        feeder.announce(&peer, &routes, 100);
        let cells = row(&terminal, &STATION.to_string())?;
        cells.iter().any(|cell| cell == "KiB/s" || cell == "MiB/s").then_some(())
    });
}

#[test]
fn a_terminal_that_becomes_narrow_shows_the_state_and_not_all_counters() {
    let trial = trial();
    let mut terminal = top(&trial.bmpd);
    wait_row(&terminal, &["up", "up2"]);
    terminal.wait_text("Denied");
    terminal.resize(40);
    until("the list fits 40 columns", PATIENCE, || {
        let screen = terminal.text();
        let fits = screen.contains("State") && !screen.contains("Denied") && !screen.contains("Retrans");
        fits.then_some(())
    });
    wait_row(&terminal, &["up"]);
}

#[test]
fn a_bmpd_that_goes_away_and_comes_back_is_told() {
    let LabTrial { bmpd, topology: _topology, station: _station, .. } = trial();
    let terminal = top(&bmpd);
    wait_row(&terminal, &["up", "up2"]);
    let setup = bmpd.crash();
    let screen = terminal.wait_text("No bmpd for");
    assert!(screen.contains(&STATION.to_string()), "the last answer is shown:\n{screen}");
    let bmpd = Bmpd::start_in(setup, &TrialPlan::default().options);
    bmpd.wait_up(STATION);
    until("bmpd is back", PATIENCE, || (!terminal.text().contains("No bmpd for")).then_some(()));
    wait_row(&terminal, &["up", "up2"]);
}

#[test]
fn the_terminal_is_restored_after_a_signal_and_after_a_panic() {
    let trial = trial();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut terminal = top(&trial.bmpd);
        wait_row(&terminal, &["up", "up2"]);
        assert!(!terminal.is_restored(), "it has a screen of its own");
        terminal.signal(signal);
        assert_eq!(terminal.wait_end().code(), Some(0), "{signal}");
        assert!(terminal.is_restored(), "{signal}");
    }
    if cfg!(debug_assertions) {
        let mut command = trial.bmpd.bmpctl("top");
        command.env("BMPCTL_TOP_PANIC", "1");
        let mut terminal = TestTerminal::start_with_rows(command, 24, 80);
        assert_eq!(terminal.wait_end().code(), Some(101));
        assert!(terminal.is_restored());
        assert!(terminal.text().contains("a panic that was asked for"), "{}", terminal.text());
    }
}

#[test]
fn without_a_terminal_or_a_bmpd_the_error_says_so_and_the_status_is_the_documented_one() {
    let trial = TrialPlan::session("connect-interface up2").start();
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let piped = trial.bmpd.try_display("top");
    assert_eq!(piped.status.code(), Some(2));
    assert!(said(&piped).contains("top needs a terminal"), "{}", said(&piped));
    for words in ["top --interval 0", "top --interval soon", "--json top", "-c quit top", "top more"] {
        let refused = trial.bmpd.try_display(words);
        assert_eq!(refused.status.code(), Some(2), "{words}: {}", said(&refused));
    }
    let setup = trial.bmpd.terminate();
    let mut terminal = TestTerminal::start_with_rows(setup.bmpctl("top"), 24, 80);
    assert_eq!(terminal.wait_end().code(), Some(3));
    assert!(terminal.text().contains("no bmpd serves"), "{}", terminal.text());
    assert!(terminal.is_restored());
}
