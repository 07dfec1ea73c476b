//! Random configurations, for properties that hold for any of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
};

use super::super::*;
use crate::{
    config::language::{address, sealed::SealingKey},
    wire::bmp::RibView,
};

/// An address that every command takes, whatever station it is towards.
fn unicast(address: IpAddr) -> bool {
    let odd = match address {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 127 | 240..),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some() || v6.is_loopback(),
    };
    !(odd || address.is_multicast() || address.is_unspecified())
}

fn v4() -> impl Strategy<Value = IpAddr> {
    any::<Ipv4Addr>().prop_map(IpAddr::V4).prop_filter("unicast", |address| unicast(*address))
}

fn v6() -> impl Strategy<Value = IpAddr> {
    any::<Ipv6Addr>().prop_map(IpAddr::V6).prop_filter("unicast", |address| unicast(*address))
}

/// An address to listen on: one of a link alone needs a zone.
fn listen_address() -> impl Strategy<Value = IpAddr> {
    let of_link = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    prop_oneof![v4(), v6()].prop_filter("of no link", move |address| !of_link(address))
}

fn name() -> impl Strategy<Value = String> {
    let word = prop_oneof!["[!-~]{1,63}", "[a-z#é路]{1,20}", Just("alias".to_owned()), Just("undo".to_owned())];
    word.prop_filter("a name", |name| address::notation(name).is_none() && !name.contains([',', ';', '[', ']', '"']))
}

fn secret() -> impl Strategy<Value = Secret> {
    // Also the words that say how a secret is written.
    let word = prop_oneof![8 => name(), 1 => "cipher|simple|Cipher|SIMPLE|md5|c"];
    word.prop_filter("a secret", |name| name != MASK).prop_map(|name| Secret::from(&*name))
}

/// A secret that was sealed by a key that is not there.
pub(super) fn sealed_secret() -> impl Strategy<Value = Secret> {
    secret().prop_map(|secret| {
        let key = SealingKey::random().unwrap();
        Secret::from_sealed(key.seal(secret.reveal().unwrap()).unwrap())
    })
}

fn kernel_name() -> impl Strategy<Value = String> {
    "[!-.0-9;-~]{1,15}"
        .prop_filter("a kernel name", |name| name != "." && name != ".." && address::plain(name).is_none())
}

fn source(address: impl Strategy<Value = IpAddr>) -> impl Strategy<Value = ConnectInterface> {
    (option::of(name()), address, any::<bool>()).prop_map(|(interface, address, both)| match interface {
        Some(interface) if both => ConnectInterface::Both { interface, address },
        Some(interface) => ConnectInterface::Interface(interface),
        None => ConnectInterface::Address(address),
    })
}

fn transport() -> impl Strategy<Value = Transport> {
    (1..=u16::MAX, any::<bool>())
        .prop_map(|(port, ours)| if ours { Transport::Connect(port) } else { Transport::Listen(port) })
}

/// Settings of a session that do not depend on its station's family.
fn plain() -> impl Strategy<Value = SessionConfig> {
    let routers = (option::of(option::of(name())), any::<bool>());
    (option::of(transport()), vec(name(), 0..=8), 0_u64..=600_000, any::<bool>(), any::<bool>(), routers).prop_map(
        |(transport, mut egress_interfaces, hold_down, adopt, shutdown, (per_router, proxy_protocol))| {
            let mut known = BTreeSet::new();
            egress_interfaces.retain(|name| known.insert(name.clone()));
            let connects = !matches!(transport, Some(Transport::Listen(_)));
            SessionConfig {
                transport,
                egress_interfaces,
                hold_down: Duration::from_millis(hold_down),
                adopt: adopt && connects && per_router.is_none(),
                per_router: per_router.filter(|_| connects).map(|relay| PerRouter { relay }),
                proxy_protocol: proxy_protocol && connects,
                shutdown,
                ..SessionConfig::default()
            }
        },
    )
}

/// Settings of a session that depend on no other setting.
type More = (
    Option<u16>,
    Option<u8>,
    (Signed, Option<String>),
    Option<(u16, u16)>,
    (Option<SessionKeepalive>, u16, u16, Option<u32>),
    BTreeMap<MonitorId, MonitorConfig>,
    bool,
    (Option<LineText>, Option<LineText>),
    (Option<u16>, Option<u32>, Option<u16>),
);

