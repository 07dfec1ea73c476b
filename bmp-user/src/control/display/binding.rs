//! `display interface-binding`: the connect-interface of each session, the source and egress that
//! it comes to, the rule, and the events that would change them.

use std::{fmt, net::IpAddr};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        ControlContext,
        consequences::warnings,
        names::egress_names,
        words::{VpnInstanceName, schema_is_words},
    },
    hold_down::HoldDownReport,
    layout::{after, field, heading, may_leave_by, or_dash},
};
use crate::{
    config::{Config, ConnectInterface, SessionConfig, SessionId, SourceLevel, effective},
    link::Host,
    pin::{DownCause, PinState, Reason, ResolvedPin},
};

/// The bindings of all sessions, in the order of the configuration.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(transparent)]
pub(super) struct BindingReports(pub(super) Vec<BindingReport>);

/// One session's binding. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct BindingReport {
    pub(super) station: IpAddr,
    pub(super) vpn_instance: VpnInstanceName,
    pub(super) alias: Option<String>,
    /// `connect-interface` as it is configured; `None` where it is not.
    pub(super) asked: Option<String>,
    /// The view that it is configured in.
    pub(super) from: SourceLevel,
    pub(super) source: Option<IpAddr>,
    /// True if the session may leave by any interface (of its VRF).
    pub(super) any: bool,
    /// Kernel names of the interfaces that the session may leave by. Empty where `any` is true, and
    /// where the session is denied.
    pub(super) egress: Vec<String>,
    pub(super) next_hop: Option<NextHopReport>,
    /// The rule by which the source was chosen, or why there is none.
    pub(super) rule: String,
    pub(super) state: BindingState,
    /// Of a session whose way is lost and that `hold-down` holds all the same.
    pub(super) held: Option<HoldDownReport>,
    /// What the operator should know although nothing is refused for it.
    pub(super) warnings: Vec<String>,
    pub(super) would_change: Vec<String>,
}

/// Where a binding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BindingState {
    /// Not decided yet.
    Pending,
    Ready,
    /// The way is lost, and `hold-down` holds the session.
    Held,
    Down(Reason),
}

impl BindingState {
    /// Returns the word of the text and of the JSON.
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Held => "held",
            Self::Down(reason) => reason.as_str(),
        }
    }
}

impl fmt::Display for BindingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

schema_is_words!(
    BindingState,
    [&Reason::ALL.map(Reason::as_str)[..], &[Self::Pending, Self::Ready, Self::Held].map(|state| state.as_str())]
        .concat()
);

impl Serialize for BindingState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `next-hop`, and the interface that leads to it.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct NextHopReport {
    pub(super) address: IpAddr,
    /// `None` where the session is down.
    pub(super) interface: Option<String>,
}

impl BindingReports {
    /// Reports on every session.
    pub(super) async fn of(context: &ControlContext, config: &Config) -> Self {
        let host = context.host.borrow().clone();
        let mut bindings = Vec::with_capacity(config.bmp.sessions.len());
        for (id, session) in &config.bmp.sessions {
            let warnings = warnings::of_session(config, id, session, &host, &context.routes).await;
            bindings.push(BindingReport { warnings, ..BindingReport::of(context, config, &host, id, session) });
        }
        Self(bindings)
    }
}

impl BindingReport {
    /// Reports on one session, without its warnings.
    fn of(context: &ControlContext, config: &Config, host: &Host, id: &SessionId, session: &SessionConfig) -> Self {
        let effective = effective(&config.bmp, id, session);
        let pin = context.pins.session(id);
        let pin_state = pin.state();
        let held = pin.hold_down();
        let resolved = match &pin_state {
            PinState::Ready(grant) => Some(&grant.resolved),
            PinState::Pending | PinState::Down(_) => None,
        };
        let (rule, mut state, mut would_change) = match &pin_state {
            PinState::Pending => ("not decided yet".to_owned(), BindingState::Pending, Vec::new()),
            PinState::Ready(grant) => {
                let events = host_events(&grant.resolved, &effective.connect, id, host);
                (grant.resolved.rule.to_string(), BindingState::Ready, events)
            }
            PinState::Down(unresolved) => {
                let mended = mends(unresolved).into_iter().collect();
                (unresolved.why.clone(), BindingState::Down(unresolved.reason), mended)
            }
        };
        if let Some(held) = &held {
            state = BindingState::Held;
            would_change = mends(&held.cause).into_iter().collect();
        }
        would_change.extend(configuration_changes(effective.from, id));
        if let Some(name) = effective.connect.as_ref().and_then(|connect| connect.interface())
            && let Some(link) = host.link_named(name, &config.interface_aliases)
            && link.name != name
        {
            would_change.push(format!("the name {name} given to another interface than {}", link.name));
        }
        Self {
            station: id.station,
            vpn_instance: VpnInstanceName(id.vpn_instance.clone()),
            alias: id.alias.clone(),
            asked: effective.connect.as_ref().map(in_words),
            from: effective.from,
            source: resolved.and_then(|resolved| resolved.source),
            any: resolved.is_some_and(|resolved| resolved.egress.is_empty()),
            egress: resolved.map(|resolved| egress_names(resolved, host)).unwrap_or_default(),
            next_hop: session.next_hop.map(|address| NextHopReport {
                address,
                interface: resolved.and_then(|resolved| Some(resolved.path.as_ref()?.interface.name.clone())),
            }),
            rule,
            state,
            held: HoldDownReport::of(&pin),
            warnings: Vec::new(),
            would_change,
        }
    }
}

