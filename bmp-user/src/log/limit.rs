//! Limits repeated lines: how many lines of one kind about one subject the log takes in a window of
//! time.
//!
//! A kind is a place in the program that logs. A subject is what the line is about: a session, a
//! relay, the address of a client. The first lines pass; the rest of the window's lines are counted
//! and summed up in one line. Memory is bounded, however many subjects an outsider invents.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The length of a window, which begins with the first line of a kind.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Lines of one kind about one subject that pass in a window.
pub(super) const FOR_EACH_SUBJECT: u32 = 10;
/// Lines of one kind that pass in a window, in addition to the first about each subject.
pub(super) const FOR_ALL_SUBJECTS: u32 = 200;
/// Subjects of one kind that have counters of their own. All further subjects share one counter.
const CONFIGURED_SUBJECTS: usize = 4096;
/// The same for subjects whose names outsiders choose.
const OUTSIDE_SUBJECTS: usize = 64;
/// Subjects of one kind that have a summary of their own.
const SUMMARIES: usize = 16;

/// What a line is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LineSubject {
    /// Empty for a line without a subject.
    pub(super) name: String,
    /// True if an outsider chose the name.
    pub(super) outsider: bool,
}

/// Whether a line passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineVerdict {
    Pass,
    /// Left out, as the first about its subject. Its text stands in the summary.
    FirstLeftOut,
    LeftOut,
}

/// A summary of the lines that one window left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOutLines<K> {
    pub(super) kind: K,
    /// The text of one such line.
    pub(super) like: Option<String>,
    pub(super) left_out: u64,
    /// How many subjects the lines are about, at least.
    pub(super) subjects: usize,
}

/// Counts lines by kind and subject.
#[derive(Debug)]
pub(super) struct Limiter<K>(HashMap<K, KindWindow>);

#[derive(Debug)]
struct KindWindow {
    began: Instant,
    /// Lines that may still pass, in addition to the first about each subject.
    left: u32,
    subjects: HashMap<String, SubjectCount>,
    outsiders: usize,
    /// The counter that all further subjects share.
    others: SubjectCount,
}

