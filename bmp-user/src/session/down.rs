//! Why a session is down: how that is shown, logged and explained, whoever opens the connection.

use tracing::warn;

use super::{
    context::SessionContext,
    status::{CauseOrigin, SessionPhase},
};
use crate::pin::{DownCause, Grant, Reason, back_on_its_way};

impl SessionContext {
    /// Shows the session down. Logs each cause once.
    pub(super) fn show_down(&self, cause: &DownCause, origin: CauseOrigin) {
        let shown = self.status.snapshot();
        if shown.phase != SessionPhase::Down || shown.why.as_ref() != Some(&cause.why) {
            warn!(session = %self.label(), reason = %cause.reason, "down: {}: {}", cause.reason, cause.why);
        }
        self.status.update(|shown| {
            shown.phase = SessionPhase::Down;
            shown.set_cause(cause, origin);
            shown.retry_at = None;
            shown.local = None;
            shown.process = None;
        });
    }
}

/// The cause of a connection that an operator's reset closes.
pub(super) fn manual_reset() -> DownCause {
    DownCause::without_mend(Reason::ManualReset, "an operator reset the session")
}

/// The cause of a connection that is closed because another pin is in force.
pub(super) fn pin_replaced() -> DownCause {
    DownCause::without_mend(Reason::ConfigurationChanged, "what is in force for the session changed")
}

/// Explains a silent station by the packets that the kernel denied meanwhile, if there are any.
pub(super) fn explain_silence(cause: DownCause, denied_packets: u64, grant: &Grant) -> DownCause {
    let is_silence = matches!(cause.reason, Reason::ConnectTimeout | Reason::KeepaliveTimeout);
    if !is_silence || denied_packets == 0 {
        return cause;
    }
    DownCause {
        reason: Reason::EgressDenied,
        why: format!("the kernel dropped {denied_packets} packets that would have left elsewhere ({})", cause.why),
        mend: back_on_its_way(&grant.target, &grant.resolved).unwrap_or_default(),
    }
}
