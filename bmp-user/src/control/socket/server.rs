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
    pin::pin,
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
    clients::{Admitted, Clients, Worth},
    pieces::{self, PIECE, WAITING},
    protocol::{LINE_MAX, Mode, Outcome, Request, Response},
};
use crate::{
    config::Filter,
    control::{Context, Operator, display::WriteAnswer, operator::Reply},
    exposure::{self, PathFault},
    sys, tasks,
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
        keep_to_its_owner(path).with_context(|| cannot_open(path))?;
        if let Some(folder) = path.parent()
            && !folder.as_os_str().is_empty()
            && !folder.exists()
        {
            fs::create_dir(folder)
                .with_context(|| format!("cannot make {} for the control socket", folder.display()))?;
            made_folder = Some(folder.to_owned());
        }
        // Once more: the folder is there now, whoever has made it.
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
                Err(error.context(cannot_open(path)))
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

fn cannot_open(path: &Path) -> String {
    format!("cannot open the control socket {}", path.display())
}

/// Refuses a folder in which another user could put a socket of theirs in the place of this one, also by way of a folder around it, and one
/// that is found by a symbolic link. In `/tmp` nobody can: of a folder with the sticky bit only its owner and a file's owner take files away.
fn keep_to_its_owner(path: &Path) -> anyhow::Result<()> {
    let path = std::path::absolute(path)?;
    let Some(folder) = path.parent() else { bail!("this is a folder") };
    match exposure::find_beside_others(folder)? {
        None => Ok(()),
        Some(exposed) => {
            let why = match exposed.fault {
                PathFault::Link => "symbolic links are not followed",
                PathFault::Owner(_) | PathFault::Writable(_) | PathFault::NoFolder => "another user could replace it",
            };
            bail!("{why}: {exposed}; to mend it: {}", exposed.mend())
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

/// How long a client may take for one piece of an answer, and for the whole of it.
const PIECE_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// How long a client may take for a request that it has begun.
const LINE_TIME: Duration = Duration::from_secs(10);

/// Answers requests, each connection in a task of its own, for as long as it is polled.
pub async fn serve(socket: &ControlSocket, context: Context) {
    let mut failing = false;
    let clients = Clients::default();
    loop {
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                let peer = stream.peer_cred().ok();
                let user = peer.map_or(u32::MAX, |peer| peer.uid());
                let operator = Operator::new(context.clone());
                match clients.admit(user) {
                    Ok(admitted) => {
                        let context = context.clone();
                        tasks::passing("control connection", async move {
                            let operator = match peer {
                                Some(peer) => operator.at(user, peer.pid().and_then(|pid| pid.try_into().ok())),
                                None => operator,
                            };
                            // A client that goes away in the middle is none of our business.
                            if let Err(error) = answer(stream, &context, operator, &admitted).await
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
                        refuse(stream, &operator.refuse(why.to_string()));
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

/// Says why a connection is refused, and closes it. That is read before the end is, whatever the client has asked.
fn refuse(stream: UnixStream, why: &Response) {
    let Ok(mut line) = serde_json::to_vec(why) else { return };
    line.push(b'\n');
    // Nothing waits in a connection that is new: this has room there. A client that is gone is not told.
    let _ = stream.into_std().and_then(|mut stream| io::Write::write_all(&mut stream, &line));
}

async fn answer(stream: UnixStream, context: &Context, operator: Operator, admitted: &Admitted) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let (waiting, mut waits) = mpsc::channel(1);
    let mut operator = operator.telling(waiting);
    let mut line = Vec::new();
    loop {
        line.clear();
        let is_there = tokio::select! {
            more = reader.fill_buf() => !more?.is_empty(),
            () = admitted.told_to_leave() => {
                let why = "this connection was closed so that another operator could come in: it had been idle for longest";
                return send(&mut writer, &operator.refuse(why.to_owned())).await;
            }
        };
        if !is_there {
            return Ok(());
        }
        admitted.is_busy();
        let mut request = (&mut reader).take(LINE_MAX as u64 + 1);
        let read = request.read_until(b'\n', &mut line);
        let Ok(read) = timeout(LINE_TIME, read).await else {
            let why = format!("a request that is begun is ended within {} s", LINE_TIME.as_secs());
            send(&mut writer, &operator.refuse(why.clone())).await?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        };
        read?;
        let too_long = line.len() > LINE_MAX;
        let reply = if too_long {
            Reply::Whole(operator.refuse(format!("a request is one line of at most {LINE_MAX} bytes")))
        } else if let Some(answer) = fault(&line) {
            Reply::Whole(operator.refuse(answer))
        } else {
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) if request.follow => {
                    admitted.is_idle(Worth::Follows);
                    return tell(reader, writer, context, &operator, admitted).await;
                }
                Ok(request) => {
                    let is_told = request.mode == Mode::Interactive;
                    let mut reply = pin!(operator.reply(&request));
                    loop {
                        tokio::select! {
                            reply = &mut reply => break reply,
                            Some(text) = waits.recv(), if is_told => send(&mut writer, &notice(text)).await?,
                        }
                    }
                }
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
        admitted.is_idle(if operator.is_pending() { Worth::Pending } else { Worth::Used });
    }
}

/// What is told while nothing is answered.
fn notice(text: String) -> Response {
    Response { outcome: Outcome::Notice(text), prompt: String::new(), pending: false, secret: false, lost: None }
}

/// Tells one operator what is told of trials, until the connection is closed at the other end.
async fn tell(
    mut reader: impl AsyncReadExt + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    context: &Context,
    operator: &Operator,
    admitted: &Admitted,
) -> io::Result<()> {
    let mut notices = context.store.notices();
    let mut more = [0];
    loop {
        let told = tokio::select! {
            told = notices.recv() => match told {
                Ok(told) => told,
                // The oldest were dropped: what is the case by now follows.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            },
            // Nothing is asked here any more; what comes is the end.
            _ = reader.read(&mut more) => return Ok(()),
            () = admitted.told_to_leave() => return Ok(()),
        };
        if told.by.is_none() || told.by != operator.process() {
            send(&mut writer, &notice(told.text)).await?;
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
    make: WriteAnswer,
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

    #[tokio::test]
    async fn the_folders_around_a_control_socket_are_looked_at_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outer = folder.path().join("outer");
        let inner = outer.join("inner");
        fs::create_dir_all(&inner).unwrap();
        let refused = |path: &Path| format!("{:#}", ControlSocket::bind(path).unwrap_err());
        fs::set_permissions(&outer, fs::Permissions::from_mode(0o777)).unwrap();
        for path in [inner.join("bmpd.sock"), outer.join("new/bmpd.sock")] {
            let said = refused(&path);
            assert!(said.contains(&format!("{} can be written by other users", outer.display())), "{said}");
        }
        assert!(!outer.join("new").exists(), "nothing is made there");
        fs::set_permissions(&outer, fs::Permissions::from_mode(0o755)).unwrap();
        let link = folder.path().join("link");
        symlink(&outer, &link).unwrap();
        let said = refused(&link.join("inner/bmpd.sock"));
        assert!(said.contains("symbolic links are not followed") && said.contains("name the folder itself"), "{said}");
        drop(ControlSocket::bind(&inner.join("bmpd.sock")).unwrap());
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
