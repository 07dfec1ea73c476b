//! Arguments of several words, or with words for values: read from a command, and given as what a command is written with.

use std::{net::IpAddr, num::NonZeroU32};

use super::{
    BgpTimer, ConnectInterface, ConnectRetry, MaxConnections, MonitorId, Pace, SessionId, address,
    grammar::FAMILIES,
    matching::{Args, Fault},
    text::quoted,
    value::{Kind, Value, interface_name},
};
use crate::wire::{bgp::Family, bmp::RibView};

/// How many interfaces `egress-interface` takes: as many as a pin holds in the kernel.
pub(super) const EGRESS_MAX: usize = 8;

pub(super) fn connect_args(connect: &ConnectInterface) -> impl Iterator<Item = (Kind, String)> {
    let interface = connect.interface().map(|name| (Kind::InterfaceName, name.to_owned()));
    let address = connect.address().map(|address| (Kind::Source, address.to_string()));
    interface.into_iter().chain(address)
}

pub(super) fn of_peer(peer: &IpAddr) -> (Kind, String) {
    (Kind::Peer, peer.to_string())
}

pub(super) fn keywords(words: &[&str]) -> impl Iterator<Item = (Kind, String)> + use<> {
    let words: Vec<_> = words.iter().map(|word| (Kind::Keyword, (*word).to_owned())).collect();
    words.into_iter()
}

/// The words that a family is named by.
pub(super) fn family_words(family: Family) -> Vec<&'static str> {
    let named = FAMILIES.into_iter().find(|(.., named)| *named == family);
    named.map(|(first, second, _)| vec![first, second]).unwrap_or_default()
}

pub(super) fn family(args: &Args) -> Option<Family> {
    FAMILIES.into_iter().find(|(first, second, _)| args.has(first) && args.has(second)).map(|(.., family)| family)
}

const RIB_VIEWS: [(&[&str], RibView); 5] = [
    (&["adj-rib-in", "pre-policy"], RibView::AdjRibInPre),
    (&["adj-rib-in", "post-policy"], RibView::AdjRibInPost),
    (&["adj-rib-out", "pre-policy"], RibView::AdjRibOutPre),
    (&["adj-rib-out", "post-policy"], RibView::AdjRibOutPost),
    (&["local-rib"], RibView::LocRib),
];

pub(super) fn view_words(view: RibView) -> &'static [&'static str] {
    RIB_VIEWS.into_iter().find(|(_, named)| *named == view).map(|(words, _)| words).unwrap_or_default()
}

pub(super) fn rib_view(args: &Args) -> Option<RibView> {
    RIB_VIEWS.into_iter().find(|(words, _)| words.iter().all(|word| args.has(word))).map(|(_, view)| view)
}

pub(super) fn monitor(args: &Args) -> Option<MonitorId> {
    match (args.text(Kind::TableName), args.address(Kind::Peer), args.text(Kind::InputName)) {
        (vpn_instance, Some(address), _) => Some(MonitorId::Peer { vpn_instance, address }),
        (Some(name), None, _) => Some(MonitorId::VpnInstance(name)),
        (None, None, Some(name)) if args.has("mrt-replay") => Some(MonitorId::Replay(name)),
        (None, None, Some(name)) => Some(MonitorId::Relay(name)),
        (None, None, None) if args.has("bgp") => Some(MonitorId::Bgp),
        (None, None, None) if args.has("public") => Some(MonitorId::Public),
        (None, None, None) => args.has("all-vpn-instance").then_some(MonitorId::AllVpnInstances),
    }
}

pub(super) fn monitor_args(monitor: &MonitorId) -> Vec<(Kind, String)> {
    let word = |word: &str| (Kind::Keyword, word.to_owned());
    let vpn = |name: &String| [word("vpn-instance"), (Kind::TableName, name.clone())];
    match monitor {
        MonitorId::Public => vec![word("public")],
        MonitorId::AllVpnInstances => vec![word("all-vpn-instance")],
        MonitorId::VpnInstance(name) => vpn(name).into(),
        MonitorId::Peer { vpn_instance: None, address } => vec![word("peer"), of_peer(address)],
        MonitorId::Peer { vpn_instance: Some(name), address } => {
            vpn(name).into_iter().chain([of_peer(address)]).collect()
        }
        MonitorId::Relay(name) => vec![word("relay"), (Kind::InputName, name.clone())],
        MonitorId::Replay(name) => vec![word("mrt-replay"), (Kind::InputName, name.clone())],
        MonitorId::Bgp => vec![word("bgp")],
    }
}

