//! When each of many updates came to a station.

use std::{
    io::{self, Read as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::station::{Reader, length};

/// What is read at once.
const READ: usize = 1 << 20;
/// What comes before the UPDATE in a Route Monitoring message.
const AROUND: usize = 48;
/// The number of an update, at its end.
const NUMBER: usize = 4;
/// The longest silence before it is said that some are missing.
const PATIENCE: Duration = Duration::from_secs(20);

/// A station's connection, and what was read of it and not yet used.
pub(crate) struct Arrivals {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Arrivals {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; 2 * READ], filled: 0 })
    }

    /// Reads until so many routes were announced: what came.
    pub(crate) fn skip(&mut self, routes: u64) -> io::Result<Reader> {
        let mut reader = Reader::default();
        while reader.sum.routes < routes {
            self.read()?;
            let used = reader.take(&self.buffer[..self.filled]);
            self.used(used);
        }
        Ok(reader)
    }

    /// When each of so many updates came, since `began`: each once, and each as `one` but for its number.
    pub(crate) fn take(&mut self, one: &[u8], count: usize, began: Instant) -> io::Result<Vec<Duration>> {
        let mut at = vec![None; count];
        let (mut left, size) = (count, AROUND + one.len());
        let same = one.len().saturating_sub(NUMBER);
        while left > 0 {
            self.read()
                .map_err(|error| io::Error::other(format!("{left} of {count} updates did not come: {error}")))?;
            let now = began.elapsed();
            let mut used = 0;
            while let Some(length) = length(&self.buffer[used..self.filled]) {
                let Some(frame) = self.buffer[used..self.filled].get(..length) else { break };
                used += length;
                // Others are there too: End-of-RIB, statistics.
                if length != size || frame.get(AROUND..AROUND + same) != one.get(..same) {
                    continue;
                }
                let number = frame.last_chunk::<NUMBER>().map_or(0, |number| u32::from_be_bytes(*number));
                let place = at.get_mut((number & 0x00ff_ffff) as usize).filter(|place| place.is_none());
                *place.ok_or_else(|| io::Error::other(format!("update {number:#x} came twice, or was not sent")))? =
                    Some(now);
                left -= 1;
            }
            self.used(used);
        }
        Ok(at.into_iter().flatten().collect())
    }

    fn read(&mut self) -> io::Result<()> {
        match self.stream.read(&mut self.buffer[self.filled..])? {
            0 => Err(io::Error::other("the connection ended")),
            read => {
                self.filled += read;
                Ok(())
            }
        }
    }

    fn used(&mut self, used: usize) {
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
    }
}