/// A password, or the name of a key chain.
type Signed = (Option<Secret>, Option<String>);

fn signed() -> impl Strategy<Value = Signed> {
    (option::of(secret()), option::of(name())).prop_map(|(password, keychain)| match keychain {
        Some(keychain) => (None, Some(keychain)),
        None => (password, None),
    })
}

fn keepalive() -> impl Strategy<Value = SessionKeepalive> {
    let seconds = |seconds: u16| Duration::from_secs(seconds.into());
    (0u16..32_768, option::of((1u16..32_768, 1u32..128))).prop_map(move |(idle, probes)| SessionKeepalive {
        idle: seconds(idle),
        probes: probes
            .filter(|_| idle > 0)
            .map(|(interval, count)| KeepaliveProbes { interval: seconds(interval), count }),
    })
}

/// Boxed, because the trees of values fill the stack of a test otherwise.
fn more() -> BoxedStrategy<More> {
    let waits = || (option::of(keepalive()), 0u16..3601, 0u16..3601, option::of(0u32..10_000_001));
    (
        option::of(88u16..32_768),
        option::of(0u8..64),
        (signed(), option::of(name())),
        option::of((1u16..100, 0u16..100)),
        waits(),
        btree_map(monitor(), monitor_config(), 0..4),
        any::<bool>(),
        (option::of(line_text()), option::of(line_text())),
        (option::of(1u16..), option::of(1..=SessionConfig::LARGEST_BUFFER), option::of(15u16..)),
    )
        .boxed()
}

/// Text with quotes and other characters of commands in it.
fn line_text() -> impl Strategy<Value = LineText> {
    vec(prop_oneof![name(), "[ -~]{1,9}"], 1..4).prop_filter_map("a text", |words| LineText::new(&words.join(" ")).ok())
}

fn monitor_config() -> BoxedStrategy<MonitorConfig> {
    let parts = (btree_set(route_mode(), 0..4), option::of(name()));
    parts.prop_map(|(modes, route_filter)| MonitorConfig { modes, route_filter }).boxed()
}

type RouteFilters = (BTreeMap<PrefixIndex, PrefixEntry>, BTreeMap<String, RouteFilterConfig>);

/// Lists of prefixes, and filters. Boxed, because the stack of a test is small.
fn route_filters() -> BoxedStrategy<RouteFilters> {
    let index = (name(), 1u32..).prop_map(|(list, index)| PrefixIndex { list, index });
    (btree_map(index, prefix_entry(), 0..4), btree_map(name(), route_filter(), 0..3)).boxed()
}

fn prefix_entry() -> impl Strategy<Value = PrefixEntry> {
    (any::<bool>(), prefix(), option::of(any::<u8>()), option::of(any::<u8>())).prop_map(|(permits, prefix, ge, le)| {
        let width = if prefix.address.is_ipv4() { 32 } else { 128 };
        let shortest = ge.map(|ge| ge.clamp(prefix.length, width));
        let longest = le.map(|le| le.clamp(shortest.unwrap_or(prefix.length), width));
        PrefixEntry { permits, prefix, shortest, longest }
    })
}

fn route_filter() -> impl Strategy<Value = RouteFilterConfig> {
    let path = prop_oneof![(1u32..).prop_map(AsPathMatch::Origin), (1u32..).prop_map(AsPathMatch::Contains)];
    let community = prop::sample::select(vec!["65000:*", "*:7", "1:2:*", "rt:192.0.2.1:7", "soo:70000:*"]);
    let distinguisher = prop::sample::select(vec!["65000:1", "70000:1", "192.0.2.1:1"]);
    let family = route_mode().prop_map(|mode| mode.family);
    let rule = (
        any::<bool>(),
        option::of(family),
        option::of(name()),
        option::of(path),
        option::of(community),
        option::of(distinguisher),
    );
    let rule = rule.prop_map(|(permits, family, prefix_list, as_path, community, distinguisher)| RouteRuleConfig {
        permits,
        family,
        prefix_list,
        as_path,
        community: community.and_then(|text| text.parse().ok()),
        distinguisher: distinguisher.and_then(crate::wire::bmp::RouteDistinguisher::read),
    });
    btree_map(1u32..65_536, rule, 0..5).prop_map(|rules| RouteFilterConfig { rules })
}

