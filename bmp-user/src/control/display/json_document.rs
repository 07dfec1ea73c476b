//! Holds `docs/reference/json.md`, the schemas and the samples of all answers to each other: they
//! have the same fields, with the same types, words, and fields that may be null.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Value, json};

use super::{
    super::{
        consequences::Remark,
        json::{AnswerSubject, as_json},
        json_page::{DocumentedField, documented},
        schema::AnswerSchema,
    },
    CurrentTrial, answer_schemas, samples,
};

/// A field as the page, the schema or the samples have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct FieldShape {
    types: BTreeSet<String>,
    may_be_null: bool,
}

impl fmt::Display for FieldShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<_> = self.types.iter().map(String::as_str).collect();
        write!(f, "{}{}", types.join(" or "), if self.may_be_null { ", may be null" } else { "" })
    }
}

impl From<&DocumentedField> for FieldShape {
    fn from(field: &DocumentedField) -> Self {
        Self { types: [field.kind.clone()].into(), may_be_null: field.null.is_some() }
    }
}

type Fields = BTreeMap<String, FieldShape>;

/// Returns the fields that the page has of an answer.
fn on_page(subject: AnswerSubject) -> Fields {
    let page = documented().remove(subject.source()).unwrap_or_default();
    page.iter().map(|(path, field)| (path.clone(), field.into())).collect()
}

/// Returns the numbers that the page has, and the maps of them: the command and the path of each.
pub(super) fn numbers() -> Vec<(&'static str, String)> {
    let is_number = |field: &DocumentedField| ["integer", "number", "map of integers"].contains(&field.kind.as_str());
    let displays = AnswerSubject::ALL.map(AnswerSubject::source);
    let displays = documented().into_iter().filter(|(source, _)| displays.contains(source) && !source.contains('/'));
    let of_command = |(command, fields): (&'static str, BTreeMap<String, DocumentedField>)| {
        let numbers = fields.into_iter().filter(|(_, field)| is_number(field));
        numbers.map(move |(path, _)| (command, path)).collect::<Vec<_>>()
    };
    displays.flat_map(of_command).collect()
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

/// Returns the type that a schema allows, in the words of the page, and whether null is one.
fn shape_of(schema: &Value) -> FieldShape {
    let named: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let inner = |keyword: &str| shape_of(&schema[keyword]).to_string();
    let types = named.iter().filter(|name| **name != "null").map(|name| match *name {
        "array" => format!("array of {}s", inner("items")),
        "object" if schema.get("additionalProperties").is_some() => {
            format!("map of {}s", inner("additionalProperties"))
        }
        name => name.to_owned(),
    });
    FieldShape { types: types.collect(), may_be_null: named.contains(&"null") }
}

/// Calls `each` with the path and the schema of every field of a schema.
fn each_field(schema: &Value, path: &str, each: &mut impl FnMut(&str, &Value)) {
    if let Some(items) = schema.get("items") {
        each_field(items, &if path.is_empty() { String::new() } else { format!("{path}[]") }, each);
    }
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        each(&path, property);
        each_field(property, &path, each);
    }
}

/// Returns samples of the answers with JSON, as text.
fn answers() -> BTreeMap<AnswerSubject, Vec<String>> {
    use AnswerSubject as Subject;
    let remarks = [Remark::info("the trial is over".to_owned()), Remark::warning("session goes down".to_owned())];
    let with = |subject, data: &dyn Fn(Subject) -> Vec<anyhow::Result<String>>| {
        let texts: anyhow::Result<Vec<_>> = data(subject).into_iter().collect();
        (subject, texts.unwrap())
    };
    BTreeMap::from([
        with(Subject::BmpSession, &|of| vec![as_json(of, &samples::sessions())]),
        with(Subject::InterfaceBinding, &|of| vec![as_json(of, &samples::bindings())]),
        with(Subject::BgpPeer, &|of| vec![as_json(of, &samples::speaker()), as_json(of, &samples::no_speaker())]),
        with(Subject::BgpBmpMonitor, &|of| vec![as_json(of, &samples::monitored())]),
        with(Subject::BmpFeed, &|of| vec![as_json(of, &samples::feed()), as_json(of, &samples::unlimited_feed())]),
        with(Subject::BmpRelay, &|of| vec![as_json(of, &samples::relays())]),
        with(Subject::MrtReplay, &|of| vec![as_json(of, &samples::replays())]),
        with(Subject::ConfigurationTrial, &|of| {
            samples::trials().map(|trial| as_json(of, &CurrentTrial(trial))).into()
        }),
        with(Subject::ConfigurationCommitList, &|of| vec![as_json(of, &samples::commits())]),
        with(Subject::Http, &|of| samples::http().iter().map(|http| as_json(of, http)).collect()),
        with(Subject::Version, &|of| samples::versions().map(|version| as_json(of, &version)).into()),
        with(Subject::LogBuffer, &|of| vec![as_json(of, &samples::log())]),
        with(Subject::Commit, &|of| vec![as_json(of, &remarks)]),
    ])
}

