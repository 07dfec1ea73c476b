//! Statistics (RFC 7854 §4.8, RFC 8671 §6.2, RFC 9972 §3): a count, and then type, length and value
//! of each.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::{Error, PeerHeader, build};
use crate::wire::bgp::Family;
use crate::wire::reader::ByteReader;

/// The type of a statistic. It need not have a name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatisticType(pub u16);

impl StatisticType {
    /// Duplicate prefix advertisements (RFC 7854 §4.8).
    pub const DUPLICATE_ADVERTISEMENTS: Self = Self(1);
    /// Duplicate withdraws (RFC 7854 §4.8).
    pub const DUPLICATE_WITHDRAWS: Self = Self(2);
    /// Routes in Adj-RIBs-In (RFC 7854 §4.8).
    pub const ADJ_RIB_IN: Self = Self(7);
    /// Routes in a family's Adj-RIB-In (RFC 7854 §4.8).
    pub const ADJ_RIB_IN_OF_FAMILY: Self = Self(9);
    /// Routes in Loc-RIB (RFC 7854 §4.8).
    pub const LOC_RIB: Self = Self(8);
    /// Routes in a family's Loc-RIB (RFC 7854 §4.8).
    pub const LOC_RIB_OF_FAMILY: Self = Self(10);
    /// UPDATEs that were treated as withdrawals (RFC 7854 §4.8, RFC 7606).
    pub const TREATED_AS_WITHDRAW: Self = Self(11);
    /// Prefixes that were treated as withdrawn (RFC 7854 §4.8, RFC 7606).
    pub const PREFIXES_TREATED_AS_WITHDRAW: Self = Self(12);
    /// UPDATEs that say nothing new (RFC 7854 §4.8).
    pub const DUPLICATE_UPDATES: Self = Self(13);
    /// Routes in Adj-RIBs-Out before policy (RFC 8671 §6.2).
    pub const ADJ_RIB_OUT_PRE: Self = Self(14);
    /// Routes in Adj-RIBs-Out after policy (RFC 8671 §6.2).
    pub const ADJ_RIB_OUT_POST: Self = Self(15);
    /// Routes in a family's Adj-RIB-Out before policy (RFC 8671 §6.2).
    pub const ADJ_RIB_OUT_PRE_OF_FAMILY: Self = Self(16);
    /// Routes in a family's Adj-RIB-Out after policy (RFC 8671 §6.2).
    pub const ADJ_RIB_OUT_POST_OF_FAMILY: Self = Self(17);
    /// Routes in Adj-RIBs-In before policy (RFC 9972 §3.2).
    pub const ADJ_RIB_IN_PRE: Self = Self(18);
    /// Routes in a family's Adj-RIB-In before policy (RFC 9972 §3.2).
    pub const ADJ_RIB_IN_PRE_OF_FAMILY: Self = Self(19);
    /// Routes in Adj-RIBs-In after policy (RFC 9972 §3.2).
    pub const ADJ_RIB_IN_POST: Self = Self(20);
    /// Routes in a family's Adj-RIB-In after policy (RFC 9972 §3.2).
    pub const ADJ_RIB_IN_POST_OF_FAMILY: Self = Self(21);
    /// Routes of a family that are stale because the peer restarts (RFC 9972 §3.2).
    pub const STALE_OF_FAMILY: Self = Self(27);
    /// Routes that the peer may have beyond those that it has (RFC 9972 §3.2).
    pub const LEFT_BEFORE_LIMIT: Self = Self(29);

    /// What bmpd reports on its own BGP peers, by number.
    pub const OF_BGP_PEERS: [Self; 11] = [
        Self::DUPLICATE_ADVERTISEMENTS,
        Self::DUPLICATE_WITHDRAWS,
        Self::ADJ_RIB_IN,
        Self::ADJ_RIB_IN_OF_FAMILY,
        Self::TREATED_AS_WITHDRAW,
        Self::PREFIXES_TREATED_AS_WITHDRAW,
        Self::DUPLICATE_UPDATES,
        Self::ADJ_RIB_IN_PRE,
        Self::ADJ_RIB_IN_PRE_OF_FAMILY,
        Self::STALE_OF_FAMILY,
        Self::LEFT_BEFORE_LIMIT,
    ];

