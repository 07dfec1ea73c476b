//! What follows from a new decision about a pin. Pure: the kernel is changed elsewhere
//! ([`apply`](super::PinKeeper::apply)).

use tokio::time::Instant;

use super::hold_down::HoldDownTimer;
use crate::pin::{
    plan::{PinDecision, PinDemand, PinSettings},
    reason::DownCause,
    view::HoldDown,
};

/// What is in force for one pin.
#[derive(Debug, Default)]
pub(super) struct PinInForce {
    /// The settings that it follows from.
    pub(super) settings: Option<PinSettings>,
    /// The decision; `None` before the first one and after the kernel refused it.
    pub(super) decision: Option<PinDecision>,
    /// `egress-interface` when the decision was applied.
    egress_interfaces: Vec<String>,
    pub(super) hold_down: HoldDownTimer,
}

/// What the keeper does about a new decision.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PinStep {
    /// Leaves in force what is, although the way is lost.
    Hold(HoldDown),
    /// Leaves in force what is: the decision asks for the same.
    Keep,
    /// Puts the decision in force.
    Apply {
        /// True if the connections that exist go on under the new pin.
        connections_go_on: bool,
    },
}

impl PinInForce {
    /// Decides what to do about a decision. `is_outdated` says that the kernel's side has to change
    /// even for the same decision.
    pub(super) fn step(
        &mut self,
        decision: &PinDecision,
        demand: &PinDemand,
        is_outdated: bool,
        now: Instant,
    ) -> PinStep {
        let settings = &demand.settings;
        if let Some(cause) = self.lost_way(decision, settings)
            && let Some(held) = self.hold_down.hold(cause, demand.hold_down, now)
        {
            return PinStep::Hold(held);
        }
        self.hold_down.clear();
        self.settings = Some(settings.clone());
        if !is_outdated && self.decision.as_ref().is_some_and(|known| known.asks_the_same(decision)) {
            return PinStep::Keep;
        }
        // An interface that comes or goes is no reason to connect again. Naming another one is.
        let connections_go_on = self.egress_interfaces == settings.egress_interfaces
            && self.decision.as_ref().is_some_and(|known| known.differs_in_egress_at_most(decision));
        self.egress_interfaces.clone_from(&settings.egress_interfaces);
        PinStep::Apply { connections_go_on }
    }

    /// Returns what the host has lost, if that alone takes a session down that is ready. What an
    /// operator changes takes effect at once.
    fn lost_way<'a>(&self, decision: &'a PinDecision, settings: &PinSettings) -> Option<&'a DownCause> {
        let PinDecision::Down { cause, .. } = decision else { return None };
        let is_ready = matches!(self.decision, Some(PinDecision::Ready(_)));
        let is_of_the_host = cause.reason.is_host_loss() && self.settings.as_ref() == Some(settings);
        (is_ready && is_of_the_host).then_some(cause)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{
        config::Transport,
        link::Interface,
        pin::{
            kernel::{PinTarget, Role},
            plan::{Grant, ResolvedPin, SourceRule},
            reason::Reason,
        },
    };

    const TARGET: &str = "198.51.100.7:11019";

    fn demand(egress: &[&str], hold_down: u64) -> PinDemand {
        let settings = PinSettings {
            connect: None,
            transport: Some(Transport::Connect(11019)),
            egress_interfaces: egress.iter().map(|name| (*name).to_owned()).collect(),
            next_hop: None,
            shutdown: false,
            own_only: false,
            taken_by: None,
            aliases: BTreeMap::new(),
        };
        PinDemand { settings, hold_down: Duration::from_secs(hold_down), adopted: false }
    }

    fn ready(source: &str, egress: &[u32]) -> PinDecision {
        let egress = egress.iter().map(|index| Interface { index: *index, name: format!("up{index}") });
        PinDecision::Ready(Grant {
            target: PinTarget { role: Role::Connect, vrf: 0, station: TARGET.parse().unwrap() },
            resolved: ResolvedPin {
                source: source.parse().ok(),
                device: None,
                egress: egress.collect(),
                path: None,
                rule: SourceRule::Configured,
            },
            line: 0,
            own_only: false,
            mark: 0,
        })
    }

    fn down(reason: Reason) -> PinDecision {
        PinDecision::Down { target: None, cause: DownCause::without_mend(reason, "lost") }
    }

    /// A pin that is in force.
    fn in_force(decision: PinDecision, demand: &PinDemand) -> PinInForce {
        let mut pin = PinInForce::default();
        assert_eq!(pin.step(&decision, demand, false, Instant::now()), PinStep::Apply { connections_go_on: false });
        pin.decision = Some(decision);
        pin
    }

    #[test]
    fn the_same_decision_is_applied_once() {
        let (demand, now) = (demand(&[], 0), Instant::now());
        let mut pin = in_force(ready("192.0.2.1", &[2]), &demand);
        assert_eq!(pin.step(&ready("192.0.2.1", &[2]), &demand, false, now), PinStep::Keep);
        let again = pin.step(&ready("192.0.2.1", &[2]), &demand, true, now);
        assert_eq!(again, PinStep::Apply { connections_go_on: true }, "the kernel has another one");
    }

    #[test]
    fn connections_go_on_when_an_interface_comes_or_goes_and_not_when_another_is_named() {
        let (both, now) = (demand(&["up2", "up3"], 0), Instant::now());
        let mut pin = in_force(ready("192.0.2.1", &[2, 3]), &both);
        let gone = pin.step(&ready("192.0.2.1", &[2]), &both, false, now);
        assert_eq!(gone, PinStep::Apply { connections_go_on: true });
        let named = pin.step(&ready("192.0.2.1", &[2]), &demand(&["up2"], 0), true, now);
        assert_eq!(named, PinStep::Apply { connections_go_on: false });
        let moved = pin.step(&ready("192.0.2.9", &[2]), &demand(&["up2"], 0), false, now);
        assert_eq!(moved, PinStep::Apply { connections_go_on: false }, "another source");
    }

    #[test]
    fn a_ready_session_is_held_for_what_the_host_lost_and_for_nothing_else() {
        let (held, now) = (demand(&[], 5), Instant::now());
        let mut pin = in_force(ready("192.0.2.1", &[2]), &held);
        assert!(matches!(pin.step(&down(Reason::InterfaceDown), &held, false, now), PinStep::Hold(_)));
        assert_eq!(pin.step(&ready("192.0.2.1", &[2]), &held, false, now), PinStep::Keep, "it is back");
        assert!(matches!(pin.step(&down(Reason::Shutdown), &held, false, now), PinStep::Apply { .. }));
        assert!(matches!(pin.step(&down(Reason::NextHopOverruled), &held, false, now), PinStep::Apply { .. }));
    }

    #[test]
    fn a_change_of_settings_ends_the_hold_down() {
        let (held, now) = (demand(&[], 5), Instant::now());
        let mut pin = in_force(ready("192.0.2.1", &[2]), &held);
        assert!(matches!(pin.step(&down(Reason::InterfaceDown), &held, false, now), PinStep::Hold(_)));
        let changed = pin.step(&down(Reason::InterfaceDown), &demand(&["up3"], 5), false, now);
        assert_eq!(changed, PinStep::Apply { connections_go_on: false });
        assert_eq!(pin.hold_down.deadline(), None);
    }

    #[test]
    fn a_session_that_is_down_is_not_held() {
        let (held, now) = (demand(&[], 5), Instant::now());
        let mut pin = in_force(down(Reason::AddressAbsent), &held);
        assert!(matches!(pin.step(&down(Reason::InterfaceDown), &held, false, now), PinStep::Apply { .. }));
    }
}
