//! The last lines of the log, kept in memory. An operator reads them where the log itself is far
//! away.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::record::LogRecord;

/// Lines that are kept.
pub const BUFFER_LINES: usize = 1024;
/// The most memory that their texts take, in bytes. As a rule 1,024 lines take a tenth of it.
const BUFFER_BYTES: usize = 1 << 20;

/// A line of the log. Unsafe characters are escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferedLine {
    /// When it was logged, as RFC 3339 writes it, in UTC.
    pub time: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The sentence.
    pub text: String,
    /// The fields by name, also those that stand in the text.
    pub fields: BTreeMap<&'static str, String>,
}

impl BufferedLine {
    fn size(&self) -> usize {
        self.text.len() + self.fields.values().map(String::len).sum::<usize>()
    }
}

/// The kept lines at one moment.
#[derive(Clone, Debug, Default)]
pub struct BufferedLog {
    /// The lines, oldest first.
    pub lines: Vec<Arc<BufferedLine>>,
    /// How many older lines were dropped.
    pub dropped: u64,
}

/// The last lines, within limits. The oldest are dropped, and counted.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    lines: VecDeque<Arc<BufferedLine>>,
    /// The size of all lines.
    bytes: usize,
    dropped: u64,
}

impl LineBuffer {
    pub(super) fn push(&mut self, record: LogRecord, time: String) {
        let LogRecord { level, text, fields } = record;
        let level = level.as_str().to_ascii_lowercase();
        let line = BufferedLine { time, level, text, fields: fields.into_iter().collect() };
        self.bytes += line.size();
        self.lines.push_back(Arc::new(line));
        while self.lines.len() > BUFFER_LINES || self.bytes > BUFFER_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.size();
            self.dropped += 1;
        }
    }

    pub(super) fn log(&self) -> BufferedLog {
        BufferedLog { lines: self.lines.iter().cloned().collect(), dropped: self.dropped }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_oldest_lines_are_dropped_and_counted() {
        let mut buffer = LineBuffer::default();
        for number in 0..BUFFER_LINES + 7 {
            buffer.push(LogRecord::new(Level::INFO, &format!("line {number}\u{1b}[2J")), String::new());
        }
        let log = buffer.log();
        assert_eq!((log.lines.len(), log.dropped), (BUFFER_LINES, 7));
        assert_eq!(log.lines.first().map(|line| line.text.as_str()), Some(r"line 7\u{1b}[2J"));
        // Long lines take the room of many.
        for _ in 0..1000 {
            buffer.push(LogRecord::new(Level::WARN, &"x".repeat(8000)), String::new());
        }
        assert!(buffer.bytes <= BUFFER_BYTES);
        let log = buffer.log();
        assert_eq!(log.lines.len() as u64 + log.dropped, BUFFER_LINES as u64 + 7 + 1000);
        assert!(log.lines.len() > 100);
    }
}
