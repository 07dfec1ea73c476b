//! `display version`: which bmpd this is, on which kernel, and for how long it runs.

use std::{
    env, fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::ControlContext,
    egress::Enforcer,
    layout::{after, age, field, or_dash},
    metrics::process_start,
};
use crate::pin::Enforcement;

/// This bmpd. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct VersionReport {
    pub(super) version: &'static str,
    /// `release`, or `debug` for a build with additional checks.
    pub(super) build: &'static str,
    /// The architecture that it was built for, in Rust's words: `x86_64`.
    pub(super) architecture: &'static str,
    /// The release of the running kernel.
    pub(super) kernel: String,
    pub(super) enforcement: Enforcer,
    /// Why `enforcement` is `cgroup` or `socket`.
    pub(super) why: Option<String>,
    /// The capabilities that bmpd still has.
    pub(super) capabilities: Vec<String>,
    /// The layers of the sandbox that are not whole, each with the reason.
    pub(super) sandbox_lacks: Vec<String>,
    pub(super) uptime_seconds: Option<u64>,
}

impl VersionReport {
    pub(super) fn of(context: &ControlContext) -> Self {
        let enforcement = context.pins.datapath().enforcement_now();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            architecture: env::consts::ARCH,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| "unknown".to_owned(), |release| release.trim().to_owned()),
            enforcement: Enforcer::from(&enforcement),
            why: match enforcement {
                Enforcement::Cgroup { why } | Enforcement::Socket { why } => Some(why),
                Enforcement::Kernel => None,
            },
            capabilities: context.sandbox.capabilities.clone(),
            sandbox_lacks: context.sandbox.lacks(),
            uptime_seconds: process_start().map(|start| (now - start).max(0.0) as u64),
        }
    }
}

impl fmt::Display for VersionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            build,
            architecture,
            kernel,
            enforcement,
            why,
            capabilities,
            sandbox_lacks,
            uptime_seconds,
        } = self;
        writeln!(f, " bmpd {version}")?;
        field(f, "Build", format_args!("{build}, {architecture}"))?;
        field(f, "Kernel", format_args!("Linux {kernel}"))?;
        field(f, "Enforcement", format_args!("{enforcement}{}", after(": ", why.as_ref())))?;
        match sandbox_lacks.as_slice() {
            [] => field(f, "Sandbox", "in force")?,
            lacks => lacks.iter().try_for_each(|lack| field(f, "Sandbox", format_args!("{lack}")))?,
        }
        field(f, "Capabilities", or_dash((!capabilities.is_empty()).then(|| capabilities.join(", "))))?;
        field(f, "Uptime", or_dash(uptime_seconds.map(age)))
    }
}
