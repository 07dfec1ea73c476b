//! The game: after each operation and a quiet moment, bmpd's displays, the kernel maps and the
//! captured packets must agree with the model.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use lab::{
    bgp::prefixes,
    bmp::ReportedPeer,
    bmpd::{Bmpd, StartOptions},
    feeder::BmpFeeder,
    sockets::ForeignSocket,
    trial::RELAY,
    wait::{PATIENCE, patience},
};

use super::{
    configuration::{ConfigurationEdit, ModelConfiguration, ModelSessionId, SourceSetting},
    host::HostState,
    ledger::PacketLedger,
    observed,
    operation::{Operation, WhileDead},
    reference::{SessionGrant, SessionOutcome, choice, in_force, outcome},
    sessions::{ModelSession, ModelSessions},
    world::ModelWorld,
};

/// Reasons of a step for establishing sessions again.
#[derive(Debug, Default)]
struct StepReasons {
    /// bmpd was started, and counts from zero.
    started: bool,
    /// The session that was reset.
    reset: Option<ModelSessionId>,
}

pub(crate) struct ModelGame {
    pub(crate) world: ModelWorld,
    pub(crate) configuration: ModelConfiguration,
    pub(crate) host: HostState,
    /// How to repeat this game.
    title: String,
    /// `None` while bmpd is dead.
    bmpd: Option<Bmpd>,
    feeder: Option<BmpFeeder>,
    known: ModelSessions,
    ledger: PacketLedger,
    steps: usize,
}

impl ModelGame {
    pub(crate) fn begin(title: String, configuration: ModelConfiguration) -> Self {
        let mut world = ModelWorld::new();
        let bmpd = Bmpd::start(&world.router, &configuration.text());
        let feeder = BmpFeeder::with_peer(&world.router, RELAY, &ReportedPeer::default());
        let host = HostState::read(&world.router);
        world.note_file(&configuration.text(), "bmpd --config bmpd.conf");
        let (known, ledger, bmpd, feeder) = (ModelSessions::new(), PacketLedger::default(), Some(bmpd), Some(feeder));
        let mut play = Self { world, configuration, host, title, bmpd, feeder, known, ledger, steps: 0 };
        play.settle(&StepReasons { started: true, reset: None });
        play
    }

    /// Returns the sessions that the network does not carry, or did not carry all the time.
    pub(crate) fn unsteady(&self) -> impl Iterator<Item = ModelSessionId> {
        self.known.iter().filter(|(_, known)| known.established.is_none()).map(|(id, _)| *id)
    }

    pub(crate) fn bmpd(&self) -> &Bmpd {
        self.bmpd.as_ref().expect("bmpd runs")
    }

    /// Plays one operation and compares.
    pub(crate) fn step(&mut self, operation: &Operation) {
        self.steps += 1;
        self.world.log.push(format!("# step {}: {operation:?}", self.steps));
        let before = self.configuration.clone();
        let mut named = StepReasons::default();
        match operation {
            Operation::Commit(edits) => {
                let (configuration, typed) = before.edited(edits).expect("the generator makes valid commits");
                self.configuration = configuration;
                self.typed(&format!("{typed}commit\n"), true);
            }
            Operation::Reload(edits) => {
                let text = self.rewritten(edits, "kill -HUP $(pidof bmpd)");
                self.bmpd().reload(&text);
            }
            Operation::Refused(edits, wrong) => {
                let (_, typed) = before.edited(edits).expect("the generator makes valid commits");
                self.typed(&format!("{typed}{wrong}\ncommit\n"), false);
            }
            Operation::Reset(id) => {
                let words = format!("reset bmp session {} alias {}", id.station, id.alias);
                self.world.log.push(format!("router# bmpctl {words}"));
                self.bmpd().display(&words);
                named.reset = Some(*id);
            }
            Operation::Foreign(id) => self.foreign(id),
            Operation::Crash(meanwhile) => {
                named.started = true;
                self.crash(meanwhile);
            }
            Operation::Host(event) => event.happen(&mut self.world, &self.host),
        }
        // Give every session that is up something to send, after the operation.
        if let Some(feeder) = &mut self.feeder {
            feeder.announce(&ReportedPeer::default(), &prefixes(1 + self.steps % 50), 100);
        }
        self.forget(&before);
        self.host = HostState::read(&self.world.router);
        self.settle(&named);
    }

