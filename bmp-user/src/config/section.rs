//! A configuration as sections of lines, in the order in which it is printed.

use super::{
    model::Config,
    settings::{LineName, SETTINGS, Setting, SettingDescriptor},
    view::{CommandView, ViewKind},
};

/// One view with all that it holds.
pub(super) struct Section {
    /// The line that enters the view, or the lines of the system view that belong together.
    pub(super) settings: Vec<Setting>,
    /// The lines inside, before the views inside.
    pub(super) inside: Vec<Setting>,
    /// The views inside.
    pub(super) sections: Vec<Section>,
}

impl Section {
    /// Decides whether this is a view of its own, and not lines of the system view.
    pub(super) fn is_view(&self) -> bool {
        self.settings.iter().any(|line| line.descriptor().enters.is_some())
    }
}

/// Returns all lines of a configuration that are not defaults.
pub(super) fn sections(config: &Config) -> Vec<Section> {
    let mut sections = Vec::new();
    for descriptor in settings_of(ViewKind::System) {
        let lines = descriptor.lines(config, &CommandView::System);
        if descriptor.enters.is_some() {
            sections.extend(lines.into_iter().map(|line| section(config, &CommandView::System, line)));
        } else if !lines.is_empty() {
            sections.push(Section { settings: lines, inside: Vec::new(), sections: Vec::new() });
        }
    }
    sections
}

/// Returns the section of the view that a line enters.
fn section(config: &Config, around: &CommandView, line: Setting) -> Section {
    let mut section = Section { inside: Vec::new(), sections: Vec::new(), settings: Vec::new() };
    if let Some(view) = line.view(around) {
        for descriptor in settings_of(view.kind()) {
            let lines = descriptor.lines(config, &view);
            if descriptor.enters.is_some() {
                section.sections.extend(lines.into_iter().map(|line| self::section(config, &view, line)));
            } else {
                section.inside.extend(lines);
            }
        }
    }
    // All that is said of a BGP peer stands together.
    section.inside.sort_by_key(|line| match line.name() {
        LineName::Peer(address) => Some(address),
        LineName::Only | LineName::Named(_) | LineName::Session(_) => None,
    });
    section.settings.push(line);
    section
}

fn settings_of(view: ViewKind) -> impl Iterator<Item = &'static SettingDescriptor> {
    SETTINGS.iter().copied().filter(move |descriptor| descriptor.view == view)
}
