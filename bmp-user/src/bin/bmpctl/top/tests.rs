//! The screens as `golden/` keeps them, and what keys do.
//!
//! `BMPD_BLESS=1` keeps new screens: read the difference before you commit it.

use std::{
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use bmp_user::control::read_json;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use serde_json::{Value, json};

use super::{
    column::shortened,
    draw::draw,
    figure,
    reading::{SessionsArrival, SessionsReading},
    view::{TopView, ViewOrder},
};

/// A session with the fields that a test does not care about.
fn session(station: &str, more: Value) -> Value {
    let mut session = json!({
        "station": station, "port": 11019, "role": "connect", "vpn_instance": "_public_", "alias": null,
        "owner": "bmpd", "process": null, "state": "up", "phase": "following", "age_seconds": 3723,
        "uplink": "up2", "local_address": "192.0.2.65", "local_port": 40000, "established_count": 2,
        "source_changes": 0, "retry_in_seconds": null,
        "connect_interface": { "interface": "up2", "address": null, "from": "session" },
        "egress": { "any": false, "interfaces": ["up2"], "enforcement": "kernel", "why": null },
        "kernel": {
            "tx_bytes": 0, "tx_packets": 0, "rx_bytes": 520, "retransmits": 0,
            "denied": { "interface": 0, "source": 0, "mark": 0, "no_pin": 0 },
        },
        "feed": { "lag_bytes": 0 },
    });
    let (Value::Object(fields), Value::Object(more)) = (&mut session, more) else { panic!("objects") };
    fields.extend(more);
    session
}

fn kernel(bytes: u64, retransmits: u64, denied: u64) -> Value {
    json!({
        "tx_bytes": bytes, "tx_packets": bytes / 1000, "rx_bytes": 520, "retransmits": retransmits,
        "denied": { "interface": denied, "source": 0, "mark": 0, "no_pin": 0 },
    })
}

/// The sessions of the screens, when so many bytes have been sent by the first.
fn sessions(sent: u64) -> Value {
    json!([
        session(
            "198.51.100.7",
            json!({
                "phase": "dumping", "kernel": kernel(sent, 3, 0),
                "feed": {
                    "lag_bytes": 2048,
                    "dump": {
                        "routes_told": 3_420, "routes_total": 10_000, "percent": 34.2, "remaining_seconds": 75,
                        "begins_in_seconds": null,
                    },
                },
            })
        ),
        session(
            "198.51.100.8",
            json!({
                "alias": "lab", "uplink": "up1", "kernel": kernel(sent / 1000, 0, 12),
                "held": { "reason": "interface-down", "detail": "up1 has no carrier", "for_seconds": 0.4 },
            })
        ),
        session(
            "198.51.100.9",
            json!({
                "state": "down", "phase": "down", "reason": "interface-absent", "uplink": "up9",
                "detail": "interface up9 is not on this host", "mend": "connect-interface up2",
                "local_address": null, "local_port": null, "retry_in_seconds": 1.5, "feed": { "lag_bytes": null },
                "egress": { "any": false, "interfaces": [], "enforcement": "kernel", "why": null },
            })
        ),
        session(
            "2001:db8:1234:5678::9",
            json!({
                "role": "listen", "vpn_instance": "management", "state": "down", "phase": "listening",
                "reason": "waiting-for-station", "detail": "it has not connected", "local_address": null,
                "uplink": "GigabitEth0.100", "feed": { "lag_bytes": null },
            })
        ),
        session(
            "203.0.113.50",
            json!({
                "owner": "adopted", "process": { "pid": 4712, "name": "gobgpd\u{1b}[2J" }, "uplink": null,
                "kernel": { "tx_bytes": null, "tx_packets": null, "rx_bytes": null, "retransmits": 7, "denied": null },
                "feed": null,
                "egress": { "any": true, "interfaces": [], "enforcement": "socket", "why": "there is no bpffs" },
            })
        ),
    ])
}

fn reading(sessions: Value, at: Instant) -> SessionsArrival {
    let sessions = serde_json::from_value(sessions).unwrap();
    SessionsArrival::Reading(SessionsReading { device: "edge1".to_owned(), lost: None, sessions, at })
}

/// A view after two readings, two seconds apart.
struct ShownView {
    view: TopView,
    now: Instant,
}

impl ShownView {
    fn new() -> Self {
        let before = Instant::now();
        let now = before + Duration::from_secs(2);
        let mut view = TopView::new(Duration::from_secs(2));
        view.take(reading(sessions(1_000_000), before), before);
        view.take(reading(sessions(6_000_000), now), now);
        Self { view, now }
    }

    fn press(&mut self, keys: &str) -> ViewOrder {
        let mut order = ViewOrder::Stay;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                '\u{7f}' => KeyCode::Backspace,
                other => KeyCode::Char(other),
            };
            order = self.view.press(KeyEvent::new(code, KeyModifiers::NONE));
        }
        order
    }

    fn screen(&mut self, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &mut self.view, self.now)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(|y| format!("{}\n", line(y))).collect()
    }

    /// Returns the first words of the rows, from top to bottom.
    fn order(&mut self) -> Vec<String> {
        let screen = self.screen(120, 20);
        let rows = screen.lines().skip(2).take(5);
        rows.filter_map(|row| row.split_whitespace().next().map(str::to_owned)).collect()
    }
}

