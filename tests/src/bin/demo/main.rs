//! The demonstration: a router with two uplinks, a station behind both, a BGP daemon with a table,
//! and a BMP session that keeps to its interface.
//!
//! Every statement is checked. The exit status is 1 if one does not hold.

mod screen;
mod story;

use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};

use clap::Parser;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use programs::Use;
use serde_json::json;

use screen::DemoScreen;
use story::{DemoFailure, RouteSource, Story};

/// Shows a BMP session that leaves by its pinned interface, whatever routing does
#[derive(Parser)]
#[command(name = "demo", version)]
struct DemoArguments {
    /// Feed the routes from a built-in feeder instead of FRR
    #[arg(long)]
    no_frr: bool,
    /// Print the outcome as JSON, and nothing else
    #[arg(long)]
    json: bool,
}

/// Set by Ctrl-C. Every wait then ends, and the demonstration is taken down in order.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_signal: i32) {
    INTERRUPTED.store(true, Relaxed);
}

fn main() -> ExitCode {
    let arguments = DemoArguments::parse();
    Use::declare(if arguments.no_frr { &[Use::Demo] } else { &[Use::Demo, Use::Frr] });
    let action = SigAction::new(SigHandler::Handler(interrupt), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        if let Err(error) = unsafe { sigaction(signal, &action) } {
            return end(&arguments, &format!("cannot watch for {signal}: {error}"));
        }
    }

    let started = Instant::now();
    let mut screen = DemoScreen::new(arguments.json);
    let source = if arguments.no_frr { RouteSource::Feeder } else { RouteSource::Frr };
    // The lab reports failures by panics. The demonstration fails with their text, so hide the
    // default report.
    std::panic::set_hook(Box::new(|_| {}));
    let mut story = Story::new(source, &mut screen);
    let result = catch_unwind(AssertUnwindSafe(|| story.tell(&INTERRUPTED))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(DemoFailure(text.unwrap_or_else(|| "something broke".to_owned())))
    });
    let (checks, figures) = story.outcome();
    let failure = match result {
        Ok(()) => None,
        Err(_) if INTERRUPTED.load(Relaxed) => Some("interrupted".to_owned()),
        Err(DemoFailure(what)) => Some(what),
    };
    let seconds = started.elapsed().as_secs_f64();

    if arguments.json {
        let outcome = json!({
            "passed": failure.is_none(),
            "failure": failure,
            "seconds": (seconds * 10.0).round() / 10.0,
            "checks": checks,
            "figures": figures,
        });
        // Fails only if the reader is gone, who then needs no outcome.
        let _ = writeln!(io::stdout(), "{outcome:#}");
    } else {
        match &failure {
            None => screen.say(&format!("\n  All {} checks hold ({seconds:.0} s).", checks.len())),
            Some(failure) => screen.say(&format!("\n  FAILED: {failure}")),
        }
    }
    if failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn end(arguments: &DemoArguments, failure: &str) -> ExitCode {
    let mut screen = DemoScreen::new(false);
    if arguments.json {
        let _ = writeln!(io::stdout(), "{:#}", json!({ "passed": false, "failure": failure }));
    } else {
        screen.say(&format!("demo: {failure}"));
    }
    ExitCode::FAILURE
}
