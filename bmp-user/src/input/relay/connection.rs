//! One connection of a daemon.

use std::{fmt, io, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use super::{
    Terms,
    quiet::Quiet,
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
    let end = feed(stream, &mut input, &status, terms.clone()).await;
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

async fn feed(
    mut stream: impl AsyncRead + Unpin,
    input: &mut Input,
    status: &ConnectionHandle,
    mut terms: watch::Receiver<Arc<Terms>>,
) -> End {
    let (mut receiver, mut quiet) = (Receiver::default(), Quiet::default());
    let mut fixed = false;
    loop {
        let time = terms.borrow_and_update().end_of_rib_after;
        let read = tokio::select! {
            read = stream.read_buf(receiver.room()) => read,
            () = sleep_until(quiet.next(Instant::now(), time)), if !time.is_zero() => {
                if let Some(since) = quiet.look(Instant::now(), input.head(), time) {
                    tell_end_of_rib(input, since, status);
                }
                continue;
            }
            changed = terms.changed(), if !fixed => {
                fixed = changed.is_err();
                continue;
            }
        };
        match read {
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

/// Of RIBs that have been quiet since then, End-of-RIB is said in the daemon's stead.
fn tell_end_of_rib(input: &mut Input, since: u64, status: &ConnectionHandle) {
    let ribs = input.end_quiet_ribs(since);
    if ribs > 0 {
        let (relay, client) = (status.relay_name(), status.client());
        info!(relay, %client, ribs, "RIBs have been quiet without End-of-RIB: it is told in the daemon's stead");
    }
}
