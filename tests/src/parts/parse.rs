//! Parsing: finding messages, attributes and prefixes in received bytes.

use std::hint::black_box;

use bmp_user::wire::{
    bgp::{self, Family, Form, MAX_MESSAGE, Update},
    bmp,
};

use super::MeasuredPart;
use crate::table::{TableShape, UpdateTable};

/// Finds the frames of a table's Route Monitoring messages.
pub(super) fn bmp_frames(routes: usize) -> Box<dyn MeasuredPart> {
    let frames = super::feed::reads(&table(routes)).concat();
    Box::new(move || {
        black_box(bmp::frames(&frames).filter(Result::is_ok).count());
    })
}

/// Splits a table's UPDATE messages into withdrawn routes, attributes and NLRI.
pub(super) fn bgp_updates(routes: usize) -> Box<dyn MeasuredPart> {
    let table = table(routes);
    Box::new(move || {
        black_box(updates(&table).map(|update| update.nlri.len()).sum::<usize>());
    })
}

/// Splits a table's NLRI into prefixes.
pub(super) fn prefixes(routes: usize) -> Box<dyn MeasuredPart> {
    let form = Form::of(Family::IPV4_UNICAST).expect("IPv4 unicast has a form");
    let nlri: Vec<_> = updates(&table(routes)).map(|update| update.nlri.to_vec()).collect();
    Box::new(move || {
        let prefixes = |items: &Vec<u8>| bgp::nlri(form, false, items).filter(Result::is_ok).count();
        black_box(nlri.iter().map(prefixes).sum::<usize>());
    })
}

fn table(routes: usize) -> UpdateTable {
    UpdateTable::new(&TableShape { routes, ..TableShape::default() })
}

fn updates(table: &UpdateTable) -> impl Iterator<Item = Update<'_>> {
    bgp::frames(&table.bytes, MAX_MESSAGE)
        .map(|frame| Update::parse(frame.expect("the stream is BGP").bytes(), 4).expect("the message is an UPDATE"))
}
