//! Matches the words of a line with the commands that a view knows, and with those of the views
//! around it.

use super::{
    outcome::{Misfit, Mismatch, RuleMatch, ViewContext, WrongWord},
    rule::{Rule, UNDO, rules_of},
    suggestion::{keywords, meant, near, quoted_list, unknown},
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        line::{Line, quoted},
        syntax::{NextPieces, Syntax, SyntaxPosition, help_of},
        token::{ArgumentTokens, Token},
        value::ArgumentValue,
    },
    view::ViewKind,
};

/// The most words that a command can have: far more than any needs.
const WORDS_MAX: usize = 256;

/// Finds the command of a line, in the first of the views (innermost first) that knows it.
///
/// With `abbreviate`, a keyword may be cut as long as one keyword alone begins so. The whole
/// keyword of an outer view goes before the cut one of an inner view.
///
/// # Errors
///
/// The line is no command of these views.
pub(in crate::config) fn find(views: &[ViewContext], line: &Line, abbreviate: bool) -> Result<RuleMatch, Mismatch> {
    let spellings = if abbreviate { &[Spelling::Whole, Spelling::Cut][..] } else { &[Spelling::Whole] };
    for spelling in spellings {
        for view in views {
            // Cheap, and the answer for most views: a file of nonsense is refused quickly.
            if *spelling == Spelling::Whole && !knows(view.kind, line, abbreviate) {
                continue;
            }
            match walk(*view, line, *spelling, abbreviate) {
                Ok(found) => return Ok(found),
                Err(stop) if stop.known => {
                    let DeadEnd { mut wrong, enters, .. } = stop;
                    if let Some(right) = in_other_order(*view, line, *spelling, abbreviate) {
                        wrong.message = format!("the address comes last: `{right}`");
                    }
                    return Err(Mismatch { wrong, misfit: Misfit::Wrong(enters) });
                }
                Err(_) => {}
            }
        }
    }
    Err(unknown(views, line, abbreviate))
}

/// Returns the words in the order in which they are a command, if an address alone has to go to the
/// end: `connect-interface 10.8.0.1 eth1`.
fn in_other_order(view: ViewContext, line: &Line, spelling: Spelling, abbreviate: bool) -> Option<String> {
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
        let found = walk(view, &Line::new(line.number(), &text).ok()?, spelling, abbreviate).ok()?;
        // Words that may be anything are a command in every order.
        let is_address = matches!(found.tokens.last(), Some(Token::Argument(_, ArgumentValue::Address(_))));
        is_address.then_some(text)
    })
}

/// Decides whether the first word is the whole keyword of a command of the view; `undo` may be.
fn knows(kind: ViewKind, line: &Line, any_case: bool) -> bool {
    let first = line.words().next().unwrap_or_default();
    let is = |keyword: &str| keyword == first || any_case && keyword.eq_ignore_ascii_case(first);
    is(UNDO) || rules_of(kind).any(|rule| is(rule.keyword()))
}

/// How the keyword that names the command may be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Whole,
    Cut,
}

/// A command that may still be meant.
#[derive(Clone)]
struct CommandPrefix {
    rule: Rule,
    undo: bool,
    position: SyntaxPosition,
    tokens: Vec<Token>,
}

/// Where no command goes on.
struct DeadEnd {
    wrong: WrongWord,
    /// The view knows a command of this name.
    known: bool,
    enters: Option<ViewKind>,
}

/// Returns all commands that a view knows, before their first word.
fn commands(kind: ViewKind) -> impl Iterator<Item = CommandPrefix> {
    let prefix = |rule, undo, position| CommandPrefix { rule, undo, position, tokens: Vec::new() };
    rules_of(kind).flat_map(move |rule| {
        let undo = rule.begin_undo().map(|position| prefix(rule, true, position));
        std::iter::once(prefix(rule, false, rule.begin())).chain(undo)
    })
}

