//! The JSON Schema (draft 2020-12) of each answer in JSON.
//!
//! Names and types come from the reports, meanings and units from the tables of
//! `docs/reference/json.md`. What is published lets in members and words that a later bmpd adds.
//! The strict form lets in nothing else than what this bmpd answers.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    json::{AnswerSubject, SCHEMA_VERSION},
    json_page::{DocumentedField, documented},
};

/// The formats that JSON Schema has. Those of Rust's numbers are not among them.
const FORMATS: [&str; 2] = ["ipv4", "ipv6"];

/// The schema of one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerSchema {
    subject: AnswerSubject,
    /// The schema of the answer's data, with closed lists of words.
    data: Value,
}

impl AnswerSchema {
    /// Makes the schema of an answer whose data is a `T`.
    ///
    /// # Errors
    ///
    /// `docs/reference/json.md` lacks a field of the data, or has one that the data lacks.
    pub(crate) fn of<T: JsonSchema>(subject: AnswerSubject) -> anyhow::Result<Self> {
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.meta_schema = None;
            settings.inline_subschemas = true;
        });
        let mut data = settings.into_generator().into_root_schema_for::<T>().to_value();
        each_schema(&mut data, &mut tidy);
        let mut fields = documented()
            .remove(subject.source())
            .with_context(|| format!("docs/reference/json.md has no section `{}`", subject.source()))?;
        describe(&mut data, "", &mut fields).with_context(|| subject.source())?;
        if let Some(path) = fields.keys().next() {
            bail!("docs/reference/json.md has {path} of {}, and the answer has not", subject.source());
        }
        Ok(Self { subject, data })
    }

    /// Returns what the answer is about.
    pub fn subject(&self) -> AnswerSubject {
        self.subject
    }

    /// Returns the name of the file that is installed.
    pub fn file_name(&self) -> String {
        format!("{}.schema.json", self.subject.name())
    }

    /// Returns the schema that is installed. Members and words that a later bmpd adds are valid.
    pub fn published(&self) -> Value {
        let mut data = self.data.clone();
        each_schema(&mut data, &mut open_words);
        self.around(data)
    }

    /// Returns a schema by which any member and any word is invalid that this bmpd does not give.
    pub fn strict(&self) -> Value {
        let mut schema = self.around(self.data.clone());
        each_schema(&mut schema, &mut |schema| {
            if schema.contains_key("properties") {
                schema.insert("additionalProperties".to_owned(), false.into());
            }
        });
        schema
    }

    /// Returns the schema of the data, for the tests that compare it with the page.
    #[cfg(test)]
    pub(super) fn data(&self) -> &Value {
        &self.data
    }

    /// Puts what stands around all data around it.
    fn around(&self, data: Value) -> Value {
        let (name, source) = (self.subject.name(), self.subject.source());
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": format!("urn:bmpd:schema:{SCHEMA_VERSION}:{name}"),
            "title": source,
            "description": format!("The answer of `{source}` in JSON."),
            "type": "object",
            "properties": {
                "schema": { "description": "the name of this schema", "type": "string", "const": name },
                "schema_version": {
                    "description": "the version of the JSON of all answers",
                    "type": "integer",
                    "const": SCHEMA_VERSION,
                },
                "data": data,
            },
            "required": ["schema", "schema_version", "data"],
        })
    }
}

/// Visits all schemas within a schema, and then the schema itself.
fn each_schema(schema: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(schema) = schema else { return };
    for (keyword, inner) in &mut *schema {
        match (keyword.as_str(), inner) {
            ("properties", Value::Object(inner)) => inner.values_mut().for_each(|schema| each_schema(schema, visit)),
            ("items" | "additionalProperties", inner) => each_schema(inner, visit),
            ("anyOf" | "oneOf", Value::Array(inner)) => inner.iter_mut().for_each(|schema| each_schema(schema, visit)),
            _ => {}
        }
    }
    visit(schema);
}

/// Takes out what comes from Rust alone, and makes one list of the words of an enum.
fn tidy(schema: &mut Map<String, Value>) {
    for rust in ["title", "description"] {
        schema.remove(rust);
    }
    schema.retain(|keyword, value| keyword != "format" || value.as_str().is_some_and(|name| FORMATS.contains(&name)));
    // An enum whose variants have docstrings has a schema for each of them.
    let variants = schema.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
    let words: Option<Vec<Value>> = variants.iter().map(|variant| variant.get("const").cloned()).collect();
    if let Some(words) = words.filter(|words| !words.is_empty()) {
        schema.remove("oneOf");
        schema.insert("type".to_owned(), "string".into());
        schema.insert("enum".to_owned(), words.into());
    }
}

/// Lets in other words than those of a list, which stays as the words that are known.
fn open_words(schema: &mut Map<String, Value>) {
    if let Some(words) = schema.remove("enum") {
        schema.insert("anyOf".to_owned(), json!([{ "enum": words }, { "type": "string" }]));
    }
}

/// Gives each field below `path` its description and unit, and takes it out of `fields`.
fn describe(schema: &mut Value, path: &str, fields: &mut BTreeMap<String, DocumentedField>) -> anyhow::Result<()> {
    let Value::Object(schema) = schema else { return Ok(()) };
    if let Some(items) = schema.get_mut("items") {
        let inside = if path.is_empty() { String::new() } else { format!("{path}[]") };
        describe(items, &inside, fields)?;
    }
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return Ok(()) };
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let field = fields.remove(&path).with_context(|| format!("docs/reference/json.md lacks {path}"))?;
        describe(property, &path, fields)?;
        if let Value::Object(property) = property {
            property.insert("description".to_owned(), field.description().into());
            if let Some(unit) = field.unit_of_number() {
                property.insert("x-unit".to_owned(), unit.into());
            }
        }
    }
    Ok(())
}
