//! What people have written into a configuration file beside its commands, kept when the file is written anew.

use std::collections::BTreeMap;

use super::{
    Config,
    difference::{Place, lines},
    file::read_places,
};

/// The comments of a file: lines that begin with `#` and hold more than that. A comment belongs to the line that it stands before, and goes with
/// it; those at the top of the file with a blank line or `#` behind them belong to the file, and so do those behind the last line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Comments {
    pub(super) top: Vec<String>,
    pub(super) end: Vec<String>,
    before: BTreeMap<Place, Vec<String>>,
}

impl Comments {
    /// Those of the text of a configuration file; none where it is no configuration. The file is to hold `new`.
    pub(super) fn of(text: &str, new: &Config) -> Self {
        let Some((config, places)) = read_places(text) else { return Self::default() };
        let (lines, new) = (lines(&config), lines(new));
        let mut comments = Self::default();
        let mut waiting = Vec::new();
        let mut begun = false;
        for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line).trim_start_matches([' ', '\t']).trim_end();
            let place = places.get(&(number + 1));
            begun |= place.is_some();
            match place {
                // A line that changes nothing is not printed: the comment goes on to the next that is.
                Some(place) if lines.contains_key(place) || new.contains_key(place) => {
                    comments.before.entry(place.clone()).or_default().append(&mut waiting);
                }
                Some(_) => {}
                None if line.is_empty() || line == "#" => {
                    if !begun {
                        comments.top.append(&mut waiting);
                    }
                }
                None if line.starts_with('#') => waiting.push(line.to_owned()),
                // `return`, `quit`, and what takes back.
                None => begun = true,
            }
        }
        comments.end = waiting;
        comments
    }

    /// Those that stand before the line at this place.
    pub(super) fn before(&self, place: &Place) -> &[String] {
        self.before.get(place).map(Vec::as_slice).unwrap_or_default()
    }
}
