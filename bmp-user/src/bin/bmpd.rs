//! The command line of the agent.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bmp_user::{
    agent, config, control, doctor,
    escape::{escaped_lines, json_for_terminal},
    log, pin, tasks,
};
use clap::{Args, Parser};
use tracing_subscriber::EnvFilter;

/// Log filter unless `RUST_LOG` names another. The kernel programs log each connect at info, which
/// says little more than the session's own line.
const LOGGED: &str = "info,bmp_ebpf=warn";

/// Exit status of a start whose configuration file is wrong (`EX_CONFIG` of sysexits.h): another
/// start would find the same.
const WRONG_CONFIGURATION: u8 = 78;

/// How long bmpd waits at the end for threads that wait for a disk.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// BMP sessions that leave this host by the interface and address the operator named, and by no
/// other.
#[derive(Parser)]
#[command(
    name = "bmpd",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    args_override_self = true
)]
struct AgentArguments {
    #[command(subcommand)]
    command: Option<Subcommand>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(clap::Subcommand)]
enum Subcommand {
    /// Parse and validate a configuration file, and do nothing else.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How many sessions bmpd is to be started for.
        #[arg(long, value_name = "NUMBER", default_value_t)]
        sessions: pin::Room,
    },
    /// Tell what on this host would keep a session from working, and what mends it. Exit status 1
    /// if there is a problem.
    Doctor(DoctorArguments),
    /// Remove everything that a bmpd which runs no more has left in the kernel: programs and
    /// tables, and the rules and routes of sessions with a next hop in this network namespace.
    Detach {
        /// The folder of the BPF file system that it had.
        #[arg(long, value_name = "PATH")]
        bpffs: Option<PathBuf>,
    },
    /// Make the folder in the BPF file system for a bmpd that runs as another user, or give that
    /// user the folder of an earlier bmpd. Run it as root.
    Prepare {
        /// The user that bmpd runs as.
        #[arg(long, value_name = "NAME")]
        user: String,
        /// The folder; /sys/fs/bpf/bmpd by default.
        #[arg(long, value_name = "PATH")]
        bpffs: Option<PathBuf>,
    },
}

#[derive(Args)]
struct DoctorArguments {
    /// The configuration file; without one, only the host is examined.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The control socket of the bmpd that may run.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    control: PathBuf,
    /// The cgroup v2 folder that bmpd is to attach to.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// The folder of a BPF file system that bmpd is to have.
    #[arg(long, value_name = "PATH")]
    bpffs: Option<PathBuf>,
    /// How many sessions bmpd is to be started for.
    #[arg(long, value_name = "NUMBER", default_value_t)]
    sessions: pin::Room,
    /// The folder of FRR's configuration.
    #[arg(long, value_name = "PATH", default_value = "/etc/frr")]
    frr: PathBuf,
    /// Findings as a JSON array.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RunArguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// The control socket.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    control: PathBuf,
    /// The group whose members may configure over the control socket.
    #[arg(long, value_name = "NAME", default_value = "bmpd")]
    group: String,
    /// The group whose members may look over the control socket, and not configure.
    #[arg(long, value_name = "NAME", default_value = "bmpd-view")]
    view_group: String,
    /// The folder of what bmpd remembers, such as the source addresses that it chose. By default
    /// that is in files beside the configuration file.
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,
    /// The cgroup v2 folder whose processes are held to the pins, bmpd among them; the host's root
    /// by default, found by itself.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// The folder of a BPF file system that is this bmpd's own, in which its pins outlive it;
    /// /sys/fs/bpf/bmpd by default.
    #[arg(long, value_name = "PATH")]
    bpffs: Option<PathBuf>,
    /// How many sessions the kernel tables have room for; a BGP peer takes the room of one for each
    /// end that may connect.
    #[arg(long, value_name = "NUMBER", default_value_t)]
    sessions: pin::Room,
    /// How packets are held to their pin.
    #[arg(long, value_enum, default_value_t)]
    datapath: pin::DatapathMode,
    /// How lines of the log are written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: log::LogFormat,
}

impl RunArguments {
    fn config(&self) -> &Path {
        // clap requires the file unless there is a subcommand.
        self.config.as_deref().unwrap_or(Path::new(""))
    }
}

