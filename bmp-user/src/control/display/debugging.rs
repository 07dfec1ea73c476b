//! `display debugging`: what operators see of sessions now, and for how long.

use std::{fmt, net::IpAddr};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        ControlContext,
        words::{VpnInstanceName, words},
    },
    layout::{after, age, heading},
};
use crate::config::{Config, DebuggingTopic};

/// What operators see, in the order of the configuration.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(transparent)]
pub(super) struct DebuggingReports(pub(super) Vec<DebuggingReport>);

/// One topic of one session. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct DebuggingReport {
    pub(super) station: IpAddr,
    pub(super) vpn_instance: VpnInstanceName,
    pub(super) alias: Option<String>,
    pub(super) topic: DebuggedTopic,
    pub(super) seconds_left: u64,
}

/// What is shown of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DebuggedTopic {
    Connection,
    Messages,
}

words!(DebuggedTopic { Connection => "connection", Messages => "messages" });

impl From<DebuggingTopic> for DebuggedTopic {
    fn from(topic: DebuggingTopic) -> Self {
        match topic {
            DebuggingTopic::Connection => Self::Connection,
            DebuggingTopic::Messages => Self::Messages,
        }
    }
}

impl DebuggingReports {
    pub(super) fn of(context: &ControlContext, config: &Config) -> Self {
        let mut reports = Vec::new();
        for id in config.bmp.sessions.keys() {
            let Some(session) = context.sessions.get(id) else { continue };
            for topic in DebuggingTopic::ALL {
                if let Some(left) = session.status.debugging().left(topic) {
                    reports.push(DebuggingReport {
                        station: id.station,
                        vpn_instance: VpnInstanceName(id.vpn_instance.clone()),
                        alias: id.alias.clone(),
                        topic: topic.into(),
                        seconds_left: left.as_secs(),
                    });
                }
            }
        }
        Self(reports)
    }
}

impl fmt::Display for DebuggingReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        heading(f, "Sessions and topics that are debugged", self.0.len())?;
        for DebuggingReport { station, vpn_instance, alias, topic, seconds_left } in &self.0 {
            let instance = after(" vpn-instance ", vpn_instance.0.as_ref());
            let alias = after(" alias ", alias.as_ref());
            writeln!(f, "  bmp session{instance} {station}{alias} {topic}, for {} more", age(*seconds_left))?;
        }
        Ok(())
    }
}
