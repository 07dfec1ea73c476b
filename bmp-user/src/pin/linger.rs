//! How long the last packets of a replaced pin may take.

use std::time::Duration;

/// How long the slot of a replaced pin stays as it was, so that FIN and RST of its sockets leave by
/// the old way.
pub(super) const LINGER: Duration = Duration::from_secs(10);
