//! Counts the results of tests from the output of their programs.

use std::{fmt::Write as _, time::Duration};

use crate::watch::RunEnd;

/// The results of all test programs so far.
#[derive(Debug, Default)]
pub(crate) struct TestSummary {
    programs: Vec<ProgramResult>,
    /// The names of tests that failed.
    failed: Vec<String>,
    /// The names of skipped tests, with the reasons.
    skipped: Vec<(String, String)>,
    /// The number of lines that were counted in the record of skipped tests.
    skips_seen: usize,
    /// The prefix of programs whose tests run later, elsewhere, and count there.
    elsewhere: Option<&'static str>,
    /// Whether the present lines belong to a program with that prefix.
    leaving_out: bool,
}

/// The result of a test program: a crate's unit tests, or a file of integration tests.
#[derive(Debug, Default)]
struct ProgramResult {
    name: String,
    passed: usize,
    failed: usize,
    skipped: usize,
    seconds: f64,
    finished: bool,
}

impl TestSummary {
    /// Leaves out programs whose names begin with `elsewhere`, until [`Self::take_all`].
    pub(crate) fn without(elsewhere: &'static str) -> Self {
        Self { elsewhere: Some(elsewhere), ..Self::default() }
    }

    /// Counts every program from now on.
    pub(crate) fn take_all(&mut self) {
        (self.elsewhere, self.leaving_out) = (None, false);
    }

    /// Takes a line of a program that runs elsewhere, for [`Self::take`].
    pub(crate) fn take_elsewhere(&mut self, line: &str, skips: impl FnOnce() -> String) {
        let left_out = (self.elsewhere.take(), std::mem::take(&mut self.leaving_out));
        self.take(line, skips);
        (self.elsewhere, self.leaving_out) = left_out;
    }

    /// Takes a line of the output of cargo and the test programs.
    ///
    /// At the end of a program it calls `skips`, which returns the tests that skipped themselves in
    /// any program so far, a line each.
    pub(crate) fn take(&mut self, line: &str, skips: impl FnOnce() -> String) {
        let trimmed = line.trim_start();
        if let Some(program) = program_name(trimmed) {
            self.leaving_out = self.elsewhere.is_some_and(|prefix| program.starts_with(prefix));
            match self.programs.last_mut() {
                _ if self.leaving_out => {}
                // A program may run once for each of its tests.
                Some(last) if last.finished && last.name == program => last.finished = false,
                _ => self.programs.push(ProgramResult { name: program, ..ProgramResult::default() }),
            }
        } else if self.leaving_out {
            // The program counts elsewhere.
        } else if let Some((name, rest)) = trimmed.strip_prefix("test ").and_then(|test| test.split_once(" ... ")) {
            self.take_test(name, rest);
        } else if let Some(result) = trimmed.strip_prefix("test result: ") {
            self.take_result(result, &skips());
        }
    }

    fn take_test(&mut self, name: &str, outcome: &str) {
        if outcome.starts_with("FAILED") {
            self.failed.push(name.to_owned());
        } else if let Some(ignored) = outcome.strip_prefix("ignored") {
            let reason = ignored.trim_start_matches([',', ' ']);
            let reason = if reason.is_empty() { "ignored, without a reason" } else { reason };
            self.skipped.push((name.to_owned(), reason.to_owned()));
        }
    }

    fn take_result(&mut self, result: &str, skips: &str) {
        let Some(program) = self.programs.last_mut() else { return };
        let count = |word: &str| {
            let part = result.split([';', '.']).find(|part| part.trim_end().ends_with(word))?;
            part.split_whitespace().next()?.parse::<usize>().ok()
        };
        let new: Vec<_> = skips.lines().skip(self.skips_seen).collect();
        self.skips_seen += new.len();
        program.passed += count("passed").unwrap_or(0).saturating_sub(new.len());
        program.failed += count("failed").unwrap_or(0);
        program.skipped += count("ignored").unwrap_or(0) + new.len();
        program.seconds += result
            .rsplit_once("finished in ")
            .and_then(|(_, time)| time.trim_end_matches('s').parse().ok())
            .unwrap_or(0.0);
        program.finished = true;
        self.skipped.extend(new.iter().map(|line| {
            let (name, reason) = line.split_once(": ").unwrap_or((line, "without a reason"));
            (name.to_owned(), reason.to_owned())
        }));
    }

