//! What a change of the answers in JSON breaks for those who read them.

use std::collections::BTreeSet;

use serde_json::Value;

/// Returns what breaks for readers of an answer when it is as `after` describes it, and was as
/// `before` does: a sentence each. Both are published schemas. A new version may break anything.
pub fn breaking_changes(before: &Value, after: &Value) -> Vec<String> {
    let version = |schema: &Value| schema["properties"]["schema_version"]["const"].as_u64();
    match (version(before), version(after)) {
        (Some(was), Some(is)) if was < is => return Vec::new(),
        (Some(was), Some(is)) if was > is => return vec![format!("the version was {was}, and is {is}")],
        (Some(_), Some(_)) => {}
        _ => return vec!["a schema has no version".to_owned()],
    }
    let mut broken = Vec::new();
    compare("", before, after, &mut broken);
    broken
}

fn compare(path: &str, before: &Value, after: &Value, broken: &mut Vec<String>) {
    let name = if path.is_empty() { "the answer" } else { path };
    let (was, is) = (types(before), types(after));
    for new in is.difference(&was).filter(|_| !was.is_empty()) {
        broken.push(format!("{name} may be {new}, and never was"));
    }
    if is.is_empty() && !was.is_empty() {
        broken.push(format!("{name} may be anything, and never was"));
    }
    for keyword in ["const", "x-unit", "format"] {
        if before.get(keyword) != after.get(keyword) {
            let in_words = |schema: &Value| schema.get(keyword).map_or("none".to_owned(), Value::to_string);
            broken.push(format!("{keyword} of {name} was {}, and is {}", in_words(before), in_words(after)));
        }
    }
    for word in words(before).difference(&words(after)) {
        broken.push(format!("{name} has the word {word} no more"));
    }
    if let (Some(was), Some(is)) = (members(before), members(after)) {
        let is_always_there = |schema: &Value, name: &str| {
            schema["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name))
        };
        for (member, was) in was {
            let path = if path.is_empty() { member.clone() } else { format!("{path}.{member}") };
            let Some(is) = is.get(member) else {
                broken.push(format!("{path} is gone"));
                continue;
            };
            if is_always_there(before, member) && !is_always_there(after, member) {
                broken.push(format!("{path} may be left out, and always was there"));
            }
            compare(&path, was, is, broken);
        }
    }
    for (keyword, inside) in [("items", "[]"), ("additionalProperties", ".*")] {
        match (before.get(keyword), after.get(keyword)) {
            (Some(was), Some(is)) => compare(&format!("{path}{inside}"), was, is, broken),
            (Some(_), None) => broken.push(format!("{name} has no description of what is in it any more")),
            (None, _) => {}
        }
    }
    if members(before).is_some() && members(after).is_none() {
        broken.push(format!("{name} has no members any more"));
    }
}

fn members(schema: &Value) -> Option<&serde_json::Map<String, Value>> {
    schema.get("properties")?.as_object()
}

/// Returns the types of the values that a schema allows; none if it allows all.
fn types(schema: &Value) -> BTreeSet<String> {
    match schema.get("type") {
        Some(Value::String(one)) => BTreeSet::from([one.clone()]),
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => BTreeSet::new(),
    }
}

/// Returns the words that a schema knows.
fn words(schema: &Value) -> BTreeSet<&str> {
    let alternatives = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let lists = alternatives.filter_map(|alternative| alternative.get("enum")?.as_array());
    lists.flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The schema of an answer with an object that has these members.
    fn schema(members: Value) -> Value {
        let required: Vec<_> = members.as_object().unwrap().keys().cloned().collect();
        json!({
            "type": "object",
            "properties": {
                "schema_version": { "type": "integer", "const": 1 },
                "data": { "type": "array", "items": { "type": "object", "properties": members, "required": required } },
            },
            "required": ["schema_version", "data"],
        })
    }

    fn before() -> Value {
        schema(json!({
            "age_seconds": { "type": "integer", "x-unit": "s" },
            "state": { "type": ["string", "null"], "anyOf": [{ "enum": ["up", "down"] }, { "type": "string" }] },
            "counts": { "type": "object", "additionalProperties": { "type": "integer" } },
        }))
    }

    /// Returns what breaks when a member of the data's objects becomes another.
    fn broken_by(member: &str, changed: Option<Value>) -> Vec<String> {
        let mut after = before();
        let items = &mut after["properties"]["data"]["items"];
        match changed {
            Some(changed) => items["properties"][member] = changed,
            None => _ = items["properties"].as_object_mut().unwrap().remove(member),
        }
        breaking_changes(&before(), &after)
    }

    #[test]
    fn what_is_added_breaks_nothing() {
        assert_eq!(breaking_changes(&before(), &before()), [""; 0]);
        assert_eq!(broken_by("retries", Some(json!({ "type": "integer" }))), [""; 0]);
        let words = json!([{ "enum": ["up", "down", "held"] }, { "type": "string" }]);
        assert_eq!(broken_by("state", Some(json!({ "type": ["string", "null"], "anyOf": words }))), [""; 0]);
        // What may be null needs not be.
        let words = json!([{ "enum": ["up", "down"] }, { "type": "string" }]);
        assert_eq!(broken_by("state", Some(json!({ "type": "string", "anyOf": words }))), [""; 0]);
    }

    #[test]
    fn what_goes_or_becomes_something_else_breaks_readers() {
        let cases = [
            ("age_seconds", None, "data[].age_seconds is gone"),
            (
                "age_seconds",
                Some(json!({ "type": ["integer", "null"], "x-unit": "s" })),
                "data[].age_seconds may be null, and never was",
            ),
            (
                "age_seconds",
                Some(json!({ "type": "integer", "x-unit": "ms" })),
                "x-unit of data[].age_seconds was \"s\", and is \"ms\"",
            ),
            (
                "age_seconds",
                Some(json!({ "type": "number", "x-unit": "s" })),
                "data[].age_seconds may be number, and never was",
            ),
            (
                "state",
                Some(json!({ "type": ["string", "null"], "anyOf": [{ "enum": ["up"] }, { "type": "string" }] })),
                "data[].state has the word down no more",
            ),
            (
                "counts",
                Some(json!({ "type": "object", "additionalProperties": { "type": "string" } })),
                "data[].counts.* may be string, and never was",
            ),
        ];
        for (member, changed, expected) in cases {
            assert_eq!(broken_by(member, changed), [expected]);
        }
    }

    #[test]
    fn a_member_that_may_be_left_out_breaks_readers() {
        let mut after = before();
        after["properties"]["data"]["items"]["required"] = json!(["state", "counts"]);
        let expected = "data[].age_seconds may be left out, and always was there";
        assert_eq!(breaking_changes(&before(), &after), [expected]);
    }

    #[test]
    fn a_new_version_may_break_anything_and_an_older_one_is_none() {
        let mut next = schema(json!({}));
        next["properties"]["schema_version"]["const"] = json!(2);
        assert_eq!(breaking_changes(&before(), &next), [""; 0]);
        assert_eq!(breaking_changes(&next, &before()), ["the version was 2, and is 1"]);
    }
}
