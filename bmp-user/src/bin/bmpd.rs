//! bmpd: runs the agent, or does one thing and ends.

use std::{io::Write, path::Path, process::ExitCode, time::Duration};

use bmp_user::{
    agent,
    command_line::{BmpdArguments, BmpdCommand, BmpdRunArguments, DoctorArguments},
    config, control, doctor,
    escape::{escaped_lines, json_for_terminal},
    log, pin, sandbox, tasks,
};
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Log filter unless `RUST_LOG` names another. The kernel programs log each connect at info, which
/// says little more than the session's own line.
const LOGGED: &str = "info,bmp_ebpf=warn";

/// Exit status of a start whose configuration file is wrong (`EX_CONFIG` of sysexits.h): another
/// start would find the same.
const WRONG_CONFIGURATION: u8 = 78;

/// How long bmpd waits at the end for threads that wait for a disk.
const STRAGGLERS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments = BmpdArguments::parse();
    if !arguments.run.no_sandbox
        && let Err(error) = sandbox::hide_memory()
    {
        return fail(&format!("bmpd: cannot hide its memory, which holds secrets: {error}"), ExitCode::FAILURE);
    }
    let outcome = match arguments.command {
        Some(BmpdCommand::Check { config, state, sessions }) => check(&config, state.as_deref(), sessions),
        Some(BmpdCommand::Doctor(arguments)) => match examine(arguments) {
            Ok(true) => return ExitCode::FAILURE,
            examined => examined.map(|_| ()),
        },
        Some(BmpdCommand::Detach { bpffs }) => detach(bpffs.as_deref()),
        Some(BmpdCommand::Prepare { user, bpffs }) => prepare(&user, bpffs.as_deref()),
        None => match load(arguments.run.config(), arguments.run.sessions, &keys(&arguments.run)) {
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

fn load(path: &Path, sessions: pin::Room, keys: &config::KeyFile) -> Result<config::Config, String> {
    let config = config::load(path, keys).map_err(|error| error.to_string())?;
    let limits = config::StartLimits::sessions(sessions.sessions());
    config.check_limits(&limits).map_err(|error| format!("{}: error: {error}", path.display()))?;
    Ok(config)
}

fn keys(arguments: &BmpdRunArguments) -> config::KeyFile {
    config::KeyFile::of(arguments.state.as_deref(), arguments.config())
}

/// Prints the warnings that hold on any host about a valid configuration, and those about who can
/// read its secrets.
fn check(path: &Path, state: Option<&Path>, sessions: pin::Room) -> Result<(), String> {
    let checked = control::CheckedFile::read(path, state, sessions.sessions())?;
    let warnings: String = checked.warnings.iter().map(|warning| format!("{warning}\n")).collect();
    // A closed stdout does not change the exit status.
    let _ = write!(std::io::stdout(), "{warnings}");
    Ok(())
}

/// Prints what the doctor finds. True if there is a problem.
fn examine(arguments: DoctorArguments) -> Result<bool, String> {
    let DoctorArguments { config, state, control, cgroup, bpffs, sessions, frr, json } = arguments;
    let datapath = pin::DatapathOptions { mode: pin::DatapathMode::Auto, cgroup, bpffs, room: sessions };
    let options = doctor::DoctorOptions { config, state, control, datapath, frr };
    let diagnosis =
        runtime()?.block_on(doctor::examine(&options)).map_err(|error| format!("bmpd doctor: {error:#}"))?;
    let text = match json {
        true => {
            let json = control::as_json(control::AnswerSubject::Doctor, &diagnosis);
            json_for_terminal(&json.map_err(|error| format!("bmpd doctor: {error:#}"))?)
        }
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

fn run(arguments: BmpdRunArguments, config: config::Config) -> Result<(), String> {
    let (path, keys) = (arguments.config().to_owned(), keys(&arguments));
    pin::require_privilege().map_err(|error| format!("bmpd: {error}"))?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    log::init(filter, arguments.log_format).map_err(|error| format!("bmpd: cannot begin to log: {error}"))?;
    tasks::watch_over(log::last_words);
    let options = agent::DaemonOptions {
        config: path,
        control: arguments.control,
        access: control::AccessGroups::named(&arguments.group, &arguments.view_group),
        state: arguments.state,
        keys,
        datapath: pin::DatapathOptions {
            mode: arguments.datapath,
            cgroup: arguments.cgroup,
            bpffs: arguments.bpffs,
            room: arguments.sessions,
        },
        sandbox: !arguments.no_sandbox,
    };
    let in_words = |error: anyhow::Error| format!("bmpd: {error:#}");
    let started = agent::start(&options, &config).map_err(in_words);
    let ended = started.and_then(|started| {
        let runtime = runtime()?;
        let ended = runtime.block_on(agent::run(options, config, started)).map_err(in_words);
        // Do not wait longer for a thread that hangs, for example on a disk.
        runtime.shutdown_timeout(STRAGGLERS);
        ended
    });
    log::finish();
    ended
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Runtime::new().map_err(|error| format!("bmpd: cannot start its threads: {error}"))
}
