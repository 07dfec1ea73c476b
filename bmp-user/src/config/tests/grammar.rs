//! The whole table: every form of every command, in every view that knows it, whole and cut.

use super::{super::*, session_view};
use crate::config::{
    language::{argument::ArgumentKind, number::NumberRange, syntax::Syntax},
    parse::rule::{Rule, rules, rules_of},
    view::ViewKind,
};

/// How deep a repetition is followed.
pub(super) const DEEP: usize = 3;

/// A word of a form, and whether it is a keyword.
pub(super) type Word = (&'static str, bool);

fn sample(kind: ArgumentKind) -> &'static str {
    match kind {
        ArgumentKind::Sysname | ArgumentKind::InputName | ArgumentKind::Alias | ArgumentKind::Text => "name",
        ArgumentKind::KernelName | ArgumentKind::VpnInstance | ArgumentKind::EgressName => "eth1",
        ArgumentKind::InterfaceName => "GigabitEthernet0/1/0",
        ArgumentKind::InterfaceType => "GigabitEthernet",
        ArgumentKind::InterfaceNumber => "0/1/0",
        ArgumentKind::Source | ArgumentKind::Ipv4Source | ArgumentKind::Station | ArgumentKind::NextHop => "192.0.2.1",
        ArgumentKind::Listen => "127.0.0.1",
        ArgumentKind::AsNumber => "65000",
        ArgumentKind::RouterId | ArgumentKind::Peer => "192.0.2.2",
        ArgumentKind::Password => "secret",
        ArgumentKind::Prefix => "192.0.2.0/24",
        ArgumentKind::Path => "/var/lib/routes.mrt",
        ArgumentKind::TableName => "65000:1",
        ArgumentKind::Number(range) => number(range),
    }
}

/// A number in the range. Of two that belong together the first, or the part, is the smaller one.
fn number(range: &NumberRange) -> &'static str {
    match range.name {
        "KEEPALIVE" | "FIRST" | "DSCP" => "10",
        _ if range.read("90").is_ok() => "90",
        _ => panic!("{range:?}"),
    }
}

/// All forms that the syntax has.
pub(super) fn forms(syntax: &[Syntax], deep: usize) -> Vec<Vec<Word>> {
    let mut all = vec![Vec::new()];
    for piece in syntax {
        let next: Vec<Vec<Word>> = match piece {
            Syntax::Word(keyword, _) => vec![vec![(*keyword, true)]],
            Syntax::Value(kind, _) => vec![vec![(sample(*kind), false)]],
            Syntax::Optional(_) if deep == 0 => vec![Vec::new()],
            Syntax::Optional(inner) => std::iter::once(Vec::new()).chain(forms(inner, deep - 1)).collect(),
            Syntax::Choice(alternatives) => alternatives.iter().flat_map(|form| forms(form, deep)).collect(),
        };
        all = all.iter().flat_map(|begun| next.iter().map(move |more| [&begun[..], more].concat())).collect();
    }
    all
}

fn view(kind: ViewKind) -> View {
    match kind {
        ViewKind::User => View::User,
        ViewKind::System => View::System,
        ViewKind::Bmp => View::Bmp,
        ViewKind::Session => session_view("198.51.100.7"),
        ViewKind::Monitor => {
            let View::Session(id) = session_view("198.51.100.7") else { unreachable!("a session") };
            View::Monitor(id, MonitorId::Public)
        }
        ViewKind::Relay => View::Relay("frr".to_owned()),
        ViewKind::Replay => View::Replay("file".to_owned()),
        ViewKind::Bgp => View::Bgp,
        ViewKind::BgpFamily => View::BgpFamily(crate::wire::bgp::Family::IPV4_UNICAST),
    }
}

/// The forms of a command, and of its `undo`.
fn forms_of(rule: Rule) -> (Vec<Vec<Word>>, Vec<Vec<Word>>) {
    match rule {
        Rule::Setting(setting) => {
            let (heads, values) = (forms(setting.head, DEEP), forms(setting.value, DEEP));
            let whole: Vec<_> =
                heads.iter().flat_map(|head| values.iter().map(move |value| [&head[..], value].concat())).collect();
            let undone = heads.iter().filter(|_| !setting.value.is_empty()).chain(&whole);
            let undone = undone.map(|form| [&[("undo", true)], &form[..]].concat()).collect();
            (whole, undone)
        }
        Rule::Command(command) => (forms(command.syntax, DEEP), Vec::new()),
    }
}

/// Every line of the language that has sense, with the view it is for.
fn lines() -> Vec<(View, Vec<Word>)> {
    let mut lines = Vec::new();
    for rule in rules() {
        let (set, undone) = forms_of(rule);
        for form in set.into_iter().chain(undone) {
            // A name may be given once.
            let names = form.iter().filter(|(word, keyword)| !keyword && *word == "eth1").count();
            if form.iter().any(|(word, _)| *word == "egress-interface") && names > 1 {
                continue;
            }
            let views = ViewKind::ALL.into_iter().filter(|kind| rule.is_known_in(*kind));
            lines.extend(views.map(|kind| (view(kind), form.clone())));
        }
    }
    lines
}

pub(super) fn text(words: &[Word]) -> String {
    words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" ")
}

/// What a line means, without where its words are.
fn meaning(command: Command) -> Result<Command, Edit> {
    match command {
        Command::Configure(configure) => Err(configure.edit().clone()),
        other => Ok(other),
    }
}

#[test]
fn every_form_is_understood_in_every_view_that_knows_it() {
    let lines = lines();
    assert!(lines.len() > 200, "{}", lines.len());
    for (view, words) in lines {
        let line = text(&words);
        let whole = parse_line(&view, &line, false).unwrap_or_else(|error| panic!("{error}"));
        let again = parse_line(&view, &line, true).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(meaning(whole), meaning(again), "{line}");
    }
}

