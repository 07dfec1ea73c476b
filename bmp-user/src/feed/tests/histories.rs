//! Random histories of inputs and stations.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    super::*,
    filters::NumberedFilter,
    world::{
        self, FAMILIES, LOC_RIB_PEER, LOOK_ALIKE_PEER, NumberedRoute, OTHER_LOC_RIB_PEER, RENAMED_PEER,
        UNANNOUNCED_PEER, VIEWS,
    },
};
use crate::wire::{bgp::Family, bmp::RibView};

pub(super) const STATIONS: usize = 4;
/// The router of each connection, and the peers that it has or wants. Connections of one router
/// claim the same peers. One router has peers that look the same. Two routers have a peer that a
/// station cannot tell apart.
pub(super) const CONNECTIONS: [(&str, &[u8]); 4] = [
    ("frr", &[0, 1, 2, LOOK_ALIKE_PEER]),
    ("frr", &[LOC_RIB_PEER, UNANNOUNCED_PEER, LOOK_ALIKE_PEER, OTHER_LOC_RIB_PEER]),
    ("gobgp", &[2, 5, RENAMED_PEER]),
    ("frr", &[0, 1, LOC_RIB_PEER, UNANNOUNCED_PEER]),
];

/// The relay of all routers, each of which is an input of its own.
const RELAY: &str = "front";

/// The router of a name. Routers differ in their names alone.
pub(super) fn router(name: &str) -> Arc<RouterId> {
    Arc::new(RouterId { relay: RELAY.into(), address: world::address(1), sys_name: Some(name.into()) })
}

/// Opens a connection of a router, which has sent its Initiation.
pub(super) fn connect(feed: &Feed, name: &str) -> Input {
    let mut input = feed.input(InputId::relay(RELAY));
    input.divide(RELAY, RouterConnection { remote: (world::address(1), 5000).into(), local: None });
    input.introduce(Some(name), None);
    input
}

