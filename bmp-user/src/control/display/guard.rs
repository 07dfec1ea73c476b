//! What `display bmp session` knows about the guard of a passive session.

use serde::Serialize;

use super::super::Context;
use crate::{
    config::{Session as Configured, Transport},
    session::Session,
};

/// Where strangers are kept away, and how many were. Sessions that share a listener share the numbers.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Guard {
    pub(super) interfaces: Vec<Interface>,
    /// By XDP, before the stack.
    pub(super) dropped_packets: u64,
    /// IP bytes.
    pub(super) dropped_bytes: u64,
    /// By the listener's own program: where XDP is not to be had, and what came by other interfaces.
    pub(super) refused_packets: u64,
    /// IP bytes.
    pub(super) refused_bytes: u64,
}

/// One interface that the station may connect by.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Interface {
    /// Kernel name.
    pub(super) name: String,
    /// `native`, `generic` or `none`.
    pub(super) mode: &'static str,
    /// Why it is `none`.
    pub(super) why: Option<String>,
}

/// `None` where this host connects.
pub(super) fn report(context: &Context, configured: &Configured, session: &Session) -> Option<Guard> {
    if !matches!(configured.transport, Some(Transport::Listen(_))) {
        return None;
    }
    let report = context.pins.guard(&session.pin);
    let interfaces = report.interfaces.into_iter().map(|interface| {
        let (mode, why) = match interface.hook {
            Ok(hook) => (hook.as_str(), None),
            Err(why) => ("none", Some(why)),
        };
        Interface { name: interface.name, mode, why }
    });
    Some(Guard {
        interfaces: interfaces.collect(),
        dropped_packets: report.dropped.packets,
        dropped_bytes: report.dropped.bytes,
        refused_packets: report.refused.packets,
        refused_bytes: report.refused.bytes,
    })
}

impl Guard {
    /// `up2 (generic), up3 (none: another XDP program is there)`.
    pub(super) fn in_words(&self) -> String {
        let one = |interface: &Interface| {
            let why = interface.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{} ({}{why})", interface.name, interface.mode)
        };
        let all: Vec<_> = self.interfaces.iter().map(one).collect();
        if all.is_empty() { "-".to_owned() } else { all.join(", ") }
    }

    /// How many packets of strangers were dropped, and where.
    pub(super) fn strangers(&self) -> String {
        format!(
            "{} bytes in {} packets dropped, {} bytes in {} packets refused",
            self.dropped_bytes, self.dropped_packets, self.refused_bytes, self.refused_packets
        )
    }
}