/// Returns the view that one of the commands enters, unless it is to be undone.
fn entered(prefixes: &[CommandPrefix]) -> Option<ViewKind> {
    prefixes.iter().filter(|prefix| !prefix.undo).find_map(|prefix| prefix.rule.enters())
}

fn walk(view: ViewContext, line: &Line, spelling: Spelling, abbreviate: bool) -> Result<RuleMatch, DeadEnd> {
    let mut prefixes: Vec<_> = commands(view.kind).collect();
    for (number, word) in line.words().enumerate() {
        prefixes = step(&prefixes, view, number, word, spelling, abbreviate)?;
    }
    match prefixes.iter().position(|prefix| prefix.position.next().end) {
        Some(at) => {
            let CommandPrefix { rule, undo, tokens, .. } = prefixes.swap_remove(at);
            Ok(RuleMatch { rule, undo, tokens })
        }
        None => {
            let word = line.words().count();
            let message = format!("the command is not complete: {}", expected(&options(&prefixes)));
            let known = !is_name(word, &prefixes);
            Err(DeadEnd { wrong: WrongWord { word, message }, known, enters: entered(&prefixes) })
        }
    }
}

/// Returns the commands that may still be meant once one more word is there.
fn step(
    prefixes: &[CommandPrefix],
    view: ViewContext,
    number: usize,
    word: &str,
    spelling: Spelling,
    abbreviate: bool,
) -> Result<Vec<CommandPrefix>, DeadEnd> {
    let in_name = is_name(number, prefixes);
    let dead_end = |message, known| DeadEnd {
        wrong: WrongWord { word: number, message },
        known,
        enters: if in_name { None } else { entered(prefixes) },
    };
    if number == WORDS_MAX {
        return Err(dead_end(format!("a command has at most {WORDS_MAX} words"), true));
    }
    let may_be_cut = abbreviate && !(in_name && spelling == Spelling::Whole);
    match choose(&options(prefixes), word, may_be_cut, abbreviate) {
        Ok(chosen) => {
            // A word that is too long for one of the forms may be right for another.
            let accepted = chosen.into_iter().map(|option| accept(option, view, word));
            let (accepted, refused): (Vec<_>, Vec<_>) = accepted.partition(Result::is_ok);
            match refused.into_iter().find_map(Result::err) {
                Some(message) if accepted.is_empty() => Err(dead_end(message, true)),
                _ => Ok(accepted.into_iter().flatten().collect()),
            }
        }
        Err(NoChoice::Ambiguous(message)) => Err(dead_end(message, true)),
        Err(NoChoice::NoMatch(message)) => Err(dead_end(message, !in_name)),
    }
}

/// Returns what may come behind words, in the innermost view that understands them. A keyword may
/// be cut. Without any words the commands are those of the innermost view alone.
///
/// # Errors
///
/// None of the views understands the words.
pub(in crate::config) fn next(
    views: &[ViewContext],
    words: &[&str],
) -> Result<(Vec<&'static Syntax>, bool), WrongWord> {
    let views = if words.is_empty() { views.get(..1).unwrap_or_default() } else { views };
    let mut refused = None;
    for spelling in [Spelling::Whole, Spelling::Cut] {
        for view in views {
            let begin: Vec<_> = commands(view.kind).collect();
            let after = words
                .iter()
                .enumerate()
                .try_fold(begin, |prefixes, (number, word)| step(&prefixes, *view, number, word, spelling, true));
            match after {
                Ok(prefixes) => {
                    let end = prefixes.iter().any(|prefix| prefix.position.next().end);
                    return Ok((options(&prefixes).into_iter().map(|option| option.piece).collect(), end));
                }
                Err(stop) if stop.known => return Err(stop.wrong),
                Err(stop) => refused = refused.or(Some(stop.wrong)),
            }
        }
    }
    Err(refused.unwrap_or_else(|| WrongWord { word: 0, message: "there are no commands here".to_owned() }))
}

