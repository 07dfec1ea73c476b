//! One connection of a daemon.

use std::{fmt, io, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::watch,
    time::{Instant, sleep_until},
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
    /// `allow` does not let it in any more.
    NotAllowed,
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
            Self::NotAllowed => write!(f, "`allow` does not let this host connect any more; closed"),
        }
    }
}

/// Feeds what `stream` sends until it ends, and holds its peers then for as long as the terms say.
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
    if !matches!(end, End::NotAllowed) {
        hold(input, status, terms).await;
    }
}

/// Keeps the peers up for as long as the terms say, which may change meanwhile.
async fn hold(input: Input, status: ConnectionHandle, mut terms: watch::Receiver<Arc<Terms>>) {
    let began = Instant::now();
    if terms.borrow_and_update().hold.is_zero() {
        return;
    }
    // What is shown is not of a connection any more.
    let (held, status) = (input.hold(), status.held());
    loop {
        let until = began + terms.borrow_and_update().hold;
        status.set_until(until);
        tokio::select! {
            () = sleep_until(until) => break,
            // Without a sender nobody wants the relay any more.
            changed = terms.changed() => if changed.is_err() { break },
        }
    }
    drop(held);
    info!(relay = status.relay_name(), client = %status.client(), "hold is over: peers that are not back are down");
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
        let time = {
            let terms = terms.borrow_and_update();
            if !terms.lets_in(status.own(), status.client().ip()) {
                return End::NotAllowed;
            }
            terms.end_of_rib_after
        };
        let read = tokio::select! {
            read = stream.read_buf(receiver.room()) => read,
            () = sleep_until(quiet.next(Instant::now(), time)), if !time.is_zero() => {
                if let Some(since) = quiet.look(Instant::now(), input.applied(), time) {
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
