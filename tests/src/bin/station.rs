//! `station ADDRESS PORT`: a monitoring station that prints the messages in plain words.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::Context;
use bytes::BytesMut;
use clap::Parser;
use lab::bmp::{self, ReceivedFrame};

/// A BMP monitoring station: accepts connections and prints what it receives.
#[derive(Parser)]
struct StationArguments {
    /// Address to listen on
    address: IpAddr,
    /// TCP port to listen on
    port: u16,
}

fn main() -> anyhow::Result<()> {
    let arguments = StationArguments::parse();
    let address = SocketAddr::from((arguments.address, arguments.port));
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    say(&format!("station: listening on {address}"))?;
    loop {
        let (stream, peer) = listener.accept().context("cannot accept a connection")?;
        thread::spawn(move || {
            // Fails only once nobody reads stdout, and then no work is left.
            let _ = listen_to(stream, peer);
        });
    }
}

fn listen_to(mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    say(&format!("{peer}: connected"))?;
    let (mut unread, mut frames, mut unprinted) = (BytesMut::new(), Vec::new(), UnprintedRoutes::default());
    let mut buffer = vec![0; 64 << 10];
    let end = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break "closed the connection".to_owned(),
            Ok(n) => unread.extend_from_slice(&buffer[..n]),
            Err(e) => break format!("lost the connection: {e}"),
        }
        let result = bmp::split(&mut unread, &mut frames);
        for frame in frames.drain(..) {
            if let Some(words) = unprinted.hear(&frame) {
                say(&format!("{peer}: {words}"))?;
            }
        }
        // One line for all routes of one read.
        if let Some(words) = unprinted.routes() {
            say(&format!("{peer}: {words}"))?;
        }
        if let Err(why) = result {
            break format!("does not speak BMP: {why}");
        }
    };
    say(&format!("{peer}: {end}"))
}

/// Received routes that are not printed yet.
#[derive(Default)]
struct UnprintedRoutes {
    messages: usize,
    announced: usize,
    withdrawn: usize,
    total: usize,
}

impl UnprintedRoutes {
    /// Returns the line for a message that has one of its own.
    fn hear(&mut self, frame: &ReceivedFrame) -> Option<String> {
        let peer = frame.peer().map(|peer| peer.to_string()).unwrap_or_default();
        Some(match frame.kind() {
            bmp::ROUTE_MONITORING => {
                let update = frame.update().unwrap_or_default();
                if update.is_end_of_rib {
                    return Some(format!("End-of-RIB of peer {peer}"));
                }
                self.messages += 1;
                self.announced += update.announced.len();
                self.withdrawn += update.withdrawn.len();
                return None;
            }
            bmp::STATISTICS_REPORT => format!("Statistics Report of peer {peer}"),
            bmp::PEER_DOWN => format!("Peer Down {peer}, reason {}", frame.body().first().copied().unwrap_or_default()),
            bmp::PEER_UP => format!("Peer Up {peer}"),
            bmp::INITIATION => format!("Initiation{}", information(frame.body())),
            bmp::TERMINATION => "Termination".to_owned(),
            bmp::ROUTE_MIRRORING => format!("Route Mirroring of peer {peer}"),
            kind => format!("message of unknown type {kind}"),
        })
    }

    fn routes(&mut self) -> Option<String> {
        if self.messages == 0 {
            return None;
        }
        self.total += self.announced;
        let Self { messages, announced, withdrawn, total } = std::mem::take(self);
        self.total = total;
        Some(format!(
            "{messages} Route Monitoring messages: {announced} IPv4 routes announced, {withdrawn} withdrawn, {total} announced since the start"
        ))
    }
}

/// Returns the texts of an Initiation's TLVs (RFC 7854 §4.4).
fn information(mut tlvs: &[u8]) -> String {
    let mut words = String::new();
    while let Some((&[kind_high, kind, high, low], rest)) = tlvs.split_first_chunk::<4>() {
        let Some((value, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))) else { break };
        let name = match (kind_high, kind) {
            (0, 1) => "sysDescr",
            (0, 2) => "sysName",
            _ => "note",
        };
        words += &format!(", {name} \"{}\"", String::from_utf8_lossy(value).escape_debug());
        tlvs = rest;
    }
    words
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}
