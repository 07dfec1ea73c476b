//! A peer's task, the router at the far end of its connections, and a station that follows the
//! feed.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    config::MaximumRoutes,
    feed::{Feed, Follower, InputId, Selection},
    input::bgp::{
        connection::BgpSocket,
        dial::PeerTarget,
        fsm::OutgoingNotification,
        open::LocalSpeaker,
        peer::{Dial, PeerCommand, PeerPlan, PeerTask, PeerWatches},
        status::{BgpPeers, PeerRegistration, PeerStatus},
        updates::UpdateCounters,
    },
    wire::{
        bgp::{
            self, Capabilities, Capability, Family, MAX_EXTENDED_MESSAGE, MessageType, capability::add_path, keepalive,
            notification, open,
        },
        bmp::{self, Message, frames},
    },
};

pub(super) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 2));
pub(super) const OWN_ID: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
pub(super) const ASN: u32 = 65001;
pub(super) const OWN_ASN: u32 = 65000;
/// Time within which everything that can happen has happened.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(super) fn plan() -> PeerPlan {
    PeerPlan {
        target: PeerTarget { address: ADDRESS, port: 179, password: None, keychain: None },
        asn: ASN,
        local: LocalSpeaker {
            asn: OWN_ASN,
            bgp_id: OWN_ID,
            hold: 90,
            families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        },
        keepalive: Duration::from_secs(30),
        connects: true,
    }
}

pub(super) struct BgpWorld {
    pub(super) feed: Feed,
    peers: BgpPeers,
    _registered: PeerRegistration,
    station: Follower,
    pub(super) commands: mpsc::Sender<PeerCommand>,
    pub(super) statistics: watch::Sender<Duration>,
    pub(super) kept_statistics: watch::Sender<Duration>,
    pub(super) limit: watch::Sender<Option<MaximumRoutes>>,
    dialed: mpsc::UnboundedReceiver<DuplexStream>,
    reachable: Arc<AtomicBool>,
    pub(super) task: JoinHandle<()>,
}

impl BgpWorld {
    pub(super) fn start(plan: PeerPlan) -> Self {
        let (feed, peers) = (Feed::default(), BgpPeers::default());
        let mut station = feed.attach(Selection::default());
        station.take(usize::MAX, &mut VecDeque::new());
        let (far_ends, dialed) = mpsc::unbounded_channel();
        let reachable = Arc::new(AtomicBool::new(true));
        let answers = Arc::clone(&reachable);
        let dial: Dial = Arc::new(move || {
            let (near, far) = duplex(1 << 20);
            let answers = answers.load(Ordering::Relaxed) && far_ends.send(far).is_ok();
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            Box::pin(async move { if answers { Ok(link(near, 40_000, 179)) } else { Err(refused) } })
        });
        let (statistics, every) = watch::channel(Duration::ZERO);
        let (limit, limits) = watch::channel(None);
        let (kept_statistics, kept) = watch::channel(Duration::ZERO);
        let memory = feed.memory_standing();
        let watches = PeerWatches { statistics: every, kept_statistics: kept, limit: limits, memory };
        let (commands, receiver) = mpsc::channel(4);
        let registered = peers.register(ADDRESS, Some(plan.asn));
        let open = plan.local.open().unwrap();
        let task =
            tokio::spawn(PeerTask::new(plan, true, open, dial, &feed, registered.shown.clone(), watches).run(receiver));
        Self {
            feed,
            peers,
            _registered: registered,
            station,
            commands,
            statistics,
            kept_statistics,
            limit,
            dialed,
            reachable,
            task,
        }
    }

