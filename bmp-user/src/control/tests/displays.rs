//! Arguments and answers of `display` and `reset`.

use super::*;

#[tokio::test]
async fn displays_answer_from_any_view() {
    let device = TasklessDevice::new("bmp\n connect-interface 192.0.2.1\n bmp-session 198.51.100.7\n");
    let mut operator = device.operator();
    let binding = run(&mut operator, "display interface-binding").await;
    for part in ["BMP session 198.51.100.7", "192.0.2.1 (bmp view)", "not decided yet", "or one in the session view"] {
        assert!(binding.contains(part), "{binding}");
    }
    let request = Request { command: "dis interface-binding".to_owned(), json: true, ..Request::default() };
    let CommandAnswer::Done(json) = operator.answer(&request).await.answer else { panic!() };
    assert!(json.contains("\"from\": \"bmp\""), "{json}");
    assert!(run(&mut operator, "display default-parameter bmp").await.contains("Hold-down"));
    assert_eq!(run(&mut operator, "reset bmp session all").await, "");
    assert!(refused(&mut operator, "reset bmp session 198.51.100.8").await.contains("no such bmp-session"));
    let in_json = |command: &str| Request { command: command.to_owned(), json: true, ..Request::default() };
    assert!(matches!(operator.answer(&in_json("reset bmp session all")).await.answer, CommandAnswer::Refused(_)));
    assert_eq!(operator.answer(&in_json("system-view")).await.answer, CommandAnswer::Done(String::new()));
    let CommandAnswer::Done(json) = operator.answer(&in_json("commit")).await.answer else { panic!() };
    let said: serde_json::Value = read_json(&json).unwrap();
    assert_eq!(said, serde_json::json!([{ "severity": "info", "text": "there is nothing to commit" }]));
}

#[tokio::test]
async fn reset_names_the_sessions_of_a_station_in_its_vpn_instance() {
    let config: Config = parse_file(
        "f",
        "bmp\nbmp-session 198.51.100.7\nbmp-session 198.51.100.7 alias a\nbmp-session vpn-instance v 198.51.100.7\n",
    )
    .unwrap();
    let table = [
        ("reset bmp session all", "198.51.100.7 198.51.100.7-a v-198.51.100.7"),
        ("reset bmp session vpn-instance v all", "v-198.51.100.7"),
        ("reset bmp session 198.51.100.7", "198.51.100.7 198.51.100.7-a"),
        ("reset bmp session 198.51.100.7 alias a", "198.51.100.7-a"),
        ("reset bmp session vpn-instance v 198.51.100.7", "v-198.51.100.7"),
    ];
    for (line, expected) in table {
        let command = crate::config::parse_line(&crate::config::CommandView::User, line, false).unwrap();
        let crate::config::ParsedCommand::Reset(reset) = command else { panic!("{command:?}") };
        let named = config.bmp.sessions.keys().filter(|id| reset.names(id)).map(SessionId::to_string);
        assert_eq!(named.collect::<Vec<_>>().join(" "), expected, "{line}");
    }
}

#[tokio::test]
async fn one_of_several_sessions_to_a_station_is_shown_by_its_alias() {
    let device = TasklessDevice::new("bmp\n bmp-session 198.51.100.7\n bmp-session 198.51.100.7 alias lab\n");
    let mut operator = device.operator();
    let shown = run(&mut operator, "display bmp session 198.51.100.7 alias lab verbose").await;
    assert!(shown.contains("Total number of BMP session : 1") && shown.contains("198.51.100.7, alias lab"), "{shown}");
    let said = refused(&mut operator, "display bmp session 198.51.100.7 alias other").await;
    assert_eq!(said, "Error: no bmp-session 198.51.100.7 alias other is configured.");
}

#[tokio::test]
async fn undo_of_a_session_names_the_others_to_its_station_that_stay() {
    let device = TasklessDevice::new(
        "bmp\n bmp-session 198.51.100.7 alias lab\n bmp-session 198.51.100.7 alias noc\n bmp-session vpn-instance v 198.51.100.7\n",
    );
    let mut operator = device.operator();
    run(&mut operator, "system-view").await;
    run(&mut operator, "bmp").await;
    let said = run(&mut operator, "undo bmp-session 198.51.100.7").await;
    let others = "`undo bmp-session 198.51.100.7 alias lab`, `undo bmp-session 198.51.100.7 alias noc`";
    assert_eq!(
        said,
        format!(
            "Info: there is no bmp-session 198.51.100.7 without an alias, so nothing goes; those to this station go by {others}.\n"
        )
    );
    run(&mut operator, "bmp-session 198.51.100.7").await;
    let said = run(&mut operator, "undo bmp-session 198.51.100.7").await;
    assert_eq!(
        said,
        format!(
            "Info: bmp-session 198.51.100.7 without an alias alone goes; others to this station stay, until {others}.\n"
        )
    );
    assert_eq!(run(&mut operator, "undo bmp-session vpn-instance v 198.51.100.7").await, "", "it is the only one");
    // A script that asks for JSON gets no remark.
    let request = Request { command: "undo bmp-session 198.51.100.9".to_owned(), json: true, ..Request::default() };
    assert_eq!(operator.answer(&request).await.answer, CommandAnswer::Done(String::new()));
}

#[tokio::test]
async fn a_part_of_the_configuration_is_shown_by_its_name_and_by_the_view_one_is_in() {
    let device = TasklessDevice::new(
        "sysname edge1\nbmp-relay frr\n listen 127.0.0.1 port 5000\nbmp\n bmp-session 198.51.100.7\n  \
         tcp connect port 11019 password md5 hunter2\n bmp-session 198.51.100.8\n",
    );
    let mut operator = device.operator();
    let said = refused(&mut operator, "display this").await;
    assert!(said.contains("the user view configures nothing"), "{said}");
    let session = "#\nbmp\n #\n bmp-session 198.51.100.7\n  tcp connect port 11019 password md5 ******\n#\nreturn\n";
    assert_eq!(run(&mut operator, "display current-configuration bmp-session 198.51.100.7").await, session);
    let relay = "#\nbmp-relay frr\n listen 127.0.0.1 port 5000\n#\nreturn\n";
    assert_eq!(run(&mut operator, "display current-configuration bmp-relay frr").await, relay);
    assert_eq!(run(&mut operator, "dis cu system").await, "#\nsysname edge1\n#\nreturn\n");
    assert_eq!(run(&mut operator, "dis cu bmp | include session").await.lines().count(), 2);
    assert_eq!(
        refused(&mut operator, "display current-configuration bmp-session vpn-instance v 198.51.100.7 alias a").await,
        "Error: no bmp-session vpn-instance v 198.51.100.7 alias a is configured."
    );
    assert_eq!(refused(&mut operator, "display current-configuration bgp").await, "Error: no bgp is configured.");
    for command in ["system-view", "sysname edge2", "display this"] {
        run(&mut operator, command).await;
    }
    assert_eq!(run(&mut operator, "display this").await, "#\nsysname edge2\n#\nreturn\n");
    run(&mut operator, "bmp").await;
    run(&mut operator, "bmp-session 198.51.100.9").await;
    run(&mut operator, "hold-down 7").await;
    let candidate = "#\nbmp\n #\n bmp-session 198.51.100.9\n  hold-down 7\n#\nreturn\n";
    assert_eq!(run(&mut operator, "display this").await, candidate);
    // It is not in force yet.
    refused(&mut operator, "display current-configuration bmp-session 198.51.100.9").await;
}
