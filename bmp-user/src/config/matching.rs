//! Words against the grammar.

use std::{net::IpAddr, time::Duration};

use super::{
    Secret,
    grammar::{Position, RULES, Rule, Syntax, UNDO, ViewKind},
    model::Prefix,
    text::{Line, quoted},
    value::{Kind, Value},
};

/// A view as the parser sees it: what it knows, and what its commands' arguments depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) kind: ViewKind,
    /// The session view's station, where it is known.
    pub(super) station: Option<IpAddr>,
}

impl From<ViewKind> for Context {
    fn from(kind: ViewKind) -> Self {
        Self { kind, station: None }
    }
}

/// The most words that a command can have: far more than any needs.
const WORDS_MAX: usize = 256;

/// A word refused: its number in the line (past the last one: the line ends too early), and why.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) word: usize,
    pub(super) message: String,
}

/// The arguments and keywords of a command.
#[derive(Clone, Debug, Default)]
pub(super) struct Args {
    values: Vec<(Kind, Value, usize)>,
    keywords: Vec<&'static str>,
    /// The number of words.
    end: usize,
}

impl Args {
    fn find(&self, kind: Kind) -> Option<(&Value, usize)> {
        self.values.iter().find(|(of, ..)| *of == kind).map(|(_, value, word)| (value, *word))
    }

