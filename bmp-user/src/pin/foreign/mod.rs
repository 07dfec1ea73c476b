//! Other processes' sockets that a session's pin is about: those that were connected before it was in force, and those that must
//! connect again because another is.

mod diag;
mod owner;
mod unheld;

use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use socket2::SockRef;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Connection, Grant, Owner, Pinned, Pins, Resolved, SessionPin, Slot, Target, led_astray};
use crate::{
    config::SessionId,
    escape::Untrusted,
    link::{Host, RouteLookup},
    sys, tasks,
};
pub(super) use diag::Destroyed;
use diag::TcpSocket;
pub(crate) use diag::user_of;
pub(crate) use owner::name_of;
pub use unheld::Unheld;
pub(super) use unheld::Wanted;

/// Finds, holds and closes other processes' sockets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Foreign {
    pins: Pins,
    routes: RouteLookup,
    host: watch::Receiver<Arc<Host>>,
}

impl Foreign {
    /// For the sockets of the network namespace that this process is in.
    pub fn new(pins: Pins, routes: RouteLookup, host: watch::Receiver<Arc<Host>>) -> Self {
        Self { pins, routes, host }
    }

    /// See [`led_astray`].
    pub(crate) async fn led_astray(&self, id: &Pinned, resolved: &Resolved) -> Option<String> {
        let host = Arc::clone(&self.host.borrow());
        led_astray(id, resolved, &host, &self.routes).await
    }

    /// Looks at the sockets that other processes have connected to the target. Those that were there before the pin of `grant` and
    /// keep to it are held to it from now on, as if they had been connected under it; those that do not are closed. Nothing is done to `left_alone`.
    ///
    /// What `pin` knows of connections is as the kernel has it when this returns. Says why, where one is closed.
    ///
    /// # Errors
    ///
    /// The kernel cannot be asked for its sockets.
    pub async fn take_in(
        &self,
        id: &SessionId,
        pin: &SessionPin,
        grant: &Grant,
        slot: &Slot,
        left_alone: &[Unheld],
    ) -> anyhow::Result<Option<String>> {
        let sockets = self.connected_to(grant.target).await?;
        let known = pin.connections().borrow().clone();
        for (&cookie, connection) in &known.open {
            if !connection.own && !sockets.iter().any(|socket| socket.cookie() == cookie) {
                pin.tell_gone(cookie);
            }
        }
        let is_held = |socket: &&TcpSocket| known.open.get(&socket.cookie()).is_some_and(|known| known.slot == *slot);
        let news: Vec<_> = sockets.iter().filter(|socket| !is_held(socket)).collect();
        let mut closed = None;
        if news.is_empty() {
            return Ok(closed);
        }
        let owners = owners_of(news.iter().copied()).await?;
        for socket in news {
            let owner = owners.get(&socket.inode).copied();
            if owner.is_some_and(|owner| owner.process == std::process::id()) || is_among(left_alone, socket) {
                continue;
            }
            let keeps = self.keeps(socket, &grant.resolved).await;
            let held = match owner {
                Some(owner) if keeps => self.hold(socket, owner, grant, slot),
                // Nobody has it any more: it is on its way out.
                _ => Err(io::ErrorKind::NotFound.into()),
            };
            match held {
                Ok(connection) => {
                    info!(
                        session = %id,
                        "took in the connection from {} to {} of process {}, which was there before",
                        connection.local, connection.remote, connection.process
                    );
                    pin.tell_open(socket.cookie(), connection);
                    self.pins.tell_late();
                }
                Err(error) => {
                    let why = match keeps {
                        true => format!("it was there before its pin, and cannot be held to it: {error}"),
                        false => strays(socket, &grant.resolved),
                    };
                    closed = self.close(&format!("session {id}"), socket, owner, &why).await.or(closed);
                }
            }
        }
        Ok(closed)
    }

