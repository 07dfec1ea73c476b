//! What a pin comes to, as `display bmp session` and `display bgp peer` show it: the interfaces
//! that packets may leave by, who enforces that, and what the kernel counted.

use std::fmt;

use bmp_ebpf::Counters;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{ControlContext, names::egress_names, words::words},
    layout::{after, age, field, may_leave_by, or_dash},
};
use crate::pin::{Enforcement, ResolvedPin};

/// Who holds packets to a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enforcer {
    /// The kernel programs, for all processes.
    Kernel,
    /// The kernel programs, for the processes of one cgroup alone.
    Cgroup,
    /// Nobody but the socket's own binding.
    Socket,
    /// Nobody: there is no pin.
    None,
}

words!(Enforcer { Kernel => "kernel", Cgroup => "cgroup", Socket => "socket", None => "none" });

impl From<&Enforcement> for Enforcer {
    fn from(enforcement: &Enforcement) -> Self {
        match enforcement {
            Enforcement::Kernel => Self::Kernel,
            Enforcement::Cgroup { .. } => Self::Cgroup,
            Enforcement::Socket { .. } => Self::Socket,
        }
    }
}

/// Something that the kernel should enforce and does not. Field names are those of the JSON.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct EnforcementLoss {
    /// Seconds since bmpd found the loss.
    pub(super) for_seconds: u64,
    /// What is lost, and why it is not mended yet.
    pub(super) why: String,
}

/// The egress of a pin. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct EgressReport {
    /// True if packets may leave by any interface (of the VRF).
    pub(super) any: bool,
    /// Kernel names of the interfaces that packets may leave by. Empty where `any` is true, and
    /// where the session is denied.
    pub(super) interfaces: Vec<String>,
    pub(super) enforcement: Enforcer,
    /// Why `enforcement` is `cgroup` or `socket`.
    pub(super) why: Option<String>,
    /// The loss that lasts now, for all sessions.
    pub(super) lost: Option<EnforcementLoss>,
    /// Losses since bmpd began. `None` where no kernel program is loaded, which could be lost.
    pub(super) losses: Option<u64>,
    /// The VRF that `any` is limited to. Text only.
    #[serde(skip)]
    pub(super) vrf: Option<String>,
}

impl EgressReport {
    /// Describes a pin that came to `resolved`. Without `is_pinned` the kernel enforces nothing for
    /// it.
    pub(super) fn of(
        context: &ControlContext,
        resolved: Option<&ResolvedPin>,
        is_pinned: bool,
        vrf: Option<String>,
    ) -> Self {
        let datapath = context.pins.datapath();
        let enforcement = datapath.enforcement_now();
        let why = match &enforcement {
            Enforcement::Cgroup { why } | Enforcement::Socket { why } if is_pinned => Some(why.clone()),
            _ => None,
        };
        let lost = datapath.loss().map(|loss| EnforcementLoss {
            for_seconds: loss.since.elapsed().as_secs(),
            why: match loss.not_mended {
                Some(not_mended) => format!("{}; not mended yet: {not_mended}", loss.why),
                None => loss.why,
            },
        });
        Self {
            any: resolved.is_some_and(|resolved| resolved.egress.is_empty()),
            interfaces: resolved.map(|resolved| egress_names(resolved, &context.host.borrow())).unwrap_or_default(),
            enforcement: if is_pinned { Enforcer::from(&enforcement) } else { Enforcer::None },
            why,
            lost,
            losses: datapath.losses(),
            vrf,
        }
    }
}

/// Lines of a detailed display.
impl fmt::Display for EgressReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        field(f, "May leave by", may_leave_by(self.any, self.vrf.as_deref(), &self.interfaces))?;
        let enforcer =
            if self.enforcement == Enforcer::Cgroup { "this cgroup only" } else { self.enforcement.as_str() };
        let why = self.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        field(f, "Enforcement", format_args!("{enforcer}{why}"))?;
        if let Some(lost) = &self.lost {
            field(f, "Lost", format_args!("for {}{}", age(lost.for_seconds), after(": ", Some(&lost.why))))?;
        }
        match self.losses {
            None | Some(0) => Ok(()),
            Some(losses) => field(f, "Losses", format_args!("{losses} since bmpd began")),
        }
    }
}

