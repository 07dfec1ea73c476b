//! What is known of the HTTP server: written by its tasks, read by displays, commits and metrics.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::config::HttpListen;

/// The status of the HTTP server. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct HttpStatus(Arc<HttpProgress>);

#[derive(Debug, Default)]
struct HttpProgress {
    listener: Mutex<(Option<HttpListen>, HttpListenerState)>,
    connections: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
    slow: AtomicU64,
}

/// Whether the server listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HttpListenerState {
    /// It is about to listen, or is not to.
    #[default]
    Starting,
    /// It listens.
    Listening,
    /// It cannot listen, for this reason. It tries again.
    Failed(String),
}

/// What the server counted since bmpd began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpCounts {
    /// Connections that are open.
    pub connections: u64,
    /// Requests that were answered, also by a refusal.
    pub requests: u64,
    /// Connections beyond the limits, which were closed at once.
    pub refused: u64,
    /// Connections that were closed because the client was too slow.
    pub slow: u64,
}

/// An open connection, counted until it is dropped.
#[derive(Debug)]
pub struct OpenHttpConnection(HttpStatus);

impl HttpStatus {
    /// Returns where the server listens, if it is to, and whether it does.
    pub fn listener(&self) -> (Option<HttpListen>, HttpListenerState) {
        lock(&self.0.listener).clone()
    }

    /// Returns the counts.
    pub fn counts(&self) -> HttpCounts {
        let HttpProgress { connections, requests, refused, slow, .. } = &*self.0;
        HttpCounts {
            connections: connections.load(Relaxed),
            requests: requests.load(Relaxed),
            refused: refused.load(Relaxed),
            slow: slow.load(Relaxed),
        }
    }

    /// Notes where the server is to listen; `None` where it is not.
    pub fn set_listen(&self, listen: Option<HttpListen>) {
        *lock(&self.0.listener) = (listen, HttpListenerState::Starting);
    }

    /// Notes whether the server listens.
    pub fn set_state(&self, state: HttpListenerState) {
        lock(&self.0.listener).1 = state;
    }

    /// Counts a connection as open until the returned value is dropped.
    pub fn open(&self) -> OpenHttpConnection {
        self.0.connections.fetch_add(1, Relaxed);
        OpenHttpConnection(self.clone())
    }

    /// Counts a request.
    pub fn count_request(&self) {
        self.0.requests.fetch_add(1, Relaxed);
    }

    /// Counts a connection beyond the limits.
    pub fn count_refused(&self) {
        self.0.refused.fetch_add(1, Relaxed);
    }

    /// Counts a connection of a client that was too slow.
    pub fn count_slow(&self) {
        self.0.slow.fetch_add(1, Relaxed);
    }
}

impl Drop for OpenHttpConnection {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Relaxed);
    }
}

/// No code that holds the lock panics half-way through a change, so a poisoned value is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
