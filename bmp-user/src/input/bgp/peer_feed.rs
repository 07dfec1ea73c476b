//! A BGP peer in the feed: its Peer Up and Peer Down, its routes, and graceful restart.
//!
//! A peer that restarts gracefully (RFC 4724) stays up for the stations during its restart time.
//! When it returns, stations get the Peer Down of the old session, the Peer Up of the new one and
//! the kept routes, all at once. Routes that the peer does not announce again before its End-of-RIB
//! are then withdrawn.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::sync::watch;
use tracing::{error, info};

use super::{
    connection::{ConnectionEnds, ConnectionLoss, notification_of},
    fsm::{FsmEvent, OutgoingNotification, SessionEnd},
    open::{Negotiated, PeerOpen},
    stale::{StaleCause, StaleRoutes, mark},
    updates::{MessageRun, UpdateCounters, UpdateTranslator},
};
use crate::{
    config::MaximumRoutes,
    feed::{DuplicateCounts, Feed, Input, InputId, InputNotice, MemoryExcess},
    input::budget::{BudgetNews, RouteBudget},
    wire::{
        bgp::{
            Family, Frame, Notification, RouteRefresh,
            notification::{cease, code},
            route_refresh::subtype,
        },
        bmp::{
            BmpChunk, PeerHeader, PeerKey, PeerType, RibView, RouteDistinguisher, Statistic, StatisticType, build,
            peer_down_reason, peer_flags,
            statistics::{StatisticValue, statistics_report},
        },
    },
};

/// How long a peer may take to announce its routes again, after a restart or in a route refresh.
/// Stale routes are withdrawn after that.
const STALE_TIME: Duration = Duration::from_secs(360);

/// A BGP peer as an input of the feed.
#[derive(Debug)]
pub(super) struct PeerFeed {
    feed: Feed,
    id: InputId,
    input: Input,
    address: IpAddr,
    asn: u32,
    /// True if the peer is in our own AS.
    internal: bool,
    up: Option<UpdateTranslator>,
    restarting: Option<Restarting>,
    /// When stale routes are withdrawn at the latest.
    stale_until: Option<Instant>,
    /// The counters of the previous session.
    counters: UpdateCounters,
    /// What the peer said again in this session because it had to.
    demanded: DuplicateCounts,
}

/// The old session of a peer that may be restarting.
#[derive(Debug)]
struct Restarting {
    until: Instant,
    /// Its Peer Down. Stations get it when the peer returns, or when the restart time is over.
    down: BytesMut,
    negotiated: Negotiated,
    header: PeerHeader,
}