    /// Whether the peer accepts connections.
    pub(super) fn set_reachable(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::Relaxed);
    }

    /// Waits for the next connection that the task opens.
    pub(super) async fn dialed(&mut self) -> TestRouter {
        TestRouter::new(timeout(PATIENCE, self.dialed.recv()).await.expect("it connects").unwrap())
    }

    /// Connects as the peer.
    pub(super) async fn connect(&self) -> TestRouter {
        self.connect_with_room(1 << 20).await
    }

    /// Connects as the peer. Each end takes `room` bytes before the other reads.
    pub(super) async fn connect_with_room(&self, room: usize) -> TestRouter {
        let (near, far) = duplex(room);
        self.commands.send(PeerCommand::Incoming(link(near, 179, 50_000))).await.unwrap();
        TestRouter::new(far)
    }

    /// Brings up a session on the connection that the task opens.
    pub(super) async fn established(&mut self, hello: &TestOpen) -> TestRouter {
        let mut far = self.dialed().await;
        far.establish(hello).await;
        self.wait("established", |status| status.state == super::super::BgpState::Established).await;
        far
    }

    pub(super) async fn stop(&mut self, subcode: u8) {
        self.commands.send(PeerCommand::Stop(OutgoingNotification::cease(subcode))).await.unwrap();
        (&mut self.task).await.unwrap();
    }

    /// Resets the peer as an operator does.
    pub(super) fn reset(&self) {
        assert!(self.peers.reset(Some(ADDRESS)) && !self.peers.reset(Some(OWN_ID.into())));
    }

    pub(super) fn status(&self) -> PeerStatus {
        self.peers.snapshot(&self.feed).remove(0)
    }

    pub(super) async fn wait(&self, what: &str, wanted: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
        for _ in 0..100_000 {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("never {what}: {:?}", self.status())
    }

    /// Takes the frames that the station has received since the last call.
    pub(super) fn take_frames(&mut self) -> Vec<Vec<u8>> {
        take_frames(&mut self.station)
    }

    /// The same as words; see [`word`].
    pub(super) fn words(&mut self) -> Vec<String> {
        self.take_frames().iter().map(|frame| word(frame)).collect()
    }

    /// The frames that a station receives if it connects now, as words.
    pub(super) fn late_words(&self) -> Vec<String> {
        let mut late = self.feed.attach(Selection::default());
        take_frames(&mut late).iter().map(|frame| word(frame)).collect()
    }

    /// The number of routes of a family in the feed.
    pub(super) fn routes(&self, family: Family) -> usize {
        let ribs = self.feed.ribs(&InputId::BgpPeer(ADDRESS));
        ribs.iter().find(|rib| rib.family == family).map_or(0, |rib| rib.routes)
    }

    pub(super) fn counters(&self) -> UpdateCounters {
        let status = self.status();
        UpdateCounters {
            treated_as_withdraw: status.treated_as_withdraw,
            prefixes_treated_as_withdraw: status.prefixes_treated_as_withdraw,
            attributes_discarded: status.attributes_discarded,
            last_fault: None,
            not_negotiated: status.not_negotiated,
        }
    }
}

/// Takes the frames that a follower has not taken yet.
fn take_frames(station: &mut Follower) -> Vec<Vec<u8>> {
    let mut pieces = VecDeque::new();
    let mut sent = Vec::new();
    loop {
        station.take(1 << 20, &mut pieces);
        if pieces.is_empty() {
            return sent;
        }
        for piece in pieces.drain(..) {
            sent.extend(frames(&piece.bytes).map(|frame| frame.unwrap().bytes().to_vec()));
        }
    }
}

fn link(near: DuplexStream, local: u16, remote: u16) -> BgpSocket {
    let (local, remote) = (SocketAddr::from((OWN_ID, local)), SocketAddr::new(ADDRESS, remote));
    BgpSocket { stream: Box::new(near), local, remote }
}

