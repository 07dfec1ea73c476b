//! `bmpd doctor`: what on this host would keep a session from working, and the command that mends
//! it.
//!
//! It reads and asks, and changes nothing. If bmpd runs, it says what has become of its sessions
//! and relays. Otherwise the doctor works that out from the configuration file.
//!
//! * `host`: the kernel, capabilities, cgroup, BPF file system, programs
//! * `configuration`: the file, and the sessions and ports in it
//! * `memory`: the memory that bmpd may take, beside `memory-limit`
//! * `running`: what a bmpd that runs says
//! * `frr`: the configuration files of FRR

mod configuration;
mod frr;
mod host;
mod memory;
mod running;

use std::{fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    control::{AnswerSchema, AnswerSubject},
    escape::escaped,
    pin::DatapathOptions,
};

/// Where the doctor looks.
#[derive(Clone, Debug)]
pub struct DoctorOptions {
    /// The configuration file. Without one, only the host is examined.
    pub config: Option<PathBuf>,
    /// The folder of what bmpd remembers. `None` for files beside the configuration file.
    pub state: Option<PathBuf>,
    /// The control socket of the bmpd that may run.
    pub control: PathBuf,
    /// How bmpd is to use the kernel.
    pub datapath: DatapathOptions,
    /// The folder of FRR's configuration.
    pub frr: PathBuf,
}

/// What a finding means for sessions. The JSON has the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingState {
    /// As it should be.
    Ok,
    /// Not examined, for the reason that the finding gives.
    Skipped,
    /// Works, and may not do what an operator expects.
    Warning,
    /// Keeps a session from working, or the kernel from enforcing.
    Problem,
}

impl FindingState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What was examined. The JSON has the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Examined {
    /// The release of the kernel, and its type information.
    Kernel,
    /// The capabilities of the process that asks.
    Capabilities,
    /// The cgroup that the programs are attached to.
    Cgroup,
    /// The BPF file system.
    Bpffs,
    /// The kernel programs.
    Programs,
    /// The configuration file.
    Configuration,
    /// A session.
    Session,
    /// A BGP peer.
    Peer,
    /// A relay.
    Relay,
    /// A port to listen on.
    Port,
    /// A TLS profile.
    Tls,
    /// The memory that bmpd may take.
    Memory,
    /// FRR beside bmpd.
    Frr,
    /// The bmpd that runs.
    Daemon,
}

impl Examined {
    fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Capabilities => "capabilities",
            Self::Cgroup => "cgroup",
            Self::Bpffs => "bpffs",
            Self::Programs => "programs",
            Self::Configuration => "configuration",
            Self::Session => "session",
            Self::Peer => "peer",
            Self::Relay => "relay",
            Self::Port => "port",
            Self::Tls => "tls",
            Self::Memory => "memory",
            Self::Frr => "frr",
            Self::Daemon => "daemon",
        }
    }
}

/// One thing that was examined. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct DoctorFinding {
    /// What was examined.
    pub examined: Examined,
    /// What it means for sessions.
    pub state: FindingState,
    /// What was found, in a sentence without its full stop.
    pub text: String,
    /// The command that mends it, where one is known.
    pub mend: Option<String>,
}

impl DoctorFinding {
    fn new(examined: Examined, state: FindingState, text: impl Into<String>) -> Self {
        Self { examined, state, text: text.into(), mend: None }
    }

    fn ok(examined: Examined, text: impl Into<String>) -> Self {
        Self::new(examined, FindingState::Ok, text)
    }

    fn skipped(examined: Examined, text: impl Into<String>) -> Self {
        Self::new(examined, FindingState::Skipped, text)
    }

    fn warning(examined: Examined, text: impl Into<String>) -> Self {
        Self::new(examined, FindingState::Warning, text)
    }

    fn problem(examined: Examined, text: impl Into<String>) -> Self {
        Self::new(examined, FindingState::Problem, text)
    }

