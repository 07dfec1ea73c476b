//! Sums of counters.

use bmp_ebpf::{Counters, Traffic};

/// Adds what two CPUs, or two slots, counted.
pub(super) fn add(a: &Counters, b: &Counters) -> Counters {
    Counters {
        own_tx: add_traffic(&a.own_tx, &b.own_tx),
        own_rx: add_traffic(&a.own_rx, &b.own_rx),
        foreign_tx: add_traffic(&a.foreign_tx, &b.foreign_tx),
        foreign_rx: add_traffic(&a.foreign_rx, &b.foreign_rx),
        rx_elsewhere_packets: a.rx_elsewhere_packets + b.rx_elsewhere_packets,
        denied_interface: a.denied_interface + b.denied_interface,
        denied_source: a.denied_source + b.denied_source,
        denied_mark: a.denied_mark + b.denied_mark,
        denied_no_pin: a.denied_no_pin + b.denied_no_pin,
        retransmits: a.retransmits + b.retransmits,
        events_lost: a.events_lost + b.events_lost,
        // Not a sum: when something was last logged on any CPU.
        logged_ns: a.logged_ns.max(b.logged_ns),
    }
}

fn add_traffic(a: &Traffic, b: &Traffic) -> Traffic {
    Traffic {
        bytes: a.bytes + b.bytes,
        packets: a.packets + b.packets,
        buffers: a.buffers + b.buffers,
        payload_bytes: a.payload_bytes + b.payload_bytes,
    }
}
