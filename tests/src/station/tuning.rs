//! Options of a station's sockets.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
};

use socket2::{Domain, Socket, Type};

use crate::{
    sockets::sign_with_md5,
    tcp_ao::{FarKey, add_key},
};

/// Options of the sockets of a station.
#[derive(Debug, Default)]
pub(super) struct ListenerTuning {
    pub(super) receive_buffer: Option<usize>,
    /// Router and key of TCP MD5.
    pub(super) secret: Option<(IpAddr, String)>,
    /// Router and keys of TCP-AO.
    pub(super) keys: Option<(IpAddr, Vec<FarKey<'static>>)>,
}

impl ListenerTuning {
    /// Gives a socket that is not connected the keys of TCP-AO.
    pub(super) fn sign(&self, socket: &Socket) {
        if let Some((router, keys)) = &self.keys {
            for key in keys {
                add_key(socket, *router, *key);
            }
        }
    }

    pub(super) fn listener(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some((router, secret)) = &self.secret {
            sign_with_md5(&socket, *router, secret);
        }
        self.sign(&socket);
        socket.bind(&address.into())?;
        socket.listen(128)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }
}
