//! Connections of other processes that were there before a session's pin. No program has seen them connect, so that nothing holds them to it.
//! bmpd leaves them alone, unless their session is adopted, and says that they are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::ErrorKind,
    net::SocketAddr,
    sync::Arc,
};

use tracing::{info, warn};

use super::{Foreign, TcpSocket, blocking, diag, name_of, owner, owners_of};
use crate::{
    escape::Untrusted,
    pin::{Pinned, Role, SessionPin, Target},
};

/// With more ports than these the kernel is asked once for all connections, and else once for each port.
const PORTS: usize = 4;

/// A connection that goes where a pin is about, and is not held to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheld {
    /// Id of the process that has it.
    pub process: u32,
    /// What that process calls itself.
    pub name: Untrusted,
    /// This host's end.
    pub local: SocketAddr,
    /// The station's end.
    pub remote: SocketAddr,
    pub(in crate::pin) cookie: u64,
}

/// Who has it, and what closes it.
impl fmt::Display for Unheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, name, local, remote, .. } = self;
        write!(
            f,
            "{name} ({process}) was connected from {local} to {remote} before the pin was in force: that connection is neither held to \
             it nor counted (`ss --kill src {local} dst {remote}` closes it)"
        )
    }
}

/// One session to look for.
pub(in crate::pin) type Wanted = (Pinned, Target, Arc<SessionPin>);

impl Foreign {
    /// Looks for connections to these sessions' stations that are not held, notes them with the sessions, and logs those that are new.
    pub(in crate::pin) async fn look_for_unheld(&self, wanted: &[Wanted]) {
        if wanted.is_empty() || !self.pins.datapath().enforcement().is_by_programs() {
            return;
        }
        let mut found = match self.find_unheld(wanted).await {
            Ok(found) => found,
            Err(error) => {
                warn!("connections that were there before their session's pin are not found: {error:#}");
                return;
            }
        };
        for (at, (id, _, pin)) in wanted.iter().enumerate() {
            let unheld = found.remove(&at).unwrap_or_default();
            let known = pin.unheld();
            let is_known = |one: &&Unheld| known.iter().any(|known| known.cookie == one.cookie);
            for one in unheld.iter().filter(|one| !is_known(one)) {
                warn!(of = %id, "{one}");
            }
            if !known.is_empty() && unheld.is_empty() {
                info!(of = %id, "no connection from before the pin is left");
            }
            pin.set_unheld(unheld);
        }
    }

    /// By their places in `wanted`.
    async fn find_unheld(&self, wanted: &[Wanted]) -> anyhow::Result<BTreeMap<usize, Vec<Unheld>>> {
        let ports: BTreeSet<_> = wanted.iter().map(|(_, target, _)| target.station.port()).collect();
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
        let places: BTreeMap<_, _> =
            wanted.iter().enumerate().map(|(at, (_, target, _))| ((target.vrf, target.station), at)).collect();
        let place = |socket: &TcpSocket| places.get(&(self.vrf_of(socket), socket.remote())).copied();
        // One that nobody has any more only says farewell.
        let there: Vec<_> = sockets.iter().filter(|socket| socket.inode != 0).collect();
        let there: Vec<_> = there.into_iter().filter_map(|socket| Some((place(socket)?, socket))).collect();
        let owners = owners_of(there.iter().map(|(_, socket)| *socket)).await?;
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for (at, socket) in there {
            let Some(&owner) = owners.get(&socket.inode) else { continue };
            let cookie = socket.cookie();
            let is_known = wanted[at].2.connections().borrow().open.contains_key(&cookie);
            if is_known || self.is_held(owner, cookie) {
                continue;
            }
            let process = owner.process;
            found.entry(at).or_default().push(Unheld {
                process,
                name: name_of(process).unwrap_or_else(|| Untrusted::new("a process")),
                local: socket.local(),
                remote: socket.remote(),
                cookie,
            });
        }
        Ok(found)
    }

    /// Whether a process's socket is under a slot, or gone.
    fn is_held(&self, owner: owner::Owner, cookie: u64) -> bool {
        match owner::socket_of(owner, cookie) {
            Ok(copy) => self.pins.datapath().is_held(&copy).unwrap_or(false),
            // What bmpd may not look at may go where it likes.
            Err(error) => matches!(error.kind(), ErrorKind::NotFound) || error.raw_os_error() == Some(libc::ESRCH),
        }
    }
}

/// The sockets of this process.
fn own_inodes() -> BTreeSet<u32> {
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    descriptors.filter_map(|descriptor| owner::inode_of(&descriptor.path())).collect()
}
