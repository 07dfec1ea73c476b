//! `debugging`: an operator watches a session step by step in the log buffer, for a bounded time.

use lab::{
    topology::STATION,
    trial::{LabTrial, TrialPlan},
    wait::{PATIENCE, until},
};

/// Returns the messages in the log buffer.
fn buffered(trial: &LabTrial) -> Vec<String> {
    let log = trial.bmpd.display_json("display logbuffer");
    let lines = log["lines"].as_array().expect("an array").iter();
    lines.map(|line| line["message"].as_str().expect("a text").to_owned()).collect()
}

/// Waits until the log buffer has a line with each of these texts, in this order.
fn wait_lines(trial: &LabTrial, texts: &[&str]) {
    until(&format!("{texts:?} in the log buffer"), PATIENCE, || {
        let lines = buffered(trial);
        let mut rest = lines.iter();
        texts.iter().all(|text| rest.any(|line| line.contains(text))).then_some(())
    });
}

fn count(trial: &LabTrial, text: &str) -> usize {
    buffered(trial).iter().filter(|line| line.contains(text)).count()
}

#[test]
fn the_steps_of_a_connection_are_in_the_log_buffer_and_not_in_the_log() {
    let trial = TrialPlan::session("connect-interface up2").start_up();
    assert_eq!(count(&trial, "attempt: "), 0);
    let said = trial.bmpd.display(&format!("debugging bmp session {STATION} connection"));
    assert!(said.contains("connection steps of the session for 10 minutes"), "{said}");
    trial.bmpd.display(&format!("reset bmp session {STATION}"));
    wait_lines(
        &trial,
        &[
            "session 198.51.100.7: the connection is closed: an operator reset the session",
            "attempt: pinned to up2, from 192.0.2.65",
            "the socket is bound to 192.0.2.65:0; connecting to 198.51.100.7:11019, for at most 10 s",
            "connected to 198.51.100.7:11019, under its pin",
            "established: Initiation and the state follow",
        ],
    );
    assert!(!trial.bmpd.log().iter().any(|line| line.contains("attempt: ")));
}

#[test]
fn messages_are_in_the_log_buffer_one_by_one_or_summed_up_until_debugging_ends() {
    let trial = TrialPlan::default().start_up();
    let mut feeder = trial.feeder();
    trial.bmpd.display(&format!("debugging bmp session {STATION} messages for 5"));
    trial.routes_arrive(&mut feeder, 1, 0);
    wait_lines(&trial, &["sent Route Monitoring of peer 10.255.0.2, "]);
    let one_by_one = count(&trial, "sent Route Monitoring of peer");
    trial.routes_arrive(&mut feeder, 500, 0);
    wait_lines(&trial, &[" more messages, "]);
    let more = count(&trial, "sent Route Monitoring of peer") - one_by_one;
    assert!(more < 100, "{more} of 500 messages have a line of their own");

    let shown = trial.bmpd.display_json("display debugging");
    assert_eq!((&shown[0]["topic"], shown.as_array().map(Vec::len)), (&"messages".into(), Some(1)));
    assert!(shown[0]["seconds_left"].as_u64().is_some_and(|left| left <= 300), "{shown}");
    trial.bmpd.display("undo debugging all");
    assert_eq!(trial.bmpd.display_json("display debugging").as_array().map(Vec::len), Some(0));
    let before = count(&trial, "sent ");
    trial.routes_arrive(&mut feeder, 10, 0);
    assert_eq!(count(&trial, "sent "), before);
}

#[test]
fn debugging_names_a_session_of_bmpd_itself() {
    let trial = TrialPlan::session("adopt").start();
    for (station, why) in
        [("198.51.100.7", "another process opens this session"), ("198.51.100.9", "no such bmp-session")]
    {
        let refused = trial.bmpd.try_display(&format!("debugging bmp session {station} messages"));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why), "{said}");
    }
}
