//! The near end of the control socket.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::broadcast::error::RecvError,
};
use tracing::warn;

use super::{Context, LINE_MAX, Operator, Outcome, Request, Response};

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
        let bound = remove_stale(path).and_then(|()| {
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
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

/// Answers requests, each connection in a task of its own, for as long as it is polled.
pub async fn serve(socket: &ControlSocket, context: Context) {
    let mut failing = false;
    loop {
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                let context = context.clone();
                tokio::spawn(async move {
                    // A client that goes away in the middle is none of our business.
                    let operator = Operator::new(context.clone());
                    let operator = match stream.peer_cred() {
                        Ok(peer) => operator.at(peer.uid(), peer.pid().and_then(|pid| pid.try_into().ok())),
                        Err(_) => operator,
                    };
                    let _ = answer(stream, &context, operator).await;
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!("control socket {} takes no connections for now: {error}", socket.path.display());
                }
                // Out of file descriptors, as a rule: it does not get better by asking at once.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
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
        let response = if too_long {
            operator.refuse(format!("a request is one line of at most {LINE_MAX} bytes"))
        } else {
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) if request.follow => return tell(reader, writer, context, &operator).await,
                Ok(request) => operator.answer(&request).await,
                Err(error) => operator.refuse(format!("not a request: {error}")),
            }
        };
        let mut answer = serde_json::to_vec(&response)?;
        answer.push(b'\n');
        writer.write_all(&answer).await?;
        if too_long {
            return Ok(());
        }
    }
}

/// Tells one operator what is told of trials, until the connection is closed at the other end.
async fn tell(
    mut reader: impl AsyncReadExt + Unpin,
    mut writer: impl AsyncWriteExt + Unpin,
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
            let mut answer = serde_json::to_vec(&answer)?;
            answer.push(b'\n');
            writer.write_all(&answer).await?;
        }
    }
}
