//! A command as a list of tokens: keywords and arguments, each argument with its value. The parser
//! makes tokens of words, and [`fill`] makes them of values, so that both read and print alike.

use std::{iter::Peekable, net::IpAddr, time::Duration, vec};

use super::{
    argument::ArgumentKind,
    secret::{Secret, Secrets},
    syntax::Syntax,
    utc::{TimeOfDay, UtcDate},
    value::ArgumentValue,
};
use crate::config::prefix::Prefix;

/// One word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum Token {
    Keyword(&'static str),
    Argument(ArgumentKind, ArgumentValue),
}

impl Token {
    /// Returns the word that the configuration file has for the token.
    pub(in crate::config) fn text(&self, secrets: Secrets) -> String {
        match self {
            Self::Keyword(keyword) | Self::Argument(_, ArgumentValue::Keyword(keyword)) => (*keyword).to_owned(),
            Self::Argument(kind, value) => match value {
                ArgumentValue::Text(text) => text.clone(),
                ArgumentValue::Secret(secret) => secrets.text(secret),
                ArgumentValue::Address(address) => address.to_string(),
                ArgumentValue::Time(time) => match kind {
                    ArgumentKind::Number(range) => range.write_time(*time),
                    _ => time.as_secs().to_string(),
                },
                ArgumentValue::Number(number) => number.to_string(),
                ArgumentValue::Prefix(prefix) => prefix.to_string(),
                ArgumentValue::TimeOfDay(time) => time.to_string(),
                ArgumentValue::Date(date) => date.to_string(),
                ArgumentValue::Keyword(keyword) => (*keyword).to_owned(),
            },
        }
    }
}

/// Why an argument is refused that fits its place, but not the arguments beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct WrongArgument {
    /// The number of its token.
    pub(in crate::config) token: usize,
    pub(in crate::config) message: String,
}

/// The tokens of one command without `undo`, as the types of the model read them. Where a command
/// has several arguments of one type, they are read in their order.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct ArgumentTokens<'a>(pub(in crate::config) &'a [Token]);

impl<'a> ArgumentTokens<'a> {
    /// Returns the arguments, each with the number of its token.
    fn values(self) -> impl Iterator<Item = (usize, ArgumentKind, &'a ArgumentValue)> {
        self.0.iter().enumerate().filter_map(|(token, argument)| match argument {
            Token::Argument(kind, value) => Some((token, *kind, value)),
            Token::Keyword(_) => None,
        })
    }

    /// Returns the numbers of the tokens that are arguments.
    pub(in crate::config) fn positions(self) -> impl Iterator<Item = usize> {
        self.values().map(|(token, ..)| token)
    }

    pub(in crate::config) fn has(self, keyword: &str) -> bool {
        self.0.iter().any(|token| matches!(token, Token::Keyword(other) if *other == keyword))
    }

    /// Returns the names and other texts of one kind, each with the number of its token.
    pub(in crate::config) fn texts_of(self, wanted: ArgumentKind) -> impl Iterator<Item = (usize, &'a str)> {
        self.values().filter(move |(_, kind, _)| *kind == wanted).filter_map(|(token, _, value)| match value {
            ArgumentValue::Text(text) => Some((token, text.as_str())),
            _ => None,
        })
    }

    /// Returns the text of one kind.
    pub(in crate::config) fn text_of(self, kind: ArgumentKind) -> Option<String> {
        self.texts_of(kind).next().map(|(_, text)| text.to_owned())
    }

    /// Returns the last text, of whatever kind.
    pub(in crate::config) fn text(self) -> Option<String> {
        let texts = self.values().filter_map(|(_, _, value)| match value {
            ArgumentValue::Text(text) => Some(text.clone()),
            _ => None,
        });
        texts.last()
    }

    /// Returns the address of one kind.
    pub(in crate::config) fn address_of(self, wanted: ArgumentKind) -> Option<IpAddr> {
        self.values().filter(|(_, kind, _)| *kind == wanted).find_map(|(_, _, value)| match value {
            ArgumentValue::Address(address) => Some(*address),
            _ => None,
        })
    }

    /// Returns the last address, of whatever kind.
    pub(in crate::config) fn address(self) -> Option<IpAddr> {
        let addresses = self.values().filter_map(|(_, _, value)| match value {
            ArgumentValue::Address(address) => Some(*address),
            _ => None,
        });
        addresses.last()
    }

