//! Without libFuzzer: every target takes what it starts from, whole and damaged.

use std::panic::catch_unwind;

use bmp_fuzz::{corpus, target};
use bmp_user::config::parse_file;
use fastrand::Rng;

/// How many damaged versions there are of each seed.
fn times() -> usize {
    let soak = std::env::var("BMPD_SOAK").is_ok_and(|soak| !soak.is_empty() && soak != "0");
    if soak { 1000 } else { 10 }
}

/// Throws an input at a target; one that breaks it is kept, so that it can be thrown again.
fn throw(name: &str, target: target::Target, input: &[u8]) {
    if catch_unwind(|| target(input)).is_err() {
        let file = std::env::temp_dir().join(format!("bmpd-fuzz-{name}-{}", std::process::id()));
        std::fs::write(&file, input).expect("the input can be kept");
        panic!("again: cargo xtask fuzz {name} --replay {}", file.display());
    }
}

fn seeds_of(name: &str) -> Vec<Vec<u8>> {
    let seeds = corpus::of(name);
    assert!(seeds.len() > 5, "{name}: {} seeds", seeds.len());
    seeds
}

#[test]
fn every_target_takes_what_it_starts_from() {
    for (name, target) in target::ALL {
        throw(name, target, &[]);
        seeds_of(name).iter().for_each(|seed| throw(name, target, seed));
    }
}

#[test]
fn every_target_takes_what_it_starts_from_cut_changed_and_spliced() {
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
fn the_configuration_with_every_command_is_one() {
    let config = parse_file("everything.conf", corpus::CONFIGURATION).unwrap();
    assert_eq!((config.bmp.sessions.len(), config.relays.len(), config.replays.len()), (3, 2, 2));
}
