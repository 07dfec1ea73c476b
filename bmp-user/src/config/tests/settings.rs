//! Properties of every setting, which walk its descriptor.

use super::{
    super::*,
    grammar::{DEEP, forms, text},
    run, typed,
};
use crate::config::{
    language::syntax::Syntax,
    settings::{SETTINGS, SettingDescriptor},
    view::ViewKind,
};

/// Returns the lines that enter the view of a setting.
fn lines_around(kind: ViewKind) -> &'static [&'static str] {
    match kind {
        ViewKind::User | ViewKind::System => &[],
        ViewKind::Bmp => &["bmp"],
        ViewKind::Session => &["bmp", "bmp-session 198.51.100.7"],
        ViewKind::Monitor => &["bmp", "bmp-session 198.51.100.7", "monitor public"],
        ViewKind::Relay => &["bmp-relay frr"],
        ViewKind::Replay => &["mrt-replay file"],
        ViewKind::Keychain => &["keychain core"],
        ViewKind::Key => &["keychain core", "key-id 1"],
        ViewKind::TlsProfile => &["tls profile stations"],
        ViewKind::RouteFilter => &["route-filter customers"],
        ViewKind::Bgp => &["bgp 65000", "peer 192.0.2.2 as-number 64999"],
        ViewKind::BgpFamily => &["bgp 65000", "peer 192.0.2.2 as-number 65000", "ipv4-family unicast"],
    }
}

/// A line of a setting in its view.
struct SettingCase {
    setting: &'static SettingDescriptor,
    /// The configuration before the line.
    before: Config,
    home: CommandView,
    line: String,
    /// `undo` with all arguments, and with the arguments of the setting's name alone.
    undos: [String; 2],
}

/// Returns every line of every setting.
fn cases() -> Vec<SettingCase> {
    let mut cases = Vec::new();
    for setting in SETTINGS {
        let (before, home) = typed(lines_around(setting.view));
        for head in forms(setting.head, DEEP) {
            for value in forms(setting.value, DEEP) {
                let line = text(&[&head[..], &value].concat());
                // Some forms of `egress-interface` repeat a name, which is refused.
                if parse_line(&home, &line, false).is_ok() || !line.starts_with("egress-interface") {
                    let undos = [format!("undo {line}"), format!("undo {}", text(&head))];
                    cases.push(SettingCase { setting, before: before.clone(), home: home.clone(), line, undos });
                }
            }
        }
    }
    cases
}

#[test]
fn every_line_is_set_printed_read_again_and_undone() {
    let cases = cases();
    assert!(cases.len() > 80, "{}", cases.len());
    for SettingCase { setting, before, home, line, undos } in cases {
        let (mut config, mut view) = (before.clone(), home.clone());
        run(&mut config, &mut view, &line).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(view.kind(), setting.enters.unwrap_or(setting.view), "{line}");
        assert_eq!(parse_file("f", &print(&config)).as_ref(), Ok(&config), "{line}");
        for undo in undos {
            let (mut config, mut view) = (config.clone(), home.clone());
            run(&mut config, &mut view, &undo).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(view, home, "{undo}");
            // Undoing the AS number removes the peer.
            let is_before = config == before || setting.command() == "peer A as-number";
            assert!(is_before && setting.lines(&config, &home).is_empty(), "{undo}: {config}");
        }
    }
}

#[test]
fn every_line_is_one_difference_and_goes_together_with_itself() {
    for SettingCase { before, home, line, .. } in cases() {
        let (mut config, mut view) = (before.clone(), home);
        run(&mut config, &mut view, &line).unwrap();
        assert_eq!(rebase(&before, &config, &before).as_ref(), Ok(&config), "{line}");
        let difference = Difference::between(&before, &config).to_string();
        assert_eq!(difference.is_empty(), before == config, "{line}: {difference}");
    }
}

#[test]
fn every_setting_says_its_default_and_what_a_change_does() {
    for setting in SETTINGS {
        let names_a_thing =
            setting.enters.is_some() || setting.head.iter().any(|piece| !matches!(piece, Syntax::Word(..)));
        let command = setting.command();
        assert!(setting.default.text().is_some() || names_a_thing, "{command} says no default");
        assert!(setting.effect != Effect::Enters || setting.enters.is_some(), "{command} says no effect");
        assert!(setting.note.is_empty() || setting.note.ends_with('.'), "{command}: {}", setting.note);
        // A default is not printed.
        let (config, home) = typed(lines_around(setting.view));
        assert!(setting.lines(&config, &home).is_empty() || command == "peer A as-number", "{command}");
    }
}

#[test]
fn help_of_max_connections_says_the_default() {
    let help = |line: &str| {
        let next = next_words(&CommandView::Relay("frr".to_owned()), line).unwrap();
        next.words.into_iter().map(|word| word.help.into_owned()).collect::<String>()
    };
    let MaxConnections { total, per_source } = RelayConfig::MAX_CONNECTIONS;
    assert!(help("max-connections ").contains(&format!("({total} if nothing is said)")));
    let per_source = per_source.unwrap();
    assert!(help("max-connections 9 per-source ").contains(&format!("({per_source}, or the number in all")));
}

#[test]
fn rows_of_one_label_are_one_row_with_both_commands() {
    let parameters = default_parameters();
    let row = |label: &str| parameters.iter().find(|row| row.label == label).unwrap().value.clone();
    assert_eq!(row("DSCP, TCP MSS"), "as the kernel chooses (dscp, tcp mss)");
    assert_eq!(row("Told to a station"), "everything (monitor, route-mode)");
    assert_eq!(row("Hold-down"), "0 ms (hold-down)");
    assert_eq!(row("A relay takes"), "connections of this host alone (allow)");
    assert_eq!(row("BGP peer's timers"), "keepalive 60 s, hold 180 s (peer A timer)");
    assert!(parameters.is_sorted_by(|one, other| one.rank < other.rank));
}
