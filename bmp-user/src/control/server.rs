//! The near end of the control socket.

use std::{
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
            net::UnixStream as StdUnixStream,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{broadcast::error::RecvError, mpsc},
    time::timeout,
};
use tracing::warn;

use super::{
    Context, LINE_MAX, Operator, Outcome, Request, Response,
    operator::Reply,
    pieces::{self, Make, PIECE, WAITING},
};
use crate::{
    config::Filter,
    exposure::{self, Exposed, Fault},
    sys,
    tasks::{self, Tasks},
    visitors::{Source, Visitors},
};

/// The control socket of this process. It is removed when this is dropped, and its folder too if this made it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    made_folder: Option<PathBuf>,
}

impl ControlSocket {
    /// Listens at `path`, mode 0660. The socket of a bmpd that is no more is replaced; one that is answered is an error, and so
    /// is anything else that stands there.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let mut made_folder = None;
        if let Some(folder) = path.parent()
            && !folder.as_os_str().is_empty()
            && !folder.exists()
        {
            fs::create_dir(folder)
                .with_context(|| format!("cannot make {} for the control socket", folder.display()))?;
            made_folder = Some(folder.to_owned());
        }
        let bound = keep_to_its_owner(path).and_then(|()| remove_stale(path)).and_then(|()| {
            let listener = UnixListener::bind(path)?;
            let_the_group_in(path)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Ok(Self { listener, path: path.to_owned(), made_folder }),
            Err(error) => {
                if let Some(folder) = made_folder {
                    // Only an empty one goes, which it is unless somebody else uses it by now.
                    let _ = fs::remove_dir(folder);
                }
                Err(error.context(format!("cannot open the control socket {}", path.display())))
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Nothing is lost if somebody else has removed them already.
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = &self.made_folder {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Refuses a folder in which another user could put a socket of theirs in the place of this one. In `/tmp` nobody can: of a folder with the
/// sticky bit only its owner and a file's owner take files away.
fn keep_to_its_owner(path: &Path) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let found = fs::metadata(folder)?;
    match exposure::fault_of(&found) {
        None => Ok(()),
        Some(Fault::Writable(mode)) if mode & libc::S_ISVTX != 0 => Ok(()),
        Some(fault) => {
            let exposed = Exposed { place: folder.to_owned(), fault };
            bail!("another user could replace it: {exposed}; to mend it: {}", exposed.mend())
        }
    }
}

/// Makes the socket's mode 0660; never that of something else that has come to stand there.
fn let_the_group_in(path: &Path) -> io::Result<()> {
    let socket = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let found = socket.metadata()?;
    if !found.file_type().is_socket() || found.uid() != sys::user() {
        return Err(io::Error::other("another user has replaced it"));
    }
    fs::set_permissions(format!("/proc/self/fd/{}", socket.as_raw_fd()), fs::Permissions::from_mode(0o660))
}

fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(found) if !found.file_type().is_socket() => bail!("something that is not a socket is there already"),
        Ok(_) => {}
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("another bmpd serves it: stop that one, or give this one a path of its own with --control"),
    }
}

/// Connections to the control socket at most, and those of one user.
const CLIENTS: usize = 64;
const OF_ONE_USER: usize = 32;
/// Refused clients that are told why at the same time.
const REFUSED: usize = 8;
/// How long a client may take for one piece of an answer, and for the whole of it.
const PIECE_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// How long a client that is refused has to ask something.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// Answers requests, each connection in a task of its own, for as long as it is polled.
pub async fn serve(socket: &ControlSocket, context: Context) {
    let mut failing = false;
    let (visitors, mut refused) = (Visitors::known(CLIENTS, OF_ONE_USER), Tasks::default());
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            Some(()) = refused.join_next(), if !refused.is_empty() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                let peer = stream.peer_cred().ok();
                let user = peer.map_or(u32::MAX, |peer| peer.uid());
                match visitors.admit(Source::User(user)) {
                    Ok(visitor) => {
                        let context = context.clone();
                        tasks::passing("control connection", async move {
                            let _visitor = visitor;
                            // A client that goes away in the middle is none of our business.
                            let operator = Operator::new(context.clone());
                            let operator = match peer {
                                Some(peer) => operator.at(user, peer.pid().and_then(|pid| pid.try_into().ok())),
                                None => operator,
                            };
                            if let Err(error) = answer(stream, &context, operator).await
                                && error.kind() == io::ErrorKind::TimedOut
                            {
                                warn!(
                                    client = user,
                                    "closed a connection of user {user} to the control socket: {error}"
                                );
                            }
                        });
                    }
                    Err(why) => {
                        warn!(client = user, "refused a connection of user {user} to the control socket: {why}");
                        if refused.len() < REFUSED {
                            let (why, operator) = (why.to_string(), Operator::new(context.clone()));
                            refused.passing("refusal", async move {
                                // One that does not ask is not told.
                                let _ = timeout(REFUSAL_TIME, refuse(stream, &operator, why)).await;
                            });
                        }
                    }
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!("control socket {} takes no connections for now: {error}", socket.path.display());
                }
                // Out of file descriptors, as a rule: it does not get better by asking at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Says why a connection is refused, to the one request that is waited for.
async fn refuse(mut stream: UnixStream, operator: &Operator, why: String) -> io::Result<()> {
    let mut waste = [0; 4096];
    let mut asked = false;
    while !asked {
        let read = stream.read(&mut waste).await?;
        asked = read == 0 || waste.get(..read).is_some_and(|read| read.contains(&b'\n'));
    }
    send(&mut stream, &operator.refuse(why)).await
}

async fn answer(stream: UnixStream, context: &Context, mut operator: Operator) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
        }
        let too_long = line.len() > LINE_MAX;
        let reply = if too_long {
            Reply::Whole(operator.refuse(format!("a request is one line of at most {LINE_MAX} bytes")))
        } else if let Some(answer) = fault(&line) {
            Reply::Whole(operator.refuse(answer))
        } else {
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) if request.follow => return tell(reader, writer, context, &operator).await,
                Ok(request) => operator.reply(&request).await,
                Err(error) => Reply::Whole(operator.refuse(format!("not a request: {error}"))),
            }
        };
        let sent = async {
            match reply {
                Reply::Whole(response) => send(&mut writer, &response).await,
                Reply::Pieces(make, filter, frame) => send_pieces(&mut writer, make, filter, &frame).await,
            }
        };
        timeout(ANSWER_TIME, sent).await.map_err(|_late| not_taken())??;
        if too_long {
            return Ok(());
        }
    }
}