pub(super) fn pace(args: &Args) -> Option<Pace> {
    match args.number(Kind::Rate).and_then(NonZeroU32::new) {
        Some(rate) => Some(Pace::UpdatesPerSecond(rate)),
        None if args.has("recorded") => Some(Pace::Recorded),
        None => args.has("maximum").then_some(Pace::Maximum),
    }
}

/// The hold time is at least three keepalives, so that one may be lost (RFC 4271 §10), or both are zero.
pub(super) fn timer(args: &Args) -> Result<Option<BgpTimer>, Fault> {
    let seconds = |kind| args.time(kind).and_then(|time| u16::try_from(time.as_secs()).ok());
    let Some((keepalive, hold)) = seconds(Kind::KeepaliveTime).zip(seconds(Kind::HoldTime)) else { return Ok(None) };
    if u32::from(hold) < 3 * u32::from(keepalive) || (keepalive == 0) != (hold == 0) {
        let message = "the hold time is at least three times the keepalive time, or both are zero".to_owned();
        return Err(Fault { word: args.word(Kind::HoldTime), message });
    }
    Ok(Some(BgpTimer { keepalive, hold }))
}

pub(super) fn connect_retry(args: &Args) -> Result<Option<ConnectRetry>, Fault> {
    let Some((first, longest)) = args.time(Kind::RetryFirst).zip(args.time(Kind::RetryLongest)) else {
        return Ok(None);
    };
    if longest < first {
        let message = "the longest wait is no shorter than the first".to_owned();
        return Err(Fault { word: args.word(Kind::RetryLongest), message });
    }
    Ok(Some(ConnectRetry { first, longest }))
}

pub(super) fn max_connections(args: &Args) -> Result<Option<MaxConnections>, Fault> {
    let Some(total) = args.number(Kind::MostConnections) else { return Ok(None) };
    let per_source = args.number(Kind::MostOfSource);
    if per_source.is_some_and(|most| most > total) {
        let message = "one source has no more connections than there are in all".to_owned();
        return Err(Fault { word: args.word(Kind::MostOfSource), message });
    }
    Ok(Some(MaxConnections { total, per_source }))
}

/// The interface as one name, whether it was written in one word or two, and the address.
pub(super) fn connect_interface(args: &Args) -> Result<Option<ConnectInterface>, Fault> {
    let interface = match (args.text(Kind::InterfaceType), args.text(Kind::InterfaceNumber)) {
        (Some(kind), Some(number)) => match type_and_number(&kind, &number) {
            Ok(Value::Text(name)) => Some(name),
            Ok(_) => None,
            Err(message) => return Err(Fault { word: args.word(Kind::InterfaceNumber), message }),
        },
        _ => args.text(Kind::InterfaceName),
    };
    Ok(match (interface, args.address(Kind::Source)) {
        (Some(interface), Some(address)) => Some(ConnectInterface::Both { interface, address }),
        (Some(interface), None) => Some(ConnectInterface::Interface(interface)),
        (None, Some(address)) => Some(ConnectInterface::Address(address)),
        (None, None) => None,
    })
}

/// The name that an interface's type and number spell together. A word that does not begin with a
/// digit is no number: it is rather the second of two names. Behind a whole name a number with a
/// dot is rather the beginning of an address.
fn type_and_number(kind: &str, number: &str) -> Result<Value, String> {
    let whole_name = kind.ends_with(|last: char| last.is_ascii_digit());
    if !number.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(format!(
            "{} is no address, and no interface number, which begins with a digit: {} was understood as an interface's type and number",
            quoted(number),
            quoted(&format!("{kind} {number}"))
        ));
    }
    if whole_name && address::notation(number).is_some() {
        return Err(address::no_address(number));
    }
    interface_name(&format!("{kind}{number}"))
}

/// What names a session.
pub(super) fn session_id(args: &Args) -> Option<SessionId> {
    let (vpn_instance, alias) = (args.text(Kind::VpnInstance), args.text(Kind::Alias));
    args.address(Kind::Station).map(|station| SessionId { vpn_instance, station, alias })
}

/// The names, which the grammar counts no further than "one or more".
pub(super) fn egress_interfaces(args: &Args) -> Result<Option<Vec<String>>, Fault> {
    let mut names = Vec::new();
    for (name, word) in args.texts(Kind::EgressName) {
        if names.len() == EGRESS_MAX {
            return Err(Fault { word, message: format!("a session may leave by at most {EGRESS_MAX} interfaces") });
        }
        if names.iter().any(|known| known == name) {
            return Err(Fault { word, message: format!("{} is named already", quoted(name)) });
        }
        names.push(name.to_owned());
    }
    Ok((!names.is_empty()).then_some(names))
}
