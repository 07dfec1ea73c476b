//! The reference of all commands, `docs/reference/commands.md`, written from the descriptors.

use std::fmt::Write as _;

use super::{
    language::{
        argument::ArgumentKind,
        syntax::{Syntax, help_of},
    },
    parse::commands::{COMMANDS, CommandRule},
    settings::{SETTINGS, SettingDescriptor},
    view::ViewKind,
};

/// The columns of the document.
const WIDTH: usize = 100;

/// The order of the views in the document.
const VIEWS: [ViewKind; 12] = [
    ViewKind::System,
    ViewKind::Bmp,
    ViewKind::Session,
    ViewKind::Monitor,
    ViewKind::RouteFilter,
    ViewKind::Relay,
    ViewKind::Replay,
    ViewKind::Bgp,
    ViewKind::BgpFamily,
    ViewKind::Keychain,
    ViewKind::Key,
    ViewKind::TlsProfile,
];

const HEAD: &str = "# Commands

This page is written from the descriptors of the settings (`bmp-user/src/config/settings/`) and from
the other commands (`bmp-user/src/config/parse/commands.rs`). A test holds it to them, and writes it
with `BMPD_BLESS=1`.

How to read it: words in small letters are keywords, words in capitals are arguments. `[ ]` may be
left out, `{ | }` is a choice. An operator may cut a keyword as long as one keyword alone begins so;
a file has whole keywords. A command that a view does not know is looked up in the views around it.
*Change while up* says what a change does to a session to a station that is up, or to the input that
is configured. A change counts once a `commit` has put it in force.
";

/// Returns the document.
pub fn commands_reference() -> String {
    let mut text = HEAD.to_owned();
    // Writing to a string cannot fail.
    let _ = write_views(&mut text);
    let _ = write_commands(&mut text);
    text
}

fn write_views(text: &mut String) -> std::fmt::Result {
    for view in VIEWS {
        let entered = SETTINGS.iter().filter(|setting| setting.enters == Some(view));
        let entered: Vec<_> = entered.map(|setting| format!("`{}`", title(setting.head))).collect();
        writeln!(text, "\n## The {} view\n", view.name())?;
        if entered.is_empty() {
            write_item(text, "", "Entered by `system-view` from the user view. A file begins here.")?;
        } else {
            let around = view.parent().unwrap_or(ViewKind::User).name();
            write_item(text, "", &format!("Entered from the {around} view by {}.", entered.join(", ")))?;
        }
        for setting in SETTINGS.iter().filter(|setting| setting.view == view) {
            write_setting(text, setting)?;
        }
    }
    Ok(())
}

fn write_setting(text: &mut String, setting: &SettingDescriptor) -> std::fmt::Result {
    let (head, value) = (form(setting.head, false), form(setting.value, true));
    let optional = if value.is_empty() { String::new() } else { format!(" [ {value} ]") };
    writeln!(text, "\n### `{}`\n", title(setting.head))?;
    write_form(text, &[&*head, &*form(setting.value, false)])?;
    write_item(text, "", &purpose(setting.head))?;
    writeln!(text)?;
    write_arguments(text, setting.head)?;
    write_arguments(text, setting.value)?;
    if let Some(default) = setting.default.text() {
        write_item(text, "* ", &format!("Default: {default}."))?;
    }
    write_item(text, "* ", &format!("Change while up: {}.", setting.effect.text()))?;
    write_item(text, "* ", &format!("Undo: `undo {head}{optional}`"))?;
    if !setting.note.is_empty() {
        write_item(text, "* ", setting.note)?;
    }
    Ok(())
}

fn write_commands(text: &mut String) -> std::fmt::Result {
    writeln!(text, "\n## Commands that set nothing\n")?;
    write_item(text, "", "Every view knows them, unless the entry says another thing. Those with an `undo` say so.")?;
    for rule in COMMANDS {
        let CommandRule { views, syntax, undo, .. } = rule;
        writeln!(text, "\n### `{}`\n", title(syntax))?;
        write_form(text, &[&form(syntax, false)])?;
        write_item(text, "", &purpose(syntax))?;
        writeln!(text)?;
        if let [view] = views {
            write_item(text, "* ", &format!("View: {}", view.name()))?;
        }
        write_arguments(text, syntax)?;
        if !undo.is_empty() {
            write_item(text, "* ", &format!("Undo: `undo {}`", form(undo, false)))?;
        }
    }
    // The last entry may have no list.
    text.truncate(text.trim_end().len());
    writeln!(text)
}

