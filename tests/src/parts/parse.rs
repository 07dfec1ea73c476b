//! Finding messages, attributes and prefixes in what was received.

use std::hint::black_box;

use bmp_user::wire::{
    bgp::{self, Family, Form, MAX_MESSAGE, Update},
    bmp,
};

use super::Part;
use crate::table::{Shape, Table};

/// A table's Route Monitoring messages, found one after the other.
pub(super) fn bmp_frames(routes: usize) -> Box<dyn Part> {
    let frames = super::feed::reads(&table(routes)).concat();
    Box::new(move || {
        black_box(bmp::frames(&frames).filter(Result::is_ok).count());
    })
}

/// A table's UPDATE messages, split into withdrawn routes, attributes and NLRI.
pub(super) fn bgp_updates(routes: usize) -> Box<dyn Part> {
    let table = table(routes);
    Box::new(move || {
        black_box(updates(&table).map(|update| update.nlri.len()).sum::<usize>());
    })
}

/// A table's NLRI, split into prefixes.
pub(super) fn prefixes(routes: usize) -> Box<dyn Part> {
    let form = Form::of(Family::IPV4_UNICAST).expect("its form is known");
    let nlri: Vec<_> = updates(&table(routes)).map(|update| update.nlri.to_vec()).collect();
    Box::new(move || {
        let prefixes = |items: &Vec<u8>| bgp::nlri(form, false, items).filter(Result::is_ok).count();
        black_box(nlri.iter().map(prefixes).sum::<usize>());
    })
}

fn table(routes: usize) -> Table {
    Table::new(&Shape { routes, ..Shape::default() })
}

fn updates(table: &Table) -> impl Iterator<Item = Update<'_>> {
    bgp::frames(&table.bytes, MAX_MESSAGE)
        .map(|frame| Update::parse(frame.expect("it is BGP").bytes(), 4).expect("it is an UPDATE"))
}
