//! Every configuration and every dialogue in the documents works as written. Each block of the
//! documents has a tag, and each tag has a test here:
//!
//! | tag | contents | test |
//! |---|---|---|
//! | `bmpd` | a configuration of bmpd, or a part of its bmp view | `bmpd check` accepts it without
//! a warning |
//! | `frr`, `frr-daemons` | a configuration of FRR, and its options | FRR runs it, and a route
//! arrives at a station |
//! | `gobgp` | a configuration of GoBGP | GoBGP runs it, and a route arrives at a station |
//! | `bird` | a configuration of BIRD, for bmpd with the page's `bmpd` block | BIRD runs it, and a
//! route arrives at a station |
//! | `bird-bmp` | a configuration of BIRD with BMP | where BIRD has BMP, it runs it, and a route
//! arrives at a station |
//! | `vyos` | commands of VyOS | FRR runs what VyOS makes of them, and a route arrives |
//! | `prometheus` | a configuration of Prometheus | promtool accepts it, with the alerting rules |
//! | `console` | commands with their output | the commands print rows with these names |
//! | `json` | an answer in JSON | bmpd's own programs can read it |
//! | `sh` | commands without output | the commands of bmpd succeed |
//! | `text` | a drawing, or output of a program | it is not a configuration |

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};

use bmp_user::control::read_json;
use lab::{
    bgp::prefixes,
    bmp,
    bmpd::{Bmpd, BmpdSetup},
    frr::Frr,
    gobgp::Gobgp,
    netns::Netns,
    peering::{BMPD, DAEMON, Peering, bird_takes},
    speaker::LabBgpSpeaker,
    station::TestStation,
    terminal::TestTerminal,
    topology::{STATION, STATION_PORT, Topology},
    trial::{LabTrial, RELAY, TrialPlan},
    wait::{PATIENCE, until},
};
use programs::Program;

const TAGS: [&str; 12] =
    ["bmpd", "frr", "frr-daemons", "gobgp", "bird", "bird-bmp", "vyos", "prometheus", "console", "json", "sh", "text"];

/// A fenced block of a document.
struct FencedBlock {
    /// File and line, such as `README.md:62`.
    place: String,
    tag: String,
    text: String,
}

