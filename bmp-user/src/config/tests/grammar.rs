//! The whole table: every form of every command, in every view that knows it, whole and cut.

use super::{super::*, session_view};
use crate::config::{
    grammar::{RULES, Syntax, ViewKind},
    value::Kind,
};

/// How deep a repetition is followed.
const DEEP: usize = 3;

/// A word of a form, and whether it is a keyword.
type Word = (&'static str, bool);

fn sample(kind: Kind) -> &'static str {
    match kind {
        Kind::Sysname | Kind::InputName | Kind::Alias | Kind::Text => "name",
        Kind::KernelName | Kind::VpnInstance | Kind::EgressName => "eth1",
        Kind::InterfaceName => "GigabitEthernet0/1/0",
        Kind::InterfaceType => "GigabitEthernet",
        Kind::InterfaceNumber => "0/1/0",
        Kind::Source | Kind::Ipv4Source | Kind::Station | Kind::NextHop => "192.0.2.1",
        Kind::Listen => "127.0.0.1",
        Kind::Port | Kind::HoldDown | Kind::Trial => "5000",
    }
}

/// All forms that the syntax has.
fn forms(syntax: &[Syntax], deep: usize) -> Vec<Vec<Word>> {
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
        ViewKind::Relay => View::Relay("frr".to_owned()),
    }
}

/// Every line of the language that has sense, with the view it is for.
fn lines() -> Vec<(View, Vec<Word>)> {
    let mut lines = Vec::new();
    for rule in RULES {
        let undone = rule.undo.map(|syntax| forms(syntax, DEEP)).unwrap_or_default();
        let undone = undone.into_iter().map(|form| [&[("undo", true)], &form[..]].concat());
        for form in forms(rule.syntax, DEEP).into_iter().chain(undone) {
            // A name may be given once.
            let names = form.iter().filter(|(word, keyword)| !keyword && *word == "eth1").count();
            if form.iter().any(|(word, _)| *word == "egress-interface") && names > 1 {
                continue;
            }
            lines.extend(rule.views.iter().map(|kind| (view(*kind), form.clone())));
        }
    }
    lines
}

fn text(words: &[Word]) -> String {
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
                if RULES.iter().any(|rule| rule.keyword() == cut[at].0) {
                    continue;
                }
                let line = text(&cut);
                match parse_line(&view, &line, true) {
                    Ok(command) => {
                        assert_eq!(meaning(command), meant, "{line}");
                        plain = true;
                    }
                    Err(error) => {
                        // Once it is plain it stays so; before that, the error is under the word and names what it may be.
                        let word: String = line.chars().skip(error.column - 1).take(error.length).collect();
                        assert!(!plain && word == cut[at].0 && error.message.contains(" may be "), "{error}");
                        assert!(error.message.contains(&format!("`{keyword}`")), "{error}");
                    }
                }
            }
        }
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
