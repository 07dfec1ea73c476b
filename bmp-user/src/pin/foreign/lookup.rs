//! Sockets with their holders, looked up where that holds nobody up.

use std::{collections::HashMap, io, os::fd::OwnedFd};

use anyhow::Context as _;

use super::{
    diag::DiagSocket,
    holder::{self, SocketHolder},
};
use crate::{sandbox::ApartThread, tasks};

/// A socket, the process that holds it, and a descriptor of bmpd's own for it.
pub(super) struct CopiedSocket {
    pub(super) socket: DiagSocket,
    pub(super) holder: SocketHolder,
    pub(super) copy: OwnedFd,
}

/// Returns the holders of these sockets, by inode.
///
/// # Errors
///
/// The runtime ends meanwhile.
pub(super) async fn holders_of<'a>(
    inspector: &ApartThread,
    sockets: impl IntoIterator<Item = &'a DiagSocket>,
) -> io::Result<HashMap<u32, SocketHolder>> {
    // A socket without a holder has no inode.
    let inodes: Vec<_> = sockets.into_iter().map(|socket| socket.inode).filter(|&inode| inode != 0).collect();
    if inodes.is_empty() {
        return Ok(HashMap::new());
    }
    inspector.run(move || holder::holders(&inodes)).await
}

/// Returns a descriptor of bmpd's own for another process's socket; see [`holder::socket_of`].
pub(super) async fn socket_of(inspector: &ApartThread, holder: SocketHolder, cookie: u64) -> io::Result<OwnedFd> {
    inspector.run(move || holder::socket_of(holder, cookie)).await?
}

/// Returns a descriptor for each socket that a process holds. A socket without a holder only says
/// farewell, and its slot lingers long enough for that.
///
/// # Errors
///
/// bmpd may not take a descriptor.
pub(super) async fn copies(inspector: &ApartThread, sockets: Vec<DiagSocket>) -> anyhow::Result<Vec<CopiedSocket>> {
    let holders = holders_of(inspector, &sockets).await?;
    let mut copies = Vec::new();
    for socket in sockets {
        let Some(&holder) = holders.get(&socket.inode) else { continue };
        match socket_of(inspector, holder, socket.cookie()).await {
            Ok(copy) => copies.push(CopiedSocket { socket, holder, copy }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("cannot take hold of a connection"),
        }
    }
    Ok(copies)
}

/// Runs work that waits for the kernel on a thread where waiting is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tasks::blocking(work).await?
}
