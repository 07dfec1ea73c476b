//! Warnings about a configuration that nothing is refused for: sessions whose source cannot be the
//! configured one, and names of things that are not there.

use std::{collections::BTreeSet, fs, net::IpAddr};

use super::Remark;
use crate::{
    config::{
        AllowedUser, BgpPeerConfig, Config, ConnectInterface, MonitorConfig, MonitorId, RelayConfig, SessionConfig,
        SessionId, Transport, effective,
    },
    control::{ControlContext, names::egress_names},
    input::{bgp::missing, relay::connection_limits},
    link::{Host, Link, RouteLookup},
    pin::{
        NextHopPath, PinQuestion, PinState, Pinned, Reason, ResolvedPin, Role, absent, back_on_its_way, led_astray,
        resolve, target,
    },
    signing::plan_of,
    sys, tls,
};

impl ControlContext {
    /// Returns the warnings about a change that leaves nothing down; a sentence each.
    pub(super) async fn warnings(&self, before: &Config, now: &Config) -> Vec<String> {
        let host = self.host.borrow().clone();
        let mut sentences = Vec::new();
        for (id, session) in &now.bmp.sessions {
            let wanted = effective(&now.bmp, id, session).connect;
            let changed = before.bmp.sessions.get(id).is_none_or(|was| {
                effective(&before.bmp, id, was).connect != wanted
                    || was.next_hop != session.next_hop
                    || was.egress_interfaces != session.egress_interfaces
                    || was.transport != session.transport
            });
            // For a session that is down, the reason says more.
            let is_down = matches!(&self.pins.session(id).state(), PinState::Down(_));
            if changed && !is_down {
                sentences.extend(of_session(now, id, session, &host, &self.routes).await);
            }
        }
        let peers = |config: &Config| config.bgp.as_ref().map(|bgp| bgp.peers.clone()).unwrap_or_default();
        let earlier = peers(before);
        for (address, peer) in peers(now) {
            let changed = earlier.get(&address).is_none_or(|was| was.connect_interface != peer.connect_interface);
            if changed {
                sentences.extend(of_peer(now, address, &peer, &host));
            }
        }
        let nothing = |_: &SessionId, _: &str| false;
        let known = of_names(before, &host, nothing);
        let is_said = |id: &SessionId, name: &str| match &self.pins.session(id).state() {
            PinState::Down(unresolved) => {
                unresolved.reason == Reason::InterfaceAbsent && unresolved.why.contains(&format!("interface {name} "))
            }
            PinState::Pending | PinState::Ready(_) => false,
        };
        let named = of_names(now, &host, is_said);
        sentences.extend(named.into_iter().filter(|sentence| !known.contains(sentence)));
        let inputs = |config: &Config| [of_configuration(config), of_relays(config)].concat();
        let known = inputs(before);
        sentences.extend(inputs(now).into_iter().filter(|sentence| !known.contains(sentence)));
        sentences
    }
}

/// Returns the warnings about a session; a sentence each, without its full stop.
pub(in crate::control) async fn of_session(
    config: &Config,
    id: &SessionId,
    session: &SessionConfig,
    host: &Host,
    routes: &RouteLookup,
) -> Vec<String> {
    let connect = effective(&config.bmp, id, session).connect;
    let pinned = Pinned::Session(id.clone());
    let mut warnings = Vec::new();
    if let Some(name) = connect.as_ref().and_then(|connect| connect.interface())
        && let Some(link) = host.link_named(name, &config.interface_aliases)
    {
        warnings.extend(of_interface(name, link, &pinned, session.next_hop.is_some(), host));
    }
    let question = PinQuestion {
        connect: connect.as_ref(),
        vpn_instance: pinned.vpn_instance(),
        egress_interfaces: &session.egress_interfaces,
        next_hop: session.next_hop,
        station: pinned.far(),
        aliases: &config.interface_aliases,
        keep: None,
    };
    if let Ok(resolved) = resolve(&question, host) {
        let mut links = resolved.egress.iter().filter_map(|interface| host.links.get(&interface.index));
        // Another interface of several may be the one below.
        if let (Some(link), None) = (links.next(), links.next()) {
            warnings.extend(of_ipsec(link, &pinned));
        }
        warnings.extend(of_route(&resolved, &pinned, session, host, routes).await);
        warnings.extend(resolved.path.as_ref().and_then(|path| of_redirects(path, &pinned)));
    }
    if matches!(session.transport, Some(Transport::Listen(_))) && !has_syn_cookies() {
        warnings.push(format!(
            "net.ipv4.tcp_syncookies is 0: whoever sends SYNs with the address of the station of {pinned} can keep it from connecting \
             (sysctl net.ipv4.tcp_syncookies=1)"
        ));
    }
    warnings
}

