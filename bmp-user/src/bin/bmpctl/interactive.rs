//! An operator at a terminal: line editing, history, completion, and help at `?`.

use std::{
    cell::RefCell,
    env,
    io::{self, Write},
    path::PathBuf,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use bmp_user::control::{Client, Mode, Outcome, Request};
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler, Helper, KeyEvent,
    RepeatCount,
    completion::{Completer, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::FileHistory,
    validate::Validator,
};

use crate::script::Ended;

/// How many lines are remembered.
const HISTORY: usize = 1000;

/// Where the cursor was when `?` was typed, in bytes.
type Asked = Arc<Mutex<Option<usize>>>;

/// Talks until the operator leaves.
pub(crate) fn run(client: Client) -> anyhow::Result<Ended> {
    let client = Rc::new(RefCell::new(client));
    let config = Config::builder().max_history_size(HISTORY)?.auto_add_history(false).build();
    let mut editor = Editor::<Words, FileHistory>::with_config(config)?;
    editor.set_helper(Some(Words { client: Rc::clone(&client) }));
    let asked = Asked::default();
    let question_mark = QuestionMark { asked: Arc::clone(&asked) };
    editor.bind_sequence(KeyEvent::from('?'), EventHandler::Conditional(Box::new(question_mark)));
    let history = env::var_os("HOME").map(|home| PathBuf::from(home).join(".bmpctl_history"));
    if let Some(history) = &history {
        // There is none at first, and history is a convenience: without it everything else works.
        let _ = editor.load_history(history);
    }
    let ended = converse(&client, &mut editor, &asked);
    if let Some(history) = &history {
        let _ = editor.append_history(history);
    }
    ended
}

fn converse(
    client: &RefCell<Client>,
    editor: &mut Editor<Words, FileHistory>,
    asked: &Mutex<Option<usize>>,
) -> anyhow::Result<Ended> {
    let ask = |command: &str, mode| {
        client.borrow_mut().ask(&Request { command: command.to_owned(), mode, ..Request::default() })
    };
    let mut prompt = ask("", Mode::Run)?.prompt;
    let mut begun = (String::new(), String::new());
    loop {
        let line = editor.readline_with_initial(&prompt, (&begun.0, &begun.1));
        let question = asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        begun = Default::default();
        let mut leaving = false;
        let command = match line {
            Ok(line) => match question.and_then(|at| line.split_at_checked(at)) {
                Some((before, after)) => {
                    match ask(before, Mode::Help)?.outcome {
                        Outcome::Done(text) => io::stdout().write_all(text.as_bytes())?,
                        Outcome::Refused(why) => writeln!(io::stdout(), "{}", why.trim_end())?,
                        _ => {}
                    }
                    begun = (before.to_owned(), after.to_owned());
                    continue;
                }
                None => line,
            },
            // The line is given up.
            Err(ReadlineError::Interrupted) => continue,
            // The terminal is: as by `return`, then `quit`.
            Err(ReadlineError::Eof) => {
                leaving = true;
                "return".to_owned()
            }
            Err(error) => return Err(error.into()),
        };
        if !leaving && !command.trim().is_empty() {
            editor.add_history_entry(command.trim())?;
        }
        let mut response = ask(&command, Mode::Interactive)?;
        while let Outcome::Question(question) = &response.outcome {
            let answer = match editor.readline(question) {
                Ok(answer) => answer,
                Err(ReadlineError::Interrupted) => "c".to_owned(),
                // Nobody is there to say that it should be committed.
                Err(ReadlineError::Eof) => "n".to_owned(),
                Err(error) => return Err(error.into()),
            };
            response = ask(&answer, Mode::Interactive)?;
        }
        prompt = response.prompt;
        match response.outcome {
            Outcome::Done(answer) | Outcome::Refused(answer) => {
                if !answer.is_empty() {
                    writeln!(io::stdout(), "{}", answer.trim_end())?;
                }
                // In the user view nothing keeps a terminal that is gone.
                if leaving && prompt.starts_with('<') {
                    return Ok(Ended::Well);
                }
            }
            Outcome::Left(_) => return Ok(Ended::Well),
            Outcome::Question(_) | Outcome::Words(_) => {}
        }
    }
}

/// Takes a `?` out of the line and ends it there, for the answer to be printed below.
struct QuestionMark {
    asked: Asked,
}

impl ConditionalEventHandler for QuestionMark {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.pos());
        Some(Cmd::AcceptLine)
    }
}

/// Completion by what bmpd says may come next.
struct Words {
    client: Rc<RefCell<Client>>,
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = line.get(..at).unwrap_or(line);
        let begins = before.rfind([' ', '\t']).map_or(0, |blank| blank + 1);
        let request = Request { command: before.to_owned(), mode: Mode::Complete, ..Request::default() };
        let words = match self.client.borrow_mut().ask(&request).map(|response| response.outcome) {
            Ok(Outcome::Words(words)) => words,
            // That the connection is lost is told when the line is sent.
            _ => Vec::new(),
        };
        let pair = |word: String| Pair { replacement: format!("{word} "), display: word };
        Ok((begins, words.into_iter().map(pair).collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}
