//! The game: something happens, all is quiet again, and what bmpd shows, what the kernel holds and what has left the links is what
//! the model says.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use lab::{
    bgp::prefixes,
    bmp::Peer,
    bmpd::{Bmpd, Options},
    capture::Packet,
    feeder::Feeder,
    trial::RELAY,
    wait::{PATIENCE, patience},
};

use super::{
    configuration::{Configuration, Id, Source},
    host::Host,
    observed::{self, Shown},
    operation::Operation,
    reference::{Grant, Outcome, choice, in_force, outcome},
    world::World,
};

/// How long the slot of a replaced pin stays as it was (10 s), and a little for its end to be noticed.
const LINGER: Duration = Duration::from_secs(12);

/// What the model remembers of one session.
#[derive(Clone, Debug)]
struct Past {
    outcome: Outcome,
    /// The address that was chosen.
    chosen: Option<IpAddr>,
    /// How often it has been established; `None` where the network did not carry it all the while, so that its connection may have
    /// failed of itself.
    established: Option<u64>,
    /// Where its connection comes from.
    local: Option<IpAddr>,
}

/// What packets of a session may look like, until when.
#[derive(Clone, Debug)]
struct Allowed {
    station: SocketAddr,
    grant: Grant,
    /// `None` while it is in force.
    until: Option<Instant>,
}

pub(crate) struct Play {
    pub(crate) world: World,
    pub(crate) configuration: Configuration,
    pub(crate) host: Host,
    /// What to say of this game when it is lost.
    title: String,
    /// Absent while it is dead.
    bmpd: Option<Bmpd>,
    feeder: Option<Feeder>,
    past: BTreeMap<Id, Past>,
    allowed: Vec<Allowed>,
    steps: usize,
}

impl Play {
    pub(crate) fn begin(title: String, configuration: Configuration) -> Self {
        let mut world = World::new();
        let bmpd = Bmpd::start(&world.router, &configuration.text());
        let feeder = Feeder::with_peer(&world.router, RELAY, &Peer::default());
        let host = Host::read(&world.router);
        world.log.push(format!("router# cat > bmpd.conf <<END; bmpd --config bmpd.conf\n{}END", configuration.text()));
        let (past, allowed, bmpd, feeder) = (BTreeMap::new(), Vec::new(), Some(bmpd), Some(feeder));
        let mut play = Self { world, configuration, host, title, bmpd, feeder, past, allowed, steps: 0 };
        play.settle(false, &[]);
        play
    }

    /// Sessions that the network does not carry, or did not all the while.
    pub(crate) fn unsteady(&self) -> impl Iterator<Item = Id> {
        self.past.iter().filter(|(_, past)| past.established.is_none()).map(|(id, _)| *id)
    }

    /// Carries out one operation and compares.
    pub(crate) fn step(&mut self, operation: &Operation) {
        self.steps += 1;
        self.world.log.push(format!("# step {}: {operation:?}", self.steps));
        let before = self.configuration.clone();
        let mut restarted = false;
        let mut reset = Vec::new();
        match operation {
            Operation::Commit(edits) => {
                let (configuration, typed) = before.edited(edits).expect("the generator makes no wrong commit");
                self.configuration = configuration;
                self.typed(&typed);
            }
            Operation::Reload(edits) => {
                self.configuration = before.replaced(edits).expect("the generator makes no wrong file");
                let text = self.configuration.text();
                self.world.log.push(format!("router# cat > bmpd.conf <<END; kill -HUP $(pidof bmpd)\n{text}END"));
                self.bmpd().reload(&text);
            }
            Operation::Reset(id) => {
                let words = format!("reset bmp session {} alias {}", id.station, id.alias);
                self.world.log.push(format!("router# bmpctl {words}"));
                self.bmpd().display(&words);
                reset.push(*id);
            }
            Operation::Crash(meanwhile) => {
                restarted = true;
                self.world.log.push("router# kill -9 $(pidof bmpd)".to_owned());
                self.feeder = None;
                let setup = self.bmpd.take().expect("it runs").crash();
                if let Some(operation) = meanwhile {
                    operation.happen(&mut self.world, &self.host);
                }
                self.world.log.push("router# bmpd --config bmpd.conf".to_owned());
                self.bmpd = Some(Bmpd::start_in(setup, &Options::default()));
                self.feeder = Some(Feeder::with_peer(&self.world.router, RELAY, &Peer::default()));
            }
            event => event.happen(&mut self.world, &self.host),
        }
        // Something to send, for every session that is up: not by a way that is no more.
        if let Some(feeder) = &mut self.feeder {
            feeder.announce(&Peer::default(), &prefixes(1 + self.steps % 50), 100);
        }
        self.forget(&before);
        self.host = Host::read(&self.world.router);
        self.settle(restarted, &reset);
    }