/// Returns true if the kernel answers SYNs for which a listener has no room, or does not say
/// (ip-sysctl of the kernel's documentation; also for IPv6).
fn has_syn_cookies() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").map_or(true, |value| value.trim() != "0")
}

/// Returns the interfaces of a configuration that are not on this host now; a sentence each.
/// `is_said` returns true for an interface that the reason of a session already names.
pub(super) fn of_names(config: &Config, host: &Host, is_said: impl Fn(&SessionId, &str) -> bool) -> Vec<String> {
    let is_absent = |name: &str| host.link_named(name, &config.interface_aliases).is_none();
    let mut sentences = Vec::new();
    for (id, session) in &config.bmp.sessions {
        let connect = session.connect_interface.as_ref().and_then(ConnectInterface::interface);
        let named = connect.map(|name| ("connect-interface", name)).into_iter();
        let named = named.chain(session.egress_interfaces.iter().map(|name| ("egress-interface", name.as_str())));
        for (command, name) in named.filter(|(_, name)| is_absent(name) && !is_said(id, name)) {
            let of = Pinned::Session(id.clone());
            sentences.push(format!("{command} of {of}: {}", absent(name, host, &config.interface_aliases)));
        }
    }
    sentences
}

/// Returns the warnings about a BGP peer.
pub(super) fn of_peer(config: &Config, address: IpAddr, peer: &BgpPeerConfig, host: &Host) -> Vec<String> {
    let name = peer.connect_interface.as_ref().and_then(ConnectInterface::interface);
    let named = name.and_then(|name| Some((name, host.link_named(name, &config.interface_aliases)?)));
    let Some((name, link)) = named else { return Vec::new() };
    let pinned = Pinned::BgpPeer(address, Role::Connect);
    let mut warnings = of_interface(name, link, &pinned, false, host);
    warnings.extend(of_ipsec(link, &pinned));
    warnings
}

/// Returns the warning about an IPsec interface. The kernel programs see a packet there and, once
/// more, encrypted, on the interface below, which the pin does not name.
fn of_ipsec(link: &Link, id: &Pinned) -> Option<String> {
    link.is_ipsec().then(|| {
        format!(
            "the kernel programs let no packet of {id} leave by IPsec interface {}: IP sends it, encrypted, by the interface below, \
             where it is denied by interface (connect-interface with the interface below, and an IPsec policy)",
            link.name
        )
    })
}

/// Returns the warnings that hold on any host. `bmpd check` prints them. A commit has its own
/// sentences for them.
pub fn without_host(config: &Config) -> Vec<Remark> {
    let mut sentences = of_configuration(config);
    for (id, session) in &config.bmp.sessions {
        let name = Pinned::Session(id.clone());
        if session.transport.is_none() && !session.shutdown {
            sentences.push(format!(
                "{name} stays down: not-configured: no port is configured (what mends it: `tcp connect port PORT`)"
            ));
        }
        let interface =
            effective(&config.bmp, id, session).connect.is_some_and(|connect| connect.interface().is_some());
        if matches!(id.station, IpAddr::V6(v6) if v6.is_unicast_link_local()) && !interface {
            sentences.push(format!(
                "{name} stays down: no-route: its station is link-local, and no interface leads to it (what mends it: \
                 `connect-interface INTERFACE`)"
            ));
        }
    }
    sentences.extend(loopback_in_the_bmp_view(config, &|_| false));
    sentences.into_iter().map(Remark::warning).collect()
}

