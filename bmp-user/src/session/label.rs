//! The name of a session, or of the connection of one router, in logs.

use std::{fmt, sync::Arc};

use crate::{config::SessionId, escape::Untrusted, feed::RouterId};

/// Names a connection in logs: its session, and its router if it has one of its own.
#[derive(Clone, Debug)]
pub(super) struct SessionLabel {
    pub(super) id: SessionId,
    pub(super) router: Option<Arc<RouterId>>,
}

/// `198.51.100.7`, or `198.51.100.7 router 192.0.2.1 edge1`.
impl fmt::Display for SessionLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        let Some(router) = &self.router else { return Ok(()) };
        write!(f, " router {}", router.address)?;
        router.sys_name.iter().try_for_each(|name| write!(f, " {}", Untrusted::new(name.to_string())))
    }
}