fn mends(unresolved: &DownCause) -> Option<String> {
    let mend = Some(&unresolved.mend).filter(|mend| !mend.is_empty())?;
    Some(format!("what mends it: {mend}"))
}

/// Returns the words of the configuration.
fn in_words(connect: &ConnectInterface) -> String {
    let (interface, address) = (connect.interface(), connect.address());
    let words = interface.map(str::to_owned).into_iter().chain(address.map(|address| address.to_string()));
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the events of this host that would change the binding.
fn host_events(
    resolved: &ResolvedPin,
    configured: &Option<ConnectInterface>,
    id: &SessionId,
    host: &Host,
) -> Vec<String> {
    let Some(source) = resolved.source else {
        return vec!["a change of the route to the station".to_owned()];
    };
    let mut events = Vec::new();
    let taken = format!("{source} taken from {}", owners(source, id, host));
    // Without an interface of its own a session in a VRF is bound to the VRF's device.
    if let Some(interface) = resolved.device.as_ref().filter(|device| resolved.egress.contains(device)) {
        let name = interface.name_on(host);
        events.push(format!("{name} down, without a carrier, gone, or a layer 2 port"));
        events.push(taken);
        events.push(format!("the last route to the station by {name} gone"));
        return events;
    }
    events.push(match configured.as_ref().and_then(ConnectInterface::interface) {
        Some(name) => format!("{taken}, or {name} down or gone"),
        None => taken,
    });
    if let Some(path) = &resolved.path {
        let name = path.interface.name_on(host);
        events.push(format!("{name}, which leads to the next hop, down, without a carrier or gone"));
    } else if !resolved.egress.is_empty() {
        let names = egress_names(resolved, host).join(" or ");
        events.push(format!("the last route to the station by {names} gone"));
        events.push(format!("the best route to the station, where it is not by {names}: nothing leaves then"));
    }
    events
}

/// Returns the interfaces of the session's VRF that have the address. It need not be on the
/// interface that connect-interface names.
fn owners(source: IpAddr, id: &SessionId, host: &Host) -> String {
    let vrf = id.vpn_instance.as_deref().and_then(|name| host.vrf_named(name)).map(|vrf| vrf.index);
    let links = host.links_with_address(source).filter(|link| host.vrf_of(link) == vrf);
    let names: Vec<_> = links.map(|link| link.name.as_str()).collect();
    if names.is_empty() { "this host".to_owned() } else { names.join(" and ") }
}

/// Returns the commands that would change the binding.
fn configuration_changes(from: SourceLevel, id: &SessionId) -> Option<String> {
    match from {
        SourceLevel::Session => None,
        SourceLevel::Bmp => Some("connect-interface in the bmp view, or one in the session view".to_owned()),
        SourceLevel::Default if id.station.is_ipv4() => {
            Some("connect-interface in the session or the bmp view".to_owned())
        }
        SourceLevel::Default => Some("connect-interface in the session view".to_owned()),
    }
}

impl fmt::Display for BindingReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        heading(f, "Total number of BMP session", self.0.len())?;
        self.0.iter().try_for_each(|binding| write!(f, "{binding}"))
    }
}

impl fmt::Display for BindingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n BMP session {}{}", self.station, after(", alias ", self.alias.as_ref()))?;
        field(f, "VPN instance", &self.vpn_instance)?;
        match &self.asked {
            Some(asked) => field(f, "Asked", format_args!("{asked} ({} view)", self.from.as_str()))?,
            None => field(f, "Asked", "nothing")?,
        }
        field(f, "State", self.state)?;
        if let Some(held) = &self.held {
            field(f, "Held", held)?;
        }
        field(f, "Source", or_dash(self.source))?;
        field(f, "May leave by", may_leave_by(self.any, self.vpn_instance.0.as_deref(), &self.egress))?;
        if let Some(NextHopReport { address, interface }) = &self.next_hop {
            field(f, "Next hop", format_args!("{address}{}", after(" by ", interface.as_ref())))?;
        }
        field(f, "Rule", &self.rule)?;
        for warning in &self.warnings {
            field(f, "Warning", warning)?;
        }
        for (number, change) in self.would_change.iter().enumerate() {
            field(f, if number == 0 { "Would change it" } else { "" }, change)?;
        }
        Ok(())
    }
}
