//! Sockets of other processes that a session's pin concerns: those that are older than the pin, and
//! those that must connect again because the pin changed.
//!
//! - [`diag`]: TCP sockets as sock_diag(7) reports them
//! - [`holder`]: the process that holds a socket, and a copy of it
//! - [`lookup`]: both for many sockets
//! - [`earlier`]: connections that nothing holds

mod diag;
mod earlier;
mod holder;
mod lookup;

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use socket2::SockRef;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    connections::KernelConnection,
    earlier_connection::EarlierConnection,
    kernel::{PinSlot, PinTarget, SocketOwner},
    pins::Pins,
    plan::{Grant, Pinned, ResolvedPin, led_astray},
    view::SessionPin,
};
use crate::{
    config::SessionId,
    escape::Untrusted,
    link::{Host, RouteLookup},
    sandbox::ApartThread,
    sys,
};
use diag::DiagSocket;
use holder::SocketHolder;
use lookup::{CopiedSocket, blocking, copies, holders_of, socket_of};

pub(super) use diag::DestroyedSockets;
pub(crate) use diag::{user_of, user_of_bound};
pub(super) use earlier::EarlierSearch;
pub(crate) use holder::name_of;

/// Finds, holds and closes sockets of other processes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ForeignSockets {
    pins: Pins,
    routes: RouteLookup,
    host: watch::Receiver<Arc<Host>>,
    inspector: ApartThread,
}

impl ForeignSockets {
    /// Serves the network namespace that this process is in.
    pub(crate) fn new(
        pins: Pins,
        routes: RouteLookup,
        host: watch::Receiver<Arc<Host>>,
        inspector: ApartThread,
    ) -> Self {
        Self { pins, routes, host, inspector }
    }

    /// See [`led_astray`].
    pub(crate) async fn led_astray(&self, id: &Pinned, resolved: &ResolvedPin) -> Option<String> {
        let host = Arc::clone(&self.host.borrow());
        led_astray(id, resolved, &host, &self.routes).await
    }

    /// Takes in the sockets that other processes have connected to the target. A socket that is
    /// older than the pin of `grant` and complies with it is held to it from now on, or ends by
    /// itself if its process has closed it. One that does not comply is closed. `left_alone` are
    /// not touched.
    ///
    /// Afterwards `pin` knows the connections as the kernel has them. Returns why a connection was
    /// closed, if one was.
    ///
    /// # Errors
    ///
    /// The kernel cannot be asked for its sockets.
    pub async fn take_in(
        &self,
        id: &SessionId,
        pin: &SessionPin,
        grant: &Grant,
        slot: &PinSlot,
        left_alone: &[EarlierConnection],
    ) -> anyhow::Result<Option<String>> {
        let sockets = self.without_ended(pin, grant.target).await?;
        let known = pin.connections().borrow().clone();
        let is_held = |socket: &&DiagSocket| known.open.get(&socket.cookie()).is_some_and(|known| known.slot == *slot);
        let news: Vec<_> = sockets.iter().filter(|socket| !is_held(socket)).collect();
        let (mut closed, mut has_taken_in) = (None, false);
        if news.is_empty() {
            return Ok(closed);
        }
        let holders = holders_of(&self.inspector, news.iter().copied()).await?;
        for socket in news {
            let holder = holders.get(&socket.inode).copied();
            if holder.is_some_and(|holder| holder.process == std::process::id()) || is_among(left_alone, socket) {
                continue;
            }
            let complies = self.complies(socket, &grant.resolved).await;
            let held = match holder {
                Some(holder) if complies => self.hold(socket, holder, grant, slot).await,
                // Its process has closed it, and it ends within its interface. A reset would cross
                // the station's FIN, and the kernel answers that one by any interface.
                None if complies && socket.device != 0 => continue,
                _ => Err(io::ErrorKind::NotFound.into()),
            };
            match held {
                Ok(connection) => {
                    info!(
                        session = %id,
                        "took in the connection from {} to {} of process {}, which is older than the pin",
                        connection.local, connection.remote, connection.process
                    );
                    pin.record_open(socket.cookie(), connection);
                    self.pins.set_holds_earlier();
                    has_taken_in = true;
                }
                Err(error) => {
                    let why = if complies {
                        format!("it was there before its pin, and cannot be held to it: {error}")
                    } else {
                        why_not_compliant(socket, &grant.resolved)
                    };
                    closed = self.close(&format!("session {id}"), socket, holder, &why).await.or(closed);
                }
            }
        }
        if has_taken_in {
            // One that ended while it was taken in was reported before it was known.
            self.without_ended(pin, grant.target).await?;
        }
        Ok(closed)
    }

