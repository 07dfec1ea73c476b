//! Commands one after another, with nobody to ask.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use bmp_user::{
    control::{Client, Mode, Origin, Outcome, Request},
    escape::{escaped_lines, json_for_terminal},
};

/// How it went.
pub(crate) enum Ended {
    /// Everything was carried out.
    Well,
    /// Everything was carried out, and a `display` has found that the kernel's enforcement is lost.
    Lost,
    /// A command was refused, and nothing after it was carried out.
    Refused,
}

/// A command and where it comes from.
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) origin: Option<Origin>,
}

/// The lines of a file; `-` is standard input.
pub(crate) fn read(file: &Path) -> io::Result<impl Iterator<Item = io::Result<Line>>> {
    let standard = file == Path::new("-");
    let reader: Box<dyn BufRead> =
        if standard { Box::new(io::stdin().lock()) } else { Box::new(BufReader::new(File::open(file)?)) };
    let name = if standard { "<stdin>".to_owned() } else { file.display().to_string() };
    let numbered = reader.lines().enumerate();
    Ok(numbered.map(move |(before, text)| {
        text.map(|text| Line { text, origin: Some(Origin { file: name.clone(), line: before + 1 }) })
    }))
}

/// Carries them out up to the first that is refused.
pub(crate) fn run(
    client: &mut Client,
    lines: impl Iterator<Item = io::Result<Line>>,
    json: bool,
) -> anyhow::Result<Ended> {
    let mut pending = false;
    let mut ended = Ended::Well;
    for line in lines {
        let Line { text, origin } = line?;
        let response = client.ask(&Request { command: text, json, mode: Mode::Run, origin, follow: false })?;
        pending = response.pending;
        if let Some(lost) = response.lost {
            writeln!(io::stderr(), "Warning: {lost}.")?;
            ended = Ended::Lost;
        }
        match response.outcome {
            Outcome::Done(answer) if json => io::stdout().write_all(json_for_terminal(&answer).as_bytes())?,
            Outcome::Done(answer) => write!(io::stdout(), "{}", escaped_lines(&answer))?,
            Outcome::Refused(why) => {
                writeln!(io::stderr(), "{}", escaped_lines(why.trim_end()))?;
                ended = Ended::Refused;
                break;
            }
            Outcome::Left(_) => break,
            // Asked for by no request of this kind.
            Outcome::Question(_) | Outcome::Words(_) | Outcome::Notice(_) => {}
        }
    }
    if pending {
        writeln!(io::stderr(), "Warning: changes were not committed, and are gone.")?;
    }
    Ok(ended)
}
