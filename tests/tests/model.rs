//! Random sequences of configuration changes and host events against a model that is as simple as the two tables of
//! connect-interface: after each, sessions, kernel tables and what has left the links are what the model says.
//!
//! `BMPD_MODEL_SEED=N` plays the sequence of one seed again, `BMPD_MODEL_STEPS=N` makes it longer or shorter; `BMPD_SOAK=1` plays many.

mod model {
    pub(crate) mod configuration;
    pub(crate) mod generate;
    pub(crate) mod host;
    pub(crate) mod observed;
    pub(crate) mod operation;
    pub(crate) mod play;
    pub(crate) mod reference;
    pub(crate) mod world;
}

use fastrand::Rng;
use model::{generate, play::Play};

/// How many things happen in one game.
const STEPS: usize = 30;

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

fn play(seed: u64) {
    let steps = setting("BMPD_MODEL_STEPS").map_or(STEPS, |steps| steps as usize);
    let mut rng = Rng::with_seed(seed);
    let title = format!("BMPD_MODEL_SEED={seed} BMPD_MODEL_STEPS={steps}");
    let mut game = Play::begin(title, generate::configuration(&mut rng));
    for _ in 0..steps {
        let operation = generate::operation(&mut rng, &game);
        game.step(&operation);
    }
}

#[test]
fn a_sequence_that_nobody_has_played_before() {
    play(setting("BMPD_MODEL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32)));
}
