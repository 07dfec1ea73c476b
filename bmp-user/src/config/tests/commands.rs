//! One line at a time.

use super::{super::*, refusal, run, session_id, session_view, typed};
use crate::config::{
    language::{token::Token, value::ArgumentValue},
    settings::ArgumentType,
};

fn set(view: &CommandView, line: &str) -> Setting {
    match parse_line(view, line, false).unwrap_or_else(|error| panic!("{error}")) {
        ParsedCommand::Configure(configure) => match configure.edit() {
            ConfigEdit::Set(setting) => setting.clone(),
            other => panic!("{line}: {other:?}"),
        },
        other => panic!("{line}: {other:?}"),
    }
}

/// What the arguments of a line make.
fn value<T: ArgumentType>(setting: &Setting) -> T {
    T::read(setting.arguments()).unwrap().unwrap()
}

fn source(line: &str) -> ConnectInterface {
    let view = session_view(if line.contains(':') { "2001:db8::7" } else { "198.51.100.7" });
    let setting = set(&view, line);
    assert_eq!(setting.descriptor().command(), "connect-interface");
    value(&setting)
}

fn interface(name: &str) -> ConnectInterface {
    ConnectInterface::Interface(name.to_owned())
}

fn both(interface: &str, address: &str) -> ConnectInterface {
    ConnectInterface::Both { interface: interface.to_owned(), address: address.parse().unwrap() }
}

/// The message and the marked part of the line.
fn marked(view: &CommandView, line: &str) -> (String, String) {
    let error = parse_line(view, line, false).expect_err(line);
    let word = error.line_text.chars().skip(error.column - 1).take(error.length).collect();
    (error.message, word)
}

#[test]
fn every_form_of_connect_interface_is_understood() {
    let longest = "9".repeat(63);
    let address = |text: &str| ConnectInterface::Address(text.parse().unwrap());
    let table = [
        ("192.0.2.1", address("192.0.2.1")),
        ("2001:db8::1", address("2001:db8::1")),
        ("eth1", interface("eth1")),
        ("GigabitEthernet0/1/0", interface("GigabitEthernet0/1/0")),
        ("verbose", interface("verbose")),
        ("eth 1", interface("eth1")),
        ("GigabitEthernet 0/1/0", interface("GigabitEthernet0/1/0")),
        ("eth1 192.0.2.1", both("eth1", "192.0.2.1")),
        ("eth1 2001:db8::1", both("eth1", "2001:db8::1")),
        ("eth 1 192.0.2.1", both("eth1", "192.0.2.1")),
        ("GigabitEthernet 0/1/0 2001:db8::1", both("GigabitEthernet0/1/0", "2001:db8::1")),
        (&format!("eth {longest}"), interface(&format!("eth{longest}"))),
        ("Eth 1aB", interface("Eth1aB")),
        ("Eth-Trunk 1.100", interface("Eth-Trunk1.100")),
        ("eth1.100", interface("eth1.100")),
        ("100GE 1/0/1.7 192.0.2.1", both("100GE1/0/1.7", "192.0.2.1")),
    ];
    for (form, expected) in table {
        assert_eq!(source(&format!("connect-interface {form}")), expected, "{form}");
        assert_eq!(source(&format!("\t connect-interface   {form}\t\r\n")), expected, "{form}");
    }
}

