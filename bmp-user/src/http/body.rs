//! The body of an answer.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Sleep, sleep},
};

use super::events::EventBody;
use crate::{
    control::{
        WriteAnswer,
        pieces::{self, WAITING},
    },
    tasks,
};

/// How long a client may take for a whole answer.
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// The body of an answer.
pub(super) enum AnswerBody {
    /// Text that is there already.
    Text(Option<Bytes>),
    /// Text that is made while the client reads it.
    Pieces(PieceBody),
    /// Events, which do not end by themselves.
    Events(EventBody),
}

/// Text that a thread makes.
pub(super) struct PieceBody {
    first: Option<Vec<u8>>,
    pieces: mpsc::Receiver<Vec<u8>>,
    /// Whether the text is whole.
    made: oneshot::Receiver<io::Result<()>>,
    deadline: Pin<Box<Sleep>>,
}

impl AnswerBody {
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Some(text.into()))
    }

    /// Returns a body that is made on a thread of its own. Waits for the first piece, so that the
    /// status of the answer says whether it can be made.
    ///
    /// # Errors
    ///
    /// The answer cannot be made.
    pub(super) async fn made_by(make: WriteAnswer) -> io::Result<Self> {
        let (sender, mut pieces) = mpsc::channel(WAITING);
        let (result, made) = oneshot::channel();
        tasks::passing("HTTP answer", async move {
            let making = tasks::blocking(move || pieces::make_plain(make, sender)).await;
            // The client may have gone.
            let _ = result.send(making.and_then(|made| made));
        });
        match pieces.recv().await {
            Some(first) => {
                let deadline = Box::pin(sleep(ANSWER_TIME));
                Ok(Self::Pieces(PieceBody { first: Some(first), pieces, made, deadline }))
            }
            None => made.await.map_err(io::Error::other)?.map(|()| Self::Text(None)),
        }
    }
}

impl PieceBody {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Vec<u8>>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if let Some(piece) = ready!(self.pieces.poll_recv(context)) {
            return Poll::Ready(Some(Ok(piece)));
        }
        // An answer that is not whole must not look whole: the connection breaks off.
        Poll::Ready(match ready!(Pin::new(&mut self.made).poll(context)) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(gone) => Some(Err(io::Error::other(gone))),
        })
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let data = match self.get_mut() {
            Self::Text(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Pieces(pieces) => ready!(pieces.poll_piece(context)).map(|piece| piece.map(Bytes::from)),
            Self::Events(events) => ready!(events.poll_event(context)).map(Ok),
        };
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Text(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Pieces(_) | Self::Events(_) => SizeHint::default(),
        }
    }
}