    /// What bmpd derives about relayed peers, by number.
    pub const DERIVED: [Self; 12] = [
        Self::ADJ_RIB_IN,
        Self::LOC_RIB,
        Self::ADJ_RIB_IN_OF_FAMILY,
        Self::LOC_RIB_OF_FAMILY,
        Self::ADJ_RIB_OUT_PRE,
        Self::ADJ_RIB_OUT_POST,
        Self::ADJ_RIB_OUT_PRE_OF_FAMILY,
        Self::ADJ_RIB_OUT_POST_OF_FAMILY,
        Self::ADJ_RIB_IN_PRE,
        Self::ADJ_RIB_IN_PRE_OF_FAMILY,
        Self::ADJ_RIB_IN_POST,
        Self::ADJ_RIB_IN_POST_OF_FAMILY,
    ];

    /// In the order of their numbers. A type that is not assigned has an empty name. RFC 9972
    /// defines the types from 18 on: §3.2 those of Adj-RIB-In, §3.3 those of Adj-RIB-Out (from 38
    /// on). Lists disagree about 24 and 25: some have routes selected as primary and as backup,
    /// others nothing.
    const NAMES: [&str; 44] = [
        "prefixes rejected by inbound policy",
        "duplicate prefix advertisements",
        "duplicate withdraws",
        "updates invalidated by CLUSTER_LIST loop",
        "updates invalidated by AS_PATH loop",
        "updates invalidated by ORIGINATOR_ID",
        "updates invalidated by AS_CONFED loop",
        "routes in Adj-RIBs-In",
        "routes in Loc-RIB",
        "routes in Adj-RIB-In of a family",
        "routes in Loc-RIB of a family",
        "updates treated as withdraw",
        "prefixes treated as withdraw",
        "duplicate update messages",
        "routes in pre-policy Adj-RIBs-Out",
        "routes in post-policy Adj-RIBs-Out",
        "routes in pre-policy Adj-RIB-Out of a family",
        "routes in post-policy Adj-RIB-Out of a family",
        "routes in pre-policy Adj-RIBs-In",
        "routes in pre-policy Adj-RIB-In of a family",
        "routes in post-policy Adj-RIBs-In",
        "routes in post-policy Adj-RIB-In of a family",
        "routes of a family rejected by inbound policy",
        "routes of a family accepted by inbound policy",
        "",
        "",
        "routes of a family suppressed by damping",
        "routes of a family stale by graceful restart",
        "routes of a family stale by long-lived graceful restart",
        "routes left before the threshold of received routes",
        "routes of a family left before the threshold of received routes",
        "routes left before the licensed number",
        "routes of a family left before the licensed number",
        "routes rejected for the length of their AS_PATH",
        "routes of a family rejected for the length of their AS_PATH",
        "routes of a family that are RPKI invalid",
        "routes of a family that are RPKI valid",
        "routes of a family that RPKI does not know",
        "routes of a family rejected by outbound policy",
        "routes not sent for the length of their AS_PATH",
        "routes of a family not sent for the length of their AS_PATH",
        "routes of a family in Adj-RIB-Out that are RPKI invalid",
        "routes of a family in Adj-RIB-Out that are RPKI valid",
        "routes of a family in Adj-RIB-Out that RPKI does not know",
    ];
}

/// The name of the type, or `statistic 99`.
impl fmt::Display for StatisticType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.get(usize::from(self.0)) {
            Some(name) if !name.is_empty() => f.write_str(name),
            _ => write!(f, "statistic {}", self.0),
        }
    }
}

/// One statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistic<'a> {
    /// The type.
    pub kind: StatisticType,
    /// The value.
    pub value: StatisticValue<'a>,
}

/// The value of a statistic, by its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatisticValue<'a> {
    /// A counter of 32 bits, which wraps.
    Counter(u32),
    /// A gauge of 64 bits.
    Gauge(u64),
    /// A gauge of 64 bits for one family.
    OfFamily(Family, u64),
    /// A value of another length.
    Other(&'a [u8]),
}

