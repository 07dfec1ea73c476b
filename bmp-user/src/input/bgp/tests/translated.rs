//! Any UPDATE reaches the stations with all routes of the negotiated families and no others.

use std::{collections::BTreeSet, net::Ipv4Addr};

use proptest::{prelude::*, sample::subsequence};

use super::world::update;
use crate::{
    input::bgp::{
        open::{FamilyEncoding, Negotiated},
        updates::{UpdateRunEnd, UpdateTranslator},
    },
    wire::{
        bgp::{Family, Form, MAX_MESSAGE, Update, nlri},
        bmp::{Message, PeerHeader, PeerKey, PeerType, RouteDistinguisher, frames},
    },
};

const FAMILIES: [Family; 3] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST, Family::VPNV4];

/// A random UPDATE. A number stands for a route.
#[derive(Clone, Debug)]
struct RandomUpdate {
    withdrawn: Vec<u8>,
    announced: Vec<u8>,
    unreach: Option<(Family, Vec<u8>)>,
    reach: Option<(Family, Vec<u8>)>,
    /// Which other attributes are present.
    origin: bool,
    /// The AS number in the path.
    path: Option<u32>,
    next_hop: bool,
    /// True if an attribute has an invalid length.
    local_pref: bool,
    /// The positions of MP_REACH_NLRI and MP_UNREACH_NLRI among the attributes.
    places: [usize; 2],
}

fn random_update() -> impl Strategy<Value = RandomUpdate> {
    let numbers = || proptest::collection::vec(any::<u8>(), 0..4);
    let multiprotocol =
        || prop::option::of((prop::sample::select(&FAMILIES[1..]), proptest::collection::vec(any::<u8>(), 1..4)));
    let present = || prop::bool::weighted(0.9);
    let path = prop_oneof![8 => Just(Some(65001)), 1 => Just(Some(0)), 1 => Just(None)];
    (
        (numbers(), numbers(), multiprotocol(), multiprotocol()),
        (present(), path, present(), prop::bool::weighted(0.2), any::<[prop::sample::Index; 2]>()),
    )
        .prop_map(|((withdrawn, announced, unreach, reach), (origin, path, next_hop, local_pref, places))| {
            RandomUpdate {
                withdrawn,
                announced,
                unreach,
                reach,
                origin,
                path,
                next_hop,
                local_pref,
                places: places.map(|place| place.index(5)),
            }
        })
        .prop_filter("it says something", |random_update| random_update.routes().next().is_some())
}

/// Encodes routes as NLRI.
fn items(family: Family, numbers: &[u8]) -> Vec<u8> {
    let item = |number: &u8| match family {
        Family::IPV4_UNICAST => vec![24, 10, 0, *number],
        Family::IPV6_UNICAST => vec![24, 0x20, 1, *number],
        _ => vec![112, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 10, 0, *number],
    };
    numbers.iter().flat_map(item).collect()
}

impl RandomUpdate {
    /// For each route, whether it is announced, its family and its number.
    fn routes(&self) -> impl Iterator<Item = (bool, Family, u8)> {
        let of = |announced, family, numbers: &[u8]| {
            numbers.iter().map(|number| (announced, family, *number)).collect::<Vec<_>>()
        };
        let mut all = of(false, Family::IPV4_UNICAST, &self.withdrawn);
        all.extend(of(true, Family::IPV4_UNICAST, &self.announced));
        all.extend(self.unreach.iter().flat_map(|(family, numbers)| of(false, *family, numbers)));
        all.extend(self.reach.iter().flat_map(|(family, numbers)| of(true, *family, numbers)));
        all.into_iter()
    }

    fn message(&self) -> Vec<u8> {
        let mut attributes = vec![Vec::new(); 5];
        let reach = self.reach.as_ref().map(|(family, numbers)| {
            let next_hop = if *family == Family::VPNV4 { 12 } else { 16 };
            let next_hop = [&[next_hop as u8][..], &vec![1; next_hop], &[0]].concat();
            (14, [&family.afi.to_be_bytes()[..], &[family.safi], &next_hop, &items(*family, numbers)].concat())
        });
        let unreach = self.unreach.as_ref().map(|(family, numbers)| {
            (15, [&family.afi.to_be_bytes()[..], &[family.safi], &items(*family, numbers)].concat())
        });
        for ((kind, value), place) in [reach, unreach].into_iter().zip(self.places).filter_map(|(a, p)| Some((a?, p))) {
            attributes[place].extend([&[0x80, kind, value.len() as u8][..], &value].concat());
        }
        let others = [
            self.origin.then(|| vec![0x40, 1, 1, 0]),
            self.path.map(|asn| [&[0x40, 2, 6, 2, 1][..], &asn.to_be_bytes()].concat()),
            self.next_hop.then(|| vec![0x40, 3, 4, 10, 7, 0, 2]),
            self.local_pref.then(|| vec![0x40, 5, 1, 0]),
        ];
        for (place, attribute) in others.into_iter().enumerate() {
            attributes[place].extend(attribute.unwrap_or_default());
        }
        let [withdrawn, announced] = [&self.withdrawn, &self.announced].map(|all| items(Family::IPV4_UNICAST, all));
        update(&withdrawn, &attributes.concat(), &announced)
    }

