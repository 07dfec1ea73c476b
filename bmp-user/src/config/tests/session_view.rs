//! Settings of a session view beyond port and source.

use std::time::Duration;

use super::{super::*, run, session_id, typed};

/// The settings of a session view, printed, after commands in it.
fn held(lines: &[&str]) -> Vec<String> {
    let (config, _) = typed(&[&["bmp", "bmp-session 198.51.100.7"], lines].concat());
    let text = print(&config);
    text.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// The message and the marked word of the last command, which is refused.
fn refusal(lines: &[&str], last: &str) -> (String, String) {
    let (mut config, mut view) = typed(&[&["bmp", "bmp-session 198.51.100.7"], lines].concat());
    let before = (config.clone(), view.clone());
    let error = run(&mut config, &mut view, last).expect_err(last);
    assert_eq!((config, view), before, "{last}");
    let word = error.line_text.chars().skip(error.column - 1).take(error.length).collect();
    (error.message, word)
}

#[test]
fn every_setting_is_printed_as_it_is_typed() {
    let lines = [
        "tcp connect port 11019",
        "connect-interface LoopBack0",
        "egress-interface eth1 eth2 GigabitEthernet0/1/0",
        "next-hop 192.0.2.254",
        "hold-down 600000",
        "adopt",
        "shutdown",
    ];
    assert_eq!(held(&lines), lines);
    for line in lines {
        let without: Vec<_> = lines.into_iter().filter(|other| *other != line).collect();
        let keywords = match line {
            "tcp connect port 11019" => "tcp connect port",
            other => other.split(' ').next().unwrap(),
        };
        for undo in [format!("undo {line}"), format!("undo {keywords}")] {
            assert_eq!(held(&[&lines[..], &[&undo, &undo]].concat()), without, "{undo}");
        }
    }
}

#[test]
fn what_is_as_by_default_is_not_printed() {
    assert_eq!(held(&["hold-down 5", "hold-down 0", "undo hold-down 0"]), [""; 0]);
    let (config, _) = typed(&["bmp", "persist"]);
    assert_eq!(print(&config), "#\nbmp\n persist\n#\nreturn\n");
    let (config, _) = typed(&["bmp", "persist", "undo persist"]);
    assert_eq!(print(&config), "#\nbmp\n#\nreturn\n");
}

#[test]
fn the_text_of_the_session_view_precedes_that_of_the_bmp_view() {
    let in_force = |lines: &[&str]| {
        let (config, _) = typed(&[&["bmp", "bmp-session 198.51.100.7"], lines].concat());
        let session = &config.bmp.sessions[&session_id("198.51.100.7")];
        initiation_message(&config.bmp, session).map(|text| text.as_str().to_owned())
    };
    let own = "initiation-message \"edge of  the lab\"";
    let of_all = ["quit", "initiation-message all"];
    assert_eq!(in_force(&[]), None);
    assert_eq!(in_force(&of_all).as_deref(), Some("all"));
    assert_eq!(in_force(&[&[own], &of_all[..]].concat()).as_deref(), Some("edge of the lab"));
    assert_eq!(in_force(&[own, "undo initiation-message"]), None);
    assert_eq!(in_force(&[&of_all[..], &["undo initiation-message"]].concat()), None);
    // Operators who type less mean the delay.
    let view = super::session_view("198.51.100.7");
    assert!(parse_line(&view, "init 5", true).is_ok() && parse_line(&view, "initiat a text", true).is_ok());
    assert!(parse_line(&view, "init a text", true).unwrap_err().message.contains("a session waits"));
}

#[test]
fn a_keepalive_has_its_probes_or_those_of_the_default() {
    for line in ["keepalive 0", "keepalive 5", "keepalive 5 2 3", "keepalive 32767 32767 127"] {
        assert_eq!(held(&[line]), [line]);
        assert_eq!(held(&[line, &format!("undo {line}")]), [""; 0]);
        assert_eq!(held(&[line, "undo keepalive"]), [""; 0]);
    }
    assert_eq!(held(&["keepalive 5 2 3", "keepalive 5"]), ["keepalive 5"]);
}

#[test]
fn the_local_port_comes_last_in_its_line_and_goes_with_it() {
    let whole = "tcp connect port 1 keychain core tls stations local-port 40000";
    assert_eq!(held(&[whole]), [whole]);
    assert_eq!(held(&["tcp connect port 1 local-port 2"]), ["tcp connect port 1 local-port 2"]);
    assert_eq!(held(&["tcp connect port 1 local-port 2", "tcp connect port 1"]), ["tcp connect port 1"]);
    for undo in ["undo tcp connect port", "undo tcp connect port 1", "undo tcp connect port 1 keychain core"] {
        assert_eq!(held(&[whole, undo]), [""; 0], "{undo}");
    }
    assert_eq!(held(&[whole, "tcp listen port 3", "tcp connect port 1"]), ["tcp connect port 1"]);
}

#[test]
fn a_description_is_the_rest_of_the_line_without_the_quotes_around_it() {
    for (given, kept) in [
        ("the collector of the lab", "the collector of the lab"),
        ("\"the collector\tof  the lab \"", "the collector of the lab"),
        ("\"\"twice\"\"", "twice"),
        ("a \"quoted\" word", "a \"quoted\" word"),
        ("\"", "\""),
        ("undo | include # 路", "undo | include # 路"),
    ] {
        let line = format!("description {given}");
        assert_eq!(held(&[&line]), [format!("description {kept}")], "{given}");
        for undo in [format!("undo {line}"), format!("undo description {kept}"), "undo description".to_owned()] {
            assert_eq!(held(&[&line, &undo]), [""; 0], "{undo}");
        }
    }
    let longest = "é".repeat(LineText::LONGEST);
    assert_eq!(held(&[&format!("description {longest}")]), [format!("description {longest}")]);
}

#[test]
fn connecting_and_listening_replace_each_other() {
    assert_eq!(held(&["tcp connect port 1", "tcp listen port 2"]), ["tcp listen port 2"]);
    assert_eq!(held(&["tcp listen port 2", "tcp connect port 1"]), ["tcp connect port 1"]);
    // What is not there is not taken back.
    assert_eq!(held(&["tcp listen port 2", "undo tcp connect port"]), ["tcp listen port 2"]);
    assert_eq!(held(&["tcp listen port 2", "undo tcp listen port 2"]), [""; 0]);
}

#[test]
fn a_wrong_word_is_refused_at_the_word() {
    let nine = "egress-interface a b c d e f g h i";
    let long = format!("description {}", "x".repeat(256));
    let table: [(&[&str], &str, &str, &str); 31] = [
        (&[], "description", "", "what the session is for"),
        (&[], "description \" \"", "\"", "from 1 to 255 characters, this has 0"),
        (&[], &long, &long[12..], "from 1 to 255 characters, this has 256"),
        (&["description of a lab"], "undo description of the lab", "of", "which is `description of a lab`"),
        (&[], "egress-interface", "", "an interface that the session may leave by"),
        (&[], "egress-interface eth1 192.0.2.1", "192.0.2.1", "is an address"),
        (&[], "egress-interface eth1 eth2 eth1", "eth1", "named already"),
        (&[], nine, "i", "at most 8"),
        (&["egress-interface eth1"], "undo egress-interface eth2", "eth2", "`egress-interface eth1`"),
        (&[], "next-hop 2001:db8::1", "2001:db8::1", "so the next hop must be IPv4"),
        (&[], "next-hop 224.0.0.1", "224.0.0.1", "multicast"),
        (&[], "hold-down 600001", "600001", "from 0 to 600000"),
        (&[], "hold-down -1", "-1", "from 0 to 600000"),
        (&[], "tcp listen port 0", "0", "1 to 65535"),
        (&[], "tcp connect port 1 local-port 65536", "65536", "1 to 65535"),
        (&[], "tcp listen port 1 local-port 2", "local-port", "not understood here"),
        (&["tcp connect port 1 local-port 2"], "undo tcp connect port 1 local-port 3", "3", "local-port 2`"),
        (&[], "keepalive 5 2", "", "how many probes without an answer end it, from 1 to 127"),
        (&[], "keepalive 5 2 128", "128", "from 1 to 127"),
        (&[], "keepalive 0 2 3", "2", "there is no keepalive"),
        (&["keepalive 5 2 3"], "undo keepalive 5 2 4", "4", "`keepalive 5 2 3`"),
        (&[], "buffer-limit 0", "0", "a buffer limit is a number of megabytes from 1 to 64"),
        (&["buffer-limit 8"], "undo buffer-limit 9", "9", "`buffer-limit 8`"),
        (&[], "statistics-timer 14", "14", "from 15 to 65535"),
        (&["statistics-timer 60"], "undo statistics-timer 61", "61", "`statistics-timer 60`"),
        (&[], "adopt now", "now", "ends before"),
        (&["tcp listen port 1"], "adopt", "adopt", "opens itself can be adopted"),
        (&["adopt"], "tcp listen port 1", "1", "`undo adopt` first"),
        (&["tcp listen port 1"], "next-hop 192.0.2.2", "192.0.2.2", "connections that this device opens"),
        (&["next-hop 192.0.2.2"], "tcp listen port 1", "1", "`undo next-hop` first"),
        (&["tcp connect port 1"], "undo tcp connect port 2", "2", "`tcp connect port 1`"),
    ];
    for (lines, last, word, message) in table {
        let (said, at) = refusal(lines, last);
        assert_eq!(at, word, "{last}: {said}");
        assert!(said.contains(message), "{last}: {said}");
    }
}

#[test]
fn a_station_port_and_vpn_instance_belong_to_one_session() {
    let before = ["tcp connect port 1", "bmp-session vpn-instance v 198.51.100.7", "tcp connect port 1"];
    let (config, view) = typed(&[&["bmp", "bmp-session 198.51.100.7"], &before[..]].concat());
    assert_eq!(config.bmp.sessions.len(), 2);
    assert_eq!(
        view,
        CommandView::Session(SessionId { vpn_instance: Some("v".to_owned()), ..session_id("198.51.100.7") })
    );
    let again = [&before[..], &["bmp-session vpn-instance v 198.51.100.7 alias a"]].concat();
    let (said, at) = refusal(&again, "tcp connect port 1");
    assert_eq!(
        (said.as_str(), at.as_str()),
        ("the session v-198.51.100.7 connects to port 1 of this station already", "1")
    );
    // A port of the station and one of this device are two things.
    let listening = [&again[..], &["tcp listen port 1", "bmp-session vpn-instance v 198.51.100.7 alias b"]].concat();
    let (said, _) = refusal(&listening, "tcp listen port 1");
    assert_eq!(said, "the session v-198.51.100.7-a listens on port 1 for this station already");
}

#[test]
fn a_vpn_instance_has_the_name_of_a_device() {
    for (name, message) in
        [("_public_", "leave `vpn-instance` out"), ("sixteen-bytes-xx", "1 to 15 bytes"), ("a/b", "kernel")]
    {
        let error =
            parse_line(&CommandView::Bmp, &format!("bmp-session vpn-instance {name} 198.51.100.7"), false).unwrap_err();
        assert!(error.message.contains(message), "{error}");
        assert_eq!(error.column, 26);
    }
}

#[test]
fn what_acts_is_understood_and_is_no_part_of_a_configuration() {
    let seconds = Duration::from_secs;
    let reset = |vpn_instance: Option<&str>, station: Option<&str>, alias: Option<&str>| {
        ParsedCommand::Reset(ResetCommand {
            vpn_instance: vpn_instance.map(str::to_owned),
            station: station.map(|station| station.parse().unwrap()),
            alias: alias.map(str::to_owned),
            counters: false,
        })
    };
    let counters = |command: ParsedCommand| match command {
        ParsedCommand::Reset(reset) => ParsedCommand::Reset(ResetCommand { counters: true, ..reset }),
        other => other,
    };
    let display = |what, filter| ParsedCommand::Display(what, filter);
    let none = CommitNote::default;
    let commit = |label: Option<&str>, description: Option<&str>| {
        let [label, description] = [label, description].map(|text| text.map(str::to_owned));
        ParsedCommand::Candidate(CandidateCommand::Commit { force: false, note: CommitNote { label, description } })
    };
    let debugging = |minutes: u64| {
        let station = "::1".parse().unwrap();
        ParsedCommand::Debugging(DebuggingCommand::Start {
            sessions: DebuggedSessions { vpn_instance: None, station, alias: None },
            topic: DebuggingTopic::Messages,
            time: seconds(60 * minutes),
        })
    };
    let rollback = |target, trial| ParsedCommand::Candidate(CandidateCommand::Rollback { target, trial });
    let table = [
        ("commit", "com", ParsedCommand::Candidate(CandidateCommand::Commit { force: false, note: none() })),
        ("reset bmp session all counters", "reset bm s a c", counters(reset(None, None, None))),
        (
            "reset bmp session vpn-instance v 192.0.2.9 alias a counters",
            "reset bm s v v 192.0.2.9 a a c",
            counters(reset(Some("v"), Some("192.0.2.9"), Some("a"))),
        ),
        ("commit force", "com f", ParsedCommand::Candidate(CandidateCommand::Commit { force: true, note: none() })),
        (
            "commit trial 600",
            "com t 600",
            ParsedCommand::Candidate(CandidateCommand::CommitTrial { time: seconds(600), note: none() }),
        ),
        ("commit label a description  two  words ", "com l a d two  words", commit(Some("a"), Some("two  words"))),
        ("commit description \"force trial\"", "com d \"force trial\"", commit(None, Some("force trial"))),
        ("rollback configuration to commit 7", "rol c t c 7", rollback(RollbackTarget::Commit(7), None)),
        (
            "rollback configuration to label last trial 60",
            "rol c t l last t 60",
            rollback(RollbackTarget::Label("last".to_owned()), Some(seconds(60))),
        ),
        ("rollback configuration last 2", "rol c l 2", rollback(RollbackTarget::Last(2), None)),
        (
            "display configuration commit list last 3",
            "di co com l l 3",
            display(DisplayCommand::CommitList { last: Some(3) }, None),
        ),
        (
            "display configuration commit changes at 3",
            "di co com c a 3",
            display(DisplayCommand::CommitChanges { at: Some(3), last: None }, None),
        ),
        ("abort trial", "ab t", ParsedCommand::Candidate(CandidateCommand::AbortTrial { force: false })),
        ("abort trial force", "ab t f", ParsedCommand::Candidate(CandidateCommand::AbortTrial { force: true })),
        ("clear configuration candidate", "cl c c", ParsedCommand::Candidate(CandidateCommand::Clear)),
        ("reset bmp session all", "res bm s a", reset(None, None, None)),
        ("reset bmp session vpn-instance v all", "res bm s v v a", reset(Some("v"), None, None)),
        ("reset bmp session ::1 alias a", "res bm s ::1 a a", reset(None, Some("::1"), Some("a"))),
        ("display configuration candidate", "di co ca", display(DisplayCommand::Candidate { changes: false }, None)),
        (
            "display configuration candidate changes",
            "di co ca c",
            display(DisplayCommand::Candidate { changes: true }, None),
        ),
        ("display debugging", "di deb", display(DisplayCommand::Debugging, None)),
        ("debugging bmp session ::1 messages", "deb b s ::1 m", debugging(10)),
        ("debugging bmp session ::1 messages for 60", "deb b s ::1 m f 60", debugging(60)),
        ("undo debugging all", "un deb a", ParsedCommand::Debugging(DebuggingCommand::StopAll)),
        ("display default-parameter bmp", "di d b", display(DisplayCommand::DefaultParameterBmp, None)),
        ("display interface-binding", "di i", display(DisplayCommand::InterfaceBinding, None)),
        (
            "display current-configuration | include two  words | more",
            "di cu | i two  words | more",
            display(
                DisplayCommand::CurrentConfiguration { view: None },
                Some(LineFilter::Include("two  words | more".to_owned())),
            ),
        ),
        (
            "display bmp session vpn-instance v 198.51.100.7 verbose | begin x",
            "di bm s vpn v 198.51.100.7 verb | b x",
            display(
                DisplayCommand::BmpSession {
                    vpn_instance: Some("v".to_owned()),
                    station: Some("198.51.100.7".parse().unwrap()),
                    alias: None,
                    verbose: true,
                },
                Some(LineFilter::Begin("x".to_owned())),
            ),
        ),
    ];
    for (whole, cut, expected) in table {
        for view in [
            CommandView::User,
            CommandView::System,
            CommandView::Bmp,
            CommandView::Relay("r".to_owned()),
            super::session_view("::1"),
        ] {
            assert_eq!(parse_line(&view, whole, false).as_ref(), Ok(&expected), "{whole}");
            assert_eq!(parse_line(&view, cut, true).as_ref(), Ok(&expected), "{cut}");
        }
        let errors = parse_file("f", whole).unwrap_err();
        assert!(errors[0].message.contains("no part of a configuration"), "{whole}: {}", errors[0]);
    }
    assert_eq!(parse_line(&CommandView::User, "sys", true), Ok(ParsedCommand::SystemView));
    assert!(parse_line(&CommandView::System, "system-view", true).unwrap_err().message.contains("user view"));
    for (wrong, message) in [
        ("commit trial", "not complete"),
        ("commit trial 0", "from 1 to 65535"),
        ("reset bmp session", "not complete"),
        ("display current-configuration |", "not complete"),
        ("display current-configuration | include", "text to look for"),
    ] {
        assert!(parse_line(&CommandView::User, wrong, false).unwrap_err().message.contains(message), "{wrong}");
    }
}

#[test]
fn a_filter_chooses_lines() {
    let answer = "one\ntwo\nthree\ntwo\n";
    let table = [
        (LineFilter::Include("o".to_owned()), "one\ntwo\ntwo\n"),
        (LineFilter::Exclude("o".to_owned()), "three\n"),
        (LineFilter::Begin("two".to_owned()), "two\nthree\ntwo\n"),
        (LineFilter::Begin("four".to_owned()), ""),
    ];
    for (filter, expected) in table {
        assert_eq!(filter.apply(answer), expected);
    }
}
