//! Every form of every command in every view that knows the command, in full and abbreviated.

use super::{super::*, session_view};
use crate::config::{
    language::{argument::ArgumentKind, number::NumberRange, syntax::Syntax},
    parse::rule::{Rule, rules, rules_of},
    view::ViewKind,
};

/// How many optional parts of a syntax may be nested in a form. Repetitions nest.
pub(super) const DEEP: usize = 3;

/// How many forms of a command are made of all combinations of its parts.
const MANY: usize = 48;

/// Keywords that an operator may not cut further, each with its shortest form.
const SHORTEST: [(&str, &str); 5] = [
    ("connect-retry", "connect-r"),
    ("initiation-message", "initiat"),
    ("debugging", "deb"),
    ("route-filter", "route-f"),
    ("statistics", "statistics"),
];

/// Decides whether `length` letters of a command are too few to mean it.
fn is_too_short(command: &str, length: usize) -> bool {
    SHORTEST.iter().any(|(name, shortest)| *name == command && length < shortest.len())
}

/// One word of a form.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormWord {
    pub(super) text: &'static str,
    /// False for the value of an argument.
    pub(super) is_keyword: bool,
}

impl FormWord {
    const UNDO: Self = Self::keyword("undo");

    const fn keyword(text: &'static str) -> Self {
        Self { text, is_keyword: true }
    }

    const fn value(text: &'static str) -> Self {
        Self { text, is_keyword: false }
    }
}

/// What a key that is gone has sealed.
const SEALED: &str = "AcU6ND_O-pYNd-7zo5pugseG8Bq8fHu9ViFGt4cEgyCuqP314EFORkbF4WMqBp6J9acj1uHhc1A92NIeuw";

/// Returns a valid value of an argument.
fn sample(kind: ArgumentKind) -> &'static str {
    match kind {
        ArgumentKind::Sysname
        | ArgumentKind::InputName
        | ArgumentKind::KeychainName
        | ArgumentKind::TlsProfileName
        | ArgumentKind::RouteFilterName
        | ArgumentKind::PrefixListName
        | ArgumentKind::VerifyName
        | ArgumentKind::Alias
        | ArgumentKind::Label
        | ArgumentKind::Text => "name",
        ArgumentKind::KernelName | ArgumentKind::VpnInstance | ArgumentKind::EgressName => "eth1",
        ArgumentKind::InterfaceName => "GigabitEthernet0/1/0",
        ArgumentKind::InterfaceType => "GigabitEthernet",
        ArgumentKind::InterfaceNumber => "0/1/0",
        ArgumentKind::Source | ArgumentKind::Ipv4Source | ArgumentKind::Station | ArgumentKind::NextHop => "192.0.2.1",
        ArgumentKind::Listen => "127.0.0.1",
        ArgumentKind::AsNumber => "65000",
        ArgumentKind::RouterId | ArgumentKind::Peer | ArgumentKind::Ipv4Peer => "192.0.2.2",
        ArgumentKind::Ipv6Peer => "2001:db8::2",
        ArgumentKind::Password => "secret",
        ArgumentKind::Sealed => SEALED,
        ArgumentKind::Prefix => "192.0.2.0/24",
        ArgumentKind::Community => "65000:*",
        ArgumentKind::RouteDistinguisher => "65000:1",
        ArgumentKind::Path => "/var/lib/routes.mrt",
        ArgumentKind::Fingerprint => "f00df00df00df00df00df00df00df00df00df00df00df00df00df00df00df00d",
        ArgumentKind::User => "alice",
        ArgumentKind::TimeOfDay => "10:00",
        ArgumentKind::StartDate => "2026-11-30",
        ArgumentKind::EndDate => "2026-12-01",
        ArgumentKind::TableName => "65000:1",
        ArgumentKind::Number(range) => number(range),
    }
}

