//! Properties that hold for any input.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::{
    super::*,
    random_config::{config, sealed_secret},
    session_view,
};

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
                assert_eq!(line.strip_suffix('\r').unwrap_or(line), error.line_text.as_str());
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
    fn a_sealed_secret_is_printed_as_the_same_text_each_time(
        (port, of_session, of_peer) in (1u16.., sealed_secret(), sealed_secret()),
    ) {
        let CommandView::Session(id) = session_view("198.51.100.7") else { unreachable!("a session") };
        let session = SessionConfig {
            transport: Some(Transport::Connect(port)), password: Some(of_session), ..SessionConfig::default()
        };
        let peer = BgpPeerConfig { asn: Some(65001), password: Some(of_peer), ..BgpPeerConfig::default() };
        let peers = [("192.0.2.2".parse().unwrap(), peer)].into();
        let bgp = BgpConfig { asn: 65000, router_id: None, listen_port: None, peers };
        let sessions = [(id, session)].into();
        let config = Config {
            bgp: Some(bgp), bmp: BmpConfig { enabled: true, sessions, ..BmpConfig::default() }, ..Config::default()
        };
        let text = print(&config);
        let read = parse_file("f", &text).unwrap();
        prop_assert_eq!(print(&read), text);
        prop_assert_eq!(read, config);
    }

    #[test]
    fn a_printed_view_reads_back_as_that_view_alone(mut config in config()) {
        // Secrets are masked, and a mask is no secret.
        config.bmp.sessions.values_mut().for_each(|session| session.password = None);
        if let Some(bgp) = &mut config.bgp {
            bgp.peers.values_mut().for_each(|peer| peer.password = None);
        }
        config.keychains.values_mut().flat_map(|chain| chain.keys.values_mut()).for_each(|key| key.secret = None);
        let read = |view| match print_view(&config, &view) {
            Some(text) => parse_file("f", &text).map(Some).map_err(|errors| errors[0].to_string()),
            None => Ok(None),
        };
        let is_there = |wanted: bool, alone: Config| Ok(wanted.then_some(alone));
        let empty = Config::default;
        for (id, session) in &config.bmp.sessions {
            let sessions = [(id.clone(), session.clone())].into();
            let alone = Config { bmp: BmpConfig { enabled: true, sessions, ..BmpConfig::default() }, ..empty() };
            prop_assert_eq!(read(CommandView::Session(id.clone())), is_there(true, alone));
        }
        for (name, relay) in &config.relays {
            let alone = Config { relays: [(name.clone(), relay.clone())].into(), ..empty() };
            prop_assert_eq!(read(CommandView::Relay(name.clone())), is_there(true, alone));
        }
        for (name, chain) in &config.keychains {
            let alone = Config { keychains: [(name.clone(), chain.clone())].into(), ..empty() };
            prop_assert_eq!(read(CommandView::Keychain(name.clone())), is_there(true, alone));
        }
        for (name, profile) in &config.tls_profiles {
            let alone = Config { tls_profiles: [(name.clone(), profile.clone())].into(), ..empty() };
            prop_assert_eq!(read(CommandView::TlsProfile(name.clone())), is_there(true, alone));
        }
        for (name, filter) in &config.route_filters {
            let alone = Config { route_filters: [(name.clone(), filter.clone())].into(), ..empty() };
            prop_assert_eq!(read(CommandView::RouteFilter(name.clone())), is_there(true, alone));
        }
        let bmp = Config { bmp: config.bmp.clone(), ..empty() };
        prop_assert_eq!(read(CommandView::Bmp), is_there(config.bmp != BmpConfig::default(), bmp));
        let bgp = Config { bgp: config.bgp.clone(), ..empty() };
        prop_assert_eq!(read(CommandView::Bgp), is_there(config.bgp.is_some(), bgp));
        let system = Config {
            keychains: BTreeMap::new(), tls_profiles: BTreeMap::new(), route_filters: BTreeMap::new(), bgp: None, relays: BTreeMap::new(), replays: BTreeMap::new(), bmp: BmpConfig::default(), ..config.clone()
        };
        prop_assert_eq!(read(CommandView::System), is_there(true, system));
        prop_assert_eq!(read(CommandView::Relay("there is none".to_owned())), Ok(None));
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
            Just("display"), Just("egress-interface"), Just("next-hop"), Just("hold-down"), Just("adopt"), Just("shutdown"), Just("description"), Just("initiation-message"), Just("dump-rate"), Just("initial-refresh"), Just("delay"), Just("spread"),
            Just("persist"), Just("monitor"), Just("peer"), Just("relay"), Just("route-mode"), Just("ipv4-family"), Just("unicast"), Just("adj-rib-in"),
            Just("pre-policy"), Just("mrt-replay"), Just("pace"), Just("allow"), Just("user"), Just("maximum-routes"), Just("memory-limit"), Just("warning-only"), Just("dscp"), Just("mss"), Just("hold"), Just("end-of-rib-after"), Just("max-connections"), Just("per-source"),
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
        let keys = KeyFile::beside(&path);
        let running = load(&path, &keys).unwrap();
        prop_assert_eq!(&running, &before);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = ConfigStore::new(&path, running, StartLimits::sessions(usize::MAX));
        let operator = store.operator();
        let commit = |candidate: &Config| {
            let base = Config::clone(&store.running());
            let (who, note) = (Who::default(), CommitNote::default());
            let by = Committer { operator: &operator, who: &who, note: &note, origin: CommitOrigin::Commit };
            runtime.block_on(store.commit(by, &base, candidate, Allow::Own)).unwrap();
        };
        commit(&after);
        // No secret is anywhere as it is, before or after.
        for config in [&before, &after] {
            let passwords = config.bmp.sessions.values().filter_map(|session| session.password.as_ref());
            let keys = config.keychains.values().flat_map(|chain| chain.keys.values());
            let passwords = passwords.chain(keys.filter_map(|key| key.secret.as_ref()));
            let secrets: Vec<_> = passwords.map(|secret| secret.reveal().unwrap()).filter(|text| text.len() > 8).collect();
            for name in ["f", "f.previous"] {
                let kept = std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
                let words: Vec<_> = kept.lines().filter(|line| line.contains("password") || line.contains("key-string")).flat_map(str::split_whitespace).collect();
                prop_assert!(!secrets.iter().any(|secret| words.contains(secret)), "{}: {}", name, kept);
            }
        }
        prop_assert_eq!(&load(&path, &keys).unwrap(), &after);
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
