//! The task that follows the kernel's events, and records each with the session that it is about.

use tracing::{debug, warn};

use super::{foreign::DestroyedSockets, kernel::Occurrence, pins::Pins};
use crate::tasks;

/// Adds up the kernel's events until the runtime ends. Events from before this bmpd come first.
///
/// # Errors
///
/// The events cannot be waited for, or another program reads them.
pub async fn follow(pins: Pins) -> anyhow::Result<()> {
    // Earlier events are about slots that sessions take over first.
    tasks::idle(pins.settled()).await;
    let mut events = pins.datapath().events()?;
    let mut holds_earlier = pins.holds_earlier();
    let (mut destroyed, mut is_watched) = (None, false);
    loop {
        tokio::select! {
            occurrence = events.next() => match occurrence? {
                Occurrence::Socket(event) => {
                    debug!("kernel: slot {}: {:?}: {} to {}", event.slot(), event.change, event.local, event.remote);
                    pins.record_event(&event);
                }
                Occurrence::Lost(count) => {
                    warn!("{count} events of the kernel programs are lost: bmpd looks its connections up again");
                    pins.record_loss();
                }
            },
            ended = ended(&mut destroyed) => match ended {
                Some(cookies) => cookies.into_iter().for_each(|cookie| pins.record_destroyed(cookie)),
                None => pins.record_loss(),
            },
            never = tasks::until_woken() => match never {},
            // Connections that are older than their pin make no events of their own.
            Ok(_) = holds_earlier.wait_for(|holds| *holds), if !is_watched => {
                is_watched = true;
                match DestroyedSockets::watch() {
                    Ok(watch) => destroyed = Some(watch),
                    Err(error) => warn!("cannot watch connections that are older than their pin, so their end is not noticed: {error}"),
                }
            }
        }
    }
}

/// Returns the cookies of the next connections that ended, or `None` where some were lost.
async fn ended(destroyed: &mut Option<DestroyedSockets>) -> Option<Vec<u64>> {
    match destroyed {
        Some(watch) => match watch.next().await {
            Ok(cookies) => cookies,
            Err(error) => {
                warn!("cannot watch connections that are older than their pin any more: {error}");
                *destroyed = None;
                None
            }
        },
        None => std::future::pending().await,
    }
}
