//! The guard of a passive session: where packets of strangers are dropped, and how many were.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{ControlContext, words::words},
    layout::or_dash,
};
use crate::{
    config::{SessionConfig, Transport},
    pin::Hook,
    session::SessionHandle,
};

/// The guard of one session. Sessions that share a listener share the numbers. Field names are
/// those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct StrangerGuard {
    pub(super) interfaces: Vec<GuardMode>,
    /// Packets that XDP dropped, before the stack. `None` where XDP sees no interface.
    pub(super) dropped_packets: Option<u64>,
    /// IP bytes.
    pub(super) dropped_bytes: Option<u64>,
    /// Packets that the listener's own program dropped: where XDP is not to be had, and on other
    /// interfaces. `None` without kernel programs.
    pub(super) refused_packets: Option<u64>,
    /// IP bytes.
    pub(super) refused_bytes: Option<u64>,
}

/// How one interface that the station may connect by is guarded.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct GuardMode {
    /// Kernel name.
    pub(super) name: String,
    pub(super) mode: XdpMode,
    /// Why `mode` is `none`.
    pub(super) why: Option<String>,
}

/// How program `guard` sees the packets of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum XdpMode {
    /// In the driver.
    Native,
    /// Behind the driver, before the stack.
    Generic,
    /// Not at all.
    None,
}

words!(XdpMode { Native => "native", Generic => "generic", None => "none" });

impl StrangerGuard {
    /// Returns `None` where this host connects.
    pub(super) fn of(context: &ControlContext, configured: &SessionConfig, session: &SessionHandle) -> Option<Self> {
        if !matches!(configured.transport, Some(Transport::Listen(_))) {
            return None;
        }
        let report = context.pins.guard(&session.pin);
        let is_seen = report.interfaces.iter().any(|interface| interface.hook.is_ok());
        let dropped = (is_seen || report.dropped.packets > 0).then_some(report.dropped);
        let refused = context.pins.datapath().enforcement().is_by_programs().then_some(report.refused);
        let interfaces = report.interfaces.into_iter().map(|interface| {
            let (mode, why) = match interface.hook {
                Ok(Hook::Native) => (XdpMode::Native, None),
                Ok(Hook::Generic) => (XdpMode::Generic, None),
                Err(why) => (XdpMode::None, Some(why)),
            };
            GuardMode { name: interface.name, mode, why }
        });
        Some(Self {
            interfaces: interfaces.collect(),
            dropped_packets: dropped.map(|dropped| dropped.packets),
            dropped_bytes: dropped.map(|dropped| dropped.bytes),
            refused_packets: refused.map(|refused| refused.packets),
            refused_bytes: refused.map(|refused| refused.bytes),
        })
    }

    /// Returns `up2 (generic), up3 (none: another XDP program is there)`.
    pub(super) fn modes(&self) -> String {
        let modes: Vec<_> = self.interfaces.iter().map(ToString::to_string).collect();
        if modes.is_empty() { "-".to_owned() } else { modes.join(", ") }
    }

    /// Returns how many packets of strangers were dropped, and where.
    pub(super) fn strangers(&self) -> String {
        let Self { dropped_packets, dropped_bytes, refused_packets, refused_bytes, .. } = self;
        let traffic = |bytes: &Option<u64>, packets: &Option<u64>, word| {
            let traffic = bytes.zip(*packets);
            or_dash(traffic.map(|(bytes, packets)| format!("{bytes} bytes in {packets} packets {word}")))
        };
        let dropped = traffic(dropped_bytes, dropped_packets, "dropped");
        format!("{dropped}, {}", traffic(refused_bytes, refused_packets, "refused"))
    }
}

impl fmt::Display for GuardMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, mode, why } = self;
        match why {
            Some(why) => write!(f, "{name} ({mode}: {why})"),
            None => write!(f, "{name} ({mode})"),
        }
    }
}
