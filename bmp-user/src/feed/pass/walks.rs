//! Walks along a RIB of which a station is told all routes, or is not to have any more.

use super::{
    super::{
        attributes::AttributeSets,
        blocks::NONE,
        compose::FrameWriter,
        rib::{HeaderVariant, Rib},
    },
    PassProgress,
    work::{PassStep, RibWalk},
};
use crate::wire::bgp::MAX_MESSAGE;

/// Sends what a walk meets in a RIB.
pub(super) fn send(
    rib: &mut Rib,
    walk: &mut RibWalk,
    attributes: &AttributeSets,
    step: PassStep,
    out: &mut FrameWriter,
) -> PassProgress {
    // A station that knows nothing needs no withdrawals, unless one whole field may take back what
    // another one says.
    if walk.misses_withdrawals(rib) || walk.is_outdated(rib) {
        walk.unmark(rib);
        return PassProgress::Lost;
    }
    walk.withdrawals |= rib.has_whole();
    let mark = walk.take_mark(rib, walk.since);
    let mut place = mark.place();
    while !step.is_reached(out) {
        let Some(route) = rib.next(place, walk.until) else {
            rib.unmark(mark);
            return PassProgress::Done;
        };
        place = route;
        walk.position = rib.changed(route);
        if let Some(mut rest) = rib.group_from(route, walk.since, walk.until)
            && (rest.key.attributes != NONE || walk.withdrawals)
        {
            out.routes(rib, rest.key, attributes, &mut rest.routes);
            out.pass_routes += rest.routes.returned();
            place = rest.routes.place();
            walk.position = rib.changed(place);
        }
    }
    rib.advance(&mark, place);
    walk.mark = Some(mark);
    PassProgress::More
}

/// Withdraws everything that the station may have of a RIB.
pub(super) fn take_back(rib: &mut Rib, walk: &mut RibWalk, step: PassStep, out: &mut FrameWriter) -> PassProgress {
    // Dropped fields cannot be withdrawn.
    if walk.misses_withdrawals(rib) || rib.not_kept > 0 {
        walk.unmark(rib);
        return PassProgress::Lost;
    }
    // The station still has routes that were withdrawn meanwhile, so the walk takes all routes.
    let mark = walk.take_mark(rib, 0);
    let mut place = mark.place();
    let (mut batch, mut bytes, mut variant) = (Vec::new(), 0, HeaderVariant::default());
    // The routes that changed since the pass began are behind its end, and no later pass
    // withdraws them. The last step takes them back at one go: the walk would not catch up with
    // routes that keep changing.
    let mut last = false;
    let over = loop {
        if !last && (step.is_reached(out) || out.len() + bytes >= step.bytes) {
            break false;
        }
        let until = if last { u64::MAX } else { walk.until };
        let Some(route) = rib.next(place, until) else {
            if last {
                break true;
            }
            last = true;
            continue;
        };
        place = route;
        walk.position = rib.changed(route);
        // A withdrawal with labels may be longer than the NLRI that it withdraws.
        let length = rib.nlri(route).len() + 3;
        let room = MAX_MESSAGE - 64;
        let is_whole = rib.is_whole(route);
        if bytes + length > room || rib.group_key(route).variant != variant || is_whole {
            put_withdrawals(rib, &mut batch, variant, out);
            bytes = 0;
        }
        variant = rib.group_key(route).variant;
        bytes += length;
        batch.push(route);
        if is_whole {
            put_withdrawals(rib, &mut batch, variant, out);
            bytes = 0;
        }
    };
    put_withdrawals(rib, &mut batch, variant, out);
    if over {
        rib.unmark(mark);
        return PassProgress::Done;
    }
    rib.advance(&mark, place);
    walk.mark = Some(mark);
    PassProgress::More
}

fn put_withdrawals(rib: &Rib, batch: &mut Vec<u32>, variant: HeaderVariant, out: &mut FrameWriter) {
    if !batch.is_empty() {
        out.withdrawal_of(rib, variant, batch);
        out.pass_routes += batch.len() as u64;
        batch.clear();
    }
}