    /// Returns the sockets that are connected to the target. Of the connections that `pin` knows,
    /// those of other processes that the kernel does not have any more are recorded as ended.
    async fn without_ended(&self, pin: &SessionPin, target: PinTarget) -> anyhow::Result<Vec<DiagSocket>> {
        // Before the kernel is asked: its answer lacks what is established meanwhile.
        let known = pin.connections().borrow().clone();
        let sockets = self.connected_to(target).await?;
        for (&cookie, connection) in &known.open {
            if !connection.own && !sockets.iter().any(|socket| socket.cookie() == cookie) {
                pin.record_end(cookie);
            }
        }
        Ok(sockets)
    }

    /// Closes the connections of other processes under a slot of an earlier bmpd to which no key
    /// leads any more. They could send nothing once the slot is freed.
    pub(super) async fn close_under(&self, slot: &PinSlot, target: PinTarget) {
        let closed = async {
            let sockets = blocking(move || diag::connections_of(&target)).await?;
            for CopiedSocket { socket, holder, copy } in copies(&self.inspector, sockets).await? {
                if self.pins.datapath().is_under(&copy, slot)? {
                    let of = format!("station {} port {}", target.station.ip(), target.station.port());
                    let why = "no session has the pin any more that an earlier bmpd held it to";
                    self.close(&of, &socket, Some(holder), why).await;
                }
            }
            anyhow::Ok(())
        };
        if let Err(error) = closed.await {
            warn!("connections to {} are not closed whose session is no more: {error:#}", target.station);
        }
    }

    /// Closes the sockets that other processes have connected to the target, except those under the
    /// slot `but` and those that are `left_alone`.
    ///
    /// # Errors
    ///
    /// The kernel cannot be asked for its sockets.
    pub async fn close_all(
        &self,
        id: &SessionId,
        pin: &SessionPin,
        target: PinTarget,
        but: Option<&PinSlot>,
        left_alone: &[EarlierConnection],
        why: &str,
    ) -> anyhow::Result<()> {
        let sockets = self.connected_to(target).await?;
        let known = pin.connections().borrow().clone();
        let holders = holders_of(&self.inspector, &sockets).await?;
        for socket in &sockets {
            let holder = holders.get(&socket.inode).copied();
            let is_kept = known.open.get(&socket.cookie()).is_some_and(|known| Some(&known.slot) == but);
            let is_foreign = holder.is_none_or(|holder| holder.process != std::process::id());
            if !is_kept && is_foreign && !is_among(left_alone, socket) {
                self.close(&format!("session {id}"), socket, holder, why).await;
            }
        }
        Ok(())
    }

    /// Moves the connections under one slot to another, bmpd's own and those of other processes.
    /// They stay connected.
    ///
    /// # Errors
    ///
    /// The kernel cannot be asked for its sockets, or does not let one be moved.
    pub(super) async fn move_all(
        &self,
        pin: &SessionPin,
        target: PinTarget,
        from: &PinSlot,
        to: &PinSlot,
    ) -> anyhow::Result<()> {
        for CopiedSocket { socket, copy, .. } in copies(&self.inspector, self.connected_to(target).await?).await? {
            if self.pins.datapath().retag(&copy, from, to)? {
                pin.record_move(socket.cookie(), to);
            }
        }
        Ok(())
    }

    async fn connected_to(&self, target: PinTarget) -> anyhow::Result<Vec<DiagSocket>> {
        let all = blocking(move || diag::connections_of(&target)).await;
        let all = all.context("cannot ask the kernel for its TCP sockets (sock_diag)")?;
        Ok(all.into_iter().filter(|socket| self.vrf_of(socket) == target.vrf).collect())
    }

