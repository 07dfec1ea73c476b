//! Connections of other processes that are older than a session's pin. No program saw them connect,
//! so nothing holds them to the pin.
//!
//! bmpd shows them and leaves them alone. Those of an adopted session are the business of its own
//! task ([`ForeignSockets::take_in`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    sync::Arc,
};

use tracing::{info, warn};

use super::{
    ForeignSockets,
    diag::{self, DiagSocket},
    holder::{self, SocketHolder, name_of},
    lookup::{blocking, holders_of, socket_of},
};
use crate::{
    escape::Untrusted,
    pin::{
        earlier_connection::EarlierConnection,
        kernel::{PinTarget, Role},
        plan::Pinned,
        view::SessionPin,
    },
};

/// With more ports than these, one request asks the kernel for all connections. With fewer, there
/// is one request a port.
const PORTS: usize = 4;

/// A session to look for.
pub(in crate::pin) struct EarlierSearch {
    pub(in crate::pin) pinned: Pinned,
    pub(in crate::pin) target: PinTarget,
    pub(in crate::pin) pin: Arc<SessionPin>,
}

impl ForeignSockets {
    /// Looks for connections to these sessions' stations that nothing holds, publishes them with
    /// the pins, and logs the new ones.
    pub(in crate::pin) async fn look_for_earlier(&self, searches: &[EarlierSearch]) {
        if searches.is_empty() || !self.pins.datapath().enforcement().is_by_programs() {
            return;
        }
        let mut found = match self.find_earlier(searches).await {
            Ok(found) => found,
            Err(error) => {
                warn!("cannot look for connections that are older than their session's pin: {error:#}");
                return;
            }
        };
        for (number, EarlierSearch { pinned, pin, .. }) in searches.iter().enumerate() {
            let earlier = found.remove(&number).unwrap_or_default();
            let known = pin.earlier_connections();
            let is_known = |one: &&EarlierConnection| known.iter().any(|known| known.cookie == one.cookie);
            for one in earlier.iter().filter(|one| !is_known(one)) {
                warn!(of = %pinned, "{one}");
            }
            if !known.is_empty() && earlier.is_empty() {
                info!(of = %pinned, "no connection from before the pin is left");
            }
            pin.publish(|view| view.earlier_connections = earlier.into());
        }
    }

    /// Returns the connections by the number of their search.
    async fn find_earlier(
        &self,
        searches: &[EarlierSearch],
    ) -> anyhow::Result<BTreeMap<usize, Vec<EarlierConnection>>> {
        let ports: BTreeSet<_> = searches.iter().map(|search| search.target.station.port()).collect();
        let ports = if ports.len() > PORTS { BTreeSet::from([0]) } else { ports };
        let sockets = blocking(move || {
            let own = own_inodes();
            let mut all = Vec::new();
            for port in ports {
                all.extend(diag::connections(Role::Connect, port)?.into_iter().filter(|one| !own.contains(&one.inode)));
            }
            Ok(all)
        });
        let sockets = sockets.await?;
        let numbers: BTreeMap<_, _> = searches
            .iter()
            .enumerate()
            .map(|(number, search)| ((search.target.vrf, search.target.station), number))
            .collect();
        let number = |socket: &DiagSocket| numbers.get(&(self.vrf_of(socket), socket.remote())).copied();
        // A socket without an inode has no holder any more and only says farewell.
        let held: Vec<_> = sockets.iter().filter(|socket| socket.inode != 0).collect();
        let held: Vec<_> = held.into_iter().filter_map(|socket| Some((number(socket)?, socket))).collect();
        let holders = holders_of(&self.inspector, held.iter().map(|(_, socket)| *socket)).await?;
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for (number, socket) in held {
            let Some(&holder) = holders.get(&socket.inode) else { continue };
            let cookie = socket.cookie();
            let is_known = searches.get(number).is_some_and(|search| search.pin.has_connection(cookie));
            if is_known || self.is_pinned(holder, cookie).await {
                continue;
            }
            let process = holder.process;
            found.entry(number).or_default().push(EarlierConnection {
                process,
                name: name_of(process).unwrap_or_else(|| Untrusted::new("a process")),
                local: socket.local(),
                remote: socket.remote(),
                cookie,
            });
        }
        Ok(found)
    }

    /// True if a slot holds a process's socket, or the socket is gone.
    async fn is_pinned(&self, holder: SocketHolder, cookie: u64) -> bool {
        match socket_of(&self.inspector, holder, cookie).await {
            Ok(copy) => self.pins.datapath().is_held(&copy).unwrap_or(false),
            // A socket that bmpd may not inspect counts as not held.
            Err(error) => matches!(error.kind(), ErrorKind::NotFound) || error.raw_os_error() == Some(libc::ESRCH),
        }
    }
}

/// Returns the inodes of this process's sockets.
fn own_inodes() -> BTreeSet<u32> {
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    descriptors.filter_map(|descriptor| holder::inode_of(&descriptor.path())).collect()
}