/// Compares a screen with the one that is kept.
fn is_kept(name: &str, screen: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/bin/bmpctl/top/golden").join(name);
    if env::var_os("BMPD_BLESS").is_some() {
        fs::write(&path, screen).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == screen, "{} has\n{kept}\nand the screen is\n{screen}", path.display());
}

#[test]
fn the_screens_are_those_that_are_kept() {
    for (width, height) in [(80, 24), (50, 15)] {
        let mut shown = ShownView::new();
        is_kept(&format!("list-{width}x{height}.txt"), &shown.screen(width, height));
        shown.press("\n");
        is_kept(&format!("details-{width}x{height}.txt"), &shown.screen(width, height));
        shown.press("?");
        is_kept(&format!("help-{width}x{height}.txt"), &shown.screen(width, height));
        shown.press("\u{1b}/up1\n");
        is_kept(&format!("filter-{width}x{height}.txt"), &shown.screen(width, height));
    }
}

#[test]
fn any_size_of_a_terminal_can_be_drawn_on() {
    for (width, height) in [(1, 1), (3, 2), (9, 3), (20, 4), (50, 5), (79, 6), (300, 100), (0, 0)] {
        for keys in ["", "\n", "?", "/"] {
            let mut shown = ShownView::new();
            shown.press(keys);
            let screen = shown.screen(width, height);
            assert!(screen.lines().all(|line| line.chars().count() <= usize::from(width)), "{screen}");
        }
    }
    // Even there the state of each session can be read.
    let screen = ShownView::new().screen(20, 8);
    assert!(screen.lines().any(|line| line.ends_with("down") || line.contains(" down ")), "{screen}");
}

#[test]
fn sessions_that_need_somebody_come_first_and_letters_sort() {
    let mut shown = ShownView::new();
    assert_eq!(
        shown.order(),
        ["198.51.100.9", "198.51.100.8", "2001:db8:1234:5678::9", "198.51.100.7", "203.0.113.50"]
    );
    shown.press("r");
    assert_eq!(shown.order()[..2], ["198.51.100.7", "198.51.100.8"]);
    shown.press("r");
    assert_eq!(shown.order()[4], "198.51.100.7");
    shown.press("t");
    assert_eq!(shown.order()[..2], ["203.0.113.50", "198.51.100.7"]);
    shown.press("d");
    assert_eq!(shown.order()[0], "198.51.100.8");
    shown.press("n");
    assert_eq!(shown.order()[4], "203.0.113.50");
    shown.press("i");
    assert_eq!(shown.order()[0], "203.0.113.50");
    shown.press(">");
    assert_eq!(shown.order()[0], "198.51.100.9", "by state, the column on the right of the name");
}

