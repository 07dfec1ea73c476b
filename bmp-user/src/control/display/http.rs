//! `display http`: where the HTTP server listens, and what it counted.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        ControlContext,
        http_status::{HttpCounts, HttpListenerState},
        words::words,
    },
    layout::{after, field},
};
use crate::config::HttpListen;

/// The HTTP server. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct HttpReport {
    /// `ADDRESS:PORT`; `None` where none is configured.
    pub(super) listen: Option<String>,
    pub(super) vpn_instance: Option<String>,
    pub(super) state: HttpState,
    /// Why the server does not listen.
    pub(super) why: Option<String>,
    /// Connections that are open.
    pub(super) connections: u64,
    /// Requests that were answered, also by a refusal.
    pub(super) requests: u64,
    /// Connections beyond the limits, which were closed at once.
    pub(super) refused: u64,
    /// Connections that were closed because the client was too slow.
    pub(super) slow: u64,
}

/// Whether the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpState {
    NotConfigured,
    Starting,
    Listening,
    Failed,
}

words!(HttpState {
    NotConfigured => "not-configured",
    Starting => "starting",
    Listening => "listening",
    Failed => "failed",
});

impl HttpReport {
    pub(super) fn of(context: &ControlContext) -> Self {
        let (listen, state) = context.http.listener();
        let HttpCounts { connections, requests, refused, slow } = context.http.counts();
        let (state, why) = match (&listen, state) {
            (None, _) => (HttpState::NotConfigured, None),
            (Some(_), HttpListenerState::Starting) => (HttpState::Starting, None),
            (Some(_), HttpListenerState::Listening) => (HttpState::Listening, None),
            (Some(_), HttpListenerState::Failed(why)) => (HttpState::Failed, Some(why)),
        };
        let (address, vpn_instance) = match listen {
            Some(HttpListen { address, vpn_instance }) => (Some(address.to_string()), vpn_instance),
            None => (None, None),
        };
        Self { listen: address, vpn_instance, state, why, connections, requests, refused, slow }
    }
}

impl fmt::Display for HttpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, vpn_instance, state, why, connections, requests, refused, slow } = self;
        let listen = listen.as_ref().map(|listen| format!("{listen}, ")).unwrap_or_default();
        let vpn_instance = vpn_instance.as_ref().map(|name| format!("vpn-instance {name}, ")).unwrap_or_default();
        writeln!(f, " HTTP server, {listen}{vpn_instance}{state}{}", after(": ", why.as_ref()))?;
        field(f, "Connections", format_args!("{connections} open, {refused} refused, {slow} too slow"))?;
        field(f, "Requests", requests)
    }
}