/// Returns a number in the range. The first number of a pair is smaller than the second.
fn number(range: &NumberRange) -> &'static str {
    match range.name {
        "KEEPALIVE" | "FIRST" | "DSCP" | "COUNT" | "MINUTES" => "10",
        "MB" if range.read("512").is_ok() => "512",
        "MB" => "10",
        "GE" => "25",
        "LE" => "30",
        _ if range.read("90").is_ok() => "90",
        _ => panic!("{range:?}"),
    }
}

/// Returns all forms of a syntax, with at most `deep` nested optional parts.
pub(super) fn forms(syntax: &[Syntax], deep: usize) -> Vec<Vec<FormWord>> {
    let mut all = vec![Vec::new()];
    for piece in syntax {
        let next: Vec<Vec<FormWord>> = match piece {
            Syntax::Word(keyword, _) => vec![vec![FormWord::keyword(keyword)]],
            Syntax::Value(kind, _) => vec![vec![FormWord::value(sample(*kind))]],
            Syntax::Optional(_) if deep == 0 => vec![Vec::new()],
            Syntax::Optional(inner) => std::iter::once(Vec::new()).chain(forms(inner, deep - 1)).collect(),
            Syntax::Choice(alternatives) => alternatives.iter().flat_map(|form| forms(form, deep)).collect(),
        };
        // Beyond some forms, each further alternative comes once.
        let many = all.len() * next.len() > MANY;
        let behind = |begun: &Vec<FormWord>, next: &[Vec<FormWord>]| -> Vec<Vec<FormWord>> {
            next.iter().map(|more| [&begun[..], more].concat()).collect()
        };
        all = match (many, all.split_last(), next.split_last()) {
            (true, Some((last, others)), Some((whole, _))) => {
                let others = others.iter().flat_map(|begun| behind(begun, std::slice::from_ref(whole)));
                others.chain(behind(last, &next)).collect()
            }
            _ => all.iter().flat_map(|begun| behind(begun, &next)).collect(),
        };
    }
    all
}

fn view(kind: ViewKind) -> CommandView {
    match kind {
        ViewKind::User => CommandView::User,
        ViewKind::System => CommandView::System,
        ViewKind::Bmp => CommandView::Bmp,
        ViewKind::Session => session_view("198.51.100.7"),
        ViewKind::Monitor => {
            let CommandView::Session(id) = session_view("198.51.100.7") else { unreachable!("a session") };
            CommandView::Monitor(id, MonitorId::Public)
        }
        ViewKind::Relay => CommandView::Relay("frr".to_owned()),
        ViewKind::Replay => CommandView::Replay("file".to_owned()),
        ViewKind::Keychain => CommandView::Keychain("core".to_owned()),
        ViewKind::Key => CommandView::Key("core".to_owned(), 1),
        ViewKind::TlsProfile => CommandView::TlsProfile("stations".to_owned()),
        ViewKind::RouteFilter => CommandView::RouteFilter("customers".to_owned()),
        ViewKind::Bgp => CommandView::Bgp,
        ViewKind::BgpFamily => CommandView::BgpFamily(crate::wire::bgp::Family::IPV4_UNICAST),
    }
}

/// Returns the forms of a command and of its `undo`.
fn forms_of(rule: Rule) -> Vec<Vec<FormWord>> {
    match rule {
        Rule::Setting(setting) => {
            let (heads, values) = (forms(setting.head, DEEP), forms(setting.value, DEEP));
            let whole: Vec<_> =
                heads.iter().flat_map(|head| values.iter().map(move |value| [&head[..], value].concat())).collect();
            let undone = heads.iter().filter(|_| !setting.value.is_empty()).chain(&whole);
            let undone = undone.map(|form| [&[FormWord::UNDO], &form[..]].concat());
            let undone: Vec<_> = undone.collect();
            [whole, undone].concat()
        }
        Rule::Command(command) if command.undo.is_empty() => forms(command.syntax, DEEP),
        Rule::Command(command) => {
            let undone = forms(command.undo, DEEP).into_iter().map(|form| [&[FormWord::UNDO], &form[..]].concat());
            forms(command.syntax, DEEP).into_iter().chain(undone).collect()
        }
    }
}

