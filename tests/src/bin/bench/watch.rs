//! A station that follows for as long as needed, and its count so far.

use std::{
    io::{self, Read as _},
    net::TcpStream,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use lab::{table::RouteSum, wait::WatchedValue};

use crate::{
    interrupt::{self, LOOK_EVERY},
    station::{BenchReader, CountingStation},
};

/// Bytes of one read.
const READ: usize = 1 << 20;

/// Count since the connection began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FollowCount {
    /// Checksum of announced routes.
    pub(crate) sum: RouteSum,
    /// Checksum of announced prefixes.
    pub(crate) prefixes: RouteSum,
    /// Checksum of withdrawn prefixes.
    pub(crate) withdrawn: RouteSum,
    /// Arrival of the last counted byte.
    pub(crate) at: Instant,
}

impl FollowCount {
    /// Returns the count since an earlier moment.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            sum: less(self.sum, earlier.sum),
            prefixes: less(self.prefixes, earlier.prefixes),
            withdrawn: less(self.withdrawn, earlier.withdrawn),
            at: self.at,
        }
    }
}

fn less(sum: RouteSum, earlier: RouteSum) -> RouteSum {
    RouteSum { routes: sum.routes - earlier.routes, hash: sum.hash.wrapping_sub(earlier.hash) }
}

/// A followed connection. Dropping it closes the connection.
pub(crate) struct FollowedConnection {
    stream: TcpStream,
    seen: Arc<WatchedValue<FollowCount>>,
    ended: Arc<Mutex<Option<String>>>,
}

impl FollowedConnection {
    /// Accepts the station's next connection.
    pub(crate) fn accept(station: &CountingStation, patience: Duration) -> io::Result<Self> {
        let stream = station.accept(patience)?;
        let nothing = RouteSum::default();
        let seen = FollowCount { sum: nothing, prefixes: nothing, withdrawn: nothing, at: Instant::now() };
        let (seen, ended) = (Arc::new(WatchedValue::new(seen)), Arc::default());
        let mut reading = stream.try_clone()?;
        let (count, end) = (Arc::clone(&seen), Arc::clone(&ended));
        std::thread::spawn(move || {
            let why = match follow(&mut reading, &count) {
                Ok(()) => "it was closed".to_owned(),
                Err(error) => error.to_string(),
            };
            *Mutex::lock(&end).unwrap_or_else(PoisonError::into_inner) = Some(why);
        });
        Ok(Self { stream, seen, ended })
    }

    /// Returns the count so far.
    pub(crate) fn seen(&self) -> FollowCount {
        *self.seen.lock()
    }

    /// Waits until this many routes were announced and withdrawn since an earlier moment. Returns
    /// the count since then.
    pub(crate) fn wait(
        &self,
        earlier: &FollowCount,
        announced: u64,
        withdrawn: u64,
        patience: Duration,
    ) -> io::Result<FollowCount> {
        let enough = |seen: &FollowCount| {
            let since = seen.since(earlier);
            (since.prefixes.routes >= announced && since.withdrawn.routes >= withdrawn).then_some(since)
        };
        let started = Instant::now();
        loop {
            if let Some(since) = self.seen.wait_for(LOOK_EVERY, enough) {
                return Ok(since);
            }
            interrupt::check()?;
            if started.elapsed() > patience {
                break;
            }
        }
        let since = self.seen().since(earlier);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ended = ended.map(|why| format!("; the connection ended: {why}")).unwrap_or_default();
        Err(io::Error::other(format!(
            "the station received {} of {announced} routes and {} of {withdrawn} withdrawals in {patience:?}{ended}",
            since.prefixes.routes, since.withdrawn.routes
        )))
    }
}

impl Drop for FollowedConnection {
    fn drop(&mut self) {
        // The reader ends with the stream, which may be closed already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn follow(stream: &mut TcpStream, seen: &WatchedValue<FollowCount>) -> io::Result<()> {
    let mut reader = BenchReader::default();
    let mut buffer = vec![0; 2 * READ];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let used = reader.take(&buffer[..filled]);
        buffer.copy_within(used..filled, 0);
        filled -= used;
        let BenchReader { sum, prefixes, withdrawn, .. } = reader;
        seen.change(|seen| *seen = FollowCount { sum, prefixes, withdrawn, at: Instant::now() });
    }
}
