//! The log of the programs.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use crate::tasks;

/// Begins a task that hands the programs' log lines on to `log`, until it is aborted. Without a
/// runtime nobody reads them.
pub(super) fn forward(ebpf: &mut Ebpf) -> Option<AbortHandle> {
    if Handle::try_current().is_err() {
        debug!("no runtime: the kernel programs' log is not read");
        return None;
    }
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => {
            warn!("the kernel programs' log cannot be read: {error}");
            return None;
        }
    };
    // SAFETY: the descriptor is the logger's ring buffer, which the logger keeps open until it is
    // dropped.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = match registered {
        Ok(logger) => logger,
        Err(error) => {
            warn!("the kernel programs' log cannot be waited for: {error}");
            return None;
        }
    };
    let task = tasks::forever("kernel log", async move {
        while let Ok(mut ready) = tasks::idle(logger.readable_mut()).await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Some(task.abort_handle())
}