#[test]
fn every_other_command_is_understood() {
    let relay = CommandView::Relay("frr".to_owned());
    let text = |text: &str| ArgumentValue::Text(text.to_owned());
    let address = |text: &str| ArgumentValue::Address(text.parse().unwrap());
    let table = [
        (CommandView::System, "sysname edge1", "sysname", vec![text("edge1")]),
        (
            CommandView::System,
            "interface-alias eth1 GigabitEthernet0/1/0",
            "interface-alias",
            vec![text("eth1"), text("GigabitEthernet0/1/0")],
        ),
        (CommandView::System, "bmp", "bmp", vec![]),
        (CommandView::System, "bmp-relay frr", "bmp-relay", vec![text("frr")]),
        (
            relay.clone(),
            "listen 127.0.0.1 port 5000",
            "listen",
            vec![address("127.0.0.1"), ArgumentValue::Number(5000)],
        ),
        (relay.clone(), "listen ::1 port 5000", "listen", vec![address("::1"), ArgumentValue::Number(5000)]),
        (relay, "listen 0.0.0.0 port 65535", "listen", vec![address("0.0.0.0"), ArgumentValue::Number(65535)]),
        (CommandView::Bmp, "connect-interface 192.0.2.1", "connect-interface", vec![address("192.0.2.1")]),
        (CommandView::Bmp, "bmp-session 198.51.100.7", "bmp-session", vec![address("198.51.100.7")]),
        (CommandView::Bmp, "bmp-session 2001:db8::7", "bmp-session", vec![address("2001:db8::7")]),
        (
            CommandView::Bmp,
            "bmp-session 198.51.100.7 alias lab",
            "bmp-session",
            vec![address("198.51.100.7"), text("lab")],
        ),
        (
            CommandView::Bmp,
            "bmp-session 198.51.100.7 alias alias",
            "bmp-session",
            vec![address("198.51.100.7"), text("alias")],
        ),
        (
            session_view("198.51.100.7"),
            "tcp connect port 11019",
            "tcp connect port",
            vec![ArgumentValue::Number(11019)],
        ),
    ];
    for (view, line, command, expected) in table {
        let setting = set(&view, line);
        let values = setting.arguments().0.iter().filter_map(|token| match token {
            Token::Argument(_, value) => Some(value.clone()),
            Token::Keyword(_) => None,
        });
        assert_eq!(
            (setting.descriptor().command(), values.collect::<Vec<_>>()),
            (command.to_owned(), expected),
            "{line}"
        );
        assert_eq!(setting.line(), line);
    }
}

#[test]
fn display_is_understood_in_every_view() {
    let session = |station: Option<&str>, verbose| {
        let station = station.map(|a| a.parse().unwrap());
        ParsedCommand::Display(DisplayCommand::BmpSession { vpn_instance: None, station, alias: None, verbose }, None)
    };
    let table = [
        ("display bmp session", session(None, false)),
        ("display bmp session verbose", session(None, true)),
        ("display bmp session 198.51.100.7", session(Some("198.51.100.7"), false)),
        ("display bmp session 2001:db8::7 verbose", session(Some("2001:db8::7"), true)),
        (
            "display current-configuration",
            ParsedCommand::Display(DisplayCommand::CurrentConfiguration { view: None }, None),
        ),
        ("quit", ParsedCommand::Quit),
        ("return", ParsedCommand::Return),
        ("", ParsedCommand::Nothing),
        ("  #", ParsedCommand::Nothing),
        ("# said by people: \u{7}", ParsedCommand::Nothing),
    ];
    let relay = CommandView::Relay("frr".to_owned());
    for view in [CommandView::User, CommandView::System, CommandView::Bmp, session_view("198.51.100.7"), relay] {
        for (line, expected) in &table {
            assert_eq!(parse_line(&view, line, false).as_ref(), Ok(expected), "{line}");
        }
    }
}