/// Returns the keywords that name a command, with the arguments between them.
fn title(syntax: &[Syntax]) -> String {
    let word = |piece: &Syntax| match piece {
        Syntax::Word(keyword, _) => Some(*keyword),
        Syntax::Value(kind, _) => Some(kind.name()),
        Syntax::Optional(_) | Syntax::Choice(_) => None,
    };
    syntax.iter().filter_map(word).collect::<Vec<_>>().join(" ")
}

/// Returns what the keywords say that a command is for. Behind others the first says nothing more.
fn purpose(syntax: &[Syntax]) -> String {
    let words: Vec<_> = syntax.iter().filter(|piece| matches!(piece, Syntax::Word(..))).map(help_of).collect();
    sentence(&words.get(usize::from(words.len() > 1)..).unwrap_or_default().join(", "))
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

/// Returns a form with names for its arguments. An argument that repeats is followed by dots.
fn form(syntax: &'static [Syntax], inside: bool) -> String {
    let mut words = Vec::new();
    for piece in syntax {
        match piece {
            Syntax::Word(keyword, _) => words.push((*keyword).to_owned()),
            Syntax::Value(kind, _) => words.push(kind.name().to_owned()),
            Syntax::Optional(inner) if std::ptr::eq(*inner, syntax) => words.push("...".to_owned()),
            Syntax::Optional(inner) => words.push(format!("[ {} ]", form(inner, true))),
            Syntax::Choice([only]) => words.push(form(only, inside)),
            Syntax::Choice(forms) => {
                let forms: Vec<_> = forms.iter().map(|form| self::form(form, true)).collect();
                let forms = forms.join(" | ");
                words.push(if inside && syntax.len() == 1 { forms } else { format!("{{ {forms} }}") });
            }
        }
    }
    words.join(" ")
}

/// Writes a form as indented code, wrapped between its words.
fn write_form(text: &mut String, parts: &[&str]) -> std::fmt::Result {
    let form = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ");
    writeln!(text, "{}", wrapped(&form, "    ", "        "))
}

/// Writes what each argument is, and which words it takes.
fn write_arguments(text: &mut String, syntax: &'static [Syntax]) -> std::fmt::Result {
    let mut known = Vec::new();
    arguments(syntax, &mut known);
    for (kind, help) in known {
        let placeholder = kind.placeholder();
        let range = if placeholder == kind.name() { String::new() } else { format!(", `{placeholder}`") };
        let unit = match kind {
            ArgumentKind::Number(range) => range.unit.plural(),
            _ => None,
        };
        let unit = unit.filter(|unit| !help.contains(unit)).map(|unit| format!(", in {unit}")).unwrap_or_default();
        write_item(text, "* ", &format!("`{}`{range}{unit}: {help}", kind.name()))?;
    }
    Ok(())
}

fn arguments(syntax: &'static [Syntax], known: &mut Vec<(ArgumentKind, String)>) {
    for piece in syntax {
        match piece {
            Syntax::Word(..) => {}
            Syntax::Value(kind, _) => {
                let argument = (*kind, help_of(piece).into_owned());
                if !known.contains(&argument) {
                    known.push(argument);
                }
            }
            Syntax::Optional(inner) if std::ptr::eq(*inner, syntax) => {}
            Syntax::Optional(inner) => arguments(inner, known),
            Syntax::Choice(forms) => forms.iter().for_each(|form| arguments(form, known)),
        }
    }
}

fn write_item(text: &mut String, mark: &str, item: &str) -> std::fmt::Result {
    text.write_str(&wrapped(item, mark, &" ".repeat(mark.len())))
}

/// Returns a paragraph of lines that are no longer than the document is wide.
fn wrapped(paragraph: &str, first: &str, others: &str) -> String {
    let (mut lines, mut line) = (String::new(), first.to_owned());
    let mut is_empty = true;
    for word in paragraph.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{line}\n");
            line = others.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    lines + &line + "\n"
}
