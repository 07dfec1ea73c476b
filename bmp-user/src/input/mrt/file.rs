//! Reads an MRT file: unpacks it and splits it into records.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{Buf, BytesMut};

use super::status::FileSize;
use crate::{
    sys,
    wire::mrt::{self, Record, records},
};

/// Bytes requested from the unpacker in one read.
const READ: usize = 64 * 1024;

/// Why a file cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    /// The path is a folder, a pipe or a device.
    #[error("not a regular file")]
    NotRegular,
    /// The file cannot be read or unpacked.
    #[error("after {offset} bytes (unpacked): {error}")]
    Read {
        /// The offset of the failure in the unpacked file, in bytes.
        offset: u64,
        /// The error of the system or the unpacker.
        error: io::Error,
    },
    /// The next record cannot be found.
    #[error("{0}")]
    Mrt(mrt::Error),
    /// The file ends inside a record.
    #[error("ends {left} bytes into the record at byte {at} (unpacked)")]
    Cut {
        /// The offset of the record in the unpacked file, in bytes.
        at: u64,
        /// The bytes of the record that the file holds.
        left: usize,
    },
    /// The file has more peers than any collector.
    #[error("more than {0} peers")]
    TooManyPeers(usize),
}

/// Reads the records of a file from its beginning.
pub(super) struct RecordReader<'a> {
    unpacked: Box<dyn Read + 'a>,
    /// Unpacked bytes that are not used yet. Between two calls of [`RecordReader::each`]'s
    /// function, less than one record.
    buffer: BytesMut,
    /// The offset of `buffer` in the unpacked file, in bytes.
    offset: u64,
}

impl<'a> RecordReader<'a> {
    /// Opens a file. `position` counts the packed bytes read; `size` receives the packed size of
    /// the file.
    pub(super) fn open(path: &Path, position: &'a AtomicU64, size: &FileSize) -> Result<Self, FileError> {
        let file = sys::open_regular(path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => FileError::NotRegular,
            _ => FileError::Open(error),
        })?;
        let length = file.metadata().map_err(FileError::Open)?.len();
        position.store(0, Ordering::Relaxed);
        size.set(length);
        Self::new(CountingReader { inner: file, position }).map_err(|error| FileError::Read { offset: 0, error })
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

    /// Calls `each` with every record and its offset in the unpacked file. Stops when `each`
    /// returns false or the file ends. Returns true at the end of the file.
    pub(super) fn each(&mut self, mut each: impl FnMut(&Record<'_>, u64) -> bool) -> Result<bool, FileError> {
        loop {
            let mut whole = records(&self.buffer);
            let mut start = 0;
            while let Some(record) = whole.next() {
                let record = record.map_err(|error| FileError::Mrt(error.after(self.offset)))?;
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
                    left => Err(FileError::Cut { at: self.offset, left }),
                };
            }
        }
    }

    /// Reads more bytes and returns false at the end. Memory grows with the bytes read, never with
    /// a length field.
    fn fill(&mut self) -> Result<bool, FileError> {
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
            Err(error) => Err(FileError::Read { offset: self.offset + old as u64, error }),
        }
    }
}

/// Counts the bytes read through it.
struct CountingReader<'a, R> {
    inner: R,
    position: &'a AtomicU64,
}

impl<R: Read> Read for CountingReader<'_, R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(room)?;
        self.position.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
