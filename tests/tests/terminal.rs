//! bmpctl at a terminal: prompts, help, completion, history, and leaving.

use std::{fs, thread, time::Duration};

use lab::{
    bmpd::{Bmpd, StartOptions},
    netns::Netns,
    terminal::{END, ENTER, INTERRUPT, PASTE, TAB, TestTerminal, UP},
    wait::{PATIENCE, until},
};
use tempfile::TempDir;

const QUESTION: &str =
    "Warning: the candidate has changes that are not committed. Commit them before leaving? [Y(es)/N(o)/C(ancel)]:";

/// A device named HUAWEI, with an operator's home folder.
struct TerminalDevice {
    netns: Netns,
    bmpd: Bmpd,
    home: TempDir,
}

impl TerminalDevice {
    fn new() -> Self {
        let socket = StartOptions { arguments: &["--datapath", "socket"], through: &[] };
        let netns = Netns::new("router");
        let bmpd = Bmpd::start_with(&netns, "sysname HUAWEI\n", &socket);
        Self { netns, bmpd, home: TempDir::with_prefix("lab-home-").expect("the temporary folder is writable") }
    }

    /// Starts bmpctl at a terminal and waits for its first prompt.
    fn sit_down(&self) -> TestTerminal {
        let mut bmpctl = self.bmpd.bmpctl("");
        bmpctl.env("HOME", self.home.path());
        let terminal = TestTerminal::start(bmpctl);
        terminal.wait_prompt("<HUAWEI>");
        terminal
    }

    fn running(&self) -> String {
        self.bmpd.display("display current-configuration")
    }
}

#[test]
fn the_example_of_the_command_page_shows_its_prompts() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.answers("bmp", "[*HUAWEI-bmp]");
    terminal.answers("bmp-session 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]");
    terminal.answers("connect-interface 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]");
    assert!(!device.running().contains("10.1.1.1"), "the change is in force before the commit");
    terminal.answers("commit", "[~HUAWEI-bmp-session-10.1.1.1]");
    assert!(device.running().contains("  connect-interface 10.1.1.1\n"));
    terminal.answers("return", "<HUAWEI>");
    terminal.enter("quit");
    assert_eq!(terminal.wait_end().code(), Some(0));
}

#[test]
fn a_question_mark_lists_the_next_words_and_restores_the_line() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    for (line, prompt) in [
        ("system-view", "[~HUAWEI]"),
        ("bmp", "[*HUAWEI-bmp]"),
        ("bmp-session 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]"),
    ] {
        terminal.answers(line, prompt);
    }
    terminal.press("tcp con?");
    terminal.wait_text("connect  this device connects to the station");
    terminal.wait_prompt("[*HUAWEI-bmp-session-10.1.1.1]tcp con");
    terminal.press("nect port ?");
    terminal.wait_text("INTEGER<1-65535>  a port from 1 to 65535");
    terminal.wait_prompt("[*HUAWEI-bmp-session-10.1.1.1]tcp connect port");
    terminal.press("11019");
    terminal.press(ENTER);
    terminal.wait_prompt("[*HUAWEI-bmp-session-10.1.1.1]");
    // The caret of an error is under the word as typed.
    terminal.answers("tcp connect port 70000", "[*HUAWEI-bmp-session-10.1.1.1]");
    terminal.wait_text("tcp connect port 70000\n                 ^^^^^\nError: a port is a number from 1 to 65535.");
    terminal.answers("commit", "[~HUAWEI-bmp-session-10.1.1.1]");
    assert!(device.running().contains("  tcp connect port 11019\n"));
}

#[test]
fn the_tab_key_completes_commands_and_names() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.press("dis");
    terminal.press(TAB);
    terminal.wait_prompt("<HUAWEI>display");
    terminal.press("cu");
    terminal.press(TAB);
    terminal.wait_prompt("<HUAWEI>display current-configuration");
    terminal.press(ENTER);
    terminal.wait_text("sysname HUAWEI");
    terminal.wait_prompt("<HUAWEI>");
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.press("interface-alias l");
    terminal.press(TAB);
    terminal.wait_prompt("[~HUAWEI]interface-alias lo");
    terminal.press("LoopBack7");
    terminal.press(ENTER);
    terminal.wait_prompt("[*HUAWEI]");
}