impl FencedBlock {
    /// Returns the document's file.
    fn page(&self) -> &str {
        self.place.split(':').next().unwrap_or_default()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Lists the documents: those beside the README, and all below `docs`.
fn documents() -> Vec<PathBuf> {
    let is_document = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let files = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut documents: Vec<_> = files(&root()).into_iter().filter(is_document).collect();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for path in files(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if is_document(&path) {
                documents.push(path);
            }
        }
    }
    documents
}

fn blocks_of(name: &str, document: &str) -> Vec<FencedBlock> {
    let mut blocks = Vec::new();
    let mut open: Option<FencedBlock> = None;
    for (number, line) in (1..).zip(document.lines()) {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(tag), None) => {
                let (place, tag) = (format!("{name}:{number}"), tag.trim().to_owned());
                open = Some(FencedBlock { place, tag, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block of {name} does not end");
    blocks
}

fn blocks() -> Vec<FencedBlock> {
    let of = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        blocks_of(&name, &fs::read_to_string(&path).expect("the document is readable"))
    };
    documents().into_iter().flat_map(of).collect()
}

/// Returns the blocks with a tag. There must be at least one.
fn tagged(tag: &str) -> Vec<FencedBlock> {
    let blocks: Vec<_> = blocks().into_iter().filter(|block| block.tag == tag).collect();
    assert!(!blocks.is_empty(), "the documents have no block with the tag {tag}");
    blocks
}

/// Returns the targets of a document's links to other files of the project.
fn links(document: &str) -> Vec<&str> {
    let targets = document.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets.filter(|target| !target.contains("://")).collect()
}

#[test]
fn every_link_leads_to_a_file() {
    for path in documents() {
        let text = fs::read_to_string(&path).expect("the document is readable");
        for link in links(&text) {
            let file = link.split('#').next().unwrap_or_default();
            let folder = path.parent().expect("a document is in a folder");
            assert!(folder.join(file).exists(), "{}: {link} leads nowhere", path.display());
        }
    }
    assert_eq!(links("a [b](c.md) and [d](https://e) and [f](g/h.md#i)"), ["c.md", "g/h.md#i"]);
}

#[test]
fn every_file_in_the_page_on_rfcs_exists() {
    let page = fs::read_to_string(root().join("docs/rfc.md")).expect("the page is readable");
    let named = page.split('`').skip(1).step_by(2).filter(|name| name.contains('/') || name.ends_with(".rs"));
    let missing: Vec<_> =
        named.filter(|name| ![".", "bmp-user/src"].iter().any(|at| root().join(at).join(name).exists())).collect();
    assert!(missing.is_empty(), "docs/rfc.md names files that do not exist: {missing:?}");
}

#[test]
fn every_section_in_the_page_on_rfcs_names_a_test_that_its_file_has() {
    let page = fs::read_to_string(root().join("docs/rfc.md")).expect("the page is readable");
    let source = |file: &str| {
        let path = ["bmp-user/src", "."].map(|at| root().join(at).join(file)).into_iter().find(|path| path.exists());
        path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    };
    let mut table: Option<&str> = None;
    for row in page.lines() {
        if !row.starts_with('|') {
            table = None;
            continue;
        }
        // Another table, of types or the like, has no tests.
        let heading = *table.get_or_insert(row);
        if !heading.ends_with("| Test |") || row == heading || row.starts_with("|-") {
            continue;
        }
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let (mut text, mut tests) = (String::new(), 0);
        for name in cell.split('`').skip(1).step_by(2) {
            if name.ends_with(".rs") {
                text = source(name);
            } else {
                assert!(text.contains(&format!("fn {name}(")), "docs/rfc.md: its file has no test {name}: {row}");
                tests += 1;
            }
        }
        assert!(tests > 0, "docs/rfc.md: this section names no test: {row}");
    }
}

fn check(netns: &Netns, configuration: &str) -> Output {
    BmpdSetup::new(netns, configuration).check()
}

#[test]
fn every_block_has_a_tag_with_a_test() {
    let unknown: Vec<_> = blocks().into_iter().filter(|block| !TAGS.contains(&&*block.tag)).collect();
    let places: Vec<_> = unknown.iter().map(|block| format!("{}: `{}`", block.place, block.tag)).collect();
    assert!(places.is_empty(), "blocks without a test: {places:#?}; the tags are {TAGS:?}");
    let of = |text: &str| {
        blocks_of("it", text).into_iter().map(|block| (block.place, block.tag, block.text)).collect::<Vec<_>>()
    };
    let expected = vec![
        ("it:2".to_owned(), String::new(), "x\n".to_owned()),
        ("it:5".to_owned(), "bmpd".to_owned(), "bmp\n".to_owned()),
    ];
    assert_eq!(of("a\n```\nx\n```\n ```bmpd\nbmp\n```\n"), expected);
}

#[test]
fn every_configuration_of_bmpd_is_accepted_without_a_warning() {
    let netns = Netns::new("router");
    for block in tagged("bmpd") {
        // A whole configuration, or a part of the bmp view.
        let tries = ["", "bmp\n"].map(|around| check(&netns, &format!("{around}{}", block.text)));
        let accepted = tries.iter().find(|output| output.status.success());
        let Some(accepted) = accepted else { panic!("{}: {tries:#?}", block.place) };
        assert!(accepted.stdout.is_empty(), "{}: {}", block.place, String::from_utf8_lossy(&accepted.stdout));
    }
}

#[test]
fn no_block_tagged_text_is_a_configuration() {
    let netns = Netns::new("router");
    for block in tagged("text") {
        assert!(!check(&netns, &block.text).status.success(), "{} is a configuration: tag it bmpd", block.place);
    }
}

/// Returns the options that `/etc/frr/daemons` adds to bgpd's command line.
fn daemon_options() -> Vec<String> {
    let blocks = tagged("frr-daemons");
    let options = blocks[0].text.lines().find_map(|line| line.strip_prefix("bgpd_options="));
    options.expect("the block has bgpd_options").trim_matches('"').split_whitespace().map(str::to_owned).collect()
}

#[test]
fn with_the_recipe_of_frr_a_route_arrives_at_the_station() {
    let options = daemon_options();
    for block in tagged("frr") {
        let relay = relay_of(block.page());
        let trial = TrialPlan { system: &relay, ..TrialPlan::default() }.start_up();
        let _frr = Frr::configured(&trial.topology.router, &block.text, &options);
        routes_of_its_peer_arrive(&trial, &block.place);
    }
}

/// Returns the relay of a page's configuration, unless the lab's own relay listens there.
fn relay_of(page: &str) -> String {
    let of_relay = |line: &&str| line.starts_with("bmp-relay ") || line.starts_with(" listen ");
    let relay = configuration_of(page).lines().filter(of_relay).map(|line| format!("{line}\n")).collect::<String>();
    if relay.contains(&format!(" port {}\n", RELAY.port())) { String::new() } else { relay }
}

/// Returns what VyOS makes of a page's commands: a configuration of FRR.
fn frr_of_vyos(page: &str) -> String {
    let (mut neighbor, mut target, mut address) = (String::new(), String::new(), "");
    let blocks: Vec<_> = tagged("vyos").into_iter().filter(|block| block.page() == page).collect();
    for line in blocks.iter().flat_map(|block| block.text.lines()) {
        match line.split_whitespace().skip(1).collect::<Vec<_>>()[..] {
            // bgpd starts with the module.
            ["system", "frr", "bmp"] => {}
            ["protocols", "bgp", "bmp", "target", _, "address", of_target] => address = of_target,
            ["protocols", "bgp", "bmp", "target", _, "port", port] => {
                target += &format!("  bmp connect {address} port {port} min-retry 1000 max-retry 2000\n");
            }
            ["protocols", "bgp", "bmp", "target", _, "monitor", family, policy] => {
                target += &format!("  bmp monitor {} {policy}\n", family.replace('-', " "));
            }
            ["protocols", "bgp", "neighbor", peer, "address-family", "ipv4-unicast", ref setting @ ..] => {
                neighbor += &format!("  neighbor {peer} {}\n", setting.join(" "));
            }
            _ => panic!("{page}: the test knows no `{line}`"),
        }
    }
    let RecipeEnds { own, peer } = ipv4_ends();
    format!(
        "router bgp 65000\n bgp router-id {own}\n no bgp ebgp-requires-policy\n neighbor {peer} remote-as {}\n address-family ipv4 unicast\n  \
         neighbor {peer} activate\n{neighbor} exit-address-family\n bmp targets bmpd\n{target} exit\nexit\n",
        DAEMON.1
    )
}

#[test]
fn with_the_commands_of_vyos_a_route_arrives_at_the_station() {
    let page = "vyos.md";
    let relay = relay_of(page);
    let trial = TrialPlan { system: &relay, ..TrialPlan::default() }.start_up();
    let _frr = Frr::configured(&trial.topology.router, &frr_of_vyos(page), &daemon_options());
    routes_of_its_peer_arrive(&trial, page);
}

#[test]
fn with_the_recipe_of_gobgp_a_route_arrives_at_the_station() {
    for block in tagged("gobgp") {
        let trial = TrialPlan::default().start_up();
        let _gobgp = Gobgp::configured(&trial.topology.router, &block.text);
        routes_of_its_peer_arrive(&trial, &block.place);
    }
}

/// Asserts that routes of the daemon's neighbour arrive at the station.
fn routes_of_its_peer_arrive(trial: &LabTrial, place: &str) {
    let RecipeEnds { own, peer } = ipv4_ends();
    let routes = prefixes(5);
    let _speaker =
        LabBgpSpeaker::announce(&trial.topology.station, peer, DAEMON.1, SocketAddr::from((own, 179)), &routes);
    let what = format!("the routes of the daemon, configured as in {place}");
    trial.station.wait_connection(0, &what, |connection| connection.announced() == routes.len());
}

#[test]
fn with_the_recipe_of_bird_its_route_arrives_at_the_station() {
    for block in tagged("bird") {
        let of_bmpd = configuration_of(block.page());
        let trial = TrialPlan { system: &of_bmpd, ..TrialPlan::default() }.start_up();
        let _bird = Peering::bird_configured(&trial.topology.station, &block.text);
        trial.station.wait_connection(
            0,
            &format!("the route of BIRD, configured as in {}", block.place),
            |connection| connection.announced() == 1,
        );
    }
}

#[test]
fn with_the_recipe_of_bird_for_bmp_a_route_arrives_at_the_station_where_bird_has_bmp() {
    for block in tagged("bird-bmp") {
        if !bird_takes(&block.text) {
            return;
        }
        let trial = TrialPlan::default().start_up();
        let _bird = Peering::bird_configured(&trial.topology.router, &block.text);
        routes_of_its_peer_arrive(&trial, &block.place);
    }
}

#[test]
fn promtool_accepts_the_configuration_of_prometheus() {
    for block in tagged("prometheus") {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, &block.text).expect("a temporary file can be written");
        let rules = root().join("bmp-user/packaging/alerts.yml");
        fs::copy(rules, folder.path().join("alerts.yml")).expect("the rules can be copied");
        let output = Program::Promtool.command().args(["check", "config"]).arg(&file).output().expect("promtool runs");
        assert!(output.status.success(), "{}: {output:?}", block.place);
    }
}

#[test]
fn without_the_export_lines_the_relay_says_what_frr_may_lack() {
    let recipe = tagged("frr").swap_remove(0).text;
    let without = |words: &str| {
        let kept = recipe.lines().filter(|line| !line.contains(words));
        let without: String = kept.map(|line| format!("{line}\n")).collect();
        assert_ne!(recipe, without, "the recipe lacks the lines to remove");
        without
    };
    for lacking in ["bmp monitor", "soft-reconfiguration"] {
        says_what_frr_may_lack(&without(lacking));
    }
}

fn says_what_frr_may_lack(without: &str) {
    let trial = TrialPlan::default().start_up();
    let _frr = Frr::configured(&trial.topology.router, without, &daemon_options());
    let RecipeEnds { own, peer } = ipv4_ends();
    let _speaker =
        LabBgpSpeaker::announce(&trial.topology.station, peer, DAEMON.1, SocketAddr::from((own, 179)), &prefixes(5));
    trial.station.wait_connection(0, "Peer Up", |connection| connection.has(bmp::PEER_UP));
    let text = trial.bmpd.display("display bmp relay");
    // An End-of-RIB may have arrived, or not.
    assert!(text.contains(&format!("Peer {peer} (AS {}): up, no route ", DAEMON.1)), "{text}");
    assert!(text.contains(&format!("`neighbor {peer} soft-reconfiguration inbound`")), "{text}");
}

struct RecipeEnds {
    own: std::net::Ipv4Addr,
    peer: std::net::Ipv4Addr,
}

/// Returns the addresses of the lab, which the recipe has too.
fn ipv4_ends() -> RecipeEnds {
    match (BMPD.0, DAEMON.0) {
        (std::net::IpAddr::V4(own), std::net::IpAddr::V4(peer)) => RecipeEnds { own, peer },
        other => panic!("{other:?} are not IPv4"),
    }
}

/// A command of a dialogue, with its output there.
struct DialogueCommand<'a> {
    line: &'a str,
    printed: Vec<&'a str>,
}

fn commands(dialogue: &str) -> Vec<DialogueCommand<'_>> {
    let mut commands: Vec<DialogueCommand<'_>> = Vec::new();
    for line in dialogue.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(line), _) => commands.push(DialogueCommand { line, printed: Vec::new() }),
            (None, Some(command)) => command.printed.push(line),
            (None, None) => panic!("a dialogue must start with `$ `: {line}"),
        }
    }
    commands
}