    /// Returns the numbers in their order.
    pub(in crate::config) fn numbers(self) -> impl Iterator<Item = (usize, u32)> {
        self.values().filter_map(|(token, _, value)| match value {
            ArgumentValue::Number(number) => Some((token, *number)),
            _ => None,
        })
    }

    /// Returns the first number, if the type takes it.
    pub(in crate::config) fn number<T: TryFrom<u32>>(self) -> Option<T> {
        self.numbers().next().and_then(|(_, number)| number.try_into().ok())
    }

    /// Returns the times in their order.
    pub(in crate::config) fn times(self) -> impl Iterator<Item = (usize, Duration)> {
        self.values().filter_map(|(token, _, value)| match value {
            ArgumentValue::Time(time) => Some((token, *time)),
            _ => None,
        })
    }

    /// Returns two times that belong together, and the number of the second one's token.
    pub(in crate::config) fn two_times(self) -> Option<(Duration, Duration, usize)> {
        let mut times = self.times();
        let ((_, first), (token, second)) = times.next().zip(times.next())?;
        Some((first, second, token))
    }

    pub(in crate::config) fn secret(self) -> Option<Secret> {
        self.values().find_map(|(_, _, value)| match value {
            ArgumentValue::Secret(secret) => Some(secret.clone()),
            _ => None,
        })
    }

    /// Returns the times of a day in their order.
    pub(in crate::config) fn times_of_day(self) -> impl Iterator<Item = TimeOfDay> {
        self.values().filter_map(|(_, _, value)| match value {
            ArgumentValue::TimeOfDay(time) => Some(*time),
            _ => None,
        })
    }

    /// Returns the date of one kind, with the number of its token.
    pub(in crate::config) fn date_of(self, wanted: ArgumentKind) -> Option<(usize, UtcDate)> {
        self.values().filter(|(_, kind, _)| *kind == wanted).find_map(|(token, _, value)| match value {
            ArgumentValue::Date(date) => Some((token, *date)),
            _ => None,
        })
    }

    pub(in crate::config) fn prefix(self) -> Option<Prefix> {
        self.values().find_map(|(_, _, value)| match value {
            ArgumentValue::Prefix(prefix) => Some(*prefix),
            _ => None,
        })
    }
}

type Values = Peekable<vec::IntoIter<ArgumentValue>>;

/// Puts values into the forms of a command, which follow one another.
///
/// An optional form is written if it begins with the next value. Of several forms the first is
/// written that begins so. An [`ArgumentValue::Keyword`] stands for the keyword of the form to
/// choose.
pub(in crate::config) fn fill(forms: &[&'static [Syntax]], values: Vec<ArgumentValue>) -> Vec<Token> {
    let (mut tokens, mut values) = (Vec::new(), values.into_iter().peekable());
    for form in forms {
        fill_form(form, &mut values, &mut tokens);
    }
    tokens
}

fn fill_form(form: &'static [Syntax], values: &mut Values, tokens: &mut Vec<Token>) {
    for piece in form {
        match piece {
            Syntax::Word(keyword, _) => {
                values.next_if(|value| matches!(value, ArgumentValue::Keyword(given) if given == keyword));
                tokens.push(Token::Keyword(keyword));
            }
            Syntax::Value(kind, _) => tokens.extend(values.next().map(|value| Token::Argument(*kind, value))),
            Syntax::Optional(inner) => {
                if values.peek().is_some_and(|value| begins_with(inner, value) == Some(true)) {
                    fill_form(inner, values, tokens);
                }
            }
            Syntax::Choice(forms) => {
                let chosen =
                    values.peek().and_then(|value| forms.iter().find(|form| begins_with(form, value) == Some(true)));
                if let Some(form) = chosen {
                    fill_form(form, values, tokens);
                }
            }
        }
    }
}

/// Decides whether the first argument of a form takes the value; `None` if the form has none.
fn begins_with(form: &[Syntax], value: &ArgumentValue) -> Option<bool> {
    if let ArgumentValue::Keyword(given) = value {
        return Some(match form.first() {
            Some(Syntax::Word(keyword, _)) => keyword == given,
            Some(Syntax::Choice(forms)) => forms.iter().any(|form| begins_with(form, value) == Some(true)),
            _ => false,
        });
    }
    form.iter().find_map(|piece| match piece {
        Syntax::Word(..) => None,
        Syntax::Value(kind, _) => Some(kind.takes(value)),
        // What is optional may be left out for the argument behind it.
        Syntax::Optional(inner) => begins_with(inner, value).filter(|takes| *takes),
        Syntax::Choice(forms) => Some(forms.iter().any(|form| begins_with(form, value) == Some(true))),
    })
}
