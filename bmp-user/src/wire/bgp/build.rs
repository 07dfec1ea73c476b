//! Writes UPDATEs (RFC 4271 §4.3) from parts of received ones.

use bytes::{BufMut, BytesMut};

use super::{
    Family, Form, HEADER, Update,
    attribute::{attribute_flags, attribute_type},
    nlri::put_withdrawal,
};

const UPDATE: u8 = 2;
const MARKER: usize = 16;

/// Appends an UPDATE that announces the routes that `nlri` writes, with the attributes `before`,
/// MP_REACH_NLRI and `after`.
///
/// `reach` is MP_REACH_NLRI without header and routes: flags, AFI, SAFI, next hop and reserved
/// octet. Without `reach`, the routes go into the field for IPv4 unicast.
///
/// The UPDATE has to fit: each length field has two octets.
pub fn announcement(
    out: &mut BytesMut,
    before: &[u8],
    reach: Option<&[u8]>,
    after: &[u8],
    nlri: impl FnOnce(&mut BytesMut),
) {
    message(out, |out| {
        out.put_u16(0);
        let attributes = out.len();
        out.put_u16(0);
        out.put_slice(before);
        let Some((flags, reach)) = reach.and_then(<[u8]>::split_first) else {
            out.put_slice(after);
            put_length(out, attributes);
            nlri(out);
            return;
        };
        out.put_u8(flags | attribute_flags::EXTENDED_LENGTH);
        out.put_u8(attribute_type::MP_REACH_NLRI);
        let length = out.len();
        out.put_u16(0);
        out.put_slice(reach);
        nlri(out);
        put_shortest_length(out, length);
        out.put_slice(after);
        put_length(out, attributes);
    });
}

/// Appends an UPDATE that withdraws the routes that were announced with `items`. It has to fit.
pub fn withdrawal<'a>(
    out: &mut BytesMut,
    family: Family,
    form: Form,
    path_ids: bool,
    items: impl Iterator<Item = &'a [u8]>,
) {
    message(out, |out| {
        let put_items = |out: &mut BytesMut| items.for_each(|item| put_withdrawal(form, path_ids, item, out));
        let start = out.len();
        out.put_u16(0);
        if family == Family::IPV4_UNICAST {
            put_items(out);
            put_length(out, start);
            out.put_u16(0);
            return;
        }
        let attributes = out.len();
        out.put_u16(0);
        put_unreach(out, family, put_items);
        put_length(out, attributes);
    });
}

/// Appends the part of an UPDATE that is about some families, without the attributes at the places
/// in `without` (start and end of each). The result is no longer than the UPDATE.
pub fn reduced(out: &mut BytesMut, update: &Update<'_>, wanted: impl Fn(Family) -> bool, without: &[(usize, usize)]) {
    let plain = wanted(Family::IPV4_UNICAST);
    let reach = update.reach.filter(|reach| !wanted(reach.family)).map(|reach| (reach.at, reach.end));
    let unreach = update.unreach.filter(|unreach| !wanted(unreach.family)).map(|unreach| (unreach.at, unreach.end));
    let mut left_out: Vec<_> = without.iter().copied().chain(reach).chain(unreach).collect();
    left_out.sort_unstable();
    message(out, |out| {
        let start = out.len();
        out.put_u16(0);
        out.put_slice(if plain { update.withdrawn } else { &[] });
        put_length(out, start);
        let attributes = out.len();
        out.put_u16(0);
        let mut from = 0;
        for (at, end) in left_out {
            out.put_slice(update.attributes.get(from..at).unwrap_or_default());
            from = end;
        }
        out.put_slice(update.attributes.get(from..).unwrap_or_default());
        put_length(out, attributes);
        out.put_slice(if plain { update.nlri } else { &[] });
    });
}

/// Appends the End-of-RIB marker of a family (RFC 4724 §2).
pub fn end_of_rib(out: &mut BytesMut, family: Family) {
    message(out, |out| {
        out.put_u16(0);
        let attributes = out.len();
        out.put_u16(0);
        if family != Family::IPV4_UNICAST {
            put_unreach(out, family, |_| {});
            put_length(out, attributes);
        }
    });
}

fn put_unreach(out: &mut BytesMut, family: Family, items: impl FnOnce(&mut BytesMut)) {
    out.put_u8(attribute_flags::OPTIONAL | attribute_flags::EXTENDED_LENGTH);
    out.put_u8(attribute_type::MP_UNREACH_NLRI);
    let length = out.len();
    out.put_u16(0);
    out.put_u16(family.afi);
    out.put_u8(family.safi);
    items(out);
    put_length(out, length);
}

fn message(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    // Written in one piece, because every message of a dump has one.
    let mut header = [0xff; HEADER];
    [header[MARKER], header[MARKER + 1], header[MARKER + 2]] = [0, 0, UPDATE];
    out.put_slice(&header);
    body(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(start + MARKER..start + HEADER - 1) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Fills in the two-octet length field at `at` of the attribute that ends here. Shortens the field
/// to one octet where that is enough: some messages have no room for one octet more than their
/// sender wrote.
fn put_shortest_length(out: &mut BytesMut, at: usize) {
    let end = out.len();
    match (u8::try_from(end - at - 2), out.get_mut(at - 2..)) {
        (Ok(length), Some([flags, _kind, high, rest @ ..])) => {
            *flags &= !attribute_flags::EXTENDED_LENGTH;
            *high = length;
            rest.copy_within(1.., 0);
            out.truncate(end - 1);
        }
        _ => put_length(out, at),
    }
}

/// Fills in the length field at `at` with the number of bytes behind it.
fn put_length(out: &mut BytesMut, at: usize) {
    let length = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}
