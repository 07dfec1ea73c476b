//! What holds where nothing is configured, as rows of `display default-parameter bmp`.

use super::settings::SETTINGS;

/// A row of `display default-parameter bmp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultParameter {
    /// The place among the rows.
    pub rank: u16,
    /// What the row is about.
    pub label: &'static str,
    /// The default, and the command that sets something else: `0 ms (hold-down)`.
    pub value: String,
}

/// Returns the rows of all settings in the order of their ranks.
pub fn default_parameters() -> Vec<DefaultParameter> {
    let rows = SETTINGS.iter().flat_map(|setting| setting.rows.iter().map(move |row| (*setting, row)));
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(_, row)| row.rank);
    let mut parameters = Vec::new();
    while let Some((setting, first)) = rows.first().copied() {
        let (same, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, row)| row.label == first.label);
        let value = first.value.map(str::to_owned).or_else(|| setting.default.text()).unwrap_or_default();
        let commands = same.iter().map(|(setting, row)| row.command.map_or_else(|| setting.command(), str::to_owned));
        let commands = commands.filter(|command| !command.is_empty()).collect::<Vec<_>>().join(", ");
        let value = if commands.is_empty() { value } else { format!("{value} ({commands})") };
        parameters.push(DefaultParameter { rank: first.rank, label: first.label, value });
        rows = others;
    }
    parameters
}
