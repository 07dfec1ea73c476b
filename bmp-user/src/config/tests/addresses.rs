//! A mistyped address is refused, and never becomes the name of an interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{super::*, refusal, session_view, typed};
use crate::config::settings::ArgumentType;

/// The text of an address with one character removed, replaced or inserted.
fn mistyped(text: &str, at: usize, how: u8, c: char) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let at = at % characters.len();
    match how % 3 {
        0 => drop(characters.remove(at)),
        1 => characters[at] = c,
        _ => characters.insert(at, c),
    }
    characters.into_iter().collect()
}

/// Returns the interfaces that the commands of a session view set if `word` stands for an address.
fn interfaces(station: IpAddr, word: &str) -> Vec<String> {
    let view = session_view(&station.to_string());
    let lines = [
        format!("connect-interface {word}"),
        format!("connect-interface e1 {word}"),
        format!("connect-interface eth 1 {word}"),
        format!("egress-interface {word}"),
        format!("undo connect-interface {word}"),
    ];
    let of_line = |line: String| {
        let Ok(ParsedCommand::Configure(configure)) = parse_line(&view, &line, true) else { return Vec::new() };
        let (ConfigEdit::Set(setting) | ConfigEdit::Undo(setting)) = configure.edit() else { return Vec::new() };
        match &*setting.descriptor().command() {
            "connect-interface" => {
                let connect = ConnectInterface::read(setting.arguments()).unwrap().unwrap();
                let interface = connect.interface().map(str::to_owned);
                interface.into_iter().filter(|name| !["e1", "eth1"].contains(&&**name)).collect()
            }
            _ => ArgumentType::read(setting.arguments()).unwrap().unwrap(),
        }
    };
    lines.into_iter().flat_map(of_line).collect()
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::V4),
        any::<Ipv6Addr>().prop_map(IpAddr::V6),
        // With zeroes between, as addresses are.
        (any::<u16>(), any::<u16>(), any::<u8>())
            .prop_map(|(a, b, c)| Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, c.into()).into()),
    ]
}

proptest! {
    #[test]
    fn an_address_with_one_wrong_character_is_no_interface(
        address in any_address(),
        at in any::<usize>(),
        how in any::<u8>(),
        c in prop_oneof![proptest::char::range('!', '~'), Just('\u{ff10}'), Just('é')],
    ) {
        let word = mistyped(&address.to_string(), at, how, c);
        for station in ["198.51.100.7", "2001:db8::7"] {
            let named = interfaces(station.parse().unwrap(), &word);
            prop_assert!(named.is_empty(), "{word}: {named:?}");
        }
    }
}

#[test]
fn every_character_of_an_address_may_be_mistyped() {
    for text in ["10.8.0.1", "fd00:8::1"] {
        for at in 0..text.len() {
            for c in "!,-./:;[]_%@|0159acflxzIO".chars() {
                for how in 0..3 {
                    let word = mistyped(text, at, how, c);
                    let named = interfaces("198.51.100.7".parse().unwrap(), &word);
                    assert!(named.is_empty(), "{word}: {named:?}");
                }
            }
        }
    }
}

#[test]
fn words_in_the_wrong_order_are_given_back_in_the_right_one() {
    let view = session_view("198.51.100.7");
    for (line, right) in [
        ("connect-interface 10.8.0.1 e1", "Error: the address comes last: `connect-interface e1 10.8.0.1`"),
        ("connect-interface 10.8.0.1 eth 1", "`connect-interface eth 1 10.8.0.1`"),
        ("undo connect-interface 10.8.0.1 e1", "`undo connect-interface e1 10.8.0.1`"),
    ] {
        let refused = refusal(&view, line);
        assert!(refused.contains(right), "{line}: {refused}");
    }
    let secret = refusal(&view, "tcp connect password md5 hunter2 port 1");
    assert!(!secret.contains("hunter2"), "{secret}");
}

#[test]
fn what_separates_words_elsewhere_is_in_no_interface_name() {
    let view = session_view("198.51.100.7");
    for (word, character) in [("e1,e2", ','), ("[e1]", '['), ("e1;", ';')] {
        for line in [format!("connect-interface {word}"), format!("egress-interface {word}")] {
            let refused = refusal(&view, &line);
            assert!(refused.contains(&format!("no `{character}` in it")), "{refused}");
        }
    }
    // The kernel may have it, and then it has another name besides.
    let (config, _) = typed(&["interface-alias e1,e2 uplink", "interface-alias 10-8-0-1 other"]);
    assert_eq!(config.interface_aliases["uplink"], "e1,e2");
}
