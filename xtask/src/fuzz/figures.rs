//! The figures in the output of libFuzzer.

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use crate::watch::RunEnd;

/// The number of last lines that are shown if a target found something.
const SHOWN: usize = 60;

/// The result of a fuzz target.
#[derive(Debug)]
pub(super) struct FuzzFigures {
    pub(super) name: &'static str,
    pub(super) end: RunEnd,
    pub(super) took: Duration,
    executions: u64,
    /// Edges of the program that were reached.
    edges: u64,
    /// Inputs in the corpus.
    corpus: u64,
    /// The most memory, in MB.
    memory: u64,
    /// The file with the input that broke it.
    pub(super) input: Option<String>,
    last: VecDeque<String>,
}

impl FuzzFigures {
    /// Of a target that has not begun.
    pub(super) fn new(name: &'static str) -> Self {
        let (end, took, last) = (RunEnd::Stopped, Duration::ZERO, VecDeque::new());
        Self { name, end, took, executions: 0, edges: 0, corpus: 0, memory: 0, input: None, last }
    }

    /// Takes a line of the output.
    pub(super) fn take(&mut self, line: &str) {
        if let Some(statistic) = line.strip_prefix("stat::")
            && let Some((name, value)) = statistic.split_once(':')
        {
            let value = value.trim().parse().unwrap_or(0);
            match name {
                "number_of_executed_units" => self.executions = value,
                "peak_rss_mb" => self.memory = value,
                _ => {}
            }
        } else if line.starts_with('#') {
            // `#8192 pulse cov: 616 ft: 2358 corp: 497/68Kb lim: 4096 exec/s: 104581 rss: 28Mb`
            let after = |name: &str| line.split_once(name)?.1.split([' ', '/']).find(|word| !word.is_empty());
            let number = |name| after(name).and_then(|word| word.parse().ok());
            self.edges = number(" cov: ").unwrap_or(self.edges);
            self.corpus = number(" corp: ").unwrap_or(self.corpus);
            let so_far = line.get(1..).and_then(|rest| rest.split([':', ' ', '\t']).next()?.parse().ok());
            self.executions = so_far.unwrap_or(self.executions);
        } else {
            if let Some((_, file)) = line.split_once("Test unit written to ") {
                self.input = Some(file.trim().to_owned());
            }
            self.last.push_back(line.to_owned());
            if self.last.len() > SHOWN {
                self.last.pop_front();
            }
        }
    }

    /// Returns the last lines of the output.
    pub(super) fn said(&self) -> String {
        self.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Returns a table of the results.
pub(super) fn table(all: &[FuzzFigures]) -> String {
    let mut out = String::from("\ntarget    executions    a second    edges    corpus    memory    result\n");
    for FuzzFigures { name, end, took, executions, edges, corpus, memory, .. } in all {
        let rate = (*executions as f64 / took.as_secs_f64().max(0.001)).round() as u64;
        let result = match end {
            RunEnd::Success => "nothing found",
            RunEnd::Failure => "FAILED",
            RunEnd::Stopped => "stopped",
        };
        let (executions, rate) = (grouped(*executions), grouped(rate));
        let _ = writeln!(
            out,
            "{name:8}{executions:>12}{rate:>12}{edges:>9}{corpus:>10}{:>10}    {result}",
            format!("{memory} MB")
        );
    }
    out
}

/// Returns a number with commas: `10,000,000`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_output_of_libfuzzer() {
        let mut figures = FuzzFigures::new("bmp");
        figures.take("INFO: Seed: 1");
        figures.take("#864494\tDONE   cov: 359 ft: 1688 corp: 202/112Kb lim: 4096 exec/s: 66499 rss: 28Mb");
        figures.take("stat::number_of_executed_units: 864494");
        figures.take("stat::peak_rss_mb:              28");
        (figures.took, figures.end) = (Duration::from_secs(8), RunEnd::Success);
        let told = table(&[figures]);
        assert_eq!(
            told.lines().last().unwrap(),
            "bmp          864,494     108,062      359       202     28 MB    nothing found"
        );
    }

    #[test]
    fn the_input_that_broke_a_target_is_found() {
        let mut figures = FuzzFigures::new("bmp");
        figures.take("#12: cov: 5 ft: 9 corp: 2 exec/s 100 oom/timeout/crash: 0/0/0 time: 1s job: 1 dft_time: 0");
        assert_eq!((figures.executions, figures.corpus), (12, 2));
        figures.take("thread panicked");
        figures.take("artifact_prefix='x/'; Test unit written to /t/broken/bmp-crash-0a1b");
        assert_eq!(figures.input.as_deref(), Some("/t/broken/bmp-crash-0a1b"));
        assert!(figures.said().starts_with("thread panicked\n"));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([1, 999, 1000, 10_000_000].map(grouped), ["1", "999", "1,000", "10,000,000"]);
    }
}