/// Returns the numbers of the words that are secrets, or stand where a secret is expected, as far
/// as the line is understood.
pub(in crate::config) fn secrets(views: &[ViewContext], line: &Line, abbreviate: bool) -> Vec<usize> {
    const KEYWORDS: [&str; 2] = ["password", "key-string"];
    let may_be = |keyword: &str, word: &str| {
        !word.is_empty() && keyword.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
    };
    let may_be_keyword = |word: &str| KEYWORDS.iter().any(|keyword| may_be(keyword, word));
    // True of nearly every line, which need not be read once more then. No command begins with
    // `password`, and `key-string` is the first word or the one behind `undo`.
    let [password, key_string] = KEYWORDS;
    let begins_so = line.words().take(2).any(|word| may_be(key_string, word));
    if !begins_so && !line.words().skip(1).any(|word| may_be(password, word)) {
        return Vec::new();
    }
    let end = line.words().count();
    let mut secrets = Vec::new();
    for spelling in [Spelling::Whole, Spelling::Cut] {
        for view in views {
            let mut prefixes: Vec<_> = commands(view.kind).collect();
            for (number, word) in line.words().enumerate() {
                let options = options(&prefixes);
                let may_stand = |wanted: &dyn Fn(&Syntax) -> bool| options.iter().any(|option| wanted(option.piece));
                let is_secret = |kind: &ArgumentKind| matches!(kind, ArgumentKind::Password | ArgumentKind::Sealed);
                let is_place = may_stand(&|piece| matches!(piece, Syntax::Value(kind, _) if is_secret(kind)));
                match step(&prefixes, *view, number, word, spelling, abbreviate) {
                    Ok(next) => {
                        // `cipher` and `simple` stand there too.
                        let is_keyword =
                            |prefix: &CommandPrefix| matches!(prefix.tokens.last(), Some(Token::Keyword(_)));
                        if is_place && !next.iter().all(is_keyword) {
                            secrets.push(number);
                        }
                        prefixes = next;
                    }
                    Err(_) => {
                        if is_place {
                            secrets.push(number);
                        }
                        // Cut so short that it may be another keyword too.
                        let is_keyword =
                            |piece: &Syntax| matches!(piece, Syntax::Word(word, _) if KEYWORDS.contains(word));
                        if may_be_keyword(word) && may_stand(&is_keyword) {
                            secrets.extend(number + 1..end);
                        }
                        // `k hunter3`, typed in the view around that of the key.
                        if number > 0 && begins_so && view.kind == ViewKind::Keychain {
                            secrets.extend(number..end);
                        }
                        break;
                    }
                }
            }
        }
    }
    secrets
}

/// Decides whether the word of this number names the command: the first, or the one after `undo`.
fn is_name(number: usize, prefixes: &[CommandPrefix]) -> bool {
    number == 0 || (number == 1 && prefixes.iter().all(|prefix| prefix.undo))
}

/// A keyword or argument that may come next, and the command that it belongs to.
struct NextOption {
    piece: &'static Syntax,
    /// The command behind it.
    prefix: CommandPrefix,
}

/// Returns what may come next.
fn options(prefixes: &[CommandPrefix]) -> Vec<NextOption> {
    let after = |prefix: &CommandPrefix| {
        let NextPieces { pieces, .. } = prefix.position.next();
        let option = |(piece, position)| NextOption { piece, prefix: CommandPrefix { position, ..prefix.clone() } };
        pieces.into_iter().map(option).collect::<Vec<_>>()
    };
    prefixes.iter().flat_map(after).collect()
}

/// Why no option is chosen.
enum NoChoice {
    NoMatch(String),
    Ambiguous(String),
}

