//! What `docs/reference/json.md` says of the fields of each answer. The schemas take meanings and
//! units from there, so page and schemas cannot disagree.

use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../../docs/reference/json.md");

/// A row of a table of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DocumentedField {
    /// The type in the words of the page: `array of objects`.
    pub(super) kind: String,
    /// The unit, or the words that the field may have.
    pub(super) unit: String,
    /// When the field is null; `None` if it never is.
    pub(super) null: Option<String>,
    pub(super) meaning: String,
}

impl DocumentedField {
    /// Returns the meaning, with the unit and when the field is null, as one text without links.
    pub(super) fn description(&self) -> String {
        let Self { unit, null, meaning, .. } = self;
        let unit = if unit.is_empty() { String::new() } else { format!("; {unit}") };
        let null = null.as_ref().map(|null| format!("; null: {null}")).unwrap_or_default();
        without_links(&format!("{meaning}{unit}{null}"))
    }

    /// Returns the unit of a number. Words and references to other fields are none.
    pub(super) fn unit_of_number(&self) -> Option<String> {
        let is_number = ["integer", "number", "map of integers"].contains(&self.kind.as_str());
        (is_number && !self.unit.is_empty()).then(|| without_links(&self.unit))
    }
}

/// Reads the tables of the page: the fields of each answer by its title, which is the command.
pub(super) fn documented() -> BTreeMap<&'static str, BTreeMap<String, DocumentedField>> {
    let mut answers = BTreeMap::<_, BTreeMap<_, _>>::new();
    let mut title = "";
    for line in PAGE.lines() {
        if let Some(next) = line.strip_prefix("## ") {
            title = next.trim_matches('`');
            answers.entry(title).or_default();
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if let ["", path, kind, unit, null, meaning, ""] = cells[..]
            && let Some(path) = path.strip_prefix('`').and_then(|path| path.strip_suffix('`'))
        {
            let field = DocumentedField {
                kind: kind.to_owned(),
                unit: unit.to_owned(),
                null: (null != "never").then(|| null.to_owned()),
                meaning: meaning.to_owned(),
            };
            answers.entry(title).or_default().insert(path.to_owned(), field);
        }
    }
    answers
}

/// Replaces links by their texts.
fn without_links(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, link)) = rest.split_once('[') {
        let Some((inside, after)) = link.split_once("](").and_then(|(inside, target)| {
            let (_, after) = target.split_once(')')?;
            (!inside.contains(['[', ']'])).then_some((inside, after))
        }) else {
            plain += before;
            plain.push('[');
            rest = link;
            continue;
        };
        plain += before;
        plain += inside;
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_has_meaning_unit_and_null_without_links() {
        let field = DocumentedField {
            kind: "string".to_owned(),
            unit: "a word of [troubleshooting](../troubleshooting.md), as `ribs[].view`".to_owned(),
            null: Some("the session is up".to_owned()),
            meaning: "why".to_owned(),
        };
        let expected = "why; a word of troubleshooting, as `ribs[].view`; null: the session is up";
        assert_eq!(field.description(), expected);
        assert_eq!(field.unit_of_number(), None);
    }

    #[test]
    fn no_row_of_the_page_is_there_twice() {
        let rows = PAGE.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 6).count();
        assert_eq!(documented().values().map(BTreeMap::len).sum::<usize>(), rows);
    }
}
