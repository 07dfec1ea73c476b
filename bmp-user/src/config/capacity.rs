//! The number of sessions that a configuration may have. The kernel tables limit it.

use super::model::Config;

/// A configuration has more sessions than bmpd has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} sessions are configured (a BGP peer counts once for each end that may connect), and the kernel tables have room for {room}: \
     start bmpd with --sessions {wanted}"
)]
pub struct TooManySessions {
    /// Sessions of the configuration.
    pub wanted: usize,
    /// Sessions that there is room for.
    pub room: usize,
}

impl Config {
    /// Returns how many entries of the kernel tables the configuration needs: one for each
    /// `bmp-session`, and one for each end that may open a BGP peer's connection.
    pub fn session_count(&self) -> usize {
        let peers = self.bgp.iter().flat_map(|bgp| {
            let listens = usize::from(bgp.listen_port.is_some());
            bgp.peers.values().map(move |peer| usize::from(!peer.listen_only) + listens)
        });
        self.bmp.sessions.len() + peers.sum::<usize>()
    }

    /// Checks that there is room for all its sessions.
    ///
    /// # Errors
    ///
    /// There is no room for all of them.
    pub fn check_room(&self, room: usize) -> Result<(), TooManySessions> {
        match self.session_count() {
            wanted if wanted > room => Err(TooManySessions { wanted, room }),
            _ => Ok(()),
        }
    }
}