impl<'a> StatisticValue<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        match *bytes {
            [a, b, c, d] => Self::Counter(u32::from_be_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => Self::Gauge(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            [afi0, afi1, safi, a, b, c, d, e, f, g, h] => {
                let family = Family::new(u16::from_be_bytes([afi0, afi1]), safi);
                Self::OfFamily(family, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            _ => Self::Other(bytes),
        }
    }
}

/// Reads the statistics behind the per-peer header of a Statistics Report. A statistic that is not
/// whole, or missing although the count includes it, is an error and the end. Offsets are within
/// `bytes`.
pub fn statistics(bytes: &[u8]) -> impl Iterator<Item = Result<Statistic<'_>, Error>> {
    let mut reader = ByteReader::new(bytes, 0);
    // Nothing is allocated by the count. A missing statistic is an error.
    let mut left = reader.u32("the number of statistics").map(Some);
    std::iter::from_fn(move || match left {
        Ok(None | Some(0)) => None,
        Ok(Some(count)) => {
            let statistic = take(&mut reader);
            left = Ok(statistic.is_ok().then(|| count - 1));
            Some(statistic)
        }
        Err(error) => {
            left = Ok(None);
            Some(Err(error.into()))
        }
    })
}

fn take<'a>(reader: &mut ByteReader<'a>) -> Result<Statistic<'a>, Error> {
    let kind = StatisticType(reader.u16("the type of a statistic")?);
    let length = reader.u16("the length of a statistic")?;
    Ok(Statistic { kind, value: StatisticValue::new(reader.bytes(usize::from(length), "the value of a statistic")?) })
}

