//! `display interface-binding`: for every session what was asked, what it came to, by which rule, and what would change it.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    super::{Context, warnings},
    layout::may_leave_by,
    names::{egress_names, name_now},
};
use crate::{
    config::{Config, ConnectInterface, From, PUBLIC, Session, SessionId, effective},
    link::Host,
    pin::{Resolved, SessionPin, State, Unresolved},
};

/// One session's binding. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Binding {
    pub(super) station: IpAddr,
    pub(super) vpn_instance: String,
    pub(super) alias: Option<String>,
    /// `connect-interface` as it is configured; `None` where it is not.
    pub(super) asked: Option<String>,
    /// The view that it is configured in: `session`, `bmp` or `default`.
    pub(super) from: &'static str,
    pub(super) source: Option<IpAddr>,
    /// Whether the session may leave by any interface (of its VRF).
    pub(super) any: bool,
    /// Kernel names of those that it may leave by; none where `any` is true, and none where it is
    /// denied.
    pub(super) egress: Vec<String>,
    /// The router that its packets are sent to, and the interface that this one is on.
    pub(super) next_hop: Option<NextHop>,
    /// By which rule the source was chosen, or why there is none.
    pub(super) rule: String,
    /// `pending`, `ready`, `held`, or why it is down: `interface-absent`, ...
    pub(super) state: &'static str,
    /// Of a session whose way is lost and that `hold-down` holds all the same.
    pub(super) held: Option<Held>,
    /// What the operator should know although nothing is refused for it.
    pub(super) warnings: Vec<String>,
    pub(super) would_change: Vec<String>,
}

/// `next-hop`, and what it came to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct NextHop {
    pub(super) address: IpAddr,
    /// `None` where the session is down.
    pub(super) interface: Option<String>,
}

/// Why a session is held, and how long still.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Held {
    /// What it will be down for.
    pub(super) reason: &'static str,
    /// That in a sentence.
    pub(super) detail: String,
    /// When, if it is not mended before.
    pub(super) for_seconds: f64,
}

impl Held {
    /// `None` where the session is not held.
    pub(super) fn of(pin: &SessionPin, state: &State) -> Option<Self> {
        let held = pin.held().borrow().clone().filter(|_| matches!(state, State::Ready(_)))?;
        Some(Self {
            reason: held.unresolved.reason.as_str(),
            detail: held.unresolved.why.clone(),
            for_seconds: tenths(held.until.saturating_duration_since(Instant::now())),
        })
    }

    pub(super) fn in_words(&self) -> String {
        let Self { reason, detail, for_seconds } = self;
        format!("{reason}: {detail}; down in {for_seconds:.1} s unless that is mended (hold-down)")
    }
}

/// Every session, in the order of the configuration.
pub(super) async fn bindings(context: &Context, config: &Config) -> Vec<Binding> {
    let host = context.host.borrow().clone();
    let mut bindings = Vec::with_capacity(config.bmp.sessions.len());
    for (id, session) in &config.bmp.sessions {
        let warnings = warnings::of(config, id, session, &host, &context.routes).await;
        bindings.push(Binding { warnings, ..binding(context, config, &host, id, session) });
    }
    bindings
}

/// Without its warnings.
fn binding(context: &Context, config: &Config, host: &Host, id: &SessionId, session: &Session) -> Binding {
    let effective = effective(&config.bmp, id, session);
    let pin = context.pins.session(id);
    let state_of = pin.subscribe().borrow().clone();
    let held = pin.held().borrow().clone().filter(|_| matches!(state_of, State::Ready(_)));
    let (source, egress, rule, mut state, mut would_change) = match &state_of {
        State::Pending => (None, Vec::new(), "not decided yet".to_owned(), "pending", Vec::new()),
        State::Ready(grant) => {
            let resolved = &grant.resolved;
            let events = host_events(resolved, &effective.connect, id, host);
            (resolved.source, egress_names(resolved, host), resolved.rule.to_string(), "ready", events)
        }
        State::Down(unresolved) => {
            let mended = mends(unresolved).into_iter().collect();
            (None, Vec::new(), unresolved.why.clone(), unresolved.reason.as_str(), mended)
        }
    };
    if let Some(held) = &held {
        state = "held";
        would_change = mends(&held.unresolved).into_iter().collect();
    }
    would_change.extend(configuration(effective.from, id));
    if let Some(name) = effective.connect.as_ref().and_then(|connect| connect.interface())
        && let Some(link) = host.link_named(name, &config.interface_aliases)
        && link.name != name
    {
        would_change.push(format!("the name {name} given to another interface than {}", link.name));
    }
    Binding {
        station: id.station,
        vpn_instance: id.vpn_instance.clone().unwrap_or_else(|| PUBLIC.to_owned()),
        alias: id.alias.clone(),
        asked: effective.connect.as_ref().map(asked),
        from: effective.from.as_str(),
        source,
        any: matches!(&state_of, State::Ready(grant) if grant.resolved.egress.is_empty()),
        egress,
        next_hop: session.next_hop.map(|address| NextHop { address, interface: interface_of_next_hop(&state_of) }),
        rule,
        state,
        held: Held::of(&pin, &state_of),
        warnings: Vec::new(),
        would_change,
    }
}