/// Tells one operator what is told of trials, until the connection is closed at the other end.
async fn tell(
    mut reader: impl AsyncReadExt + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    context: &Context,
    operator: &Operator,
) -> io::Result<()> {
    let mut notices = context.store.notices();
    let mut more = [0];
    loop {
        let notice = tokio::select! {
            notice = notices.recv() => match notice {
                Ok(notice) => notice,
                // The oldest were dropped: what is the case by now follows.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            },
            // Nothing is asked here any more; what comes is the end.
            _ = reader.read(&mut more) => return Ok(()),
        };
        if notice.by.is_none() || notice.by != operator.process() {
            let answer = Response { outcome: Outcome::Notice(notice.text), ..operator.refuse(String::new()) };
            send(&mut writer, &answer).await?;
        }
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), response: &Response) -> io::Result<()> {
    let mut answer = serde_json::to_vec(response)?;
    answer.push(b'\n');
    for piece in answer.chunks(PIECE) {
        send_piece(writer, piece).await?;
    }
    Ok(())
}

/// Sends a response whose text is made as it is taken. `frame` is the response without it.
async fn send_pieces(
    writer: &mut (impl AsyncWrite + Unpin),
    make: Make,
    filter: Option<Filter>,
    frame: &Response,
) -> io::Result<()> {
    const BEGIN: &str = "{\"done\":\"";
    let mut frame = serde_json::to_string(frame)?;
    frame.push('\n');
    let Some(end) = frame.strip_prefix(BEGIN) else { return Err(io::ErrorKind::InvalidData.into()) };
    let (sender, mut pieces) = mpsc::channel(WAITING);
    let making = tasks::blocking(move || pieces::make(make, filter, sender));
    let sending = async move {
        send_piece(writer, BEGIN.as_bytes()).await?;
        while let Some(piece) = pieces.recv().await {
            send_piece(writer, &piece).await?;
        }
        Ok::<_, io::Error>(writer)
    };
    let (made, sent) = tokio::join!(making, sending);
    let writer = sent?;
    made??;
    send_piece(writer, end.as_bytes()).await
}

async fn send_piece(writer: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> io::Result<()> {
    timeout(PIECE_TIME, writer.write_all(piece)).await.map_err(|_late| not_taken())?
}

fn not_taken() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not take its answer")
}

/// In a build with debug assertions, a test may ask for a fault of a task: `fault list`, `fault panic TASK`, `fault return TASK`.
#[cfg(debug_assertions)]
fn fault(line: &[u8]) -> Option<String> {
    Some(tasks::fault::order(std::str::from_utf8(line).ok()?.trim_end().strip_prefix("fault ")?))
}

#[cfg(not(debug_assertions))]
fn fault(_: &[u8]) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[tokio::test]
    async fn a_control_socket_in_a_folder_that_other_users_can_write_is_refused_unless_they_cannot_take_it_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bmpd.sock");
        let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o777);
        let refused = format!("{:#}", ControlSocket::bind(&path).unwrap_err());
        assert!(refused.contains("can be written by other users (mode 0777)"), "{refused}");
        mode(0o1777);
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
        drop(socket);
        chown(folder.path(), Some(65534), None).unwrap();
        let refused = format!("{:#}", ControlSocket::bind(&path).unwrap_err());
        assert!(refused.contains("belongs to user 65534"), "{refused}");
    }

    #[test]
    fn only_the_sockets_own_mode_is_changed_whatever_stands_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("bmpd.sock"), folder.path().join("secret"));
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&secret, &path).unwrap();
        let_the_group_in(&path).unwrap_err();
        assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o7777, 0o600);
    }
}