#[test]
fn a_selected_session_stays_selected_wherever_its_row_goes() {
    let mut shown = ShownView::new();
    shown.press("jjj");
    let selected = |shown: &ShownView| shown.view.list.selected().map(|row| row.name.clone());
    assert_eq!(selected(&shown).as_deref(), Some("198.51.100.7"));
    shown.press("n");
    assert_eq!((selected(&shown).as_deref(), shown.view.list.place()), (Some("198.51.100.7"), Some(0)));
    shown.press("/lab\n");
    assert_eq!(selected(&shown).as_deref(), Some("198.51.100.8 lab"));
    shown.press("/\u{7f}\u{7f}\u{7f}nothing\n\n");
    assert_eq!(selected(&shown), None);
    assert!(shown.screen(80, 24).contains("no session has this text"));
    shown.press("\u{1b}");
    assert_eq!(shown.order().len(), 5);
}

#[test]
fn a_typed_filter_takes_letters_that_are_keys_elsewhere() {
    let mut shown = ShownView::new();
    assert_eq!(shown.press("/q?"), ViewOrder::Stay);
    assert_eq!(shown.view.list.filter(), "q?");
    shown.press("\u{1b}");
    assert_eq!(shown.view.list.filter(), "", "as it was before");
    assert_eq!(shown.press("q"), ViewOrder::Leave);
}

#[test]
fn a_bmpd_that_has_gone_is_told_and_rates_begin_anew() {
    let mut shown = ShownView::new();
    let at = shown.now + Duration::from_secs(1);
    shown.view.take(SessionsArrival::Lost("no bmpd serves /run/bmpd/bmpd.sock".to_owned()), at);
    shown.now = at + Duration::from_secs(75);
    shown.view.take(SessionsArrival::Lost("no bmpd serves /run/bmpd/bmpd.sock any more".to_owned()), shown.now);
    let screen = shown.screen(80, 24);
    assert!(screen.contains("No bmpd for 1m15s, this is old: no bmpd serves /run/bmpd/bmpd.sock any more"), "{screen}");
    assert!(screen.contains("198.51.100.7"), "{screen}");
    shown.view.take(reading(sessions(9_000_000), shown.now), shown.now);
    let screen = shown.screen(80, 24);
    assert!(!screen.contains("No bmpd") && !screen.contains("MiB/s"), "{screen}");
    assert!(screen.contains("3 of 5 sessions up, 0 B/s"), "{screen}");
}

#[test]
fn a_counter_that_begins_anew_has_no_rate() {
    let mut shown = ShownView::new();
    assert!(shown.screen(80, 24).contains("2.4 MiB/s"));
    let later = shown.now + Duration::from_secs(2);
    shown.view.take(reading(sessions(5), later), later);
    assert!(!shown.screen(80, 24).contains("MiB/s"));
}

#[test]
fn the_answer_of_bmpd_that_is_kept_can_be_read() {
    let kept = include_str!("../../../control/display/golden/session.json");
    let now = Instant::now();
    let mut view = TopView::new(Duration::from_secs(1));
    view.take(reading(read_json(kept).unwrap(), now), now);
    let rows = view.list.rows();
    assert_eq!(rows.len(), 4);
    assert_eq!((rows[0].uplink(), rows[0].lag(), rows[0].denied), ("up2", Some(1000), Some(10)));
    assert_eq!(rows[1].session.mend.as_deref(), Some("connect-interface up2"));
}

#[test]
fn figures_have_two_units_at_most() {
    let bytes = [0.0, 999.0, 1023.0, 1024.0, 1_048_575.0, 1.5e9, 9e15].map(figure::bytes);
    assert_eq!(bytes, ["0 B", "999 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.4 GiB", "8185.5 TiB"]);
    assert_eq!([5, 65, 3_723, 90_061].map(figure::age), ["5s", "1m05s", "1h02m", "1d01h"]);
    assert_eq!(shortened("2001:db8:1234::9", 9), "2001…4::9");
    assert_eq!(["", "a", "ab"].map(|text| shortened(text, 1)), ["", "a", "…"]);
}