fn interface_of_next_hop(state: &State) -> Option<String> {
    match state {
        State::Ready(grant) => grant.resolved.way.as_ref().map(|way| way.interface.1.clone()),
        State::Pending | State::Down(_) => None,
    }
}

fn mends(unresolved: &Unresolved) -> Option<String> {
    let mend = Some(&unresolved.mend).filter(|mend| !mend.is_empty())?;
    Some(format!("what mends it: {mend}"))
}

/// In seconds, to a tenth.
fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

fn asked(connect: &ConnectInterface) -> String {
    let (interface, address) = (connect.interface(), connect.address());
    let words = interface.map(str::to_owned).into_iter().chain(address.map(|address| address.to_string()));
    words.collect::<Vec<_>>().join(" ")
}

/// What of this host would change it.
fn host_events(resolved: &Resolved, asked: &Option<ConnectInterface>, id: &SessionId, host: &Host) -> Vec<String> {
    let Some(source) = resolved.source else {
        return vec!["a change of the route to the station".to_owned()];
    };
    let mut events = Vec::new();
    let taken = format!("{source} taken from {}", owners(source, id, host));
    // Without an interface of its own a session in a VRF is bound to the VRF's device.
    if let Some(interface) = resolved.device.as_ref().filter(|device| resolved.egress.contains(device)) {
        let name = name_now(interface, host);
        events.push(format!("{name} down, without a carrier, gone, or a layer 2 port"));
        events.push(taken);
        events.push(format!("the last route to the station by {name} gone"));
        return events;
    }
    events.push(match asked.as_ref().and_then(ConnectInterface::interface) {
        Some(name) => format!("{taken}, or {name} down or gone"),
        None => taken,
    });
    if let Some(way) = &resolved.way {
        let name = name_now(&way.interface, host);
        events.push(format!("{name}, which leads to the next hop, down, without a carrier or gone"));
    } else if !resolved.egress.is_empty() {
        let names = egress_names(resolved, host).join(" or ");
        events.push(format!("the last route to the station by {names} gone"));
        events.push(format!("the best route to the station, where it is not by {names}: nothing leaves then"));
    }
    events
}

/// The interfaces of the session's VRF that have the address: it need not be on the one that
/// connect-interface names.
fn owners(source: IpAddr, id: &SessionId, host: &Host) -> String {
    let vrf = id.vpn_instance.as_deref().and_then(|name| host.vrf_named(name)).map(|vrf| vrf.index);
    let links = host.links_with_address(source).filter(|link| host.vrf_of(link) == vrf);
    let names: Vec<_> = links.map(|link| link.name.as_str()).collect();
    if names.is_empty() { "this host".to_owned() } else { names.join(" and ") }
}

/// What of the configuration would change it.
fn configuration(from: From, id: &SessionId) -> Option<String> {
    match from {
        From::Session => None,
        From::Bmp => Some("connect-interface in the bmp view, or one in the session view".to_owned()),
        From::Default if id.station.is_ipv4() => Some("connect-interface in the session or the bmp view".to_owned()),
        From::Default => Some("connect-interface in the session view".to_owned()),
    }
}

/// As an operator reads it.
pub(super) fn text(bindings: &[Binding]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, bindings);
    text
}

fn write(text: &mut String, bindings: &[Binding]) -> std::fmt::Result {
    writeln!(text, " Total number of BMP session : {}", bindings.len())?;
    for binding in bindings {
        let alias = binding.alias.as_ref().map(|alias| format!(", alias {alias}")).unwrap_or_default();
        writeln!(text, "\n BMP session {}{alias}", binding.station)?;
        let mut line = |name: &str, value: &str| writeln!(text, "  {name:<20}: {value}");
        line("VPN instance", &binding.vpn_instance)?;
        let asked = match (&binding.asked, binding.from) {
            (Some(asked), from) => format!("{asked} ({from} view)"),
            (None, _) => "nothing".to_owned(),
        };
        line("Asked", &asked)?;
        line("State", binding.state)?;
        if let Some(held) = &binding.held {
            line("Held", &held.in_words())?;
        }
        line("Source", &binding.source.map_or("-".to_owned(), |source| source.to_string()))?;
        let vrf = Some(binding.vpn_instance.as_str()).filter(|name| *name != PUBLIC);
        line("May leave by", &may_leave_by(binding.any, vrf, &binding.egress))?;
        if let Some(NextHop { address, interface }) = &binding.next_hop {
            let by = interface.as_ref().map(|name| format!(" by {name}")).unwrap_or_default();
            line("Next hop", &format!("{address}{by}"))?;
        }
        line("Rule", &binding.rule)?;
        for warning in &binding.warnings {
            line("Warning", warning)?;
        }
        for (number, change) in binding.would_change.iter().enumerate() {
            line(if number == 0 { "Would change it" } else { "" }, change)?;
        }
    }
    Ok(())
}
