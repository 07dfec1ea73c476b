//! A peer in the feed: its Peer Up and Peer Down, its routes, and what becomes of them while it restarts.
//!
//! A peer that restarts gracefully (RFC 4724) stays up for the stations while its restart time runs. When it is back, they are told, in one go,
//! that the session before is over, that there is a new one, and the routes that it kept; what it does not announce again by its End-of-RIB is
//! withdrawn then.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tracing::{error, info};

use super::{
    connection::{Lost, notification_of},
    fsm::{End, Event, Notice},
    open::{Negotiated, Remote},
    stale::{Stale, mark},
    updates::{Counters, Run, Translator},
};
use crate::{
    feed::{self, Feed, Input, View, names},
    wire::{
        bgp::{
            Family, Frame, Notification, RouteRefresh,
            notification::{cease, code},
            route_refresh::subtype,
        },
        bmp::{
            PeerHeader, PeerKey, PeerType, Statistic, StatisticType, build, peer_down_reason, peer_flags,
            statistics::{Value, statistics_report},
        },
    },
};

/// How long a peer may take to announce its routes again, after a restart or within a route refresh: what is left then is withdrawn.
const STALE_TIME: Duration = Duration::from_secs(360);

/// See the module.
#[derive(Debug)]
pub(super) struct Life {
    feed: Feed,
    name: String,
    input: Input,
    address: IpAddr,
    asn: u32,
    /// Whether that is the own AS.
    internal: bool,
    up: Option<Translator>,
    restarting: Option<Restarting>,
    /// When stale routes are withdrawn in any case.
    stale_until: Option<Instant>,
    /// Of the session before.
    counters: Counters,
}

/// A session that is over, of a peer that may be back soon.
#[derive(Debug)]
struct Restarting {
    until: Instant,
    /// Its Peer Down, which is told when the peer is back, or when the time is over.
    down: BytesMut,
    negotiated: Negotiated,
    header: PeerHeader,
}