    fn bmpd(&self) -> &Bmpd {
        self.bmpd.as_ref().expect("it runs")
    }

    fn typed(&mut self, lines: &str) {
        self.world.log.push(format!("router# bmpctl -f - <<END\n{lines}END"));
        let (taken, said) = self.bmpd().typed(lines);
        if !taken {
            self.lost(&[format!("a commit was refused: {said}")]);
        }
    }

    /// A chosen address is forgotten with the command that it was chosen for. The same in other words is the same.
    fn forget(&mut self, before: &Configuration) {
        let now = &self.configuration;
        self.past.retain(|id, _| now.sessions.contains_key(id));
        for (id, past) in &mut self.past {
            let (Some(old), Some(new)) = (before.sessions.get(id), now.sessions.get(id)) else { continue };
            let meaning = |source: Option<Source>| source.map(|source| (source.interface, source.address));
            if meaning(in_force(before, id, old)) != meaning(in_force(now, id, new)) {
                past.chosen = None;
            }
        }
    }

    /// Waits for the quiet moment: when all is as the model says.
    fn settle(&mut self, restarted: bool, reset: &[Id]) {
        let mut next = BTreeMap::new();
        let mut carried = BTreeMap::new();
        for (id, session) in &self.configuration.sessions {
            let past = self.past.get(id);
            let kept = past.and_then(|past| past.chosen);
            let now = outcome(&self.configuration, &self.host, id, session, kept);
            let chosen = choice(&self.configuration, &self.host, id, session, kept);
            // What the kernel chose stays with the connection.
            let local = past
                .filter(|past| past.outcome == now && !restarted && !reset.contains(id))
                .and_then(|past| past.local);
            let is_carried = matches!(&now, Outcome::Up(grant) if self.is_carried(id, grant, local));
            let before = if restarted { Some(0) } else { past.map_or(Some(0), |past| past.established) };
            let established = match (&now, past.map(|past| &past.outcome)) {
                (Outcome::Down(_), _) => before,
                (Outcome::Up(_), _) if !is_carried => None,
                (now, Some(was)) if now == was && !restarted && !reset.contains(id) => before,
                (Outcome::Up(_), _) => before.map(|count| count + 1),
            };
            carried.insert(*id, is_carried);
            next.insert(*id, Past { outcome: now, chosen, established, local: None });
        }
        self.allow(&next);
        let deadline = Instant::now() + patience(PATIENCE);
        loop {
            let shown = observed::shown(self.bmpd(), &self.configuration);
            let wrong = match &shown {
                Ok(shown) => self.differences(&next, &carried, shown),
                Err(error) => vec![error.clone()],
            };
            if let (Ok(shown), true) = (&shown, wrong.is_empty()) {
                // A session that is down has not been up meanwhile: however often it was, that is where it goes on from.
                for (id, past) in &mut next {
                    past.local = shown[id].local.map(|local| local.ip());
                    if matches!(past.outcome, Outcome::Down(_)) {
                        past.established = Some(shown[id].established);
                    }
                }
                break;
            }
            if Instant::now() > deadline {
                let both = self.sides(&next, shown.as_ref().ok());
                self.lost(&[wrong, both].concat());
            }
        }
        self.past = next;
        self.look_at_what_left();
    }

    /// Notes what packets may look like from now on, and that others may no longer for long.
    fn allow(&mut self, next: &BTreeMap<Id, Past>) {
        let now = Instant::now();
        let mut granted = Vec::new();
        for (id, past) in next {
            if let Outcome::Up(grant) = &past.outcome {
                granted.push((SocketAddr::new(id.station, grant.port), grant.clone()));
            }
        }
        self.allowed.retain(|allowed| allowed.until.is_none_or(|until| until > now));
        for allowed in &mut self.allowed {
            let same = granted.iter().position(|(station, grant)| {
                allowed.until.is_none() && *station == allowed.station && *grant == allowed.grant
            });
            match same {
                Some(index) => drop(granted.swap_remove(index)),
                None => drop(allowed.until.get_or_insert(now + LINGER)),
            }
        }
        self.allowed.extend(granted.into_iter().map(|(station, grant)| Allowed { station, grant, until: None }));
    }

    fn look_at_what_left(&mut self) {
        let mut strays: Vec<String> = Vec::new();
        for (index, packet) in self.world.left() {
            // A reset without an acknowledgement is the kernel's own answer to a packet of a connection that it does not know, or that
            // came in by another interface than the socket's: it has the session's source and goes as routing chooses.
            let stateless = packet.rst && !packet.ack;
            let may = |allowed: &Allowed| {
                let egress = &allowed.grant.egress;
                allowed.station == packet.destination
                    && allowed.grant.source.is_none_or(|source| source == packet.source.ip())
                    && (stateless || egress.is_empty() || egress.contains(&index))
            };
            if !self.allowed.iter().any(may) {
                strays.push(self.stray(index, &packet));
            }
        }
        if !strays.is_empty() {
            strays.extend(self.allowed.iter().map(|allowed| format!("allowed: {allowed:?}")));
            self.lost(&strays);
        }
    }

