//! Opening the connection: source first, then the station.

use std::{io, time::Duration};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    config::Session,
    pin::{Datapath, Grant, Reason},
    sys,
};

/// How long the station has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What may wait unsent in the kernel: enough to keep a fast link busy between two writes, little enough that what a slow
/// station gets is not old.
const NOT_SENT_LOW_WATER: u32 = 256 * 1024;

/// An idle connection is probed, so that a vanished host is noticed without traffic.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) why: String,
}

/// Connects to the station from the granted source.
pub(super) async fn connect(grant: &Grant, datapath: &Datapath, session: &Session) -> Result<TcpStream, Refusal> {
    let socket = open(grant, datapath, session)?;
    let station = grant.far_end();
    let socket = TcpSocket::from_std_stream(socket.into());
    match tokio::time::timeout(TIMEOUT, socket.connect(station)).await {
        Ok(Ok(stream)) => match datapath.confirm(&stream, &grant.target) {
            Ok(()) => Ok(stream),
            Err(error) => Err(Refusal { reason: Reason::EgressDenied, why: format!("{error:#}") }),
        },
        // The source and the station do not go together, as the kernel sees it.
        Ok(Err(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
            let source = grant.resolved.source.map_or("the source".to_owned(), |source| source.to_string());
            let why = format!("the kernel sends nothing from {source} to {station} ({error})");
            Err(Refusal { reason: Reason::NoRoute, why })
        }
        Ok(Err(error)) => {
            let reason = Reason::of(&error, Reason::ConnectTimeout);
            Err(Refusal { reason, why: format!("connect to {station}: {error}") })
        }
        Err(_) => {
            let why = format!("{station} did not answer within {} s", TIMEOUT.as_secs());
            Err(Refusal { reason: Reason::ConnectTimeout, why })
        }
    }
}

fn open(grant: &Grant, datapath: &Datapath, session: &Session) -> Result<Socket, Refusal> {
    let refusal = |step: String| {
        move |error: io::Error| Refusal {
            reason: Reason::of(&error, Reason::NotPermitted),
            why: format!("{step}: {error}"),
        }
    };
    let domain = Domain::for_address(grant.target.station);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(refusal("open a socket".to_owned()))?;
    socket.set_nonblocking(true).and_then(|()| tune(&socket)).map_err(refusal("set socket options".to_owned()))?;
    as_configured(&socket, session).map_err(refusal("set what is configured of the connection".to_owned()))?;
    if let Some(secret) = &session.password {
        sys::set_md5_secret(&socket, grant.target.station, secret.reveal())
            .map_err(refusal("sign with TCP MD5, which the kernel must be built with".to_owned()))?;
    }
    grant.bind(&socket, datapath).map_err(|unbound| Refusal {
        reason: Reason::of(&unbound.error, Reason::NotPermitted),
        why: unbound.to_string(),
    })?;
    Ok(socket)
}

/// What every session's socket is set to, whoever opened the connection.
pub(super) fn tune(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES),
    )?;
    sys::set_not_sent_low_water(socket, NOT_SENT_LOW_WATER)
}

/// `keepalive`, `dscp` and `tcp mss`.
pub(super) fn as_configured(socket: &Socket, session: &Session) -> io::Result<()> {
    match session.keepalive {
        None => {}
        Some(Duration::ZERO) => socket.set_keepalive(false)?,
        Some(idle) => socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?,
    }
    if let Some(mss) = session.mss {
        sys::set_maximum_segment(socket, mss)?;
    }
    if let Some(dscp) = session.dscp {
        // The upper six bits of the octet (RFC 2474 §3).
        let class = u32::from(dscp) << 2;
        if socket.domain()? == Domain::IPV6 { socket.set_tclass_v6(class)? } else { socket.set_tos_v4(class)? }
    }
    Ok(())
}
