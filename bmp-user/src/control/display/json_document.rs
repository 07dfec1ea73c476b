//! Holds `docs/reference/json.md` to the reports: the page has every field of the samples, with its
//! type and whether it may be null, and no other field.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use super::{json::as_json, samples};
use crate::control::consequences::Remark;

const PAGE: &str = include_str!("../../../../docs/reference/json.md");

/// A field as the page or the samples have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DocumentedField {
    types: BTreeSet<String>,
    may_be_null: bool,
}

impl fmt::Display for DocumentedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<_> = self.types.iter().map(String::as_str).collect();
        write!(f, "{}{}", types.join(" or "), if self.may_be_null { ", may be null" } else { "" })
    }
}

type Fields = BTreeMap<String, DocumentedField>;

/// Reads the tables of the page: the fields of each command.
fn documented() -> BTreeMap<&'static str, Fields> {
    let mut commands = BTreeMap::<_, Fields>::new();
    let mut command = "";
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            command = title;
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if let ["", path, kind, _, null, _, ""] = cells[..]
            && let Some(path) = path.strip_prefix('`').and_then(|path| path.strip_suffix('`'))
        {
            let field = DocumentedField { types: [kind.to_owned()].into(), may_be_null: null != "never" };
            let twice = commands.entry(command).or_default().insert(path.to_owned(), field);
            assert_eq!(twice, None, "{command} has two rows for {path}");
        }
    }
    commands
}

/// Returns the numbers that the page has, and the maps of them: the command and the path of each.
pub(super) fn numbers() -> Vec<(&'static str, String)> {
    let is_number = |field: &DocumentedField| {
        field.types.iter().any(|kind| matches!(kind.as_str(), "integer" | "number" | "map of integers"))
    };
    let of_command = |(command, fields): (&'static str, Fields)| {
        let numbers = fields.into_iter().filter(|(_, field)| is_number(field));
        numbers.map(move |(path, _)| (command, path)).collect::<Vec<_>>()
    };
    documented().into_iter().flat_map(of_command).collect()
}

/// Adds the fields of an answer. The keys of a map are not fields.
fn collect(value: &Value, path: &str, maps: &BTreeSet<String>, fields: &mut Fields) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| collect(element, path, maps, fields)),
        Value::Object(members) if !maps.contains(path) => {
            for (name, member) in members {
                let path = match path {
                    "" => name.clone(),
                    _ => format!("{path}.{name}"),
                };
                let field = fields.entry(path.clone()).or_default();
                field.may_be_null |= member.is_null();
                field.types.extend(type_of(member, maps.contains(&path)));
                let inside = if member.is_array() { format!("{path}[]") } else { path };
                collect(member, &inside, maps, fields);
            }
        }
        _ => {}
    }
}

/// Returns the type in the words of the page, or `None` where the value does not tell it.
fn type_of(value: &Value, is_map: bool) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) => "boolean".to_owned(),
        Value::Number(number) if number.is_f64() => "number".to_owned(),
        Value::Number(_) => "integer".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(elements) => format!("array of {}s", type_of(elements.first()?, false)?),
        Value::Object(members) if is_map => format!("map of {}s", type_of(members.values().next()?, false)?),
        Value::Object(_) => "object".to_owned(),
    })
}

/// Returns the answers of all commands, as JSON text.
fn answers() -> BTreeMap<&'static str, Vec<String>> {
    let remarks = [Remark::info("the trial is over".to_owned()), Remark::warning("session goes down".to_owned())];
    BTreeMap::from([
        ("display bmp session", vec![as_json(&samples::sessions()).unwrap()]),
        ("display interface-binding", vec![as_json(&samples::bindings()).unwrap()]),
        ("display bgp peer", vec![as_json(&samples::speaker()).unwrap(), as_json(&samples::no_speaker()).unwrap()]),
        ("display bgp bmp-monitor all", vec![as_json(&samples::monitored()).unwrap()]),
        ("display bmp feed", vec![as_json(&samples::feed()).unwrap()]),
        ("display bmp relay", vec![as_json(&samples::relays()).unwrap()]),
        ("display mrt-replay", vec![as_json(&samples::replays()).unwrap()]),
        ("display configuration trial", samples::trials().map(|trial| as_json(&trial).unwrap()).into()),
        ("display http", samples::http().iter().map(|http| as_json(http).unwrap()).collect()),
        ("commit", vec![as_json(&remarks).unwrap()]),
    ])
}

#[test]
fn the_page_on_json_has_every_field_with_its_type_and_no_other() {
    let documented = documented();
    let answers = answers();
    assert_eq!(documented.keys().collect::<Vec<_>>(), answers.keys().collect::<Vec<_>>());
    let mut differences = Vec::new();
    for (command, answers) in answers {
        let page = &documented[command];
        let is_map = |field: &&DocumentedField| field.types.iter().any(|kind| kind.starts_with("map of "));
        let maps = page.iter().filter(|(_, field)| is_map(field)).map(|(path, _)| path.clone()).collect();
        let mut found = Fields::new();
        for answer in answers {
            collect(&serde_json::from_str(&answer).unwrap(), "", &maps, &mut found);
        }
        let paths: BTreeSet<_> = page.keys().chain(found.keys()).collect();
        for path in paths {
            let (page, found) = (page.get(path), found.get(path));
            if page != found {
                let in_words =
                    |field: Option<&DocumentedField>| field.map_or("missing".to_owned(), DocumentedField::to_string);
                differences.push(format!("{command}: {path}: page {}, answer {}", in_words(page), in_words(found)));
            }
        }
    }
    assert!(differences.is_empty(), "docs/reference/json.md differs from the answers:\n{}", differences.join("\n"));
}