#[derive(Clone, Debug)]
pub(super) enum PeerMessage {
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
    /// A Peer Down of a Loc-RIB, for one table or for all.
    TableDown {
        peer: usize,
        table: usize,
    },
    Routes {
        peer: usize,
        view: usize,
        time: u32,
        set: u8,
        parts: Vec<(usize, Vec<NumberedRoute>, Vec<NumberedRoute>)>,
        /// With path identifiers where other routes of the peer have none, or the reverse.
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
pub(super) enum HistoryEvent {
    Append {
        connection: usize,
        said: Vec<PeerMessage>,
    },
    Reconnect {
        connection: usize,
    },
    /// An input goes away, is held, and connects again.
    Hold {
        connection: usize,
    },
    /// An input connects again. Nobody has noticed yet that its connection before is gone.
    Cut {
        connection: usize,
    },
    /// Somebody notices that a connection is gone.
    Notice {
        connection: usize,
    },
    /// The hold is over.
    Release {
        connection: usize,
    },
    /// A connection has been quiet: its RIBs without End-of-RIB are complete.
    Quiet {
        connection: usize,
    },
    /// A station reads so many bytes, so many times.
    Take {
        station: usize,
        bytes: usize,
        times: usize,
    },
    /// From now on, dumps to a station send so many routes each time that it reads, or any number.
    Pace {
        station: usize,
        routes: Option<u64>,
    },
    /// A station loses its connection, maybe inside a frame, and comes back.
    Return {
        station: usize,
        selection: usize,
        /// How much of the data on its way arrived.
        arrived: usize,
    },
    Select {
        station: usize,
        selection: usize,
    },
    /// A station may lag by so many bytes from now on.
    LimitLag {
        station: usize,
        bytes: Option<u64>,
    },
}

pub(super) fn route() -> impl Strategy<Value = NumberedRoute> {
    (0u8..10, 0u8..3, 1u8..3).prop_map(|(prefix, path, variant)| NumberedRoute { prefix, path, variant })
}

pub(super) fn said() -> impl Strategy<Value = PeerMessage> {
    let routes = || prop::collection::vec(route(), 0..6);
    let view = || 0..VIEWS.len();
    // Sometimes a malformed set.
    let set = prop_oneof![12 => 0u8..4, 1 => world::MALFORMED_SET..world::SETS];
    let parts = prop_oneof![
        3 => (0usize..5, routes(), routes()).prop_map(|part| vec![part]),
        1 => (1usize..5, routes(), routes(), routes(), routes())
            .prop_map(|(family, a, b, c, d)| vec![(0, a, b), (family, c, d)]),
    ];
    prop_oneof![
        3 => (0usize..4, 0u16..3, view(), 0u32..3).prop_map(|(peer, port, view, time)| PeerMessage::Up { peer, port, view, time }),
        1 => (0usize..4, 0u16..3).prop_map(|(peer, code)| PeerMessage::Down { peer, code }),
        1 => (0usize..4, 0usize..4).prop_map(|(peer, table)| PeerMessage::TableDown { peer, table }),
        12 => (0usize..4, view(), 0u32..3, set, parts, prop::bool::weighted(0.05), prop::bool::weighted(0.1)).prop_map(
            |(peer, view, time, set, parts, otherwise, without_as)| {
                PeerMessage::Routes { peer, view, time, set, parts, otherwise, without_as }
            }
        ),
        1 => (0usize..4, view(), 0usize..5).prop_map(|(peer, view, family)| PeerMessage::EndOfRib { peer, view, family }),
        1 => (0usize..4, 0u32..9).prop_map(|(peer, value)| PeerMessage::Statistics { peer, value }),
        1 => (0usize..4).prop_map(|peer| PeerMessage::Mirrored { peer }),
    ]
}

pub(super) fn step() -> impl Strategy<Value = HistoryEvent> {
    prop_oneof![
        10 => (0..CONNECTIONS.len(), prop::collection::vec(said(), 1..8))
            .prop_map(|(connection, said)| HistoryEvent::Append { connection, said }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| HistoryEvent::Reconnect { connection }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| HistoryEvent::Hold { connection }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| HistoryEvent::Cut { connection }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| HistoryEvent::Notice { connection }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| HistoryEvent::Release { connection }),
        1 => (0..CONNECTIONS.len()).prop_map(|connection| HistoryEvent::Quiet { connection }),
        8 => (0..STATIONS, 1usize..3000, 1usize..4)
            .prop_map(|(station, bytes, times)| HistoryEvent::Take { station, bytes, times }),
        2 => (0..STATIONS, prop::option::weighted(0.8, 0u64..4))
            .prop_map(|(station, routes)| HistoryEvent::Pace { station, routes }),
        1 => (0..STATIONS, 0..SELECTIONS, 0usize..300)
            .prop_map(|(station, selection, arrived)| HistoryEvent::Return { station, selection, arrived }),
        1 => (0..STATIONS, 0..SELECTIONS).prop_map(|(station, selection)| HistoryEvent::Select { station, selection }),
        1 => (0..STATIONS, prop::option::weighted(0.8, 0u64..2000))
            .prop_map(|(station, bytes)| HistoryEvent::LimitLag { station, bytes }),
    ]
}

pub(super) const SELECTIONS: usize = 13;

pub(super) fn selection(feed: &Feed, number: usize) -> Selection {
    let filtered = |rule: SelectionRule, filter: NumberedFilter| SelectionRule {
        filter: Some(feed.route_filter(filter.rules())),
        ..rule
    };
    let rule = |peers, ribs: &[(Family, RibView)]| SelectionRule { peers, ribs: ribs.to_vec(), filter: None };
    let peer = |number: u8| PeerFilter::Peer { vpn_instance: None, address: world::address(number) };
    let rules = match number {
        0 | 1 => vec![],
        2 => vec![rule(PeerFilter::Input(InputId::Router(router("frr"))), &[])],
        3 => {
            vec![rule(PeerFilter::Public, &[(FAMILIES[0], VIEWS[0]), (FAMILIES[2], VIEWS[1]), (FAMILIES[1], VIEWS[0])])]
        }
        4 => vec![rule(peer(0), &[]), rule(peer(2), &[(FAMILIES[1], VIEWS[0]), (FAMILIES[3], VIEWS[2])])],
        5 => vec![rule(PeerFilter::Input(InputId::Router(router("gobgp"))), &[(FAMILIES[0], VIEWS[0])])],
        6 => vec![filtered(rule(PeerFilter::Public, &[]), NumberedFilter::Even)],
        7 => vec![filtered(rule(PeerFilter::Public, &[]), NumberedFilter::NotFirstSet)],
        8 => vec![
            filtered(
                rule(PeerFilter::Public, &[(FAMILIES[0], VIEWS[0]), (FAMILIES[4], VIEWS[1])]),
                NumberedFilter::Even,
            ),
            filtered(rule(peer(2), &[]), NumberedFilter::Mixture),
        ],
        9 => vec![filtered(rule(PeerFilter::Public, &[]), NumberedFilter::Mixture), rule(peer(0), &[])],
        11 => vec![filtered(rule(PeerFilter::Public, &[]), NumberedFilter::Even)],
        _ => vec![],
    };
    let inputs = match number {
        10 => SelectedInputs::Router(router("frr")),
        11 => SelectedInputs::Router(router("gobgp")),
        12 => SelectedInputs::Routers(Some(RELAY.into())),
        _ => SelectedInputs::All,
    };
    let mirroring = if number == 1 { Mirroring::LeftOut } else { Mirroring::Passed };
    Selection { rules, inputs, mirroring }
}

/// True if a selection has a RIB of an input's peer. Decides by numbers, and not as the feed does.
pub(super) fn selects(number: usize, input: &str, peer: u8, rib: Option<(RibView, Family)>) -> bool {
    let rib_is_one_of = |ribs: &[(usize, usize)]| {
        rib.is_none_or(|rib| ribs.iter().any(|(family, view)| rib == (VIEWS[*view], FAMILIES[*family])))
    };
    match number {
        0 | 1 => true,
        2 | 10 => input == "frr",
        11 => input == "gobgp",
        3 => rib_is_one_of(&[(0, 0), (2, 1), (1, 0)]),
        4 => peer == 0 || peer == LOOK_ALIKE_PEER || peer == 2 && rib_is_one_of(&[(1, 0), (3, 2)]),
        5 => input == "gobgp" && rib_is_one_of(&[(0, 0)]),
        8 => peer == 2 || rib_is_one_of(&[(0, 0), (4, 1)]),
        _ => true,
    }
}

/// The filters of a RIB that a selection has. A route passes that one of them permits. `None` if
/// all routes pass.
pub(super) fn filters(number: usize, peer: u8, (view, family): (RibView, Family)) -> Option<Vec<NumberedFilter>> {
    match number {
        6 | 11 => Some(vec![NumberedFilter::Even]),
        7 => Some(vec![NumberedFilter::NotFirstSet]),
        8 => {
            let is_even = [(VIEWS[0], FAMILIES[0]), (VIEWS[1], FAMILIES[4])].contains(&(view, family));
            let even = is_even.then_some(NumberedFilter::Even);
            Some(even.into_iter().chain((peer == 2).then_some(NumberedFilter::Mixture)).collect())
        }
        9 if peer != 0 && peer != LOOK_ALIKE_PEER => Some(vec![NumberedFilter::Mixture]),
        _ => None,
    }
}
