//! The other end of the control socket.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};

use super::{Request, Response};

/// How long bmpd has for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends one command to the bmpd behind `path` and waits for its answer.
pub fn ask(path: &Path, request: &Request) -> anyhow::Result<Response> {
    let mut stream = UnixStream::connect(path).with_context(|| match path.try_exists() {
        Ok(false) => format!("no bmpd serves {}: start it, or name its socket with --control", path.display()),
        _ => format!("cannot reach bmpd at {}", path.display()),
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut answer = Vec::new();
    let mut exchange = |answer: &mut Vec<u8>| {
        stream.write_all(&line)?;
        BufReader::new(&stream).read_until(b'\n', answer)
    };
    exchange(&mut answer)
        .with_context(|| format!("bmpd at {} does not answer within {} s", path.display(), PATIENCE.as_secs()))?;
    if answer.is_empty() {
        bail!(
            "bmpd at {} closed the connection without an answer: {}",
            path.display(),
            std::io::Error::from(ErrorKind::UnexpectedEof)
        );
    }
    serde_json::from_slice(&answer).with_context(|| format!("what {} answers is not bmpd's language", path.display()))
}