#[test]
fn every_keyword_may_be_cut_while_it_is_plain_which_is_meant() {
    for (view, words) in lines() {
        let meant = meaning(parse_line(&view, &text(&words), false).unwrap());
        for (at, (keyword, _)) in words.iter().enumerate().filter(|(_, (_, keyword))| *keyword) {
            let mut plain = false;
            for length in 1..keyword.len() {
                let mut cut = words.clone();
                cut[at].0 = &keyword[..length];
                // A whole keyword is meant as itself: `bmp` is no `bmp-relay`.
                if rules().any(|rule| rule.keyword() == cut[at].0) {
                    continue;
                }
                let line = text(&cut);
                match parse_line(&view, &line, true) {
                    // So many letters of it are never meant.
                    Ok(_) if *keyword == "connect-retry" && length < "connect-r".len() => {}
                    Err(_) if *keyword == "connect-retry" && length < "connect-r".len() => {}
                    Ok(command) => {
                        assert_eq!(meaning(command), meant, "{line}");
                        plain = true;
                    }
                    Err(error) => {
                        // Once it is plain it stays so; before that, the error is under the word
                        // and names what it may be.
                        let word: String = line.chars().skip(error.column - 1).take(error.length).collect();
                        assert!(!plain && word == cut[at].0 && error.message.contains(" may be "), "{error}");
                        assert!(error.message.contains(&format!("`{keyword}`")), "{error}");
                        // Of the words that name a command, help knows those of the innermost view
                        // alone.
                        let head = at == 0 || (at == 1 && words[0].0 == "undo");
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

/// The view and those around it, innermost first.
fn around(kind: ViewKind) -> impl Iterator<Item = ViewKind> {
    std::iter::successors(Some(kind), |kind| kind.parent())
}

#[test]
fn a_command_is_taken_in_its_view_and_inside_it_and_refused_at_its_name_everywhere_else() {
    let mut refused = 0;
    for (home, words) in lines() {
        let undo = words[0].0 == "undo";
        let name = words[usize::from(undo)].0;
        let knows =
            |kind: ViewKind| rules_of(kind).any(|rule| rule.keyword() == name && (!undo || rule.can_be_undone()));
        let line = text(&words);
        let meant = meaning(parse_line(&home, &line, false).unwrap());
        for kind in ViewKind::ALL {
            for abbreviate in [false, true] {
                let found = parse_line(&view(kind), &line, abbreviate);
                match around(kind).find(|kind| knows(*kind)) {
                    Some(at) if view(at) == home => assert_eq!(meaning(found.unwrap()), meant, "{line} in {kind:?}"),
                    // Another command of that name is nearer.
                    Some(_) => {}
                    // As a cut one it may be another command: `hold` of a relay is `hold-down` in a
                    // session.
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
fn a_cut_name_of_a_command_is_taken_where_one_begins_so_and_else_refused_with_all_of_them() {
    let names = |kind: ViewKind| {
        let undo = rules_of(kind).any(Rule::can_be_undone).then_some("undo");
        rules_of(kind).map(|rule| rule.keyword()).chain(undo).collect::<std::collections::BTreeSet<_>>()
    };
    // So many letters of it are never meant.
    let long_enough = |name: &str, cut: &str| name != "connect-retry" || cut.len() >= "connect-r".len();
    let mut ambiguous = 0;
    for kind in ViewKind::ALL {
        for name in around(kind).flat_map(names) {
            for cut in (1..name.len()).map(|length| &name[..length]) {
                if around(kind).any(|kind| names(kind).contains(cut)) {
                    continue;
                }
                let begin_so = |kind| {
                    names(kind)
                        .into_iter()
                        .filter(|name| name.starts_with(cut) && long_enough(name, cut))
                        .collect::<Vec<_>>()
                };
                let meant = around(kind).map(begin_so).find(|names| !names.is_empty()).unwrap();
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
fn a_cut_undo_is_undo_also_where_what_follows_it_is_refused() {
    for (line, word, message) in [
        ("un", "", "not complete"),
        ("un nonsense", "nonsense", "unknown command `nonsense`"),
        ("u tcp connect port", "tcp", "`tcp` is a command of the bmp-session view"),
        ("und connect-interface 192.0.2.1 x", "x", "ends before"),
    ] {
        let error = parse_line(&View::Bmp, line, true).unwrap_err();
        let marked: String = line.chars().skip(error.column - 1).take(error.length).collect();
        assert!(marked == word && error.message.contains(message), "{error}");
    }
}

#[test]
fn a_line_that_ends_too_early_says_so_behind_its_end_and_one_too_long_at_the_word() {
    for (view, words) in lines() {
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
            let takes_more = words.iter().any(|(word, _)| matches!(*word, "|" | "connect-interface"));
            assert!(takes_more, "{line}");
        }
    }
}

#[test]
fn help_names_the_next_word_of_every_form_at_every_place() {
    for (view, words) in lines() {
        for at in 0..=words.len() {
            let before = words[..at].iter().map(|(word, _)| format!("{word} ")).collect::<String>();
            let next = next_words(&view, &before).unwrap_or_else(|error| panic!("{error}"));
            match words.get(at) {
                None => assert!(next.end, "{before}"),
                Some((word, true)) => assert!(next.words.iter().any(|next| next.text == *word), "{before}? {word}"),
                Some((_, false)) => assert!(next.words.iter().any(|next| next.argument), "{before}?"),
            }
        }
    }
}