    /// Adds the command that mends it; an empty one is none.
    fn mended_by(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()).filter(|mend| !mend.is_empty()), ..self }
    }
}

/// Everything that was examined, in the order of the examination.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(transparent)]
pub struct DoctorReport(Vec<DoctorFinding>);

impl DoctorReport {
    /// True if something keeps a session from working, or the kernel from enforcing.
    pub fn has_problem(&self) -> bool {
        self.count(FindingState::Problem) > 0
    }

    fn count(&self, state: FindingState) -> usize {
        self.0.iter().filter(|finding| finding.state == state).count()
    }
}

/// The findings as lines, with a sum at the end.
impl fmt::Display for DoctorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for DoctorFinding { examined, state, text, mend } in &self.0 {
            writeln!(f, "{:<8} {:<13} {}", state.as_str(), examined.as_str(), escaped(text))?;
            if let Some(mend) = mend {
                writeln!(f, "{:<8} {:<13} {}", "", "to mend it:", escaped(mend))?;
            }
        }
        let sum = |state, one: &str| match self.count(state) {
            1 => format!("1 {one}"),
            count => format!("{count} {one}s"),
        };
        writeln!(f, "\n{}, {}", sum(FindingState::Problem, "problem"), sum(FindingState::Warning, "warning"))
    }
}

/// Returns the schema of the report in JSON.
///
/// # Errors
///
/// `docs/reference/json.md` lacks a field of the report, or has one that the report lacks.
pub fn answer_schema() -> anyhow::Result<AnswerSchema> {
    AnswerSchema::of::<DoctorReport>(AnswerSubject::Doctor)
}

/// Examines this host.
///
/// # Errors
///
/// The interfaces of this host cannot be read over netlink.
pub async fn examine(options: &DoctorOptions) -> anyhow::Result<DoctorReport> {
    let mut findings = host::examine(&options.datapath);
    let (file, state) = (options.config.as_deref(), options.state.as_deref());
    let checked = configuration::load(file, state, options.datapath.room, &mut findings);
    let config = checked.as_ref().map(|checked| &checked.config);
    findings.extend(memory::examine(&options.control, config));
    findings.extend(config.and_then(host::examine_signing));
    findings.extend(config.into_iter().flat_map(host::examine_tls));
    match running::examine(&options.control) {
        Some(of_bmpd) => {
            findings.extend(of_bmpd);
            findings.extend(checked.iter().flat_map(configuration::warnings));
        }
        None => {
            findings.push(DoctorFinding::skipped(
                Examined::Daemon,
                format!("no bmpd serves {}", options.control.display()),
            ));
            findings.extend(checked.iter().flat_map(configuration::warnings));
            if let Some(config) = config {
                findings.extend(configuration::examine_pins(config).await?);
                findings.extend(configuration::examine_ports(config));
            }
        }
    }
    findings.extend(frr::examine(&options.frr, config));
    Ok(DoctorReport(findings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnosis_names_what_mends_each_finding_and_sums_up() {
        let diagnosis = DoctorReport(vec![
            DoctorFinding::ok(Examined::Kernel, "Linux 6.1.0"),
            DoctorFinding::problem(Examined::Session, "no-route: there is none").mended_by("ip route add \u{1b}[2J"),
            DoctorFinding::warning(Examined::Relay, "odd"),
        ]);
        assert_eq!(
            diagnosis.to_string(),
            "ok       kernel        Linux 6.1.0\n\
             problem  session       no-route: there is none\n         \
             to mend it:   ip route add \\u{1b}[2J\n\
             warning  relay         odd\n\n\
             1 problem, 1 warning\n"
        );
        assert!(diagnosis.has_problem());
        assert_eq!(
            serde_json::to_value(&diagnosis).unwrap()[1],
            serde_json::json!({
                "examined": "session",
                "state": "problem",
                "text": "no-route: there is none",
                "mend": "ip route add \u{1b}[2J",
            })
        );
    }
}