/// A line of the language, and the view that it is for.
struct SampleLine {
    view: CommandView,
    words: Vec<FormWord>,
}

/// Returns every valid line of the language.
fn lines() -> Vec<SampleLine> {
    let mut lines = Vec::new();
    for rule in rules() {
        for form in forms_of(rule) {
            // `egress-interface` refuses a name that is repeated.
            let names = form.iter().filter(|word| !word.is_keyword && word.text == "eth1").count();
            if form.iter().any(|word| word.text == "egress-interface") && names > 1 {
                continue;
            }
            let views = ViewKind::ALL.into_iter().filter(|kind| rule.is_known_in(*kind));
            lines.extend(views.map(|kind| SampleLine { view: view(kind), words: form.clone() }));
        }
    }
    lines
}

/// Joins the words with spaces.
pub(super) fn text(words: &[FormWord]) -> String {
    words.iter().map(|word| word.text).collect::<Vec<_>>().join(" ")
}

/// Returns the meaning of a line, without the places of its words.
fn meaning(command: ParsedCommand) -> Result<ParsedCommand, ConfigEdit> {
    match command {
        ParsedCommand::Configure(configure) => Err(configure.edit().clone()),
        other => Ok(other),
    }
}

#[test]
fn every_form_is_understood_in_every_view_that_knows_it() {
    let lines = lines();
    assert!(lines.len() > 200, "{}", lines.len());
    for SampleLine { view, words } in lines {
        let line = text(&words);
        let whole = parse_line(&view, &line, false).unwrap_or_else(|error| panic!("{error}"));
        let again = parse_line(&view, &line, true).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(meaning(whole), meaning(again), "{line}");
    }
}

#[test]
fn an_operator_may_type_keywords_in_capitals_and_a_file_may_not() {
    for SampleLine { view, words } in lines() {
        let line = text(&words);
        let meant = meaning(parse_line(&view, &line, false).unwrap());
        let capitals = words.iter().map(|word| match word.is_keyword {
            true => word.text.to_ascii_uppercase(),
            false => word.text.to_owned(),
        });
        let typed = capitals.collect::<Vec<_>>().join(" ");
        let found = parse_line(&view, &typed, true).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(meaning(found), meant, "{typed}");
        // `|` alone has no capital.
        assert!(parse_line(&view, &typed, false).is_err() || typed == line, "{typed}");
    }
    // The whole name of an outer view goes before the beginning of one further inside.
    let (mut config, mut view) = (Config::default(), session_view("198.51.100.7"));
    let command = parse_line(&view, "BMP", true).unwrap();
    apply(&mut config, &mut view, &command).unwrap();
    assert_eq!(view, CommandView::Bmp);
    // A name keeps its case, and goes before a keyword in capitals.
    let egress = |line: &str| meaning(parse_line(&session_view("198.51.100.7"), line, true).unwrap());
    assert_ne!(egress("egress-interface ETH1"), egress("egress-interface eth1"));
}

#[test]
fn the_commands_of_other_routers_are_no_commands_and_name_ours() {
    for (line, ours) in [
        ("show bmp session", "display"),
        ("SHOW version", "display"),
        ("exit", "quit"),
        ("end", "return"),
        ("no shutdown", "undo"),
        ("conf t", "system-view"),
        ("write memory", "save"),
    ] {
        for view in [CommandView::System, session_view("198.51.100.7")] {
            let error = parse_line(&view, line, true).unwrap_err();
            assert!(error.message.ends_with(&format!("did you mean `{ours}`?")), "{error}");
            assert_eq!(error.column, 1);
        }
        let first = line.split(' ').next().unwrap();
        assert_eq!(next_words(&CommandView::System, first).unwrap().near, [ours]);
    }
    // What an operator may cut so stays a command of the view.
    let relay = CommandView::Relay("frr".to_owned());
    assert!(parse_line(&relay, "end 5", true).is_ok());
}

