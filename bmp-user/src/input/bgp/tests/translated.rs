//! What stations are told of a peer's UPDATEs, whatever is in them: all of the families that were negotiated, and nothing of others.

use std::{collections::BTreeSet, net::Ipv4Addr};

use proptest::{prelude::*, sample::subsequence};

use super::world::update;
use crate::{
    input::bgp::{
        open::{Negotiated, Routes},
        updates::{Stop, Translator},
    },
    wire::{
        bgp::{Family, Form, MAX_MESSAGE, Update, nlri},
        bmp::{Message, PeerHeader, PeerKey, PeerType, frames},
    },
};

const FAMILIES: [Family; 3] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST, Family::VPNV4];

/// An UPDATE. A route is a number.
#[derive(Clone, Debug)]
struct Said {
    withdrawn: Vec<u8>,
    announced: Vec<u8>,
    unreach: Option<(Family, Vec<u8>)>,
    reach: Option<(Family, Vec<u8>)>,
    /// Attributes but those two, by what is there of them.
    origin: bool,
    /// AS number in the path.
    path: Option<u32>,
    next_hop: bool,
    /// Of a length that it cannot have.
    local_pref: bool,
    /// Where MP_REACH_NLRI and MP_UNREACH_NLRI are among them.
    places: [usize; 2],
}

fn said() -> impl Strategy<Value = Said> {
    let numbers = || proptest::collection::vec(any::<u8>(), 0..4);
    let multiprotocol =
        || prop::option::of((prop::sample::select(&FAMILIES[1..]), proptest::collection::vec(any::<u8>(), 1..4)));
    let present = || prop::bool::weighted(0.9);
    let path = prop_oneof![8 => Just(Some(65001)), 1 => Just(Some(0)), 1 => Just(None)];
    (
        (numbers(), numbers(), multiprotocol(), multiprotocol()),
        (present(), path, present(), prop::bool::weighted(0.2), any::<[prop::sample::Index; 2]>()),
    )
        .prop_map(|((withdrawn, announced, unreach, reach), (origin, path, next_hop, local_pref, places))| Said {
            withdrawn,
            announced,
            unreach,
            reach,
            origin,
            path,
            next_hop,
            local_pref,
            places: places.map(|place| place.index(5)),
        })
        .prop_filter("it says something", |said| said.routes().next().is_some())
}

/// The NLRI of routes.
fn items(family: Family, numbers: &[u8]) -> Vec<u8> {
    let item = |number: &u8| match family {
        Family::IPV4_UNICAST => vec![24, 10, 0, *number],
        Family::IPV6_UNICAST => vec![24, 0x20, 1, *number],
        _ => vec![112, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 10, 0, *number],
    };
    numbers.iter().flat_map(item).collect()
}

impl Said {
    /// Whether it is announced, its family, and its number.
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

    /// Whether an attribute that is there is malformed. LOCAL_PREF from another AS is discarded,
    /// right or wrong.
    fn is_malformed(&self, internal: bool) -> bool {
        self.path == Some(0) || self.local_pref && internal
    }

    /// What a station is to be told.
    fn told(&self, negotiated: &[Family], internal: bool) -> BTreeSet<(bool, Family, u8)> {
        let missing =
            self.announces() && (!self.origin || self.path.is_none()) || !self.announced.is_empty() && !self.next_hop;
        let withdrawn = missing || self.is_malformed(internal);
        self.routes()
            .filter(|(_, family, _)| negotiated.contains(family))
            .map(|(announced, family, number)| (announced && !withdrawn, family, number))
            .collect()
    }
}

pub(super) fn translator(families: &[Family], internal: bool) -> Translator {
    let routes = |family: &Family| Routes { family: *family, form: Form::of(*family), path_ids: false };
    let families = families.iter().map(routes).collect();
    let negotiated = Negotiated { families, as_size: 4, limit: MAX_MESSAGE, restart: None };
    let key = PeerKey { peer_type: PeerType::GLOBAL, distinguisher: [0; 8], address: [0; 16] };
    let bgp_id = Ipv4Addr::new(10, 7, 0, 2);
    let header = PeerHeader { key, flags: 0, asn: 65001, bgp_id, seconds: 0, microseconds: 0 };
    Translator::new(negotiated, header, internal)
}

/// What Route Monitoring frames say.
fn read(stream: &[u8]) -> BTreeSet<(bool, Family, u8)> {
    let mut all = BTreeSet::new();
    for frame in frames(stream) {
        let frame = frame.expect("whole frames");
        let Ok(Message::RouteMonitoring(_, message)) = Message::parse(&frame) else { panic!("{frame:?}") };
        let update = Update::parse(message, 4).expect("an UPDATE");
        assert_eq!(update.end_of_rib(), None, "nobody sent one");
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
    fn a_station_is_told_what_was_said_of_the_families_that_were_negotiated(
        said in proptest::collection::vec(said(), 1..5),
        families in subsequence(FAMILIES.to_vec(), 1..=3),
        internal in any::<bool>(),
    ) {
        let mut translator = translator(&families, internal);
        // RFC 7606 §5.2: a malformed attribute beside no reachable route ends the session.
        let ends = |said: &Said| said.is_malformed(internal) && !said.announces();
        let good = said.iter().take_while(|said| !ends(said)).count();
        for (number, said) in said.iter().take(good + 1).enumerate() {
            let message = said.message();
            let run = translator.look(&message);
            if number == good {
                prop_assert!(matches!(run.stop, Stop::Invalid { update: true, .. }), "{:?}", run.stop);
                continue;
            }
            prop_assert!(matches!(run.stop, Stop::NoMore), "{:?}", run.stop);
            prop_assert_eq!((run.bytes, run.updates), (message.len(), 1));
            let told = translator.write(&message).map(|(frames, _)| read(&frames)).unwrap_or_default();
            prop_assert_eq!(told, said.told(&families, internal));
        }
        let mixed = |said: &&Said| said.routes().any(|(_, family, _)| !families.contains(&family));
        prop_assert_eq!(translator.counters.not_negotiated, said.iter().take(good).filter(mixed).count() as u64);
    }
}
