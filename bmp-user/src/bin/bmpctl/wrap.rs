//! Line breaks in text that is wider than the terminal.

use bmp_user::control::VALUE_COLUMN;
use textwrap::{Options, WordSplitter, fill};

/// Breaks lines that are wider than `columns` between words: sentences, help, and the values of
/// detailed displays. The rest of a line begins below its text. Lines of a configuration, of a
/// table and above carets stay whole.
pub(crate) fn wrap(text: &str, columns: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let above_carets = |at: usize| {
        lines.get(at + 1).is_some_and(|below| below.contains('^') && below.trim_matches([' ', '\t', '^']).is_empty())
    };
    let wrapped = lines.iter().enumerate().map(|(at, line)| match indent(line) {
        Some(indent) if !above_carets(at) => broken(line, indent, columns),
        _ => (*line).to_owned(),
    });
    wrapped.collect::<Vec<_>>().join("\n")
}

/// Returns the words in rows that are no wider than `columns`.
pub(crate) fn in_rows(words: &[String], columns: usize) -> String {
    const BETWEEN: usize = 2;
    let mut rows = String::new();
    let mut used = 0;
    for word in words {
        let width = textwrap::core::display_width(word);
        if used > 0 && used + BETWEEN + width <= columns {
            rows.push_str(&" ".repeat(BETWEEN));
            used += BETWEEN;
        } else if used > 0 {
            rows.push('\n');
            used = 0;
        }
        rows.push_str(word);
        used += width;
    }
    rows
}

/// Returns the column in which the rest of a broken line begins, or `None` where the line stays
/// whole.
fn indent(line: &str) -> Option<usize> {
    if ["Error: ", "Warning: ", "Info: "].iter().any(|word| line.starts_with(word)) {
        return Some(2);
    }
    let is_value = line.starts_with("  ") && line.get(VALUE_COLUMN - 2..VALUE_COLUMN) == Some(": ");
    if is_value {
        return Some(VALUE_COLUMN);
    }
    // Help: a word, two blanks or more, and its explanation.
    let word = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
    let (name, help) = word.split_once("  ")?;
    let blanks = help.len() - help.trim_start().len();
    let is_sentence = help.trim_start().contains(' ') && !help.trim_start().contains("  ");
    is_sentence.then_some(4 + name.len() + blanks)
}

fn broken(line: &str, indent: usize, columns: usize) -> String {
    if textwrap::core::display_width(line) <= columns || indent + 20 > columns {
        return line.to_owned();
    }
    let below = " ".repeat(indent);
    // Do not break between a name and its value.
    let (head, rest) = match indent {
        0..=2 => ("", line),
        _ => line.split_at_checked(indent).unwrap_or(("", line)),
    };
    let first = if head.is_empty() { "" } else { head };
    let options = Options::new(columns)
        .initial_indent(first)
        .subsequent_indent(&below)
        .break_words(false)
        .word_splitter(WordSplitter::NoHyphenation);
    fill(rest, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_words_are_no_wider_than_the_terminal() {
        let words = ["bgp", "bmp", "current-configuration", "mrt-replay"].map(str::to_owned);
        assert_eq!(in_rows(&words, 80), "bgp  bmp  current-configuration  mrt-replay");
        assert_eq!(in_rows(&words, 31), "bgp  bmp  current-configuration\nmrt-replay");
        assert_eq!(in_rows(&words, 12), "bgp  bmp\ncurrent-configuration\nmrt-replay");
        assert_eq!(in_rows(&[], 12), "");
    }

    #[test]
    fn sentences_are_broken_between_words_and_nothing_else_is() {
        assert_eq!(
            wrap("Warning: every packet of it is dropped there where it is.", 40),
            "Warning: every packet of it is dropped\n  there where it is."
        );
        let value = "  Reason              : no-route: the kernel has no route to it";
        assert_eq!(
            wrap(value, 50),
            "  Reason              : no-route: the kernel has\n                        no route to it"
        );
        assert_eq!(
            wrap("  hold-down  how long the session outlives the loss", 40),
            "  hold-down  how long the session\n             outlives the loss"
        );
        for whole in [
            "  egress-interface eth0 eth1 eth2 eth3 eth4 eth5 eth6",
            "  198.51.100.7  -      Up     00h00m05s  _public_  -",
            "Error: short",
        ] {
            assert_eq!(wrap(whole, 40), whole);
        }
        let marked = "Error: a line that is wider than the terminal is\n       ^";
        assert_eq!(wrap(marked, 40), marked);
    }
}
