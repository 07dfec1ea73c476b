//! The printed form of a configuration: what `display current-configuration` answers and what a file holds.

use std::fmt;

use super::{
    Config,
    setting::{Section, sections},
};

/// The configuration as a file holds it: `#` before every view, one space of indentation a level, `return` at the end; what
/// is as by default is not there. Equal configurations print the same, and reading it back gives an equal one.
pub fn print(config: &Config) -> String {
    config.to_string()
}

/// See [`print`].
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in sections(self) {
            write_section(f, &section, 0)?;
        }
        f.write_str("#\nreturn\n")
    }
}

fn write_section(f: &mut fmt::Formatter<'_>, section: &Section, level: usize) -> fmt::Result {
    writeln!(f, "{:level$}#", "")?;
    for setting in &section.settings {
        writeln!(f, "{:level$}{}", "", setting.line())?;
    }
    let inner = level + 1;
    for setting in &section.inside {
        writeln!(f, "{:inner$}{}", "", setting.line())?;
    }
    section.sections.iter().try_for_each(|one| write_section(f, one, inner))
}
