//! Real captures beside the checkout: BMP streams of routers, and MRT files.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use bmp_user::wire::{bmp, mrt};

use super::beside;

/// Returns the folder of BMP captures.
pub fn folder() -> PathBuf {
    beside("bmp")
}

/// True if there are captures.
pub fn captures_are_there() -> bool {
    !captures().is_empty()
}

/// Reads the captured BMP streams, each with its file name.
pub fn captures() -> Vec<(String, Vec<u8>)> {
    read_all(&folder(), "bmp")
}

/// Reads the captures of BMP version 3. Without captures, prints a note and returns none.
#[expect(clippy::print_stderr, reason = "a test without the real data must say so")]
pub fn captures_v3() -> Vec<(String, Vec<u8>)> {
    if !captures_are_there() {
        eprintln!("skipped: no captures in {}", folder().display());
    }
    captures().into_iter().filter(|(_, stream)| stream.first() == Some(&bmp::VERSION)).collect()
}

/// Returns all complete frames of all captures of version 3.
pub(super) fn frames_of_captures() -> Vec<Vec<u8>> {
    let of = |(_, stream): (String, Vec<u8>)| {
        bmp::frames(&stream).map_while(Result::ok).map(|frame| frame.bytes().to_vec()).collect::<Vec<_>>()
    };
    captures().into_iter().flat_map(of).collect()
}

/// Returns one record of the MRT files for each type, subtype and approximate length.
pub(super) fn records() -> Vec<Vec<u8>> {
    let mut found = BTreeMap::new();
    for (_, packed) in read_all(&beside("mrt"), "gz") {
        for record in mrt::records(&unpacked(&packed)).flatten() {
            found
                .entry((record.kind, record.subtype, record.bytes().len() / 8))
                .or_insert_with(|| record.bytes().to_vec());
        }
    }
    found.into_values().take(super::ENOUGH).collect()
}

/// Returns short files: the first records of each MRT file.
pub(super) fn files() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for (_, packed) in read_all(&beside("mrt"), "gz") {
        let file = unpacked(&packed);
        let whole = mrt::records(&file).flatten().map(|record| record.bytes());
        let mut so_far = Vec::new();
        for record in whole.take(40) {
            so_far.extend_from_slice(record);
        }
        files.push(so_far);
    }
    files
}

/// Unpacks at most 1 MiB.
fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // Use whatever could be unpacked.
    let _ = flate2::read::MultiGzDecoder::new(packed).take(1 << 20).read_to_end(&mut out);
    out
}

fn read_all(folder: &Path, extension: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).into_iter().flatten().filter_map(|file| Some(file.ok()?.path()));
    let wanted = files.filter(|path| path.extension().is_some_and(|found| found == extension));
    let read = |path: PathBuf| Some((path.file_name()?.to_string_lossy().into_owned(), fs::read(&path).ok()?));
    let mut all: Vec<_> = wanted.filter_map(read).collect();
    all.sort();
    all
}
