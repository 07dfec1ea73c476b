//! Draws the next operation among the possible ones.

use std::net::IpAddr;

use fastrand::Rng;

use super::{
    configuration::{ConfigurationEdit, ModelConfiguration, ModelSessionId, SessionView, SourceSetting},
    host::HostState,
    operation::{HostEvent, Operation, WhileDead},
    play::ModelGame,
    world::{LINKS, LOOPBACK, ModelLink, PORTS, STATIONS},
};

const ALIASES: [&str; 3] = ["a", "b", "c"];

fn parsed(text: &str) -> IpAddr {
    let address = text.split('/').next().unwrap_or(text);
    address.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    rng.choice(from).cloned().expect("there is something to choose from")
}

/// Draws an initial configuration.
pub(crate) fn configuration(rng: &mut Rng) -> ModelConfiguration {
    let mut configuration = ModelConfiguration::default();
    configuration.aliases.insert("GigabitEthernet0/1/2".to_owned(), "up2".to_owned());
    while configuration.sessions.len() < 5 {
        if let Some(changed) = configuration.replaced(&[edit_add(rng)]) {
            configuration = changed;
        }
    }
    configuration
}

/// Draws the next operation.
pub(crate) fn operation(rng: &mut Rng, play: &ModelGame) -> Operation {
    let unsteady: Vec<_> = play.unsteady().collect();
    // Shutting an uncertain session down makes it certain again.
    if !unsteady.is_empty() && rng.u8(..4) == 0 {
        let id = pick(rng, &unsteady);
        return Operation::Commit(vec![ConfigurationEdit::Shutdown(id, true)]);
    }
    let ids: Vec<_> = play.configuration.sessions.keys().copied().collect();
    match rng.u8(..100) {
        0..38 => change(rng, &play.configuration),
        38..41 => refused(rng, &play.configuration),
        41..48 if !ids.is_empty() => {
            let id = pick(rng, &ids);
            if rng.u8(..3) == 0 { Operation::Reset(id) } else { Operation::Foreign(id) }
        }
        48..54 => Operation::Crash(match rng.u8(..3) {
            0 => WhileDead::Nothing,
            1 => WhileDead::Host(event(rng, play)),
            _ => match change(rng, &play.configuration) {
                Operation::Commit(edits) | Operation::Reload(edits) if edits.iter().all(is_known_again) => {
                    WhileDead::Edited(edits)
                }
                _ => WhileDead::Nothing,
            },
        }),
        _ => Operation::Host(event(rng, play)),
    }
}

/// True if a bmpd that did not see the change can resume its earlier state. It recognizes a session
/// by station and port only, and its source by the pin.
fn is_known_again(edit: &ConfigurationEdit) -> bool {
    matches!(
        edit,
        ConfigurationEdit::BmpAddress(_)
            | ConfigurationEdit::Alias(..)
            | ConfigurationEdit::Remove(_)
            | ConfigurationEdit::Egress(..)
            | ConfigurationEdit::Shutdown(..)
    )
}

/// Draws some changes, and a wrong line after them.
fn refused(rng: &mut Rng, configuration: &ModelConfiguration) -> Operation {
    let edits = match change(rng, configuration) {
        Operation::Commit(edits) => edits,
        _ => Vec::new(),
    };
    // The line must still be wrong after the changes.
    let id = configuration.sessions.keys().next().filter(|_| edits.is_empty());
    let wrong = match id.map(|id| (id, &configuration.sessions[id])) {
        // Two sessions with one station address and port.
        Some((id, SessionView { port: Some(port), .. })) if rng.bool() => {
            format!("bmp\nbmp-session {} alias other\ntcp connect port {port}", id.station)
        }
        Some((id, SessionView { source: Some(_), .. })) if rng.bool() => {
            format!("bmp\nbmp-session {} alias {}\nundo connect-interface never0", id.station, id.alias)
        }
        _ => pick(rng, &["bmp\nconnect-interface up2", "bmp\nconnect-interface 224.0.0.1", "interface-alias up2"])
            .to_owned(),
    };
    Operation::Refused(edits, wrong)
}

/// Draws an event that is possible now.
fn event(rng: &mut Rng, play: &ModelGame) -> HostEvent {
    loop {
        if let Some(event) = possible_event(rng, play) {
            return event;
        }
    }
}