#[test]
fn a_keyword_may_be_abbreviated_while_no_other_begins_so() {
    for SampleLine { view, words } in lines() {
        let meant = meaning(parse_line(&view, &text(&words), false).unwrap());
        for (at, FormWord { text: keyword, .. }) in words.iter().enumerate().filter(|(_, word)| word.is_keyword) {
            let mut unambiguous = false;
            for length in 1..keyword.len() {
                let mut cut = words.clone();
                cut[at].text = &keyword[..length];
                // A complete keyword means itself: `bmp` does not mean `bmp-relay`.
                if rules().any(|rule| rule.keyword() == cut[at].text) {
                    continue;
                }
                let line = text(&cut);
                match parse_line(&view, &line, true) {
                    Ok(_) | Err(_) if is_too_short(keyword, length) => {}
                    Ok(command) => {
                        assert_eq!(meaning(command), meant, "{line}");
                        unambiguous = true;
                    }
                    Err(error) => {
                        // A longer abbreviation stays unambiguous. The error of an ambiguous one
                        // marks the word and names the candidates.
                        let word: String = line.chars().skip(error.column - 1).take(error.length).collect();
                        assert!(!unambiguous && word == cut[at].text && error.message.contains(" may be "), "{error}");
                        assert!(error.message.contains(&format!("`{keyword}`")), "{error}");
                        // Help lists the commands of the innermost view alone, so it has not all
                        // candidates for the name of a command.
                        let head = at == 0 || (at == 1 && words[0].text == "undo");
                        let others = next_words(&view, &text(&cut[..=at])).unwrap().words;
                        for other in others.iter().filter(|other| !head && !other.argument) {
                            assert!(error.message.contains(&format!("`{}`", other.text)), "{error}");
                        }
                    }
                }
            }
        }
    }
}

/// Returns the view and its parents, innermost first.
fn around(kind: ViewKind) -> impl Iterator<Item = ViewKind> {
    std::iter::successors(Some(kind), |kind| kind.parent())
}