    /// The name of this kind.
    pub(super) fn text(&self, kind: Kind) -> Option<String> {
        match self.find(kind)?.0 {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// The secret.
    pub(super) fn secret(&self) -> Option<Secret> {
        match self.find(Kind::Password)?.0 {
            Value::Secret(secret) => Some(secret.clone()),
            _ => None,
        }
    }

    /// All names of this kind, each with the number of its word.
    pub(super) fn texts(&self, kind: Kind) -> impl Iterator<Item = (&str, usize)> {
        self.values.iter().filter(move |(of, ..)| *of == kind).filter_map(|(_, value, word)| match value {
            Value::Text(text) => Some((text.as_str(), *word)),
            _ => None,
        })
    }

    /// The time of this kind.
    pub(super) fn time(&self, kind: Kind) -> Option<Duration> {
        match self.find(kind)?.0 {
            Value::Time(time) => Some(*time),
            _ => None,
        }
    }

    /// The address of this kind.
    pub(super) fn address(&self, kind: Kind) -> Option<IpAddr> {
        match self.find(kind)?.0 {
            Value::Address(address) => Some(*address),
            _ => None,
        }
    }

    /// The number of this kind.
    pub(super) fn number(&self, kind: Kind) -> Option<u32> {
        match self.find(kind)?.0 {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The prefix.
    pub(super) fn prefix(&self) -> Option<Prefix> {
        match self.find(Kind::Prefix)?.0 {
            Value::Prefix(prefix) => Some(*prefix),
            _ => None,
        }
    }

    /// The port.
    pub(super) fn port(&self) -> Option<u16> {
        match self.find(Kind::Port)?.0 {
            Value::Port(port) => Some(*port),
            _ => None,
        }
    }

    /// Whether the keyword is there.
    pub(super) fn has(&self, keyword: &str) -> bool {
        self.keywords.contains(&keyword)
    }

    /// The number of the word that is the argument of this kind; past the last word where there is none.
    pub(super) fn word(&self, kind: Kind) -> usize {
        self.find(kind).map_or(self.end, |(_, word)| word)
    }

    /// The numbers of the arguments' words.
    pub(super) fn words(&self) -> impl Iterator<Item = usize> {
        self.values.iter().map(|(.., word)| *word)
    }
}

/// A command that was understood.
#[derive(Clone, Debug)]
pub(super) struct Match {
    pub(super) rule: &'static Rule,
    pub(super) undo: bool,
    pub(super) args: Args,
}

/// A command that was not.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) cause: Cause,
}

/// How far the parser got.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// It is a command, said wrongly; the view that it would have entered.
    Wrong(Option<ViewKind>),
    /// It is a command of another view.
    Elsewhere(ViewKind),
    /// It is no command, but may be meant as one that enters this view, or one that enters none.
    Misspelt(Option<ViewKind>),
    /// It is no command.
    Unknown,
}

/// Finds the command that the line is: in the first of the views (innermost first) that knows it.
///
/// With `abbreviate`, a keyword may be cut as long as one keyword alone begins so; the whole keyword of a view further out goes
/// before the cut one of a view further in.
pub(super) fn find(views: &[Context], line: &Line, abbreviate: bool) -> Result<Match, Failure> {
    let heads = if abbreviate { &[Head::Whole, Head::Cut][..] } else { &[Head::Whole] };
    for head in heads {
        for view in views {
            // Cheap, and the answer for most views: a file of nonsense is refused quickly.
            if *head == Head::Whole && !knows(view.kind, line) {
                continue;
            }
            match walk(*view, line, *head, abbreviate) {
                Ok(found) => return Ok(found),
                Err(stop) if stop.known => {
                    let Stop { mut fault, enters, .. } = stop;
                    if let Some(right) = in_other_order(*view, line, *head, abbreviate) {
                        fault.message = format!("the address comes last: `{right}`");
                    }
                    return Err(Failure { fault, cause: Cause::Wrong(enters) });
                }
                Err(_) => {}
            }
        }
    }
    Err(unknown(views, line, abbreviate))
}

/// Says how the words of a line that is refused are a command, if an address alone has to go to the
/// end: `connect-interface 10.8.0.1 eth1`.
fn in_other_order(view: Context, line: &Line, head: Head, abbreviate: bool) -> Option<String> {
    /// The words of the longest `connect-interface`, behind `undo peer ADDRESS`.
    const LONGEST: usize = 7;
    let words: Vec<&str> = line.words().collect();
    if line.has_secrets() || words.len() > LONGEST {
        return None;
    }
    (1..words.len().saturating_sub(1)).find_map(|at| {
        let mut moved = words.clone();
        let last = moved.remove(at);
        moved.push(last);
        let text = moved.join(" ");
        let found = walk(view, &Line::new(line.number(), &text).ok()?, head, abbreviate).ok()?;
        // Of words that may be anything every order is one.
        let is_address = found.args.values.last().is_some_and(|(_, value, _)| matches!(value, Value::Address(_)));
        is_address.then_some(text)
    })
}

/// Whether the first word is the whole keyword of a command of the view; `undo` may be.
fn knows(kind: ViewKind, line: &Line) -> bool {
    let first = line.words().next().unwrap_or_default();
    first == "undo" || RULES.iter().any(|rule| rule.views.contains(&kind) && rule.keyword() == first)
}

/// How the keyword that names the command may be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Whole,
    Cut,
}

/// A command that may still be meant.
#[derive(Clone)]
struct State {
    rule: &'static Rule,
    undo: bool,
    position: Position,
    args: Args,
}

struct Stop {
    fault: Fault,
    /// The view knows a command of this name.
    known: bool,
    enters: Option<ViewKind>,
}

/// All commands that a view knows, before their first word.
fn commands(kind: ViewKind) -> impl Iterator<Item = State> {
    let state = |rule, undo, position| State { rule, undo, position, args: Args::default() };
    RULES.iter().filter(move |rule| rule.views.contains(&kind)).flat_map(move |rule| {
        let undo = rule.undo.map(|undone| state(*rule, true, Position::before(&[UNDO, undone])));
        std::iter::once(state(*rule, false, Position::before(&[rule.syntax]))).chain(undo)
    })
}

fn walk(view: Context, line: &Line, head: Head, abbreviate: bool) -> Result<Match, Stop> {
    let mut states: Vec<State> = commands(view.kind).collect();
    for (number, word) in line.words().enumerate() {
        states = step(&states, view, number, word, head, abbreviate)?;
    }
    let end = line.words().count();
    match states.iter().position(|state| state.position.next().1) {
        Some(at) => {
            let State { rule, undo, mut args, .. } = states.swap_remove(at);
            args.end = end;
            Ok(Match { rule, undo, args })
        }
        None => {
            let message = format!("the command is not complete: {}", expected(&options(&states)));
            let enters = states.iter().find_map(|state| if state.undo { None } else { state.rule.enters });
            Err(Stop { fault: Fault { word: end, message }, known: !is_head(end, &states), enters })
        }
    }
}

/// The commands that may still be meant once one more word is there.
fn step(
    states: &[State],
    view: Context,
    number: usize,
    word: &str,
    head: Head,
    abbreviate: bool,
) -> Result<Vec<State>, Stop> {
    let in_head = is_head(number, states);
    let stop = |message, known| {
        let enters = states.iter().find_map(|state| if state.undo { None } else { state.rule.enters });
        Stop { fault: Fault { word: number, message }, known, enters: if in_head { None } else { enters } }
    };
    if number == WORDS_MAX {
        return Err(stop(format!("a command has at most {WORDS_MAX} words"), true));
    }
    let cut = abbreviate && !(in_head && head == Head::Whole);
    let options = options(states);
    match choose(&options, word, cut) {
        Ok(chosen) => {
            // A word that is too long for one of the forms may be right for another.
            let accepted = chosen.into_iter().map(|(token, state)| accept(token, state, view, number, word));
            let (accepted, refused): (Vec<_>, Vec<_>) = accepted.partition(Result::is_ok);
            match refused.into_iter().find_map(Result::err) {
                Some(message) if accepted.is_empty() => Err(stop(message, true)),
                _ => Ok(accepted.into_iter().flatten().collect()),
            }
        }
        Err(Choice::Ambiguous(message)) => Err(stop(message, true)),
        Err(Choice::None(message)) => Err(stop(message, !in_head)),
    }
}

/// What may come behind the words that are there: in the innermost view that understands them. A keyword may be cut. Also whether
/// the command may end there. Without any words the commands are those of the innermost view alone.
pub(super) fn next(views: &[Context], words: &[&str]) -> Result<(Vec<&'static Syntax>, bool), Fault> {
    let views = if words.is_empty() { views.get(..1).unwrap_or_default() } else { views };
    let mut refused = None;
    for head in [Head::Whole, Head::Cut] {
        for view in views {
            let begin: Vec<State> = commands(view.kind).collect();
            let after = words
                .iter()
                .enumerate()
                .try_fold(begin, |states, (number, word)| step(&states, *view, number, word, head, true));
            match after {
                Ok(states) => {
                    let end = states.iter().any(|state| state.position.next().1);
                    return Ok((options(&states).into_iter().map(|(token, _)| token).collect(), end));
                }
                Err(stop) if stop.known => return Err(stop.fault),
                Err(stop) => refused = refused.or(Some(stop.fault)),
            }
        }
    }
    Err(refused.unwrap_or_else(|| Fault { word: 0, message: "there are no commands here".to_owned() }))
}

/// The numbers of the words that are secrets, or stand where one is expected, as far as the line is understood.
pub(super) fn secrets(views: &[Context], line: &Line, abbreviate: bool) -> Vec<usize> {
    const KEYWORD: &str = "password";
    let may_be_keyword = |word: &str| !word.is_empty() && KEYWORD.starts_with(word);
    // Nearly every line: it need not be read once more.
    if !line.words().skip(1).any(may_be_keyword) {
        return Vec::new();
    }
    let end = line.words().count();
    let mut secrets = Vec::new();
    for head in [Head::Whole, Head::Cut] {
        for view in views {
            let mut states: Vec<State> = commands(view.kind).collect();
            for (number, word) in line.words().enumerate() {
                let options = options(&states);
                let may = |wanted: &dyn Fn(&Syntax) -> bool| options.iter().any(|(token, _)| wanted(token));
                if may(&|token| matches!(token, Syntax::Value(Kind::Password, _))) {
                    secrets.push(number);
                }
                match step(&states, *view, number, word, head, abbreviate) {
                    Ok(next) => states = next,
                    Err(_) => {
                        // Cut so short that it may be another keyword too.
                        if may_be_keyword(word) && may(&|token| matches!(token, Syntax::Word(KEYWORD, _))) {
                            secrets.extend(number + 1..end);
                        }
                        break;
                    }
                }
            }
        }
    }
    secrets
}

/// Whether the word of this number is the one that names the command: the first, or the one after `undo`.
fn is_head(number: usize, states: &[State]) -> bool {
    number == 0 || (number == 1 && states.iter().all(|state| state.undo))
}

type Options<'a> = Vec<(&'static Syntax, State)>;

