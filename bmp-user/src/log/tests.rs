use proptest::prelude::*;
use tracing::{debug, info, warn};

use super::*;
use crate::escape::is_unsafe;

/// Returns what `what` logs, and the summaries.
fn encoded(encoding: LogEncoding, what: impl FnOnce()) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let lines = LogLines::new(encoding);
    let (outlet, limiter) = (lines.outlet.clone(), Arc::clone(&lines.limiter));
    let subscriber = tracing_subscriber::registry().with(lines).with(EnvFilter::new("debug"));
    tracing::subscriber::with_default(subscriber, what);
    (outlet.queue.take(), summaries(&limiter, None, &outlet))
}

/// Returns the lines of text that `what` logs, without times, and their summaries.
fn logged(what: impl FnOnce()) -> (Vec<String>, Vec<String>) {
    let (lines, summaries) = encoded(LogEncoding::Text { colours: false }, what);
    let text = |lines: Vec<Vec<u8>>| {
        let line = |line: Vec<u8>| {
            let line = String::from_utf8(line).expect("it is text");
            let (time, rest) = line.split_once(' ').expect("it begins with its time");
            assert!(time.ends_with('Z') && rest.ends_with('\n'), "{line}");
            rest.trim_end_matches('\n').trim_start().to_owned()
        };
        lines.into_iter().map(line).collect::<Vec<_>>()
    };
    (text(lines), text(summaries))
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
fn what_debugging_shows_is_in_the_buffer_alone() {
    let lines = LogLines::new(LogEncoding::Text { colours: false });
    let outlet = lines.outlet.clone();
    let subscriber = tracing_subscriber::registry().with(lines).with(EnvFilter::new("debug"));
    tracing::subscriber::with_default(subscriber, || {
        for step in 0..100 {
            debug!(target: DEBUGGING, session = %"10.0.0.1", "step {step}");
        }
    });
    assert_eq!(outlet.queue.take(), Vec::<Vec<u8>>::new());
    let log = outlet.buffer().log();
    assert_eq!(log.lines.len(), 100);
    assert_eq!(log.lines.first().map(|line| line.text.as_str()), Some("session 10.0.0.1: step 0"));
}

#[test]
fn fields_that_the_message_names_do_not_stand_in_the_text_again() {
    let down =
        || warn!(session = %"10.0.0.1", reason = %"no-route", interface = "e1", "down: no-route: e1 has no route");
    assert_eq!(logged(down).0, ["WARN session 10.0.0.1: down: no-route: e1 has no route"]);
    let (lines, _) = encoded(LogEncoding::Json, down);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let line: serde_json::Value = serde_json::from_slice(line).unwrap();
    let field = |name: &str| line.get(name).and_then(serde_json::Value::as_str);
    assert!(field("time").is_some_and(|time| time.ends_with('Z')));
    assert_eq!(field("level"), Some("warn"));
    assert_eq!(field("message"), Some("session 10.0.0.1: down: no-route: e1 has no route"));
    assert_eq!(
        (field("session"), field("reason"), field("interface")),
        (Some("10.0.0.1"), Some("no-route"), Some("e1"))
    );
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
        for encoding in [LogEncoding::Json, LogEncoding::Journal] {
            let (records, _) = encoded(encoding, || warn!(session = %text, relay = text.as_str(), "{text}"));
            for record in records {
                let record = String::from_utf8(record).expect("it is text");
                let fields = if encoding == LogEncoding::Json { 1 } else { 5 };
                prop_assert_eq!(record.lines().count(), fields, "{:?}", record);
                prop_assert!(!record.replace('\n', "").contains(is_unsafe), "{:?}", record);
            }
        }
    }
}
