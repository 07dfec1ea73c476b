//! Differences between configurations, and the merge of two operators' changes, line by line.

use std::{collections::BTreeMap, fmt};

use super::{
    change,
    model::Config,
    section::{Section, sections},
    settings::{LineName, Setting, family_words, order, order_of_view},
    view::CommandView,
};

/// One line of a view, whatever it sets: its setting, by its number in the table, and its name. A
/// setting that replaces another has the place of the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineId {
    setting: usize,
    name: LineName,
}

impl LineId {
    /// Returns what identifies a line in its view.
    pub(super) fn of(setting: &Setting) -> Self {
        Self { setting: order(setting.descriptor()), name: setting.name() }
    }
}

/// Where a line stands: the lines that enter its views, outermost first, then the line itself. The
/// order is that of the table of settings.
pub(super) type Place = Vec<LineId>;

/// A configuration as lines by place.
pub(super) type Lines = BTreeMap<Place, Setting>;

/// The difference between two configurations. Its printed form has `-` lines that go and `+` lines
/// that come, below the views that they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(BTreeMap<Place, LineChange>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum LineChange {
    /// A view that both have, with a change inside.
    Around(Setting),
    Gone(Setting),
    New(Setting),
    Other {
        old: Setting,
        new: Setting,
    },
}

impl Difference {
    /// Returns the changes that make `new` of `old`.
    pub fn between(old: &Config, new: &Config) -> Self {
        Self::of(&lines(old), &lines(new), |_| true)
    }

    /// Decides whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(old: &Lines, new: &Lines, of_interest: impl Fn(&Place) -> bool) -> Self {
        let mut changes = BTreeMap::new();
        for place in old.keys().chain(new.keys()).filter(|place| of_interest(place)) {
            let change = match (old.get(place), new.get(place)) {
                (Some(old), None) => LineChange::Gone(old.clone()),
                (None, Some(new)) => LineChange::New(new.clone()),
                (Some(old), Some(new)) if old != new => LineChange::Other { old: old.clone(), new: new.clone() },
                _ => continue,
            };
            changes.insert(place.clone(), change);
            for depth in 1..place.len() {
                let view: Place = place.iter().take(depth).cloned().collect();
                if let (Some(setting), Some(_)) = (old.get(&view), new.get(&view)) {
                    changes.entry(view).or_insert_with(|| LineChange::Around(setting.clone()));
                }
            }
        }
        Self(changes)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, change) in &self.0 {
            let indent = place.len().saturating_sub(1);
            let mut line = |sign: char, setting: &Setting| writeln!(f, "{sign}{:indent$}{}", "", setting.line());
            match change {
                LineChange::Around(setting) => line(' ', setting)?,
                LineChange::Gone(setting) => line('-', setting)?,
                LineChange::New(setting) => line('+', setting)?,
                LineChange::Other { old, new } => {
                    line('-', old)?;
                    line('+', new)?;
                }
            }
        }
        Ok(())
    }
}

/// Why the changes of two operators cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Both changed the same lines, or one removed the view that the other changed. The value is
    /// what the other operator changed there.
    #[error(
        "the configuration in force has changed meanwhile, where the candidate changes it too (`clear configuration candidate` gives the \
         candidate up):\n{0}"
    )]
    Lines(Difference),
    /// The lines can be merged, but break a rule of the language together.
    #[error(
        "the configuration in force has changed meanwhile, and does not go together with the candidate: {0} (`clear configuration candidate` \
         gives the candidate up)"
    )]
    Rule(String),
}

/// Applies to `running` the changes that made `candidate` of `base`.
///
/// # Errors
///
/// `running` differs from `base` in the same lines, but in another way. Or the merged lines break a
/// rule of the language.
pub fn rebase(base: &Config, candidate: &Config, running: &Config) -> Result<Config, Conflict> {
    if base == running || candidate == running {
        return Ok(candidate.clone());
    }
    let (base, mine, theirs) = (lines(base), lines(candidate), lines(running));
    let mut merged = Lines::new();
    let mut conflicts = Vec::new();
    for place in base.keys().chain(mine.keys()).chain(theirs.keys()) {
        let (was, mine, theirs) = (base.get(place), mine.get(place), theirs.get(place));
        let setting = if mine == was || mine == theirs {
            theirs
        } else if theirs == was {
            mine
        } else {
            conflicts.push(place.clone());
            continue;
        };
        if let Some(setting) = setting {
            merged.insert(place.clone(), setting.clone());
        }
    }
    // One operator removed the view that the other's line is in.
    for place in merged.keys() {
        if let Some((_, view)) = place.split_last()
            && !view.is_empty()
            && !merged.contains_key(view)
        {
            conflicts.push(view.to_vec());
            conflicts.push(place.clone());
        }
    }
    if !conflicts.is_empty() {
        return Err(Conflict::Lines(Difference::of(&base, &theirs, |place| conflicts.contains(place))));
    }
    let mut config = Config::default();
    for (place, setting) in &merged {
        let views = (1..place.len()).filter_map(|depth| merged.get(place.get(..depth)?));
        let view = views.fold(CommandView::System, |around, setting| setting.view(&around).unwrap_or(around));
        change::set(&mut config, &view, setting).map_err(Conflict::Rule)?;
    }
    Ok(config)
}

/// Returns all lines of a configuration by place.
pub(super) fn lines(config: &Config) -> Lines {
    let mut lines = Lines::new();
    for section in sections(config) {
        collect(section, &Vec::new(), &mut lines);
    }
    lines
}

fn collect(section: Section, around: &Place, lines: &mut Lines) {
    let at = |around: &Place, setting: &Setting| {
        let mut place = around.clone();
        place.push(LineId::of(setting));
        place
    };
    let mut view = around.clone();
    for setting in section.settings {
        view = at(around, &setting);
        lines.insert(view.clone(), setting);
    }
    for setting in section.inside {
        lines.insert(at(&view, &setting), setting);
    }
    for section in section.sections {
        collect(section, &view, lines);
    }
}

/// Returns where the lines inside a view stand.
pub(super) fn place_of(view: &CommandView) -> Place {
    let name = match view {
        CommandView::User | CommandView::System => return Place::new(),
        CommandView::Bmp | CommandView::Bgp => LineName::Only,
        CommandView::Session(id) => LineName::Session(id.clone()),
        CommandView::Monitor(_, monitor) => LineName::Named(monitor.to_string()),
        CommandView::Relay(name)
        | CommandView::Replay(name)
        | CommandView::Keychain(name)
        | CommandView::TlsProfile(name)
        | CommandView::RouteFilter(name) => LineName::Named(name.clone()),
        CommandView::Key(_, id) => LineName::Named(id.to_string()),
        CommandView::BgpFamily(family) => LineName::Named(family_words(*family).join(" ")),
    };
    let mut place = view.parent().map(|around| place_of(&around)).unwrap_or_default();
    place.extend(order_of_view(view).map(|setting| LineId { setting, name }));
    place
}
