//! The two ways to use a netlink socket: to ask, and to be told.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};

use rtnetlink::{
    MulticastGroup,
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkMessage},
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::timeout,
};

use super::message::{self, Message};

/// Larger than any datagram the kernel sends in answer: `NLMSG_GOODSIZE` and dumps end at 32 KiB.
pub(super) const ANSWER_MAX: usize = 64 * 1024;
/// The kernel answers while it takes the request, so this is for a kernel that never does.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Datagrams read at one go, so that whoever floods the socket does not keep the task from its other work.
const DRAIN_MAX: usize = 4096;

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// In full.
    Whole,
    /// The tables changed meanwhile (`NLM_F_DUMP_INTR`): something may be missing, or be there twice.
    Interrupted,
}

/// A socket that asks. One request at a time; a request dropped before its answer came does no harm to the next.
pub(super) struct Client {
    socket: AsyncFd<Socket>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) fn open() -> io::Result<Self> {
        Self::with_socket(Socket::new(NETLINK_ROUTE)?)
    }

    pub(super) fn with_socket(mut socket: Socket) -> io::Result<Self> {
        socket.set_non_blocking(true)?;
        // Makes a dump of addresses heed the interface index. Kernels before 4.20 do not know it and send all.
        let _ = socket.set_netlink_get_strict_chk(true);
        socket.bind_auto()?;
        Ok(Self {
            socket: register(socket, Interest::READABLE | Interest::WRITABLE)?,
            sequence: 0,
            buffer: Vec::with_capacity(ANSWER_MAX),
        })
    }

    /// Asks for one object and calls `each` with the payload of the answer.
    ///
    /// An error the kernel answers with is an [`io::Error`] that has the [`raw_os_error`](io::Error::raw_os_error).
    pub(super) async fn get(&mut self, request: RouteNetlinkMessage, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.ask(request, NLM_F_REQUEST, each).await.map(|_| ())
    }

    /// Asks for all objects and calls `each` with the payload of every one. Errors as for [`Self::get`].
    pub(super) async fn dump(&mut self, request: RouteNetlinkMessage, each: impl FnMut(&[u8])) -> io::Result<Answer> {
        self.ask(request, NLM_F_REQUEST | NLM_F_DUMP, each).await
    }

    /// Has the kernel change something. `flags` are those of `NLM_F_CREATE` and its like. Errors as for [`Self::get`].
    pub(super) async fn change(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(request, NLM_F_REQUEST | NLM_F_ACK | flags, |_| {}).await.map(|_| ())
    }

    async fn ask(&mut self, request: RouteNetlinkMessage, flags: u16, each: impl FnMut(&[u8])) -> io::Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(request);
        request.header.flags = flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);

        let kernel = SocketAddr::new(0, 0);
        self.socket.async_io(Interest::WRITABLE, |socket| socket.send_to(&bytes, &kernel, 0)).await?;
        timeout(ANSWER_TIME, self.answer(each)).await?
    }

    async fn answer(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<Answer> {
        let mut interrupted = false;
        loop {
            self.buffer.clear();
            let buffer = &mut self.buffer;
            let (len, _) =
                self.socket.async_io(Interest::READABLE, |socket| socket.recv_from(buffer, libc::MSG_TRUNC)).await?;
            if len > self.buffer.len() {
                return Err(io::Error::other(format!("a netlink answer of {len} bytes is longer than any should be")));
            }
            for Message { kind, flags, payload, .. } in
                message::messages(&self.buffer).filter(|message| message.sequence == self.sequence)
            {
                interrupted |= flags & NLM_F_DUMP_INTR != 0;
                let end = matches!(kind, NLMSG_ERROR | NLMSG_DONE);
                if end {
                    let error = message::error_number(payload);
                    if error != 0 {
                        return Err(io::Error::from_raw_os_error(error));
                    }
                } else {
                    each(payload);
                }
                if end || flags & NLM_F_MULTIPART == 0 {
                    return Ok(if interrupted { Answer::Interrupted } else { Answer::Whole });
                }
            }
        }
    }
}

/// What came in since the socket was last drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drained {
    /// Anything at all.
    pub(super) any: bool,
    /// Something was lost: the receive buffer was full.
    pub(super) overrun: bool,
}

/// A socket that is told.
pub(super) struct Listener {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
}

impl Listener {
    /// Subscribes to `groups`. Of each datagram only `heed` bytes are read. The receive buffer is `receive_buffer` bytes as
    /// socket(7) counts them, or what `net.core.rmem_max` lets an unprivileged process have of that.
    pub(super) fn open(groups: &[MulticastGroup], receive_buffer: usize, heed: usize) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        set_receive_buffer(&socket, receive_buffer)?;
        socket.bind_auto()?;
        for &group in groups {
            socket.add_membership(group as u32)?;
        }
        let socket = register(socket, Interest::READABLE)?;
        Ok(Self { socket, buffer: Vec::with_capacity(heed) })
    }

    /// Waits until there is something to [`drain`](Self::drain).
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(drop)
    }

    /// Reads what is there, without waiting, and calls `each` with every message.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<Drained> {
        let mut drained = Drained::default();
        for _ in 0..DRAIN_MAX {
            self.buffer.clear();
            let buffer = &mut self.buffer;
            match self.socket.try_io(Interest::READABLE, |socket| socket.recv(buffer, 0)) {
                Ok(_) => {
                    drained.any = true;
                    message::messages(&self.buffer).for_each(&mut each);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    drained = Drained { any: true, overrun: true };
                }
                Err(error) => return Err(error),
            }
        }
        Ok(drained)
    }
}

fn register(socket: Socket, interest: Interest) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` has one open descriptor from its making to its drop, and nothing here takes it away.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}

fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    let size = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    match set_integer(socket.as_raw_fd(), libc::SO_RCVBUFFORCE, size) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => socket.set_rx_buf_sz(size),
        done => done,
    }
}

fn set_integer(socket: RawFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` lives through the call and is as long as the length given with it.
    let result = unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, option, (&raw const value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
