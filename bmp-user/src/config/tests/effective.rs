//! The connect-interface in force.

use super::{super::*, session_id};

#[test]
fn the_session_view_goes_before_the_bmp_view_which_is_for_ipv4_alone() {
    let v4 = session_id("198.51.100.7");
    let v6 = session_id("2001:db8::7");
    let own = ConnectInterface::Interface("eth1".to_owned());
    let plain = SessionConfig::default();
    let pinned = SessionConfig { connect_interface: Some(own.clone()), ..SessionConfig::default() };
    let none = BmpConfig::default();
    let some = BmpConfig { connect_interface: Some("192.0.2.1".parse().unwrap()), ..BmpConfig::default() };
    let inherited = ConnectInterface::Address("192.0.2.1".parse().unwrap());
    let table = [
        (&none, &v4, &plain, None, SourceLevel::Default),
        (&some, &v4, &plain, Some(inherited), SourceLevel::Bmp),
        (&some, &v6, &plain, None, SourceLevel::Default),
        (&some, &v4, &pinned, Some(own.clone()), SourceLevel::Session),
        (&none, &v6, &pinned, Some(own), SourceLevel::Session),
    ];
    for (bmp, id, session, connect, from) in table {
        assert_eq!(effective(bmp, id, session), EffectiveSource { connect, from });
    }
}
