//! The other end of the control socket.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};

use super::protocol::{Outcome, Request, Response};
use crate::sys;

/// How long bmpd has for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to bmpd: one operator's view and candidate.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the bmpd behind `path`.
    ///
    /// # Errors
    ///
    /// Nobody serves the path, it is not ours to use, or who serves it is neither root nor this user: secrets are sent there, and what
    /// comes back is believed.
    pub fn connect(path: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| match path.try_exists() {
            Ok(false) => format!("no bmpd serves {}: start it, or name its socket with --control", path.display()),
            _ => format!("cannot reach bmpd at {}", path.display()),
        })?;
        let user = sys::peer_user(&stream).with_context(|| format!("cannot see who serves {}", path.display()))?;
        if !is_trusted(user, sys::user()) {
            bail!(
                "{} is served by user {user}: bmpctl speaks to a bmpd of root's or of your own (user {}) alone",
                path.display(),
                sys::user()
            );
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) })
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    ///
    /// The connection is lost, or what answers is not bmpd.
    pub fn ask(&mut self, request: &Request) -> anyhow::Result<Response> {
        self.ask_telling(request, |_| Ok(()))
    }

    /// The same. What bmpd says before the answer, because that takes a moment, is told at once.
    ///
    /// # Errors
    ///
    /// See [`Self::ask`]; or what `tell` fails with.
    pub fn ask_telling(
        &mut self,
        request: &Request,
        mut tell: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Response> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        loop {
            let response = self.exchange(&std::mem::take(&mut line))?;
            match &response.outcome {
                Outcome::Notice(text) => tell(text)?,
                _ => return Ok(response),
            }
        }
    }

    /// Sends this, if it is anything, and reads one line.
    fn exchange(&mut self, line: &[u8]) -> anyhow::Result<Response> {
        let path = self.path.display();
        let mut answer = Vec::new();
        let mut exchange = |answer: &mut Vec<u8>| -> io::Result<usize> {
            let asked = self.stream.get_mut().write_all(line);
            match (self.stream.read_until(b'\n', answer), asked) {
                // A bmpd that has refused the connection may have closed it by now: what it said counts.
                (Ok(read), _) if read > 0 => Ok(read),
                (_, Err(error)) => Err(error),
                (read, Ok(())) => read,
            }
        };
        // The words of an error alone, not the error: a pipe that is broken here is no output that nobody reads any more.
        match exchange(&mut answer) {
            Ok(0) => bail!("bmpd at {path} closed the connection without an answer: it has ended"),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("bmpd at {path} does not answer within {} s: {error}", PATIENCE.as_secs())
            }
            Err(error) => bail!("bmpd at {path} closed the connection without an answer: {error}"),
        }
        serde_json::from_slice(&answer).with_context(|| format!("what {path} answers is not bmpd's language"))
    }
}

/// Whether a bmpd of this user is one that `own` believes.
fn is_trusted(user: u32, own: u32) -> bool {
    user == 0 || user == own
}

/// Sends one request to the bmpd behind `path` and waits for its answer.
///
/// # Errors
///
/// See [`Client::connect`] and [`Client::ask`].
pub fn ask(path: &Path, request: &Request) -> anyhow::Result<Response> {
    Client::connect(path)?.ask(request)
}

/// What operators are told while they do something else, over a connection of its own.
#[derive(Debug)]
pub struct Notices {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Notices {
    /// Asks the bmpd behind `path` for them.
    ///
    /// # Errors
    ///
    /// See [`Client::connect`].
    pub fn follow(path: &Path) -> anyhow::Result<Self> {
        let Client { mut stream, .. } = Client::connect(path)?;
        let mut request = serde_json::to_vec(&Request { follow: true, ..Request::default() })?;
        request.push(b'\n');
        stream.get_mut().write_all(&request)?;
        stream.get_ref().set_nonblocking(true)?;
        Ok(Self { stream, line: Vec::new() })
    }

    /// What can be read when there is one.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }

    /// The next one, if it is there by now.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn take(&mut self) -> io::Result<Option<String>> {
        match self.stream.read_until(b'\n', &mut self.line) {
            Ok(_) if self.line.ends_with(b"\n") => {
                let line = std::mem::take(&mut self.line);
                match serde_json::from_slice(&line) {
                    Ok(Response { outcome: Outcome::Notice(text), .. }) => Ok(Some(text)),
                    // Nothing else is told here.
                    _ => Ok(None),
                }
            }
            Ok(_) => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_and_ones_own_bmpd_are_believed_and_nobody_elses() {
        let told = [(0, 0), (0, 1000), (1000, 1000), (1000, 0), (65534, 1000)].map(|(user, own)| is_trusted(user, own));
        assert_eq!(told, [true, true, true, false, false]);
    }
}