/// Returns the names of an answer's rows, and the heading of its table.
fn shape<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let row = |line: &'a str| {
        let heading = line.trim_start().starts_with("Session  ");
        match line.split_once(" : ").or_else(|| line.split_once(": ")) {
            Some((name, _)) => Some(name.trim().to_owned()),
            None if heading => Some(line.split_whitespace().collect::<Vec<_>>().join(" ")),
            None => None,
        }
    };
    lines.filter_map(row).collect()
}

/// Types the text after each prompt, at that very prompt.
fn types(bmpd: &Bmpd, place: &str, printed: &[&str]) {
    let typed = printed.iter().map(|line| line.split_at(line.find(['>', ']']).expect("a prompt") + 1));
    let mut terminal = TestTerminal::start(bmpd.bmpctl(""));
    for (prompt, line) in typed {
        terminal.wait_prompt(prompt);
        terminal.enter(line);
    }
    terminal.wait_text("60 s");
    let text = terminal.text();
    assert!(!text.contains("Error"), "{place}: {text}");
}

#[test]
fn every_dialogue_works_as_written() {
    for block in tagged("console") {
        let next_hop = block.text.contains("$ ip ");
        let topology = Topology::new();
        let _station = TestStation::start(&topology.station, (STATION, STATION_PORT));
        let session = if next_hop {
            "connect-interface up2\nnext-hop 192.0.2.66"
        } else {
            "connect-interface GigabitEthernet0/1/0 192.0.2.129"
        };
        let system = "interface-alias up2 GigabitEthernet0/1/0\nbmp\n bmp-session 198.51.100.8 alias lab\n  tcp connect port 11020\nquit\nquit";
        let bmpd = Bmpd::start(&topology.router, &TrialPlan { system, ..TrialPlan::session(session) }.configuration());
        bmpd.wait_up(STATION);
        for DialogueCommand { line, printed } in commands(&block.text) {
            let place = &block.place;
            match line.split_once(' ') {
                None if line == "bmpctl" => types(&bmpd, place, &printed),
                Some(("bmpctl", words)) => {
                    let answer = bmpd.display(words);
                    assert_eq!(shape(printed.into_iter()), shape(answer.lines()), "{place}, of\n{answer}");
                }
                Some(("ip", words)) => has_lines(&topology.router, place, words, &printed),
                _ => panic!("{place}: the test cannot run `{line}`"),
            }
        }
    }
}