    fn stray(&self, index: u32, packet: &Packet) -> String {
        let name = self.host.interfaces.iter().find(|i| i.index == index).map_or("gone", |i| &i.name);
        format!("left by interface {index} ({name}): {packet:?}")
    }

    /// Whether the network carries the session where it would go. Where the kernel chooses the way and its choice is not one that the
    /// session may take, nothing is: its connection neither has to come about nor to stay.
    fn is_carried(&self, id: &Id, grant: &Grant, local: Option<IpAddr>) -> bool {
        if grant.device.is_some() {
            return true;
        }
        let interface =
            self.world.way(id.station, grant.source.or(local)).and_then(|name| self.host.interface(&name).cloned());
        interface.is_some_and(|i| i.works() && (grant.egress.is_empty() || grant.egress.contains(&i.index)))
    }

    fn differences(
        &self,
        next: &BTreeMap<Id, Past>,
        carried: &BTreeMap<Id, bool>,
        shown: &BTreeMap<Id, Shown>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for (id, past) in next {
            let found = self.difference(id, past, carried[id], &shown[id]);
            wrong.extend(found.map(|what| format!("{} {}: {what}", id.station, id.alias)));
        }
        match observed::pins(self.bmpd().setup().bpffs()) {
            Ok(pins) => {
                let keys = next.iter().filter_map(|(id, past)| {
                    let port = self.configuration.sessions[id].port?;
                    Some((SocketAddr::new(id.station, port), &past.outcome))
                });
                let mut pins = pins;
                for (station, outcome) in keys {
                    match pins.remove(&station) {
                        None => wrong.push(format!("{station} has no key in the kernel tables")),
                        Some(pin) if pin != observed::pin(outcome, &pin) => {
                            wrong.push(format!("{station} has another pin in the kernel tables: {pin:?}"));
                        }
                        Some(_) => {}
                    }
                }
                wrong.extend(
                    pins.keys().map(|station| format!("{station} has a key in the kernel tables and no session")),
                );
            }
            Err(error) => wrong.push(error),
        }
        wrong
    }

    /// The first difference between a session as it must be and as it is shown.
    fn difference(&self, id: &Id, past: &Past, carried: bool, shown: &Shown) -> Option<String> {
        let is = |yes: bool, what: String| (!yes).then_some(what);
        if let Some(count) = past.established.filter(|count| *count != shown.established) {
            return Some(format!("established {} times, not {count}", shown.established));
        }
        let grant = match &past.outcome {
            Outcome::Down(reasons) => {
                let told = reasons.contains(shown.reason.as_str()) && shown.binding == shown.reason;
                return is(told && shown.state == "down", format!("is not down for one of {reasons:?}"))
                    .or_else(|| is(shown.egress.iter().all(|e| e.is_empty()), "is down and has egress".to_owned()));
            }
            Outcome::Up(grant) => grant,
        };
        let egress = grant.egress.iter().filter_map(|index| self.host.interfaces.iter().find(|i| i.index == *index));
        let egress = egress.map(|interface| interface.name.clone()).collect();
        is(shown.binding == "ready", "has no binding".to_owned())
            .or_else(|| is(shown.source == grant.source, format!("its source is not {:?}", grant.source)))
            .or_else(|| is(shown.egress.iter().all(|e| *e == egress), format!("its egress is not {egress:?}")))
            .or_else(|| {
                // Whether it comes about and stays is known where the network carries it and always has.
                past.established.filter(|_| carried)?;
                self.not_following(id, grant, shown)
            })
    }

    fn not_following(&self, id: &Id, grant: &Grant, shown: &Shown) -> Option<String> {
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

    fn sides(&self, next: &BTreeMap<Id, Past>, shown: Option<&BTreeMap<Id, Shown>>) -> Vec<String> {
        let mut lines = Vec::new();
        for (id, past) in next {
            let asked = in_force(&self.configuration, id, &self.configuration.sessions[id]);
            lines.push(format!("{} {}, asked {asked:?}:", id.station, id.alias));
            lines.push(format!("  model: {past:?}"));
            lines.push(format!("  bmpd:  {:?}", shown.map(|shown| &shown[id])));
        }
        lines.extend(self.host.interfaces.iter().map(|interface| format!("{interface:?}")));
        lines.extend(self.host.routes.iter().map(|route| format!("{route:?}")));
        lines
    }

    /// The game is lost: says how to play it again, and what was wrong.
    fn lost(&self, what: &[String]) -> ! {
        let log = self.world.log.join("\n");
        panic!("{}, step {}\n\n{log}\n\nis not as the model says:\n{}", self.title, self.steps, what.join("\n"));
    }
}
