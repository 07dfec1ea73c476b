//! The crates that the programs are made of: their licences, and a list of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, bail};
use programs::Program;
use serde_json::{Value, json};

/// The package whose programs are packed.
const ROOT: &str = "bmp-user";

/// A crate that the programs are made of.
#[derive(Debug)]
pub(crate) struct LinkedCrate {
    name: String,
    version: String,
    /// An SPDX expression.
    license: String,
    authors: Vec<String>,
    manifest: String,
    /// True for a crate of this repository.
    is_own: bool,
    /// The SHA-256 of what crates.io has, in hexadecimal.
    checksum: Option<String>,
    /// The ids of the crates that it uses.
    uses: BTreeSet<String>,
}

/// The crates, by cargo's id of them.
pub(crate) type LinkedCrates = BTreeMap<String, LinkedCrate>;

/// Asks cargo for the crates that the programs are made of, the kernel programs' among them.
pub(crate) fn linked() -> anyhow::Result<LinkedCrates> {
    let mut metadata = Program::Cargo.command();
    metadata.args(["metadata", "--format-version=1", "--offline", "--locked", "--filter-platform", &target()?]);
    let output = metadata.current_dir(env!("CARGO_MANIFEST_DIR")).output().context("cargo does not start")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock"))?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (text(&node["id"]), node)).collect();
    let root = packages.iter().find(|(_, package)| package["name"] == ROOT).map(|(id, _)| id.clone());
    let mut found = LinkedCrates::new();
    let mut open: Vec<String> = root.into_iter().collect();
    while let Some(id) = open.pop() {
        let (Some(package), Some(node)) = (packages.get(&id), nodes.get(&id)) else { continue };
        if found.contains_key(&id) {
            continue;
        }
        // A normal dependency has no kind. Build scripts and tests are in no program.
        let is_linked = |dependency: &&Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let dependencies = list(&node["deps"]);
        let uses: BTreeSet<_> =
            dependencies.iter().filter(is_linked).map(|dependency| text(&dependency["pkg"])).collect();
        open.extend(uses.iter().cloned());
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let linked = LinkedCrate {
            checksum: checksum(&lock, &name, &version),
            license: text(&package["license"]),
            authors: list(&package["authors"]).iter().map(text).collect(),
            manifest: text(&package["manifest_path"]),
            is_own: package["source"].is_null(),
            name,
            version,
            uses,
        };
        found.insert(id, linked);
    }
    Ok(found)
}

/// Returns the target triple of this machine.
fn target() -> anyhow::Result<String> {
    let output = Program::Rustc.command().arg("-vV").output().context("rustc does not start")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).context("rustc names no host")
}

/// Returns the checksum of a crate in the lock file.
fn checksum(lock: &str, name: &str, version: &str) -> Option<String> {
    let package = lock.split("[[package]]").find(|package| {
        let has = |key: &str, value: &str| package.lines().any(|line| line == format!("{key} = \"{value}\""));
        has("name", name) && has("version", version)
    })?;
    let line = package.lines().find_map(|line| line.strip_prefix("checksum = \""))?;
    line.strip_suffix('"').map(str::to_owned)
}

/// Returns the copyright file: the licence of bmpd, and the licence files of all other crates.
/// Equal texts are there once.
pub(crate) fn copyright(crates: &LinkedCrates) -> anyhow::Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let own = |name: &str| fs::read_to_string(root.join(name)).with_context(|| name.to_owned());
    let mut text = format!(
        "bmpd is Copyright (c) 2026 The bmpd authors, and licensed, at your option, under either of the MIT\n\
         license and the Apache License, Version 2.0. Its programs are made of the crates below too.\n\n{}\n\
         The Apache License is in /usr/share/common-licenses/Apache-2.0 on Debian systems.\n",
        own("LICENSE-MIT")?
    );
    let mut by_text: BTreeMap<String, Vec<&LinkedCrate>> = BTreeMap::new();
    let mut names: Vec<&LinkedCrate> = crates.values().filter(|linked| !linked.is_own).collect();
    names.sort_by_key(|linked| (&linked.name, &linked.version));
    text.push_str("\nCrates and their licences:\n\n");
    for linked in &names {
        let by = if linked.authors.is_empty() { String::new() } else { format!(" by {}", linked.authors.join(", ")) };
        writeln!(text, "  {} {}{by}: {}", linked.name, linked.version, linked.license)?;
        for licence in licence_files(linked) {
            by_text.entry(licence).or_default().push(linked);
        }
    }
    let mut texts: Vec<_> = by_text.into_iter().collect();
    texts.sort_by_key(|(_, crates)| (&crates[0].name, &crates[0].version));
    for (licence, crates) in texts {
        let names: Vec<_> = crates.iter().map(|linked| format!("{} {}", linked.name, linked.version)).collect();
        write!(text, "\n{}\n{}:\n\n{}\n", "-".repeat(78), names.join(", "), licence.trim_end())?;
    }
    Ok(text)
}

/// Returns the texts of a crate's licence files. The Apache License is left out where the crate has
/// another one too: every Debian has its text.
fn licence_files(linked: &LinkedCrate) -> Vec<String> {
    let folder = Path::new(&linked.manifest).parent().unwrap_or(Path::new("."));
    let mut files: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        path.is_file()
            && ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
                .iter()
                .any(|begin| name.starts_with(begin))
    });
    files.sort();
    let texts: Vec<_> = files.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let is_apache = |text: &String| text.contains("Apache License") && text.contains("TERMS AND CONDITIONS");
    if texts.iter().any(|text| !is_apache(text)) {
        return texts.into_iter().filter(|text| !is_apache(text)).collect();
    }
    Vec::new()
}

/// Returns the list of crates as CycloneDX 1.5. It has neither a time nor a serial number, so that
/// one commit gives one list.
pub(crate) fn bill_of_materials(crates: &LinkedCrates) -> String {
    let reference = |linked: &LinkedCrate| format!("pkg:cargo/{}@{}", linked.name, linked.version);
    let component = |linked: &LinkedCrate| {
        let hashes: Vec<_> =
            linked.checksum.iter().map(|checksum| json!({"alg": "SHA-256", "content": checksum})).collect();
        json!({
            "type": if linked.name == ROOT { "application" } else { "library" },
            "bom-ref": reference(linked),
            "name": linked.name,
            "version": linked.version,
            "purl": reference(linked),
            "licenses": [{"expression": linked.license.replace('/', " OR ")}],
            "hashes": hashes,
        })
    };
    let mut sorted: Vec<_> = crates.values().collect();
    sorted.sort_by_key(|linked| (&linked.name, &linked.version));
    let root = sorted.iter().find(|linked| linked.name == ROOT).map(|linked| component(linked));
    let others: Vec<_> = sorted.iter().filter(|linked| linked.name != ROOT).map(|linked| component(linked)).collect();
    let dependencies: Vec<_> = sorted
        .iter()
        .map(|linked| {
            let mut uses: Vec<_> = linked.uses.iter().filter_map(|id| crates.get(id)).map(reference).collect();
            uses.sort();
            json!({"ref": reference(linked), "dependsOn": uses})
        })
        .collect();
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": root},
        "components": others,
        "dependencies": dependencies,
    });
    format!("{bill:#}\n")
}