/// Chooses the options that a word is: a whole keyword goes before a cut one, that before an
/// argument, and that before a keyword in capitals. Names keep their case.
fn choose<'a>(
    options: &'a [NextOption],
    word: &str,
    may_be_cut: bool,
    any_case: bool,
) -> Result<Vec<&'a NextOption>, NoChoice> {
    let pick =
        |wanted: &dyn Fn(&NextOption) -> bool| options.iter().filter(|option| wanted(option)).collect::<Vec<_>>();
    let begun = choose_keyword(options, word, may_be_cut)?;
    if !begun.is_empty() {
        return Ok(begun);
    }
    let fitting = pick(&|option| matches!(option.piece, Syntax::Value(kind, _) if kind.fits(word)));
    if !fitting.is_empty() {
        return Ok(fitting);
    }
    if any_case && word.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let begun = choose_keyword(options, &word.to_ascii_lowercase(), may_be_cut)?;
        if !begun.is_empty() {
            return Ok(begun);
        }
    }
    // An argument must stand here. What is wrong with the word is for its kind to say.
    let arguments = pick(&|option| matches!(option.piece, Syntax::Value(..)));
    if !arguments.is_empty() && arguments.len() == options.len() {
        return Ok(arguments);
    }
    if options.is_empty() {
        return Err(NoChoice::NoMatch(format!("the command ends before {}", quoted(word))));
    }
    let near = meant(&near(word, keywords(options.iter().map(|option| option.piece)), may_be_cut));
    let near = near.map(|near| format!(" ({near})")).unwrap_or_default();
    Err(NoChoice::NoMatch(format!("{} is not understood here{near}: {}", quoted(word), expected(options))))
}

/// Chooses the options whose keyword a word is, whole or cut.
fn choose_keyword<'a>(
    options: &'a [NextOption],
    word: &str,
    may_be_cut: bool,
) -> Result<Vec<&'a NextOption>, NoChoice> {
    let pick =
        |wanted: &dyn Fn(&NextOption) -> bool| options.iter().filter(|option| wanted(option)).collect::<Vec<_>>();
    let whole = pick(&|option| matches!(option.piece, Syntax::Word(keyword, _) if *keyword == word));
    if !whole.is_empty() || !may_be_cut || word.is_empty() {
        return Ok(whole);
    }
    let begun = pick(&|option| match option.piece {
        Syntax::Word(keyword, _) => keyword.starts_with(word) && word.len() >= option.prefix.rule.shortest(keyword),
        _ => false,
    });
    let keywords = keywords(begun.iter().map(|option| option.piece));
    if keywords.len() > 1 {
        return Err(NoChoice::Ambiguous(format!("{} may be {}", quoted(word), quoted_list(&keywords))));
    }
    Ok(begun)
}

/// Takes a word for an option.
///
/// # Errors
///
/// The word is no such argument.
fn accept(option: &NextOption, view: ViewContext, word: &str) -> Result<CommandPrefix, String> {
    let mut prefix = option.prefix.clone();
    match option.piece {
        Syntax::Word(UNDO, _) => {}
        Syntax::Word(keyword, _) => prefix.tokens.push(Token::Keyword(keyword)),
        Syntax::Value(kind, _) => {
            let far_end = view.station.or_else(|| ArgumentTokens(&prefix.tokens).address_of(ArgumentKind::Peer));
            prefix.tokens.push(Token::Argument(*kind, kind.read(word, far_end)?));
        }
        Syntax::Optional(_) | Syntax::Choice(_) => {}
    }
    Ok(prefix)
}

/// Returns `expected ...`, from the grammar.
fn expected(options: &[NextOption]) -> String {
    let mut all = Vec::new();
    for NextOption { piece, .. } in options {
        let one = match piece {
            Syntax::Word(keyword, help) => format!("`{keyword}` ({help})"),
            Syntax::Value(..) => help_of(piece).into_owned(),
            Syntax::Optional(_) | Syntax::Choice(_) => continue,
        };
        if !all.contains(&one) {
            all.push(one);
        }
    }
    format!("expected {}", all.join(" or "))
}
