//! TCP sockets as sock_diag(7) reports them: found, closed, and watched until they are gone.
//!
//! Everything here belongs to the network namespace of the calling thread. Functions wait for the
//! kernel in place, so call them where waiting is allowed.

use std::{io, net::SocketAddr, time::Duration};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, SockDiagDestroy, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
};
use netlink_sys::{
    AsyncSocket as _, AsyncSocketExt as _, Socket, SocketAddr as KernelAddr, TokioSocket, protocols::NETLINK_SOCK_DIAG,
};
use socket2::SockRef;

use crate::pin::kernel::{PinTarget, Role};

/// `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY` (linux/sock_diag.h).
const DESTROYED_GROUPS: [u32; 2] = [1, 3];

/// Larger than any answer of the kernel, in bytes: a dump's datagram has 32 KiB at most.
const ANSWER_MAX: usize = 64 * 1024;

/// Time for a datagram of an answer. The kernel answers within the request, so only a broken kernel
/// needs longer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// One TCP socket with a far end.
#[derive(Clone, Debug)]
pub(super) struct DiagSocket {
    id: SocketId,
    family: u8,
    /// Number of its inode, as in /proc/PID/fd of its holders; 0 when no process holds it any more.
    pub(super) inode: u32,
    /// Interface index that it is bound to; 0 is none.
    pub(super) device: u32,
}

impl DiagSocket {
    fn new(header: InetResponseHeader) -> Self {
        Self { device: header.socket_id.interface_id, id: header.socket_id, family: header.family, inode: header.inode }
    }

    /// Returns `SO_COOKIE`.
    pub(super) fn cookie(&self) -> u64 {
        let [a, b, c, d, e, f, g, h] = self.id.cookie;
        // Two words, the lower one first, each in host order (linux/inet_diag.h, `idiag_cookie`).
        u64::from(u32::from_ne_bytes([e, f, g, h])) << 32 | u64::from(u32::from_ne_bytes([a, b, c, d]))
    }

    /// Returns this host's end. An IPv4-mapped address is an IPv4 one.
    pub(super) fn local(&self) -> SocketAddr {
        SocketAddr::new(self.id.source_address.to_canonical(), self.id.source_port)
    }

    /// Returns the far end. An IPv4-mapped address is an IPv4 one.
    pub(super) fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.id.destination_address.to_canonical(), self.id.destination_port)
    }
}

/// Returns the TCP sockets of these connections, established or about to be, in any VRF. IPv6
/// sockets with IPv4-mapped addresses are among them.
pub(super) fn connections_of(target: &PinTarget) -> io::Result<Vec<DiagSocket>> {
    let station = SocketAddr::new(target.station.ip().to_canonical(), target.station.port());
    let mut found = connections(target.role, station.port())?;
    found.retain(|socket| {
        let port = match target.role {
            Role::Connect => socket.remote().port(),
            Role::Listen => socket.local().port(),
        };
        (socket.remote().ip(), port) == (station.ip(), station.port())
    });
    Ok(found)
}

/// Returns the TCP sockets of all connections with this port: at the far end or, for
/// [`Role::Listen`], at this host. Port 0 is any.
pub(super) fn connections(role: Role, port: u16) -> io::Result<Vec<DiagSocket>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
        // The kernel compares the ports and ignores the addresses.
        match role {
            Role::Connect => id.destination_port = port,
            Role::Listen => id.source_port = port,
        }
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all() - StateFlags::LISTEN - StateFlags::TIME_WAIT - StateFlags::CLOSE,
            socket_id: id,
        };
        ask(SockDiagMessage::InetRequest(request), NLM_F_REQUEST | NLM_F_DUMP, |header| {
            found.push(DiagSocket::new(header));
        })?;
    }
    Ok(found)
}

