//! What people have written into a configuration file beside its commands, kept when the file is written anew.

use std::collections::BTreeMap;

use super::{
    difference::{Lines, Place, lines},
    file::{Places, read_places},
    model::Config,
};

/// The comments of a file: lines that begin with `#` and hold more than that.
///
/// A comment belongs to the line that it stands before, and goes with it. One that is indented more than that line is the end of a view that
/// ends there, or stands before the `quit` of one: it belongs to that view, and stays at its end. Those at the top of the file with a blank
/// line or `#` behind them belong to the file, and so do those before `return` and behind it.
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

/// Comments that have been read, and not the line behind them.
#[derive(Default)]
struct Waiting {
    comments: Vec<(usize, String)>,
    /// The views that one is in: each with the indentation of the line that entered it.
    views: Vec<(usize, Place)>,
}

impl Waiting {
    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.comments).into_iter().map(|(_, comment)| comment).collect()
    }

    /// The view of those that a comment with this indentation is in, and which `is_there`.
    fn view_of(&self, indent: usize, is_there: impl Fn(&Place) -> bool) -> Option<&Place> {
        let around = self.views.iter().rev().filter(|(of_view, _)| *of_view < indent);
        around.map(|(_, view)| view).find(|view| is_there(view))
    }
}

impl Comments {
    /// Those of the text of a configuration file; none where it is no configuration. The file is to hold `new`.
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

    /// A line that is no comment: what waits belongs to it, or to a view that it ends.
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
            // Whatever its indentation, it is inside.
            let inside = (1..=view.len()).rev().filter_map(|depth| view.get(..depth)).map(<[_]>::to_vec);
            match inside.into_iter().find(|view| is_printed(view)) {
                Some(view) => self.inside.entry(view).or_default().append(&mut waiting.take()),
                None => self.last.append(&mut waiting.take()),
            }
        } else if let Some(place) = places.set.get(&number) {
            self.leave_views(waiting, indent, &is_printed);
            // A line that changes nothing is not printed: the comment goes on to the next that is.
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

    /// A line with this indentation is next: comments that are indented more are ends of views.
    fn leave_views(&mut self, waiting: &mut Waiting, indent: usize, is_printed: impl Fn(&Place) -> bool) {
        let number = waiting.comments.iter().take_while(|(of_comment, _)| *of_comment > indent).count();
        let leaving: Vec<_> = waiting.comments.drain(..number).collect();
        let mut stays = Vec::new();
        for (of_comment, comment) in leaving {
            match waiting.view_of(of_comment, &is_printed) {
                // What is indented as the line that entered the view, or less, is around it.
                Some(view) if stays.is_empty() => self.inside.entry(view.clone()).or_default().push(comment),
                _ => stays.push((of_comment, comment)),
            }
        }
        waiting.comments.splice(..0, stays);
    }

    /// Those that stand before the line at this place.
    pub(super) fn before(&self, place: &Place) -> &[String] {
        self.before.get(place).map(Vec::as_slice).unwrap_or_default()
    }

    /// Those at the end of the view that is entered at this place.
    pub(super) fn inside(&self, view: &Place) -> &[String] {
        self.inside.get(view).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Whether the file has a line at this place, or is to have it.
fn is_printed(place: &Place, old: &Lines, new: &Lines) -> bool {
    old.contains_key(place) || new.contains_key(place)
}