/// What may come next.
fn options(states: &[State]) -> Options<'_> {
    let after = |state: &State| {
        let (next, _) = state.position.next();
        next.into_iter().map(|(token, position)| (token, State { position, ..state.clone() })).collect::<Vec<_>>()
    };
    states.iter().flat_map(after).collect()
}

enum Choice {
    None(String),
    Ambiguous(String),
}

/// How many letters of a keyword there have to be: so many that the one which everybody cuts is never meant by it.
fn least(keyword: &str) -> usize {
    // `conn eth1` is `connect-interface eth1`.
    if keyword == "connect-retry" { "connect-r".len() } else { 1 }
}

/// Which of the options the word is: a whole keyword goes before a cut one, and that before an argument.
fn choose<'a>(options: &'a Options<'_>, word: &str, cut: bool) -> Result<Vec<&'a (&'static Syntax, State)>, Choice> {
    let pick = |wanted: &dyn Fn(&Syntax) -> bool| options.iter().filter(|option| wanted(option.0)).collect::<Vec<_>>();
    let whole = pick(&|token| matches!(token, Syntax::Word(keyword, _) if *keyword == word));
    if !whole.is_empty() {
        return Ok(whole);
    }
    if cut && !word.is_empty() {
        let is_begun = |keyword: &str| keyword.starts_with(word) && word.len() >= least(keyword);
        let begun = pick(&|token| matches!(token, Syntax::Word(keyword, _) if is_begun(keyword)));
        let keywords = keywords(begun.iter().map(|option| option.0));
        if keywords.len() > 1 {
            return Err(Choice::Ambiguous(format!("{} may be {}", quoted(word), alternatives(&keywords))));
        }
        if !begun.is_empty() {
            return Ok(begun);
        }
    }
    let arguments = pick(&|token| matches!(token, Syntax::Value(kind, _) if kind.fits(word)));
    if !arguments.is_empty() {
        return Ok(arguments);
    }
    // An argument must stand here: what is wrong with the word is for its kind to say.
    let arguments = pick(&|token| matches!(token, Syntax::Value(..)));
    if !arguments.is_empty() && arguments.len() == options.len() {
        return Ok(arguments);
    }
    let message = if options.is_empty() {
        format!("the command ends before {}", quoted(word))
    } else {
        let near = meant(&near(word, keywords(options.iter().map(|option| option.0)), cut));
        let near = near.map(|near| format!(" ({near})")).unwrap_or_default();
        format!("{} is not understood here{near}: {}", quoted(word), expected(options))
    };
    Err(Choice::None(message))
}

