//! The table as a BMP daemon's stream: Initiation, Peer Up, and Route Monitoring messages.

use lab::{
    bgp,
    bmp::{self, PRE_POLICY, ReportedPeer},
    table::{RouteSum, UpdateTable},
};

/// A stream, with checksums of its routes.
pub(crate) struct FrameStream {
    pub(crate) bytes: Vec<u8>,
    /// Number of Route Monitoring messages.
    pub(crate) messages: u64,
    pub(crate) sum: RouteSum,
    pub(crate) prefixes: RouteSum,
}

impl FrameStream {
    /// Encodes one route a message, as FRR, BIRD and GoBGP do.
    pub(crate) fn one_a_message(table: &UpdateTable) -> Self {
        let mut frames = Self { bytes: start(), messages: 0, sum: table.sum, prefixes: table.prefixes };
        for message in table.messages() {
            let Some((attributes, mut nlri)) = parts(message) else { continue };
            while let Some(&length) = nlri.first() {
                let (item, rest) = nlri.split_at(nlri.len().min(1 + usize::from(length.div_ceil(8))));
                frames.push(&bgp::update(attributes, item));
                nlri = rest;
            }
        }
        frames
    }

    /// Encodes the messages as the BGP peer packed them.
    pub(crate) fn packed(table: &UpdateTable) -> Self {
        let mut frames = Self { bytes: start(), messages: 0, sum: table.sum, prefixes: table.prefixes };
        table.messages().for_each(|message| frames.push(message));
        frames
    }

    fn push(&mut self, update: &[u8]) {
        self.bytes.extend(bmp::route_monitoring(&ReportedPeer::default(), PRE_POLICY, update));
        self.messages += 1;
    }
}

fn start() -> Vec<u8> {
    let mut bytes = bmp::initiation("daemon");
    bytes.extend(bmp::peer_up(&ReportedPeer::default()));
    bytes
}

/// Splits an UPDATE without withdrawn routes into attributes and NLRI.
fn parts(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = message.get(21..)?.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