    /// Closes what other processes have connected under a slot that an earlier bmpd left and to which no key leads any more: it could send nothing
    /// when the slot is gone.
    pub(super) async fn close_under(&self, slot: &Slot, target: Target) {
        let closed = async {
            let sockets = blocking(move || diag::connections_of(&target)).await?;
            for (socket, owner, copy) in copies(sockets).await? {
                if self.pins.datapath().is_under(&copy, slot)? {
                    let of = format!("station {} port {}", target.station.ip(), target.station.port());
                    let why = "no session has the pin any more that an earlier bmpd held it to";
                    self.close(&of, &socket, Some(owner), why).await;
                }
            }
            anyhow::Ok(())
        };
        if let Err(error) = closed.await {
            warn!("connections to {} are not closed whose session is no more: {error:#}", target.station);
        }
    }

    /// Closes the sockets that other processes have connected to the target, but those that are held to `but` and those that are `left_alone`.
    ///
    /// # Errors
    ///
    /// The kernel cannot be asked for its sockets.
    pub async fn close_all(
        &self,
        id: &SessionId,
        pin: &SessionPin,
        target: Target,
        but: Option<&Slot>,
        left_alone: &[Unheld],
        why: &str,
    ) -> anyhow::Result<()> {
        let sockets = self.connected_to(target).await?;
        let known = pin.connections().borrow().clone();
        let owners = owners_of(&sockets).await?;
        for socket in &sockets {
            let owner = owners.get(&socket.inode).copied();
            let held = known.open.get(&socket.cookie()).is_some_and(|known| Some(&known.slot) == but);
            let foreign = owner.is_none_or(|owner| owner.process != std::process::id());
            if !held && foreign && !is_among(left_alone, socket) {
                self.close(&format!("session {id}"), socket, owner, why).await;
            }
        }
        Ok(())
    }

    /// Moves the connections that are held to one slot to another, in place: bmpd's own and everybody else's.
    ///
    /// # Errors
    ///
    /// The kernel cannot be asked for its sockets, or does not let one be moved.
    pub(super) async fn move_all(
        &self,
        pin: &SessionPin,
        target: Target,
        from: &Slot,
        to: &Slot,
    ) -> anyhow::Result<()> {
        for (socket, _, copy) in copies(self.connected_to(target).await?).await? {
            if self.pins.datapath().retag(&copy, from, to)? {
                pin.tell_moved(socket.cookie(), to);
            }
        }
        Ok(())
    }

    async fn connected_to(&self, target: Target) -> anyhow::Result<Vec<TcpSocket>> {
        let all = blocking(move || diag::connections_of(&target)).await;
        let all = all.context("cannot ask the kernel for its TCP sockets (sock_diag)")?;
        Ok(all.into_iter().filter(|socket| self.vrf_of(socket) == target.vrf).collect())
    }

    /// Interface index of the VRF device; 0 is the default VRF.
    fn vrf_of(&self, socket: &TcpSocket) -> u32 {
        let host = self.host.borrow();
        host.links.get(&socket.device).and_then(|link| host.vrf_of(link)).unwrap_or(0)
    }

    /// Whether a socket that is not held to the pin does what it asks all the same: it has the source, and it is bound to what it may
    /// leave by, or is not bound and leaves by it now.
    async fn keeps(&self, socket: &TcpSocket, resolved: &Resolved) -> bool {
        if resolved.source.is_some_and(|source| source != socket.local().ip()) {
            return false;
        }
        let allowed = |index: u32| {
            let device = resolved.device.as_ref().map(|(device, _)| *device);
            device == Some(index) || resolved.egress.iter().any(|(egress, _)| *egress == index)
        };
        if socket.device != 0 {
            // Where the session may leave by any interface of its VRF, it may by each: sockets of other VRFs are not looked at.
            return resolved.egress.is_empty() || allowed(socket.device);
        }
        if resolved.egress.is_empty() {
            return true;
        }
        let route = self.routes.route_to(socket.remote().ip(), 0, Some(socket.local().ip())).await;
        matches!(route, Ok(Some(route)) if allowed(route.oif))
    }

