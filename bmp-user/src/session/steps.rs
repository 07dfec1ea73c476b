//! The steps of a session's connections, in the buffer of the log.

use std::{sync::Arc, time::Instant};

use tokio::net::TcpStream;
use tracing::debug;

use super::{label::SessionLabel, status::SessionStatus};
use crate::{config::DebuggingTopic, log::DEBUGGING};

/// Logs the steps of a session's connections, while an operator wants to see them.
#[derive(Clone, Debug)]
pub(super) struct ConnectionSteps {
    label: SessionLabel,
    status: Arc<SessionStatus>,
}

impl ConnectionSteps {
    pub(super) fn new(label: SessionLabel, status: &Arc<SessionStatus>) -> Self {
        Self { label, status: Arc::clone(status) }
    }

    /// Logs a step. The text is made only if somebody wants to see it.
    pub(super) fn log(&self, step: impl FnOnce() -> String) {
        let debugging = self.status.debugging();
        if debugging.left(DebuggingTopic::Connection).is_none() {
            return;
        }
        if let Some(left_out) = debugging.admit_step(Instant::now()) {
            if left_out > 0 {
                debug!(target: DEBUGGING, session = %self.label, "{left_out} steps were left out");
            }
            debug!(target: DEBUGGING, session = %self.label, "{}", step());
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
