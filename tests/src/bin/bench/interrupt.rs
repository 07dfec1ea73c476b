//! Ctrl-C: the running measurement ends in order and leaves nothing on the machine.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Interval at which waits look for an interrupt.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Set by a signal. Every wait then ends.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Makes [`check`] report SIGINT, SIGTERM and SIGHUP from now on.
pub(crate) fn watch() -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(interrupt), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &action) }?;
    }
    // A terminal's Ctrl-C reaches the subjects too. Failures of the lab after it are not worth a
    // report.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if check().is_ok() {
            hook(panic);
        }
    }));
    Ok(())
}

/// Fails after one of the signals.
pub(crate) fn check() -> io::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(io::Error::other("interrupted")) } else { Ok(()) }
}
