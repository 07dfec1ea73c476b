//! A recorded table: the IPv4 unicast routes of each peer at the end of an MRT file.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use bmp_user::wire::{
    bgp::Family,
    mrt::{RecordAttributes, RecordBody, attribute_type, records},
};
use bytes::BytesMut;
use lab::{
    bgp,
    bmp::{self, PRE_POLICY, ReportedPeer, SHORT_AS_PATH},
    table::RouteSum,
};

use crate::frames::FrameStream;

/// The folder of recorded files, beside the checkout.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/mrt");
/// The longest UPDATE (RFC 4271 §4).
const LONGEST: usize = 4096;
/// Bytes of an UPDATE beside attributes and NLRI.
const AROUND: usize = 23;

/// Lists the files beside the checkout, or says why there are none.
pub(crate) fn files() -> Result<Vec<PathBuf>, String> {
    let folder = Path::new(FOLDER);
    let found = folder.read_dir().map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<_> = found.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    if files.is_empty() { Err(format!("{} is empty", folder.display())) } else { Ok(files) }
}

/// Address and AS number of a peer, and true if its paths have four-octet AS numbers.
type RecordedPeer = (IpAddr, u32, bool);

/// The table at the end of a file.
#[derive(Default)]
pub(crate) struct RecordedTable {
    /// Peers in order of appearance.
    peers: Vec<RecordedPeer>,
    numbers: HashMap<RecordedPeer, u32>,
    /// Attributes by peer and NLRI.
    routes: BTreeMap<(u32, Vec<u8>), Vec<u8>>,
}

impl RecordedTable {
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let wrong = |what: String| io::Error::other(format!("{}: {what}", path.display()));
        let mut bytes = Vec::new();
        unpacked(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|error| wrong(error.to_string()))?;
        let mut recorded = Self::default();
        let mut index = Vec::new();
        for record in records(&bytes) {
            let record = record.map_err(|error| wrong(error.to_string()))?;
            match RecordBody::parse(&record).map_err(|error| wrong(error.to_string()))? {
                RecordBody::TableDump(route) if route.family == Family::IPV4_UNICAST => {
                    let mut nlri = BytesMut::new();
                    route.put_nlri(&mut nlri);
                    let from = (route.peer_address, route.peer_as.into(), false);
                    recorded.announce(from, &nlri, route.attributes);
                }
                RecordBody::PeerIndexTable(table) => index = table.iter().collect(),
                RecordBody::Rib(rib) if rib.family == Family::IPV4_UNICAST && !rib.add_path => {
                    for entry in rib.iter() {
                        let Some(peer) = index.get(usize::from(entry.peer)) else { continue };
                        recorded.announce((peer.address, peer.asn, true), rib.nlri, entry.attributes);
                    }
                }
                RecordBody::Message(message) if !message.local && !message.add_path => {
                    let from = (message.session.peer_address, message.session.peer_as, message.as4);
                    recorded.update(from, message.message);
                }
                _ => {}
            }
        }
        Ok(recorded)
    }

    pub(crate) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Applies an UPDATE. Ignores other messages.
    fn update(&mut self, from: RecordedPeer, message: &[u8]) {
        if message.get(18) != Some(&bgp::UPDATE) {
            return;
        }
        let Some((withdrawn, rest)) = message.get(19..).and_then(field) else { return };
        let Some((attributes, nlri)) = field(rest) else { return };
        let attributes = RecordAttributes::new(attributes);
        if !attributes.rest().is_empty() {
            return;
        }
        let number = self.number(from);
        items(withdrawn).for_each(|item| drop(self.routes.remove(&(number, item))));
        items(nlri).for_each(|item| self.put(number, item, attributes));
    }

    fn announce(&mut self, from: RecordedPeer, nlri: &[u8], attributes: RecordAttributes<'_>) {
        let number = self.number(from);
        items(nlri).for_each(|item| self.put(number, item, attributes));
    }

    /// Stores a route, without the attributes about routes of other families.
    fn put(&mut self, number: u32, item: Vec<u8>, attributes: RecordAttributes<'_>) {
        let own = attributes
            .iter()
            .filter(|one| ![attribute_type::MP_REACH_NLRI, attribute_type::MP_UNREACH_NLRI].contains(&one.kind));
        self.routes.insert((number, item), own.flat_map(|one| one.bytes.to_vec()).collect());
    }

    fn number(&mut self, from: RecordedPeer) -> u32 {
        let next = self.peers.len() as u32;
        *self.numbers.entry(from).or_insert_with(|| {
            self.peers.push(from);
            next
        })
    }

    /// Encodes the table as a BMP daemon does, with routes of the same attributes in one UPDATE.
    /// Peers get synthetic addresses, because recorded ones may be IPv6.
    pub(crate) fn frames(&self) -> FrameStream {
        let mut frames = FrameStream {
            bytes: bmp::initiation("daemon"),
            messages: 0,
            sum: RouteSum::default(),
            prefixes: RouteSum::default(),
        };
        let mut alike: BTreeMap<(u32, &[u8]), Vec<&[u8]>> = BTreeMap::new();
        for ((number, item), attributes) in &self.routes {
            frames.sum.add(item, attributes);
            frames.prefixes.add(item, &[]);
            alike.entry((*number, attributes)).or_default().push(item);
        }
        let peers: Vec<_> = (0..).zip(&self.peers).map(|(number, from)| (made_up(number, from.1), from.2)).collect();
        peers.iter().for_each(|(peer, _)| frames.bytes.extend(bmp::peer_up(peer)));
        for ((number, attributes), items) in alike {
            let Some((peer, as4)) = peers.get(number as usize) else { continue };
            let flags = if *as4 { PRE_POLICY } else { PRE_POLICY | SHORT_AS_PATH };
            // A prefix takes at most five bytes.
            let room = (LONGEST.saturating_sub(AROUND + attributes.len()) / 5).max(1);
            for some in items.chunks(room) {
                let update = bgp::update(attributes, &some.concat());
                frames.bytes.extend(bmp::route_monitoring(peer, flags, &update));
                frames.messages += 1;
            }
        }
        frames
    }
}

fn made_up(number: u32, asn: u32) -> ReportedPeer {
    let address = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 1, 0, 1)) + number);
    ReportedPeer { address, asn, router_id: address }
}

/// Splits NLRI into prefixes, with unused bits cleared. Ends at the first malformed one.
fn items(nlri: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut rest = nlri;
    std::iter::from_fn(move || {
        let length = *rest.first().filter(|length| **length <= 32)?;
        let (item, more) = rest.split_at_checked(1 + usize::from(length.div_ceil(8)))?;
        rest = more;
        let mut item = item.to_vec();
        if let (Some(last), Some(unused @ 1..)) = (item.last_mut(), (8 - length % 8).checked_rem(8)) {
            *last &= 0xff << unused;
        }
        Some(item)
    })
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Opens a plain, gzip or bzip2 file.
fn unpacked(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::new(File::open(path)?);
    let magic = file.fill_buf()?;
    Ok(if magic.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if magic.starts_with(b"BZh") {
        Box::new(bzip2::bufread::MultiBzDecoder::new(file))
    } else {
        Box::new(file)
    })
}