#[test]
fn a_wrong_word_is_refused_at_the_word() {
    let (v4, v6, relay) =
        (session_view("198.51.100.7"), session_view("2001:db8::7"), CommandView::Relay("frr".to_owned()));
    let long = "1".repeat(64);
    let table = [
        (&v4, "connect-interface 2001:db8::1", "2001:db8::1", "must be IPv4"),
        (&v4, "connect-interface eth1 2001:db8::1", "2001:db8::1", "must be IPv4"),
        (&v4, "connect-interface eth 1 2001:db8::1", "2001:db8::1", "must be IPv4"),
        (&v6, "connect-interface 192.0.2.1", "192.0.2.1", "must be IPv6"),
        (&v6, "connect-interface eth1 192.0.2.1", "192.0.2.1", "must be IPv6"),
        (&v6, "connect-interface ::ffff:192.0.2.1", "::ffff:192.0.2.1", "write 192.0.2.1"),
        (&v4, "connect-interface 224.0.0.1", "224.0.0.1", "multicast"),
        (&v6, "connect-interface eth1 ff02::1", "ff02::1", "multicast"),
        (&v4, "connect-interface 255.255.255.255", "255.255.255.255", "broadcast"),
        (&v4, "connect-interface eth 1 0.0.0.0", "0.0.0.0", "unspecified"),
        (&v6, "connect-interface ::", "::", "unspecified"),
        (&v4, "connect-interface eth 1 eth2", "eth2", "not an IP address"),
        (&v4, "connect-interface eth 1 192.0.2.1 more", "more", "ends before"),
        (&v4, "connect-interface eth1 192.0.2.1 192.0.2.2", "192.0.2.2", "ends before"),
        (&v4, "connect-interface 192.0.2.1 more", "more", "the address comes last: `connect-interface more 192.0.2.1`"),
        (&v4, "connect-interface 10.0 .0.1", "10.0", "not a dotted-decimal address: it has 2 parts"),
        (&v4, &format!("connect-interface eth {long}"), &long, "1 to 63 characters, this has 64"),
        (&v4, &format!("connect-interface eth {long} 192.0.2.1"), &long, "1 to 63"),
        (&v4, &format!("connect-interface {long}{long}"), &format!("{long}{long}"), "1 to 127"),
        (&v4, "tcp connect port 0", "0", "1 to 65535"),
        (&v4, "tcp connect port 65536", "65536", "1 to 65535"),
        (&v4, "tcp connect port +179", "+179", "1 to 65535"),
        (&v4, "tcp connect port 179 180", "180", "expected `password`"),
        (&v4, "tcp accept port 179", "accept", "`listen`"),
        (&v4, "tcp connect", "", "`port`"),
        (&v4, "tcp connect port", "", "a port from 1 to 65535"),
        (&v4, "connect-interface", "", "the source address"),
        (&v4, "undo", "", "not complete"),
        (&CommandView::Bmp, "connect-interface eth1", "eth1", "bmp-session view"),
        (&CommandView::Bmp, "connect-interface 2001:db8::1", "2001:db8::1", "bmp-session view"),
        (&CommandView::Bmp, "connect-interface 192.0.2.1 eth1", "eth1", "ends before"),
        (&CommandView::Bmp, "connect-interface 239.1.1.1", "239.1.1.1", "multicast"),
        (&CommandView::Bmp, "bmp-session station", "station", "the station's address"),
        (&CommandView::Bmp, "bmp-session 0.0.0.0", "0.0.0.0", "unspecified"),
        (&CommandView::Bmp, "bmp-session ff02::1", "ff02::1", "multicast"),
        (&CommandView::Bmp, "bmp-session 198.51.100.7 lab", "lab", "`alias`"),
        (&CommandView::Bmp, "bmp-session 198.51.100.7 alias", "", "the session's alias"),
        (&CommandView::Bmp, "tcp connect port 1", "tcp", "bmp-session view"),
        (&CommandView::Bmp, "undo tcp connect port", "tcp", "bmp-session view"),
        (&CommandView::Bmp, "bmp-sesion 198.51.100.7", "bmp-sesion", "`bmp-session`?"),
        (&CommandView::Bmp, "bmp-sess 198.51.100.7", "bmp-sess", "in full, `bmp-session`?"),
        (&CommandView::System, "nonsense at all", "nonsense", "unknown command"),
        (&CommandView::System, "undo nonsense", "nonsense", "unknown command"),
        (&CommandView::System, "undo display", "display", "unknown command"),
        (&CommandView::System, "bmp more", "more", "ends before"),
        (&CommandView::System, "interface-alias eth1", "", "the name it gets"),
        (&CommandView::System, "interface-alias sixteen-bytes-xx name", "sixteen-bytes-xx", "1 to 15 bytes"),
        (&CommandView::System, "interface-alias eth/1 name", "eth/1", "in the kernel"),
        (&CommandView::System, "interface-alias eth1 192.0.2.1", "192.0.2.1", "not an interface name"),
        (&CommandView::System, "sysname \u{1b}[2J", "\u{1b}", "U+001B"),
        (&CommandView::System, "sysname a\u{a0}b", "\u{a0}", "U+00A0"),
        (&CommandView::User, "sysname edge1", "sysname", "system view"),
        (&CommandView::User, "display bmp session now", "now", "`verbose`"),
        (&CommandView::User, "display", "", "`current-configuration`"),
        (&relay, "listen 127.0.0.1", "", "`port`"),
        (&relay, "listen localhost port 5000", "localhost", "not an IP address"),
        (&relay, "listen 224.0.0.1 port 5000", "224.0.0.1", "multicast"),
    ];
    for (view, line, word, message) in table {
        let (said, at) = marked(view, line);
        assert_eq!(at, word, "{line}: {said}");
        assert!(said.contains(message), "{line}: {said}");
    }
}