    /// Counts other runs, each as a test: fuzz targets, bare Debians. Returns the worst of their
    /// ends.
    pub(crate) fn runs(&mut self, kind: &str, targets: &[(String, RunEnd, Duration)]) -> RunEnd {
        let failed = || targets.iter().filter(|(_, end, _)| *end == RunEnd::Failure);
        self.failed.extend(failed().map(|(name, ..)| format!("{kind}: {name}")));
        self.programs.push(ProgramResult {
            name: kind.to_owned(),
            passed: targets.iter().filter(|(_, end, _)| *end == RunEnd::Success).count(),
            failed: failed().count(),
            seconds: targets.iter().map(|(.., took)| took.as_secs_f64()).sum(),
            finished: true,
            ..ProgramResult::default()
        });
        let worst =
            [RunEnd::Stopped, RunEnd::Failure].into_iter().find(|end| targets.iter().any(|(_, found, _)| found == end));
        worst.unwrap_or(RunEnd::Success)
    }

    /// Returns whether tests ran, and all of them passed.
    pub(crate) fn is_good(&self) -> bool {
        let total = self.total();
        total.passed > 0 && total.failed == 0
    }

    fn total(&self) -> ProgramResult {
        self.programs.iter().fold(ProgramResult::default(), |sum, program| ProgramResult {
            passed: sum.passed + program.passed,
            // A program without a result crashed or was killed.
            failed: sum.failed + program.failed + usize::from(!program.finished),
            skipped: sum.skipped + program.skipped,
            ..sum
        })
    }

    /// Returns the summary in words. Its last line is `N passed, N failed, N skipped`.
    pub(crate) fn report(&self, took: Duration) -> String {
        let mut text = String::from("\n");
        let width = self.programs.iter().map(|program| program.name.len()).max().unwrap_or(0);
        for ProgramResult { name, passed, failed, skipped, seconds, finished } in &self.programs {
            let _ = match finished {
                true if passed + failed + skipped == 0 => Ok(()),
                true => writeln!(
                    text,
                    "{name:width$}  {passed:4} passed  {failed:3} failed  {skipped:3} skipped  {seconds:7.1} s"
                ),
                false => writeln!(text, "{name:width$}  did not finish"),
            };
        }
        for (name, reason) in &self.skipped {
            let _ = writeln!(text, "skipped: {name}: {reason}");
        }
        for name in &self.failed {
            let _ = writeln!(text, "failed: {name}");
        }
        let ProgramResult { passed, failed, skipped, .. } = self.total();
        if passed + failed == 0 {
            text.push_str("no test ran\n");
        }
        let seconds = took.as_secs();
        let _ = writeln!(text, "in {} min {} s", seconds / 60, seconds % 60);
        let _ = write!(text, "{passed} passed, {failed} failed, {skipped} skipped");
        text
    }
}

