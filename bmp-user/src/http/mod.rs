//! The HTTP server: metrics, health, the displays as JSON, and the status page. It changes
//! nothing.
//!
//! Whoever can connect may ask, so everything that a client causes is bounded: connections
//! ([`visitors`](crate::visitors)), the head of a request, its time, and the time that an answer
//! may take. Answers are made by a thread of its own, one at a time, so that no task of the data
//! waits.
//!
//! * `listener`: the listening socket
//! * `connection`: one client
//! * `stream`: a stream that fails when its client is too slow
//! * `answer`: from a request to an answer
//! * `body`: the body of an answer
//! * `events`: what the status page follows
//! * `page`: the status page

mod answer;
mod body;
mod connection;
mod events;
mod listener;
mod page;
mod stream;

use std::sync::Arc;

use tokio::{sync::watch, task::JoinHandle};
use tracing::info;

use crate::{
    config::{Config, HttpListen},
    control::ControlContext,
    tasks,
};
use answer::Server;

/// Serves HTTP where the configuration says, until the sender of configurations is gone. Dropping
/// the future closes the server and its connections.
pub async fn run(mut config: watch::Receiver<Arc<Config>>, context: ControlContext) {
    let server = Server::new(context.clone(), listener::visitors());
    let mut running: Option<RunningServer> = None;
    loop {
        let wanted = config.borrow_and_update().http_listen.clone();
        if running.as_ref().map(|running| &running.listen) != wanted.as_ref() {
            if let Some(running) = running.take() {
                info!("closed the HTTP server on {}: the configuration has it there no more", running.listen);
                running.stop().await;
            }
            context.http.set_listen(wanted.clone());
            running = wanted.map(|listen| RunningServer::start(listen, server.clone()));
        }
        if tasks::idle(config.changed()).await.is_err() {
            return;
        }
    }
}

/// A server that runs.
struct RunningServer {
    listen: HttpListen,
    task: JoinHandle<()>,
}

impl RunningServer {
    fn start(listen: HttpListen, server: Server) -> Self {
        Self { task: tasks::forever("HTTP listener", listener::run(listen.clone(), server)), listen }
    }

    /// Closes the listener and its connections. The address is free when this returns.
    async fn stop(mut self) {
        self.task.abort();
        // The task was aborted on purpose, or has ended already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