#[test]
fn a_mistyped_address_is_never_an_interface() {
    let (v4, v6) = (session_view("198.51.100.7"), session_view("2001:db8::7"));
    let (relay, system, bmp) = (CommandView::Relay("frr".to_owned()), CommandView::System, CommandView::Bmp);
    let dotted = "is not a dotted-decimal address";
    let colons = "is not an IPv6 address";
    let table = [
        (&v4, "connect-interface 10.8.0.256", "10.8.0.256", "256 is more than 255"),
        (&v4, "connect-interface 10.8.0", "10.8.0", dotted),
        (&v4, "connect-interface 010.8.0.1", "010.8.0.1", dotted),
        (&v4, "connect-interface 10.8.0.1/24", "10.8.0.1/24", dotted),
        (&v4, "connect-interface e1 10.8.0", "10.8.0", dotted),
        (&v4, "connect-interface e1 10.8", "10.8", dotted),
        (&v4, "connect-interface e 1 10.8.0", "10.8.0", dotted),
        (&v6, "connect-interface fe80::1%e1", "fe80::1%e1", colons),
        (&v6, "connect-interface e1 2001:db8:::1", "2001:db8:::1", colons),
        (&v4, "connect-interface e1 e0", "e0", "`e1 e0` was understood as an interface's type and number"),
        (&v4, "connect-interface up2 lo", "lo", "begins with a digit"),
        (&v4, "undo connect-interface 10.8.0", "10.8.0", dotted),
        (&v4, "egress-interface eth1 10.8.0", "10.8.0", dotted),
        (&v4, "next-hop 10.8.0", "10.8.0", dotted),
        (&v4, "next-hop 10.8.0.256", "10.8.0.256", dotted),
        (&v4, "monitor peer 10.8.0", "10.8.0", dotted),
        (&bmp, "connect-interface 10.8.0", "10.8.0", dotted),
        (&bmp, "bmp-session 198.51.100", "198.51.100", dotted),
        (&bmp, "bmp-session fe80::7%eth1", "fe80::7%eth1", colons),
        (&bmp, "bmp-session vpn-instance 198.51.100.7 198.51.100.8", "198.51.100.7", "is an address"),
        (&bmp, "bmp-session vpn-instance 198.51.100 198.51.100.8", "198.51.100", dotted),
        (&bmp, "display bmp session 198.51.100", "198.51.100", dotted),
        (&bmp, "reset bmp session 198.51.100", "198.51.100", dotted),
        (&relay, "listen 127.0.0 port 5000", "127.0.0", dotted),
        (&relay, "allow 10.8.0/24", "10.8.0/24", dotted),
        (&relay, "allow 10.8.0.256", "10.8.0.256", dotted),
        (&system, "interface-alias 10.8.0 name", "10.8.0", dotted),
        (&system, "interface-alias eth1 10.8.0", "10.8.0", dotted),
        (&CommandView::Bgp, "router-id 10.8.0", "10.8.0", dotted),
        (&CommandView::Bgp, "peer 10.8.0 as-number 1", "10.8.0", dotted),
        (&CommandView::Bgp, "peer 192.0.2.9 connect-interface 10.8.0", "10.8.0", dotted),
        (&CommandView::Bgp, "peer 192.0.2.9 connect-interface e1 e0", "e0", "begins with a digit"),
        (&CommandView::User, "display bgp peer 10.8.0", "10.8.0", dotted),
    ];
    for (view, line, word, message) in table {
        let (said, at) = marked(view, line);
        assert_eq!(at, word, "{line}: {said}");
        assert!(said.contains(message), "{line}: {said}");
    }
}