impl Life {
    /// Of a peer of the AS `asn`, to a speaker of `own`.
    pub(super) fn new(feed: &Feed, address: IpAddr, asn: u32, own: u32) -> Self {
        let name = names::of_bgp_peer(address);
        let mut input = feed.input(&name);
        input.trust_opens();
        let (feed, counters) = (feed.clone(), Counters::default());
        let internal = asn == own;
        Self { feed, name, input, address, asn, internal, up: None, restarting: None, stale_until: None, counters }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// Whether the peer said that it may restart, so that its connecting anew means that it did (RFC 4724 §5).
    pub(super) fn restarts(&self) -> bool {
        let restart = self.up.as_ref().and_then(|up| up.negotiated.restart.as_ref());
        restart.is_some_and(|restart| !restart.families.is_empty())
    }

    pub(super) fn restart_until(&self) -> Option<Instant> {
        self.restarting.as_ref().map(|restarting| restarting.until)
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.restart_until().into_iter().chain(self.stale_until).min()
    }

    /// Routes that are to be announced again.
    pub(super) fn stale(&self) -> usize {
        self.up.as_ref().map_or(0, |up| up.stale.iter().map(Stale::len).sum())
    }

    /// What was counted of the session that is up, or of the one before.
    pub(super) fn counters(&self) -> Counters {
        self.up.as_ref().map_or(self.counters, |up| up.counters)
    }

    /// The session is established.
    pub(super) fn up(&mut self, peer: &Remote, sent_open: &[u8], ends: (SocketAddr, SocketAddr), now: Instant) {
        let (local, remote) = ends;
        let key =
            PeerKey { peer_type: PeerType::GLOBAL, distinguisher: [0; 8], address: build::address_field(self.address) };
        let ipv6 = if self.address.is_ipv6() { peer_flags::IPV6 } else { 0 };
        let two_byte = if peer.negotiated.as_size == 2 { peer_flags::TWO_BYTE_AS } else { 0 };
        let (asn, bgp_id) = (self.asn, peer.bgp_id);
        let header = PeerHeader { key, flags: ipv6 | two_byte, asn, bgp_id, seconds: 0, microseconds: 0 };
        let mut translator = Translator::new(peer.negotiated.clone(), header, self.internal);
        let mut told = BytesMut::new();
        let mut kept = Vec::new();
        if let Some(restarting) = self.restarting.take() {
            translator.stale = kept_families(&restarting, peer);
            if !translator.stale.is_empty() {
                mark(&self.feed, &self.name, &mut translator.stale, Some(&mut kept));
                self.stale_until = Some(now + STALE_TIME);
            }
            told.extend_from_slice(&restarting.down);
            let routes: usize = translator.stale.iter().map(Stale::len).sum();
            info!(peer = %self.address, "back from its restart: {routes} routes stay until it has announced what it has");
        }
        let (address, ports) = (local.ip().to_canonical(), [local.port(), remote.port()]);
        build::peer_up(&mut told, &translator.header(), address, ports, sent_open, &peer.open);
        self.append(told);
        for kept in kept {
            self.append(kept);
        }
        self.up = Some(translator);
    }

    /// The session is over.
    pub(super) fn down(&mut self, end: &End, received: Option<&[u8]>, lost: Option<Lost>, now: Instant) {
        let Some(mut up) = self.up.take() else { return };
        // What was stale before is not kept a second time (RFC 4724 §4.2).
        self.append(up.sweep(None));
        self.stale_until = None;
        self.counters = up.counters;
        let header = up.header();
        let mut down = BytesMut::new();
        match (&end.sent, received, lost) {
            // That it is no longer configured is said when the input is dropped.
            (Some(notice), ..) if *notice == Notice::cease(cease::DE_CONFIGURED) => return,
            (Some(notice), ..) => {
                let data = notification_of(notice);
                build::peer_down_because(&mut down, &header, peer_down_reason::LOCAL_NOTIFICATION, &data);
            }
            (None, Some(notification), _) => {
                build::peer_down_because(&mut down, &header, peer_down_reason::REMOTE_NOTIFICATION, notification);
            }
            (None, None, Some(Lost::Closed)) => {
                build::peer_down_because(&mut down, &header, peer_down_reason::REMOTE_CLOSED, &[]);
            }
            (None, None, _) => {
                let event = end.event.number().to_be_bytes();
                build::peer_down_because(&mut down, &header, peer_down_reason::LOCAL_EVENT, &event);
            }
        }
        match survives(&up.negotiated, end, received) {
            Some(time) => {
                info!(peer = %self.address, "its routes stay for {} s, as it may be restarting", time.as_secs());
                self.restarting = Some(Restarting { until: now + time, down, negotiated: up.negotiated, header });
            }
            None => self.append(down),
        }
    }

    /// What is due by now is done.
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(restarting) = self.restarting.take_if(|restarting| restarting.until <= now) {
            info!(peer = %self.address, "it did not come back within its restart time");
            self.append(restarting.down);
        }
        if self.stale_until.take_if(|until| *until <= now).is_some()
            && let Some(up) = &mut self.up
        {
            let swept = up.sweep(None);
            self.append(swept);
        }
    }

    /// The peer is spoken to no more.
    pub(super) fn end(mut self, notice: &Notice) {
        if *notice != Notice::cease(cease::DE_CONFIGURED)
            && let Some(restarting) = self.restarting.take()
        {
            self.append(restarting.down);
        }
    }

    /// Takes the UPDATEs that `buffer` starts with. None without a session.
    pub(super) fn updates(&mut self, buffer: &[u8]) -> Option<Run> {
        let up = self.up.as_mut()?;
        let run = up.look(buffer);
        if let Some((frames, block)) = up.write(buffer) {
            self.put(frames, block);
        }
        Some(run)
    }

    /// The peer has announced all that it has of a family.
    pub(super) fn complete(&mut self, family: Family) {
        let Some(up) = &mut self.up else { return };
        let swept = up.sweep(Some(family));
        if up.stale.is_empty() {
            self.stale_until = None;
        }
        self.append(swept);
    }