/// Asserts that `ip` prints these lines, among others.
fn has_lines(netns: &Netns, place: &str, words: &str, printed: &[&str]) {
    let normal = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in printed.iter().map(|line| normal(line)) {
        until(&format!("{place}: `ip {words}` prints `{line}`"), PATIENCE, || {
            let shown = netns.ip_show(words);
            shown.lines().any(|shown| normal(shown) == line).then_some(())
        });
    }
}

#[test]
fn every_answer_in_json_has_the_version_of_this_bmpd() {
    for block in tagged("json") {
        let answer = read_json::<serde_json::Value>(&block.text);
        assert!(answer.is_ok(), "{}: {answer:?}", block.place);
    }
}

/// Splits a command line into words. Text in quotes is one word.
fn words(line: &str) -> Vec<&str> {
    let command = line.split(" #").next().unwrap_or_default();
    let mut words = Vec::new();
    for (place, part) in command.split('"').enumerate() {
        if place % 2 == 0 {
            words.extend(part.split_whitespace());
        } else {
            words.push(part);
        }
    }
    words
}

/// Returns the configuration for the commands of a page: the page's own first one.
fn configuration_of(page: &str) -> String {
    let blocks = tagged("bmpd").into_iter().filter(|block| block.page() == page);
    // A part of a view is not a configuration.
    let whole = blocks.map(|block| block.text).find(|text| !text.starts_with(' '));
    whole.unwrap_or_else(|| TrialPlan::default().configuration())
}