#[test]
fn an_address_that_no_packet_to_the_far_end_can_bear_is_refused() {
    let (v4, v6, relay) =
        (session_view("198.51.100.7"), session_view("2001:db8::7"), CommandView::Relay("frr".to_owned()));
    let table = [
        (&v4, "connect-interface 0.1.2.3", "0.1.2.3", "0.0.0.0/8"),
        (&v4, "connect-interface 127.0.0.1", "127.0.0.1", "a loopback address"),
        (&v4, "connect-interface lo 127.0.0.1", "127.0.0.1", "a loopback address"),
        (&v6, "connect-interface ::1", "::1", "a loopback address"),
        (&v4, "connect-interface eth 1 240.0.0.1", "240.0.0.1", "240.0.0.0/4"),
        (&v4, "next-hop 127.0.0.1", "127.0.0.1", "a loopback address"),
        (&v4, "next-hop 240.0.0.1", "240.0.0.1", "240.0.0.0/4"),
        (&CommandView::Bmp, "connect-interface 240.0.0.1", "240.0.0.1", "240.0.0.0/4"),
        (&CommandView::Bmp, "connect-interface 0.0.0.1", "0.0.0.1", "0.0.0.0/8"),
        (&CommandView::Bmp, "bmp-session 240.0.0.1", "240.0.0.1", "240.0.0.0/4"),
        (&CommandView::Bmp, "bmp-session 0.0.0.7", "0.0.0.7", "0.0.0.0/8"),
        (&relay, "listen 240.0.0.1 port 5000", "240.0.0.1", "240.0.0.0/4"),
        (&relay, "allow 224.0.0.0/4", "224.0.0.0/4", "a multicast address"),
        (&relay, "allow 0.0.0.0", "0.0.0.0", "the unspecified address"),
        (&CommandView::Bgp, "peer 240.0.0.1 as-number 1", "240.0.0.1", "240.0.0.0/4"),
        (&CommandView::Bgp, "peer 192.0.2.9 connect-interface 127.0.0.1", "127.0.0.1", "a loopback address"),
    ];
    for (view, line, word, message) in table {
        let (said, at) = marked(view, line);
        assert_eq!(at, word, "{line}: {said}");
        assert!(said.contains(message), "{line}: {said}");
    }
    let everybody = Prefix::new([0, 0, 0, 0].into(), 0).unwrap();
    assert_eq!(value::<Prefix>(&set(&relay, "allow 0.0.0.0/0")), everybody);
    let local = session_view("127.0.0.9");
    let source = ConnectInterface::Address([127, 0, 0, 1].into());
    assert_eq!(value::<ConnectInterface>(&set(&local, "connect-interface 127.0.0.1")), source);
}

#[test]
fn the_caret_stands_under_the_word() {
    assert_eq!(
        refusal(&session_view("198.51.100.7"), "connect-interface eth1 2001:db8::1"),
        "connect-interface eth1 2001:db8::1\n                       ^^^^^^^^^^^\n\
         Error: the station 198.51.100.7 is IPv4, so the source address must be IPv4."
    );
    assert_eq!(
        refusal(&session_view("198.51.100.7"), "  tcp connect port"),
        "  tcp connect port\n                  ^\n\
         Error: the command is not complete: expected a port from 1 to 65535."
    );
}

#[test]
fn the_caret_stands_right_behind_tabs_and_wide_characters() {
    let error = parse_line(&CommandView::System, "\tsysname\t路由器 x", false).unwrap_err();
    assert_eq!((error.column, error.length), (14, 1));
    assert_eq!(error.marked_line(), "\tsysname\t路由器 x\n\t       \t       ^");
    let error = parse_line(&CommandView::System, "bmp 路由", false).unwrap_err();
    assert_eq!(error.marked_line(), "bmp 路由\n    ^^^^");
    // A mark that would combine with what is before it takes no room, but is pointed at.
    let error = parse_line(&CommandView::System, "\u{301}", false).unwrap_err();
    assert_eq!(error.marked_line(), "\u{301}\n^");
}

#[test]
fn an_error_in_an_endless_line_shows_its_surroundings_alone() {
    let line = format!("sysname {} {}", "a".repeat(200), "b".repeat(500));
    let error = parse_line(&CommandView::System, &line, false).unwrap_err();
    let marked = error.marked_line();
    let (text, carets) = marked.split_once('\n').unwrap();
    assert_eq!(text.chars().count(), 162);
    assert_eq!(text.chars().position(|c| c == 'b'), carets.chars().position(|c| c == '^'));
    assert!(error.message.len() < 100, "{error}");
}