    /// A ROUTE-REFRESH. That the peer asks for routes is nothing to us, who have none for it.
    pub(super) fn refresh(&mut self, refresh: &RouteRefresh<'_>, now: Instant) {
        let Some(up) = &mut self.up else { return };
        match refresh.subtype {
            subtype::BEGIN => {
                let Some(stale) = up.negotiated.routes(refresh.family).and_then(Stale::new) else { return };
                up.stale.retain(|stale| stale.family != refresh.family);
                let mut stale = [stale];
                mark(&self.feed, &self.name, &mut stale, None);
                up.stale.extend(stale);
                self.stale_until.get_or_insert(now + STALE_TIME);
            }
            subtype::END => self.complete(refresh.family),
            _ => {}
        }
    }

    /// A Statistics Report, of a session that is up.
    pub(super) fn report(&mut self) {
        let Some(up) = &self.up else { return };
        let mut ribs = self.feed.ribs(&self.name);
        ribs.retain(|rib| rib.view == View::AdjRibInPre);
        let all = ribs.iter().map(|rib| rib.routes as u64).sum();
        let Counters { treated_as_withdraw, prefixes_treated_as_withdraw, .. } = up.counters;
        let fixed = [
            (StatisticType::ADJ_RIB_IN, Value::Gauge(all)),
            (StatisticType::TREATED_AS_WITHDRAW, Value::Counter(treated_as_withdraw)),
            (StatisticType::PREFIXES_TREATED_AS_WITHDRAW, Value::Counter(prefixes_treated_as_withdraw)),
        ];
        let of_families = ribs
            .iter()
            .map(|rib| (StatisticType::ADJ_RIB_IN_OF_FAMILY, Value::OfFamily(rib.family, rib.routes as u64)));
        let statistics: Vec<_> =
            fixed.into_iter().chain(of_families).map(|(kind, value)| Statistic { kind, value }).collect();
        let mut out = BytesMut::new();
        statistics_report(&mut out, &up.header(), &statistics);
        self.append(out);
    }

    fn append(&mut self, frames: BytesMut) {
        let block = frames.capacity();
        self.put(frames.freeze(), block);
    }

    fn put(&mut self, frames: Bytes, block: usize) {
        if let Err(error) = self.input.append(frames, block) {
            // They are made here: a mistake of this program.
            error!(peer = %self.address, "the feed refused what was made for it: {error}");
        }
        // What an UPDATE of a peer has that is odd has been judged before it came here.
        let notices = self.input.take_notices().into_iter();
        for notice in notices.filter(|notice| !matches!(notice, feed::Notice::NotUnderstood(_))) {
            error!(peer = %self.address, "the feed left out what was made for it: {notice}");
        }
    }
}

/// How long the routes of a session that is over stay; none if they do not.
///
/// A NOTIFICATION ends that, unless both ends said that it does not (RFC 8538 §4): this device always says so. What is wrong with
/// the session itself would be wrong again.
fn survives(negotiated: &Negotiated, end: &End, received: Option<&[u8]>) -> Option<Duration> {
    let restart = negotiated.restart.as_ref().filter(|restart| !restart.families.is_empty() && restart.seconds > 0)?;
    let survives = match (&end.event, received) {
        (Event::TcpConnectionFails, _) => true,
        (Event::HoldTimerExpires, _) => restart.notification,
        (Event::NotifMsg, Some(message)) => restart.notification && !is_hard_reset(message),
        _ => false,
    };
    survives.then(|| Duration::from_secs(restart.seconds.into()))
}

fn is_hard_reset(message: &[u8]) -> bool {
    let notification = Frame::parse(message).and_then(|frame| Notification::parse(&frame));
    matches!(notification, Ok(Notification { code: code::CEASE, subcode: cease::HARD_RESET, .. }))
}

/// The families whose routes stay when a peer is back (RFC 4724 §4.2): those that it says it kept, and that are written as before.
fn kept_families(before: &Restarting, peer: &Remote) -> Vec<Stale> {
    let Some(restart) = &peer.negotiated.restart else { return Vec::new() };
    // The same address, and another router.
    if peer.bgp_id != before.header.bgp_id {
        return Vec::new();
    }
    let kept = restart.families.iter().filter(|(_, forwarding)| *forwarding);
    let as_before = |family| {
        let routes = peer.negotiated.routes(family)?;
        (before.negotiated.routes(family) == Some(routes)).then(|| Stale::new(routes)).flatten()
    };
    kept.filter_map(|(family, _)| as_before(*family)).collect()
}
