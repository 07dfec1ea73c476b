//! A client of bmpd's HTTP server: one connection a request.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::{
    netns::Netns,
    wait::{PATIENCE, patience},
};

/// An answer.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// Status line and header fields, in lower case.
    pub head: String,
    /// The body, without the framing of chunks.
    pub body: String,
}

impl HttpAnswer {
    /// Returns the body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON: {error}: {}", self.body))
    }

    /// Returns the value of a metric with exactly these labels: `bmpd_session_up{station="…"}`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let lines = self.body.lines().filter_map(|line| line.rsplit_once(' '));
        lines.into_iter().find(|(name, _)| *name == series).and_then(|(_, value)| value.parse().ok())
    }
}

/// Returns the answer to `GET path`.
///
/// # Panics
/// If nobody answers.
pub fn get(netns: &Netns, server: SocketAddr, path: &str) -> HttpAnswer {
    request(netns, server, format!("GET {path} HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n").as_bytes())
        .unwrap_or_else(|error| panic!("GET {path} of {server}: {error}"))
}

/// Sends bytes and returns the answer.
///
/// # Errors
/// Nobody listens, or the connection breaks before an answer.
pub fn request(netns: &Netns, server: SocketAddr, bytes: &[u8]) -> std::io::Result<HttpAnswer> {
    let mut stream = connect(netns, server)?;
    // bmpd may have answered, and closed the connection, before it has read everything.
    let sent = stream.write_all(bytes);
    match read_answer(&mut stream) {
        Ok(answer) => Ok(answer),
        Err(error) => sent.and(Err(error)),
    }
}

/// Connects to the server.
///
/// # Errors
/// Nobody listens.
pub fn connect(netns: &Netns, server: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = netns.enter(|| TcpStream::connect_timeout(&server, Duration::from_secs(5)))?;
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    Ok(stream)
}

/// Reads until the server closes the connection, or to the end of what was read of it before.
///
/// # Errors
/// The connection breaks before the head is there.
pub fn read_answer(stream: &mut impl Read) -> std::io::Result<HttpAnswer> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        read?;
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let head = head.to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    Ok(HttpAnswer { status, head, body })
}

/// Joins the chunks of a body (RFC 9112 §7.1).
fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let (Some(chunk), Some(next)) = (rest.get(..size), rest.get(size + 2..)) else { break };
        if size == 0 {
            break;
        }
        text.push_str(chunk);
        body = next;
    }
    text
}