#[test]
fn a_keyword_may_be_cut_by_an_operator_while_it_is_plain_which_is_meant() {
    let session = session_view("198.51.100.7");
    let table = [
        (&session, "conn eth1", "connect-interface eth1"),
        (&session, "t c p 11019", "tcp connect port 11019"),
        (&session, "un conn", "undo connect-interface"),
        (&session, "bmp", "bmp"),
        (&session, "bmp-s 198.51.100.8 a lab", "bmp-session 198.51.100.8 alias lab"),
        (&CommandView::Bmp, "bmp", "bmp"),
        (&CommandView::Bmp, "b 198.51.100.7", "bmp-session 198.51.100.7"),
        (&CommandView::System, "bmp-r frr", "bmp-relay frr"),
        (&CommandView::System, "sys edge1", "sysname edge1"),
        (&CommandView::User, "dis bmp sess 198.51.100.7 v", "display bmp session 198.51.100.7 verbose"),
        (&CommandView::User, "d cu", "display current-configuration"),
        (&CommandView::User, "q", "quit"),
    ];
    for (view, cut, whole) in table {
        let of = |line, abbreviate| match parse_line(view, line, abbreviate).unwrap_or_else(|error| panic!("{error}")) {
            ParsedCommand::Configure(configure) => Err(configure.edit().clone()),
            command => Ok(command),
        };
        assert_eq!(of(cut, true), of(whole, false), "{cut}");
        if cut != whole {
            assert!(parse_line(view, cut, false).is_err(), "{cut}");
        }
    }
}

#[test]
fn a_cut_keyword_that_may_be_two_is_refused_with_both() {
    let error = parse_line(&CommandView::System, "bm", true).unwrap_err();
    assert!(error.message.contains("`bmp`") && error.message.contains("`bmp-relay`"), "{error}");
    assert_eq!((error.column, error.length), (1, 2));
}

#[test]
fn a_command_of_a_view_further_out_is_taken_there() {
    let (config, view) = typed(&[
        "bmp",
        "bmp-session 198.51.100.7",
        "tcp connect port 1",
        "bmp-session 198.51.100.8",
        "interface-alias eth1 uplink",
    ]);
    assert_eq!(view, CommandView::System);
    assert_eq!(config.bmp.sessions.len(), 2);
    assert_eq!(config.interface_aliases.get("uplink").map(String::as_str), Some("eth1"));
}

#[test]
fn the_same_command_in_the_session_view_is_the_sessions() {
    let (config, _) =
        typed(&["bmp", "connect-interface 192.0.2.1", "bmp-session 198.51.100.7", "connect-interface 192.0.2.2"]);
    assert_eq!(config.bmp.connect_interface, Some("192.0.2.1".parse().unwrap()));
    let session = &config.bmp.sessions[&session_id("198.51.100.7")];
    assert_eq!(session.connect_interface, Some(ConnectInterface::Address("192.0.2.2".parse().unwrap())));
}

#[test]
fn quit_leaves_a_view_and_return_all_of_them() {
    let (mut config, mut view) = typed(&["bmp", "bmp-session 198.51.100.7"]);
    for expected in [CommandView::Bmp, CommandView::System, CommandView::User, CommandView::User] {
        run(&mut config, &mut view, "quit").unwrap();
        assert_eq!(view, expected);
    }
    assert_eq!(typed(&["bmp", "bmp-session 198.51.100.7", "return"]).1, CommandView::User);
}

#[test]
fn repeating_a_command_replaces_what_was_there() {
    let (config, _) = typed(&["sysname a", "sysname b", "interface-alias eth1 up", "interface-alias eth2 up"]);
    assert_eq!(config.sysname.as_deref(), Some("b"));
    assert_eq!(config.interface_aliases["up"], "eth2");
    let (config, _) = typed(&["bmp", "bmp-session 198.51.100.7", "connect-interface eth1", "connect-interface eth 2"]);
    assert_eq!(config.bmp.sessions[&session_id("198.51.100.7")].connect_interface, Some(interface("eth2")));
}

