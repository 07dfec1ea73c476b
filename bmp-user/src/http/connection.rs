//! One client of the HTTP server.

use std::{error::Error as _, io, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::timeout};
use tracing::debug;

use super::{
    answer::Server,
    stream::{HastyStream, RequestProgress, RequestStage},
};
use crate::visitors::AdmittedStream;

/// How long a client may take for the head of a request, also for the next one of its connection.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);
/// The longest head of a request, and the most that waits for a client, in bytes.
const BUFFER: usize = 64 * 1024;
/// The most header fields of a request.
const HEADERS: usize = 64;
/// How long a connection lasts. What follows events connects again.
const LONGEST: Duration = Duration::from_secs(3600);

/// Answers the requests of a connection until it ends.
pub(super) async fn serve(stream: AdmittedStream<TcpStream>, server: Server) {
    let status = server.context.http.clone();
    let progress = Arc::new(RequestProgress::default());
    let stream = HastyStream::new(stream, Arc::clone(&progress));
    let requests = Arc::clone(&progress);
    let service = service_fn(move |request| {
        requests.set(RequestStage::Answered);
        let server = server.clone();
        async move { Ok::<_, io::Error>(server.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(LONGEST, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => {
            let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
            let is_stalled = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut);
            // A client that had its answer and asks nothing more is not slow.
            if is_stalled || error.is_timeout() && progress.get() != RequestStage::Answered {
                status.count_slow();
            }
            debug!("a connection of the HTTP server ended: {error}");
        }
    }
}