    fn typed(&mut self, lines: &str, right: bool) {
        self.world.log.push(format!("router# bmpctl -f - <<END\n{lines}END"));
        let (accepted, answer) = self.bmpd().typed(lines);
        if accepted != right {
            self.lost(&[format!("bmpctl took the lines: {accepted}; it printed: {answer}")]);
        }
    }

    /// Applies the edits to the model's configuration, and returns the file.
    fn rewritten(&mut self, edits: &[ConfigurationEdit], and_then: &str) -> String {
        self.configuration = self.configuration.replaced(edits).expect("the generator makes valid files");
        let text = self.configuration.text();
        self.world.note_file(&text, and_then);
        text
    }

    /// Kills bmpd, lets something happen without it, and starts a new bmpd.
    fn crash(&mut self, meanwhile: &WhileDead) {
        self.world.log.push("router# kill -9 $(pidof bmpd)".to_owned());
        self.feeder = None;
        let setup = self.bmpd.take().expect("bmpd runs").crash();
        match meanwhile {
            WhileDead::Nothing => {}
            WhileDead::Host(event) => event.happen(&mut self.world, &self.host),
            WhileDead::Edited(edits) => {
                let text = self.rewritten(edits, "");
                std::fs::write(setup.file(), text).expect("the file is writable");
            }
        }
        self.world.log.push("router# bmpd --config bmpd.conf".to_owned());
        self.bmpd = Some(Bmpd::start_in(setup, &StartOptions::default()));
        self.feeder = Some(BmpFeeder::with_peer(&self.world.router, RELAY, &ReportedPeer::default()));
    }

    /// Connects another process to the session's station and port. The session's pin must hold it.
    fn foreign(&mut self, id: &ModelSessionId) {
        let (Some(port), Some(known)) = (self.configuration.sessions[id].port, self.known.get(id)) else { return };
        let station = SocketAddr::new(id.station, port);
        self.world.log.push(format!("router# nc {} {port}", id.station));
        let connected = ForeignSocket::default().connect(&self.world.router, station);
        let wrong = match (&known.outcome, connected) {
            (SessionOutcome::Down(_), Err(error)) if error.kind() == ErrorKind::PermissionDenied => None,
            (SessionOutcome::Down(_), connected) => Some(format!("a foreign process was not denied: {connected:?}")),
            (SessionOutcome::Up(_), _) if !known.carried => None,
            (SessionOutcome::Up(_), Err(error)) => Some(format!("a foreign process could not connect: {error}")),
            (SessionOutcome::Up(grant), Ok(stream)) => {
                let local = stream.local_addr().expect("the socket is connected").ip();
                let right = grant.source.is_none_or(|source| source == local);
                (!right).then(|| format!("a foreign process came from {local}"))
            }
        };
        if let Some(wrong) = wrong {
            self.lost(&[wrong, format!("{known:?}")]);
        }
    }

    /// Forgets a chosen address when its `connect-interface` changes its meaning.
    fn forget(&mut self, before: &ModelConfiguration) {
        let now = &self.configuration;
        self.known.retain(|id, _| now.sessions.contains_key(id));
        for (id, known) in &mut self.known {
            let (Some(old), Some(new)) = (before.sessions.get(id), now.sessions.get(id)) else { continue };
            let meaning = |source: Option<SourceSetting>| source.map(|source| (source.interface, source.address));
            if meaning(in_force(before, id, old)) != meaning(in_force(now, id, new)) {
                known.chosen = None;
            }
        }
    }