#[test]
fn a_session_entered_again_keeps_what_it_has_and_without_alias_is_another() {
    let (config, view) = typed(&[
        "bmp",
        "bmp-session 198.51.100.7",
        "tcp connect port 1",
        "bmp-session 198.51.100.7 alias lab",
        "tcp connect port 2",
        "bmp-session 198.51.100.7",
    ]);
    assert_eq!(view, session_view("198.51.100.7"));
    let ports: Vec<_> = config.bmp.sessions.values().map(|session| session.port()).collect();
    assert_eq!(ports, [Some(1), Some(2)]);
}

const ALL: [&str; 10] = [
    "sysname edge1",
    "interface-alias eth1 uplink",
    "interface-alias eth2 other",
    "bmp-relay frr",
    "listen 127.0.0.1 port 5000",
    "bmp",
    "connect-interface 192.0.2.1",
    "bmp-session 198.51.100.7",
    "tcp connect port 11019",
    "connect-interface eth1 192.0.2.9",
];

#[test]
fn undo_takes_back_with_and_without_its_arguments() {
    let relay = CommandView::Relay("frr".to_owned());
    let session = session_view("198.51.100.7");
    let table = [
        (CommandView::System, "undo sysname", "sysname edge1"),
        (CommandView::System, "undo sysname edge1", "sysname edge1"),
        (CommandView::System, "undo interface-alias eth1", "interface-alias eth1 uplink"),
        (CommandView::System, "undo interface-alias eth1 uplink", "interface-alias eth1 uplink"),
        (relay.clone(), "undo listen", "listen 127.0.0.1 port 5000"),
        (relay, "undo listen 127.0.0.1 port 5000", "listen 127.0.0.1 port 5000"),
        (CommandView::Bmp, "undo connect-interface", "connect-interface 192.0.2.1"),
        (CommandView::Bmp, "undo connect-interface 192.0.2.1", "connect-interface 192.0.2.1"),
        (session.clone(), "undo tcp connect port", "tcp connect port 11019"),
        (session.clone(), "undo tcp connect port 11019", "tcp connect port 11019"),
        (session.clone(), "undo connect-interface", "connect-interface eth1 192.0.2.9"),
        (session.clone(), "undo connect-interface eth1 192.0.2.9", "connect-interface eth1 192.0.2.9"),
        (session, "undo connect-interface eth 1 192.0.2.9", "connect-interface eth1 192.0.2.9"),
    ];
    for (view, line, gone) in table {
        let (mut config, _) = typed(&ALL);
        let before = print(&config);
        let mut at = view.clone();
        run(&mut config, &mut at, line).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(at, view);
        let after = print(&config);
        let missing: Vec<_> = before.lines().filter(|line| !after.lines().any(|other| other == *line)).collect();
        assert_eq!(missing.iter().map(|line| line.trim()).collect::<Vec<_>>(), [gone], "{line}");
        // There is nothing left to take back.
        run(&mut config, &mut at, line).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(print(&config), after);
    }
}

#[test]
fn undo_of_a_view_takes_all_that_is_in_it() {
    let session = session_view("198.51.100.7");
    let (mut config, mut view) = typed(&ALL);
    assert_eq!(view, session);
    run(&mut config, &mut view, "undo bmp-session 198.51.100.8").unwrap();
    assert_eq!((config.bmp.sessions.len(), &view), (1, &CommandView::Bmp));
    run(&mut config, &mut view, "undo bmp-session 198.51.100.7").unwrap();
    assert_eq!((config.bmp.sessions.len(), &view), (0, &CommandView::Bmp));
    run(&mut config, &mut view, "undo bmp").unwrap();
    assert_eq!((&config.bmp, &view), (&BmpConfig::default(), &CommandView::System));
    run(&mut config, &mut view, "undo bmp-relay frr").unwrap();
    run(&mut config, &mut view, "undo bmp-relay frr").unwrap();
    assert!(config.relays.is_empty());
}