fn monitor() -> impl Strategy<Value = MonitorId> {
    prop_oneof![
        Just(MonitorId::Public),
        Just(MonitorId::AllVpnInstances),
        name().prop_map(MonitorId::VpnInstance),
        (option::of(name()), prop_oneof![v4(), v6()])
            .prop_map(|(vpn_instance, address)| MonitorId::Peer { vpn_instance, address }),
        name().prop_map(MonitorId::Relay),
        name().prop_map(MonitorId::Replay),
        Just(MonitorId::Bgp),
    ]
}

fn route_mode() -> impl Strategy<Value = RouteMode> {
    use crate::wire::bgp::Family;
    let families = [
        Family::IPV4_UNICAST,
        Family::IPV4_FLOW,
        Family::VPNV6,
        Family::IPV6_LABELED,
        Family::L2VPN_EVPN,
        Family::LINK_STATE,
    ];
    let views =
        [RibView::AdjRibInPre, RibView::AdjRibInPost, RibView::AdjRibOutPre, RibView::AdjRibOutPost, RibView::LocRib];
    (prop::sample::select(families.to_vec()), prop::sample::select(views.to_vec()))
        .prop_map(|(family, view)| RouteMode { family, view })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (prop_oneof![v4(), v6()], 0u8..=128).prop_filter_map("bits behind the length", |(address, length)| {
        let width = if address.is_ipv4() { 32 } else { 128 };
        Prefix::new(address, length.min(width)).or(Prefix::new(address, width))
    })
}

fn replay() -> impl Strategy<Value = ReplayConfig> {
    let pace = prop_oneof![
        Just(ReplayPace::Recorded),
        Just(ReplayPace::Maximum),
        (1u32..10_000_001).prop_map(|rate| ReplayPace::UpdatesPerSecond(rate.try_into().unwrap())),
    ];
    (option::of(name()), pace, any::<bool>()).prop_map(|(file, pace, looped)| ReplayConfig {
        file: file.map(Into::into),
        pace,
        looped,
    })
}

fn lifetime() -> impl Strategy<Value = KeyLifetime> {
    // From 1970 to 9999.
    let last = 253_402_300_799_u64;
    (0..last, option::of(1..last)).prop_map(move |(from, more)| {
        let to = more.map(|more| UtcTime::from_unix(from + 1 + more % (last - from)));
        KeyLifetime { from: UtcTime::from_unix(from), to }
    })
}

fn keychain() -> impl Strategy<Value = KeychainConfig> {
    let algorithm = option::of(prop::sample::select(KeyAlgorithm::ALL.to_vec()));
    let key = (algorithm, option::of(secret()), option::of(lifetime()), option::of(lifetime()))
        .prop_map(|(algorithm, secret, send, receive)| ChainKey { algorithm, secret, send, receive });
    btree_map(any::<u8>(), key, 0..3).prop_map(|keys| KeychainConfig { keys })
}

fn tls_profile() -> impl Strategy<Value = TlsProfileConfig> {
    let file = || option::of("/[!-~]{1,20}".prop_map(PathBuf::from));
    let name = option::of(prop_oneof!["[a-z]{1,9}(\\.[a-z]{1,9}){0,2}", v4().prop_map(|address| address.to_string())]);
    let fingerprint = option::of(any::<[u8; 32]>().prop_map(CertificateFingerprint));
    (file(), file(), file(), name, fingerprint).prop_map(
        |(trusted_ca, certificate, private_key, verify_name, fingerprint)| TlsProfileConfig {
            trusted_ca,
            certificate,
            private_key,
            verify_name,
            fingerprint,
        },
    )
}

fn maximum_routes() -> impl Strategy<Value = MaximumRoutes> {
    (1u32.., any::<bool>()).prop_map(|(routes, warning_only)| MaximumRoutes { routes, warning_only })
}

