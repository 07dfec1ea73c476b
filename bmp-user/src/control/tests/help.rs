//! Help, completion and errors.

use super::*;

#[tokio::test]
async fn errors_have_the_caret_under_the_word_and_name_the_line_of_a_file() {
    let device = TasklessDevice::new(FILE);
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    assert_eq!(
        refused(&mut operator, "sysname a b").await,
        "sysname a b\n          ^\nError: the command ends before `b`."
    );
    let origin = Some(Origin { file: "setup".to_owned(), line: 12 });
    let request = Request { command: "sysname a b".to_owned(), origin: origin.clone(), ..Request::default() };
    let CommandAnswer::Refused(said) = operator.answer(&request).await.answer else { panic!() };
    assert_eq!(said, "setup:12:11: error: the command ends before `b`\nsysname a b\n          ^");
    let request = Request { command: "abort trial".to_owned(), origin, ..Request::default() };
    let CommandAnswer::Refused(said) = operator.answer(&request).await.answer else { panic!() };
    assert_eq!(said, "setup:12: error: no trial is in force");
}

#[tokio::test]
async fn help_and_completion_come_from_the_grammar_and_the_host() {
    let device = TasklessDevice::new("interface-alias eth1 GigabitEthernet0/1/0\nbmp\n bmp-session 198.51.100.7\n");
    let mut operator = device.operator();
    for command in ["system-view", "bmp", "bmp-session 198.51.100.7"] {
        run(&mut operator, command).await;
    }
    let help = async |operator: &mut Operator, line: &str| match ask(operator, line, RequestMode::Help).await.answer {
        CommandAnswer::Done(text) => text,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(
        help(&mut operator, "tcp ").await,
        "  connect  this device connects to the station\n  listen   the station connects to this device\n  mss      the longest segment that is sent\n"
    );
    assert_eq!(help(&mut operator, "t l p ").await, "  INTEGER<1-65535>  a port from 1 to 65535\n");
    assert_eq!(help(&mut operator, "adopt ").await, "  <cr>\n");
    assert_eq!(
        help(&mut operator, "hol").await,
        "  hold-down  how long the session outlives the loss of its interface\n"
    );
    assert!(help(&mut operator, "").await.contains("  shutdown"));
    assert!(!help(&mut operator, "").await.contains("  sysname"));
    assert_eq!(
        help(&mut operator, "undo hold-down ").await,
        "  INTEGER<0-600000>  milliseconds from 0 to 600000\n  <cr>\n"
    );
    let words =
        async |operator: &mut Operator, line: &str| match ask(operator, line, RequestMode::Complete).await.answer {
            CommandAnswer::Words(words) => words.join(" "),
            other => panic!("{line}: {other:?}"),
        };
    let table = [
        ("con", "connect-interface connect-retry"),
        ("dis", "display"),
        (
            "display ",
            "bgp bmp configuration current-configuration debugging default-parameter http interface-binding logbuffer mrt-replay this version",
        ),
        ("conn e", "eth1 eth2"),
        ("conn Gig", "GigabitEthernet0/1/0"),
        ("reset bmp session ", "198.51.100.7 all vpn-instance"),
        ("dis cu | ", "begin exclude include"),
        ("nonsense ", ""),
    ];
    for (line, expected) in table {
        assert_eq!(words(&mut operator, line).await, expected, "{line}");
    }
}

#[tokio::test]
async fn help_suggests_words_for_a_mistyped_one() {
    let device = TasklessDevice::new(FILE);
    let mut operator = device.operator();
    let help = async |operator: &mut Operator, line: &str| match ask(operator, line, RequestMode::Help).await.answer {
        CommandAnswer::Done(text) | CommandAnswer::Refused(text) => text,
        other => panic!("{line}: {other:?}"),
    };
    for (line, near) in [
        ("disply", "did you mean `display`?"),
        ("dislpay ", "did you mean `display`?"),
        ("display bpm ", "did you mean `bmp`?"),
        ("display bmp sesion ver", "did you mean `session`?"),
        ("sytem", "did you mean `system-view`?"),
    ] {
        let said = help(&mut operator, line).await;
        assert!(said.contains(near), "{line}: {said}");
    }
    run(&mut operator, "system-view").await;
    run(&mut operator, "bmp").await;
    assert!(help(&mut operator, "sysnme").await.contains("`sysname`"), "also of the views around");
    assert!(help(&mut operator, "qqqqqq").await.contains("nothing comes next here"));
    assert_eq!(
        refused(&mut operator, "bpm-session").await.lines().last(),
        Some("Error: unknown command `bpm-session`: did you mean `bmp-session`?")
    );
}

#[tokio::test]
async fn where_an_interface_may_stand_those_of_the_host_are_listed() {
    let device = TasklessDevice::new("interface-alias eth1 GigabitEthernet0/1/0\ninterface-alias gone uplink\n");
    let mut operator = device.operator();
    for command in ["system-view", "bmp", "bmp-session 198.51.100.7"] {
        run(&mut operator, command).await;
    }
    let CommandAnswer::Done(help) = ask(&mut operator, "connect-interface ", RequestMode::Help).await.answer else {
        panic!()
    };
    let expected = "\n Interfaces of this host\n  GigabitEthernet0/1/0  up, eth1: no address\n  \
                    eth1                  up: no address\n  eth2                  up: no address\n  \
                    uplink                absent, gone\n";
    assert!(help.ends_with(expected), "{help}");
    let response = ask(&mut operator, "connect-interface e", RequestMode::Complete).await;
    assert_eq!(response.answer, CommandAnswer::Words(vec!["eth1".to_owned(), "eth2".to_owned()]));
    assert_eq!(response.hints.get("eth2").map(String::as_str), Some("up: no address"));
}

#[tokio::test]
async fn save_says_where_commits_are_saved_and_what_is_not() {
    let device = TasklessDevice::new(FILE);
    let mut operator = device.operator();
    let said = run(&mut operator, "save").await;
    assert!(
        said.starts_with("Info: the configuration in force is saved already") && said.contains("bmpd.conf"),
        "{said}"
    );
    run(&mut operator, "system-view").await;
    run(&mut operator, "sysname edge1").await;
    let said = run(&mut operator, "save").await;
    assert!(said.starts_with("Warning: ") && said.contains("`commit` puts them in force"), "{said}");
    run(&mut operator, "commit trial 600").await;
    let said = run(&mut operator, "save").await;
    assert!(said.starts_with("Warning: ") && said.contains("`commit` keeps it"), "{said}");
    assert_eq!(device.kept("bmpd.conf"), FILE);
    // Quotes around the text of a filter go.
    assert_eq!(run(&mut operator, "display current-configuration | include \"name edge1\"").await, "sysname edge1\n");
}
