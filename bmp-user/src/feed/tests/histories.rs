//! What may happen to a feed: random histories of inputs and stations.

use proptest::prelude::*;

use super::{
    super::*,
    world::{
        self, FAMILIES, LOC_RIB_PEER, LOOK_ALIKE_PEER, OTHER_LOC_RIB_PEER, RENAMED_PEER, Route, UNANNOUNCED_PEER, VIEWS,
    },
};
use crate::wire::{bgp::Family, bmp::RibView};

pub(super) const STATIONS: usize = 4;
/// The input of each connection, and the peers that it has, or that it would like to have: one input has connections that claim the same peers, and
/// peers that look the same; and two inputs have a peer that a station cannot tell apart.
pub(super) const CONNECTIONS: [(&str, &[u8]); 4] = [
    ("frr", &[0, 1, 2, LOOK_ALIKE_PEER]),
    ("frr", &[LOC_RIB_PEER, UNANNOUNCED_PEER, LOOK_ALIKE_PEER, OTHER_LOC_RIB_PEER]),
    ("gobgp", &[2, 5, RENAMED_PEER]),
    ("frr", &[0, 1, LOC_RIB_PEER, UNANNOUNCED_PEER]),
];

#[derive(Clone, Debug)]
pub(super) enum Said {
    Up {
        peer: usize,
        port: u16,
        view: usize,
        time: u32,
    },
    Down {
        peer: usize,
        code: u16,
    },
    /// As a Loc-RIB says it, of one table or of all.
    TableDown {
        peer: usize,
        table: usize,
    },
    Routes {
        peer: usize,
        view: usize,
        time: u32,
        set: u8,
        parts: Vec<(usize, Vec<Route>, Vec<Route>)>,
        /// With path identifiers where others of the peer have none, or the reverse.
        otherwise: bool,
        /// Without the AS in the per-peer header.
        without_as: bool,
    },
    EndOfRib {
        peer: usize,
        view: usize,
        family: usize,
    },
    Statistics {
        peer: usize,
        value: u32,
    },
    Mirrored {
        peer: usize,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Append {
        connection: usize,
        said: Vec<Said>,
    },
    Reconnect {
        connection: usize,
    },
    /// An input goes away and is held, and connects anew.
    Hold {
        connection: usize,
    },
    /// An input connects anew, and nobody knows yet that the connection before is gone.
    Cut {
        connection: usize,
    },
    /// That is noticed.
    Notice {
        connection: usize,
    },
    /// It has been held long enough.
    Release {
        connection: usize,
    },
    /// A connection has been quiet: its RIBs without End-of-RIB are taken to be complete.
    Quiet {
        connection: usize,
    },
    /// A station reads so much, so often.
    Take {
        station: usize,
        bytes: usize,
        times: usize,
    },
    /// A station loses its connection in the middle of whatever it was, and comes back.
    Return {
        station: usize,
        selection: usize,
        /// How much of what was on its way to it got there.
        arrived: usize,
    },
    Select {
        station: usize,
        selection: usize,
    },
}

pub(super) fn route() -> impl Strategy<Value = Route> {
    (0u8..10, 0u8..3, 1u8..3).prop_map(|(prefix, path, variant)| Route { prefix, path, variant })
}

pub(super) fn said() -> impl Strategy<Value = Said> {
    let routes = || prop::collection::vec(route(), 0..6);
    let view = || 0..VIEWS.len();
    // Now and then a malformed one.
    let set = prop_oneof![12 => 0u8..4, 1 => world::MALFORMED_SET..world::SETS];
    let parts = prop_oneof![
        3 => (0usize..5, routes(), routes()).prop_map(|part| vec![part]),
        1 => (1usize..5, routes(), routes(), routes(), routes())
            .prop_map(|(family, a, b, c, d)| vec![(0, a, b), (family, c, d)]),
    ];
    prop_oneof![
        3 => (0usize..4, 0u16..3, view(), 0u32..3).prop_map(|(peer, port, view, time)| Said::Up { peer, port, view, time }),
        1 => (0usize..4, 0u16..3).prop_map(|(peer, code)| Said::Down { peer, code }),
        1 => (0usize..4, 0usize..4).prop_map(|(peer, table)| Said::TableDown { peer, table }),
        12 => (0usize..4, view(), 0u32..3, set, parts, prop::bool::weighted(0.05), prop::bool::weighted(0.1)).prop_map(
            |(peer, view, time, set, parts, otherwise, without_as)| {
                Said::Routes { peer, view, time, set, parts, otherwise, without_as }
            }
        ),
        1 => (0usize..4, view(), 0usize..5).prop_map(|(peer, view, family)| Said::EndOfRib { peer, view, family }),
        1 => (0usize..4, 0u32..9).prop_map(|(peer, value)| Said::Statistics { peer, value }),
        1 => (0usize..4).prop_map(|peer| Said::Mirrored { peer }),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..CONNECTIONS.len(), prop::collection::vec(said(), 1..8))
            .prop_map(|(connection, said)| Step::Append { connection, said }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| Step::Reconnect { connection }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| Step::Hold { connection }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| Step::Cut { connection }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| Step::Notice { connection }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| Step::Release { connection }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| Step::Quiet { connection }),
        8 => (0..STATIONS, 1usize..3000, 1usize..4)
            .prop_map(|(station, bytes, times)| Step::Take { station, bytes, times }),
        1 => (0..STATIONS, 0..SELECTIONS, 0usize..300)
            .prop_map(|(station, selection, arrived)| Step::Return { station, selection, arrived }),
        1 => (0..STATIONS, 0..SELECTIONS).prop_map(|(station, selection)| Step::Select { station, selection }),
    ]
}

pub(super) const SELECTIONS: usize = 6;

pub(super) fn selection(number: usize) -> Selection {
    let monitor = |peers, ribs: &[(Family, RibView)]| Monitor { peers, ribs: ribs.to_vec() };
    let peer = |number: u8| Peers::Peer { vpn_instance: None, address: world::address(number) };
    let monitors = match number {
        0 | 1 => vec![],
        2 => vec![monitor(Peers::Input(InputId::relay("frr")), &[])],
        3 => vec![monitor(Peers::Public, &[(FAMILIES[0], VIEWS[0]), (FAMILIES[2], VIEWS[1]), (FAMILIES[1], VIEWS[0])])],
        4 => vec![monitor(peer(0), &[]), monitor(peer(2), &[(FAMILIES[1], VIEWS[0]), (FAMILIES[3], VIEWS[2])])],
        _ => vec![monitor(Peers::Input(InputId::relay("gobgp")), &[(FAMILIES[0], VIEWS[0])])],
    };
    let mirroring = if number == 1 { Mirroring::LeftOut } else { Mirroring::Passed };
    Selection { monitors, mirroring }
}

/// Whether a selection has a RIB of an input's peer: by numbers, and not as the feed finds out.
pub(super) fn selects(number: usize, input: &str, peer: u8, rib: Option<(RibView, Family)>) -> bool {
    let rib_is_one_of = |ribs: &[(usize, usize)]| {
        rib.is_none_or(|rib| ribs.iter().any(|(family, view)| rib == (VIEWS[*view], FAMILIES[*family])))
    };
    match number {
        0 | 1 => true,
        2 => input == "frr",
        3 => rib_is_one_of(&[(0, 0), (2, 1), (1, 0)]),
        4 => peer == 0 || peer == LOOK_ALIKE_PEER || peer == 2 && rib_is_one_of(&[(1, 0), (3, 2)]),
        _ => input == "gobgp" && rib_is_one_of(&[(0, 0)]),
    }
}
