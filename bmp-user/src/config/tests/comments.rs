//! Comments of a configuration file keep their places when it is written anew.

use proptest::{collection::vec, prelude::*};

use super::super::{Config, comments::Comments, parse_file, print, print::print_with};

/// Lines of a configuration, each with its indentation; every line is another text.
const LINES: [&str; 16] = [
    "sysname edge1",
    "bmp-relay lab",
    " listen 127.0.0.1 port 5000",
    " allow 192.0.2.0/24",
    "bmp",
    " statistics-timer 30",
    " bmp-session 198.51.100.7",
    "  tcp connect port 11019",
    "  hold-down 7",
    " bmp-session 198.51.100.8",
    "  tcp connect port 11020",
    "  monitor public",
    "   route-mode ipv4-family unicast adj-rib-in pre-policy",
    " bmp-session 198.51.100.9",
    "  keepalive 9",
    "mrt-replay table",
];

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// A configuration of those of the lines that are chosen and whose views are.
fn config(chosen: &[bool]) -> Config {
    let (mut text, mut missing) = (String::new(), usize::MAX);
    for (line, chosen) in LINES.iter().zip(chosen) {
        if indent(line) > missing {
            continue;
        }
        missing = if *chosen { usize::MAX } else { indent(line) };
        if *chosen {
            text.push_str(&format!("{line}\n"));
        }
    }
    parse_file("chosen", &text).unwrap()
}

/// Decides whether a printed line is a command.
fn is_command(line: &str) -> bool {
    !line.trim_start().starts_with('#') && !line.is_empty() && line != "return"
}

/// Returns the printed configuration with comments before some commands and at the ends of some
/// views.
fn commented(config: &Config, before: &[bool], inside: &[bool]) -> String {
    let printed = print(config);
    let lines: Vec<_> = printed.lines().collect();
    let mut text: Vec<String> = Vec::new();
    let mut open: Vec<(usize, &str)> = Vec::new();
    let flag = |flags: &[bool], line: &str| {
        let number = LINES.iter().position(|one| *one == line);
        number.and_then(|number| flags.get(number)).copied().unwrap_or(false)
    };
    for line in &lines {
        // The `#` before a view is as far in as the view.
        while let Some((of_view, view)) = open.pop_if(|(of_view, _)| indent(line) <= *of_view) {
            if flag(inside, view) {
                text.push(format!("{:1$}# inside{view}", "", of_view + 1));
            }
        }
        if is_command(line) {
            if flag(before, line) {
                text.push(format!("{:1$}# before{line}", "", indent(line)));
            }
            open.push((indent(line), line));
        }
        text.push((*line).to_owned());
    }
    // What is no view has no end.
    let is_view = |view: &str| ["bmp", "mrt", "monitor"].iter().any(|word| view.trim_start().starts_with(word));
    text.retain(|line| line.trim_start().strip_prefix("# inside").is_none_or(is_view));
    text.join("\n") + "\n"
}

fn flags() -> impl Strategy<Value = Vec<bool>> {
    vec(any::<bool>(), LINES.len())
}

proptest! {
    #[test]
    fn comments_keep_their_places_whatever_is_committed(
        (old, new) in (flags(), flags()), (before, inside) in (flags(), flags()),
    ) {
        let (old, new) = (config(&old), config(&new));
        let text = commented(&old, &before, &inside);
        prop_assert_eq!(&print_with(&old, &Comments::of(&text, &old)), &text, "nothing is committed");
        let written = print_with(&new, &Comments::of(&text, &new));
        // Of the lines and views that stay, and of no others.
        let printed = print(&old);
        let was = |line: &str| printed.lines().any(|one| one == line);
        let stays = |flags: &[bool]| -> Vec<bool> {
            LINES.iter().zip(flags).map(|(line, flag)| *flag && was(line)).collect()
        };
        prop_assert_eq!(&written, &commented(&new, &stays(&before), &stays(&inside)));
        prop_assert_eq!(&print_with(&new, &Comments::of(&written, &new)), &written, "and again");
    }
}

#[test]
fn comments_before_quit_and_before_return_stay_there() {
    let text = "bmp\nbmp-session 198.51.100.7\n# The last word about it.\nquit\n# About all of them.\nquit\nsysname edge1\n\
                # Nothing more.\nreturn\n# Behind it.\n";
    let mut config = parse_file("f", text).unwrap();
    let expected = "#\nsysname edge1\n#\nbmp\n #\n bmp-session 198.51.100.7\n  # The last word about it.\n # About all of them.\n\
                    # Nothing more.\n#\nreturn\n# Behind it.\n";
    assert_eq!(print_with(&config, &Comments::of(text, &config)), expected);
    config.bmp.sessions.clear();
    let rest = expected.replace(" #\n bmp-session 198.51.100.7\n  # The last word about it.\n", "");
    assert_eq!(print_with(&config, &Comments::of(expected, &config)), rest);
}

#[test]
fn the_comment_of_a_line_that_changes_nothing_stays_in_its_block() {
    let text = "bmp\n bmp-session 198.51.100.7\n  # As by default.\n  hold-down 0\n bmp-session 198.51.100.8\n";
    let config = parse_file("f", text).unwrap();
    let expected =
        "#\nbmp\n #\n bmp-session 198.51.100.7\n  # As by default.\n #\n bmp-session 198.51.100.8\n#\nreturn\n";
    assert_eq!(print_with(&config, &Comments::of(text, &config)), expected);
}
