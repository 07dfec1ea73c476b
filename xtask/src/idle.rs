//! Whether the processors of this host have time to spare.

use std::{
    fs,
    time::{Duration, Instant},
};

/// How long the processors are watched before they count as idle.
const SPAN: Duration = Duration::from_secs(2);
/// The idle share of that time, in percent of all processors, that leaves room for one more
/// program.
const ENOUGH: u64 = 25;

/// Watches the processors.
pub(crate) struct IdleProcessors {
    since: Instant,
    before: ProcessorTime,
}

/// Time of all processors together, in ticks (proc_stat(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ProcessorTime {
    idle: u64,
    all: u64,
}

impl IdleProcessors {
    pub(crate) fn watch() -> Self {
        Self { since: Instant::now(), before: ProcessorTime::now() }
    }

    /// How long it takes until [`Self::have_room`] knows more.
    pub(crate) fn wait(&self) -> Duration {
        SPAN.saturating_sub(self.since.elapsed())
    }

    /// True if the processors were idle enough in the last seconds. Begins to watch anew at the end
    /// of these.
    pub(crate) fn have_room(&mut self) -> bool {
        if !self.wait().is_zero() {
            return false;
        }
        let before = std::mem::replace(self, Self::watch()).before;
        self.before.has_room(before)
    }
}

impl ProcessorTime {
    /// Nothing counts as idle where the kernel does not tell.
    fn now() -> Self {
        fs::read_to_string("/proc/stat").ok().and_then(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Self> {
        let fields = text.lines().next()?.strip_prefix("cpu ")?;
        // User, nice, system, idle, iowait, irq, softirq, steal. The guest's are among the first.
        let ticks: Vec<u64> = fields.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { idle: *ticks.get(3)?, all: ticks.iter().sum() })
    }

    fn has_room(self, before: Self) -> bool {
        let (idle, all) = (self.idle.saturating_sub(before.idle), self.all.saturating_sub(before.all));
        all > 0 && idle * 100 >= all * ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_idle_time_leaves_room_and_waiting_for_a_disk_does_not() {
        let time = |line: &str| ProcessorTime::parse(line).unwrap();
        let before = time("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 50 0 50 400 0 0 0 0 0 0\n");
        assert_eq!(before, ProcessorTime { idle: 800, all: 1000 });
        assert!(time("cpu  175 0 100 825 0 0 0 0 0 0").has_room(before));
        assert!(!time("cpu  176 0 100 824 0 0 0 0 0 0").has_room(before));
        assert!(!time("cpu  100 0 100 810 90 0 0 0 0 0").has_room(before));
        assert!(!before.has_room(before));
        assert_eq!(ProcessorTime::parse("intr 1 2 3"), None);
    }
}
