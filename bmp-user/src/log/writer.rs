//! Writes lines on a thread of its own, so that a task that logs never waits for a disk or a
//! reader.
//!
//! The queue is bounded. A line is dropped and counted if the queue is full or the sink fails. The
//! next line that can be written follows a notice of how many were dropped. Whatever the sink does,
//! nothing here panics or blocks for good.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// The size of the queue in bytes.
const QUEUE: usize = 1 << 20;
/// How often the writer asks for summaries.
const TICK: Duration = Duration::from_secs(1);

/// The queue of lines for the writer. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct LineQueue(Arc<SharedQueue>);

#[derive(Debug, Default)]
struct SharedQueue {
    state: Mutex<QueuedLines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueuedLines {
    lines: VecDeque<Vec<u8>>,
    /// The total length of `lines`.
    bytes: usize,
    /// Lines that were dropped and that no notice has counted yet.
    dropped: u64,
    /// True while a line is being written.
    busy: bool,
}

impl LineQueue {
    /// Queues a line, which includes its line end, or drops it. Never waits for the sink.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut state = self.state();
        if state.bytes + line.len() > QUEUE {
            state.dropped += 1;
        } else {
            state.bytes += line.len();
            state.lines.push_back(line);
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits at most `time` until all lines are written. Returns true if they were.
    pub(super) fn flush(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state();
        while state.busy || !state.lines.is_empty() {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Starts the thread that writes to `sink`. It calls `tick` about once a second for additional
    /// lines. It calls `notice` for the line that says how many lines were dropped and why.
    pub(super) fn start(
        &self,
        sink: impl Write + Send + 'static,
        tick: impl FnMut() -> Vec<Vec<u8>> + Send + 'static,
        notice: impl Fn(u64, Option<&io::Error>) -> Vec<u8> + Send + 'static,
    ) -> io::Result<()> {
        let queue = self.clone();
        let mut writer = LineWriter { sink, torn: false, failed: None };
        let mut tick = tick;
        // The thread writes to an open descriptor, and needs nothing else.
        let give_up = crate::sandbox::give_up_everything;
        crate::tasks::thread_after("log writer", give_up, move || {
            let mut next_tick = Instant::now() + TICK;
            loop {
                let line = queue.next(next_tick);
                if Instant::now() >= next_tick {
                    next_tick = Instant::now() + TICK;
                    tick().into_iter().for_each(|line| queue.push(line));
                }
                let (line, dropped) = match line {
                    Some((line, dropped)) => (Some(line), dropped),
                    // The queue is idle, so write a notice that is still due.
                    None => (None, queue.state().dropped),
                };
                let written = writer.write(line.as_deref(), dropped, &notice);
                queue.done(dropped, written);
            }
        })
        .map(|_thread: thread::JoinHandle<()>| ())
    }

    /// Waits for the next line, and returns it with the number of lines dropped before it. `None`
    /// if no line comes before `until`.
    fn next(&self, until: Instant) -> Option<(Vec<u8>, u64)> {
        let mut state = self.state();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.busy = true;
                return Some((line, state.dropped));
            }
            let left = until.checked_duration_since(Instant::now())?;
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Records the outcome of a write: `reported` is the number that the notice named.
    fn done(&self, reported: u64, written: WriteOutcome) {
        let mut state = self.state();
        state.busy = false;
        state.dropped += u64::from(written.line_dropped);
        if written.notice {
            state.dropped -= reported;
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Takes all waiting lines.
    #[cfg(test)]
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        self.state().lines.drain(..).collect()
    }

    fn state(&self) -> MutexGuard<'_, QueuedLines> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of writing a line and the notice before it.
struct WriteOutcome {
    notice: bool,
    line_dropped: bool,
}

struct LineWriter<W> {
    sink: W,
    /// True if the last line was written only in part.
    torn: bool,
    /// Why the last line was not written.
    failed: Option<io::Error>,
}

impl<W: Write> LineWriter<W> {
    fn write(
        &mut self,
        line: Option<&[u8]>,
        dropped: u64,
        notice: &impl Fn(u64, Option<&io::Error>) -> Vec<u8>,
    ) -> WriteOutcome {
        if dropped > 0 {
            let notice = notice(dropped, self.failed.as_ref());
            if !self.write_line(&notice) {
                return WriteOutcome { notice: false, line_dropped: line.is_some() };
            }
            self.failed = None;
        }
        WriteOutcome { notice: dropped > 0, line_dropped: line.is_some_and(|line| !self.write_line(line)) }
    }

    fn write_line(&mut self, line: &[u8]) -> bool {
        let torn = if std::mem::take(&mut self.torn) { &b"\n"[..] } else { b"" };
        for part in [torn, line] {
            let mut rest = part;
            while !rest.is_empty() {
                let error = match self.sink.write(rest) {
                    Ok(0) => io::ErrorKind::WriteZero.into(),
                    Ok(written) => {
                        rest = rest.get(written..).unwrap_or_default();
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => error,
                };
                self.torn = !torn.is_empty() || rest.len() < part.len();
                self.failed = Some(error);
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A sink that a test fills up and empties.
    #[derive(Clone, Default)]
    struct FullableSink(Arc<Mutex<(Vec<u8>, Option<usize>)>>);

    impl FullableSink {
        /// Limits how many more bytes fit. `None` is no limit.
        fn has_room(&self, room: Option<usize>) {
            self.0.lock().unwrap().1 = room;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Write for FullableSink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let taken = disk.1.map_or(bytes.len(), |room| room.min(bytes.len()));
            if taken == 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            if let Some(room) = &mut disk.1 {
                *room -= taken;
            }
            disk.0.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn notice(dropped: u64, why: Option<&io::Error>) -> Vec<u8> {
        let full = why.is_some_and(|error| error.raw_os_error() == Some(libc::ENOSPC));
        format!("{dropped} dropped{}\n", if full { ": full" } else { "" }).into_bytes()
    }

    fn writing_to(sink: impl Write + Send + 'static) -> LineQueue {
        let queue = LineQueue::default();
        queue.start(sink, Vec::new, notice).unwrap();
        queue
    }

    #[test]
    fn a_full_disk_drops_lines_and_their_number_is_written_later() {
        let disk = FullableSink::default();
        let queue = writing_to(disk.clone());
        queue.push(b"one\n".to_vec());
        assert!(queue.flush(PATIENCE));
        disk.has_room(Some(0));
        for _ in 0..3 {
            queue.push(b"lost\n".to_vec());
        }
        assert!(queue.flush(PATIENCE));
        disk.has_room(None);
        queue.push(b"two\n".to_vec());
        assert!(queue.flush(PATIENCE));
        queue.push(b"three\n".to_vec());
        assert!(queue.flush(PATIENCE));
        assert_eq!(disk.text(), "one\n3 dropped: full\ntwo\nthree\n");
    }

    #[test]
    fn a_partly_written_line_does_not_run_into_the_next() {
        let disk = FullableSink::default();
        disk.has_room(Some(2));
        let queue = writing_to(disk.clone());
        queue.push(b"lost\n".to_vec());
        assert!(queue.flush(PATIENCE));
        disk.has_room(None);
        queue.push(b"next\n".to_vec());
        assert!(queue.flush(PATIENCE));
        assert_eq!(disk.text(), "lo\n1 dropped: full\nnext\n");
    }

    /// A sink whose reader stalls until the sender is dropped.
    struct StalledSink(mpsc::Receiver<()>, FullableSink);

    impl Write for StalledSink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_blocks_no_caller_and_memory_stays_bounded() {
        let disk = FullableSink::default();
        let (go, stalled) = mpsc::channel();
        let queue = writing_to(StalledSink(stalled, disk.clone()));
        let line = vec![b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<_>>();
        let lines = 10 * QUEUE / line.len();
        for _ in 0..lines {
            queue.push(line.clone());
        }
        assert!(queue.state().bytes <= QUEUE);
        assert!(!queue.flush(Duration::from_millis(10)), "flush gives up in time");
        drop(go);
        assert!(queue.flush(PATIENCE));
        queue.push(b"last\n".to_vec());
        assert!(queue.flush(PATIENCE));
        let text = disk.text();
        let written = text.lines().filter(|line| line.starts_with('x')).count();
        let dropped: usize = text.lines().filter_map(|line| line.strip_suffix(" dropped")?.parse::<usize>().ok()).sum();
        assert_eq!(written + dropped, lines);
        assert!(dropped > lines / 2 && text.ends_with("last\n"));
    }
}