fn bgp_peer(address: IpAddr) -> impl Strategy<Value = (IpAddr, BgpPeerConfig)> {
    use crate::wire::bgp::Family;
    let families = vec![Family::IPV4_UNICAST, Family::VPNV6, Family::L2VPN_EVPN, Family::LINK_STATE];
    let own = if address.is_ipv4() { v4().boxed() } else { v6().boxed() };
    let timer = (0u16..21_845).prop_map(|keepalive| BgpTimer { keepalive, hold: keepalive * 3 });
    let limit = option::of(maximum_routes());
    (
        1u32..,
        option::of(1u16..),
        (option::of(secret()), option::of(name())),
        any::<bool>(),
        option::of(source(own)),
        (option::of(timer), limit),
        btree_set(prop::sample::select(families), 0..4),
    )
        .prop_map(
            move |(
                asn,
                port,
                (password, keychain),
                listen_only,
                connect_interface,
                (timer, maximum_routes),
                families,
            )| {
                let asn = Some(asn);
                let peer = BgpPeerConfig {
                    asn,
                    port,
                    password,
                    keychain,
                    listen_only,
                    connect_interface,
                    timer,
                    maximum_routes,
                    families,
                };
                (address, peer)
            },
        )
}

fn bgp() -> impl Strategy<Value = BgpConfig> {
    let peers = vec(prop_oneof![v4(), v6()].prop_flat_map(bgp_peer), 0..4);
    let router_id = any::<Ipv4Addr>().prop_filter("an identifier", |id| !id.is_unspecified());
    (1u32.., option::of(router_id), option::of(1u16..), peers).prop_map(|(asn, router_id, listen_port, peers)| {
        BgpConfig { asn, router_id, listen_port, peers: peers.into_iter().collect() }
    })
}

fn session() -> impl Strategy<Value = (SessionId, SessionConfig)> {
    let of = |station: IpAddr,
              (vpn_instance, alias, plain): (_, _, SessionConfig),
              connect_interface,
              next_hop: Option<IpAddr>| {
        let next_hop = next_hop.filter(|_| !matches!(plain.transport, Some(Transport::Listen(_))));
        (SessionId { vpn_instance, station, alias }, SessionConfig { connect_interface, next_hop, ..plain })
    };
    let of = move |station, (vpn_instance, alias, plain, more): (_, _, _, More), connect_interface, next_hop| {
        let (id, session) = of(station, (vpn_instance, alias, plain), connect_interface, next_hop);
        let (mss, dscp, ((password, keychain), tls), retry, waits, monitors, route_mirroring, texts, numbers) = more;
        let connects = matches!(session.transport, Some(Transport::Connect(_)));
        let seconds = |seconds: u16| Duration::from_secs(seconds.into());
        let session = SessionConfig {
            description: texts.0,
            initiation_message: texts.1,
            dump_rate: waits.3,
            mss,
            dscp,
            password: password.filter(|_| connects),
            keychain: keychain.filter(|_| session.transport.is_some()),
            tls: tls.filter(|_| session.transport.is_some()),
            local_port: numbers.0.filter(|_| connects && session.per_router.is_none()),
            connect_retry: retry
                .map(|(first, more)| ConnectRetry { first: seconds(first), longest: seconds(first + more) }),
            keepalive: waits.0,
            initial_delay: seconds(waits.1),
            flap_damping: seconds(waits.2),
            monitors,
            route_mirroring,
            derives_statistics: route_mirroring,
            buffer_limit: numbers.1,
            statistics_timer: numbers.2.map(seconds),
            ..session
        };
        (id, session)
    };
    let vpn_instance = || kernel_name().prop_filter("a VPN instance", |name| name != PUBLIC);
    let rest = move || (option::of(vpn_instance()), option::of(name()), plain(), more()).boxed();
    prop_oneof![
        (v4(), rest(), option::of(source(v4())), option::of(v4())).prop_map(move |(s, rest, c, n)| of(s, rest, c, n)),
        (v6(), rest(), option::of(source(v6())), option::of(v6())).prop_map(move |(s, rest, c, n)| of(s, rest, c, n)),
    ]
}