/// Returns the schemas with samples.
fn with_samples() -> Vec<(AnswerSchema, Vec<String>)> {
    let mut answers = answers();
    let schemas = answer_schemas().unwrap().into_iter();
    let both: Vec<_> = schemas.filter_map(|schema| Some((answers.remove(&schema.subject())?, schema))).collect();
    assert!(answers.is_empty(), "no schema for {:?}", answers.keys());
    both.into_iter().map(|(answers, schema)| (schema, answers)).collect()
}

/// Adds a sentence for each field that is another on the page than in `what`.
fn compare(subject: AnswerSubject, found: &Fields, what: &str, differences: &mut Vec<String>) {
    let page = on_page(subject);
    let paths: BTreeSet<_> = page.keys().chain(found.keys()).collect();
    for path in paths {
        let (page, found) = (page.get(path), found.get(path));
        if page != found {
            let in_words = |field: Option<&FieldShape>| field.map_or("missing".to_owned(), FieldShape::to_string);
            let (page, found) = (in_words(page), in_words(found));
            differences.push(format!("{}: {path}: page {page}, {what} {found}", subject.source()));
        }
    }
}

#[test]
fn the_page_on_json_has_every_field_with_its_type_and_no_other() {
    let mut differences = Vec::new();
    for (schema, answers) in with_samples() {
        let subject = schema.subject();
        let is_map = |field: &&FieldShape| field.types.iter().any(|kind| kind.starts_with("map of "));
        let maps = on_page(subject).iter().filter(|(_, field)| is_map(field)).map(|(path, _)| path.clone()).collect();
        let mut found = Fields::new();
        for answer in answers {
            let answer: Value = serde_json::from_str(&answer).unwrap();
            collect(&answer["data"], "", &maps, &mut found);
        }
        compare(subject, &found, "answer", &mut differences);
    }
    assert!(differences.is_empty(), "docs/reference/json.md differs from the answers:\n{}", differences.join("\n"));
}

#[test]
fn the_schemas_have_the_types_of_the_page() {
    let mut differences = Vec::new();
    for schema in answer_schemas().unwrap() {
        let mut found = Fields::new();
        each_field(schema.data(), "", &mut |path, field| _ = found.insert(path.to_owned(), shape_of(field)));
        compare(schema.subject(), &found, "schema", &mut differences);
    }
    assert!(differences.is_empty(), "docs/reference/json.md differs from the schemas:\n{}", differences.join("\n"));
}

