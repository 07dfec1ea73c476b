//! Ctrl-C: what is being measured is taken down in order, so that nothing is left of it on the machine.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// How often whoever waits for something looks whether it still has to.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Set by a signal: whoever waits stops.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on signals that are to end this process are told by [`check`].
pub(crate) fn watch() -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(interrupt), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does no more than to store to an atomic.
        unsafe { sigaction(signal, &action) }?;
    }
    // A terminal sends its Ctrl-C to what is measured too: what the lab finds amiss then is nothing to tell of.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if check().is_ok() {
            hook(panic);
        }
    }));
    Ok(())
}

/// Fails once there was such a signal.
pub(crate) fn check() -> io::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(io::Error::other("interrupted")) } else { Ok(()) }
}
