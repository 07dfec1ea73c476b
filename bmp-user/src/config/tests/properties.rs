//! Properties that hold for any input.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
};

use super::{super::*, session_view};
use crate::{config::language::address, wire::bmp::RibView};

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
    name().prop_filter("a secret", |name| name != MASK).prop_map(|name| Secret::from(&*name))
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
    (option::of(transport()), vec(name(), 0..=8), 0_u64..=600_000, any::<bool>(), any::<bool>()).prop_map(
        |(transport, mut egress_interfaces, hold_down, adopt, shutdown)| {
            let mut known = BTreeSet::new();
            egress_interfaces.retain(|name| known.insert(name.clone()));
            SessionConfig {
                transport,
                egress_interfaces,
                hold_down: Duration::from_millis(hold_down),
                adopt: adopt && !matches!(transport, Some(Transport::Listen(_))),
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
    Option<Secret>,
    Option<(u16, u16)>,
    (Option<u16>, u16, u16),
    BTreeMap<MonitorId, BTreeSet<RouteMode>>,
    bool,
);

fn more() -> impl Strategy<Value = More> {
    let waits = || (option::of(0u16..32_768), 0u16..3601, 0u16..3601);
    (
        option::of(88u16..32_768),
        option::of(0u8..64),
        option::of(secret()),
        option::of((1u16..100, 0u16..100)),
        waits(),
        btree_map(monitor(), btree_set(route_mode(), 0..4), 0..4),
        any::<bool>(),
    )
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

fn bgp_peer(address: IpAddr) -> impl Strategy<Value = (IpAddr, BgpPeerConfig)> {
    use crate::wire::bgp::Family;
    let families = vec![Family::IPV4_UNICAST, Family::VPNV6, Family::L2VPN_EVPN, Family::LINK_STATE];
    let own = if address.is_ipv4() { v4().boxed() } else { v6().boxed() };
    let timer = (0u16..21_845).prop_map(|keepalive| BgpTimer { keepalive, hold: keepalive * 3 });
    (
        1u32..,
        option::of(1u16..),
        option::of(secret()),
        any::<bool>(),
        option::of(source(own)),
        option::of(timer),
        btree_set(prop::sample::select(families), 0..4),
    )
        .prop_map(move |(asn, port, password, listen_only, connect_interface, timer, families)| {
            let asn = Some(asn);
            (address, BgpPeerConfig { asn, port, password, listen_only, connect_interface, timer, families })
        })
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
        let (mss, dscp, password, retry, waits, monitors, route_mirroring) = more;
        let connects = matches!(session.transport, Some(Transport::Connect(_)));
        let seconds = |seconds: u16| Duration::from_secs(seconds.into());
        let session = SessionConfig {
            mss,
            dscp,
            password: password.filter(|_| connects),
            connect_retry: retry
                .map(|(first, more)| ConnectRetry { first: seconds(first), longest: seconds(first + more) }),
            keepalive: waits.0.map(seconds),
            initial_delay: seconds(waits.1),
            flap_damping: seconds(waits.2),
            monitors,
            route_mirroring,
            ..session
        };
        (id, session)
    };
    let vpn_instance = || kernel_name().prop_filter("a VPN instance", |name| name != PUBLIC);
    let rest = move || (option::of(vpn_instance()), option::of(name()), plain(), more());
    prop_oneof![
        (v4(), rest(), option::of(source(v4())), option::of(v4())).prop_map(move |(s, rest, c, n)| of(s, rest, c, n)),
        (v6(), rest(), option::of(source(v6())), option::of(v6())).prop_map(move |(s, rest, c, n)| of(s, rest, c, n)),
    ]
}

prop_compose! {
    fn config()(
        sysname in option::of(name()),
        interface_aliases in btree_map(name(), kernel_name(), 0..4),
        listens in btree_map(name(), (option::of((listen_address(), 1..=u16::MAX)), btree_set(prefix(), 0..3), [0u64..3601, 0u64..3601], option::of((1u32..65_536, option::of(1u32..65_536)))), 0..4),
        http in option::of((listen_address(), 1..=u16::MAX, option::of(kernel_name().prop_filter("a VPN instance", |name| name != PUBLIC)))),
        http_peer_metrics in any::<bool>(),
        bgp in option::of(bgp()),
        statistics in option::of(0u64..65_536),
        mut replays in btree_map(name(), replay(), 0..3),
        connect_interface in option::of(v4()),
        enabled in any::<bool>(),
        persist in any::<bool>(),
        sessions in vec(session(), 0..6),
    ) -> Config {
        let mut relays = BTreeMap::new();
        for (name, (listen, allow, [hold, quiet], most)) in listens {
            let listen = listen.map(SocketAddr::from);
            if relays.values().all(|relay: &RelayConfig| relay.listen != listen || listen.is_none()) {
                let max_connections = most.map(|(total, per_source)| {
                    MaxConnections { total, per_source: per_source.map(|most| most.min(total)) }
                });
                let [hold, end_of_rib_after] = [hold, quiet].map(Duration::from_secs);
                relays.insert(name, RelayConfig { listen, allow, hold, end_of_rib_after, max_connections });
            }
        }
        replays.retain(|name, _| !relays.contains_key(name));
        let mut bmp = BmpConfig { enabled, persist: enabled && persist, connect_interface: connect_interface.and_then(|a| match a {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }), ..BmpConfig::default() };
        bmp.statistics_timer = statistics.map(Duration::from_secs);
        bmp.enabled |= statistics.is_some() || bmp.connect_interface.is_some() || !sessions.is_empty();
        for (id, session) in sessions {
            let same = |(other, held): (&SessionId, &SessionConfig)| other.station == id.station && held.transport == session.transport;
            if !bmp.sessions.iter().any(same) {
                // And one more session with this station, which nothing but its alias tells apart.
                let alias = Some(format!("{}x", id.alias.as_deref().unwrap_or_default().chars().take(60).collect::<String>()));
                bmp.sessions.insert(SessionId { alias, ..id.clone() }, SessionConfig { transport: None, password: None, ..session.clone() });
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
        Config { sysname, interface_aliases, http_listen, http_peer_metrics, bgp, relays, replays, bmp }
    }
}

/// A valid configuration with something done to it.
fn mutated() -> impl Strategy<Value = String> {
    let change = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        prop_oneof![
            Just(String::new()),
            any::<char>().prop_map(String::from),
            "[ \t\n#]{1,3}",
            Just("undo ".to_owned()),
            Just("\nbmp-session ".to_owned()),
            Just("\nquit\n".to_owned()),
            "\\PC{0,8}",
        ],
    );
    (config(), vec(change, 1..6)).prop_map(|(config, changes)| {
        let mut text: Vec<char> = print(&config).chars().collect();
        for (from, to, with) in changes {
            let from = from.index(text.len() + 1);
            let to = (from + to.index(12)).min(text.len());
            text.splice(from..to, with.chars());
        }
        text.into_iter().collect()
    })
}

/// Whatever came out of a parser must be in order.
fn check(outcome: Result<Config, Vec<CommandError>>, text: &str) {
    match outcome {
        Ok(config) => {
            assert_eq!(parse_file("f", &print(&config)), Ok(config));
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            assert!(errors.is_sorted_by_key(|error| error.line));
            for error in errors {
                let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').collect();
                let line = lines[error.line - 1];
                assert_eq!(line.strip_suffix('\r').unwrap_or(line), error.line_text);
                assert!(error.column + error.length <= error.line_text.chars().count() + 2, "{error:?}");
                assert!(error.length > 0 && error.to_string().lines().count() == 3, "{error}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_back_as_the_same(config in config()) {
        let text = print(&config);
        prop_assert_eq!(parse_file("f", &text).map_err(|errors| errors[0].to_string()), Ok(config.clone()));
        prop_assert_eq!(print(&config.clone()), text);
    }

    #[test]
    fn any_text_is_taken_or_refused(text in any::<String>()) {
        check(parse_file("f", &text), &text);
    }

    #[test]
    fn any_words_are_taken_or_refused(
        words in vec(prop_oneof![
            Just("undo"), Just("bmp"), Just("bmp-session"), Just("bmp-relay"), Just("connect-interface"), Just("tcp"),
            Just("connect"), Just("port"), Just("alias"), Just("listen"), Just("quit"), Just("return"), Just("sysname"),
            Just("display"), Just("egress-interface"), Just("next-hop"), Just("hold-down"), Just("adopt"), Just("shutdown"),
            Just("persist"), Just("monitor"), Just("peer"), Just("relay"), Just("route-mode"), Just("ipv4-family"), Just("unicast"), Just("adj-rib-in"),
            Just("pre-policy"), Just("mrt-replay"), Just("pace"), Just("allow"), Just("dscp"), Just("mss"), Just("hold"), Just("end-of-rib-after"), Just("max-connections"), Just("per-source"),
            Just("persist"), Just("vpn-instance"), Just("reset"), Just("all"), Just("commit"), Just("trial"), Just("abort"),
            Just("configuration"), Just("candidate"), Just("|"), Just("include"), Just("session"), Just("verbose"), Just("interface-alias"), Just("\n"), Just("\n "), Just("1"),
            Just("192.0.2.1"), Just("2001:db8::1"), Just("eth1"), Just("c"), Just("#"),
        ], 0..60),
    ) {
        let text = words.join(" ");
        check(parse_file("f", &text), &text);
        for view in [CommandView::User, CommandView::System, CommandView::Bmp, session_view("192.0.2.7"), CommandView::Relay("r".to_owned())] {
            for line in text.lines() {
                for abbreviate in [false, true] {
                    let _ = parse_line(&view, line, abbreviate);
                }
            }
        }
    }

    #[test]
    fn a_damaged_configuration_is_taken_or_refused(text in mutated()) {
        check(parse_file("f", &text), &text);
    }

    #[test]
    fn a_command_that_is_refused_changes_nothing(
        mut config in config(),
        lines in vec("(undo )?(tcp (connect|listen) port [12]|adopt|shutdown|hold-down [01]|egress-interface( eth[12]){1,3}|next-hop 192.0.2.[12]|connect-interface (eth1|192.0.2.[12]|eth [12])|bmp-session 192.0.2.[12]( alias a)?|quit)", 1..20),
    ) {
        let mut view = CommandView::Bmp;
        for line in lines {
            let before = (config.clone(), view.clone());
            let Ok(command) = parse_line(&view, &line, false) else { continue };
            if apply(&mut config, &mut view, &command).is_err() {
                prop_assert_eq!((&config, &view), (&before.0, &before.1));
            }
        }
    }

    #[test]
    fn changes_of_two_operators_come_together_or_are_refused(
        (base, mine, theirs) in (config(), config(), config(), any::<[bool; 2]>())
            .prop_map(|(base, one, other, [near, far])| {
                // Often the others are what there was with a little more.
                let more = |with: Config| {
                    let mut config = base.clone();
                    config.interface_aliases.extend(with.interface_aliases);
                    let free = |name: &String| !base.replays.contains_key(name);
                    let names = with.relays.into_keys().filter(free);
                    config.relays.extend(names.map(|name| (name, RelayConfig::default())));
                    config
                };
                let mine = if near { more(one) } else { one };
                let theirs = if far { more(other) } else { other };
                (base, mine, theirs)
            }),
    ) {
        prop_assert_eq!(rebase(&base, &mine, &base), Ok(mine.clone()));
        prop_assert_eq!(rebase(&base, &base, &theirs), Ok(theirs.clone()));
        prop_assert_eq!(rebase(&base, &mine, &mine), Ok(mine.clone()));
        prop_assert!(Difference::between(&mine, &mine).is_empty());
        match rebase(&base, &mine, &theirs) {
            Ok(both) => {
                // It does not matter who came first, and it is a configuration like any other.
                prop_assert_eq!(rebase(&base, &theirs, &mine), Ok(both.clone()));
                check(parse_file("f", &print(&both)), "");
            }
            Err(Conflict::Lines(lines)) => prop_assert!(!lines.is_empty()),
            Err(Conflict::Rule(_)) => {}
        }
    }
}

proptest! {
    // Each case is several files on the disk.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_committed_is_loaded_again_as_the_same(
        before in config(), after in config(), comments in vec(("[ -~]{0,8}", any::<prop::sample::Index>()), 0..6),
    ) {
        let mut text = print(&before);
        for (comment, at) in &comments {
            let starts: Vec<usize> = text.lines().map(|line| line.as_ptr() as usize - text.as_ptr() as usize).collect();
            text.insert_str(*at.get(&starts), &format!(" # {comment}\n"));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, &text).unwrap();
        let running = load(&path).unwrap();
        prop_assert_eq!(&running, &before);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = ConfigStore::new(&path, running, usize::MAX);
        let operator = store.operator();
        let commit = |candidate: &Config| {
            let base = Config::clone(&store.running());
            runtime.block_on(store.commit(&operator, &Who::default(), &base, candidate, Allow::Own)).unwrap();
        };
        commit(&after);
        prop_assert_eq!(&load(&path).unwrap(), &after);
        // A comment that no line has taken along is written once, and what is written once stays as
        // it is.
        let kept = std::fs::read_to_string(&path).unwrap();
        commit(&Config { sysname: Some("other".to_owned()), ..after.clone() });
        commit(&Config { sysname: None, ..after.clone() });
        commit(&after);
        if after.sysname.is_none() {
            prop_assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
        }
    }
}