    /// Puts a socket under a slot, bound as if it had been connected under it.
    fn hold(&self, socket: &TcpSocket, owner: owner::Owner, grant: &Grant, slot: &Slot) -> io::Result<Connection> {
        let copy = owner::socket_of(owner, socket.cookie())?;
        // Before the tag, under which packets without the mark are dropped.
        if grant.mark != 0 {
            SockRef::from(&copy).set_mark(grant.mark)?;
        }
        if let Some((device, _)) = &grant.resolved.device
            && socket.device == 0
        {
            sys::bind_to_interface(&copy, *device)?;
        }
        let process = owner.process;
        let tagged = self.pins.datapath().tag(&copy, slot, Owner::Process(process));
        tagged.map_err(|error| io::Error::other(format!("{error:#}")))?;
        Ok(Connection {
            local: socket.local(),
            remote: socket.remote(),
            own: false,
            process,
            since: Instant::now(),
            slot: slot.clone(),
        })
    }

    /// Says which connection of whom is closed, and why: in the log, and to the caller.
    async fn close(&self, of: &str, socket: &TcpSocket, owner: Option<owner::Owner>, why: &str) -> Option<String> {
        let (local, remote) = (socket.local(), socket.remote());
        let closing = socket.clone();
        let closed = blocking(move || match diag::destroy(&closing) {
            // A kernel without CONFIG_INET_DIAG_DESTROY: what its owner could do, we do with its socket.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => match owner {
                Some(owner) => shut_down(owner, closing.cookie()),
                None => Err(error),
            },
            done => done,
        });
        match closed.await {
            Ok(()) => {
                let Some(owner::Owner { process, .. }) = owner else {
                    debug!(of = %of, "closed the connection from {local} to {remote}, which nobody had any more: {why}");
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

fn is_among(unheld: &[Unheld], socket: &TcpSocket) -> bool {
    unheld.iter().any(|unheld| unheld.cookie == socket.cookie())
}

/// Why a socket that was there before the pin does not keep to it.
fn strays(socket: &TcpSocket, resolved: &Resolved) -> String {
    match resolved.source.filter(|source| *source != socket.local().ip()) {
        Some(source) => format!("it was there before its pin, and does not come from {source}"),
        None => {
            let names: Vec<_> = resolved.egress.iter().map(|(_, name)| name.as_str()).collect();
            format!("it was there before its pin, and does not leave by {}", names.join(" or "))
        }
    }
}

/// Ends both directions of another process's connection: it is told that the far end has closed.
fn shut_down(owner: owner::Owner, cookie: u64) -> io::Result<()> {
    let copy = owner::socket_of(owner, cookie)?;
    // SAFETY: the descriptor is open.
    if unsafe { libc::shutdown(copy.as_raw_fd(), libc::SHUT_RDWR) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Whose the sockets are, by inode.
async fn owners_of<'a>(sockets: impl IntoIterator<Item = &'a TcpSocket>) -> io::Result<HashMap<u32, owner::Owner>> {
    // A socket that nobody has any more has no inode.
    let inodes: Vec<_> = sockets.into_iter().map(|socket| socket.inode).filter(|&inode| inode != 0).collect();
    if inodes.is_empty() {
        return Ok(HashMap::new());
    }
    blocking(move || Ok(owner::owners(&inodes))).await
}

/// A hold of each socket that somebody has. One that nobody has any more only says farewell, for which its slot stays long enough.
async fn copies(sockets: Vec<TcpSocket>) -> anyhow::Result<Vec<(TcpSocket, owner::Owner, OwnedFd)>> {
    let owners = owners_of(&sockets).await?;
    let mut copies = Vec::new();
    for socket in sockets {
        let Some(&owner) = owners.get(&socket.inode) else { continue };
        match owner::socket_of(owner, socket.cookie()) {
            Ok(copy) => copies.push((socket, owner, copy)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("cannot take hold of a connection"),
        }
    }
    Ok(copies)
}

/// Waits for the kernel where that holds nobody up.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tasks::blocking(what).await?
}