/// Appends a Statistics Report (RFC 7854 §4.8).
pub fn statistics_report(out: &mut BytesMut, peer: &PeerHeader, statistics: &[Statistic<'_>]) {
    build::statistics_report_of(out, peer, |out| {
        // Few enough for a frame: one for each type and family.
        out.put_u32(statistics.len() as u32);
        for statistic in statistics {
            out.put_u16(statistic.kind.0);
            match statistic.value {
                StatisticValue::Counter(value) => {
                    out.put_u16(4);
                    out.put_u32(value);
                }
                StatisticValue::Gauge(value) => {
                    out.put_u16(8);
                    out.put_u64(value);
                }
                StatisticValue::OfFamily(Family { afi, safi }, value) => {
                    out.put_u16(11);
                    out.put_u16(afi);
                    out.put_u8(safi);
                    out.put_u64(value);
                }
                StatisticValue::Other(bytes) => {
                    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
                    out.put_u16(bytes.len() as u16);
                    out.put_slice(bytes);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use bgpkit_parser::parser::bmp::{
        messages::{BmpMessageBody, StatCounter, StatType, StatsData},
        parse_bmp_msg,
    };

    use super::*;
    use crate::wire::bmp::{COMMON_HEADER, Message, PER_PEER_HEADER, PeerKey, PeerType, RouteDistinguisher, frames};

    fn report(of: &[Statistic<'_>]) -> Vec<u8> {
        let key = PeerKey { peer_type: PeerType::GLOBAL, distinguisher: RouteDistinguisher::ZERO, address: [9; 16] };
        let (asn, bgp_id) = (65001, [10, 0, 0, 1].into());
        let peer = PeerHeader { key, flags: 0, asn, bgp_id, seconds: 7, microseconds: 8 };
        let mut out = BytesMut::new();
        statistics_report(&mut out, &peer, of);
        out.to_vec()
    }

    #[test]
    fn what_is_built_is_read_back_with_types_and_lengths_that_nobody_knows() {
        let all = [
            Statistic { kind: StatisticType::ADJ_RIB_IN, value: StatisticValue::Gauge(1 << 40) },
            Statistic {
                kind: StatisticType::ADJ_RIB_IN_OF_FAMILY,
                value: StatisticValue::OfFamily(Family::VPNV6, 20_000),
            },
            Statistic { kind: StatisticType::TREATED_AS_WITHDRAW, value: StatisticValue::Counter(3) },
            Statistic { kind: StatisticType(9999), value: StatisticValue::Other(b"of no meaning") },
            Statistic { kind: StatisticType(10_000), value: StatisticValue::Other(b"") },
        ];
        let bytes = report(&all);
        let frame = frames(&bytes).next().unwrap().unwrap();
        let Ok(Message::StatisticsReport(peer, counters)) = Message::parse(&frame) else { panic!("{frame:?}") };
        assert_eq!((peer.asn, peer.seconds), (65001, 7));
        assert_eq!(statistics(counters).map(Result::unwrap).collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_report_that_is_not_whole_is_an_error_where_it_ends_and_no_more() {
        let bytes = report(&[Statistic { kind: StatisticType::ADJ_RIB_IN, value: StatisticValue::Gauge(1) }; 3]);
        let counters = &bytes[COMMON_HEADER + PER_PEER_HEADER..];
        for length in 0..counters.len() {
            let read: Vec<_> = statistics(&counters[..length]).collect();
            assert!(read.last().unwrap().is_err(), "{length}");
            assert!(read.iter().rev().skip(1).all(Result::is_ok));
        }
        let mut many = counters.to_vec();
        many[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(statistics(&many).count(), 4);
        many[..4].copy_from_slice(&0u32.to_be_bytes());
        assert_eq!(statistics(&many).count(), 0);
    }

    #[test]
    fn types_from_26_on_are_of_a_family_where_rfc_9972_says_so() {
        let of_a_family: Vec<u16> =
            (26..44).filter(|number| StatisticType(*number).to_string().contains("of a family")).collect();
        assert_eq!(of_a_family, [26, 27, 28, 30, 32, 34, 35, 36, 37, 38, 40, 41, 42, 43]);
        let of_what_is_sent = |number: &u16| {
            let name = StatisticType(*number).to_string();
            name.contains("outbound") || name.contains("not sent") || name.contains("Adj-RIB-Out")
        };
        assert_eq!((26..44).filter(of_what_is_sent).collect::<Vec<_>>(), [38, 39, 40, 41, 42, 43]);
    }

    #[test]
    fn another_parser_reads_each_type_that_is_sent_as_what_it_is() {
        let statistics = StatisticType::OF_BGP_PEERS.map(|kind| {
            let value = match kind.0 {
                7 | 18 | 29 => StatisticValue::Gauge(5),
                9 | 19 | 27 => StatisticValue::OfFamily(Family::VPNV6, 6),
                _ => StatisticValue::Counter(7),
            };
            Statistic { kind, value }
        });
        let message = parse_bmp_msg(&mut report(&statistics).into()).unwrap();
        let BmpMessageBody::StatsReport(read) = message.message_body else { panic!("{message:?}") };
        let of_other_names = |counter: &&StatCounter| matches!(counter.stat_type, StatType::Other(_));
        assert_eq!(read.counters.iter().find(of_other_names), None);
        let (afi, safi) = (Family::VPNV6.afi, Family::VPNV6.safi);
        let data = statistics.map(|statistic| match statistic.value {
            StatisticValue::Gauge(value) => StatsData::Gauge(value),
            StatisticValue::OfFamily(_, value) => StatsData::AfiSafiGauge(afi, safi, value),
            _ => StatsData::Counter(7),
        });
        let expected: Vec<_> = statistics.iter().map(|statistic| statistic.kind.0).zip(data).collect();
        let read = read.counters.into_iter().map(|counter| (counter.stat_type.into(), counter.stat_data));
        assert_eq!(read.collect::<Vec<(u16, _)>>(), expected);
    }

    /// The cells of the table of statistics types in the documents.
    fn documented() -> Vec<Vec<&'static str>> {
        let document = include_str!("../../../../docs/rfc.md");
        let (_, section) = document.split_once("## Statistics types").expect("the section is there");
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
        rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
    }

    #[test]
    fn the_documents_say_of_every_type_what_becomes_of_it() {
        let rows = documented();
        let names = StatisticType::NAMES.iter().enumerate();
        let expected: Vec<_> = names
            .map(|(number, name)| [number.to_string(), if name.is_empty() { "-" } else { name }.to_owned()])
            .collect();
        assert_eq!(rows.iter().map(|row| [row[0].to_owned(), row[1].to_owned()]).collect::<Vec<_>>(), expected);
        let own: Vec<_> = rows.iter().filter(|row| row[3] == "sent").map(|row| row[0].to_owned()).collect();
        assert_eq!(own, StatisticType::OF_BGP_PEERS.map(|kind| kind.0.to_string()));
        let derived: Vec<_> = rows.iter().filter(|row| row[4] == "yes").map(|row| row[0].to_owned()).collect();
        assert_eq!(derived, StatisticType::DERIVED.map(|kind| kind.0.to_string()));
        assert!(rows.iter().all(|row| row.len() == 6 && !row[5].is_empty()), "each row says why");
    }

    #[test]
    fn types_have_the_names_of_their_numbers() {
        assert_eq!(StatisticType::TREATED_AS_WITHDRAW.to_string(), "updates treated as withdraw");
        assert_eq!(StatisticType(17).to_string(), "routes in post-policy Adj-RIB-Out of a family");
        assert_eq!(StatisticType(27).to_string(), "routes of a family stale by graceful restart");
        assert_eq!(StatisticType(24).to_string(), "statistic 24");
        assert_eq!(StatisticType(44).to_string(), "statistic 44");
    }
}
