//! The syntax of commands, and the place in it that a line has reached.

use std::borrow::Cow;

use super::argument::ArgumentKind;

/// A piece of a command's form. Each keyword and argument has its help, in which
/// [`RANGE`](help_of) stands for the range of a number.
#[derive(Debug)]
pub(in crate::config) enum Syntax {
    /// A keyword.
    Word(&'static str, &'static str),
    /// An argument.
    Value(ArgumentKind, &'static str),
    /// A form that may be left out.
    Optional(&'static [Syntax]),
    /// One of several forms.
    Choice(&'static [&'static [Syntax]]),
}

use Syntax::{Choice, Optional, Value, Word};

/// The help of a piece without alternatives, with the range of a number in the place of `RANGE`.
pub(in crate::config) fn help_of(piece: &Syntax) -> Cow<'static, str> {
    match piece {
        Word(_, help) => Cow::Borrowed(help),
        Value(ArgumentKind::Number(range), help) => Cow::Owned(help.replace("RANGE", &range.to_string())),
        Value(_, help) => Cow::Borrowed(help),
        Optional(_) | Choice(_) => Cow::Borrowed(""),
    }
}

/// A form that may come next, and whether it may be left out.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Part {
    pub(in crate::config) form: &'static [Syntax],
    pub(in crate::config) optional: bool,
}

/// A place in a command: what is still to come, innermost last.
#[derive(Clone, Debug)]
pub(in crate::config) struct SyntaxPosition(Vec<Part>);

/// What may stand at a place.
pub(in crate::config) struct NextPieces {
    /// Keywords and arguments, each with the place behind it.
    pub(in crate::config) pieces: Vec<(&'static Syntax, SyntaxPosition)>,
    /// The command may end here.
    pub(in crate::config) end: bool,
}

impl SyntaxPosition {
    /// Returns the place before the first of these parts, which follow one another.
    pub(in crate::config) fn before(parts: &[Part]) -> Self {
        Self(parts.iter().rev().copied().collect())
    }

    /// Returns what may stand here.
    pub(in crate::config) fn next(&self) -> NextPieces {
        let mut rest = self.0.clone();
        while let Some(Part { form, optional }) = rest.pop() {
            let Some((first, after)) = form.split_first() else { continue };
            if optional {
                return Self(rest).next_of_optional(form);
            }
            rest.push(Part { form: after, optional: false });
            let rest = Self(rest);
            return match first {
                Word(..) | Value(..) => NextPieces { pieces: vec![(first, rest)], end: false },
                Optional(inner) => rest.next_of_optional(inner),
                Choice(forms) => {
                    let nexts = forms.iter().map(|form| rest.clone().inside(form).next());
                    nexts.fold(NextPieces { pieces: Vec::new(), end: false }, |mut all, next| {
                        all.pieces.extend(next.pieces);
                        all.end |= next.end;
                        all
                    })
                }
            };
        }
        NextPieces { pieces: Vec::new(), end: true }
    }

    /// Returns what may stand here if this form comes next, or is left out.
    fn next_of_optional(self, form: &'static [Syntax]) -> NextPieces {
        let mut pieces = self.clone().inside(form).next().pieces;
        let without = self.next();
        pieces.extend(without.pieces);
        NextPieces { pieces, end: without.end }
    }

    fn inside(mut self, form: &'static [Syntax]) -> Self {
        self.0.push(Part { form, optional: false });
        self
    }
}
