//! The comparison of the model with bmpd and the kernel.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{
    configuration::ModelSessionId,
    observed::{self, DisplayedSession},
    play::ModelGame,
    reference::{SessionGrant, SessionOutcome, in_force},
    sessions::{ModelSession, ModelSessions},
};

impl ModelGame {
    /// Returns all differences from the model.
    pub(crate) fn differences(
        &self,
        known: &ModelSessions,
        shown: &BTreeMap<ModelSessionId, DisplayedSession>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for (id, known) in known {
            let found = self.difference(id, known, &shown[id]);
            wrong.extend(found.map(|what| format!("{} {}: {what}", id.station, id.alias)));
        }
        match observed::pins(self.bmpd().setup().bpffs()) {
            Ok(mut pins) => {
                for (id, known) in known {
                    let Some(port) = self.configuration.sessions[id].port else { continue };
                    let station = SocketAddr::new(id.station, port);
                    match pins.remove(&station) {
                        None => wrong.push(format!("{station} has no key in the kernel map")),
                        Some(pin) if pin != observed::pin(&known.outcome, &pin) => {
                            wrong.push(format!("{station} has another pin in the kernel map: {pin:?}"));
                        }
                        Some(_) => {}
                    }
                }
                let left_over = |station| format!("{station} has a key in the kernel map and no session");
                wrong.extend(pins.keys().map(left_over));
            }
            Err(error) => wrong.push(error),
        }
        wrong
    }

    /// Returns the first difference between the model's session and bmpd's.
    fn difference(&self, id: &ModelSessionId, known: &ModelSession, shown: &DisplayedSession) -> Option<String> {
        let unless = |yes: bool, what: String| (!yes).then_some(what);
        if let Some(count) = known.established.filter(|count| *count != shown.established) {
            return Some(format!("established {} times, not {count}", shown.established));
        }
        let grant = match &known.outcome {
            SessionOutcome::Down(reasons) => {
                let is_expected = reasons.contains(shown.reason.as_str()) && shown.binding == shown.reason;
                return unless(is_expected && shown.state == "down", format!("is not down for one of {reasons:?}"))
                    .or_else(|| {
                        unless(shown.egress.iter().all(|e| e.is_empty()), "is down and has egress".to_owned())
                    });
            }
            SessionOutcome::Up(grant) => grant,
        };
        let named = |index: &u32| self.host.interfaces.iter().find(|i| i.index == *index).map(|i| i.name.clone());
        let egress = grant.egress.iter().filter_map(named).collect();
        unless(shown.binding == "ready", "has no binding".to_owned())
            .or_else(|| unless(shown.source == grant.source, format!("its source is not {:?}", grant.source)))
            .or_else(|| unless(shown.egress.iter().all(|e| *e == egress), format!("its egress is not {egress:?}")))
            .or_else(|| {
                // The model predicts a connection only if the network has always carried it.
                known.established.filter(|_| known.carried)?;
                self.not_following(id, grant, shown)
            })
    }

    fn not_following(&self, id: &ModelSessionId, grant: &SessionGrant, shown: &DisplayedSession) -> Option<String> {
        if (shown.state.as_str(), shown.phase.as_str(), shown.reason.as_str()) != ("up", "following", "-") {
            return Some("is not up and following".to_owned());
        }
        let Some(local) = shown.local else { return Some("is up from nowhere".to_owned()) };
        if grant.source.is_some_and(|source| source != local.ip()) {
            return Some(format!("is up from another source than {:?}", grant.source));
        }
        let station = SocketAddr::new(id.station, grant.port);
        (!self.world.has(station, local)).then(|| format!("the station {station} has no connection from {local}"))
    }

    /// Describes both sides, for debugging.
    pub(crate) fn sides(
        &self,
        known: &ModelSessions,
        shown: Option<&BTreeMap<ModelSessionId, DisplayedSession>>,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for (id, known) in known {
            let session = &self.configuration.sessions[id];
            let configured = in_force(&self.configuration, id, session).map(|source| source.words);
            lines.push(format!("{} {}, configured {configured:?}, egress {:?}:", id.station, id.alias, session.egress));
            lines.push(format!("  model: {known:?}"));
            lines.push(format!("  bmpd:  {:?}", shown.map(|shown| &shown[id])));
        }
        lines.extend(self.host.interfaces.iter().map(|interface| format!("{interface:?}")));
        lines.extend(self.host.routes.iter().map(|route| format!("{route:?}")));
        lines
    }
}