fn possible_event(rng: &mut Rng, play: &ModelGame) -> Option<HostEvent> {
    let host = &play.host;
    let link = pick(rng, &LINKS);
    let Some(interface) = play.world.name(host, link).and_then(|name| host.interface(&name)) else {
        return Some(HostEvent::Create(link));
    };
    Some(match rng.u8(..16) {
        0..3 if interface.up => HostEvent::Down(link),
        0..3 => HostEvent::Up(link, rng.u8(..4) > 0),
        3..5 if !play.world.is_far_up(link) => HostEvent::CarrierUp(link),
        3..5 if interface.up => HostEvent::CarrierDown(link),
        _ if !interface.up && rng.u8(..3) == 0 => HostEvent::Rename(link),
        // A link that is down has lost addresses and routes. They return when it is set up.
        _ if !interface.up => HostEvent::Up(link, true),
        5..8 => {
            let number = rng.usize(..link.addresses().len());
            let there = interface.has(parsed(&link.addresses()[number]));
            HostEvent::Address(link, number, !there)
        }
        8..9 => {
            let address = pick(rng, &LOOPBACK);
            let there = host.interface("lo").is_some_and(|lo| lo.has(parsed(address)));
            HostEvent::Loopback(address, !there)
        }
        9..12 => {
            let number = rng.usize(..link.routes().len());
            HostEvent::Route(link, number, !has_route(host, &interface.name, &link.routes()[number]))
        }
        12..14 if interface.layer2 => HostEvent::Release(link),
        12..14 => HostEvent::Enslave(link),
        14..15 => HostEvent::Delete(link),
        15..16 if !interface.layer2 => HostEvent::Also(link, !interface.also.contains(&link.also())),
        _ => return None,
    })
}

fn has_route(host: &HostState, name: &str, route: &str) -> bool {
    let (prefix, metric) = (parsed(route.split(' ').next().unwrap_or_default()), route.rsplit(' ').next());
    let mut routes = host.routes.iter().filter(|route| route.interface == name && route.prefix == prefix);
    routes.any(|route| metric == Some(route.metric.to_string().as_str()))
}

/// Draws one to three changes of the configuration at once.
fn change(rng: &mut Rng, configuration: &ModelConfiguration) -> Operation {
    loop {
        let mut edits: Vec<ConfigurationEdit> = Vec::new();
        let mut now = configuration.clone();
        for _ in 0..1 + rng.u8(..6) / 3 {
            let edit = edit(rng, &now);
            // A file may pass through states that are invalid for a candidate.
            if let Some(next) = now.replaced(std::slice::from_ref(&edit)) {
                now = next;
                edits.push(edit);
            }
        }
        if rng.u8(..8) == 0 {
            edits.extend(exchange(rng, &now));
        }
        if edits.is_empty() {
            continue;
        }
        if rng.u8(..3) > 0 && configuration.edited(&edits).is_some() {
            return Operation::Commit(edits);
        }
        if configuration.replaced(&edits).is_some() {
            return Operation::Reload(edits);
        }
    }
}

/// Exchanges the ports of two sessions to one station.
fn exchange(rng: &mut Rng, configuration: &ModelConfiguration) -> Vec<ConfigurationEdit> {
    let station = parsed(pick(rng, &STATIONS));
    let ports = configuration.sessions.iter().filter(|(id, _)| id.station == station);
    let ports: Vec<_> = ports.map(|(id, session)| (*id, session.port)).collect();
    match ports[..] {
        [(one, port), (other, other_port), ..] => {
            vec![ConfigurationEdit::Port(one, other_port), ConfigurationEdit::Port(other, port)]
        }
        _ => Vec::new(),
    }
}