/// Describes a BMP message as a word: `up`, `down 3 02/...`, `statistics`, `+10.0.0.0/24` for each
/// route, `-…`, `eor`.
pub(super) fn word(frame: &[u8]) -> String {
    let frame = frames(frame).next().unwrap().unwrap();
    match Message::parse(&frame).unwrap() {
        Message::PeerUp(_) => "up".to_owned(),
        Message::PeerDown(down) => match down.reason {
            1 | 3 => format!("down {} {}/{}", down.reason, down.data[19], down.data[20]),
            2 => format!("down 2 {}", u16::from_be_bytes([down.data[0], down.data[1]])),
            reason => format!("down {reason}"),
        },
        Message::StatisticsReport(..) => "statistics".to_owned(),
        Message::RouteMonitoring(header, update) => {
            let as_size = if header.flags & bmp::peer_flags::TWO_BYTE_AS != 0 { 2 } else { 4 };
            let update = bgp::Update::parse(update, as_size).unwrap();
            if let Some(family) = update.end_of_rib() {
                return format!("eor {family}");
            }
            let plain = |sign: char, items: &[u8]| {
                let form = bgp::Form::of(Family::IPV4_UNICAST).unwrap();
                bgp::nlri(form, false, items)
                    .map(|item| format!("{sign}{}", item.unwrap().last().unwrap()))
                    .collect::<Vec<_>>()
            };
            let mut words = [plain('-', update.withdrawn), plain('+', update.nlri)].concat();
            words.extend(update.reach.map(|reach| format!("+{}", reach.family)));
            words.extend(update.unreach.map(|unreach| format!("-{}", unreach.family)));
            words.join(" ")
        }
        other => panic!("{other:?}"),
    }
}

/// The OPEN of the router at the far end.
#[derive(Clone, Debug)]
pub(super) struct TestOpen {
    pub(super) asn: u32,
    pub(super) bgp_id: Ipv4Addr,
    pub(super) hold: u16,
    pub(super) families: Vec<Family>,
    pub(super) as4: bool,
    pub(super) add_path: bool,
    pub(super) extended: bool,
    /// Flags and time of graceful restart. If the third value is true, also all families with their
    /// forwarding state.
    pub(super) restart: Option<(u8, u16, bool)>,
}

impl Default for TestOpen {
    fn default() -> Self {
        Self {
            asn: ASN,
            bgp_id: Ipv4Addr::new(10, 7, 0, 2),
            hold: 90,
            families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
            as4: true,
            add_path: false,
            extended: false,
            restart: None,
        }
    }
}

impl TestOpen {
    pub(super) fn open(&self) -> BytesMut {
        let mut capabilities = Capabilities::new();
        for family in &self.families {
            capabilities.push(&Capability::Multiprotocol(*family)).unwrap();
        }
        if self.as4 {
            capabilities.push(&Capability::FourOctetAs(self.asn)).unwrap();
        }
        capabilities.push(&Capability::RouteRefresh).unwrap();
        capabilities.push(&Capability::EnhancedRouteRefresh).unwrap();
        if self.add_path {
            capabilities.push_add_path(self.families.iter().map(|family| (*family, add_path::SEND))).unwrap();
        }
        if self.extended {
            capabilities.push(&Capability::ExtendedMessage).unwrap();
        }
        if let Some((flags, time, families)) = self.restart {
            let families = self.families.iter().filter(|_| families).map(|family| (*family, 0x80));
            capabilities.push_graceful_restart(flags, time, families).unwrap();
        }
        let mut out = BytesMut::new();
        open::build(&mut out, self.asn, self.hold, self.bgp_id, &capabilities).unwrap();
        out
    }
}

/// The far end of a connection.
#[derive(Debug)]
pub(super) struct TestRouter {
    stream: DuplexStream,
    buffer: BytesMut,
    /// The families whose End-of-RIB was received.
    pub(super) ended: Vec<Family>,
}

