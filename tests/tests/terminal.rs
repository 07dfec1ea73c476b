//! bmpctl at a terminal: prompts, help, completion, history, and how one leaves.

use std::fs;

use lab::{
    bmpd::{Bmpd, Options},
    netns::Netns,
    terminal::{END, ENTER, INTERRUPT, TAB, Terminal, UP},
};
use tempfile::TempDir;

const QUESTION: &str =
    "Warning: the candidate has changes that are not committed. Commit them before leaving? [Y(es)/N(o)/C(ancel)]:";

/// A device named HUAWEI, and an operator's home.
struct Device {
    bmpd: Bmpd,
    home: TempDir,
}

impl Device {
    fn new() -> Self {
        let socket = Options { arguments: &["--datapath", "socket"], through: &[] };
        let bmpd = Bmpd::start_with(&Netns::new("router"), "sysname HUAWEI\n", &socket);
        Self { bmpd, home: TempDir::with_prefix("lab-home-").expect("a temporary folder can be made") }
    }

    /// bmpctl at a terminal, with its first prompt.
    fn sit_down(&self) -> Terminal {
        let mut bmpctl = self.bmpd.bmpctl("");
        bmpctl.env("HOME", self.home.path());
        let terminal = Terminal::start(bmpctl);
        terminal.wait_prompt("<HUAWEI>");
        terminal
    }

    fn running(&self) -> String {
        self.bmpd.display("display current-configuration")
    }
}

#[test]
fn the_example_of_the_command_page_gives_its_prompts() {
    let device = Device::new();
    let mut terminal = device.sit_down();
    terminal.answers("system-view", "[~HUAWEI]");
    terminal.answers("bmp", "[*HUAWEI-bmp]");
    terminal.answers("bmp-session 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]");
    terminal.answers("connect-interface 10.1.1.1", "[*HUAWEI-bmp-session-10.1.1.1]");
    assert!(!device.running().contains("10.1.1.1"), "it is not committed");
    terminal.answers("commit", "[~HUAWEI-bmp-session-10.1.1.1]");
    assert!(device.running().contains("  connect-interface 10.1.1.1\n"));
    terminal.answers("return", "<HUAWEI>");
    terminal.enter("quit");
    assert_eq!(terminal.wait_end().code(), Some(0));
}

#[test]
fn a_question_mark_shows_what_may_come_next_and_gives_the_line_back() {
    let device = Device::new();
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
    // An error has its caret under the word, which is where it was typed.
    terminal.answers("tcp connect port 70000", "[*HUAWEI-bmp-session-10.1.1.1]");
    terminal.wait_text("tcp connect port 70000\n                 ^^^^^\nError: a port is a number from 1 to 65535.");
    terminal.answers("commit", "[~HUAWEI-bmp-session-10.1.1.1]");
    assert!(device.running().contains("  tcp connect port 11019\n"));
}

#[test]
fn the_tab_key_completes_commands_and_names() {
    let device = Device::new();
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
fn the_arrow_up_brings_earlier_lines_back_also_those_of_another_time() {
    let device = Device::new();
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
fn whoever_leaves_with_changes_pending_is_asked_and_the_answer_is_carried_out() {
    let device = Device::new();
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
fn ctrl_c_gives_a_line_up_and_ctrl_d_leaves() {
    let device = Device::new();
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
fn ctrl_d_with_changes_pending_asks_and_a_second_one_leaves_them_behind() {
    let device = Device::new();
    let file = fs::read_to_string(device.bmpd.setup().file()).expect("the file is there");
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
    assert_eq!(fs::read_to_string(device.bmpd.setup().file()).expect("the file is there"), file);
}

#[test]
fn a_terminal_whose_bmpd_ends_says_so() {
    let device = Device::new();
    let mut terminal = device.sit_down();
    device.bmpd.terminate();
    terminal.enter("display bmp session");
    terminal.wait_text("bmpctl: bmpd at ");
    terminal.wait_text("closed the connection");
    assert_eq!(terminal.wait_end().code(), Some(1));
}