fn accept(token: &'static Syntax, state: &State, view: Context, number: usize, word: &str) -> Result<State, String> {
    let mut state = state.clone();
    match token {
        Syntax::Word(keyword, _) => state.args.keywords.push(keyword),
        Syntax::Value(kind, _) => {
            // Whose source an address is to be: that of the view's station, or of the peer that the command is about.
            let far_end = view.station.or_else(|| state.args.address(Kind::Peer));
            state.args.values.push((*kind, kind.read(word, far_end)?, number));
        }
        Syntax::Optional(_) | Syntax::Choice(_) => {}
    }
    Ok(state)
}

/// "expected ...", from the grammar.
fn expected(options: &Options<'_>) -> String {
    let mut all = Vec::new();
    for (token, _) in options {
        let one = match token {
            Syntax::Word(keyword, help) => format!("`{keyword}` ({help})"),
            Syntax::Value(_, help) => (*help).to_owned(),
            Syntax::Optional(_) | Syntax::Choice(_) => continue,
        };
        if !all.contains(&one) {
            all.push(one);
        }
    }
    format!("expected {}", all.join(" or "))
}

fn keywords(tokens: impl Iterator<Item = &'static Syntax>) -> Vec<&'static str> {
    let mut keywords = Vec::new();
    for token in tokens {
        if let Syntax::Word(keyword, _) = token
            && !keywords.contains(keyword)
        {
            keywords.push(*keyword);
        }
    }
    keywords
}

fn alternatives(keywords: &[&str]) -> String {
    keywords.iter().map(|keyword| format!("`{keyword}`")).collect::<Vec<_>>().join(" or ")
}

/// Says what may be meant by a command that none of the views knows.
fn unknown(views: &[Context], line: &Line, abbreviate: bool) -> Failure {
    let rules_of = |kind| RULES.iter().filter(move |rule| rule.views.contains(&kind));
    let begins =
        |first: &str| views.iter().flat_map(|view| rules_of(view.kind)).any(|rule| rule.keyword().starts_with(first));
    let undo = line
        .words()
        .next()
        .is_some_and(|first| first == "undo" || (abbreviate && "undo".starts_with(first) && !begins(first)));
    let number = usize::from(undo);
    let Some(word) = line.words().nth(number) else {
        let message = "the command is not complete: expected what is to be undone".to_owned();
        return Failure { fault: Fault { word: number, message }, cause: Cause::Unknown };
    };
    let failure = |message, cause| Failure { fault: Fault { word: number, message }, cause };
    let heads = |kind| rules_of(kind).filter(move |rule| !undo || rule.undo.is_some());
    let elsewhere = ViewKind::ALL.iter().find(|kind| heads(**kind).any(|rule| rule.keyword() == word));
    if let (Some(kind), false) = (elsewhere, views.iter().any(|view| Some(&view.kind) == elsewhere)) {
        let message = format!("{} is a command of the {} view", quoted(word), kind.name());
        return failure(message, Cause::Elsewhere(*kind));
    }
    let rules = || views.iter().flat_map(|view| heads(view.kind));
    if !abbreviate && let Some(rule) = rules().find(|rule| rule.keyword().starts_with(word)) {
        let message = format!("unknown command {}: in full, `{}`?", quoted(word), rule.keyword());
        return failure(message, Cause::Misspelt(if undo { None } else { rule.enters }));
    }
    let near = near(word, rules().map(|rule| rule.keyword()), abbreviate);
    let message = match meant(&near) {
        Some(meant) => format!("unknown command {}: {meant}", quoted(word)),
        None => format!("unknown command {}", quoted(word)),
    };
    // One in four letters: `bgp` is no `bmp`.
    let slips = (word.chars().count() / 4).min(2);
    let plain = near.first().filter(|nearest| strsim::damerau_levenshtein(nearest, word) <= slips);
    match plain.and_then(|nearest| rules().find(|rule| rule.keyword() == *nearest)) {
        Some(rule) => failure(message, Cause::Misspelt(if undo { None } else { rule.enters })),
        None => failure(message, Cause::Unknown),
    }
}

/// The keywords that the word may be meant as, nearest first: none where all are plainly different. With `cut` a keyword may be
/// cut, and is compared as far as the word goes.
pub(super) fn near(word: &str, keywords: impl IntoIterator<Item = &'static str>, cut: bool) -> Vec<&'static str> {
    /// So many are named.
    const MOST: usize = 3;
    let length = word.chars().count();
    let slips = match length {
        0 | 1 => return Vec::new(),
        2..=5 => 1,
        _ => (length / 3).min(3),
    };
    let distance = |keyword: &str| {
        let whole = strsim::damerau_levenshtein(keyword, word);
        if !cut || length < 3 {
            return whole;
        }
        let begun = |length: usize| keyword.chars().take(length).collect::<String>();
        let begins = (length - 1..=length + 1).map(|length| strsim::damerau_levenshtein(&begun(length), word));
        begins.fold(whole, usize::min)
    };
    let mut near: Vec<_> = keywords.into_iter().map(|keyword| (distance(keyword), keyword)).collect();
    near.retain(|(distance, _)| *distance <= slips);
    near.sort();
    near.dedup();
    near.into_iter().map(|(_, keyword)| keyword).take(MOST).collect()
}

/// "did you mean ...?", or nothing.
fn meant(near: &[&str]) -> Option<String> {
    (!near.is_empty()).then(|| format!("did you mean {}?", alternatives(near)))
}

/// The keywords that name the commands of these views.
pub(super) fn heads(views: &[Context]) -> impl Iterator<Item = &'static str> {
    views.iter().flat_map(|view| RULES.iter().filter(|rule| rule.views.contains(&view.kind))).map(|rule| rule.keyword())
}
