//! Real captures, which lie beside the checkout: BMP streams of routers, and MRT files.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use bmp_user::wire::{bmp, mrt};

use super::beside;

/// Where they are looked for.
pub fn folder() -> PathBuf {
    beside("bmp")
}

/// Whether they are there.
pub fn captures_are_there() -> bool {
    !captures().is_empty()
}

/// The captured BMP streams: file name and content.
pub fn captures() -> Vec<(String, Vec<u8>)> {
    read_all(&folder(), "bmp")
}

/// Those of version 3. None, with a word, where they are not at hand.
#[expect(clippy::print_stderr, reason = "a test that could not look at the real data has to say so")]
pub fn captures_v3() -> Vec<(String, Vec<u8>)> {
    if !captures_are_there() {
        eprintln!("skipped: no captures in {}", folder().display());
    }
    captures().into_iter().filter(|(_, stream)| stream.first() == Some(&bmp::VERSION)).collect()
}

/// All whole frames of all captures of version 3.
pub(super) fn frames_of_captures() -> Vec<Vec<u8>> {
    let of = |(_, stream): (String, Vec<u8>)| {
        bmp::frames(&stream).map_while(Result::ok).map(|frame| frame.bytes().to_vec()).collect::<Vec<_>>()
    };
    captures().into_iter().flat_map(of).collect()
}

/// Records of the MRT files: of each type, subtype and length one.
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

/// Short files: the beginnings of the MRT files, whole records of them.
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

/// No more than is needed of it.
fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // What could be unpacked is good enough to begin with.
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
