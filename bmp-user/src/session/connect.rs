//! Opens the connection to a station, from the granted source.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{io::AsyncWriteExt as _, net::TcpSocket};

use super::{steps::ConnectionSteps, transport::StationTransport};
use crate::{
    config::{Config, KeepaliveProbes, SessionConfig, SessionKeepalive},
    pin::{Datapath, DownCause, Grant, Reason, in_words},
    signing::ConnectionKeys,
    sys,
    tls::{TlsProfiles, TlsStream},
};

/// How long the station has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many bytes may wait unsent in the kernel. That is enough to keep a fast link busy between
/// two writes, and little enough that a slow station gets nothing old.
const NOT_SENT_LOW_WATER: u32 = 256 * 1024;

/// A connection to a station.
pub(super) struct StationConnection {
    pub(super) transport: StationTransport,
    /// The keys that sign it, if it has a key chain.
    pub(super) keys: Option<ConnectionKeys>,
}

/// Connects to the station from the granted source, and does the TLS handshake if the session has a
/// TLS profile. A `header` leaves before all else. `config` has the key chains and the profiles.
/// `steps` logs how far it is.
///
/// # Errors
///
/// Why there is no connection.
pub(super) async fn connect(
    grant: &Grant,
    datapath: &Datapath,
    (session, header): (&SessionConfig, Option<Bytes>),
    config: &Config,
    profiles: &TlsProfiles,
    steps: &ConnectionSteps,
) -> Result<StationConnection, DownCause> {
    // A session whose profile cannot be used sends no SYN.
    let profile = match &session.tls {
        Some(name) => Some(profiles.get(name, config).await.map_err(|error| error.cause())?),
        None => None,
    };
    steps.log(|| format!("attempt: {}", in_words(&grant.resolved)));
    let socket = open(grant, datapath, session)?;
    let station = grant.far_end();
    let keys = match &session.keychain {
        Some(chain) => {
            let keys = ConnectionKeys::install(&socket, station.ip(), chain, config);
            Some(keys.map_err(|error| error.cause())?)
        }
        None => None,
    };
    // Asks what the kernel has counted, when the attempt is over and its socket is gone.
    let witness = keys.as_ref().and_then(|_| socket.try_clone().ok());
    let socket = TcpSocket::from_std_stream(socket.into());
    steps.log(|| {
        let local = socket.local_addr().map_or_else(|error| error.to_string(), |local| local.to_string());
        format!("the socket is bound to {local}; connecting to {station}, for at most {} s", TIMEOUT.as_secs())
    });
    match tokio::time::timeout(TIMEOUT, socket.connect(station)).await {
        Ok(Ok(mut stream)) => match datapath.confirm(&stream, &grant.target) {
            Ok(()) => {
                steps.log(|| format!("connected to {station}, under its pin{}", tls_to_come(session)));
                if let Some(header) = header {
                    stream.write_all(&header).await.map_err(|error| no_header(&error, station))?;
                }
                let transport = match profile {
                    Some(profile) => {
                        let tls = TlsStream::connect(stream, &profile, station.ip()).await;
                        let tls = tls.and_then(TlsStream::in_kernel);
                        StationTransport::Tls(Box::new(tls.map_err(|error| error.cause())?))
                    }
                    None => StationTransport::Plain(stream),
                };
                Ok(StationConnection { transport, keys })
            }
            Err(error) => Err(DownCause::without_mend(Reason::EgressDenied, format!("{error:#}"))),
        },
        // The kernel cannot reach the station from this source.
        Ok(Err(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
            let source = grant.resolved.source.map_or("the source".to_owned(), |source| source.to_string());
            let why = format!("the kernel sends nothing from {source} to {station} ({error})");
            Err(DownCause::without_mend(Reason::NoRoute, why))
        }
        Ok(Err(error)) => Err(connect_failure(&error, station, session.local_port)),
        Err(_) => {
            let why = format!("{station} did not answer within {} s", TIMEOUT.as_secs());
            let cause = DownCause::without_mend(Reason::ConnectTimeout, why);
            Err(match (keys, witness) {
                (Some(keys), Some(witness)) => keys.explain(&witness, cause),
                _ => cause,
            })
        }
    }
}

/// Returns why a connection ends before the header of the PROXY protocol has left.
fn no_header(error: &io::Error, station: SocketAddr) -> DownCause {
    let why = format!("send the PROXY header to {station}: {error}");
    DownCause::without_mend(Reason::of(error, Reason::ConnectionReset), why)
}

/// Returns the end of the sentence that a session with TLS is not up yet.
fn tls_to_come(session: &SessionConfig) -> String {
    session.tls.as_ref().map(|profile| format!("; the TLS handshake by profile {profile} begins")).unwrap_or_default()
}

/// Returns why connect(2) failed.
fn connect_failure(error: &io::Error, station: SocketAddr, local_port: Option<u16>) -> DownCause {
    match (error.raw_os_error(), local_port) {
        // The kernel still has a connection with the same addresses and ports.
        (Some(libc::EADDRNOTAVAIL), Some(port)) => {
            let why = format!("an earlier connection from port {port} to {station} is not over yet ({error})");
            DownCause::without_mend(Reason::SourceConflict, why)
        }
        _ => {
            let reason = Reason::of(error, Reason::ConnectTimeout);
            DownCause::without_mend(reason, format!("connect to {station}: {error}"))
        }
    }
}

fn open(grant: &Grant, datapath: &Datapath, session: &SessionConfig) -> Result<Socket, DownCause> {
    let refused = |step: &'static str| {
        move |error: io::Error| {
            DownCause::without_mend(Reason::of(&error, Reason::NotPermitted), format!("{step}: {error}"))
        }
    };
    let domain = Domain::for_address(grant.target.station);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(refused("open a socket"))?;
    socket.set_nonblocking(true).and_then(|()| tune(&socket)).map_err(refused("set socket options"))?;
    apply_settings(&socket, session).map_err(refused("set keepalive, mss and dscp"))?;
    if let Some(secret) = &session.password {
        let secret = secret.reveal().map_err(refused("sign with TCP MD5"))?;
        sys::set_md5_secret(&socket, grant.target.station, secret)
            .map_err(refused("sign with TCP MD5, which the kernel must be built with"))?;
    }
    grant
        .bind(&socket, datapath, session.local_port)
        .map_err(|error| DownCause::without_mend(Reason::of(&error.error, Reason::NotPermitted), error.to_string()))?;
    Ok(socket)
}

/// Sets the options that every session's socket has, whoever opened the connection.
pub(super) fn tune(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    set_keepalive(socket, SessionConfig::KEEPALIVE)?;
    sys::set_not_sent_low_water(socket, NOT_SENT_LOW_WATER)
}

/// Applies `keepalive`, `dscp` and `tcp mss`.
pub(super) fn apply_settings(socket: &Socket, session: &SessionConfig) -> io::Result<()> {
    set_keepalive(socket, session.keepalive_in_force())?;
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

/// Sets when TCP probes the station, also on an open connection.
pub(super) fn set_keepalive(socket: &Socket, keepalive: SessionKeepalive) -> io::Result<()> {
    let KeepaliveProbes { interval, count } = keepalive.probes_in_force();
    match keepalive.idle {
        Duration::ZERO => socket.set_keepalive(false),
        idle => {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count))
        }
    }
}
