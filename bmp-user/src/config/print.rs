//! The printed form of a configuration, as in `display current-configuration` and in the file.

use std::{
    fmt::{self, Write},
    iter,
};

use super::{
    comments::Comments,
    difference::{LineId, Place},
    language::secret::Secrets,
    model::Config,
    section::{Section, sections},
    settings::Setting,
};

/// Prints a configuration as its file has it, with secrets. `#` stands before every view, one space
/// of indentation a level, `return` at the end. Defaults are left out. Equal configurations print
/// the same, and reading the text gives an equal configuration.
///
/// Use [`fmt::Display`] to show a configuration to somebody.
pub fn print(config: &Config) -> String {
    print_with(config, &Comments::default())
}

/// Prints a configuration with the comments of an earlier file.
pub(super) fn print_with(config: &Config, comments: &Comments) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = Printer { out: &mut text, comments, secrets: Secrets::Written }.config(config);
    text
}

/// The form of [`print()`], with secrets masked.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer { out: f, comments: &Comments::default(), secrets: Secrets::Masked }.config(self)
    }
}

struct Printer<'a, W> {
    out: &'a mut W,
    comments: &'a Comments,
    secrets: Secrets,
}

impl<W: Write> Printer<'_, W> {
    fn config(&mut self, config: &Config) -> fmt::Result {
        self.comments(&self.comments.top, 0)?;
        for section in sections(config) {
            self.section(&section, &Place::new())?;
        }
        self.comments(&self.comments.last, 0)?;
        self.out.write_str("#\nreturn\n")?;
        self.comments(&self.comments.end, 0)
    }

    fn section(&mut self, section: &Section, around: &Place) -> fmt::Result {
        let level = around.len();
        writeln!(self.out, "{:level$}#", "")?;
        let mut view = around.clone();
        for setting in &section.settings {
            view = self.setting(setting, around)?;
        }
        for setting in &section.inside {
            self.setting(setting, &view)?;
        }
        section.sections.iter().try_for_each(|one| self.section(one, &view))?;
        self.comments(self.comments.inside(&view), view.len())
    }

    fn setting(&mut self, setting: &Setting, around: &Place) -> Result<Place, fmt::Error> {
        let level = around.len();
        let place: Place = around.iter().cloned().chain(iter::once(LineId::of(setting))).collect();
        self.comments(self.comments.before(&place), level)?;
        writeln!(self.out, "{:level$}{}", "", setting.line_with(self.secrets))?;
        Ok(place)
    }

    fn comments(&mut self, comments: &[String], level: usize) -> fmt::Result {
        comments.iter().try_for_each(|comment| writeln!(self.out, "{:level$}{comment}", ""))
    }
}
