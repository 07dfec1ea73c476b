//! Filters of routes and lists of prefixes.

use super::super::*;

fn refusal(lines: &str) -> String {
    parse_file("f", lines).expect_err("a line is refused")[0].to_string()
}

#[test]
fn the_lengths_of_an_entry_are_those_of_carrier_routers() {
    let lengths = |line: &str| {
        let config = parse_file("f", &format!("ip-prefix p index 1 permit {line}\n")).unwrap();
        config.prefix_lists.values().next().unwrap().lengths()
    };
    for (line, expected) in [
        ("10.0.0.0/8", (8, 8)),
        ("10.0.0.0/8 ge 9", (9, 32)),
        ("10.0.0.0/8 le 24", (8, 24)),
        ("10.0.0.0/8 ge 16 le 24", (16, 24)),
        ("2001:db8::/32 ge 48", (48, 128)),
        ("192.0.2.1", (32, 32)),
    ] {
        assert_eq!(lengths(line), expected, "{line}");
    }
}

#[test]
fn a_length_that_no_prefix_of_the_entry_has_is_refused() {
    for (line, expected) in [
        ("10.0.0.0/8 ge 7", "from 8 to 32"),
        ("10.0.0.0/8 le 33", "from 8 to 32"),
        ("10.0.0.0/8 ge 20 le 19", "from 20 to 32"),
        ("2001:db8::/32 le 31", "from 32 to 128"),
    ] {
        let why = refusal(&format!("ip-prefix p index 1 permit {line}\n"));
        assert!(why.contains(expected), "{line}: {why}");
    }
}

#[test]
fn a_rule_says_what_is_wrong_with_its_conditions() {
    for (rule, expected) in [
        ("rule 1 permit community 65536:1", "is no community"),
        ("rule 1 permit community no-export", "is no community"),
        ("rule 1 permit rd 65000", "is no route distinguisher"),
        ("rule 1 permit as-path origin 0", "an AS number is"),
        ("rule 0 permit", "a rule is a number"),
    ] {
        let why = refusal(&format!("route-filter f\n {rule}\n"));
        assert!(why.contains(expected), "{rule}: {why}");
    }
}

#[test]
fn a_filter_has_at_most_64_rules() {
    let rules = |count: usize| (1..=count).map(|number| format!(" rule {number} permit\n")).collect::<String>();
    let most = format!("route-filter f\n{}", rules(MOST_ROUTE_RULES));
    assert!(parse_file("f", &most).is_ok());
    assert!(refusal(&format!("route-filter f\n{}", rules(MOST_ROUTE_RULES + 1))).contains("at most 64 rules"));
}

#[test]
fn one_list_has_the_entries_of_its_name_in_the_order_of_their_index() {
    let lines = "ip-prefix b index 20 permit 10.0.0.0/8\nip-prefix a index 1 deny 10.0.0.0/8\nip-prefix b index 3 deny 10.1.0.0/16\n";
    let printed = print(&parse_file("f", lines).unwrap());
    let places = ["a index 1 ", "b index 3 ", "b index 20 "].map(|entry| printed.find(entry).unwrap());
    assert!(places.is_sorted(), "{printed}");
}