impl PeerFeed {
    /// Creates the input of a peer in AS `asn`, for a speaker in AS `own`.
    pub(super) fn new(feed: &Feed, address: IpAddr, asn: u32, own: u32) -> Self {
        let id = InputId::BgpPeer(address);
        let mut input = feed.input(id.clone());
        input.trust_opens();
        let (feed, counters, demanded) = (feed.clone(), UpdateCounters::default(), DuplicateCounts::default());
        let internal = asn == own;
        Self {
            feed,
            id,
            input,
            address,
            asn,
            internal,
            up: None,
            restarting: None,
            stale_until: None,
            counters,
            demanded,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// True if the peer announced that it may restart, so that a new connection means a restart
    /// (RFC 4724 §5).
    pub(super) fn restarts(&self) -> bool {
        let restart = self.up.as_ref().and_then(|up| up.negotiated.restart.as_ref());
        restart.is_some_and(|restart| !restart.families.is_empty())
    }

    pub(super) fn restart_until(&self) -> Option<Instant> {
        self.restarting.as_ref().map(|restarting| restarting.until)
    }

    /// Returns when [`expire`](Self::expire) must be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.restart_until().into_iter().chain(self.stale_until).min()
    }

    /// Returns how many stale routes the peer has.
    pub(super) fn stale(&self) -> usize {
        self.up.as_ref().map_or(0, |up| up.stale.iter().map(StaleRoutes::len).sum())
    }

    /// Returns the counters of the current session, or of the previous one.
    pub(super) fn counters(&self) -> UpdateCounters {
        self.up.as_ref().map_or(self.counters, |up| up.counters)
    }

    /// Tells the stations that a session is established.
    pub(super) fn up(&mut self, peer: &PeerOpen, sent_open: &[u8], ends: ConnectionEnds, now: Instant) {
        let ConnectionEnds { local, remote } = ends;
        let key = PeerKey {
            peer_type: PeerType::GLOBAL,
            distinguisher: RouteDistinguisher::ZERO,
            address: build::address_field(self.address),
        };
        let ipv6 = if self.address.is_ipv6() { peer_flags::IPV6 } else { 0 };
        let two_byte = if peer.negotiated.as_size == 2 { peer_flags::TWO_BYTE_AS } else { 0 };
        let (asn, bgp_id) = (self.asn, peer.bgp_id);
        let header = PeerHeader { key, flags: ipv6 | two_byte, asn, bgp_id, seconds: 0, microseconds: 0 };
        let mut translator = UpdateTranslator::new(peer.negotiated.clone(), header, self.internal);
        let mut frames = BytesMut::new();
        let mut kept = Vec::new();
        if let Some(restarting) = self.restarting.take() {
            translator.stale = kept_families(&restarting, peer);
            if !translator.stale.is_empty() {
                mark(&self.feed, &self.id, &mut translator.stale, Some(&mut kept));
                self.stale_until = Some(now + STALE_TIME);
            }
            frames.extend_from_slice(&restarting.down);
            let routes: usize = translator.stale.iter().map(StaleRoutes::len).sum();
            info!(peer = %self.address, "back from its restart: {routes} routes stay until its End-of-RIB");
        }
        let (address, ports) = (local.ip().to_canonical(), [local.port(), remote.port()]);
        build::peer_up(&mut frames, &translator.header(), address, ports, sent_open, &peer.open);
        self.append(frames);
        for kept in kept {
            self.append(kept);
        }
        self.up = Some(translator);
        self.demanded = DuplicateCounts::default();
    }

    /// Ends the session. Stations get a Peer Down, unless the peer may be restarting.
    pub(super) fn down(
        &mut self,
        end: &SessionEnd,
        received: Option<&[u8]>,
        lost: Option<ConnectionLoss>,
        now: Instant,
    ) {
        let Some(mut up) = self.up.take() else { return };
        // Routes that were still stale are not kept a second time (RFC 4724 §4.2).
        self.append(up.sweep(None));
        self.stale_until = None;
        self.counters = up.counters;
        let header = up.header();
        let mut down = BytesMut::new();
        match (&end.sent, received, lost) {
            // Dropping the input sends the Peer Down for a peer that is no longer configured.
            (Some(notice), ..) if *notice == OutgoingNotification::cease(cease::DE_CONFIGURED) => return,
            (Some(notice), ..) => {
                let data = notification_of(notice);
                build::peer_down_because(&mut down, &header, peer_down_reason::LOCAL_NOTIFICATION, &data);
            }
            (None, Some(notification), _) => {
                build::peer_down_because(&mut down, &header, peer_down_reason::REMOTE_NOTIFICATION, notification);
            }
            (None, None, Some(ConnectionLoss::Closed)) => {
                build::peer_down_because(&mut down, &header, peer_down_reason::REMOTE_CLOSED, &[]);
            }
            (None, None, _) => {
                let event = end.event.number().to_be_bytes();
                build::peer_down_because(&mut down, &header, peer_down_reason::LOCAL_EVENT, &event);
            }
        }
        match survives(&up.negotiated, end, received) {
            Some(time) => {
                info!(peer = %self.address, "the peer may be restarting: its routes stay for {} s", time.as_secs());
                self.restarting = Some(Restarting { until: now + time, down, negotiated: up.negotiated, header });
            }
            None => self.append(down),
        }
    }

    /// Ends a restart, or a wait for stale routes, whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(restarting) = self.restarting.take_if(|restarting| restarting.until <= now) {
            info!(peer = %self.address, "the peer did not return within its restart time");
            self.append(restarting.down);
        }
        if self.stale_until.take_if(|until| *until <= now).is_some()
            && let Some(up) = &mut self.up
        {
            let swept = up.sweep(None);
            self.append(swept);
        }
    }

    /// Ends a restart before its time is over.
    pub(super) fn end_restart(&mut self) {
        if let Some(restarting) = self.restarting.take() {
            self.append(restarting.down);
        }
    }

    /// See [`Input::orders_to_close`].
    pub(super) fn orders_to_close(&self) -> watch::Receiver<Option<MemoryExcess>> {
        self.input.orders_to_close()
    }

    /// See [`Input::has_closed`].
    pub(super) fn has_closed(&mut self) {
        self.input.has_closed();
    }

    /// Ends the input because the peer is stopped.
    pub(super) fn end(mut self, notice: &OutgoingNotification) {
        if *notice != OutgoingNotification::cease(cease::DE_CONFIGURED)
            && let Some(restarting) = self.restarting.take()
        {
            self.append(restarting.down);
        }
    }

    /// Forwards the UPDATEs at the start of `buffer`. Returns `None` without a session.
    pub(super) fn updates(&mut self, buffer: &[u8]) -> Option<MessageRun> {
        let up = self.up.as_mut()?;
        // A peer that restarts or refreshes its routes has to say them again.
        let is_demanded = up.stale.iter().any(|stale| stale.len() > 0);
        let run = up.look(buffer);
        if let Some(frames) = up.write(buffer) {
            let before = is_demanded.then(|| self.feed.duplicates(&self.id));
            self.append(frames);
            if let Some(before) = before {
                self.demanded.add(self.feed.duplicates(&self.id).since(before));
            }
        }
        Some(run)
    }

    /// Looks whether the peer has more routes than its budget allows.
    pub(super) fn look(&mut self, budget: &mut RouteBudget) -> Option<BudgetNews> {
        budget.look(self.input.growth(), || self.input.count_routes())
    }

    /// Returns the family with most routes.
    pub(super) fn largest_family(&self) -> Option<Family> {
        self.feed.ribs(&self.id).iter().max_by_key(|rib| rib.routes).map(|rib| rib.family)
    }

    /// Handles the end of a family's routes: End-of-RIB, or the end of a route refresh.
    pub(super) fn complete(&mut self, family: Family) {
        let Some(up) = &mut self.up else { return };
        let swept = up.sweep(Some(family));
        if up.stale.is_empty() {
            self.stale_until = None;
        }
        self.append(swept);
    }

    /// Handles a ROUTE-REFRESH. A request for routes is ignored, because bmpd announces none.
    pub(super) fn refresh(&mut self, refresh: &RouteRefresh<'_>, now: Instant) {
        let Some(up) = &mut self.up else { return };
        match refresh.subtype {
            subtype::BEGIN => {
                let Some(stale) = up
                    .negotiated
                    .routes(refresh.family)
                    .and_then(|routes| StaleRoutes::new(routes, StaleCause::Refresh))
                else {
                    return;
                };
                up.stale.retain(|stale| stale.family != refresh.family);
                let mut stale = [stale];
                mark(&self.feed, &self.id, &mut stale, None);
                up.stale.extend(stale);
                self.stale_until.get_or_insert(now + STALE_TIME);
            }
            subtype::END => self.complete(refresh.family),
            _ => {}
        }
    }

    /// Sends a Statistics Report if the session is up. `limit` is the `maximum-routes` of the peer.
    pub(super) fn report(&mut self, limit: Option<MaximumRoutes>) {
        if let Some(report) = self.statistics(limit) {
            self.append(report);
        }
    }

    /// Keeps a Statistics Report for the stations that get them at times of their own.
    pub(super) fn keep_report(&mut self, limit: Option<MaximumRoutes>) {
        if let Some(report) = self.statistics(limit) {
            self.input.keep_statistics(&report);
        }
    }

    /// Returns a Statistics Report of this moment; `None` if the session is not up. bmpd applies no
    /// policy to what a peer sends, so its Adj-RIB-In is that before policy.
    fn statistics(&self, limit: Option<MaximumRoutes>) -> Option<BytesMut> {
        let up = self.up.as_ref()?;
        let mut ribs = self.feed.ribs(&self.id);
        ribs.retain(|rib| rib.view == RibView::AdjRibInPre);
        let all: u64 = ribs.iter().map(|rib| rib.routes as u64).sum();
        let UpdateCounters { treated_as_withdraw, prefixes_treated_as_withdraw, .. } = up.counters;
        let duplicates = self.feed.duplicates(&self.id).since(self.demanded);
        let fixed = [
            (StatisticType::DUPLICATE_ADVERTISEMENTS, StatisticValue::Counter(duplicates.advertisements)),
            (StatisticType::DUPLICATE_WITHDRAWS, StatisticValue::Counter(duplicates.withdrawals)),
            (StatisticType::ADJ_RIB_IN, StatisticValue::Gauge(all)),
            (StatisticType::TREATED_AS_WITHDRAW, StatisticValue::Counter(treated_as_withdraw)),
            (StatisticType::PREFIXES_TREATED_AS_WITHDRAW, StatisticValue::Counter(prefixes_treated_as_withdraw)),
            (StatisticType::DUPLICATE_UPDATES, StatisticValue::Counter(duplicates.updates)),
            (StatisticType::ADJ_RIB_IN_PRE, StatisticValue::Gauge(all)),
        ];
        let of_families = ribs.iter().flat_map(|rib| {
            let routes = StatisticValue::OfFamily(rib.family, rib.routes as u64);
            [(StatisticType::ADJ_RIB_IN_OF_FAMILY, routes), (StatisticType::ADJ_RIB_IN_PRE_OF_FAMILY, routes)]
        });
        let restarts = up.negotiated.restart.iter().flat_map(|restart| &restart.families);
        let stale = restarts.map(|(family, _)| {
            let is_of_family = |stale: &&StaleRoutes| stale.family == *family && stale.cause == StaleCause::Restart;
            let routes = up.stale.iter().find(is_of_family).map_or(0, StaleRoutes::len);
            (StatisticType::STALE_OF_FAMILY, StatisticValue::OfFamily(*family, routes as u64))
        });
        let left = limit.map(|limit| {
            let left = u64::from(limit.routes).saturating_sub(all);
            (StatisticType::LEFT_BEFORE_LIMIT, StatisticValue::Gauge(left))
        });
        let all = fixed.into_iter().chain(of_families).chain(stale).chain(left);
        let statistics: Vec<_> = all.map(|(kind, value)| Statistic { kind, value }).collect();
        let mut out = BytesMut::new();
        statistics_report(&mut out, &up.header(), &statistics);
        Some(out)
    }

    fn append(&mut self, frames: BytesMut) {
        self.input.append(BmpChunk::built(frames));
        // Malformed UPDATEs were handled before, so these notices need no log line.
        let notices = self.input.take_notices().into_iter();
        for notice in notices.filter(|notice| !matches!(notice, InputNotice::UpdateError(_))) {
            error!(peer = %self.address, "the feed leaves out frames of this peer: {notice}");
        }
    }
}