/// Returns the test program that a line of cargo announces: `Running tests/pinned.rs
/// (…/pinned-0f…)`, `Running unittests src/lib.rs (…)`, `Doc-tests bmp_user`.
fn program_name(line: &str) -> Option<String> {
    if let Some(library) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{library} (documentation)"));
    }
    let (source, path) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let (name, _hash) = path.rsplit('/').next()?.rsplit_once('-')?;
    Some(match source.strip_prefix("unittests ") {
        Some(file) => format!("{name} ({file})"),
        None => format!("{name} ({source})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary_of(text: &str, skips: &str) -> TestSummary {
        let mut summary = TestSummary::default();
        text.lines().for_each(|line| summary.take(line, || skips.to_owned()));
        summary
    }

    const RUN: &str = "\
    Finished `test` profile [optimized + debuginfo] target(s) in 2.01s
     Running unittests src/lib.rs (target/debug/deps/bmp_user-0f3a)

running 3 tests
test wire::bmp::tests::a ... ok
test wire::bmp::tests::b ... FAILED
test wire::bmp::tests::c ... ignored, needs a week
test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.25s

     Running tests/pinned.rs (/t/debug/deps/pinned-77)
test moves ... ok
test stays ... ok
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 61.50s
";

    #[test]
    fn a_fuzz_target_counts_as_a_test_unless_it_was_stopped() {
        let mut summary = summary_of(RUN.replace("FAILED", "ok").replace("1 failed", "0 failed").as_str(), "");
        let took = Duration::from_secs(2);
        let of = |name: &str, end| (name.to_owned(), end, took);
        assert_eq!(summary.runs("fuzz", &[of("bmp", RunEnd::Success), of("bgp", RunEnd::Success)]), RunEnd::Success);
        assert!(summary.is_good());
        let targets = [of("bmp", RunEnd::Success), of("bgp", RunEnd::Failure), of("feed", RunEnd::Stopped)];
        assert_eq!(summary.runs("fuzz", &targets), RunEnd::Stopped);
        let report = summary.report(took);
        assert!(report.contains("failed: fuzz: bgp"), "{report}");
        assert!(!summary.is_good());
    }

    #[test]
    fn results_are_counted_for_each_program_and_in_total() {
        let summary = summary_of(RUN, "");
        let report = summary.report(Duration::from_secs(63));
        assert!(!summary.is_good());
        assert!(report.contains("bmp_user (src/lib.rs)"), "{report}");
        assert!(
            report.contains("pinned (tests/pinned.rs)     2 passed    0 failed    0 skipped     61.5 s"),
            "{report}"
        );
        assert!(report.contains("failed: wire::bmp::tests::b"), "{report}");
        assert!(report.contains("skipped: wire::bmp::tests::c: needs a week"), "{report}");
        assert!(report.ends_with("in 1 min 3 s\n3 passed, 1 failed, 1 skipped"), "{report}");
    }

    #[test]
    fn a_test_that_skips_itself_is_not_counted_as_passed() {
        let summary = summary_of(
            "Running tests/pinned.rs (deps/pinned-77)\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "stays: this kernel has no VRF\n",
        );
        let report = summary.report(Duration::ZERO);
        assert!(report.contains("skipped: stays: this kernel has no VRF"), "{report}");
        assert!(report.ends_with("1 passed, 0 failed, 1 skipped"), "{report}");
        assert!(summary.is_good());
    }

    #[test]
    fn a_program_that_runs_once_for_each_test_is_counted_as_one() {
        let run = |result: &str| format!("Running tests/systemd_a.rs (deps/systemd_a-77)\ntest result: {result}\n");
        let twice =
            [run("ok. 1 passed; 0 failed; finished in 1.00s"), run("FAILED. 0 passed; 1 failed; finished in 2s")];
        let report = summary_of(&twice.concat(), "").report(Duration::ZERO);
        assert!(report.contains("systemd_a (tests/systemd_a.rs)     1 passed    1 failed"), "{report}");
        assert!(report.ends_with("1 passed, 1 failed, 0 skipped"), "{report}");
        let killed = format!("{}Running tests/systemd_a.rs (deps/systemd_a-77)\n", run("ok. 1 passed; 0 failed"));
        assert!(!summary_of(&killed, "").is_good());
    }

    #[test]
    fn a_program_without_a_result_has_failed() {
        let summary = summary_of("Running tests/pinned.rs (deps/pinned-77)\ntest moves ... ok", "");
        assert!(!summary.is_good());
        assert!(summary.report(Duration::ZERO).contains("pinned (tests/pinned.rs)  did not finish"));
    }

    #[test]
    fn programs_that_run_elsewhere_are_counted_there() {
        let mut summary = TestSummary::without("vm_");
        let run = |name: &str, test: &str, result: &str| {
            format!("Running tests/{name}.rs (deps/{name}-77)\ntest {test}\ntest result: {result}; 0 measured")
        };
        let here = run("vm_bond", "b ... ignored, cargo xtask vm", "ok. 0 passed; 0 failed; 1 ignored");
        let other = run("session", "s ... ok", "ok. 1 passed; 0 failed; 0 ignored");
        for line in here.lines().chain(other.lines()) {
            summary.take(line, String::new);
        }
        assert!(summary.report(Duration::ZERO).ends_with("\n1 passed, 0 failed, 0 skipped"));
        summary.take_all();
        run("vm_bond", "b ... ok", "ok. 1 passed; 0 failed; 0 ignored")
            .lines()
            .for_each(|l| summary.take(l, String::new));
        assert!(summary.report(Duration::ZERO).ends_with("\n2 passed, 0 failed, 0 skipped"));
    }

    #[test]
    fn a_run_without_tests_is_no_success() {
        assert!(!summary_of("", "").is_good());
        assert!(summary_of("", "").report(Duration::ZERO).contains("no test ran"));
    }
}
