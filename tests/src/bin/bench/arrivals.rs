//! Arrival times of many single updates at a station.

use std::{
    io::{self, Read as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::station::{BenchReader, length};

/// Bytes of one read.
const READ: usize = 1 << 20;
/// Bytes before the UPDATE in a Route Monitoring message.
const AROUND: usize = 48;
/// Bytes of an update's number, at the end of the update.
const NUMBER: usize = 4;
/// The longest silence before missing updates are reported.
const PATIENCE: Duration = Duration::from_secs(20);

/// A station's connection, with received bytes that are not consumed yet.
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

    /// Reads until this many routes were announced, and returns the reader.
    pub(crate) fn skip(&mut self, routes: u64) -> io::Result<BenchReader> {
        let mut reader = BenchReader::default();
        while reader.sum.routes < routes {
            self.read()?;
            let used = reader.take(&self.buffer[..self.filled]);
            self.used(used);
        }
        Ok(reader)
    }

    /// Returns the arrival time of each of `count` updates, since `began`. Each must arrive once,
    /// and equal `one` except for its number.
    pub(crate) fn take(&mut self, one: &[u8], count: usize, began: Instant) -> io::Result<Vec<Duration>> {
        let mut at = vec![None; count];
        let (mut left, size) = (count, AROUND + one.len());
        let same = one.len().saturating_sub(NUMBER);
        while left > 0 {
            self.read()
                .map_err(|error| io::Error::other(format!("{left} of {count} updates did not arrive: {error}")))?;
            let now = began.elapsed();
            let mut used = 0;
            while let Some(length) = length(&self.buffer[used..self.filled]) {
                let Some(frame) = self.buffer[used..self.filled].get(..length) else { break };
                used += length;
                // Skip End-of-RIB and statistics.
                if length != size || frame.get(AROUND..AROUND + same) != one.get(..same) {
                    continue;
                }
                let number = frame.last_chunk::<NUMBER>().map_or(0, |number| u32::from_be_bytes(*number));
                let place = at.get_mut((number & 0x00ff_ffff) as usize).filter(|place| place.is_none());
                *place.ok_or_else(|| {
                    io::Error::other(format!("update {number:#x} arrived twice, or was never sent"))
                })? = Some(now);
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