#[test]
fn every_command_works() {
    let tasks = fs::read_to_string(root().join("xtask/src/main.rs")).expect("the tasks are readable");
    for block in tagged("sh") {
        let netns = Netns::new("router");
        let configuration = configuration_of(block.page());
        let setup = BmpdSetup::new(&netns, &configuration);
        let mut running = None;
        for line in block.text.lines() {
            let words = words(line);
            match words[..] {
                ["cargo", "xtask", task, ..] => {
                    let variant: String = task[..1].to_uppercase() + &task[1..];
                    assert!(
                        tasks.lines().any(|line| line.trim_start().starts_with(&variant)),
                        "{}: {line}",
                        block.place
                    );
                }
                ["bmpd", "check", "--config", _] => {
                    assert!(check(&netns, &configuration).status.success(), "{}: {line}", block.place);
                }
                ["bmpd", "--config", _] => drop(Bmpd::start(&netns, "")),
                ["bmpd", ref arguments @ ..] => {
                    let help = setup.bmpd().args(arguments).arg("--help").output().expect("bmpd starts");
                    assert!(help.status.success(), "{}: {line}: {help:?}", block.place);
                }
                ["bmpctl", ref arguments @ ..] => {
                    let bmpd = running.get_or_insert_with(|| Bmpd::start(&netns, &configuration));
                    let output = bmpd.bmpctl("").args(arguments).output().expect("bmpctl starts");
                    assert!(output.status.success(), "{}: {line}: {output:?}", block.place);
                }
                _ => {}
            }
        }
    }
}

/// Returns all Rust sources of the crates with tests.
fn sources() -> String {
    let mut all = String::new();
    let mut folders: Vec<_> = ["bmp-user/src", "tests/src", "tests/tests"].map(|folder| root().join(folder)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources are readable").flatten() {
            let path = entry.path();
            match path.extension() {
                Some(extension) if extension == "rs" => all += &fs::read_to_string(&path).expect("a source is text"),
                _ if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    all
}

#[test]
fn every_guarantee_and_every_defence_names_tests_that_exist() {
    let page = |name: &str| fs::read_to_string(root().join("docs").join(name)).expect("the page is readable");
    let text = page("guarantees.md") + &page("security.md") + &page("guide/upgrading.md");
    let sources = sources();
    // Only names of tests have so many words.
    let is_test = |name: &&str| {
        name.matches('_').count() >= 3 && name.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let is_file = |name: &&str| root().join("tests/tests").join(format!("{name}.rs")).is_file();
    for name in text.split('`').skip(1).step_by(2).filter(|name| is_test(name) && !is_file(name)) {
        assert!(sources.contains(&format!("fn {name}()")), "no test has the name {name}");
    }
    let mut shown_by = false;
    for row in text.lines() {
        shown_by = row.starts_with('|') && (shown_by || row.ends_with("| shown by |"));
        let is_promise = shown_by && !row.ends_with("| shown by |") && !row.starts_with("|---");
        assert!(!is_promise || row.split('`').any(|name| is_test(&name)), "a promise without a test: {row}");
    }
}