/// Returns everything that this host makes a commit of the whole configuration warn about, for a
/// bmpd that does not run: settings that take nothing, names that are not there, and interfaces and
/// addresses that do not fit. Why sessions would be down is not among them.
pub async fn on_host(config: &Config, host: &Host, routes: &RouteLookup) -> Vec<Remark> {
    let mut sentences = [of_configuration(config), of_relays(config), of_users(config), unfit(config, host)].concat();
    // The reason of the session says it.
    sentences.extend(of_names(config, host, |_, _| true));
    for (id, session) in &config.bmp.sessions {
        sentences.extend(of_session(config, id, session, host, routes).await);
    }
    for (address, peer) in config.bgp.iter().flat_map(|bgp| &bgp.peers) {
        sentences.extend(of_peer(config, *address, peer, host));
    }
    sentences.into_iter().map(Remark::warning).collect()
}

/// Returns the warnings about relays for which this bmpd has too few descriptors.
pub(super) fn of_relays(config: &Config) -> Vec<String> {
    let of = |(name, relay): (&String, &RelayConfig)| {
        let (most, _) = connection_limits(relay);
        let asked = relay.max_connections.map(|asked| asked.total)?;
        usize::try_from(asked).is_ok_and(|asked| asked > most).then(|| {
            format!(
                "bmp-relay {name} takes {most} connections and not {asked}: bmpd may have too few descriptors for more \
                 (what mends it: `LimitNOFILE=` of its unit, or `ulimit -n`)"
            )
        })
    };
    config.relays.iter().filter_map(of).collect()
}

/// Returns the warning about users that a relay lets in by name and that this host does not know.
pub(super) fn unknown_users(relay: &str, users: &[&str]) -> String {
    let names: Vec<_> = users.iter().map(|user| format!("`{user}`")).collect();
    format!(
        "bmp-relay {relay} cannot let {} in: this host knows no user of that name (a user that is new since bmpd began may need \
         its number, `allow user NUMBER`)",
        names.join(", ")
    )
}

/// Returns the same for a bmpd that does not run. May block.
fn of_users(config: &Config) -> Vec<String> {
    let of = |(name, relay): (&String, &RelayConfig)| {
        let named = relay.allow_users.iter().filter_map(AllowedUser::name);
        let unknown: Vec<_> = named.filter(|name| sys::user_named(name).is_none()).collect();
        (!unknown.is_empty()).then(|| unknown_users(name, &unknown))
    };
    config.relays.iter().filter_map(of).collect()
}

/// Returns the warnings about inputs that take nothing, and about monitors of inputs that do not
/// exist.
pub(super) fn of_configuration(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, relay) in &config.relays {
        if relay.listen.is_none() {
            warnings.push(format!("bmp-relay {name} takes nothing until it has `listen ADDRESS port N`"));
        }
    }
    for (name, replay) in &config.replays {
        if replay.file.is_none() {
            warnings.push(format!("mrt-replay {name} replays nothing until it has `file PATH`"));
        }
    }
    if let Some(bgp) = &config.bgp {
        for (address, peer) in &bgp.peers {
            let what = missing(bgp, *address, peer);
            warnings.extend(what.map(|what| format!("BGP peer {address} is not spoken to: {what}")));
        }
    }
    warnings.extend(of_keychains(config));
    warnings.extend(of_tls(config));
    warnings.extend(of_filters(config));
    for (id, session) in &config.bmp.sessions {
        for monitor in session.monitors.keys() {
            let missing = match monitor {
                MonitorId::Relay(name) => !config.relays.contains_key(name),
                MonitorId::Replay(name) => !config.replays.contains_key(name),
                MonitorId::Bgp => config.bgp.is_none(),
                // Inputs tell at run time which peers and VPN instances exist.
                MonitorId::Public | MonitorId::AllVpnInstances | MonitorId::VpnInstance(_) | MonitorId::Peer { .. } => {
                    false
                }
            };
            if missing {
                warnings.push(format!("{id} is told nothing by `monitor {monitor}`: there is no such input"));
            }
        }
    }
    warnings
}