fn main() -> ExitCode {
    let arguments = AgentArguments::parse();
    let outcome = match arguments.command {
        Some(Subcommand::Check { config, sessions }) => check(&config, sessions),
        Some(Subcommand::Doctor(arguments)) => match examine(arguments) {
            Ok(true) => return ExitCode::FAILURE,
            examined => examined.map(|_| ()),
        },
        Some(Subcommand::Detach { bpffs }) => detach(bpffs.as_deref()),
        Some(Subcommand::Prepare { user, bpffs }) => prepare(&user, bpffs.as_deref()),
        None => match load(arguments.run.config(), arguments.run.sessions) {
            Ok(config) => run(arguments.run, config),
            Err(error) => return fail(&error, ExitCode::from(WRONG_CONFIGURATION)),
        },
    };
    outcome.map_or_else(|error| fail(&error, ExitCode::FAILURE), |()| ExitCode::SUCCESS)
}

fn fail(error: &str, status: ExitCode) -> ExitCode {
    // A closed stderr does not change the exit status.
    let _ = writeln!(std::io::stderr(), "{}", escaped_lines(error.trim_end()));
    status
}

fn load(path: &Path, sessions: pin::Room) -> Result<config::Config, String> {
    let config = config::load(path).map_err(|error| error.to_string())?;
    config.check_room(sessions.sessions()).map_err(|error| format!("{}: error: {error}", path.display()))?;
    Ok(config)
}

/// Prints the warnings that hold on any host about a valid configuration.
fn check(path: &Path, sessions: pin::Room) -> Result<(), String> {
    let config = load(path, sessions)?;
    let warnings: String = control::without_host(&config).iter().map(|warning| format!("{warning}\n")).collect();
    // A closed stdout does not change the exit status.
    let _ = write!(std::io::stdout(), "{warnings}");
    Ok(())
}

/// Prints what the doctor finds. True if there is a problem.
fn examine(arguments: DoctorArguments) -> Result<bool, String> {
    let DoctorArguments { config, control, cgroup, bpffs, sessions, frr, json } = arguments;
    let datapath = pin::DatapathOptions { mode: pin::DatapathMode::Auto, cgroup, bpffs, room: sessions };
    let options = doctor::DoctorOptions { config, control, datapath, frr };
    let diagnosis =
        runtime()?.block_on(doctor::examine(&options)).map_err(|error| format!("bmpd doctor: {error:#}"))?;
    let text = match json {
        true => json_for_terminal(&serde_json::to_string_pretty(&diagnosis).map_err(|error| error.to_string())?),
        false => diagnosis.to_string(),
    };
    // A closed stdout does not change the exit status.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(diagnosis.has_problem())
}

fn detach(bpffs: Option<&Path>) -> Result<(), String> {
    let in_words = |error: anyhow::Error| format!("bmpd: {error:#}");
    let mut removed = pin::detach(bpffs).map_err(in_words)?;
    removed.extend(runtime()?.block_on(pin::remove_next_hop_routes()).map_err(in_words)?);
    // A closed stdout does not change the exit status: all is removed.
    let _ = writeln!(std::io::stdout(), "{}", removed.join("\n"));
    Ok(())
}

fn prepare(user: &str, bpffs: Option<&Path>) -> Result<(), String> {
    let folder = pin::prepare(bpffs, user).map_err(|error| format!("bmpd: {error:#}"))?;
    // A closed stdout does not change the exit status: the folder is there.
    let _ = writeln!(std::io::stdout(), "{} belongs to {user}", folder.display());
    Ok(())
}

fn run(arguments: RunArguments, config: config::Config) -> Result<(), String> {
    let path = arguments.config().to_owned();
    pin::require_privilege().map_err(|error| format!("bmpd: {error}"))?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    log::init(filter, arguments.log_format).map_err(|error| format!("bmpd: cannot begin to log: {error}"))?;
    tasks::watch_over(log::last_words);
    let options = agent::DaemonOptions {
        config: path,
        control: arguments.control,
        access: control::AccessGroups::named(&arguments.group, &arguments.view_group),
        state: arguments.state,
        datapath: pin::DatapathOptions {
            mode: arguments.datapath,
            cgroup: arguments.cgroup,
            bpffs: arguments.bpffs,
            room: arguments.sessions,
        },
    };
    agent::prepare();
    let runtime = runtime()?;
    let ended = runtime.block_on(agent::run(options, config)).map_err(|error| format!("bmpd: {error:#}"));
    // Do not wait longer for a thread that hangs, for example on a disk.
    runtime.shutdown_timeout(STRAGGLERS);
    log::finish();
    ended
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Runtime::new().map_err(|error| format!("bmpd: cannot start its threads: {error}"))
}