#[test]
fn the_arrow_up_recalls_earlier_lines_across_restarts() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.answers("display current-configuration", "<HUAWEI>");
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.press(UP);
    terminal.wait_prompt("[~HUAWEI]system-view");
    terminal.press(UP);
    terminal.wait_prompt("[~HUAWEI]display current-configuration");
    terminal.press(INTERRUPT);
    terminal.wait_prompt("[~HUAWEI]");
    terminal.answers("quit", "<HUAWEI>");
    terminal.enter("quit");
    assert_eq!(terminal.wait_end().code(), Some(0));

    let mut terminal = device.sit_down();
    terminal.press(UP);
    terminal.wait_prompt("<HUAWEI>quit");
    for _ in 0..5 {
        terminal.press(UP);
    }
    terminal.wait_prompt("<HUAWEI>display current-configuration");
}

#[test]
fn leaving_with_pending_changes_asks_and_follows_the_answer() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.answers("sysname edge1", "[*HUAWEI]");
    for (answer, prompt) in [("what", QUESTION), ("c", "[*HUAWEI]")] {
        if prompt == QUESTION {
            terminal.answers("quit", QUESTION);
        }
        terminal.answers(answer, prompt);
    }
    terminal.answers("return", QUESTION);
    terminal.press(INTERRUPT);
    terminal.wait_prompt("[*HUAWEI]");
    terminal.answers("quit", QUESTION);
    terminal.answers("n", "<HUAWEI>");
    assert!(device.running().contains("sysname HUAWEI"));
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.answers("sysname edge1", "[*HUAWEI]");
    terminal.answers("return", QUESTION);
    terminal.answers("y", "<edge1>");
    assert!(device.running().contains("sysname edge1"));
}

#[test]
fn ctrl_c_discards_a_line_and_ctrl_d_leaves() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.press("sysname edge1");
    terminal.wait_prompt("[~HUAWEI]sysname edge1");
    terminal.press(INTERRUPT);
    terminal.wait_prompt("[~HUAWEI]");
    terminal.press(END);
    assert_eq!(terminal.wait_end().code(), Some(0));
    assert!(device.running().contains("sysname HUAWEI"));
}

#[test]
fn ctrl_d_with_pending_changes_asks_and_a_second_one_discards_them() {
    let device = TerminalDevice::new();
    let file = fs::read_to_string(device.bmpd.setup().file()).expect("the file is readable");
    let mut terminal = device.sit_down();
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.answers("sysname edge1", "[*HUAWEI]");
    terminal.press(END);
    terminal.wait_prompt(QUESTION);
    terminal.answers("c", "[*HUAWEI]");
    terminal.press(END);
    terminal.wait_prompt(QUESTION);
    terminal.press(END);
    assert_eq!(terminal.wait_end().code(), Some(0));
    assert!(device.running().contains("sysname HUAWEI"));
    assert_eq!(fs::read_to_string(device.bmpd.setup().file()).expect("the file is readable"), file);
}

#[test]
fn bmpctl_says_that_its_bmpd_has_ended_and_waits_until_its_operator_gives_up() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    device.bmpd.terminate();
    terminal.wait_text("Warning: bmpd at ");
    terminal.wait_text("Info: waiting for bmpd to come back; Ctrl-C gives up.");
    terminal.press(INTERRUPT);
    terminal.wait_text("bmpctl: no bmpd serves ");
    assert_eq!(terminal.wait_end().code(), Some(3));
}

/// Returns 100 lines to paste: a view, 98 settings and a commit. Line number `wrong` is no command.
fn lines(wrong: Option<usize>) -> Vec<String> {
    let settings = (2..100).map(|n| format!("interface-alias eth{n} name{n}"));
    let mut lines: Vec<_> =
        std::iter::once("system-view".to_owned()).chain(settings).chain(["commit".to_owned()]).collect();
    if let Some(number) = wrong {
        lines[number - 1] = "nonsense here".to_owned();
    }
    lines
}

fn pasted(lines: &[String], bracketed: bool) -> String {
    let text = lines.join("\r") + "\r";
    if bracketed { format!("{}{text}{}", PASTE.0, PASTE.1) } else { text }
}

