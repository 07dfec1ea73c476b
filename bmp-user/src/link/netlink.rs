//! The two uses of a netlink socket: requests and notifications.

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

use super::message::{self, RawMessage};

/// The buffer for an answer, in bytes. The kernel sends datagrams of at most 32 KiB.
pub(super) const ANSWER_MAX: usize = 64 * 1024;
/// Time for an answer. The kernel answers within the request, so only a broken kernel needs longer.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Datagrams read in one turn, so that a flood leaves the task time for other work.
const DRAIN_MAX: usize = 4096;

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

/// Whether an answer is consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The answer is complete.
    Whole,
    /// The tables changed during the dump (`NLM_F_DUMP_INTR`). Entries may be missing or doubled.
    Interrupted,
}

/// A netlink socket for requests, one at a time. Dropping a request before its answer does not
/// disturb the next one.
pub(super) struct NetlinkClient {
    socket: AsyncFd<Socket>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl NetlinkClient {
    pub(super) fn open() -> io::Result<Self> {
        Self::with_socket(Socket::new(NETLINK_ROUTE)?)
    }

    pub(super) fn with_socket(mut socket: Socket) -> io::Result<Self> {
        socket.set_non_blocking(true)?;
        // Makes a dump of addresses respect the interface index. Kernels before 4.20 lack the
        // option and send all.
        let _ = socket.set_netlink_get_strict_chk(true);
        socket.bind_auto()?;
        Ok(Self {
            socket: register(socket, Interest::READABLE | Interest::WRITABLE)?,
            sequence: 0,
            buffer: Vec::with_capacity(ANSWER_MAX),
        })
    }

    /// Requests one object and calls `each` with the payload of the answer.
    ///
    /// # Errors
    ///
    /// Fails if the socket fails or the kernel answers with an error. The latter has a
    /// [`raw_os_error`](io::Error::raw_os_error).
    pub(super) async fn get(&mut self, request: RouteNetlinkMessage, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.ask(request, NLM_F_REQUEST, each).await.map(|_| ())
    }

    /// Requests all objects and calls `each` with the payload of every answer. Errors as for
    /// [`Self::get`].
    pub(super) async fn dump(&mut self, request: RouteNetlinkMessage, each: impl FnMut(&[u8])) -> io::Result<Answer> {
        self.ask(request, NLM_F_REQUEST | NLM_F_DUMP, each).await
    }

    /// Requests a change. `flags` are `NLM_F_CREATE`, `NLM_F_EXCL` and the like. Errors as for
    /// [`Self::get`].
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
                return Err(io::Error::other(format!(
                    "a netlink answer of {len} bytes exceeds the limit of {ANSWER_MAX} bytes"
                )));
            }
            for RawMessage { kind, flags, payload, .. } in
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

/// The result of draining a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drained {
    /// True if any notification arrived.
    pub(super) any: bool,
    /// True if notifications were lost because the receive buffer was full.
    pub(super) overrun: bool,
}

/// A netlink socket for notifications.
pub(super) struct NetlinkListener {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
}

impl NetlinkListener {
    /// Subscribes to `groups`. Only the first `heed` bytes of each datagram are read. The receive
    /// buffer has `receive_buffer` bytes, as socket(7) counts them. Without privilege,
    /// `net.core.rmem_max` limits it.
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

    /// Waits until there are notifications to [`drain`](Self::drain).
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(drop)
    }

    /// Reads the notifications that have arrived and calls `each` with every message. Never blocks.
    pub(super) fn drain(&mut self, mut each: impl FnMut(RawMessage<'_>)) -> io::Result<Drained> {
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
    // SAFETY: a `Socket` owns one open descriptor for its whole life.
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
    // SAFETY: `value` outlives the call, and its size is passed.
    let result = unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, option, (&raw const value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
