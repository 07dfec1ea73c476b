//! NetGauze, which reads the families of VPNs, labels and Loc-RIBs too.

use std::collections::{BTreeMap, BTreeSet};

use bmp_user::wire::{
    bgp::Family,
    bmp::{
        Message, MessageType, PeerHeader, PeerKey, PeerType, RouteDistinguisher, Statistic, StatisticType, frames,
        statistics::{StatisticValue, statistics_report},
    },
};
use bytes::BytesMut;
use netgauze_bmp_pkt::codec::BmpCodec;
use serde_json::Value;
use tokio_util::codec::Decoder as _;

use super::{judge, through};

/// A station's knowledge, as NetGauze reads it.
#[derive(Debug, Default, PartialEq, Eq)]
struct NetgauzeStation {
    peers: BTreeMap<PeerKey, NetgauzePeer>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct NetgauzePeer {
    /// The Peer Ups of its session, and the bytes of the first.
    ups: BTreeSet<String>,
    first: Option<Vec<u8>>,
    /// Routes by RIB and name, with all that is known of each.
    routes: BTreeMap<(u8, String), String>,
}

/// Reads a stream. Returns the station's knowledge, and complaints about unreadable messages.
fn read(stream: &[u8]) -> (NetgauzeStation, Vec<String>) {
    let (mut station, mut complaints) = (NetgauzeStation::default(), Vec::new());
    let mut codec = BmpCodec::default();
    for frame in frames(stream) {
        let frame = frame.expect("the stream is BMP");
        let Some((kind, header)) = frame.message_type().zip(PeerHeader::of(&frame)) else { continue };
        let message = match codec.decode(&mut BytesMut::from(frame.bytes())) {
            Ok(Some(message)) => serde_json::to_value(message).expect("a message has a JSON form"),
            Ok(None) => panic!("the decoder takes a complete frame for a part"),
            Err(error) => {
                complaints.push(format!("{kind}: {}", innermost(&format!("{error:?}"))));
                // Peers come and go even if NetGauze cannot read their OPENs.
                Value::String(format!("{:x?}", frame.bytes()))
            }
        };
        match kind {
            MessageType::PeerUp => {
                let known = station.peers.entry(header.key).or_default();
                if !known.first.as_ref().is_some_and(|first| is_of_same_session(first, frame.bytes())) {
                    *known = NetgauzePeer { first: Some(frame.bytes().to_vec()), ..NetgauzePeer::default() };
                }
                known.ups.insert(message.to_string());
            }
            MessageType::PeerDown => drop(station.peers.remove(&header.key)),
            MessageType::RouteMonitoring => {
                let update = &message["V3"]["RouteMonitoring"]["update_message"]["Update"];
                station.peers.entry(header.key).or_default().update(header.flags, update);
            }
            _ => {}
        }
    }
    station.peers.retain(|_, peer| *peer != NetgauzePeer::default());
    (station, complaints)
}

fn is_of_same_session(one: &[u8], other: &[u8]) -> bool {
    let frame = |bytes| frames(bytes).next().expect("there is a frame").expect("the frame is BMP");
    let (one, other) = (frame(one), frame(other));
    let (one, other) = (Message::parse(&one), Message::parse(&other));
    matches!((one, other), (Ok(Message::PeerUp(one)), Ok(Message::PeerUp(other))) if one.is_of_same_session(&other))
}

/// Returns `C { offset: 1 }` of `A(B(C { offset: 1 }))`.
fn innermost(error: &str) -> &str {
    let end = error.find([' ', ')']).unwrap_or(error.len());
    let start = error.get(..end).and_then(|start| start.rfind('(')).map_or(0, |at| at + 1);
    error.get(start..).unwrap_or(error).trim_end_matches(')')
}

impl NetgauzePeer {
    fn update(&mut self, view: u8, update: &Value) {
        let mut attributes = update["path_attributes"].as_array().cloned().unwrap_or_default();
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        let plain = |list: &Value| {
            list.as_array().into_iter().flatten().map(|nlri| named("Ipv4Unicast", nlri)).collect::<Vec<_>>()
        };
        gone.extend(plain(&update["withdrawn_routes"]));
        for attribute in &mut attributes {
            let value = &mut attribute["value"];
            for (list, place) in [(&mut gone, "MpUnreach"), (&mut new, "MpReach")] {
                for (family, routes) in value[place].as_object_mut().into_iter().flatten() {
                    let nlri = routes["nlri"].take();
                    list.extend(nlri.as_array().into_iter().flatten().map(|nlri| named(family, nlri)));
                }
            }
        }
        let is = |attribute: &Value, place: &str| attribute["value"].get(place).is_some();
        let in_field = attributes.iter().filter(|one| !is(one, "MpReach") && !is(one, "MpUnreach"));
        let of_field = in_field.map(Value::to_string).collect::<Vec<_>>().join(" ");
        let with_reach = attributes.iter().filter(|one| !is(one, "MpUnreach")).cloned().map(|mut one| {
            if is(&one, "MpReach") {
                // The form of its length does not matter.
                one["extended_length"].take();
            }
            one.to_string()
        });
        let of_reach = with_reach.collect::<Vec<_>>().join(" ");
        for (name, _) in gone {
            self.routes.remove(&(view, name));
        }
        let field = plain(&update["nlri"]).into_iter().map(|route| (route, &of_field));
        for ((name, labels), attributes) in field.chain(new.into_iter().map(|route| (route, &of_reach))) {
            self.routes.insert((view, name), format!("{labels} {attributes}"));
        }
    }
}

/// Returns the name of a route, and its labels, which are no part of the name.
fn named(family: &str, nlri: &Value) -> (String, String) {
    let mut nlri = nlri.clone();
    let labels = ["label_stack", "labels"].map(|field| nlri.get_mut(field).map(Value::take)).into_iter().flatten();
    let labels = labels.map(|labels| labels.to_string()).collect();
    (format!("{family} {nlri}"), labels)
}

#[test]
fn netgauze_reads_the_messages_and_a_late_station_knows_what_an_early_one_knows() {
    let mut families = BTreeSet::new();
    for stream in &through() {
        judge("netgauze", stream, |stream| read(stream).1);
        let ((early, _), (late, _)) = (read(&stream.live), read(&stream.late));
        assert_eq!(early.peers.keys().collect::<Vec<_>>(), late.peers.keys().collect::<Vec<_>>(), "{}", stream.name);
        for (key, peer) in &early.peers {
            let found = &late.peers[key];
            assert_eq!(found.ups, peer.ups, "{}: the Peer Ups of {key:?}", stream.name);
            for route in peer.routes.keys().chain(found.routes.keys()) {
                assert_eq!(found.routes.get(route), peer.routes.get(route), "{}: {route:?} of {key:?}", stream.name);
                families.extend(route.1.split(' ').next().map(str::to_owned));
            }
        }
    }
    let of_vpns = families.iter().filter(|family| family.contains("Vpn")).count();
    assert!(families.is_empty() || of_vpns >= 2, "{families:?}");
}

#[test]
fn netgauze_reads_each_type_that_bmpd_sends_as_what_it_is() {
    let key = PeerKey { peer_type: PeerType::GLOBAL, distinguisher: RouteDistinguisher::ZERO, address: [0; 16] };
    let peer = PeerHeader { key, flags: 0, asn: 65_001, bgp_id: [10, 0, 0, 1].into(), seconds: 0, microseconds: 0 };
    let mut reports = BytesMut::new();
    let value = |kind: StatisticType| match kind.0 {
        7 | 8 | 14 | 15 | 18 | 20 | 29 => StatisticValue::Gauge(5),
        9 | 10 | 16 | 17 | 19 | 21 | 27 => StatisticValue::OfFamily(Family::IPV6_UNICAST, 6),
        _ => StatisticValue::Counter(7),
    };
    let all = StatisticType::OF_BGP_PEERS.map(|kind| Statistic { kind, value: value(kind) });
    statistics_report(&mut reports, &peer, &all);
    let message = BmpCodec::default().decode(&mut reports).expect("the report is read").expect("the report is whole");
    let message = serde_json::to_value(message).expect("a message has a JSON form");
    let counters = message["V3"]["StatisticsReport"]["counters"].as_array().expect("there are statistics");
    assert_eq!(counters.len(), all.len());
    let has_name = |counter: &Value| {
        counter.as_object().is_some_and(|named| named.keys().all(|name| name.starts_with("NumberOf")))
    };
    assert!(counters.iter().all(has_name), "{counters:#?}");
}