#[derive(Debug, Default)]
struct SubjectCount {
    passed: u32,
    left_out: u64,
    like: Option<String>,
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone + Eq + std::hash::Hash> Limiter<K> {
    /// Counts one line.
    pub(super) fn admit(&mut self, kind: &K, subject: &LineSubject, now: Instant) -> LineVerdict {
        let kind = self.0.entry(kind.clone()).or_insert_with(|| KindWindow::new(now));
        let counted = match kind.subjects.get_mut(&subject.name) {
            Some(counted) => counted,
            None => {
                let room = if subject.outsider {
                    kind.outsiders < OUTSIDE_SUBJECTS
                } else {
                    kind.subjects.len() < CONFIGURED_SUBJECTS
                };
                if room {
                    kind.outsiders += usize::from(subject.outsider);
                    kind.subjects.entry(subject.name.clone()).or_default()
                } else {
                    &mut kind.others
                }
            }
        };
        let most = if subject.name.is_empty() { FOR_ALL_SUBJECTS } else { FOR_EACH_SUBJECT };
        if counted.passed == 0 || (counted.passed < most && kind.left > 0) {
            kind.left = kind.left.saturating_sub(u32::from(counted.passed > 0));
            counted.passed += 1;
            return LineVerdict::Pass;
        }
        counted.left_out += 1;
        if counted.left_out == 1 { LineVerdict::FirstLeftOut } else { LineVerdict::LeftOut }
    }

    /// Stores the text of the first line that was left out about a subject.
    pub(super) fn remember(&mut self, kind: &K, subject: &LineSubject, text: String) {
        let Some(kind) = self.0.get_mut(kind) else { return };
        let counted = kind.subjects.get_mut(&subject.name).unwrap_or(&mut kind.others);
        counted.like = Some(text);
    }

    /// Returns the summaries of the windows that are over at `now`, or of all windows.
    pub(super) fn summaries(&mut self, now: Option<Instant>) -> Vec<LeftOutLines<K>> {
        let over = |kind: &KindWindow| now.is_none_or(|now| now.duration_since(kind.began) >= WINDOW);
        let mut summaries = Vec::new();
        for (name, kind) in self.0.extract_if(|_, kind| over(kind)) {
            let mut left_out: Vec<_> = kind.subjects.into_iter().filter(|(_, counted)| counted.left_out > 0).collect();
            left_out.sort_by(|(a, one), (b, other)| other.left_out.cmp(&one.left_out).then(a.cmp(b)));
            let mut rest = left_out.split_off(left_out.len().min(SUMMARIES));
            summaries.extend(left_out.into_iter().map(|(_, counted)| LeftOutLines {
                kind: name.clone(),
                like: counted.like,
                left_out: counted.left_out,
                subjects: 1,
            }));
            let others = rest.iter().map(|(_, counted)| counted.left_out).sum::<u64>() + kind.others.left_out;
            if others > 0 {
                // The number of subjects behind the shared counter is unknown, but at least one.
                let subjects = rest.len() + usize::from(kind.others.left_out > 0);
                let like = rest.first_mut().and_then(|(_, counted)| counted.like.take()).or(kind.others.like);
                summaries.push(LeftOutLines { kind: name, like, left_out: others, subjects });
            }
        }
        summaries
    }

    /// How many subjects have a counter of their own.
    #[cfg(test)]
    fn subjects(&self) -> usize {
        self.0.values().map(|kind| kind.subjects.len()).sum()
    }
}

impl KindWindow {
    fn new(began: Instant) -> Self {
        Self { began, left: FOR_ALL_SUBJECTS, subjects: HashMap::new(), outsiders: 0, others: SubjectCount::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subject(name: &str) -> LineSubject {
        LineSubject { name: name.to_owned(), outsider: false }
    }

    fn outsider(name: &str) -> LineSubject {
        LineSubject { name: name.to_owned(), outsider: true }
    }

    #[test]
    fn the_first_lines_about_a_subject_pass_and_the_rest_are_counted() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let mut passed = 0;
        for _ in 0..15_000 {
            match limiter.admit(&"refused", &outsider("192.0.2.1"), now) {
                LineVerdict::Pass => passed += 1,
                LineVerdict::FirstLeftOut => limiter.remember(&"refused", &outsider("192.0.2.1"), "closed".to_owned()),
                LineVerdict::LeftOut => {}
            }
        }
        assert_eq!(passed, FOR_EACH_SUBJECT);
        assert_eq!(limiter.admit(&"refused", &outsider("192.0.2.2"), now), LineVerdict::Pass, "another subject");
        assert_eq!(limiter.admit(&"accepted", &outsider("192.0.2.1"), now), LineVerdict::Pass, "another kind");
        assert_eq!(limiter.summaries(Some(now + WINDOW / 2)), []);
        let left_out = 15_000 - u64::from(FOR_EACH_SUBJECT);
        let summary = LeftOutLines { kind: "refused", like: Some("closed".to_owned()), left_out, subjects: 1 };
        assert_eq!(limiter.summaries(Some(now + WINDOW)), [summary]);
        assert_eq!(limiter.admit(&"refused", &outsider("192.0.2.1"), now + WINDOW), LineVerdict::Pass, "a new window");
    }

    #[test]
    fn each_of_many_sessions_gets_a_line_before_their_kind_is_limited() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let lines = (0..500).flat_map(|_| 0..300).map(|number| subject(&format!("10.0.{number}.1")));
        let passed: Vec<_> =
            lines.filter(|subject| limiter.admit(&"down", subject, now) == LineVerdict::Pass).map(|s| s.name).collect();
        assert!(passed.len() <= 300 + FOR_ALL_SUBJECTS as usize, "{}", passed.len());
        let logged: std::collections::BTreeSet<_> = passed.iter().collect();
        assert_eq!(logged.len(), 300);
        let summaries = limiter.summaries(None);
        assert_eq!(summaries.len(), SUMMARIES + 1);
        let left_out: u64 = summaries.iter().map(|summary| summary.left_out).sum();
        assert_eq!(left_out as usize + passed.len(), 500 * 300, "every line is written or counted");
    }

    #[test]
    fn an_outsider_with_many_addresses_gets_few_lines_and_bounded_memory() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let mut passed = 0;
        for number in 0..100_000 {
            let verdict = limiter.admit(&"refused", &outsider(&number.to_string()), now);
            passed += usize::from(verdict == LineVerdict::Pass);
        }
        assert!(passed <= OUTSIDE_SUBJECTS + FOR_EACH_SUBJECT as usize, "{passed}");
        assert_eq!(limiter.subjects(), OUTSIDE_SUBJECTS);
        assert_eq!(
            limiter.admit(&"refused", &subject("10.0.0.1"), now),
            LineVerdict::Pass,
            "a configured subject has room"
        );
    }

    proptest! {
        #[test]
        fn every_line_passes_or_is_in_a_summary(lines in prop::collection::vec((0..3_u8, 0..100_u8, any::<bool>(), 0..30_u64), 0..2000)) {
            let (mut limiter, mut now) = (Limiter::default(), Instant::now());
            let (mut passed, mut summed_up) = (0, 0);
            let total = lines.len() as u64;
            for (kind, name, outsider, seconds) in lines {
                now += Duration::from_millis(seconds * 100);
                summed_up += limiter.summaries(Some(now)).iter().map(|summary| summary.left_out).sum::<u64>();
                let subject = LineSubject { name: name.to_string(), outsider };
                passed += u64::from(limiter.admit(&kind, &subject, now) == LineVerdict::Pass);
            }
            summed_up += limiter.summaries(None).iter().map(|summary| summary.left_out).sum::<u64>();
            prop_assert_eq!(passed + summed_up, total);
        }
    }
}