/// Returns the numbers of the aliases in force.
fn names(device: &TerminalDevice) -> Vec<usize> {
    let running = device.running();
    let mut names: Vec<_> = running.lines().filter_map(|line| line.rsplit_once(" name")?.1.parse().ok()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_hundred_pasted_lines_are_executed_once_each_and_in_order() {
    for bracketed in [true, false] {
        let device = TerminalDevice::new();
        let mut terminal = device.sit_down();
        terminal.press(&pasted(&lines(None), bracketed));
        until("all lines are in force", PATIENCE, || (names(&device).len() == 98).then_some(()));
        terminal.wait_prompt("[~HUAWEI]");
        // The history has exactly the executed lines.
        let history = fs::read_to_string(device.home.path().join(".bmpctl_history")).expect("the history is readable");
        assert_eq!(history.lines().collect::<Vec<_>>(), lines(None), "bracketed: {bracketed}");
    }
}

#[test]
fn pasted_lines_stop_at_the_first_refused_one_and_the_rest_is_displayed() {
    for bracketed in [true, false] {
        let device = TerminalDevice::new();
        let mut terminal = device.sit_down();
        terminal.press(&pasted(&lines(Some(50)), bracketed));
        let screen = terminal.wait_text("Stopped at line 50 of 100: nonsense here");
        assert!(screen.contains("  interface-alias eth99 name99\n  commit\n"), "the rest is not displayed:\n{screen}");
        terminal.wait_prompt("[*HUAWEI]");
        assert!(names(&device).is_empty(), "bracketed: {bracketed}");
        terminal.answers("commit", "[~HUAWEI]");
        assert_eq!(names(&device), (2..50).collect::<Vec<_>>(), "bracketed: {bracketed}");
    }
}

#[test]
fn slowly_pasted_lines_stop_at_the_first_refused_one_too() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    for line in ["system-view", "nonsense here", "sysname edge1", "bmp", "commit"] {
        terminal.press(&format!("{line}\r"));
        // Longer than a terminal pauses between pasted lines, and shorter than an operator reads an
        // error.
        thread::sleep(Duration::from_millis(300));
    }
    let screen = terminal.wait_text("Stopped at line 2 of 5: nonsense here");
    assert!(screen.contains("Not carried out (3 lines):\n  sysname edge1\n  bmp\n  commit\n"), "{screen}");
    terminal.wait_prompt("[~HUAWEI]");
    terminal.answers("sysname edge2", "[*HUAWEI]");
    assert!(!terminal.text().contains("Not carried out (1 lines)"), "a line typed later was not executed");
}

#[test]
fn a_paste_without_its_end_mark_is_executed_too() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.press(&format!("{}system-view\rsysname edge1\rcom", PASTE.0));
    terminal.wait_prompt("[*HUAWEI]com");
    terminal.press("mit\r");
    terminal.wait_prompt("[~edge1]");
}

#[test]
fn a_long_answer_stops_below_each_screen_until_the_operator_goes_on() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.press(&pasted(&lines(None), true));
    terminal.wait_prompt("[~HUAWEI]");
    terminal.press("display current-configuration");
    terminal.wait_prompt("[~HUAWEI]display current-configuration");
    // Slower than a paste.
    thread::sleep(Duration::from_millis(100));
    terminal.press(ENTER);
    let screen = terminal.wait_text("---- More ----");
    assert!(screen.contains("sysname HUAWEI") && !screen.contains("name99"), "{screen}");
    terminal.press("x ");
    terminal.wait_text("name99");
    terminal.wait_prompt("[~HUAWEI]");
    assert!(!terminal.text().contains("More"), "{}", terminal.text());
    terminal.press("display current-configuration");
    terminal.wait_prompt("[~HUAWEI]display current-configuration");
    thread::sleep(Duration::from_millis(100));
    terminal.press(ENTER);
    terminal.wait_text("---- More ----");
    terminal.press("q");
    terminal.wait_prompt("[~HUAWEI]");
}

#[test]
fn ctrl_z_returns_to_the_user_view() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.press("half a li\x1a");
    terminal.wait_text("half a li^Z");
    terminal.wait_prompt("<HUAWEI>");
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.answers("interface-alias eth1 uplink", "[*HUAWEI]");
    terminal.press("\x1a");
    terminal.wait_prompt(QUESTION);
}

#[test]
fn the_line_is_redrawn_when_the_terminal_is_resized() {
    let device = TerminalDevice::new();
    let mut bmpctl = device.bmpd.bmpctl("");
    bmpctl.env("HOME", device.home.path());
    let mut terminal = TestTerminal::start_sized(bmpctl, 30);
    terminal.wait_prompt("<HUAWEI>");
    terminal.press("display current-configuration");
    // The line wraps into the second row.
    terminal.wait_prompt("uration");
    terminal.resize(100);
    terminal.wait_prompt("<HUAWEI>display current-configuration");
    terminal.press(ENTER);
    terminal.wait_text("sysname HUAWEI");
    terminal.wait_prompt("<HUAWEI>");
}

