//! The programs that see every packet call no loop over bytes: read from their object file.

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};

use super::super::object::OBJECT;

/// They copy, fill and compare memory byte by byte: a nanosecond a byte.
const BYTE_LOOPS: [&str; 4] = ["memset", "memcpy", "memmove", "memcmp"];

#[test]
fn a_packet_on_its_way_calls_no_loop_over_bytes() {
    let programs = object::File::parse(OBJECT).expect("an object file");
    for (hook, program) in [("cgroup_skb/egress", "egress"), ("cgroup_skb/ingress", "ingress")] {
        let section = programs.section_by_name(hook).expect(hook);
        let called: Vec<&str> = section
            .relocations()
            .filter_map(|(_, relocation)| match relocation.target() {
                // The programs' own functions are named by their section alone.
                RelocationTarget::Symbol(symbol) => programs.symbol_by_index(symbol).ok()?.name().ok(),
                _ => None,
            })
            .collect();
        assert!(!called.is_empty(), "{hook} calls nothing and uses no table");
        let loops: Vec<_> = called.iter().filter(|name| BYTE_LOOPS.contains(name)).collect();
        assert!(
            loops.is_empty(),
            "{program} calls {loops:?}: give each branch a value of its own instead of one that is lent"
        );
    }
}
