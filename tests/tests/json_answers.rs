//! The answers in JSON of a bmpd that works, each held to its schema. The schemas are in their
//! strict form: a member or a word that no document has is a fault.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
};

use bmp_user::{
    control::{AnswerSubject, answer_schemas},
    doctor,
};
use jsonschema::Validator;
use lab::{
    bmpd::StartOptions,
    http::{connect, get},
    passive::guarded,
    topology::{STATION, STATION_2, UP1},
    trial::{LabTrial, TrialPlan},
    wait::{PATIENCE, until},
};
use serde_json::Value;

/// Where the HTTP server listens in every trial.
const SERVER: SocketAddr = SocketAddr::new(UP1, 9179);

/// The schemas of all answers.
struct AnswerValidators(BTreeMap<AnswerSubject, Validator>);

impl AnswerValidators {
    fn new() -> Self {
        let doctor = doctor::answer_schema().expect("the doctor's answer has a schema");
        let schemas = answer_schemas().expect("the answers have schemas").into_iter().chain([doctor]);
        let validator = |schema: &Value| jsonschema::draft202012::new(schema).expect("a schema is valid");
        Self(schemas.map(|schema| (schema.subject(), validator(&schema.strict()))).collect())
    }

    /// Asserts that a text is an answer about `subject` that its schema allows. Returns its data.
    fn check(&self, subject: AnswerSubject, text: &str) -> Value {
        let mut answer: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {error}: {text}", subject.source()));
        let errors: Vec<_> =
            self.0[&subject].iter_errors(&answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}\n{answer:#}", subject.source());
        answer["data"].take()
    }

    /// Checks every display, the paths of the HTTP server, its events, and the doctor's report.
    fn check_all(&self, trial: &LabTrial) {
        let displays = AnswerSubject::ALL.into_iter().filter(|subject| subject.source().starts_with("display "));
        for subject in displays {
            self.check(subject, &trial.bmpd.display(&format!("{} --json", subject.source())));
        }
        let index = self.check(AnswerSubject::ApiIndex, &get(&trial.topology.router, SERVER, "/api/v1").body);
        let paths = index.as_object().expect("the index is an object");
        let mut served = 0;
        for (path, command) in paths.iter().filter(|(path, _)| *path != "/api/v1/events") {
            let subject = AnswerSubject::ALL.into_iter().find(|subject| subject.source() == command);
            let subject = subject.unwrap_or_else(|| panic!("{path} answers with {command}"));
            self.check(subject, &get(&trial.topology.router, SERVER, path).body);
            served += 1;
        }
        assert!(served >= 9, "{index:#}");
        self.check(AnswerSubject::ApiEvents, &first_event(trial));
        self.check(AnswerSubject::Doctor, &doctors_report(trial));
    }
}

/// Returns the data of the first event of `/api/v1/events`.
fn first_event(trial: &LabTrial) -> String {
    let mut stream = connect(&trial.topology.router, SERVER).expect("the server listens");
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: lab\r\n\r\n").expect("the server reads");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("the server goes on"));
    lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).expect("there is an event")
}

fn doctors_report(trial: &LabTrial) -> String {
    let setup = trial.bmpd.setup();
    let mut command = setup.bmpd();
    command.args(["doctor", "--json", "--frr", "/nonexistent", "--config"]).arg(setup.file());
    command.arg("--control").arg(setup.control()).arg("--bpffs").arg(setup.bpffs());
    String::from_utf8_lossy(&command.output().expect("bmpd can be started").stdout).into_owned()
}

/// Lines of the system view: the HTTP server, a BGP peer, replays that fail and that have no file.
fn system(replayed: &str) -> String {
    format!(
        "http listen {} port {}\nmrt-replay broken\n file {replayed}\nmrt-replay none\nbgp 65000\n listen-port 1790\n \
         peer 203.0.113.1 as-number 65001\n peer 203.0.113.1 listen-only\n ipv4-family unicast\n  \
         peer 203.0.113.1 enable\n quit\nquit",
        SERVER.ip(),
        SERVER.port()
    )
}

/// Lines of the bmp view: sessions that listen, that cannot be pinned, and that have no port.
fn sessions() -> String {
    format!(
        "bmp-session {STATION_2}\n  tcp listen port 11019\n  connect-interface up2\n quit\n\
         bmp-session 198.51.100.20\n  tcp connect port 11019\n  connect-interface up9\n quit\n\
         bmp-session 198.51.100.21\n quit\n\
         bmp-session 198.51.100.22\n  tcp connect port 11019\n  connect-interface up2\n  adopt\n quit"
    )
}

#[test]
fn every_answer_of_a_bmpd_with_sessions_in_all_states_is_valid() {
    let validators = AnswerValidators::new();
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), b"no routing table").expect("the file is writable");
    let (system, bmp) = (system(&file.path().display().to_string()), sessions());
    let plan = TrialPlan { system: &system, bmp: &bmp, ..TrialPlan::session("connect-interface up2") };
    let trial = plan.start_up();
    let mut feeder = trial.feeder();
    trial.routes_arrive(&mut feeder, 20, 0);
    guarded(&trial.bmpd, STATION_2);
    until("the replay fails", PATIENCE, || {
        (trial.bmpd.display_json("display mrt-replay")[0]["state"] == "failed").then_some(())
    });
    validators.check_all(&trial);

    let commands = ["--json", "-c", "system-view", "-c", "sysname edge2", "-c"];
    let answered = |command: &str| {
        let output = trial.bmpd.bmpctl("").args(commands).arg(command).output().expect("bmpctl can be started");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    validators.check(AnswerSubject::Commit, &answered("commit trial 60"));
    let trial_shown = trial.bmpd.display("display configuration trial --json");
    assert_eq!(validators.check(AnswerSubject::ConfigurationTrial, &trial_shown)["seconds"], 60);
    validators.check(AnswerSubject::Commit, &answered("abort trial force"));

    trial.topology.carrier_down("up2");
    trial.bmpd.wait_session(STATION, "down", |session| session["reason"] == "interface-down");
    validators.check_all(&trial);
}

#[test]
fn the_answers_without_kernel_programs_are_valid_and_null_where_nothing_counts() {
    let validators = AnswerValidators::new();
    let options = StartOptions { arguments: &["--datapath", "socket"], through: &[] };
    let (system, bmp) = (system("/nonexistent"), sessions());
    let plan = TrialPlan { options, system: &system, bmp: &bmp, ..TrialPlan::session("connect-interface up2") };
    let trial = plan.start();
    trial.bmpd.wait_up(STATION);
    validators.check_all(&trial);
    let down = trial.bmpd.session("198.51.100.21".parse().expect("an address"));
    assert_eq!((&down["feed"]["cursor"], &down["feed"]["lag_bytes"]), (&Value::Null, &Value::Null), "{down:#}");
    assert_eq!((&down["kernel"]["retransmits"], &down["kernel"]["denied"]), (&Value::Null, &Value::Null), "{down:#}");
    let adopted = trial.bmpd.session("198.51.100.22".parse().expect("an address"));
    assert_eq!((&adopted["messages"], &adopted["feed"]), (&Value::Null, &Value::Null), "{adopted:#}");
    let peer = &trial.bmpd.display_json("display bgp peer")["peers"][0];
    for name in ["capabilities", "families", "treated_as_withdraw", "attributes_discarded"] {
        assert!(peer[name].is_null(), "{name}: {peer:#}");
    }
    let replays = trial.bmpd.display_json("display mrt-replay");
    assert_eq!((&replays[1]["file_bytes"], &replays[1]["file_records"]), (&Value::Null, &Value::Null), "{replays:#}");
}