impl TestRouter {
    fn new(stream: DuplexStream) -> Self {
        Self { stream, buffer: BytesMut::new(), ended: Vec::new() }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends bytes. Returns true if the connection took them.
    pub(super) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Closes the sending side.
    pub(super) async fn shut(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    pub(super) async fn keepalive(&mut self) {
        let mut out = BytesMut::new();
        keepalive(&mut out);
        self.send(&out).await;
    }

    pub(super) async fn notify(&mut self, code: u8, subcode: u8) {
        let mut out = BytesMut::new();
        notification::build(&mut out, code, subcode, &[]);
        self.send(&out).await;
    }

    /// Returns the next message that is no End-of-RIB, or `None` at the end. A receiving speaker
    /// sends only OPEN, KEEPALIVE and NOTIFICATION besides.
    pub(super) async fn receive(&mut self) -> Option<(MessageType, Vec<u8>)> {
        loop {
            if let Some(frame) = bgp::frames(&self.buffer, MAX_EXTENDED_MESSAGE).next() {
                let frame = frame.expect("what is sent is BGP");
                let (kind, bytes) = (frame.message_type(), frame.bytes().to_vec());
                if kind == MessageType::Update {
                    let families = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
                    let ended = families.into_iter().find(|family| end_of_rib(*family) == bytes);
                    self.ended.push(ended.expect("nothing is announced"));
                    self.buffer.advance(bytes.len());
                    continue;
                }
                assert!(matches!(kind, MessageType::Open | MessageType::Keepalive | MessageType::Notification));
                self.buffer.advance(bytes.len());
                return Some((kind, bytes));
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("something is sent");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(super) async fn expect(&mut self, kind: MessageType) -> Vec<u8> {
        let (got, bytes) = self.receive().await.unwrap_or_else(|| panic!("the end, and no {kind}"));
        assert_eq!(got, kind, "{bytes:?}");
        bytes
    }

    /// Skips KEEPALIVEs, and expects a NOTIFICATION and the end. Returns code and subcode.
    pub(super) async fn expect_notification(&mut self) -> (u8, u8) {
        let body = self.notification().await;
        (body[0], body[1])
    }

    /// Skips KEEPALIVEs, and returns the body of a NOTIFICATION.
    pub(super) async fn notification(&mut self) -> Vec<u8> {
        loop {
            let (kind, bytes) = self.receive().await.expect("a NOTIFICATION");
            match kind {
                MessageType::Notification => return bytes[19..].to_vec(),
                kind => assert_eq!(kind, MessageType::Keepalive),
            }
        }
    }

    /// Skips KEEPALIVEs, and expects the end without a NOTIFICATION.
    pub(super) async fn expect_end(&mut self) {
        while let Some((kind, _)) = self.receive().await {
            assert_eq!(kind, MessageType::Keepalive);
        }
    }

    /// Exchanges OPENs and KEEPALIVEs.
    pub(super) async fn establish(&mut self, hello: &TestOpen) {
        self.expect(MessageType::Open).await;
        self.send(&hello.open()).await;
        self.expect(MessageType::Keepalive).await;
        self.keepalive().await;
    }
}

/// Builds an UPDATE.
pub(super) fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [withdrawn, attributes] {
        body.extend_from_slice(&u16::try_from(field.len()).unwrap().to_be_bytes());
        body.extend_from_slice(field);
    }
    body.extend_from_slice(nlri);
    bmp::samples::bgp(2, &body)
}

/// ORIGIN, AS_PATH with 4-octet AS numbers, NEXT_HOP.
pub(super) const ATTRIBUTES: [u8; 20] = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 3, 4, 10, 7, 0, 2];

/// Encodes 10.0.N.0/24 for each number N.
pub(super) fn prefixes(numbers: &[u8]) -> Vec<u8> {
    numbers.iter().flat_map(|number| [24, 10, 0, *number]).collect()
}

pub(super) fn announce(numbers: &[u8]) -> Vec<u8> {
    update(&[], &ATTRIBUTES, &prefixes(numbers))
}

pub(super) fn withdraw(numbers: &[u8]) -> Vec<u8> {
    update(&prefixes(numbers), &[], &[])
}

pub(super) fn end_of_rib(family: Family) -> Vec<u8> {
    let mut out = BytesMut::new();
    bgp::build::end_of_rib(&mut out, family);
    out.to_vec()
}
