//! Random configuration changes and host events, against a model as simple as the two tables of
//! connect-interface. After each step, sessions, kernel maps and captured packets must agree with
//! the model.
//!
//! A failed game prints its seed and all its commands. `BMPD_MODEL_SEED=N BMPD_MODEL_STEPS=N` plays
//! it again. `BMPD_SOAK=1` plays a hundred long games.

mod model {
    pub(crate) mod compare;
    pub(crate) mod configuration;
    pub(crate) mod generate;
    pub(crate) mod host;
    pub(crate) mod ledger;
    pub(crate) mod observed;
    pub(crate) mod operation;
    pub(crate) mod play;
    pub(crate) mod reference;
    pub(crate) mod sessions;
    pub(crate) mod world;
}

use fastrand::Rng;
use lab::soak;
use model::{
    configuration::{ConfigurationEdit, ModelConfiguration, ModelSessionId, SessionView, SourceSetting},
    generate,
    operation::{HostEvent, Operation, WhileDead},
    play::ModelGame,
    world::{ModelLink, PORTS},
};

/// Steps of a usual game, and of a long one.
const STEPS: [usize; 2] = [30, 120];

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

fn play(seed: u64) {
    let steps = setting("BMPD_MODEL_STEPS").map_or(soak::times(STEPS[0], STEPS[1]), |steps| steps as usize);
    let mut rng = Rng::with_seed(seed);
    let title = format!("BMPD_MODEL_SEED={seed} BMPD_MODEL_STEPS={steps}");
    let mut game = ModelGame::begin(title, generate::configuration(&mut rng));
    for _ in 0..steps {
        let operation = generate::operation(&mut rng, &game);
        game.step(&operation);
    }
}

/// Plays given operations on one session with this `connect-interface` and `egress-interface`.
fn case(
    station: &str,
    source: Option<SourceSetting>,
    egress: &[&str],
    operations: impl Fn(ModelSessionId) -> Vec<Operation>,
) {
    let id = ModelSessionId { station: station.parse().expect("an address"), alias: "a" };
    let egress = egress.iter().map(|name| (*name).to_owned()).collect();
    let mut configuration = ModelConfiguration::default();
    configuration.sessions.insert(id, SessionView { port: Some(PORTS[0]), source, egress, shutdown: false });
    let mut game = ModelGame::begin("a sequence that failed once".to_owned(), configuration);
    for operation in operations(id) {
        game.step(&operation);
    }
}

#[test]
fn a_pin_of_an_earlier_bmpd_is_not_restored() {
    case("198.51.100.7", Some(SourceSetting::interface("up2")), &[], |id| {
        vec![
            Operation::Crash(WhileDead::Host(HostEvent::CarrierDown(ModelLink(2)))),
            Operation::Commit(vec![ConfigurationEdit::Source(id, None)]),
        ]
    });
}

#[test]
fn a_chosen_address_is_kept_over_a_crash_of_a_session_that_was_down() {
    case("198.51.100.7", Some(SourceSetting::interface("up2")), &[], |_| {
        vec![
            // An address that would be the first choice, if it was there.
            Operation::Host(HostEvent::Address(ModelLink(2), 3, true)),
            Operation::Host(HostEvent::CarrierDown(ModelLink(2))),
            Operation::Crash(WhileDead::Nothing),
            Operation::Host(HostEvent::CarrierUp(ModelLink(2))),
        ]
    });
}

#[test]
fn a_recreated_session_does_not_start_with_its_old_pin() {
    case("198.51.100.7", None, &[], |id| {
        let again = SessionView {
            port: Some(PORTS[0]),
            source: Some(SourceSetting::interface("lo")),
            ..SessionView::default()
        };
        let round = [
            Operation::Commit(vec![ConfigurationEdit::Remove(id)]),
            Operation::Commit(vec![ConfigurationEdit::Add(id, again)]),
        ];
        // A race: the pin and the session may learn of the new session in either order.
        let back = [Operation::Commit(vec![ConfigurationEdit::Source(id, None)])];
        std::iter::repeat_n([&round[..], &back[..]].concat(), 6).flatten().collect()
    });
}

#[test]
fn a_renamed_interface_is_displayed_with_its_new_name() {
    case("198.51.100.7", None, &["up1", "up3", "north3"], |_| {
        vec![Operation::Host(HostEvent::Down(ModelLink(3))), Operation::Host(HostEvent::Rename(ModelLink(3)))]
    });
}

#[test]
fn a_session_stays_while_a_usable_interface_comes_and_goes() {
    case("198.51.100.7", Some(SourceSetting::interface("lo")), &["up1", "up2"], |_| {
        vec![Operation::Host(HostEvent::Delete(ModelLink(2))), Operation::Host(HostEvent::Create(ModelLink(2)))]
    });
}

#[test]
fn a_fixed_sequence_agrees_with_the_model() {
    play(1);
}

#[test]
fn a_second_fixed_sequence_agrees_with_the_model() {
    play(104);
}

#[test]
fn random_sequences_agree_with_the_model() {
    match setting("BMPD_MODEL_SEED") {
        Some(seed) => play(seed),
        None => (0..soak::times(1, 100)).for_each(|_| play(fastrand::u64(..1 << 32))),
    }
}