    /// Waits for a quiet moment in which everything agrees with the model.
    fn settle(&mut self, named: &StepReasons) {
        let mut next: ModelSessions =
            self.configuration.sessions.keys().map(|id| (*id, self.model(id, named))).collect();
        let granted = next.iter().filter_map(|(id, known)| match &known.outcome {
            SessionOutcome::Up(grant) => Some((SocketAddr::new(id.station, grant.port), grant.clone())),
            SessionOutcome::Down(_) => None,
        });
        self.ledger.note(granted.collect(), named.started);
        let deadline = Instant::now() + patience(PATIENCE);
        let shown = loop {
            let shown = observed::shown(self.bmpd(), &self.configuration);
            let wrong = match &shown {
                Ok(shown) => self.differences(&next, shown),
                Err(error) => vec![error.clone()],
            };
            match shown {
                Ok(shown) if wrong.is_empty() => break shown,
                shown if Instant::now() > deadline => {
                    let both = self.sides(&next, shown.as_ref().ok());
                    self.lost(&[wrong, both].concat());
                }
                _ => {}
            }
        };
        for (id, known) in &mut next {
            known.local = shown[id].local.map(|local| local.ip());
            // A session that is down goes on from its present count.
            if matches!(known.outcome, SessionOutcome::Down(_)) {
                known.established = Some(shown[id].established);
            }
        }
        self.known = next;
        self.look_at_what_left();
    }

    /// Returns the model's session now. Its count grows by one if another pin is in force than
    /// before, or if the step names it.
    fn model(&self, id: &ModelSessionId, named: &StepReasons) -> ModelSession {
        let (session, past) = (&self.configuration.sessions[id], self.known.get(id));
        let kept = past.and_then(|past| past.chosen);
        let now = outcome(&self.configuration, &self.host, id, session, kept);
        let chosen = choice(&self.configuration, &self.host, id, session, kept);
        // A change of usable interfaces is no reason to connect again.
        let goes_on = |past: &&ModelSession| match (&past.outcome, &now) {
            (SessionOutcome::Up(before), SessionOutcome::Up(now)) if past.egress == session.egress => {
                SessionGrant { egress: now.egress.clone(), ..before.clone() } == *now
            }
            (before, now) => before == now,
        };
        let same = past.filter(goes_on).filter(|_| !named.started && named.reset != Some(*id));
        // The kernel's choice of source stays with the connection.
        let carried = match &now {
            SessionOutcome::Up(grant) => self.is_carried(id, grant, same.and_then(|past| past.local)),
            SessionOutcome::Down(_) => false,
        };
        let before = if named.started { Some(0) } else { past.map_or(Some(0), |past| past.established) };
        let established = match &now {
            SessionOutcome::Down(_) => before,
            SessionOutcome::Up(_) if !carried => None,
            SessionOutcome::Up(_) => before.map(|count| if same.is_some() { count } else { count + 1 }),
        };
        ModelSession { outcome: now, egress: session.egress.clone(), chosen, carried, established, local: None }
    }

    /// True if the network carries the session's packets. If routing chooses an interface that the
    /// session may not use, its connection may fail at any time.
    fn is_carried(&self, id: &ModelSessionId, grant: &SessionGrant, local: Option<IpAddr>) -> bool {
        if grant.device.is_some() {
            return true;
        }
        let way =
            self.world.way(id.station, grant.source.or(local)).and_then(|name| self.host.interface(&name).cloned());
        way.is_some_and(|way| way.works() && (grant.egress.is_empty() || grant.egress.contains(&way.index)))
    }

    fn look_at_what_left(&mut self) {
        let mut strays = Vec::new();
        for (index, packet) in self.world.left() {
            if !self.ledger.allows(index, &packet) {
                let name = self.host.interfaces.iter().find(|i| i.index == index).map_or("gone", |i| &i.name);
                strays.push(format!("left by interface {index} ({name}): {packet:?}"));
            }
        }
        if !strays.is_empty() {
            strays.extend(self.ledger.lines());
            self.lost(&strays);
        }
    }

    /// Fails the test: prints how to repeat the game, and the differences.
    fn lost(&self, what: &[String]) -> ! {
        let log = self.world.log.join("\n");
        panic!("{}, step {}\n\n{log}\n\ndiffers from the model:\n{}", self.title, self.steps, what.join("\n"));
    }
}
