//! bmpctl's end of the control socket.

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

use super::protocol::{CommandAnswer, Request, Response};
use crate::sys;

/// The account that root makes for bmpd.
const ACCOUNT: &str = "bmpd";

/// How long bmpd may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// No bmpd is there: none serves the control socket, or the one that did has ended.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoDaemon(String);

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
    /// [`NoDaemon`] if nobody serves the path. Also if this user may not use it. Also if its server
    /// is run by neither root nor [`ACCOUNT`] nor this user: bmpctl sends secrets there, and
    /// believes the answers.
    pub fn connect(path: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let what = format!("no bmpd serves {}: start it, or name its socket with --control", path.display());
                anyhow::Error::new(error).context(NoDaemon(what))
            }
            // The socket of a bmpd that was killed.
            ErrorKind::ConnectionRefused => {
                anyhow::Error::new(error).context(NoDaemon(format!("no bmpd serves {} any more", path.display())))
            }
            _ => anyhow::Error::new(error).context(format!("cannot reach bmpd at {}", path.display())),
        })?;
        let user = sys::peer_user(&stream).with_context(|| format!("cannot see who serves {}", path.display()))?;
        if !is_trusted(user, sys::user(), || sys::user_named(ACCOUNT).map(|(user, _)| user)) {
            bail!(
                "{} is served by user {user}: bmpctl speaks to a bmpd of root's, of the user `{ACCOUNT}` or of your own (user {}) alone",
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
    /// [`NoDaemon`] if bmpd has ended. Also if it does not answer in time, or does not speak bmpd's
    /// language.
    pub fn ask(&mut self, request: &Request) -> anyhow::Result<Response> {
        self.ask_telling(request, |_| Ok(()))
    }

    /// Sends one request and waits for its answer. `tell` gets the notices that come before the
    /// answer.
    ///
    /// # Errors
    ///
    /// See [`Self::ask`]; also the errors of `tell`.
    pub fn ask_telling(
        &mut self,
        request: &Request,
        mut tell: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Response> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        loop {
            let response = self.exchange(&std::mem::take(&mut line))?;
            match &response.answer {
                CommandAnswer::Notice(text) => tell(text)?,
                _ => return Ok(response),
            }
        }
    }

    /// Sends the line, unless it is empty, and reads one line.
    fn exchange(&mut self, line: &[u8]) -> anyhow::Result<Response> {
        let path = self.path.display();
        let mut answer = Vec::new();
        let mut exchange = |answer: &mut Vec<u8>| -> io::Result<usize> {
            let asked = self.stream.get_mut().write_all(line);
            match (self.stream.read_until(b'\n', answer), asked) {
                // A bmpd that has refused the connection may have closed it by now. Its answer
                // counts.
                (Ok(read), _) if read > 0 => Ok(read),
                (_, Err(error)) => Err(error),
                (read, Ok(())) => read,
            }
        };
        // Pass on the words of an error, not the error: `main` takes a broken pipe for a reader of
        // the output that has gone.
        match exchange(&mut answer) {
            Ok(0) => {
                bail!(NoDaemon(format!("bmpd at {path} closed the connection without an answer: it has ended")))
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("bmpd at {path} does not answer within {} s: {error}", PATIENCE.as_secs())
            }
            Err(error) => {
                bail!(NoDaemon(format!("bmpd at {path} closed the connection without an answer: {error}")))
            }
        }
        serde_json::from_slice(&answer).with_context(|| format!("what {path} answers is not bmpd's language"))
    }
}

/// Returns true if user `own` believes a bmpd of `user`. `account` looks up the user id of
/// [`ACCOUNT`].
fn is_trusted(user: u32, own: u32, account: impl FnOnce() -> Option<u32>) -> bool {
    user == 0 || user == own || account() == Some(user)
}

/// Sends one request to the bmpd behind `path` and waits for its answer.
///
/// # Errors
///
/// See [`Client::connect`] and [`Client::ask`].
pub fn ask(path: &Path, request: &Request) -> anyhow::Result<Response> {
    Client::connect(path)?.ask(request)
}

/// News for the operator, over a connection of its own.
#[derive(Debug)]
pub struct Notices {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Notices {
    /// Follows the notices of the bmpd behind `path`.
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

    /// Returns the descriptor that is readable when a notice has come.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }

    /// Returns the next notice, if it has come. Never blocks.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn take(&mut self) -> io::Result<Option<String>> {
        match self.stream.read_until(b'\n', &mut self.line) {
            Ok(_) if self.line.ends_with(b"\n") => {
                let line = std::mem::take(&mut self.line);
                match serde_json::from_slice(&line) {
                    Ok(Response { answer: CommandAnswer::Notice(text), .. }) => Ok(Some(text)),
                    // bmpd sends nothing else here.
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
    fn bmpctl_believes_a_bmpd_of_root_of_its_account_or_of_its_own_user_alone() {
        let pairs = [(0, 0), (0, 1000), (1000, 1000), (1000, 0), (65534, 1000), (990, 0), (990, 1000)];
        let trusted = pairs.map(|(user, own)| is_trusted(user, own, || Some(990)));
        assert_eq!(trusted, [true, true, true, false, false, true, true]);
        assert!(!is_trusted(990, 1000, || None));
    }
}