#[test]
fn the_tab_keys_list_is_no_wider_than_the_terminal() {
    let device = TerminalDevice::new();
    let mut bmpctl = device.bmpd.bmpctl("");
    bmpctl.env("HOME", device.home.path());
    let mut terminal = TestTerminal::start_sized(bmpctl, 40);
    terminal.wait_prompt("<HUAWEI>");
    terminal.press("display ");
    terminal.press(TAB);
    terminal.wait_text("current-configuration");
    terminal.wait_prompt("<HUAWEI>display");
    let screen = terminal.text();
    let words = screen.split_whitespace().filter(|word| word.contains("configuration"));
    assert_eq!(words.collect::<Vec<_>>(), ["configuration", "current-configuration"], "a word is broken:\n{screen}");
}

#[test]
fn lines_typed_during_a_command_are_executed_after_it() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    device.bmpd.halted(|| {
        terminal.press("system-view\r");
        terminal.press("sysname edge1\rcom");
    });
    terminal.wait_prompt("[*HUAWEI]com");
    terminal.press("mit\r");
    terminal.wait_prompt("[~edge1]");
}

#[test]
fn a_pasted_line_without_an_end_waits_for_enter_and_its_keys_are_text() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.press(&format!("{}system-view\n\tsysname what?{}", PASTE.0, PASTE.1));
    terminal.wait_prompt("[~HUAWEI] sysname what?");
    terminal.press(ENTER);
    terminal.wait_prompt("[*HUAWEI]");
    terminal.answers("commit", "[~what?]");
}

#[test]
fn pasted_lines_do_not_answer_a_question() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    let lines = ["system-view", "sysname edge1", "quit", "display bmp session"].map(str::to_owned);
    terminal.press(&pasted(&lines, true));
    terminal.wait_text("Not carried out (1 lines):\n  display bmp session");
    terminal.wait_prompt("[*HUAWEI]");
    // A line that is an answer counts as one.
    let lines = ["quit", "n", "system-view"].map(str::to_owned);
    terminal.press(&pasted(&lines, true));
    terminal.wait_prompt("[~HUAWEI]");
    let lines = ["sysname edge1", "quit", "bmp"].map(str::to_owned);
    terminal.press(&pasted(&lines, false));
    terminal.wait_text("Not carried out (1 lines):\n  bmp");
    terminal.wait_prompt("[*HUAWEI]");
    assert!(device.running().contains("sysname HUAWEI"));
}

#[test]
fn the_tab_key_lists_the_next_words_and_leaves_the_list() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.press("display c");
    for _ in 0..2 {
        terminal.press(TAB);
        terminal.wait_text("configuration  current-configuration");
        terminal.wait_prompt("<HUAWEI>display c");
    }
    terminal.press("o");
    terminal.press(TAB);
    terminal.wait_prompt("<HUAWEI>display configuration");
    terminal.press(TAB);
    terminal.wait_text("candidate  commit  trial");
    terminal.press("t\t\r");
    terminal.wait_text("No trial is in force.");
}

#[test]
fn every_operator_sees_a_trial_and_others_are_asked_to_confirm() {
    let device = TerminalDevice::new();
    let (mut owner, mut other) = (device.sit_down(), device.sit_down());
    owner.answers("system-view", "[~HUAWEI]");
    owner.answers("sysname edge1", "[*HUAWEI]");
    owner.answers("commit trial 600", "[~edge1(trial)]");
    other.wait_text("Info: a trial by root (process ");
    other.wait_prompt("<edge1(trial)>");
    other.enter("commit");
    other.wait_text("The trial is by root (process ");
    other.wait_text("left: confirm it all the same? [y/N]:");
    other.press("n\r");
    other.wait_text("Info: the trial goes on.");
    // The line being typed stays.
    other.wait_prompt("<edge1(trial)>");
    other.press("display bmp");
    other.wait_prompt("<edge1(trial)>display bmp");
    owner.answers("abort trial", "[~HUAWEI]");
    other.wait_text("is aborted by root (process ");
    other.wait_prompt("<HUAWEI>display bmp");
}

#[test]
fn a_secret_is_in_the_file_and_not_in_the_history() {
    let device = TerminalDevice::new();
    let mut terminal = device.sit_down();
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.answers("bgp 65000", "[*HUAWEI-bgp]");
    terminal.answers("peer 192.0.2.2 as-number 65001", "[*HUAWEI-bgp]");
    terminal.answers("peer 192.0.2.2 password hunter2", "[*HUAWEI-bgp]");
    terminal.answers("p 192.0.2.2 pa hunter3", "[*HUAWEI-bgp]");
    terminal.answers("commit", "[~HUAWEI-bgp]");
    let kept = |path: &std::path::Path| fs::read_to_string(path).expect("the file is readable");
    assert!(kept(&device.bmpd.setup().file()).contains("password cipher "));
    let history = kept(&device.home.path().join(".bmpctl_history"));
    assert!(history.ends_with("as-number 65001\ncommit\n"), "{history}");
    assert!(device.running().contains(" peer 192.0.2.2 password ******\n"));
    terminal.press(UP);
    terminal.press(UP);
    terminal.wait_prompt("[~HUAWEI-bgp]peer 192.0.2.2 as-number 65001");
}