#[test]
fn the_page_lists_the_words_of_the_schemas() {
    let mut differences = Vec::new();
    for schema in answer_schemas().unwrap() {
        let source = schema.subject().source();
        let page = documented().remove(source).unwrap_or_default();
        each_field(schema.data(), "", &mut |path, field| {
            let (words, unit) = (field["enum"].as_array(), &page[path].unit);
            // Other pages and rows have these words.
            if unit.contains("a word of") || unit.starts_with("as `") {
                return;
            }
            let mut words: BTreeSet<_> = words.into_iter().flatten().filter_map(Value::as_str).collect();
            if (source, path) == ("display version", "enforcement") {
                // Only a session can be without a pin.
                words.remove("none");
            }
            let listed: BTreeSet<_> = unit.split('`').skip(1).step_by(2).collect();
            if !words.is_empty() && words != listed {
                differences.push(format!("{source}: {path}: page {listed:?}, schema {words:?}"));
            }
        });
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_sample_is_valid_by_its_schema() {
    for (schema, answers) in with_samples() {
        for (form, schema) in [("published", schema.published()), ("strict", schema.strict())] {
            let validator = jsonschema::draft202012::new(&schema).unwrap();
            for answer in &answers {
                let answer = serde_json::from_str(answer).unwrap();
                let errors: Vec<_> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{form}: {errors:#?}\n{answer:#}");
            }
        }
    }
}

/// Calls `each` with the answer after one change of one member, for every member within `data`.
fn each_change(
    answer: &Value,
    pointer: &str,
    change: &impl Fn(&mut Value, &str) -> bool,
    each: &mut impl FnMut(&str, &Value),
) {
    match answer.pointer(pointer) {
        Some(Value::Object(members)) => {
            for name in members.keys() {
                let mut changed = answer.clone();
                if changed.pointer_mut(pointer).is_some_and(|object| change(object, name)) {
                    each(&format!("{pointer}/{name}"), &changed);
                }
                each_change(answer, &format!("{pointer}/{name}"), change, each);
            }
        }
        Some(Value::Array(elements)) => {
            (0..elements.len()).for_each(|at| each_change(answer, &format!("{pointer}/{at}"), change, each));
        }
        _ => {}
    }
}

#[test]
fn a_wrong_answer_is_invalid() {
    let mut answers = answers();
    for schema in answer_schemas().unwrap() {
        let Some(text) = answers.remove(&schema.subject()).and_then(|texts| texts.into_iter().next_back()) else {
            continue;
        };
        let answer: Value = serde_json::from_str(&text).unwrap();
        let published = jsonschema::draft202012::new(&schema.published()).unwrap();
        let strict = jsonschema::draft202012::new(&schema.strict()).unwrap();
        // The keys of a map are not members.
        let is_in_map = |path: &str| {
            let maps = ["fields", "dropped", "not_understood", "odd", "not_kept"];
            path.rsplit('/').skip(1).any(|above| maps.contains(&above))
        };
        let remove = |object: &mut Value, name: &str| object.as_object_mut().is_some_and(|o| o.remove(name).is_some());
        each_change(&answer, "/data", &remove, &mut |path, changed| {
            assert!(is_in_map(path) || !published.is_valid(changed), "without {path} it is valid");
        });
        let add = |object: &mut Value, _: &str| {
            object["undocumented"] = json!(1);
            true
        };
        each_change(&answer, "/data", &add, &mut |path, changed| {
            if !is_in_map(path) {
                assert!(!strict.is_valid(changed), "with a member beside {path} it is valid");
                assert!(published.is_valid(changed), "a later bmpd could not add a member beside {path}");
            }
        });
        let retype = |object: &mut Value, name: &str| {
            object[name] = if object[name].is_array() { json!(true) } else { json!([true]) };
            true
        };
        each_change(&answer, "/data", &retype, &mut |path, changed| {
            assert!(!published.is_valid(changed), "with another type of {path} it is valid");
        });
    }
}

#[test]
fn an_answer_of_another_version_or_with_an_unknown_word_is_invalid() {
    let [version, _] = samples::versions();
    let schemas = answer_schemas().unwrap();
    let schema = schemas.iter().find(|schema| schema.subject() == AnswerSubject::Version).unwrap();
    let (published, strict) = (schema.published(), schema.strict());
    let is_valid = |schema: &Value, answer: &Value| jsonschema::draft202012::is_valid(schema, answer);
    let answer: Value = serde_json::from_str(&as_json(AnswerSubject::Version, &version).unwrap()).unwrap();
    for (member, other) in [("schema_version", json!(2)), ("schema", json!("bmp-feed"))] {
        let mut changed = answer.clone();
        changed[member] = other;
        assert!(!is_valid(&published, &changed), "{member}");
    }
    let mut later = answer;
    later["data"]["enforcement"] = json!("hardware");
    assert_eq!((is_valid(&published, &later), is_valid(&strict, &later)), (true, false));
}
