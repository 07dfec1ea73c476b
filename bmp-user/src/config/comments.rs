//! The comments of a configuration file, kept when bmpd writes the file.

use std::collections::BTreeMap;

use super::{
    difference::{Lines, Place, lines},
    file::{Places, read_places},
    model::Config,
};

/// The comments of a file: lines that begin with `#` and have text behind it.
///
/// A comment belongs to the line behind it, and goes with that line. A comment that is indented
/// more than the line behind it, or stands before `quit`, belongs to the view that ends there.
/// Comments at the top of the file, with a blank line or `#` behind them, belong to the file. So do
/// those before `return` and behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Comments {
    pub(super) top: Vec<String>,
    /// Before `return`.
    pub(super) last: Vec<String>,
    pub(super) end: Vec<String>,
    before: BTreeMap<Place, Vec<String>>,
    /// At the end of a view.
    inside: BTreeMap<Place, Vec<String>>,
}

/// Comments whose line has not been read yet.
#[derive(Default)]
struct Waiting {
    comments: Vec<(usize, String)>,
    /// The views around, each with the indentation of the line that entered it.
    views: Vec<(usize, Place)>,
}

impl Waiting {
    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.comments).into_iter().map(|(_, comment)| comment).collect()
    }

    /// Returns the innermost view around a comment with this indentation for which `is_there`
    /// holds.
    fn view_of(&self, indent: usize, is_there: impl Fn(&Place) -> bool) -> Option<&Place> {
        let around = self.views.iter().rev().filter(|(of_view, _)| *of_view < indent);
        around.map(|(_, view)| view).find(|view| is_there(view))
    }
}

impl Comments {
    /// Reads the comments of a configuration file that will hold `new`. A text with errors has
    /// none.
    pub(super) fn of(text: &str, new: &Config) -> Self {
        let Some((config, places)) = read_places(text) else { return Self::default() };
        let (old, new) = (lines(&config), lines(new));
        let mut comments = Self::default();
        let mut waiting = Waiting::default();
        let mut begun = false;
        for (number, text) in text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').enumerate() {
            let text = text.strip_suffix('\r').unwrap_or(text);
            let line = text.trim_start_matches([' ', '\t']);
            let (indent, line) = (text.len() - line.len(), line.trim_end());
            if line.is_empty() || line == "#" {
                if !begun {
                    comments.top.append(&mut waiting.take());
                }
                continue;
            }
            if line.starts_with('#') {
                waiting.comments.push((indent, line.to_owned()));
                continue;
            }
            begun = true;
            comments.line(indent, number + 1, &mut waiting, &places, |place| is_printed(place, &old, &new));
        }
        comments.leave_views(&mut waiting, 0, |place| is_printed(place, &old, &new));
        comments.end = waiting.take();
        comments
    }

    /// Takes a line that is no comment. The pending comments belong to it, or to a view that it
    /// ends.
    fn line(
        &mut self,
        indent: usize,
        number: usize,
        waiting: &mut Waiting,
        places: &Places,
        is_printed: impl Fn(&Place) -> bool,
    ) {
        if places.end == Some(number) {
            self.leave_views(waiting, indent, is_printed);
            self.last.append(&mut waiting.take());
            return;
        }
        if let Some(view) = places.left.get(&number) {
            // A comment before `quit` is inside, whatever its indentation.
            let inside = (1..=view.len()).rev().filter_map(|depth| view.get(..depth)).map(<[_]>::to_vec);
            match inside.into_iter().find(|view| is_printed(view)) {
                Some(view) => self.inside.entry(view).or_default().append(&mut waiting.take()),
                None => self.last.append(&mut waiting.take()),
            }
        } else if let Some(place) = places.set.get(&number) {
            self.leave_views(waiting, indent, &is_printed);
            // A line that changes nothing is not printed. Its comment goes to the next printed
            // line.
            if is_printed(place) {
                self.before.entry(place.clone()).or_default().append(&mut waiting.take());
            }
        }
        if let Some(view) = places.view.get(&number) {
            let is_around = |(_, known): &(usize, Place)| view.starts_with(known);
            waiting.views.retain(is_around);
            if !view.is_empty() && waiting.views.last().is_none_or(|(_, known)| known != view) {
                waiting.views.push((indent, view.clone()));
            }
        }
    }

    /// Ends views before a line with this indentation: pending comments that are indented more
    /// belong to them.
    fn leave_views(&mut self, waiting: &mut Waiting, indent: usize, is_printed: impl Fn(&Place) -> bool) {
        let number = waiting.comments.iter().take_while(|(of_comment, _)| *of_comment > indent).count();
        let leaving: Vec<_> = waiting.comments.drain(..number).collect();
        let mut stays = Vec::new();
        for (of_comment, comment) in leaving {
            match waiting.view_of(of_comment, &is_printed) {
                // A comment with the indentation of the line that entered the view, or less, is
                // outside.
                Some(view) if stays.is_empty() => self.inside.entry(view.clone()).or_default().push(comment),
                _ => stays.push((of_comment, comment)),
            }
        }
        waiting.comments.splice(..0, stays);
    }

    /// Returns the comments before the line at this place.
    pub(super) fn before(&self, place: &Place) -> &[String] {
        self.before.get(place).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the comments at the end of the view that is entered at this place.
    pub(super) fn inside(&self, view: &Place) -> &[String] {
        self.inside.get(view).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Decides whether the file has a line at this place, or will have it.
fn is_printed(place: &Place, old: &Lines, new: &Lines) -> bool {
    old.contains_key(place) || new.contains_key(place)
}