/// Returns the user who has a TCP socket of this host, by its own end and its far end.
///
/// # Errors
///
/// The socket does not exist or its program has closed it, or the kernel does not answer.
pub(crate) fn user_of(own: SocketAddr, far: SocketAddr) -> io::Result<u32> {
    users_of(own, far, NLM_F_ACK)?.first().copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Returns the same for a socket that may be bound to an interface. It looks at all TCP sockets:
/// the kernel finds no such socket by its ends.
///
/// # Errors
///
/// Like [`user_of`]. Sockets of several users, in several VRFs, have these ends.
pub(crate) fn user_of_bound(own: SocketAddr, far: SocketAddr) -> io::Result<u32> {
    match users_of(own, far, NLM_F_DUMP)?[..] {
        [user, ref others @ ..] if others.iter().all(|other| *other == user) => Ok(user),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn users_of(own: SocketAddr, far: SocketAddr, flag: u16) -> io::Result<Vec<u32>> {
    let (own_ip, far_ip) = (own.ip().to_canonical(), far.ip().to_canonical());
    let (family, mut id) =
        if own_ip.is_ipv4() { (AF_INET, SocketId::new_v4()) } else { (AF_INET6, SocketId::new_v6()) };
    (id.source_address, id.source_port) = (own_ip, own.port());
    (id.destination_address, id.destination_port) = (far_ip, far.port());
    // `INET_DIAG_NOCOOKIE`: the ends identify the socket.
    id.cookie = [0xff; 8];
    let mut users = Vec::new();
    // A dump has IPv4-mapped sockets among those of IPv6.
    let families = if flag == NLM_F_DUMP { &[AF_INET, AF_INET6][..] } else { &[family][..] };
    for &family in families {
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: id.clone(),
        };
        ask(SockDiagMessage::InetRequest(request), NLM_F_REQUEST | flag, |header| {
            // A socket that its program has closed has no inode, and root for its user
            // (`sock_i_uid` in net/core/sock.c).
            let (inode, user) = (header.inode, header.uid);
            let found = DiagSocket::new(header);
            // In a dump the kernel compares the ports and ignores the addresses.
            let ends = (found.local(), found.remote());
            let wanted = (SocketAddr::new(own_ip, own.port()), SocketAddr::new(far_ip, far.port()));
            if inode != 0 && ends == wanted {
                users.push(user);
            }
        })?;
    }
    Ok(users)
}

/// Closes a socket of any process: the process gets `ECONNABORTED`, the far end a reset. A socket
/// that is gone already is no error.
///
/// # Errors
///
/// `EOPNOTSUPP`: the kernel was built without `CONFIG_INET_DIAG_DESTROY`.
pub(super) fn destroy(socket: &DiagSocket) -> io::Result<()> {
    let request = InetRequest {
        family: socket.family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: socket.id.clone(),
    };
    let request = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
    match ask(request, NLM_F_REQUEST | NLM_F_ACK, |_| {}) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done,
    }
}

/// Sends one request, and calls `each` with every socket of the answer.
fn ask(request: impl NetlinkSerializable, flags: u16, mut each: impl FnMut(InetResponseHeader)) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut netlink = Socket::new(NETLINK_SOCK_DIAG)?;
    netlink.bind_auto()?;
    SockRef::from(&netlink).set_read_timeout(Some(ANSWER_TIME))?;
    netlink.send_to(&bytes, &KernelAddr::new(0, 0), 0)?;
    let mut buffer = Vec::with_capacity(ANSWER_MAX);
    loop {
        buffer.clear();
        netlink.recv(&mut buffer, 0)?;
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => {
                    return match error.code {
                        None => Ok(()),
                        Some(_) => Err(error.to_io()),
                    };
                }
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => each(response.header),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// Reports every TCP socket of the namespace that is destroyed.
pub(in crate::pin) struct DestroyedSockets {
    socket: TokioSocket,
    buffer: bytes::BytesMut,
}

impl DestroyedSockets {
    pub(in crate::pin) fn watch() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_SOCK_DIAG)?;
        socket.socket_mut().bind_auto()?;
        for group in DESTROYED_GROUPS {
            socket.socket_mut().add_membership(group)?;
        }
        Ok(Self { socket, buffer: bytes::BytesMut::with_capacity(ANSWER_MAX) })
    }

    /// Returns the cookies of the next destroyed sockets; `None` where reports were lost.
    pub(in crate::pin) async fn next(&mut self) -> io::Result<Option<Vec<u64>>> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer).await {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut cookies = Vec::new();
        let mut rest = self.buffer.as_ref();
        while !rest.is_empty() {
            let Ok(message) = NetlinkMessage::<SockDiagMessage>::deserialize(rest) else { return Ok(None) };
            let length = (message.header.length as usize).next_multiple_of(4);
            if let NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) = message.payload {
                cookies.push(DiagSocket::new(response.header).cookie());
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(Some(cookies))
    }
}

impl std::fmt::Debug for DestroyedSockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destroyed").finish_non_exhaustive()
    }
}
