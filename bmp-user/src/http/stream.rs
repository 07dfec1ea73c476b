//! A stream that fails when its client does not take what is written.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a client may take for what is buffered for it, which is 64 KiB at most.
pub(super) const TAKING: Duration = Duration::from_secs(10);

/// How far the request of a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RequestStage {
    /// Nothing has come yet, or not all of the head.
    #[default]
    Awaited,
    /// The head was there, and nothing has come since.
    Answered,
}

/// The stage of a connection's request, for the connection and its stream.
#[derive(Debug, Default)]
pub(super) struct RequestProgress(AtomicBool);

impl RequestProgress {
    pub(super) fn set(&self, stage: RequestStage) {
        self.0.store(stage == RequestStage::Answered, Relaxed);
    }

    pub(super) fn get(&self) -> RequestStage {
        if self.0.load(Relaxed) { RequestStage::Answered } else { RequestStage::Awaited }
    }
}

/// A stream whose writes fail with `TimedOut` when a flush takes longer than [`TAKING`].
///
/// The time runs from the first write that has to wait until all is flushed. A client that takes a
/// little again and again does not prolong it.
#[derive(Debug)]
pub(super) struct HastyStream<S> {
    stream: S,
    /// Runs while something waits to be written.
    deadline: Option<Pin<Box<Sleep>>>,
    progress: Arc<RequestProgress>,
}

impl<S> HastyStream<S> {
    pub(super) fn new(stream: S, progress: Arc<RequestProgress>) -> Self {
        Self { stream, deadline: None, progress }
    }

    /// Returns an error once the client has taken too long.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(TAKING)));
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HastyStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, room);
        if room.filled().len() > before {
            self.progress.set(RequestStage::Awaited);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HastyStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deadline.is_some() {
            self.poll_deadline(context)?;
        }
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => {
                self.poll_deadline(context)?;
                Poll::Pending
            }
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        self.deadline = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_little_now_and_then_is_closed_all_the_same() {
        let (mut client, server) = duplex(16);
        let mut server = HastyStream::new(server, Arc::default());
        let writing = async {
            let error = server.write_all(&[0; 4096]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        };
        let reading = async {
            let mut byte = [0];
            for _ in 0..12 {
                sleep(Duration::from_secs(1)).await;
                if client.read_exact(&mut byte).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(writing, reading);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_all_in_time_is_served_for_long() {
        let (mut client, server) = duplex(16);
        let mut server = HastyStream::new(server, Arc::default());
        let writing = async {
            for _ in 0..10 {
                server.write_all(&[0; 64]).await.unwrap();
                server.flush().await.unwrap();
                sleep(TAKING).await;
            }
        };
        let reading = async {
            let mut all = [0; 640];
            client.read_exact(&mut all).await.unwrap();
        };
        tokio::join!(writing, reading);
    }
}