    fn announces(&self) -> bool {
        !self.announced.is_empty() || self.reach.is_some()
    }

    /// True if an attribute is malformed. LOCAL_PREF from another AS is discarded, valid or not.
    fn is_malformed(&self, internal: bool) -> bool {
        self.path == Some(0) || self.local_pref && internal
    }

    /// The routes that a station must receive.
    fn expected(&self, negotiated: &[Family], internal: bool) -> BTreeSet<(bool, Family, u8)> {
        let missing =
            self.announces() && (!self.origin || self.path.is_none()) || !self.announced.is_empty() && !self.next_hop;
        let withdrawn = missing || self.is_malformed(internal);
        self.routes()
            .filter(|(_, family, _)| negotiated.contains(family))
            .map(|(announced, family, number)| (announced && !withdrawn, family, number))
            .collect()
    }
}

pub(super) fn translator(families: &[Family], internal: bool) -> UpdateTranslator {
    let routes = |family: &Family| FamilyEncoding { family: *family, form: Form::of(*family), path_ids: false };
    let families = families.iter().map(routes).collect();
    let negotiated = Negotiated { families, as_size: 4, limit: MAX_MESSAGE, restart: None };
    let key = PeerKey { peer_type: PeerType::GLOBAL, distinguisher: RouteDistinguisher::ZERO, address: [0; 16] };
    let bgp_id = Ipv4Addr::new(10, 7, 0, 2);
    let header = PeerHeader { key, flags: 0, asn: 65001, bgp_id, seconds: 0, microseconds: 0 };
    UpdateTranslator::new(negotiated, header, internal)
}

/// The routes in Route Monitoring frames.
fn read(stream: &[u8]) -> BTreeSet<(bool, Family, u8)> {
    let mut all = BTreeSet::new();
    for frame in frames(stream) {
        let frame = frame.expect("whole frames");
        let Ok(Message::RouteMonitoring(_, message)) = Message::parse(&frame) else { panic!("{frame:?}") };
        let update = Update::parse(message, 4).expect("an UPDATE");
        assert_eq!(update.end_of_rib(), None, "the peer sent none");
        let reach = update.reach.map(|reach| (true, reach.family, reach.nlri));
        let unreach = update.unreach.map(|unreach| (false, unreach.family, unreach.nlri));
        let plain = [(false, Family::IPV4_UNICAST, update.withdrawn), (true, Family::IPV4_UNICAST, update.nlri)];
        for (announced, family, items) in plain.into_iter().chain(reach).chain(unreach) {
            let form = Form::of(family).unwrap();
            all.extend(nlri(form, false, items).map(|item| (announced, family, *item.unwrap().last().unwrap())));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_station_gets_exactly_the_routes_of_the_negotiated_families(
        random_update in proptest::collection::vec(random_update(), 1..5),
        families in subsequence(FAMILIES.to_vec(), 1..=3),
        internal in any::<bool>(),
    ) {
        let mut translator = translator(&families, internal);
        // RFC 7606 §5.2: a malformed attribute without reachable routes ends the session.
        let ends = |random_update: &RandomUpdate| random_update.is_malformed(internal) && !random_update.announces();
        let good = random_update.iter().take_while(|random_update| !ends(random_update)).count();
        for (number, random_update) in random_update.iter().take(good + 1).enumerate() {
            let message = random_update.message();
            let run = translator.look(&message);
            if number == good {
                prop_assert!(matches!(run.stop, UpdateRunEnd::Invalid { update: true, .. }), "{:?}", run.stop);
                continue;
            }
            prop_assert!(matches!(run.stop, UpdateRunEnd::NoMore), "{:?}", run.stop);
            prop_assert_eq!((run.bytes, run.updates), (message.len(), 1));
            let expected = translator.write(&message).map(|frames| read(&frames)).unwrap_or_default();
            prop_assert_eq!(expected, random_update.expected(&families, internal));
        }
        let mixed = |random_update: &&RandomUpdate| random_update.routes().any(|(_, family, _)| !families.contains(&family));
        prop_assert_eq!(translator.counters.not_negotiated, random_update.iter().take(good).filter(mixed).count() as u64);
    }
}
