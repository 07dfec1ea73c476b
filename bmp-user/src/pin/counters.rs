//! Sums of what the kernel counted.

use bmp_ebpf::Counters;

/// Adds what one slot counted to a sum.
pub(crate) fn add(sum: &mut Counters, more: &Counters) {
    for (sum, more) in [
        (&mut sum.own_tx, &more.own_tx),
        (&mut sum.own_rx, &more.own_rx),
        (&mut sum.foreign_tx, &more.foreign_tx),
        (&mut sum.foreign_rx, &more.foreign_rx),
    ] {
        sum.bytes += more.bytes;
        sum.packets += more.packets;
        sum.buffers += more.buffers;
        sum.payload_bytes += more.payload_bytes;
    }
    sum.rx_elsewhere_packets += more.rx_elsewhere_packets;
    sum.denied_interface += more.denied_interface;
    sum.denied_source += more.denied_source;
    sum.denied_mark += more.denied_mark;
    sum.denied_no_pin += more.denied_no_pin;
    sum.retransmits += more.retransmits;
}
