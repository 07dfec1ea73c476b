use proptest::prelude::*;
use tracing::{debug, info, warn};

use super::*;
use crate::escape::is_unsafe;

/// Returns the lines that `what` logs, without times, and their summaries.
fn logged(what: impl FnOnce()) -> (Vec<String>, Vec<String>) {
    let style = LineStyle { colours: false };
    let lines = LogLines::new(style);
    let (queue, limiter) = (lines.queue.clone(), Arc::clone(&lines.limiter));
    let subscriber = tracing_subscriber::registry().with(lines).with(EnvFilter::new("debug"));
    tracing::subscriber::with_default(subscriber, what);
    let text = |lines: Vec<Vec<u8>>| {
        let line = |line: Vec<u8>| {
            let line = String::from_utf8(line).expect("it is text");
            let (time, rest) = line.split_once(' ').expect("it begins with its time");
            assert!(time.ends_with('Z') && rest.ends_with('\n'), "{line}");
            rest.trim_end_matches('\n').trim_start().to_owned()
        };
        lines.into_iter().map(line).collect::<Vec<_>>()
    };
    (text(queue.take()), text(summaries(&limiter, None, style)))
}

#[test]
fn a_line_has_its_level_session_message_and_fields() {
    let (lines, summaries) = logged(|| {
        info!(session = %"10.0.0.1", "up");
        warn!(relay = "frr", client = %"127.0.0.1:5", "closed");
    });
    assert_eq!(lines, ["INFO session 10.0.0.1: up", "WARN closed relay=\"frr\" client=127.0.0.1:5"]);
    assert_eq!(summaries, [""; 0]);
}

#[test]
fn of_15_000_lines_about_one_client_a_few_pass_and_the_rest_are_counted() {
    let (lines, summaries) = logged(|| {
        for port in 1..=15_000 {
            warn!(relay = "frr", client = %format_args!("192.0.2.1:{port}"), "closed");
        }
    });
    assert_eq!(lines.len(), 10);
    assert_eq!(
        summaries,
        ["WARN closed relay=\"frr\" client=192.0.2.1:11 … and 14990 more like this in the last 60 s"]
    );
}

#[test]
fn debug_lines_are_not_limited() {
    let (lines, summaries) = logged(|| (0..1000).for_each(|_| debug!(session = %"10.0.0.1", "again")));
    assert_eq!((lines.len(), summaries.len()), (1000, 0));
}

#[test]
fn an_overlong_line_is_cut() {
    let (lines, _) = logged(|| warn!("{}", "é".repeat(1 << 20)));
    assert!(lines.iter().all(|line| line.len() < 10_000 && line.ends_with('…')));
}

proptest! {
    #[test]
    fn no_line_contains_control_characters(text in any::<String>(), odd in prop::collection::vec(any::<char>(), 0..9)) {
        let text = text + &odd.into_iter().collect::<String>() + "\u{1b}[2J\n\u{202e}";
        let (lines, summaries) = logged(|| {
            for _ in 0..12 {
                warn!(session = %text, relay = text.as_str(), process = ?text, "{text}");
            }
        });
        prop_assert_eq!((lines.len(), summaries.len()), (10, 1));
        for line in lines.iter().chain(&summaries) {
            prop_assert!(!line.contains(is_unsafe), "{:?}", line);
        }
    }
}
