//! The command line of the agent.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{control, log, pin};

/// BMP sessions that leave this host by the interface and address the operator named, and by no
/// other.
#[derive(Debug, Parser)]
#[command(
    name = "bmpd",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    args_override_self = true
)]
pub struct BmpdArguments {
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<BmpdCommand>,
    /// How to run.
    #[command(flatten)]
    pub run: BmpdRunArguments,
}

/// What bmpd does besides running.
#[derive(Debug, Subcommand)]
pub enum BmpdCommand {
    /// Parse and validate a configuration file, and do nothing else.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The folder of what bmpd remembers, with the key of the secrets in the file. Secrets are
        /// not checked where the key cannot be read.
        #[arg(long, value_name = "PATH")]
        state: Option<PathBuf>,
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

/// What the doctor looks at.
#[derive(Args, Debug)]
pub struct DoctorArguments {
    /// The configuration file; without one, only the host is examined.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder of what bmpd remembers, with the key of the secrets in the file.
    #[arg(long, value_name = "PATH")]
    pub state: Option<PathBuf>,
    /// The control socket of the bmpd that may run.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    pub control: PathBuf,
    /// The cgroup v2 folder that bmpd is to attach to.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// The folder of a BPF file system that bmpd is to have.
    #[arg(long, value_name = "PATH")]
    pub bpffs: Option<PathBuf>,
    /// How many sessions bmpd is to be started for.
    #[arg(long, value_name = "NUMBER", default_value_t)]
    pub sessions: pin::Room,
    /// The folder of FRR's configuration.
    #[arg(long, value_name = "PATH", default_value = "/etc/frr")]
    pub frr: PathBuf,
    /// Findings as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How bmpd runs.
#[derive(Args, Debug)]
pub struct BmpdRunArguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// The control socket.
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH)]
    pub control: PathBuf,
    /// The group whose members may configure over the control socket.
    #[arg(long, value_name = "NAME", default_value = "bmpd")]
    pub group: String,
    /// The group whose members may look over the control socket, and not configure.
    #[arg(long, value_name = "NAME", default_value = "bmpd-view")]
    pub view_group: String,
    /// The folder of what bmpd remembers: the source addresses that it chose, the commits, and the
    /// key that seals secrets. By default that is beside the configuration file.
    #[arg(long, value_name = "PATH")]
    pub state: Option<PathBuf>,
    /// The cgroup v2 folder whose processes are held to the pins, bmpd among them; the host's root
    /// by default, found by itself.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// The folder of a BPF file system that is this bmpd's own, in which its pins outlive it;
    /// /sys/fs/bpf/bmpd by default.
    #[arg(long, value_name = "PATH")]
    pub bpffs: Option<PathBuf>,
    /// How many sessions the kernel tables have room for; a BGP peer takes the room of one for each
    /// end that may connect.
    #[arg(long, value_name = "NUMBER", default_value_t)]
    pub sessions: pin::Room,
    /// How packets are held to their pin.
    #[arg(long, value_enum, default_value_t)]
    pub datapath: pin::DatapathMode,
    /// Keep every right that bmpd is started with, and do not give up those that it needs no more.
    /// A core dump of bmpd is then possible, with all its secrets.
    #[arg(long)]
    pub no_sandbox: bool,
    /// How lines of the log are written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: log::LogFormat,
}

impl BmpdRunArguments {
    /// Returns the configuration file.
    pub fn config(&self) -> &Path {
        // clap requires the file unless there is a subcommand.
        self.config.as_deref().unwrap_or(Path::new(""))
    }
}
