//! What bmpd does now, in one sentence for a service manager.

use super::ControlContext;
use crate::{config::SessionId, pin::Enforcement};

impl ControlContext {
    /// Describes the sessions and what holds them, without a full stop:
    /// `2 of 3 sessions are up, and the kernel enforces their pins`.
    pub fn in_one_sentence(&self) -> String {
        let running = self.store.running();
        let is_up =
            |id: &&SessionId| self.sessions.get(id).is_some_and(|session| session.status.snapshot().phase.is_up());
        let up = running.bmp.sessions.keys().filter(is_up).count();
        sentence(up, running.bmp.sessions.len(), &self.pins.datapath().enforcement_now())
    }
}

fn sentence(up: usize, sessions: usize, enforcement: &Enforcement) -> String {
    let pins = match enforcement {
        Enforcement::Kernel => "the kernel enforces their pins",
        Enforcement::Cgroup { .. } => "the kernel enforces their pins for this cgroup only",
        Enforcement::Socket { .. } => "the kernel does not enforce their pins",
    };
    match sessions {
        0 => "no session is configured".to_owned(),
        1 => format!("{up} of 1 session is up, and {pins}"),
        _ => format!("{up} of {sessions} sessions are up, and {pins}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_counts_sessions_and_names_what_holds_them() {
        assert_eq!(sentence(0, 0, &Enforcement::Kernel), "no session is configured");
        assert_eq!(sentence(1, 1, &Enforcement::Kernel), "1 of 1 session is up, and the kernel enforces their pins");
        let none = Enforcement::Socket { why: String::new() };
        assert_eq!(sentence(2, 3, &none), "2 of 3 sessions are up, and the kernel does not enforce their pins");
    }
}
