//! Runs every part of bmpd that routes go through, so that the instructions of each can be counted by themselves.
//!
//! Only what happens inside `measured` counts: `lab::instructions` says so to callgrind.

use std::io::{self, Write as _};

use clap::Parser;
use lab::parts::{PARTS, Part, resolutions};

/// Runs the parts that every route goes through, each to get warm, and once to be measured.
#[derive(Parser)]
#[command(name = "hot")]
struct Arguments {
    /// Routes in the tables.
    routes: usize,
    /// Interfaces of the host on which pins are resolved.
    interfaces: u32,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    for (group, name, make) in PARTS {
        measure(group, name, make(arguments.routes).as_mut())?;
    }
    for (name, mut part) in resolutions(arguments.interfaces) {
        measure("resolve", name, part.as_mut())?;
    }
    Ok(())
}

/// Runs it.
fn measure(group: &str, name: &str, part: &mut dyn Part) -> io::Result<()> {
    // The second time for what the allocator puts off of the work that the part before has left.
    for _ in 0..2 {
        part.before();
        part.run();
    }
    part.before();
    measured(part);
    tell(group, name)
}

/// Callgrind knows it by its name.
#[inline(never)]
fn measured(part: &mut dyn Part) {
    part.run();
    // Without it the call above could become a jump, which does not return to here.
    std::hint::black_box(());
}

/// Says what was run. Callgrind writes its count before that, and knows this by its name too.
#[inline(never)]
fn tell(group: &str, name: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{group}: {name}")
}
