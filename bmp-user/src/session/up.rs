//! How a session that comes up is shown, and the warning if it has another source than before.

use std::net::SocketAddr;

use tracing::warn;

use super::{context::SessionContext, status::SessionSnapshot};
use crate::pin::Grant;

impl SessionContext {
    /// Shows the session up from `local`. `change` shows the rest.
    ///
    /// Warns once if the source is another than that of the connection before: a station knows a
    /// router by it.
    pub(super) fn show_up(&self, grant: &Grant, local: Option<SocketAddr>, change: impl FnOnce(&mut SessionSnapshot)) {
        let before = self.status.snapshot();
        self.status.update(|shown| {
            shown.clear_cause();
            shown.local = local;
            change(shown);
        });
        let Some((old, new)) = before.source.zip(self.status.snapshot().source).filter(|(old, new)| old != new) else {
            return;
        };
        let was_down = before.why.map(|why| format!("; it was down: {why}")).unwrap_or_default();
        let cause = format!("{}{was_down}", grant.resolved.rule);
        warn!(
            session = %self.label(), station = %grant.target.station, interface = grant.resolved.interface_names(),
            source = %new, old_source = %old, cause, "the station sees another source: {new} instead of {old}: {cause}"
        );
    }
}