    /// Returns the interface index of a socket's VRF device; 0 is the default VRF.
    fn vrf_of(&self, socket: &DiagSocket) -> u32 {
        let host = self.host.borrow();
        host.links.get(&socket.device).and_then(|link| host.vrf_of(link)).unwrap_or(0)
    }

    /// True if a socket that nothing holds complies with the pin: it has the source, and its
    /// packets leave by an interface of the pin.
    async fn complies(&self, socket: &DiagSocket, resolved: &ResolvedPin) -> bool {
        if resolved.source.is_some_and(|source| source != socket.local().ip()) {
            return false;
        }
        let is_allowed =
            |index: u32| resolved.device.iter().chain(&resolved.egress).any(|interface| interface.index == index);
        if socket.device != 0 {
            // Only sockets of the session's VRF come here.
            return resolved.egress.is_empty() || is_allowed(socket.device);
        }
        if resolved.egress.is_empty() {
            return true;
        }
        let route = self.routes.route_to(socket.remote().ip(), 0, Some(socket.local().ip())).await;
        matches!(route, Ok(Some(route)) if is_allowed(route.oif))
    }

    /// Puts a socket under a slot and binds it as the pin says.
    async fn hold(
        &self,
        socket: &DiagSocket,
        holder: SocketHolder,
        grant: &Grant,
        slot: &PinSlot,
    ) -> io::Result<KernelConnection> {
        let copy = socket_of(&self.inspector, holder, socket.cookie()).await?;
        // The mark comes before the tag: under the tag, packets without the mark are dropped.
        if grant.mark != 0 {
            SockRef::from(&copy).set_mark(grant.mark)?;
        }
        if let Some(device) = &grant.resolved.device
            && socket.device == 0
        {
            sys::bind_to_interface(&copy, device.index)?;
        }
        let process = holder.process;
        let tagged = self.pins.datapath().tag(&copy, slot, SocketOwner::Process(process));
        tagged.map_err(|error| io::Error::other(format!("{error:#}")))?;
        Ok(KernelConnection {
            local: socket.local(),
            remote: socket.remote(),
            own: false,
            process,
            taken_in: true,
            since: Instant::now(),
            slot: slot.clone(),
        })
    }

    /// Closes a socket. Logs and returns which connection of which process that was, and why.
    async fn close(&self, of: &str, socket: &DiagSocket, holder: Option<SocketHolder>, why: &str) -> Option<String> {
        let (local, remote) = (socket.local(), socket.remote());
        let closing = socket.clone();
        let closed = match (blocking(move || diag::destroy(&closing)).await, holder) {
            // A kernel without CONFIG_INET_DIAG_DESTROY: do what the process itself could do.
            (Err(error), Some(holder)) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                socket_of(&self.inspector, holder, socket.cookie()).await.and_then(|copy| shut_down(&copy))
            }
            (closed, _) => closed,
        };
        match closed {
            Ok(()) => {
                let Some(SocketHolder { process, .. }) = holder else {
                    debug!(of = %of, "closed the connection from {local} to {remote}, which no process had any more: {why}");
                    return None;
                };
                let name = name_of(process).unwrap_or_else(|| Untrusted::new("process"));
                let said = format!("closed the connection from {local} to {remote} of {name} ({process}): {why}");
                info!(of = %of, "{said}");
                Some(said)
            }
            Err(error) => {
                warn!(of = %of, "cannot close the connection from {local} to {remote}: {error}");
                None
            }
        }
    }
}

fn is_among(connections: &[EarlierConnection], socket: &DiagSocket) -> bool {
    connections.iter().any(|connection| connection.cookie == socket.cookie())
}

/// Says why a socket that is older than the pin does not comply with it.
fn why_not_compliant(socket: &DiagSocket, resolved: &ResolvedPin) -> String {
    match resolved.source.filter(|source| *source != socket.local().ip()) {
        Some(source) => format!("it was there before its pin, and does not come from {source}"),
        None => {
            let names: Vec<_> = resolved.egress.iter().map(|interface| interface.name.as_str()).collect();
            format!("it was there before its pin, and does not leave by {}", names.join(" or "))
        }
    }
}

/// Ends both directions of another process's connection. To the process it looks as if the far end
/// had closed.
fn shut_down(copy: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    if unsafe { libc::shutdown(copy.as_raw_fd(), libc::SHUT_RDWR) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
