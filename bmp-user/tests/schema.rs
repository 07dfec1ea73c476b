//! The schemas that the package installs: they are those of the code, valid, complete, and break
//! nobody who reads the answers of the last release.
//!
//! `BMPD_BLESS=1` writes them anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use bmp_user::{
    control::{AnswerSchema, AnswerSubject, SCHEMA_VERSION, answer_schemas, breaking_changes},
    doctor,
};
use programs::Program;
use serde_json::Value;

/// The folder of the schemas, from the repository's root.
const FOLDER: &str = "bmp-user/packaging/schema";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the schemas of the code.
fn schemas() -> Vec<AnswerSchema> {
    let mut schemas = answer_schemas().expect("docs/reference/json.md has every field");
    schemas.push(doctor::answer_schema().expect("docs/reference/json.md has every field"));
    schemas
}

/// Returns the files that the code makes: name and text.
fn made() -> BTreeMap<String, String> {
    let text = |schema: &AnswerSchema| format!("{:#}\n", schema.published());
    schemas().iter().map(|schema| (schema.file_name(), text(schema))).collect()
}

#[test]
fn the_files_are_the_schemas_of_the_code() {
    let folder = root().join(FOLDER);
    if env::var_os("BMPD_BLESS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in made() {
            fs::write(folder.join(name), text).expect("a file");
        }
    }
    let entries = fs::read_dir(&folder).expect("a folder").flatten();
    let kept: BTreeMap<_, _> = entries
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).expect("a file");
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    let made = made();
    assert_eq!(kept.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    for (name, text) in made {
        assert!(kept[&name] == text, "{FOLDER}/{name} is another: write it anew with BMPD_BLESS=1");
    }
}

#[test]
fn every_answer_has_a_schema_of_draft_2020_12() {
    let schemas = schemas();
    let subjects: BTreeSet<_> = schemas.iter().map(AnswerSchema::subject).collect();
    assert_eq!(subjects, BTreeSet::from(AnswerSubject::ALL));
    for schema in &schemas {
        for form in [schema.published(), schema.strict()] {
            let name = schema.file_name();
            jsonschema::draft202012::meta::validate(&form).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn the_package_installs_every_schema() {
    let contents = fs::read_to_string(root().join("bmp-user/packaging/contents")).expect("the list of contents");
    let of_schemas = contents.lines().filter(|line| line.contains("/schema/"));
    let listed: BTreeSet<_> = of_schemas.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = |name: String| format!("644 usr/share/bmpd/schema/{name} {FOLDER}/{name}");
    assert_eq!(listed, made().into_keys().map(expected).collect());
}

/// Runs git in the repository. `None` where there is no repository, or git refuses.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Program::Git.command().arg("-C").arg(root()).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the newest release whose commit this one is made on, as its tag.
fn last_release() -> Option<String> {
    git(&["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"])
}

#[test]
fn the_answers_of_the_last_release_can_still_be_read() {
    let Some(release) = last_release() else {
        let _ = writeln!(std::io::stderr(), "no release is tagged: there is nothing to compare with");
        return;
    };
    let files = git(&["ls-tree", "-r", "--name-only", &release, "--", FOLDER]).expect("git lists a release");
    let made = made();
    let mut broken = Vec::new();
    for path in files.lines() {
        let before = git(&["show", &format!("{release}:{path}")]).expect("git shows a file of a release");
        let before: Value = serde_json::from_str(&before).expect("a schema is JSON");
        let name = path.rsplit('/').next().unwrap_or(path);
        match made.get(name) {
            Some(after) => {
                let after = serde_json::from_str(after).expect("a schema is JSON");
                broken.extend(breaking_changes(&before, &after).into_iter().map(|what| format!("{name}: {what}")));
            }
            None if before["properties"]["schema_version"]["const"] == SCHEMA_VERSION => {
                broken.push(format!("{name} is gone"));
            }
            None => {}
        }
    }
    assert!(
        broken.is_empty(),
        "the JSON breaks those who read that of {release}: raise SCHEMA_VERSION, and say so in CHANGELOG.md:\n{}",
        broken.join("\n")
    );
}
