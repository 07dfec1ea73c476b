//! Commands one after another, without questions.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use bmp_user::{
    control::{Client, CommandAnswer, Origin, Request, RequestMode},
    escape::{escaped_lines, json_for_terminal},
};

/// How a script has ended.
pub(crate) enum ScriptEnd {
    /// All commands were carried out.
    Done,
    /// All commands were carried out, and a `display` has found that the kernel's enforcement is
    /// lost.
    Lost,
    /// A command was refused, and none after it was carried out.
    Refused,
}

/// A command and where it comes from.
pub(crate) struct ScriptLine {
    pub(crate) text: String,
    pub(crate) origin: Option<Origin>,
}

/// Reads the lines of a file; `-` is standard input.
pub(crate) fn read(file: &Path) -> io::Result<impl Iterator<Item = io::Result<ScriptLine>>> {
    let standard = file == Path::new("-");
    let reader: Box<dyn BufRead> =
        if standard { Box::new(io::stdin().lock()) } else { Box::new(BufReader::new(File::open(file)?)) };
    let name = if standard { "<stdin>".to_owned() } else { file.display().to_string() };
    let numbered = reader.lines().enumerate();
    Ok(numbered.map(move |(before, text)| {
        text.map(|text| ScriptLine { text, origin: Some(Origin { file: name.clone(), line: before + 1 }) })
    }))
}

/// Carries out the commands up to the first that is refused.
pub(crate) fn run(
    client: &mut Client,
    lines: impl Iterator<Item = io::Result<ScriptLine>>,
    json: bool,
) -> anyhow::Result<ScriptEnd> {
    let mut pending = false;
    let mut ended = ScriptEnd::Done;
    for line in lines {
        let ScriptLine { text, origin } = line?;
        let response = client.ask(&Request { command: text, json, mode: RequestMode::Run, origin, follow: false })?;
        pending = response.pending;
        if let Some(lost) = response.lost {
            writeln!(io::stderr(), "Warning: {lost}.")?;
            ended = ScriptEnd::Lost;
        }
        match response.answer {
            CommandAnswer::Done(answer) if json => io::stdout().write_all(json_for_terminal(&answer).as_bytes())?,
            CommandAnswer::Done(answer) => write!(io::stdout(), "{}", escaped_lines(&answer))?,
            CommandAnswer::Refused(why) => {
                writeln!(io::stderr(), "{}", escaped_lines(why.trim_end()))?;
                ended = ScriptEnd::Refused;
                break;
            }
            CommandAnswer::Left(_) => break,
            // Requests of this mode have none of these answers.
            CommandAnswer::Question(_) | CommandAnswer::Words(_) | CommandAnswer::Notice(_) => {}
        }
    }
    if pending {
        writeln!(io::stderr(), "Warning: changes were not committed, and are gone.")?;
    }
    Ok(ended)
}
