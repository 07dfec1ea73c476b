//! The printed form of a configuration, as in `display current-configuration` and in the file.

use std::{
    fmt::{self, Write},
    iter,
};

use super::{
    comments::Comments,
    difference::{LineId, Place, place_of},
    language::secret::Secrets,
    model::Config,
    section::{Section, sections},
    settings::Setting,
    view::CommandView,
};

/// Prints a configuration as its file has it, with secrets: sealed ones as their text, others as
/// they are. `#` stands before every view, one space of indentation a level, `return` at the end.
/// Defaults are left out. Equal configurations print the same, but for the texts of sealed secrets.
/// Reading the text gives an equal configuration.
///
/// Use [`fmt::Display`] to show a configuration to somebody.
pub fn print(config: &Config) -> String {
    print_with(config, &Comments::default())
}

/// Does the same as [`print()`] with the comments of an earlier file. `None` if a secret is not
/// sealed: what bmpd keeps holds no clear secret.
pub(super) fn print_sealed(config: &Config, comments: &Comments) -> Option<String> {
    (!config.has_clear_secrets()).then(|| print_with(config, comments))
}

/// Prints a configuration with the comments of an earlier file.
pub(super) fn print_with(config: &Config, comments: &Comments) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = Printer { out: &mut text, comments, secrets: Secrets::Written }.config(config);
    text
}

/// Prints what a view configures, with secrets masked: the lines that enter it, its own lines, and
/// the views inside. Of the system view it prints the lines that enter no other. The text is that
/// of a configuration with nothing else in it. Returns `None` if the view is not configured.
pub fn print_view(config: &Config, view: &CommandView) -> Option<String> {
    let mut text = String::new();
    let mut printer = Printer { out: &mut text, comments: &Comments::default(), secrets: Secrets::Masked };
    let place = place_of(view);
    let all = sections(config);
    if place.is_empty() {
        for section in all.iter().filter(|section| !section.is_view()) {
            // Writing to a string cannot fail.
            let _ = printer.section(section, &place);
        }
    } else {
        let mut around = Place::new();
        let mut within = all.as_slice();
        for step in &place {
            let found = within.iter().find(|section| section.settings.iter().any(|line| LineId::of(line) == *step))?;
            let _ = if around.len() + 1 == place.len() {
                printer.section(found, &around)
            } else {
                printer.head(found, &around).map(|_| ())
            };
            around.push(step.clone());
            within = &found.sections;
        }
    }
    text.push_str("#\nreturn\n");
    Some(text)
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
        let view = self.head(section, around)?;
        for setting in &section.inside {
            self.setting(setting, &view)?;
        }
        section.sections.iter().try_for_each(|one| self.section(one, &view))?;
        self.comments(self.comments.inside(&view), view.len())
    }

    /// Prints the line that enters a view, and returns the place of that view.
    fn head(&mut self, section: &Section, around: &Place) -> Result<Place, fmt::Error> {
        let level = around.len();
        writeln!(self.out, "{:level$}#", "")?;
        let mut view = around.clone();
        for setting in &section.settings {
            view = self.setting(setting, around)?;
        }
        Ok(view)
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