#[test]
fn a_command_is_taken_in_its_view_and_inside_it_and_refused_at_its_name_everywhere_else() {
    let mut refused = 0;
    for SampleLine { view: home, words } in lines() {
        let undo = words[0].text == "undo";
        let name = words[usize::from(undo)].text;
        let knows =
            |kind: ViewKind| rules_of(kind).any(|rule| rule.keyword() == name && (!undo || rule.can_be_undone()));
        let line = text(&words);
        let meant = meaning(parse_line(&home, &line, false).unwrap());
        for kind in ViewKind::ALL {
            for abbreviate in [false, true] {
                let found = parse_line(&view(kind), &line, abbreviate);
                match around(kind).find(|kind| knows(*kind)) {
                    Some(at) if view(at) == home => assert_eq!(meaning(found.unwrap()), meant, "{line} in {kind:?}"),
                    // A nearer view has another command of that name.
                    Some(_) => {}
                    // The name may abbreviate another command: `hold` of a relay means `hold-down`
                    // in a session.
                    None if abbreviate
                        && rules().any(|rule| rule.keyword() != name && rule.keyword().starts_with(name)) => {}
                    None => {
                        let error = found.expect_err(&line);
                        let word: String = line.chars().skip(error.column - 1).take(error.length).collect();
                        assert_eq!((word.as_str(), error.column), (name, if undo { 6 } else { 1 }), "{error}");
                        assert!(error.message.contains(" is a command of the "), "in {kind:?}: {error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn an_abbreviated_command_is_taken_if_one_name_begins_so_and_else_all_are_named() {
    let names = |kind: ViewKind| {
        let undo = rules_of(kind).any(Rule::can_be_undone).then_some("undo");
        rules_of(kind).map(|rule| rule.keyword()).chain(undo).collect::<std::collections::BTreeSet<_>>()
    };
    let mut ambiguous = 0;
    for kind in ViewKind::ALL {
        for name in around(kind).flat_map(names) {
            for cut in (1..name.len()).map(|length| &name[..length]) {
                if around(kind).any(|kind| names(kind).contains(cut)) {
                    continue;
                }
                // The bmp view has no other command that begins like `initiation-message`.
                let is_alone = |kind, name: &str| kind == ViewKind::Bmp && name == "initiation-message";
                let is_meant = |kind, name: &str| is_alone(kind, name) || !is_too_short(name, cut.len());
                let begin_so = |kind| {
                    let names = names(kind).into_iter();
                    names.filter(|name| name.starts_with(cut) && is_meant(kind, name)).collect::<Vec<_>>()
                };
                let Some(meant) = around(kind).map(begin_so).find(|names| !names.is_empty()) else {
                    assert!(parse_line(&view(kind), cut, true).is_err(), "{cut} in {kind:?} was taken");
                    continue;
                };
                match (parse_line(&view(kind), cut, true), &meant[..]) {
                    (Ok(_), [_]) => {}
                    (Err(error), [_]) => assert!(error.message.contains("not complete"), "{cut} in {kind:?}: {error}"),
                    (Ok(command), _) => panic!("{cut} in {kind:?} was taken: {command:?}"),
                    (Err(error), _) => {
                        assert_eq!((error.column, error.length), (1, cut.len()), "{error}");
                        for name in meant {
                            assert!(error.message.contains(&format!("`{name}`")), "{cut} in {kind:?}: {error}");
                        }
                        ambiguous += 1;
                    }
                }
            }
        }
    }
    assert!(ambiguous > 10, "{ambiguous}");
}

#[test]
fn an_abbreviated_undo_is_undo_even_if_the_rest_of_the_line_is_refused() {
    for (line, word, message) in [
        ("un", "", "not complete"),
        ("un nonsense", "nonsense", "unknown command `nonsense`"),
        ("u tcp connect port", "tcp", "`tcp` is a command of the bmp-session view"),
        ("und connect-interface 192.0.2.1 x", "x", "ends before"),
    ] {
        let error = parse_line(&CommandView::Bmp, line, true).unwrap_err();
        let marked: String = line.chars().skip(error.column - 1).take(error.length).collect();
        assert!(marked == word && error.message.contains(message), "{error}");
    }
}

#[test]
fn an_incomplete_line_is_refused_at_its_end_and_a_line_too_long_at_the_extra_word() {
    for SampleLine { view, words } in lines() {
        for length in 1..words.len() {
            let line = text(&words[..length]);
            if let Err(error) = parse_line(&view, &line, false) {
                assert_eq!(error.column, line.chars().count() + 1, "{error}");
                assert!(error.message.contains("not complete"), "{error}");
            }
        }
        let line = format!("{} 192.0.2.99 more more", text(&words));
        if let Err(error) = parse_line(&view, &line, false) {
            assert!(error.column > text(&words).chars().count() + 1, "{error}");
        } else {
            let texts = ["|", "connect-interface", "description", "initiation-message"];
            let takes_more = words.iter().any(|word| texts.contains(&word.text));
            assert!(takes_more, "{line}");
        }
    }
}

#[test]
fn help_names_the_next_word_of_every_form_at_every_place() {
    for SampleLine { view, words } in lines() {
        for at in 0..=words.len() {
            let before = words[..at].iter().map(|word| format!("{} ", word.text)).collect::<String>();
            let next = next_words(&view, &before).unwrap_or_else(|error| panic!("{error}"));
            match words.get(at) {
                None => assert!(next.end, "{before}"),
                Some(FormWord { text, is_keyword: true }) => {
                    assert!(next.words.iter().any(|next| next.text == *text), "{before}? {text}")
                }
                Some(FormWord { is_keyword: false, .. }) => {
                    assert!(next.words.iter().any(|next| next.argument), "{before}?")
                }
            }
        }
    }
}
