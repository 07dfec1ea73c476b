//! UPDATE: attributes, and the routes of every family, with and without path identifiers.

use bmp_user::wire::bgp::{
    Error, Family, Fit, Form, HEADER, Reading, Update, attributes, build, identity, nlri, put_withdrawal,
    update_header, without_trailing_bits,
};
use bytes::{BufMut, BytesMut};

use super::is_within;
use crate::{memory::within, station};

/// Reads one byte and the body of an UPDATE. The byte selects two-octet AS numbers, path
/// identifiers and label stacks.
pub fn update(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    if body.len() > 65_000 {
        return;
    }
    let as_size = if choice & 1 == 0 { 4 } else { 2 };
    let (path_ids, stack) = (choice & 2 != 0, choice & 4 != 0);
    let mut message = BytesMut::new();
    update_header(&mut message, body.len());
    message.put_slice(body);
    within(64 * 1024, 64, data.len(), || split(&message, as_size, path_ids, stack));
}

fn split(message: &[u8], as_size: usize, path_ids: bool, stack: bool) {
    let update = match Update::parse(message, as_size) {
        Ok(update) => update,
        Err(error) => return assert!(error.offset <= message.len() as u64, "{error}"),
    };
    for part in [update.withdrawn, update.attributes, update.nlri] {
        assert!(is_within(part, message));
    }
    for error in [update.malformed, update.missing].into_iter().flatten() {
        assert!(error.offset <= message.len() as u64 && !error.to_string().is_empty());
    }
    let mut end = 0;
    for attribute in attributes(update.attributes).flatten() {
        assert_eq!(attribute.at, end);
        assert!(is_within(attribute.value, &update.attributes[attribute.at..attribute.end]));
        end = attribute.end;
    }
    if let Some(reach) = update.reach {
        let all = &update.attributes[reach.at..reach.end];
        assert!(is_within(reach.nlri, all) && is_within(reach.next_hop, all) && all.ends_with(reach.nlri));
    }
    if let Some(unreach) = update.unreach {
        assert!(update.attributes[unreach.at..unreach.end].ends_with(unreach.nlri));
    }
    if let Some(family) = update.end_of_rib() {
        let mut out = BytesMut::new();
        build::end_of_rib(&mut out, family);
        assert_eq!(Update::parse(&out, as_size).map(|again| again.end_of_rib()), Ok(Some(family)));
        assert_eq!(update.routes().map(|(_, items)| items.len()).sum::<usize>(), 0);
    }
    for (family, items) in update.routes() {
        routes(family, path_ids, stack, items);
    }
    announced_again(&update, as_size, path_ids);
}

/// Reads NLRI up to the first malformed one. The withdrawal of each must name the same route.
fn routes(family: Family, path_ids: bool, stack: bool, items: &[u8]) {
    let reading = Reading::of(family, path_ids, stack);
    assert_eq!(reading.fit(items) > Fit::Uneven, reading.is_even(items));
    assert!(reading.is_even(items) || !reading.is_likely(items));
    let Some(form) = Form::of(family).map(|form| form.with_stack(stack)) else { return };
    let mut at = 0;
    for item in nlri(form, path_ids, items) {
        let item = match item {
            Ok(item) => item,
            Err(Error { offset, problem }) => {
                assert!(offset == at as u64 && !problem.to_string().is_empty());
                return;
            }
        };
        assert_eq!(item, &items[at..at + item.len()]);
        at += item.len();
        let meant = station::with_meaning(form, path_ids, item);
        assert_eq!(without_trailing_bits(form, path_ids, &meant), None);
        let mut withdrawal = BytesMut::new();
        put_withdrawal(form, path_ids, &meant, &mut withdrawal);
        let read: Vec<_> = nlri(form, path_ids, &withdrawal).collect();
        let [Ok(read)] = read[..] else { panic!("{family}: {meant:x?} is withdrawn as {withdrawal:x?}") };
        let (one, other) = (identity(form, path_ids, read), identity(form, path_ids, &meant));
        assert_eq!(one, other, "{family}: {meant:x?} is withdrawn as {withdrawal:x?}");
    }
    assert_eq!(at, items.len());
}

/// Rebuilds a well-formed UPDATE from its routes and attributes as the feed does. Routes and
/// attributes must be the same.
fn announced_again(update: &Update<'_>, as_size: usize, path_ids: bool) {
    if update.is_malformed(true) {
        return;
    }
    let (cuts, all) = (update.unreach.map(|unreach| (unreach.at, unreach.end)), update.attributes);
    let part = |from: usize, to: usize| match cuts {
        Some((at, end)) if from <= at && end <= to => [&all[from..at], &all[end..to]].concat(),
        _ => all[from..to].to_vec(),
    };
    let Some(reach) = update.reach else { return };
    let Some(form) = Form::of(reach.family) else { return };
    if reach.nlri.is_empty() || nlri(form, path_ids, reach.nlri).any(|item| item.is_err()) {
        return;
    }
    let (before, after) = (part(0, reach.at), part(reach.end, all.len()));
    let value = 5 + reach.next_hop.len();
    let head = &all[reach.end - reach.nlri.len() - value..reach.end - reach.nlri.len()];
    let head = [&all[reach.at..=reach.at], head].concat();
    let mut out = BytesMut::new();
    let items = || nlri(form, path_ids, reach.nlri).flatten();
    build::announcement(&mut out, &before, Some(&head), &after, |out| {
        items().for_each(|item| out.extend_from_slice(item))
    });
    assert!(out.len() <= HEADER + 4 + all.len());
    let again = Update::parse(&out, as_size).expect("the rebuilt UPDATE is an UPDATE");
    assert!(!again.is_malformed(true));
    let found = again.reach.expect("MP_REACH_NLRI");
    assert_eq!((found.family, found.next_hop, found.nlri), (reach.family, reach.next_hop, reach.nlri));
    assert_eq!(station::attributes_of(&again, true), station::attributes_of(update, true));
    let mut out = BytesMut::new();
    build::withdrawal(&mut out, reach.family, form, path_ids, items());
    if out.len() <= usize::from(u16::MAX) {
        let again = Update::parse(&out, as_size).expect("the rebuilt UPDATE is an UPDATE");
        let withdrawn: Vec<_> = again.routes().flat_map(|(_, items)| nlri(form, path_ids, items)).collect();
        assert_eq!(withdrawn.len(), items().count());
        assert!(withdrawn.iter().all(Result::is_ok));
    }
}
