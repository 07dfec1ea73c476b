//! Sums of counters, and addresses in tables.

use super::*;

/// Counters whose values all differ.
fn counted(first: u64) -> Counters {
    let mut values = first..;
    let mut next = || values.next().unwrap_or_default();
    let mut traffic = || Traffic { bytes: next(), packets: next(), buffers: next(), payload_bytes: next() };
    let [own_tx, own_rx, foreign_tx, foreign_rx] = [traffic(), traffic(), traffic(), traffic()];
    Counters {
        own_tx,
        own_rx,
        foreign_tx,
        foreign_rx,
        rx_elsewhere_packets: next(),
        denied_interface: next(),
        denied_source: next(),
        denied_mark: next(),
        denied_no_pin: next(),
        retransmits: next(),
        events_lost: next(),
        logged_ns: next(),
    }
}

/// Their 24 values, in the order of the table's value.
fn values(counters: &Counters) -> [u64; 24] {
    // SAFETY: `repr(C)` of `u64` alone, whose size is asserted.
    unsafe { core::mem::transmute::<Counters, [u64; 24]>(*counters) }
}

#[test]
fn a_sum_has_every_counter_and_the_later_time_of_a_log_line() {
    let (few, many) = (counted(1), counted(1000));
    for (mut sum, more) in [(few, many), (many, few)] {
        sum += more;
        for (at, sum) in values(&sum).into_iter().enumerate() {
            let (few, many) = (values(&few)[at], values(&many)[at]);
            assert_eq!(sum, if at == 23 { many } else { few + many }, "value {at}");
        }
    }
}

#[test]
fn an_address_is_the_same_after_a_table_has_held_it() {
    for address in [IpAddr::from([192, 0, 2, 7]), IpAddr::from([0x2001, 0xdb8, 7, 0, 0, 0, 0, 7])] {
        assert_eq!(InetAddress::from(address).to_ip(InetFamily::of(address)), Some(address));
    }
    assert_eq!(InetAddress::UNSPECIFIED.to_ip(InetFamily::NONE), None);
}

#[test]
fn an_ipv4_address_takes_the_first_four_bytes() {
    let address = InetAddress::from(Ipv4Addr::new(192, 0, 2, 7));
    assert_eq!(address.octets(), &[192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(address, InetAddress::from_words([u32::from_ne_bytes([192, 0, 2, 7]), 0, 0, 0]));
}
