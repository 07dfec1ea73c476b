//! A listening TCP socket for clients of any kind, and what mends one that cannot be had.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::sys;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

/// Listens at `address`, bound to the interface of index `device` if there is one.
///
/// # Errors
///
/// The kernel refuses it. [`remedy`] says what to do.
pub(crate) fn listen(address: SocketAddr, device: Option<u32>) -> io::Result<TcpListener> {
    listen_prepared(address, device, |_| Ok(()))
}

/// Does the same, with a socket that is prepared before anybody can connect to it.
///
/// # Errors
///
/// As for [`listen`], or the preparation fails.
pub(crate) fn listen_prepared(
    address: SocketAddr,
    device: Option<u32>,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // An IPv6 address means IPv6 alone, even the unspecified one.
        socket.set_only_v6(true)?;
    }
    if let Some(device) = device {
        sys::bind_to_interface(&socket, device)?;
    }
    // Connections of an earlier listener in TIME_WAIT must not hold the port.
    socket.set_reuse_address(true)?;
    prepare(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Returns what mends an error of [`listen`]. `owner` is who listens, `setting` the command that
/// says where.
pub(crate) fn remedy(error: &io::Error, owner: &str, setting: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("another program listens there; stop it, or give {owner} another port"),
        io::ErrorKind::AddrNotAvailable => {
            format!("the address is not on this host; add it, or give {owner} another one")
        }
        io::ErrorKind::PermissionDenied => "a port below 1024 takes root or CAP_NET_BIND_SERVICE".to_owned(),
        _ => format!("see {setting}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_taken_port_and_an_absent_address_have_a_remedy() {
        let held = listen((Ipv4Addr::LOCALHOST, 0).into(), None).unwrap();
        let taken = listen(held.local_addr().unwrap(), None).unwrap_err();
        assert!(remedy(&taken, "the relay", "").contains("or give the relay another port"), "{taken}");
        // An address of the documentation (RFC 5737) is on no host.
        let absent = listen((Ipv4Addr::new(203, 0, 113, 77), 0).into(), None).unwrap_err();
        assert!(remedy(&absent, "the relay", "").contains("is not on this host"), "{absent}");
    }
}