/// Returns the warnings about filters and lists of prefixes that are named and do not exist.
fn of_filters(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (id, session) in &config.bmp.sessions {
        for (monitor, MonitorConfig { route_filter, .. }) in &session.monitors {
            let missing = route_filter.as_ref().filter(|name| !config.route_filters.contains_key(*name));
            warnings.extend(missing.map(|name| {
                format!("{id} is told no routes by `monitor {monitor}`: there is no `route-filter {name}`")
            }));
        }
    }
    let lists: BTreeSet<_> = config.prefix_lists.keys().map(|entry| &entry.list).collect();
    for (name, filter) in &config.route_filters {
        for (number, rule) in &filter.rules {
            let missing = rule.prefix_list.as_ref().filter(|list| !lists.contains(list));
            warnings.extend(missing.map(|list| {
                format!("rule {number} of route-filter {name} matches nothing: there is no `ip-prefix {list}`")
            }));
        }
    }
    warnings
}

/// Returns the warnings about key chains that cannot sign now, and about keys that are not used.
fn of_keychains(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, chain) in &config.keychains {
        for (id, key) in &chain.keys {
            let lacks = match (key.algorithm, &key.secret) {
                (None, _) => "algorithm",
                (Some(_), None) => "key-string",
                (Some(_), Some(_)) => continue,
            };
            warnings.push(format!("key {id} of keychain {name} is not used until it has `{lacks}`"));
        }
    }
    let sessions = config.bmp.sessions.iter();
    let sessions = sessions
        .filter_map(|(id, session)| Some((Pinned::Session(id.clone()).to_string(), session.keychain.as_ref()?)));
    let peers = config.bgp.iter().flat_map(|bgp| &bgp.peers);
    let peers = peers.filter_map(|(address, peer)| Some((format!("BGP peer {address}"), peer.keychain.as_ref()?)));
    let relays = config.relays.iter();
    let relays = relays.filter_map(|(name, relay)| Some((format!("bmp-relay {name}"), relay.keychain.as_ref()?)));
    for (user, chain) in sessions.chain(peers).chain(relays) {
        if let Err(error) = plan_of(chain, config) {
            warnings.push(format!("{user} takes no connection: {error}"));
        }
    }
    warnings
}

/// Returns the warnings about TLS profiles that connections cannot be made with, and about
/// certificates that expire soon.
fn of_tls(config: &Config) -> Vec<String> {
    let sessions = config.bmp.sessions.iter().filter_map(|(id, session)| {
        let connects = matches!(session.transport, Some(Transport::Connect(_)));
        Some((Pinned::Session(id.clone()).to_string(), session.tls.as_ref()?, connects))
    });
    let relays = config.relays.iter();
    let relays = relays.filter_map(|(name, relay)| Some((format!("bmp-relay {name}"), relay.tls.as_ref()?, false)));
    let unusable = sessions.chain(relays).filter_map(|(user, profile, connects)| {
        let error = tls::check(profile, config, connects).err()?;
        Some(format!("{user} makes no connection: {error}"))
    });
    let unusable = unusable.collect::<Vec<_>>();
    let expiring = tls::certificates_of(config);
    unusable.into_iter().chain(expiring.iter().filter_map(tls::expiry_warning)).collect()
}

/// Returns the addresses that a commit refuses because of this host's own addresses; a sentence
/// each.
pub(super) fn unfit(config: &Config, host: &Host) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut broadcast = |what: &str, address: Option<IpAddr>, vrf: Option<&str>| {
        let Some(address) = address else { return };
        if let Some(subnet) = host.subnet_with_broadcast(address, vrf) {
            sentences.push(format!("{address} is the broadcast address of {subnet}: it cannot be {what}"));
        }
    };
    for (id, session) in &config.bmp.sessions {
        let (name, vrf) = (Pinned::Session(id.clone()), id.vpn_instance.as_deref());
        broadcast(&format!("the station of {name}"), Some(id.station), vrf);
        let connect = session.connect_interface.as_ref().and_then(ConnectInterface::address);
        broadcast(&format!("the source of {name}"), connect, vrf);
        broadcast(&format!("the next hop of {name}"), session.next_hop, vrf);
    }
    broadcast("the source of sessions", config.bmp.connect_interface.map(IpAddr::V4), None);
    for (name, relay) in &config.relays {
        broadcast(&format!("what bmp-relay {name} listens on"), relay.listen.map(|listen| listen.ip()), None);
    }
    for (address, peer) in config.bgp.iter().flat_map(|bgp| &bgp.peers) {
        broadcast("a BGP peer", Some(*address), None);
        let connect = peer.connect_interface.as_ref().and_then(ConnectInterface::address);
        broadcast(&format!("the source towards BGP peer {address}"), connect, None);
    }
    sentences.extend(loopback_in_the_bmp_view(config, &|station| host.link_with_address(station).is_some()));
    sentences
}

