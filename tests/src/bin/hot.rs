//! Runs every part of bmpd on the way of routes, so that callgrind counts the instructions of each.
//!
//! `lab::instructions` makes callgrind count inside `measured` only.

use std::io::{self, Write as _};

use clap::Parser;
use lab::parts::{MeasuredPart, PARTS, resolutions};

/// Runs each part twice to warm up, and once to be measured
#[derive(Parser)]
#[command(name = "hot")]
struct HotArguments {
    /// Routes in the tables
    routes: usize,
    /// Interfaces of the host that resolves pins
    interfaces: u32,
}

fn main() -> io::Result<()> {
    let arguments = HotArguments::parse();
    for (group, name, make) in PARTS {
        measure(group, name, make(arguments.routes).as_mut())?;
    }
    for (name, mut part) in resolutions(arguments.interfaces) {
        measure("resolve", name, part.as_mut())?;
    }
    Ok(())
}

/// Warms up a part, measures it, and prints its name.
fn measure(group: &str, name: &str, part: &mut dyn MeasuredPart) -> io::Result<()> {
    // The second run absorbs what the allocator has postponed from the part before.
    for _ in 0..2 {
        part.before();
        part.run();
    }
    part.before();
    measured(part);
    tell(group, name)
}

/// Runs the part. Callgrind knows this function by its name.
#[inline(never)]
fn measured(part: &mut dyn MeasuredPart) {
    part.run();
    // Keeps the call above from becoming a tail call, which would not return to here.
    std::hint::black_box(());
}

/// Prints the part's name. Callgrind knows this function by its name, and writes its counts before
/// the call.
#[inline(never)]
fn tell(group: &str, name: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{group}: {name}")
}