/// What the kernel counted for a pin. `None` is what nothing counts. Field names are those of the
/// JSON and are stable.
#[derive(Clone, Debug, Default, JsonSchema, Serialize)]
pub(super) struct KernelCounters {
    /// IP bytes.
    pub(super) tx_bytes: Option<u64>,
    pub(super) tx_packets: Option<u64>,
    /// Bytes of TCP payload.
    pub(super) tx_payload_bytes: Option<u64>,
    /// IP bytes.
    pub(super) rx_bytes: Option<u64>,
    pub(super) rx_packets: Option<u64>,
    /// Segments sent again.
    pub(super) retransmits: Option<u64>,
    pub(super) denied: Option<DeniedCounters>,
    pub(super) foreign: Option<ForeignCounters>,
}

/// Packets dropped and connects refused, by cause.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct DeniedCounters {
    pub(super) interface: u64,
    pub(super) source: u64,
    pub(super) mark: u64,
    pub(super) no_pin: u64,
}

/// Packets of other processes' connections to the same station and port.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct ForeignCounters {
    /// IP bytes.
    pub(super) tx_bytes: u64,
    pub(super) tx_packets: u64,
}

impl DeniedCounters {
    /// Returns the number of all causes.
    pub(super) fn total(&self) -> u64 {
        let Self { interface, source, mark, no_pin } = self;
        interface + source + mark + no_pin
    }
}

impl KernelCounters {
    /// What the kernel programs counted.
    pub(super) fn of(counters: &Counters) -> Self {
        Self {
            tx_bytes: Some(counters.own_tx.bytes),
            tx_packets: Some(counters.own_tx.packets),
            tx_payload_bytes: Some(counters.own_tx.payload_bytes),
            rx_bytes: Some(counters.own_rx.bytes),
            rx_packets: Some(counters.own_rx.packets),
            retransmits: Some(counters.retransmits),
            denied: Some(DeniedCounters {
                interface: counters.denied_interface,
                source: counters.denied_source,
                mark: counters.denied_mark,
                no_pin: counters.denied_no_pin,
            }),
            foreign: Some(ForeignCounters {
                tx_bytes: counters.foreign_tx.bytes,
                tx_packets: counters.foreign_tx.packets,
            }),
        }
    }

    /// What the kernel programs counted for a pin, or nothing where no program has counted for it:
    /// none is loaded, or the pin has never been in force.
    pub(super) fn of_pin(context: &ControlContext, counters: &Counters, is_pinned: bool) -> Self {
        let is_counted = is_pinned && context.pins.datapath().enforcement().is_by_programs();
        if is_counted || *counters != Counters::default() { Self::of(counters) } else { Self::default() }
    }
}

/// Lines of a detailed display. `foreign` is not among them: sessions alone have it.
impl fmt::Display for KernelCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tx_bytes, tx_packets, tx_payload_bytes, rx_bytes, rx_packets, retransmits, denied, .. } = self;
        let sent = tx_bytes.zip(*tx_packets).zip(*tx_payload_bytes);
        let sent =
            sent.map(|((bytes, packets), payload)| format!("{bytes} bytes in {packets} packets, {payload} of payload"));
        let again = after(", ", retransmits.map(|segments| format!("{segments} segments again")));
        field(f, "Sent", format_args!("{}{again}", or_dash(sent)))?;
        let received = rx_bytes.zip(*rx_packets);
        field(f, "Received", or_dash(received.map(|(bytes, packets)| format!("{bytes} bytes in {packets} packets"))))?;
        field(f, "Denied", or_dash(denied.as_ref()))
    }
}

impl fmt::Display for DeniedCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, source, mark, no_pin } = self;
        write!(f, "{interface} by interface, {source} by source, {mark} by mark, {no_pin} without a pin")
    }
}

impl fmt::Display for ForeignCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tx_bytes, tx_packets } = self;
        write!(f, "{tx_bytes} bytes in {tx_packets} packets")
    }
}

impl ControlContext {
    /// Looks at the kernel, so that the answer of a `display` is true. Returns a sentence about
    /// what is lost, if anything is.
    pub(in crate::control) fn find_loss(&self) -> Option<String> {
        let loss = self.pins.datapath().look()?;
        Some(match loss.enforced {
            true => format!("what the kernel enforces would not outlive bmpd, or not as it should: {}", loss.why),
            false => format!("the kernel does not enforce: {}", loss.why),
        })
    }
}