#[test]
fn sentences_wrap_between_words_at_the_width_of_the_terminal() {
    let device = TerminalDevice::new();
    let mut bmpctl = device.bmpd.bmpctl("");
    bmpctl.env("HOME", device.home.path());
    let mut terminal = TestTerminal::start_sized(bmpctl, 40);
    terminal.wait_prompt("<HUAWEI>");
    terminal.press("commit tr ?");
    terminal.wait_text(
        "  INTEGER<1-65535>  seconds from 1 to\n                    65535 until the\n                    configuration\n                    returns",
    );
    // A line wider than the terminal can be typed and edited.
    terminal.press("\x15display current-configuration | include HUAWEIX");
    terminal.press("\x7f");
    terminal.press(ENTER);
    terminal.wait_text("\nsysname HUAWEI");
}

#[test]
fn a_commit_that_waits_for_outcomes_says_so_first() {
    let device = TerminalDevice::new();
    // No host has this address, so no answer comes.
    device.netns.ip("link add v0 type veth peer name v1
         address add 10.9.0.1/24 dev v0
         link set v0 up
         link set v1 up
         neighbour add 10.9.0.2 lladdr 02:00:00:00:00:09 dev v0 nud permanent");
    let mut terminal = device.sit_down();
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.answers("bmp", "[*HUAWEI-bmp]");
    terminal.answers("bmp-session 10.9.0.2", "[*HUAWEI-bmp-session-10.9.0.2]");
    terminal.answers("tcp connect port 11019", "[*HUAWEI-bmp-session-10.9.0.2]");
    terminal.enter("commit");
    let text = terminal.wait_text("Info: this is in force; waiting");
    assert!(!text.contains("has not answered yet"), "{text}");
    terminal.wait_text("has not answered yet");
    terminal.wait_prompt("[~HUAWEI-bmp-session-10.9.0.2]");
}

#[test]
fn a_question_about_a_trial_ends_with_the_trial() {
    let device = TerminalDevice::new();
    let mut owner = device.sit_down();
    let mut other = device.sit_down();
    owner.answers("system-view", "[~HUAWEI]");
    owner.answers("sysname EDGE", "[*HUAWEI]");
    owner.answers("commit trial 600", "[~EDGE(trial)]");
    other.enter("commit");
    other.wait_text("confirm it all the same? [y/N]:");
    owner.answers("abort trial", "[~HUAWEI]");
    other.wait_text("Info: that trial has ended meanwhile: nothing was done.");
    other.wait_prompt("<HUAWEI>");
    other.answers("system-view", "[~HUAWEI]");
}

#[test]
fn interfaces_of_the_host_are_listed_with_addresses_and_state() {
    let device = TerminalDevice::new();
    device.netns.ip("link add up1 type veth peer name far1");
    device.netns.ip("address add 192.0.2.1/26 dev up1");
    device.netns.ip("link set far1 up");
    let mut terminal = device.sit_down();
    for (line, prompt) in [
        ("SYSTEM-VIEW", "[~HUAWEI]"),
        ("Bmp", "[*HUAWEI-bmp]"),
        ("BMP-session 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]"),
    ] {
        terminal.answers(line, prompt);
    }
    terminal.press("connect-interface ?");
    terminal.wait_text("up1   down: 192.0.2.1/26");
    terminal.wait_text("far1  no carrier: no address");
    device.netns.ip("link set up1 up");
    until("the list has the new state", PATIENCE, || {
        terminal.press(TAB);
        thread::sleep(Duration::from_millis(100));
        terminal.text().contains("up1   up: 192.0.2.1/26").then_some(())
    });
    terminal.press("u");
    terminal.press(TAB);
    terminal.wait_prompt("[*HUAWEI-bmp-session-10.1.1.1]connect-interface up1");
    terminal.press(ENTER);
    terminal.wait_prompt("[*HUAWEI-bmp-session-10.1.1.1]");
    // A keyword that is begun in capitals is completed.
    terminal.press("DIS");
    terminal.press(TAB);
    terminal.wait_prompt("[*HUAWEI-bmp-session-10.1.1.1]display");
    terminal.press("this");
    terminal.press(ENTER);
    terminal.wait_text("  connect-interface up1");
}
