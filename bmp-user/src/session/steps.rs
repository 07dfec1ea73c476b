//! The steps of a session's connections, in the buffer of the log.

use std::{sync::Arc, time::Instant};

use tokio::net::TcpStream;
use tracing::debug;

use super::status::SessionStatus;
use crate::{
    config::{DebuggingTopic, SessionId},
    log::DEBUGGING,
};

/// Logs the steps of a session's connections, while an operator wants to see them.
#[derive(Clone, Debug)]
pub(super) struct ConnectionSteps {
    id: SessionId,
    status: Arc<SessionStatus>,
}

impl ConnectionSteps {
    pub(super) fn new(id: &SessionId, status: &Arc<SessionStatus>) -> Self {
        Self { id: id.clone(), status: Arc::clone(status) }
    }

    /// Logs a step. The text is made only if somebody wants to see it.
    pub(super) fn log(&self, step: impl FnOnce() -> String) {
        let debugging = self.status.debugging();
        if debugging.left(DebuggingTopic::Connection).is_none() {
            return;
        }
        if let Some(left_out) = debugging.admit_step(Instant::now()) {
            if left_out > 0 {
                debug!(target: DEBUGGING, session = %self.id, "{left_out} steps were left out");
            }
            debug!(target: DEBUGGING, session = %self.id, "{}", step());
        }
    }

    /// Logs that the station has connected.
    pub(super) fn accepted(&self, stream: &TcpStream) {
        self.log(|| match stream.peer_addr() {
            Ok(station) => format!("the station connected from {station}"),
            Err(error) => format!("the station connected, and is gone: {error}"),
        });
    }
}
