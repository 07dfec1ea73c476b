//! BGP: framing, OPEN with its capabilities, NOTIFICATION, ROUTE-REFRESH.

use bmp_user::wire::bgp::{
    Capabilities, Capability, Family, Frame, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, Message, Notification, Open, Update,
    frames, notification, open, route_refresh,
};
use bytes::BytesMut;

use super::is_within;
use crate::memory::within;

/// Reads one byte, which selects the longest message, and then a stream of messages.
pub fn bgp(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let limit = if choice & 1 == 0 { MAX_MESSAGE } else { MAX_EXTENDED_MESSAGE };
    let mut whole = frames(stream, limit);
    let mut at = 0;
    for frame in whole.by_ref() {
        match frame {
            Ok(frame) => {
                assert!(frame.bytes().len() <= limit && is_within(frame.bytes(), stream));
                assert_eq!(Frame::parse(frame.bytes()), Ok(frame));
                at += frame.bytes().len();
                within(64 * 1024, 16, frame.bytes().len(), || message(&frame));
            }
            Err(error) => {
                assert!((at as u64..=stream.len() as u64).contains(&error.offset), "{error}");
                let _ = (error.problem.notification(None), error.to_string());
            }
        }
    }
    assert_eq!(whole.consumed(), at);
    // BMP and MRT carry single messages, whose length must be exact.
    if let Ok(frame) = Frame::parse(stream) {
        assert_eq!(frame.bytes(), stream);
    }
}

fn message(frame: &Frame<'_>) {
    match Message::parse(frame) {
        Ok(Message::Open(open)) => opens(&open),
        Ok(Message::Update(body)) => {
            assert_eq!(body, frame.body());
            let _ = Update::parse(frame.bytes(), 4);
        }
        Ok(Message::Notification(notification)) => notifications(&notification, frame),
        Ok(Message::Keepalive) => assert!(frame.body().is_empty()),
        Ok(Message::RouteRefresh(refresh)) => {
            let mut out = BytesMut::new();
            route_refresh::build(&mut out, refresh.family, refresh.subtype);
            assert!(frame.bytes()[19..].starts_with(&out[19..]));
            assert!(is_within(refresh.filters, frame.bytes()));
        }
        Err(error) => {
            assert!(error.offset <= frame.bytes().len() as u64, "{error}");
            let _ = (error.problem.notification(Some(frame.message_type())), error.to_string());
        }
    }
}

/// Checks that capabilities are the same after encoding and parsing.
fn opens(open: &Open<'_>) {
    let _ = (open.check(), open.families().count(), open.four_octet_as(), open.has(Capability::ExtendedMessage));
    if let Some(restart) = open.graceful_restart() {
        assert!(restart.flags <= 0xf && restart.restart_time <= 0xfff);
        let _ = restart.families.iter().count();
    }
    if let Some(add_path) = open.add_path() {
        for (family, field) in add_path.iter() {
            assert!(field > 3 || add_path.sends(family) | add_path.receives(family) | (field == 0));
        }
        let _ = add_path.sends(Family::IPV4_UNICAST);
    }
    let mut capabilities = Capabilities::new();
    for capability in open.capabilities() {
        capabilities.push(&capability).expect("its length fits into one octet");
    }
    assert!(capabilities.iter().eq(open.capabilities()));
    let mut out = BytesMut::new();
    let built = open::build(&mut out, open.asn(), open.hold_time, open.bgp_id, &capabilities);
    if built.is_err() {
        assert!(out.is_empty(), "an OPEN that does not fit leaves nothing");
        return;
    }
    let frame = Frame::parse(&out).expect("the encoded OPEN is a message");
    let again = Open::parse(&frame).expect("the encoded OPEN is an OPEN");
    assert!(again.capabilities().eq(open.capabilities()));
    assert_eq!((again.hold_time, again.bgp_id), (open.hold_time, open.bgp_id));
}

fn notifications(notification: &Notification<'_>, frame: &Frame<'_>) {
    assert!(!notification.to_string().is_empty());
    let _ = notification.hard_reset().map(|inner| inner.to_string());
    if let Some(text) = notification.shutdown_communication() {
        let mut out = BytesMut::new();
        notification::build_shutdown(&mut out, notification.subcode, text);
        let again =
            Frame::parse(&out).and_then(|frame| Notification::parse(&frame)).map(|again| (again.code, again.subcode));
        assert_eq!(again, Ok((notification.code, notification.subcode)));
    }
    let mut out = BytesMut::new();
    notification::build(&mut out, notification.code, notification.subcode, notification.data);
    assert!(frame.bytes().starts_with(&out[..16]) && out.len() <= MAX_MESSAGE);
    assert!(frame.bytes().len() > MAX_MESSAGE || out == frame.bytes());
}