fn edit(rng: &mut Rng, configuration: &ModelConfiguration) -> ConfigurationEdit {
    let ids: Vec<_> = configuration.sessions.keys().copied().collect();
    if ids.is_empty() {
        return edit_add(rng);
    }
    let id = pick(rng, &ids);
    let session = &configuration.sessions[&id];
    match rng.u8(..20) {
        // A session that was shut down for certainty comes back.
        _ if session.shutdown && rng.bool() => ConfigurationEdit::Shutdown(id, false),
        0..2 => ConfigurationEdit::BmpAddress(match pick(rng, &[0, 1, 2, 3]) {
            0 => None,
            1 => configuration.address,
            _ => match address(rng, false) {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            },
        }),
        2..3 => {
            let name = format!("GigabitEthernet0/1/{}", pick(rng, &LINKS).0);
            let there = configuration.aliases.contains_key(&name) && rng.bool();
            ConfigurationEdit::Alias(name, (!there).then(|| kernel_name(rng)))
        }
        3..5 if ids.len() < 8 => {
            let new = edit_add(rng);
            match &new {
                ConfigurationEdit::Add(id, _) if configuration.sessions.contains_key(id) => {
                    ConfigurationEdit::Remove(*id)
                }
                _ => new,
            }
        }
        3..5 => ConfigurationEdit::Remove(id),
        5..7 => ConfigurationEdit::Port(id, (rng.u8(..5) > 0).then(|| pick(rng, &PORTS))),
        7..8 => ConfigurationEdit::Shutdown(id, !session.shutdown),
        8..11 => ConfigurationEdit::Egress(id, egress(rng)),
        11..12 => ConfigurationEdit::Source(id, session.source.clone()),
        12..14 => ConfigurationEdit::Source(id, None),
        _ => ConfigurationEdit::Source(id, Some(source(rng, id.station.is_ipv6()))),
    }
}

fn edit_add(rng: &mut Rng) -> ConfigurationEdit {
    let id = ModelSessionId { station: parsed(pick(rng, &STATIONS)), alias: pick(rng, &ALIASES) };
    let source = (rng.u8(..4) > 0).then(|| source(rng, id.station.is_ipv6()));
    let egress = if rng.u8(..4) == 0 { egress(rng) } else { Vec::new() };
    ConfigurationEdit::Add(id, SessionView { port: Some(pick(rng, &PORTS)), source, egress, shutdown: false })
}

fn kernel_name(rng: &mut Rng) -> String {
    let link = pick(rng, &LINKS);
    if rng.u8(..6) == 0 { link.other_name() } else { link.name() }
}

fn any_name(rng: &mut Rng) -> String {
    if rng.u8(..8) == 0 { pick(rng, &LINKS).also() } else { kernel_name(rng) }
}

fn egress(rng: &mut Rng) -> Vec<String> {
    let mut names: Vec<String> = (0..rng.u8(..4)).map(|_| any_name(rng)).collect();
    names.sort_unstable();
    names.dedup();
    rng.shuffle(&mut names);
    names
}

/// Draws a `connect-interface` in any of its forms.
fn source(rng: &mut Rng, ipv6: bool) -> SourceSetting {
    let link = pick(rng, &LINKS);
    let interface = match rng.u8(..10) {
        0 => SourceSetting::interface(pick(rng, &["lo", "LoopBack0", "nowhere0"])),
        1 => SourceSetting::spelled("LoopBack", "0"),
        2 => SourceSetting::interface(&format!("GigabitEthernet0/1/{}", link.0)),
        3 => SourceSetting::spelled("GigabitEthernet", &format!("0/1/{}", link.0)),
        4 => SourceSetting::interface(&if rng.bool() { link.other_name() } else { link.also() }),
        5 => SourceSetting::spelled("up", &link.0.to_string()),
        _ => SourceSetting::interface(&link.name()),
    };
    match rng.u8(..4) {
        0 => SourceSetting::address(address(rng, ipv6)),
        1 => {
            // Mostly an address of the interface itself.
            let own = own_address(rng, link, ipv6);
            interface.with(if rng.u8(..4) == 0 { address(rng, ipv6) } else { own })
        }
        _ => interface,
    }
}

fn own_address(rng: &mut Rng, link: ModelLink, ipv6: bool) -> IpAddr {
    let of_family: Vec<_> =
        link.addresses().iter().map(|address| parsed(address)).filter(|ip| ip.is_ipv6() == ipv6).collect();
    pick(rng, &of_family)
}

/// Draws an address that this host has, may have, or never has.
fn address(rng: &mut Rng, ipv6: bool) -> IpAddr {
    match rng.u8(..8) {
        0 => parsed(if ipv6 { "2001:db8:ff::9" } else { "203.0.113.9" }),
        1..4 => {
            let link = pick(rng, &LINKS);
            own_address(rng, link, ipv6)
        }
        _ => {
            let of_family: Vec<_> = LOOPBACK.iter().map(|address| parsed(address)).collect();
            let of_family: Vec<_> = of_family.into_iter().filter(|ip| ip.is_ipv6() == ipv6).collect();
            pick(rng, &of_family)
        }
    }
}
