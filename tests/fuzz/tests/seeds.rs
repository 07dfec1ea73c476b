//! Fuzz targets without libFuzzer: every target reads its seeds, whole and damaged.

use std::panic::catch_unwind;

use bmp_fuzz::{corpus, target};
use bmp_user::config::parse_file;
use fastrand::Rng;

/// Returns the number of damaged versions of each seed.
fn times() -> usize {
    let soak = std::env::var("BMPD_SOAK").is_ok_and(|soak| !soak.is_empty() && soak != "0");
    if soak { 1000 } else { 10 }
}

/// Calls a target with an input. Keeps an input that breaks the target in a file, for a replay.
fn throw(name: &str, target: target::FuzzFunction, input: &[u8]) {
    if catch_unwind(|| target(input)).is_err() {
        let file = std::env::temp_dir().join(format!("bmpd-fuzz-{name}-{}", std::process::id()));
        std::fs::write(&file, input).expect("the input is written to a file");
        panic!("repeat with: cargo xtask fuzz {name} --replay {}", file.display());
    }
}

fn seeds_of(name: &str) -> Vec<Vec<u8>> {
    let seeds = corpus::of(name);
    assert!(seeds.len() > 5, "{name}: {} seeds", seeds.len());
    seeds
}

#[test]
fn every_target_reads_its_seeds() {
    for (name, target) in target::ALL {
        throw(name, target, &[]);
        seeds_of(name).iter().for_each(|seed| throw(name, target, seed));
    }
}

#[test]
fn every_target_reads_its_seeds_cut_changed_and_spliced() {
    let mut random = Rng::with_seed(7854);
    for (name, target) in target::ALL {
        let seeds = seeds_of(name);
        for seed in seeds.iter().filter(|seed| !seed.is_empty()) {
            for _ in 0..times() {
                let mut damaged = seed.clone();
                match random.u8(0..3) {
                    0 => damaged.truncate(random.usize(..seed.len())),
                    1 => {
                        (0..random.usize(1..8)).for_each(|_| damaged[random.usize(..seed.len())] ^= 1 << random.u8(..8))
                    }
                    _ => {
                        let other = &seeds[random.usize(..seeds.len())];
                        damaged.truncate(random.usize(..seed.len()));
                        damaged.extend(&other[random.usize(..other.len().max(1)).min(other.len())..]);
                    }
                }
                throw(name, target, &damaged);
            }
        }
    }
}

#[test]
fn the_configuration_with_every_command_is_valid() {
    let config = parse_file("everything.conf", corpus::CONFIGURATION).unwrap();
    assert_eq!((config.bmp.sessions.len(), config.relays.len(), config.replays.len()), (4, 2, 2));
    assert_eq!((config.keychains.len(), config.tls_profiles.len()), (2, 2));
}
