//! `memory-limit`: passes the limit on to the feed, logs how near it is, and gives memory back.
//!
//! The feed decides which input has to close ([`crate::feed::Input::orders_to_close`]). The inputs
//! do that themselves.

use std::sync::Arc;

use tokio::{select, sync::watch};
use tracing::{info, warn};

use crate::{
    config::{Config, MEGABYTE},
    feed::{Feed, MemoryStage, MemoryStanding, NEAR_PERCENT},
    sys,
    tasks::{self, idle},
};

/// Holds the feed to `memory-limit` until the sender of the configuration is gone.
pub async fn run(mut config: watch::Receiver<Arc<Config>>, feed: Feed) {
    let mut standing = feed.memory_standing();
    let mut before = *standing.borrow();
    loop {
        let limit = config.borrow_and_update().memory_limit_bytes();
        feed.set_memory_limit(limit);
        let now = *standing.borrow_and_update();
        log_change(before, now);
        if now.closed != before.closed {
            // It ends with the runtime alone.
            let _ = idle(tasks::blocking(sys::trim_heap)).await;
        }
        before = now;
        let goes_on = async {
            select! {
                changed = config.changed() => changed.is_ok(),
                changed = standing.changed() => changed.is_ok(),
            }
        };
        if !idle(goes_on).await {
            return;
        }
    }
}

fn log_change(before: MemoryStanding, now: MemoryStanding) {
    let Some(limit) = now.limit.map(|limit| limit / MEGABYTE) else { return };
    let used = now.used.div_ceil(MEGABYTE);
    match (before.stage, now.stage) {
        (before, stage) if before == stage => {}
        (MemoryStage::Within, MemoryStage::Near) => {
            warn!("the feed takes {used} MB of memory, more than {NEAR_PERCENT} % of memory-limit {limit}");
        }
        (_, MemoryStage::Beyond) => {
            warn!(
                "the feed takes {used} MB of memory, more than memory-limit {limit}: whoever has grown most is closed"
            );
        }
        (_, MemoryStage::Stuck) => warn!(
            "the feed takes {used} MB of memory, more than memory-limit {limit}, and no input has grown: raise the limit"
        ),
        (_, stage) => info!(
            "the feed takes {used} MB of memory, less than {}memory-limit {limit}",
            if stage == MemoryStage::Within { "70 % of " } else { "" }
        ),
    }
}
