//! bmpd's end of the control socket.

use std::{
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
            net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
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
use tracing::{debug, error, warn};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    access::AccessGroups,
    admission::{AdmittedConnection, OperatorConnections, Worth},
    protocol::{CommandAnswer, LINE_MAX, Request, RequestMode, Response},
};
#[cfg(debug_assertions)]
use crate::sandbox;
use crate::{
    config::LineFilter,
    control::{
        ControlContext, Operator,
        display::WriteAnswer,
        operator::Reply,
        pieces::{self, PIECE, WAITING},
    },
    exposure::{self, PathFault},
    sys, tasks,
};

/// The control socket of this process. Dropping this removes the socket, and its folder if this
/// made it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: StdUnixListener,
    access: AccessGroups,
    path: PathBuf,
    made_folder: Option<PathBuf>,
}

impl ControlSocket {
    /// Listens at `path` for those whom `access` names, and replaces the socket of a bmpd that has
    /// ended.
    ///
    /// # Errors
    ///
    /// Another bmpd serves the socket, something else is at `path`, or other users could replace
    /// the socket.
    pub fn bind(path: &Path, access: AccessGroups) -> anyhow::Result<Self> {
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
        // Look again: the folder is there now, and another process may have made it.
        let bound = keep_to_its_owner(path).and_then(|()| remove_stale(path)).and_then(|()| {
            let listener = StdUnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            let_in(path, access)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Ok(Self { listener, access, path: path.to_owned(), made_folder }),
            Err(error) => {
                if let Some(folder) = made_folder {
                    // This fails where somebody else uses the folder by now.
                    let _ = fs::remove_dir(folder);
                }
                Err(error.context(cannot_open(path)))
            }
        }
    }
}

impl ControlSocket {
    /// Returns the folder of the socket, if this made it.
    pub fn made_folder(&self) -> Option<&Path> {
        self.made_folder.as_deref()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // An error means that somebody else has removed them already.
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = &self.made_folder {
            let _ = fs::remove_dir(folder);
        }
    }
}

fn cannot_open(path: &Path) -> String {
    format!("cannot open the control socket {}", path.display())
}

/// Refuses a path at which another user could replace the socket, in its folder or in one around
/// it. Also refuses symbolic links. `/tmp` is safe: with the sticky bit, only the owner of the
/// folder or of the file can remove a file.
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

/// Gives the socket to the group that may configure, and sets its mode. Never touches another file
/// that has taken the socket's place.
fn let_in(path: &Path, access: AccessGroups) -> io::Result<()> {
    let socket = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let found = socket.metadata()?;
    if !found.file_type().is_socket() || found.uid() != sys::user() {
        return Err(io::Error::other("another user has replaced it"));
    }
    let socket = format!("/proc/self/fd/{}", socket.as_raw_fd());
    // A bmpd without root can give the socket to its own groups alone. Who is in the group is
    // looked at once more for each connection.
    let _ = access.configure.map(|group| chown(&socket, None, Some(group)));
    fs::set_permissions(socket, fs::Permissions::from_mode(access.mode()))
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

/// What a user reads who may do nothing.
const NOBODY: &str = "Error: you may neither look nor configure: the groups `bmpd-view` and `bmpd` may (see bmpd(8), --view-group and --group).";

/// How long a client may take to read one piece of an answer, and the whole answer.
const PIECE_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// How long a client may take to send the rest of a request.
const LINE_TIME: Duration = Duration::from_secs(10);

/// Answers requests until it is dropped. Each connection has a task of its own.
pub async fn serve(socket: &ControlSocket, context: ControlContext) {
    let listener = match socket.listener.try_clone().and_then(UnixListener::from_std) {
        Ok(listener) => listener,
        // The end of this task ends bmpd.
        Err(error) => return error!("cannot wait for clients of {}: {error}", socket.path.display()),
    };
    let mut failing = false;
    let connections = OperatorConnections::default();
    loop {
        match tasks::idle(listener.accept()).await {
            Ok((stream, _)) => {
                failing = false;
                let peer = stream.peer_cred().ok();
                let user = peer.map_or(u32::MAX, |peer| peer.uid());
                let operator = Operator::new(context.clone());
                let Some(role) = socket.access.role(user, &stream) else {
                    debug!(client = user, "refused user {user}, who may neither look nor configure");
                    refuse(stream, &operator.refuse(NOBODY.to_owned()));
                    continue;
                };
                match connections.admit(user) {
                    Ok(admitted) => {
                        let context = context.clone();
                        tasks::passing("control connection", async move {
                            let operator = match peer {
                                Some(peer) => operator.at(user, peer.pid().and_then(|pid| pid.try_into().ok())),
                                None => operator,
                            };
                            let operator = operator.with_role(role);
                            // A client may go away in the middle of an answer. Only one that is too
                            // slow is logged.
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
                // As a rule bmpd is out of file descriptors. Do not spin until one is free.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Tells a client why its connection is refused, and closes the connection.
fn refuse(stream: UnixStream, why: &Response) {
    let Ok(mut line) = serde_json::to_vec(why) else { return };
    line.push(b'\n');
    // The send buffer of a new connection is empty, so the line fits. The client may have gone.
    let _ = stream.into_std().and_then(|mut stream| io::Write::write_all(&mut stream, &line));
}

async fn answer(
    stream: UnixStream,
    context: &ControlContext,
    operator: Operator,
    admitted: &AdmittedConnection,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let (notices, mut to_tell) = mpsc::channel(1);
    let mut operator = operator.with_notices(notices);
    // A request may have a secret.
    let mut line = Zeroizing::new(Vec::new());
    loop {
        line.zeroize();
        let has_request = tokio::select! {
            more = reader.fill_buf() => !more?.is_empty(),
            () = admitted.told_to_leave() => {
                let why = "this connection was closed so that another operator could come in: it had been idle for longest";
                return send(&mut writer, &operator.refuse(why.to_owned())).await;
            }
        };
        if !has_request {
            return Ok(());
        }
        admitted.set_busy();
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
        } else if let Some(answer) = fault(&line, &operator) {
            Reply::Whole(operator.refuse(answer))
        } else {
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) if request.follow => {
                    admitted.set_idle(Worth::Follows);
                    return tell_notices(reader, writer, context, &operator, admitted).await;
                }
                Ok(mut request) => {
                    let is_told = request.mode == RequestMode::Interactive;
                    let replied = {
                        let mut reply = pin!(operator.reply(&request));
                        loop {
                            tokio::select! {
                                reply = &mut reply => break reply,
                                Some(text) = to_tell.recv(), if is_told => send(&mut writer, &notice(text)).await?,
                            }
                        }
                    };
                    request.command.zeroize();
                    replied
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
        admitted.set_idle(if operator.is_pending() { Worth::Pending } else { Worth::Used });
    }
}

/// Returns a message that answers no request.
fn notice(text: String) -> Response {
    Response::from(CommandAnswer::Notice(text))
}

/// Sends the notices about trials to one operator, until the client closes the connection.
async fn tell_notices(
    mut reader: impl AsyncReadExt + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    context: &ControlContext,
    operator: &Operator,
    admitted: &AdmittedConnection,
) -> io::Result<()> {
    let mut notices = context.store.notices();
    let mut more = [0];
    loop {
        let told = tokio::select! {
            told = notices.recv() => match told {
                Ok(told) => told,
                // The oldest notices were dropped. The newest are still to come.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            },
            // The client asks nothing any more: this is the end of the connection.
            _ = reader.read(&mut more) => return Ok(()),
            () = admitted.told_to_leave() => return Ok(()),
        };
        // An operator needs no notice of what it did itself.
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

/// Sends a response whose text is made while the client reads it. `frame` is the response without
/// the text.
async fn send_pieces(
    writer: &mut (impl AsyncWrite + Unpin),
    make: WriteAnswer,
    filter: Option<LineFilter>,
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

/// Carries out `fault list`, and `fault panic TASK`, `fault return TASK` and `fault stop TASK`,
/// with which tests make a task fail. Only builds with debug assertions know them.
#[cfg(debug_assertions)]
fn fault(line: &[u8], operator: &Operator) -> Option<String> {
    if !operator.may_configure() {
        return None;
    }
    let order = std::str::from_utf8(line).ok()?.trim_end().strip_prefix("fault ")?;
    Some(match order.strip_prefix("attempt ") {
        Some(what) => sandbox::attempt(what),
        None => tasks::fault::order(order),
    })
}

#[cfg(not(debug_assertions))]
fn fault(_: &[u8], _: &Operator) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[tokio::test]
    async fn a_folder_in_which_other_users_could_replace_the_socket_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bmpd.sock");
        let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o777);
        let refused = format!("{:#}", ControlSocket::bind(&path, AccessGroups::default()).unwrap_err());
        assert!(refused.contains("can be written by other users (mode 0777)"), "{refused}");
        mode(0o1777);
        let socket = ControlSocket::bind(&path, AccessGroups::default()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
        drop(socket);
        chown(folder.path(), Some(65534), None).unwrap();
        let refused = format!("{:#}", ControlSocket::bind(&path, AccessGroups::default()).unwrap_err());
        assert!(refused.contains("belongs to user 65534"), "{refused}");
    }

    #[tokio::test]
    async fn the_folders_around_the_socket_are_checked_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outer = folder.path().join("outer");
        let inner = outer.join("inner");
        fs::create_dir_all(&inner).unwrap();
        let refused = |path: &Path| format!("{:#}", ControlSocket::bind(path, AccessGroups::default()).unwrap_err());
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
        drop(ControlSocket::bind(&inner.join("bmpd.sock"), AccessGroups::default()).unwrap());
    }

    #[test]
    fn the_mode_of_a_file_in_the_place_of_the_socket_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("bmpd.sock"), folder.path().join("secret"));
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&secret, &path).unwrap();
        let_in(&path, AccessGroups::default()).unwrap_err();
        assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o7777, 0o600);
    }
}
