//! The file: unpacking it as it is read, and finding its records.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{Buf, BytesMut};

use crate::{
    sys,
    wire::mrt::{self, Record, records},
};

/// How much is read at a time, in bytes.
const READ: usize = 64 * 1024;

/// Why a file cannot be read, or no further.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    /// It is a folder, a pipe or a device.
    #[error("not a regular file")]
    NotRegular,
    /// It cannot be read, or unpacked.
    #[error("after {offset} bytes (unpacked): {error}")]
    Read {
        /// How far it was read, in bytes as they are unpacked.
        offset: u64,
        /// What the system, or the unpacker, says.
        error: io::Error,
    },
    /// The next record cannot be found.
    #[error("{0}")]
    Mrt(mrt::Error),
    /// It ends inside a record.
    #[error("ends {left} bytes into the record at byte {at} (unpacked)")]
    Cut {
        /// Where the record starts, in bytes as they are unpacked.
        at: u64,
        /// How much of it there is, in bytes.
        left: usize,
    },
    /// It has more peers than anyone has.
    #[error("more than {0} peers")]
    TooManyPeers(usize),
}

/// A file that is being read from its beginning.
pub(super) struct Source<'a> {
    unpacked: Box<dyn Read + 'a>,
    /// What was unpacked and is not yet used: less than one record, between two calls of [`Source::each`]'s function.
    buffer: BytesMut,
    /// How many unpacked bytes come before `buffer`.
    offset: u64,
}

impl<'a> Source<'a> {
    /// Opens a file. `position` is how many of its bytes were read, packed as they are; `size` is how many there are.
    pub(super) fn open(path: &Path, position: &'a AtomicU64, size: &AtomicU64) -> Result<Self, Failure> {
        let file = sys::open_regular(path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => Failure::NotRegular,
            _ => Failure::Open(error),
        })?;
        let length = file.metadata().map_err(Failure::Open)?.len();
        position.store(0, Ordering::Relaxed);
        size.store(length, Ordering::Relaxed);
        Self::new(Counted { inner: file, position }).map_err(|error| Failure::Read { offset: 0, error })
    }

    pub(super) fn new(file: impl Read + 'a) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(READ, file);
        let magic = file.fill_buf()?;
        let unpacked: Box<dyn Read + 'a> = if magic.starts_with(&[0x1f, 0x8b]) {
            Box::new(flate2::bufread::MultiGzDecoder::new(file))
        } else if magic.starts_with(b"BZh") {
            Box::new(bzip2::bufread::MultiBzDecoder::new(file))
        } else {
            Box::new(file)
        };
        Ok(Self { unpacked, buffer: BytesMut::new(), offset: 0 })
    }

    /// Calls `each` with every record and its offset in the unpacked file, until that gives false or the file ends. Whether
    /// it came to the end.
    pub(super) fn each(&mut self, mut each: impl FnMut(&Record<'_>, u64) -> bool) -> Result<bool, Failure> {
        loop {
            let mut whole = records(&self.buffer);
            let mut start = 0;
            while let Some(record) = whole.next() {
                let record = record.map_err(|error| Failure::Mrt(error.after(self.offset)))?;
                if !each(&record, self.offset + start) {
                    return Ok(false);
                }
                start = whole.consumed() as u64;
            }
            self.buffer.advance(whole.consumed());
            self.offset += start;
            if !self.fill()? {
                return match self.buffer.len() {
                    0 => Ok(true),
                    left => Err(Failure::Cut { at: self.offset, left }),
                };
            }
        }
    }

    /// Reads on; false at the end. Room is made for what is read, not for what a length field says.
    fn fill(&mut self) -> Result<bool, Failure> {
        let old = self.buffer.len();
        self.buffer.resize(old + READ, 0);
        let read = loop {
            let room = self.buffer.get_mut(old..).unwrap_or_default();
            match self.unpacked.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        self.buffer.truncate(old + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(read) => Ok(read > 0),
            Err(error) => Err(Failure::Read { offset: self.offset + old as u64, error }),
        }
    }
}

/// Counts what is read.
struct Counted<'a, R> {
    inner: R,
    position: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(room)?;
        self.position.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
