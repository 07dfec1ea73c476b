//! One connection of a daemon.

use std::{fmt, io, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::watch,
    time::sleep,
};
use tracing::{info, warn};

use super::{
    Terms,
    receiver::{Goodbye, Receiver},
    status::ConnectionHandle,
};
use crate::{feed::Input, wire::bmp};

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The daemon closed it between two messages.
    Closed,
    /// The daemon said that it would.
    Terminated(Goodbye),
    /// The stream ended inside a message.
    Cut { at: u64, left: usize },
    /// What came is not BMP, or not as it has to be.
    Invalid(bmp::Error),
    /// The connection broke.
    Broken(io::Error),
}

impl End {
    fn is_orderly(&self) -> bool {
        matches!(self, Self::Closed | Self::Terminated(_))
    }
}

/// As in the log line.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the daemon closed the connection"),
            Self::Terminated(goodbye) => write!(f, "the daemon ended the session: {goodbye}"),
            Self::Cut { at, left } => {
                write!(f, "the stream ended {left} bytes into the message at byte {at}")
            }
            Self::Invalid(error) => write!(f, "{error}; closed"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
        }
    }
}

/// Feeds what `stream` sends until it ends, and holds its peers for as long as the terms say at that moment.
pub(super) async fn serve(
    stream: impl AsyncRead + Unpin,
    mut input: Input,
    status: ConnectionHandle,
    terms: watch::Receiver<Arc<Terms>>,
) {
    let (relay, client) = (status.relay_name().to_owned(), status.client());
    info!(relay, %client, "daemon connected");
    let end = feed(stream, &mut input, &status).await;
    if end.is_orderly() {
        info!(relay, %client, "{end}");
    } else {
        warn!(relay, %client, "{end}");
    }
    status.closed(&end.to_string());
    let hold = terms.borrow().hold;
    if !hold.is_zero() {
        let held = input.hold();
        // What is shown is not of a connection any more.
        drop(status);
        sleep(hold).await;
        drop(held);
    }
}

async fn feed(mut stream: impl AsyncRead + Unpin, input: &mut Input, status: &ConnectionHandle) -> End {
    let mut receiver = Receiver::default();
    loop {
        match stream.read_buf(receiver.room()).await {
            Ok(0) => {
                return match receiver.left() {
                    0 => End::Closed,
                    left => End::Cut { at: receiver.offset(), left },
                };
            }
            Ok(_) => {}
            Err(error) => return End::Broken(error),
        }
        let received = receiver.receive(input);
        status.set_totals(input.totals());
        if let Some(system) = receiver.take_system() {
            status.set_system(system);
        }
        match received {
            Ok(None) => {}
            Ok(Some(goodbye)) => return End::Terminated(goodbye),
            Err(error) => return End::Invalid(error),
        }
    }
}
