//! The agent.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bmp_user::{agent, config, control, escape::escaped_lines, log, pin, tasks};
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// What is logged where `RUST_LOG` does not say otherwise. The kernel programs tell each connect at info, which says little more than
/// the session does itself.
const LOGGED: &str = "info,bmp_ebpf=warn";

/// How long threads that wait for a disk are waited for at the end.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// BMP sessions that leave this host by the interface and address the operator named, and by no other.
#[derive(Parser)]
#[command(
    name = "bmpd",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    args_override_self = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Parse and validate a configuration file, and do nothing else.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How many sessions bmpd is to be started for.
        #[arg(long, value_name = "NUMBER", default_value_t)]
        sessions: pin::Room,
    },
    /// Remove everything that a bmpd which runs no more has left in the kernel: programs and tables, and the rules and routes of sessions
    /// with a next hop in this network namespace.
    Detach {
        /// The folder of the BPF file system that it had.
        #[arg(long, value_name = "PATH")]
        bpffs: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Run {
    /// The configuration file.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// The control socket.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    control: PathBuf,
    /// The cgroup v2 folder whose processes are held to the pins, bmpd among them; the host's root by default, found by itself.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// The folder of a BPF file system that is this bmpd's own, in which its pins outlive it; /sys/fs/bpf/bmpd by default.
    #[arg(long, value_name = "PATH")]
    bpffs: Option<PathBuf>,
    /// How many sessions the kernel tables have room for; a BGP peer takes the room of one for each end that may connect.
    #[arg(long, value_name = "NUMBER", default_value_t)]
    sessions: pin::Room,
    /// How packets are held to their pin.
    #[arg(long, value_enum, default_value_t)]
    datapath: pin::Mode,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::Check { config, sessions }) => check(&config, sessions),
        Some(Command::Detach { bpffs }) => detach(bpffs.as_deref()),
        None => run(arguments.run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr is no reason to end otherwise.
            let _ = writeln!(std::io::stderr(), "{}", escaped_lines(error.trim_end()));
            ExitCode::FAILURE
        }
    }
}

fn load(path: &Path, sessions: pin::Room) -> Result<config::Config, String> {
    let config = config::load(path).map_err(|error| error.to_string())?;
    config.check_room(sessions.sessions()).map_err(|error| format!("{}: error: {error}", path.display()))?;
    Ok(config)
}

/// Says of a good configuration what will not work on any host.
fn check(path: &Path, sessions: pin::Room) -> Result<(), String> {
    let config = load(path, sessions)?;
    let said: String = control::without_host(&config).iter().map(|said| format!("{said}\n")).collect();
    // A closed stdout is no reason to end otherwise.
    let _ = write!(std::io::stdout(), "{said}");
    Ok(())
}

fn detach(bpffs: Option<&Path>) -> Result<(), String> {
    let told = |error: anyhow::Error| format!("bmpd: {error:#}");
    let mut said = pin::detach(bpffs).map_err(told)?;
    said.extend(runtime()?.block_on(pin::remove_next_hop_routes()).map_err(told)?);
    // A closed stdout is no reason to end otherwise: it is done.
    let _ = writeln!(std::io::stdout(), "{}", said.join("\n"));
    Ok(())
}

fn run(arguments: Run) -> Result<(), String> {
    // clap has seen to it that it is there, unless a subcommand is.
    let path = arguments.config.unwrap_or_default();
    let config = load(&path, arguments.sessions)?;
    pin::require_privilege().map_err(|error| format!("bmpd: {error}"))?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    log::init(filter).map_err(|error| format!("bmpd: cannot begin to log: {error}"))?;
    tasks::watch_over();
    let options = agent::DaemonOptions {
        config: path,
        control: arguments.control,
        datapath: pin::Options {
            mode: arguments.datapath,
            cgroup: arguments.cgroup,
            bpffs: arguments.bpffs,
            room: arguments.sessions,
        },
    };
    agent::prepare();
    let runtime = runtime()?;
    let ended = runtime.block_on(agent::run(options, config)).map_err(|error| format!("bmpd: {error:#}"));
    // What a thread is waiting for by now, a disk that hangs for one, is not worth waiting for.
    runtime.shutdown_timeout(STRAGGLERS);
    log::finish();
    ended
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Runtime::new().map_err(|error| format!("bmpd: cannot start its threads: {error}"))
}