/// Returns the warning about a loopback address in the bmp view for sessions to other hosts. In the
/// session view the command itself is refused.
fn loopback_in_the_bmp_view(config: &Config, is_own: &dyn Fn(IpAddr) -> bool) -> Option<String> {
    let address = config.bmp.connect_interface.filter(std::net::Ipv4Addr::is_loopback)?;
    let remote = |id: &&SessionId| id.station.is_ipv4() && !id.station.is_loopback() && !is_own(id.station);
    let without_own = config.bmp.sessions.iter().filter(|(_, session)| session.connect_interface.is_none());
    let id = without_own.map(|(id, _)| id).find(remote)?;
    Some(format!(
        "connect-interface {address} of the bmp view is a loopback address, which cannot be the source towards {}: that is another host",
        id.station
    ))
}

/// `routed` is true for a session with a next hop.
fn of_interface(name: &str, link: &Link, id: &Pinned, routed: bool, host: &Host) -> Vec<String> {
    let mut warnings = Vec::new();
    if link.is_layer2_port(host) {
        warnings.push(format!("interface {name} is a layer 2 port: {id} stays down while it is"));
    }
    // The socket takes replies on the interface alone. With a next hop the socket is not bound to
    // it.
    let of_those = if routed { " that come back by it" } else { "" };
    if id.far().is_ipv4() && !link.is_donor() && strict_rp_filter(&link.name) {
        warnings.push(format!(
            "rp_filter is strict on interface {name}: replies to {id}{of_those} are dropped there where another interface has the \
             better route to it (sysctl net.ipv4.conf.{}.rp_filter=2)",
            link.name.replace('.', "/")
        ));
    }
    warnings
}

/// Returns the warning about a route to the station by an interface that the session may not leave
/// by.
async fn of_route(
    resolved: &ResolvedPin,
    id: &Pinned,
    session: &SessionConfig,
    host: &Host,
    routes: &RouteLookup,
) -> Option<String> {
    // A connection that the station opens stays on the interface by which it came.
    if matches!(session.transport, Some(Transport::Listen(_))) {
        return None;
    }
    let elsewhere = led_astray(id, resolved, host, routes).await?;
    let mend = back_on_its_way(&target(id, session.transport, host)?, resolved)?;
    Some(format!(
        "{id} may leave by {} alone, and the route to its station leaves by {elsewhere}: every packet of it is dropped ({mend})",
        egress_names(resolved, host).join(" or ")
    ))
}

/// Returns the warning about ICMP redirects: any host on the link can pose as the next hop and name
/// another router.
fn of_redirects(path: &NextHopPath, id: &Pinned) -> Option<String> {
    let (next_hop, interface) = (path.next_hop, path.redirected_by());
    path.takes_redirects().then(|| {
        format!(
            "ICMP redirects are accepted on interface {interface}: one takes the packets of {id} to another router than next hop \
             {next_hop} until bmpd finds it ({})",
            path.no_redirects()
        )
    })
}

/// Returns true if reverse path filtering is strict. The higher of the interface's value and that
/// of `all` counts, and 1 is strict (ip-sysctl of the kernel's documentation).
fn strict_rp_filter(interface: &str) -> bool {
    let value = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
        text.ok().and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0)
    };
    value("all").max(value(interface)) == 1
}
