//! The reports of the displays as metrics, in the text format of OpenMetrics.
//!
//! A table a report ([`session`], [`routers`], [`peer`], [`input`], [`process`]) has its metrics. A
//! test holds them to the JSON of the displays: every number that a display counts has a metric
//! with the same value, or stands in a list that says why it has none.
//!
//! * `metric`: a row of such a table, and how it is written

mod input;
mod metric;
mod peer;
mod process;
#[cfg(test)]
mod reference;
mod routers;
mod session;

use std::{fmt, io};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    registry::Registry,
};

pub(super) use self::process::process_start;
use self::{
    metric::{Labelled, TextWriter},
    process::{CertificateExpiry, ProcessReport, WholeReport},
};
use super::{
    super::ControlContext,
    WriteAnswer,
    feed::FeedReport,
    http::HttpReport,
    monitored::{self, MonitoredPeer},
    peer::{self as bgp, BgpPeerReport},
    relay::{RelayReport, RelayReports},
    replay::{ReplayReport, ReplayReports},
    session::{self as sessions, SessionFilter, SessionReport, UplinkLookup},
};
use crate::config::Config;

/// The reports of one scrape.
#[derive(Debug)]
struct Scrape {
    whole: WholeReport,
    sessions: Vec<SessionReport>,
    feed: FeedReport,
    relays: Vec<RelayReport>,
    replays: Vec<ReplayReport>,
    /// Empty unless `http peer-metrics` is configured.
    bgp_peers: Vec<BgpPeerReport>,
    /// Empty unless `http peer-metrics` is configured.
    peers: Vec<MonitoredPeer>,
    certificates: Vec<CertificateExpiry>,
    http: HttpReport,
    process: ProcessReport,
}

impl Scrape {
    fn of(context: &ControlContext, config: &Config) -> Self {
        let with_peers = config.http_peer_metrics;
        Self {
            whole: WholeReport::of(context, config),
            sessions: sessions::all(context, config, &SessionFilter::default(), UplinkLookup::Omitted),
            feed: FeedReport::of(context, config),
            relays: RelayReports::of(context, config).0,
            replays: ReplayReports::of(context, config).0,
            bgp_peers: if with_peers { bgp::all(context, config) } else { Vec::new() },
            peers: if with_peers { monitored::all(context) } else { Vec::new() },
            certificates: CertificateExpiry::all(&context.tls),
            http: HttpReport::of(context),
            process: ProcessReport::of_this(),
        }
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        Labelled::new(std::slice::from_ref(&self.whole)).encode(&process::WHOLE, encoder)?;
        Labelled::new(&self.sessions).encode(&session::SESSION, encoder)?;
        Labelled::new(&self.sessions).encode(&routers::ROUTERS, encoder)?;
        Labelled::new(std::slice::from_ref(&self.feed)).encode(&input::FEED, encoder)?;
        Labelled::new(&self.relays).encode(&input::RELAY, encoder)?;
        Labelled::new(&self.replays).encode(&input::REPLAY, encoder)?;
        Labelled::new(&self.bgp_peers).encode(&peer::BGP_PEER, encoder)?;
        Labelled::new(&self.peers).encode(&peer::PEER, encoder)?;
        Labelled::new(&self.certificates).encode(&process::CERTIFICATES, encoder)?;
        Labelled::new(std::slice::from_ref(&self.http)).encode(&process::HTTP, encoder)?;
        Labelled::new(std::slice::from_ref(&self.process)).encode(&process::PROCESS, encoder)
    }
}

/// Writes the metrics of a scrape.
fn write(scrape: Scrape, out: &mut dyn io::Write) -> io::Result<()> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut writer = TextWriter::new(out);
    // The writer keeps its error, and nothing else fails.
    let _ = text::encode(&mut writer, &registry);
    writer.end()
}

impl ControlContext {
    /// Returns what writes the metrics, in the text format of OpenMetrics 1.0.
    pub(crate) fn metrics(&self) -> WriteAnswer {
        let (context, config) = (self.clone(), self.store.running());
        Box::new(move |out| write(Scrape::of(&context, &config), out))
    }
}