/// Returns how long the routes of a finished session stay, or `None` if they go at once.
///
/// After a NOTIFICATION they stay only if both ends announced that (RFC 8538 §4), which bmpd always
/// does. They go after an error of the session itself, because it would occur again.
fn survives(negotiated: &Negotiated, end: &SessionEnd, received: Option<&[u8]>) -> Option<Duration> {
    let restart = negotiated.restart.as_ref().filter(|restart| !restart.families.is_empty() && restart.seconds > 0)?;
    let survives = match (&end.event, received) {
        (FsmEvent::TcpConnectionFails, _) => true,
        (FsmEvent::HoldTimerExpires, _) => restart.notification,
        (FsmEvent::NotifMsg, Some(message)) => restart.notification && !is_hard_reset(message),
        _ => false,
    };
    survives.then(|| Duration::from_secs(restart.seconds.into()))
}

fn is_hard_reset(message: &[u8]) -> bool {
    let notification = Frame::parse(message).and_then(|frame| Notification::parse(&frame));
    matches!(notification, Ok(Notification { code: code::CEASE, subcode: cease::HARD_RESET, .. }))
}

/// Returns the families whose routes stay when a peer returns (RFC 4724 §4.2): families that the
/// peer kept and that have the same encoding as before.
fn kept_families(before: &Restarting, peer: &PeerOpen) -> Vec<StaleRoutes> {
    let Some(restart) = &peer.negotiated.restart else { return Vec::new() };
    // Another BGP identifier means another router at the same address.
    if peer.bgp_id != before.header.bgp_id {
        return Vec::new();
    }
    let kept = restart.families.iter().filter(|(_, forwarding)| *forwarding);
    let as_before = |family| {
        let routes = peer.negotiated.routes(family)?;
        (before.negotiated.routes(family) == Some(routes))
            .then(|| StaleRoutes::new(routes, StaleCause::Restart))
            .flatten()
    };
    kept.filter_map(|(family, _)| as_before(*family)).collect()
}
