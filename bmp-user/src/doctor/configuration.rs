//! The configuration file: whether it can be read, and what this host would make of it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::Path,
};

use anyhow::Context as _;

use super::{DoctorFinding, Examined};
use crate::{
    config::{Config, Transport},
    control::{self, CheckedFile, Severity},
    link,
    pin::{self, Pinned, Reason, Room},
};

/// Reads the file, and adds what it found.
pub(super) fn load(
    path: Option<&Path>,
    state: Option<&Path>,
    room: Room,
    findings: &mut Vec<DoctorFinding>,
) -> Option<CheckedFile> {
    let Some(path) = path else {
        findings.push(DoctorFinding::skipped(Examined::Configuration, "no file is named (--config FILE)"));
        return None;
    };
    match CheckedFile::read(path, state, room.sessions()) {
        Ok(checked) => {
            findings.push(DoctorFinding::ok(Examined::Configuration, format!("{} can be read", path.display())));
            Some(checked)
        }
        Err(error) => {
            // The first line names the fault, the others show the place.
            let first = error.lines().next().unwrap_or_default();
            let check = format!("`bmpd check --config {}` shows each error", path.display());
            findings.push(DoctorFinding::problem(Examined::Configuration, first).mended_by(check));
            None
        }
    }
}

/// Returns what `bmpd check` warns of.
pub(super) fn warnings(checked: &CheckedFile) -> impl Iterator<Item = DoctorFinding> {
    checked.warnings.iter().map(|remark| DoctorFinding::warning(Examined::Configuration, remark.text.clone()))
}

/// Returns what would become of each session and BGP peer.
///
/// # Errors
///
/// The interfaces of this host cannot be read over netlink.
pub(super) async fn examine_pins(config: &Config) -> anyhow::Result<Vec<DoctorFinding>> {
    let (routes, host) = link::watch().await.context("cannot read this host's interfaces over netlink")?;
    let host = host.borrow().clone();
    let mut findings = Vec::new();
    for (pinned, outcome) in pin::forecast(config, &host, &routes).await {
        let examined = match pinned {
            Pinned::Session(_) => Examined::Session,
            Pinned::BgpPeer(..) => Examined::Peer,
        };
        findings.push(match outcome {
            Ok(resolved) => DoctorFinding::ok(examined, format!("{pinned}: {}", pin::in_words(&resolved))),
            Err(cause) if cause.reason == Reason::Shutdown => {
                DoctorFinding::skipped(examined, format!("{pinned}: {}", cause.why)).mended_by(cause.mend)
            }
            Err(cause) => {
                DoctorFinding::problem(examined, format!("{pinned} would be down: {}: {}", cause.reason, cause.why))
                    .mended_by(cause.mend)
            }
        });
    }
    let said = control::without_host(config);
    let remarks = control::on_host(config, &host, &routes).await;
    let remarks = remarks.into_iter().filter(|remark| remark.severity == Severity::Warning && !said.contains(remark));
    findings.extend(remarks.map(|remark| DoctorFinding::warning(Examined::Session, remark.text)));
    Ok(findings)
}

/// Returns the ports that bmpd is to listen on and cannot have.
pub(super) fn examine_ports(config: &Config) -> Vec<DoctorFinding> {
    let any = |station: IpAddr| match station {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let relays = config.relays.iter().filter_map(|(name, relay)| Some((format!("bmp-relay {name}"), relay.listen?)));
    let sessions = config.bmp.sessions.iter().filter_map(|(id, session)| match session.transport {
        Some(Transport::Listen(port)) if !session.shutdown && id.vpn_instance.is_none() => {
            Some((format!("session {id}"), SocketAddr::new(any(id.station), port)))
        }
        _ => None,
    });
    let peers = config.bgp.iter().filter_map(|bgp| bgp.listen_port).flat_map(|port| {
        [any(Ipv4Addr::UNSPECIFIED.into()), any(Ipv6Addr::UNSPECIFIED.into())]
            .map(|address| ("BGP peers".to_owned(), SocketAddr::new(address, port)))
    });
    relays.chain(sessions).chain(peers).filter_map(|(of, address)| port(&of, address)).collect()
}

/// Tries to listen, for a moment.
fn port(of: &str, address: SocketAddr) -> Option<DoctorFinding> {
    let error = TcpListener::bind(address).err()?;
    let finding = DoctorFinding::problem(Examined::Port, format!("{of} cannot listen on {address}: {error}"));
    Some(match error.kind() {
        io::ErrorKind::AddrInUse => {
            finding.mended_by(format!("`ss -ltnp sport = :{}` shows which process has it", address.port()))
        }
        io::ErrorKind::AddrNotAvailable => finding.mended_by("`ip address` shows the addresses of this host"),
        _ => finding,
    })
}