prop_compose! {
    /// A valid configuration.
    pub(super) fn config()(
        sysname in option::of(name()),
        interface_aliases in btree_map(name(), kernel_name(), 0..4),
        listens in btree_map(name(), ((option::of((listen_address(), 1..=u16::MAX)), option::of(name()), option::of(name())), (btree_set(prefix(), 0..3), btree_set(name(), 0..3), btree_set(prefix(), 0..3)), [0u64..3601, 0u64..3601], (option::of((1u32..65_536, option::of(1u32..65_536))), option::of(maximum_routes()))), 0..4),
        http in option::of((listen_address(), 1..=u16::MAX, option::of(kernel_name().prop_filter("a VPN instance", |name| name != PUBLIC)))),
        http_peer_metrics in any::<bool>(),
        memory_limit in option::of(96u32..1_048_577),
        (bgp, keychains, tls_profiles) in (option::of(bgp()), btree_map(name(), keychain(), 0..3), btree_map(name(), tls_profile(), 0..3)),
        (prefix_lists, route_filters) in route_filters(),
        (statistics, initiation_message, dump_rate, refresh) in (option::of(0u64..65_536), option::of(line_text()), option::of(0u32..10_000_001), option::of([0u64..3601, 0u64..3601])),
        mut replays in btree_map(name(), replay(), 0..3),
        connect_interface in option::of(v4()),
        enabled in any::<bool>(),
        persist in any::<bool>(),
        sessions in vec(session().boxed(), 0..6),
    ) -> Config {
        let mut relays = BTreeMap::new();
        for (name, ((listen, keychain, tls), (allow, users, allow_proxies), [hold, quiet], (most, maximum_routes))) in listens {
            let listen = listen.map(SocketAddr::from);
            let (keychain, tls) = (keychain.filter(|_| listen.is_some()), tls.filter(|_| listen.is_some()));
            if relays.values().all(|relay: &RelayConfig| relay.listen != listen || listen.is_none()) {
                let max_connections = most.map(|(total, per_source)| {
                    MaxConnections { total, per_source: per_source.map(|most| most.min(total)) }
                });
                let [hold, end_of_rib_after] = [hold, quiet].map(Duration::from_secs);
                let allow_users = users.iter().map(|user| AllowedUser::from(user.as_str())).collect();
                relays.insert(name, RelayConfig { listen, keychain, tls, allow, allow_users, allow_proxies, hold, end_of_rib_after, max_connections, maximum_routes });
            }
        }
        replays.retain(|name, _| !relays.contains_key(name));
        let mut bmp = BmpConfig { enabled, persist: enabled && persist, connect_interface: connect_interface.and_then(|a| match a {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }), ..BmpConfig::default() };
        bmp.statistics_timer = statistics.map(Duration::from_secs);
        bmp.initiation_message = initiation_message;
        bmp.dump_rate = dump_rate;
        bmp.initial_refresh = refresh.map(|times| {
            let [delay, spread] = times.map(Duration::from_secs);
            InitialRefresh { delay, spread }
        });
        bmp.enabled |= dump_rate.is_some() || bmp.initial_refresh.is_some();
        bmp.enabled |= statistics.is_some() || bmp.initiation_message.is_some() || bmp.connect_interface.is_some() || !sessions.is_empty();
        for (id, session) in sessions {
            let same = |(other, held): (&SessionId, &SessionConfig)| other.station == id.station && held.transport == session.transport;
            if !bmp.sessions.iter().any(same) {
                // And one more session with this station, which nothing but its alias tells apart.
                let alias = Some(format!("{}x", id.alias.as_deref().unwrap_or_default().chars().take(60).collect::<String>()));
                bmp.sessions.insert(SessionId { alias, ..id.clone() }, SessionConfig { transport: None, password: None, keychain: None, tls: None, local_port: None, ..session.clone() });
                bmp.sessions.insert(id, session);
            }
        }
        let http_listen = http.map(|(address, port, vpn_instance)| {
            HttpListen { address: (address, port).into(), vpn_instance }
        });
        let is_free = |http: &HttpListen| {
            http.vpn_instance.is_some() || relays.values().all(|relay| relay.listen != Some(http.address))
        };
        let http_listen = http_listen.filter(is_free);
        Config {
            sysname,
            interface_aliases,
            memory_limit,
            http_listen,
            http_peer_metrics,
            keychains,
            tls_profiles,
            prefix_lists,
            route_filters,
            bgp,
            relays,
            replays,
            bmp,
        }
    }
}