#[test]
fn undo_of_something_else_is_refused_and_changes_nothing() {
    let relay = CommandView::Relay("frr".to_owned());
    let session = session_view("198.51.100.7");
    let table = [
        (CommandView::System, "undo sysname edge2", "edge2"),
        (CommandView::System, "undo interface-alias eth2 uplink", "eth2"),
        (relay.clone(), "undo listen 127.0.0.1 port 5001", "5001"),
        (relay, "undo listen 127.0.0.2 port 5000", "127.0.0.2"),
        (CommandView::Bmp, "undo connect-interface 192.0.2.2", "192.0.2.2"),
        (session.clone(), "undo tcp connect port 1", "1"),
        (session.clone(), "undo connect-interface eth1", "eth1"),
        (session.clone(), "undo connect-interface 192.0.2.9", "192.0.2.9"),
        (session.clone(), "undo connect-interface eth1 192.0.2.8", "192.0.2.8"),
        (session.clone(), "undo connect-interface eth 1 192.0.2.8", "192.0.2.8"),
        (session, "undo connect-interface eth 2 192.0.2.9", "eth"),
    ];
    for (view, line, word) in table {
        let (mut config, _) = typed(&ALL);
        let before = config.clone();
        let mut at = view.clone();
        let error = run(&mut config, &mut at, line).expect_err(line);
        let marked: String = line.chars().skip(error.column - 1).take(error.length).collect();
        assert_eq!(marked, word, "{error}");
        assert!(error.message.contains("not what is configured"), "{error}");
        assert_eq!((config, at), (before, view), "{line}");
    }
}

#[test]
fn an_address_that_is_taken_back_where_the_interface_alone_is_configured_is_the_wrong_word() {
    let (mut config, mut view) = typed(&["bmp", "bmp-session 198.51.100.7", "connect-interface up2"]);
    let error = run(&mut config, &mut view, "undo connect-interface up2 192.0.2.65").unwrap_err();
    assert_eq!((error.column, error.length), (28, 10), "{error}");
    run(&mut config, &mut view, "egress-interface up1 up2").unwrap();
    let error = run(&mut config, &mut view, "undo egress-interface up1 up3").unwrap_err();
    assert_eq!((error.column, error.length), (27, 3), "{error}");
}

#[test]
fn two_sessions_to_one_station_and_port_are_refused_at_the_port() {
    let (mut config, mut view) = typed(&[
        "bmp",
        "bmp-session 198.51.100.7",
        "tcp connect port 11019",
        "tcp connect port 11019",
        "bmp-session 198.51.100.8",
        "tcp connect port 11019",
        "bmp-session 198.51.100.7 alias lab",
        "tcp connect port 11020",
    ]);
    let before = config.clone();
    let error = run(&mut config, &mut view, "tcp connect port 11019").unwrap_err();
    assert_eq!((error.column, error.length), (18, 5));
    assert!(error.message.contains("198.51.100.7 connects to port 11019"), "{error}");
    assert_eq!(config, before);
    run(&mut config, &mut view, "bmp-session 198.51.100.7").unwrap();
    let error = run(&mut config, &mut view, "tcp connect port 11020").unwrap_err();
    assert!(error.message.contains("198.51.100.7-lab connects"), "{error}");
}

#[test]
fn two_inputs_on_one_address_and_port_are_refused() {
    let (mut config, mut view) = typed(&["bmp-relay a", "listen ::1 port 5000", "bmp-relay b", "listen ::1 port 5001"]);
    let error = run(&mut config, &mut view, "listen ::1 port 5000").unwrap_err();
    assert!(error.message.contains("the input a listens"), "{error}");
}

#[test]
fn a_view_whose_session_is_gone_configures_nothing() {
    let mut config = Config::default();
    let mut view = session_view("198.51.100.7");
    let error = run(&mut config, &mut view, "tcp connect port 1").unwrap_err();
    assert!(error.message.contains("enter the view again"), "{error}");
    assert_eq!(config, Config::default());
}

#[test]
fn an_interface_name_may_be_longer_than_its_type_alone() {
    let session =
        CommandView::Session(SessionId { vpn_instance: None, station: [198, 51, 100, 7].into(), alias: None });
    // Spelt in two words it is one of up to 126 characters, and that is how it is printed.
    for length in [63, 64, 126, 127] {
        let name = "e".repeat(length);
        let command = parse_line(&session, &format!("connect-interface {name}"), false).unwrap();
        let ParsedCommand::Configure(configure) = command else { panic!("it configures") };
        let ConfigEdit::Set(setting) = configure.edit() else { panic!("it sets") };
        assert_eq!(value::<ConnectInterface>(setting), ConnectInterface::Interface(name));
    }
    assert!(parse_line(&session, &format!("connect-interface {}", "e".repeat(128)), false).is_err());
}
