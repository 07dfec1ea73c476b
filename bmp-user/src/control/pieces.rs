//! Large answers, in pieces. A thread of its own makes an answer, no faster than the client reads
//! it.
//!
//! The memory of an answer is a few pieces, however long the answer is. Its maker looks at the
//! state bit by bit, holds no lock meanwhile, and shares the processors with at most one other
//! maker of its kind.

use std::io::{self, Write};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit, mpsc},
};

use super::display::WriteAnswer;
use crate::config::LineFilter;

/// Bytes of one piece.
pub(crate) const PIECE: usize = 32 * 1024;
/// Pieces that may wait for the client to read them.
pub(crate) const WAITING: usize = 2;

/// Limits the answers that are made at the same time. One that waits for its client does not
/// count.
static MAKING: Semaphore = Semaphore::const_new(2);
/// The same for answers to outsiders, so that operators never wait for them.
static MAKING_FOR_OUTSIDERS: Semaphore = Semaphore::const_new(1);

/// Makes an answer, escaped for the inside of a JSON string. Blocks: call it from a blocking
/// thread.
///
/// # Errors
///
/// The receiver of the pieces is gone.
pub(super) fn make(make: WriteAnswer, filter: Option<LineFilter>, pieces: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut out = JsonStringWriter(PieceWriter::new(pieces, &MAKING)?);
    match filter {
        Some(filter) => {
            let mut lines = FilteredLines { out: &mut out, filter, begun: false, line: Vec::new() };
            make(&mut lines)?;
            lines.end_line()?;
        }
        None => make(&mut out)?,
    }
    out.0.send()
}

/// Makes an answer for an outsider, as it is. Blocks: call it from a blocking thread.
///
/// # Errors
///
/// The receiver of the pieces is gone, or the answer cannot be made.
pub(crate) fn make_plain(make: WriteAnswer, pieces: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut out = PieceWriter::new(pieces, &MAKING_FOR_OUTSIDERS)?;
    make(&mut out)?;
    out.send()
}

/// Sends what is written in pieces.
struct PieceWriter {
    pieces: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
    making: &'static Semaphore,
    permit: Option<SemaphorePermit<'static>>,
}

impl PieceWriter {
    /// Waits until no more than the permitted number of answers are made.
    fn new(pieces: mpsc::Sender<Vec<u8>>, making: &'static Semaphore) -> io::Result<Self> {
        let permit = Some(acquire(making)?);
        Ok(Self { pieces, piece: Vec::with_capacity(PIECE), making, permit })
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let piece = match self.pieces.try_send(piece) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(piece)) => piece,
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        // Let another answer be made while this client reads.
        self.permit = None;
        self.pieces.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.permit = Some(acquire(self.making)?);
        Ok(())
    }
}

fn acquire(making: &'static Semaphore) -> io::Result<SemaphorePermit<'static>> {
    Handle::current().block_on(making.acquire()).map_err(io::Error::other)
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Escapes for the inside of a JSON string.
struct JsonStringWriter(PieceWriter);

impl Write for JsonStringWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            let piece = &mut self.0.piece;
            match byte {
                b'"' | b'\\' => piece.extend([b'\\', byte]),
                b'\n' => piece.extend(b"\\n"),
                0..0x20 => write!(piece, "\\u{byte:04x}")?,
                _ => piece.push(byte),
            }
            if piece.len() >= PIECE - 8 {
                self.0.send()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes on the lines that a filter keeps.
struct FilteredLines<'a> {
    out: &'a mut JsonStringWriter,
    filter: LineFilter,
    begun: bool,
    line: Vec<u8>,
}

impl FilteredLines<'_> {
    fn end_line(&mut self) -> io::Result<()> {
        if !self.line.is_empty() && self.filter.keeps(&String::from_utf8_lossy(&self.line), &mut self.begun) {
            self.out.write_all(&self.line)?;
        }
        self.line.clear();
        Ok(())
    }
}

impl Write for FilteredLines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the text that a client reads of an answer that is written in these parts.
    fn read(parts: Vec<String>, filter: Option<LineFilter>) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (sender, mut pieces) = mpsc::channel(WAITING);
        let answer: WriteAnswer = Box::new(move |out| parts.iter().try_for_each(|part| out.write_all(part.as_bytes())));
        let made = runtime.handle().clone();
        let making = std::thread::spawn(move || {
            let _inside = made.enter();
            make(answer, filter, sender)
        });
        let mut json = b"\"".to_vec();
        while let Some(piece) = pieces.blocking_recv() {
            assert!(piece.len() <= PIECE);
            json.extend(piece);
        }
        making.join().unwrap().unwrap();
        json.push(b'"');
        serde_json::from_slice(&json).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_pieces_make_up_the_answer(parts in prop::collection::vec(any::<String>(), 0..50), wanted in "[a-z]?") {
            let whole = parts.concat();
            prop_assert_eq!(&read(parts.clone(), None), &whole);
            for filter in [LineFilter::Include(wanted.clone()), LineFilter::Exclude(wanted.clone()), LineFilter::Begin(wanted)] {
                prop_assert_eq!(read(parts.clone(), Some(filter.clone())), filter.apply(&whole));
            }
        }
    }

    #[test]
    fn an_answer_of_many_pieces_is_whole() {
        let line = "x".repeat(999) + "\n";
        assert_eq!(read(vec![line.clone(); 2000], None), line.repeat(2000));
    }

    #[test]
    fn a_plain_answer_is_what_was_written() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (sender, mut pieces) = mpsc::channel(WAITING);
        let text = "\"quoted\"\n".repeat(10_000);
        let written = text.clone();
        let handle = runtime.handle().clone();
        let making = std::thread::spawn(move || {
            let _inside = handle.enter();
            make_plain(Box::new(move |out| out.write_all(written.as_bytes())), sender)
        });
        let mut read = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            assert!(piece.len() <= PIECE);
            read.extend(piece);
        }
        making.join().unwrap().unwrap();
        assert_eq!(read, text.into_bytes());
    }

    #[test]
    fn an_answer_that_nobody_reads_is_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let (sender, pieces) = mpsc::channel(WAITING);
        drop(pieces);
        let endless: WriteAnswer = Box::new(|out| {
            loop {
                out.write_all(b"again and again\n")?;
            }
        });
        assert_eq!(make(endless, None, sender).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
