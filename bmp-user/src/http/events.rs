//! What the status page follows: the status of sessions and interfaces, as server-sent events
//! (HTML Standard §9.2).
//!
//! One task makes the status for all who follow, as long as somebody does.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::Bytes;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{control::ControlContext, tasks};

/// How many may follow at one time.
const MOST: usize = 16;
/// How often the status is made.
const INTERVAL: Duration = Duration::from_secs(1);

/// The event that each follower gets next. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Followers {
    places: Arc<Semaphore>,
    latest: watch::Sender<Bytes>,
    /// Tells that somebody follows.
    wanted: Arc<Notify>,
}

/// An event, and where the next one comes from.
struct NextEvent {
    event: Bytes,
    latest: watch::Receiver<Bytes>,
}

/// The events of one follower.
pub(super) struct EventBody {
    next: Pin<Box<dyn Future<Output = Option<NextEvent>> + Send>>,
    _place: OwnedSemaphorePermit,
}

impl Followers {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST)), latest: watch::Sender::default(), wanted: Arc::default() }
    }

    /// Returns the events for one more follower, or `None` if there are too many.
    pub(super) fn follow(&self) -> Option<EventBody> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let mut receiver = self.latest.subscribe();
        // A new follower gets the latest event at once.
        receiver.mark_changed();
        self.wanted.notify_one();
        Some(EventBody { next: Box::pin(next(receiver)), _place: place })
    }

    /// Makes the status again and again while somebody follows. Never ends by itself.
    pub(super) async fn make(&self, context: &ControlContext) {
        let mut clock = interval(INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while self.latest.is_closed() {
                // What was made before is old by now.
                self.latest.send_replace(Bytes::new());
                tasks::idle(self.wanted.notified()).await;
            }
            let status = context.clone();
            // If it fails, the next one may be had.
            if let Ok(Ok(event)) = tasks::idle(tasks::blocking(move || event(&status))).await {
                self.latest.send_replace(event);
            }
            tasks::idle(clock.tick()).await;
        }
    }
}

/// Returns the status as one event.
fn event(context: &ControlContext) -> io::Result<Bytes> {
    let mut event = b"data: ".to_vec();
    context.write_status(&mut event)?;
    event.extend_from_slice(b"\n\n");
    Ok(event.into())
}

/// Waits for the next event.
async fn next(mut latest: watch::Receiver<Bytes>) -> Option<NextEvent> {
    loop {
        latest.changed().await.ok()?;
        let event = latest.borrow_and_update().clone();
        if !event.is_empty() {
            return Some(NextEvent { event, latest });
        }
    }
}

impl EventBody {
    pub(super) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(ready!(self.next.as_mut().poll(context)).map(|NextEvent { event, latest }| {
            self.next = Box::pin(next(latest));
            event
        }))
    }
}
