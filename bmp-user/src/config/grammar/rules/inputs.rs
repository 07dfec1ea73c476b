//! Where routes come from: relays, files, BGP peers.

use super::{
    Action, Item, LISTEN_ADDRESS, LISTEN_WORD, PORT_VALUE, PORT_WORD, Rule, SOURCE_FORMS,
    Syntax::{self, Choice, Optional, Value, Word},
    ViewKind,
    families::{IPV4_FAMILY, IPV6_FAMILY, L2VPN_FAMILY, LINK_STATE_FAMILY},
};
use crate::config::value::Kind;

const RELAY_SYNTAX: &[Syntax] =
    &[Word("bmp-relay", "take BMP from a daemon"), Value(Kind::InputName, "a name for this input")];
pub(super) static RELAY: Rule = Rule {
    action: Action::Configure(Item::Relay),
    views: &[ViewKind::System],
    syntax: RELAY_SYNTAX,
    undo: Some(RELAY_SYNTAX),
    enters: Some(ViewKind::Relay),
};

pub(super) static LISTEN: Rule = Rule {
    action: Action::Configure(Item::Listen),
    views: &[ViewKind::Relay],
    syntax: &[LISTEN_WORD, LISTEN_ADDRESS, PORT_WORD, PORT_VALUE],
    undo: Some(&[LISTEN_WORD, Optional(&[LISTEN_ADDRESS, PORT_WORD, PORT_VALUE])]),
    enters: None,
};

const ALLOW_SYNTAX: &[Syntax] = &[
    Word("allow", "let daemons of other hosts connect (only this host's own without it)"),
    Value(Kind::Prefix, "where they connect from"),
];
pub(super) static ALLOW: Rule = Rule {
    action: Action::Configure(Item::Allow),
    views: &[ViewKind::Relay],
    syntax: ALLOW_SYNTAX,
    undo: Some(ALLOW_SYNTAX),
    enters: None,
};

const RELAY_HOLD_WORD: Syntax = Word("hold", "how long the peers of a daemon that went away stay up");
const RELAY_HOLD_VALUE: Syntax = Value(Kind::RelayHold, "seconds");
pub(super) static RELAY_HOLD: Rule = Rule {
    action: Action::Configure(Item::RelayHold),
    views: &[ViewKind::Relay],
    syntax: &[RELAY_HOLD_WORD, RELAY_HOLD_VALUE],
    undo: Some(&[RELAY_HOLD_WORD, Optional(&[RELAY_HOLD_VALUE])]),
    enters: None,
};

const END_OF_RIB_AFTER_WORD: Syntax =
    Word("end-of-rib-after", "say End-of-RIB for a daemon that does not, when a RIB has been quiet for so long");
const END_OF_RIB_AFTER_VALUE: Syntax = Value(Kind::Wait, "seconds; 0 is never");
pub(super) static END_OF_RIB_AFTER: Rule = Rule {
    action: Action::Configure(Item::EndOfRibAfter),
    views: &[ViewKind::Relay],
    syntax: &[END_OF_RIB_AFTER_WORD, END_OF_RIB_AFTER_VALUE],
    undo: Some(&[END_OF_RIB_AFTER_WORD, Optional(&[END_OF_RIB_AFTER_VALUE])]),
    enters: None,
};

const MAX_CONNECTIONS_WORD: Syntax = Word("max-connections", "how many daemons may be connected at one time");
const MAX_CONNECTIONS_VALUE: Syntax = Value(Kind::MostConnections, "in all (256 if nothing is said)");
const PER_SOURCE: Syntax = Optional(&[
    Word("per-source", "how many of one user of this host, or of one other host"),
    Value(Kind::MostOfSource, "an IPv6 /64 is one host (32, or the number in all if that is less)"),
]);
pub(super) static MAX_CONNECTIONS: Rule = Rule {
    action: Action::Configure(Item::MaxConnections),
    views: &[ViewKind::Relay],
    syntax: &[MAX_CONNECTIONS_WORD, MAX_CONNECTIONS_VALUE, PER_SOURCE],
    undo: Some(&[MAX_CONNECTIONS_WORD, Optional(&[MAX_CONNECTIONS_VALUE, PER_SOURCE])]),
    enters: None,
};

const REPLAY_SYNTAX: &[Syntax] =
    &[Word("mrt-replay", "take routes from a file"), Value(Kind::InputName, "a name for this input")];
pub(super) static REPLAY: Rule = Rule {
    action: Action::Configure(Item::Replay),
    views: &[ViewKind::System],
    syntax: REPLAY_SYNTAX,
    undo: Some(REPLAY_SYNTAX),
    enters: Some(ViewKind::Replay),
};

const FILE_WORD: Syntax = Word("file", "the file, plain or packed with gzip or bzip2");
const FILE_VALUE: Syntax = Value(Kind::Path, "its path");
pub(super) static REPLAY_FILE: Rule = Rule {
    action: Action::Configure(Item::ReplayFile),
    views: &[ViewKind::Replay],
    syntax: &[FILE_WORD, FILE_VALUE],
    undo: Some(&[FILE_WORD, Optional(&[FILE_VALUE])]),
    enters: None,
};

const PACE_WORD: Syntax = Word("pace", "how fast the file is replayed");
const PACE_FORMS: Syntax = Choice(&[
    &[Word("recorded", "as it was recorded")],
    &[Word("maximum", "as fast as it can be read")],
    &[Value(Kind::Rate, "so many"), Word("updates-per-second", "updates in a second")],
]);
pub(super) static REPLAY_PACE: Rule = Rule {
    action: Action::Configure(Item::ReplayPace),
    views: &[ViewKind::Replay],
    syntax: &[PACE_WORD, PACE_FORMS],
    undo: Some(&[PACE_WORD, Optional(&[PACE_FORMS])]),
    enters: None,
};

const LOOP_SYNTAX: &[Syntax] = &[Word("loop", "begin again at the end of the file")];
pub(super) static REPLAY_LOOP: Rule = Rule {
    action: Action::Configure(Item::ReplayLoop),
    views: &[ViewKind::Replay],
    syntax: LOOP_SYNTAX,
    undo: Some(LOOP_SYNTAX),
    enters: None,
};

const BGP_WORD: Syntax = Word("bgp", "take routes from BGP peers, and say nothing");
const AS_NUMBER: Syntax = Value(Kind::AsNumber, "an AS number");
pub(super) static BGP: Rule = Rule {
    action: Action::Configure(Item::Bgp),
    views: &[ViewKind::System],
    syntax: &[BGP_WORD, AS_NUMBER],
    undo: Some(&[BGP_WORD, Optional(&[AS_NUMBER])]),
    enters: Some(ViewKind::Bgp),
};

const ROUTER_ID_WORD: Syntax = Word("router-id", "this device's BGP identifier");
const ROUTER_ID_VALUE: Syntax = Value(Kind::RouterId, "an identifier in the form of an IPv4 address");
pub(super) static ROUTER_ID: Rule = Rule {
    action: Action::Configure(Item::RouterId),
    views: &[ViewKind::Bgp],
    syntax: &[ROUTER_ID_WORD, ROUTER_ID_VALUE],
    undo: Some(&[ROUTER_ID_WORD, Optional(&[ROUTER_ID_VALUE])]),
    enters: None,
};

const LISTEN_PORT_WORD: Syntax = Word("listen-port", "let peers connect (a local BGP daemon usually has 179)");
pub(super) static LISTEN_PORT: Rule = Rule {
    action: Action::Configure(Item::ListenPort),
    views: &[ViewKind::Bgp],
    syntax: &[LISTEN_PORT_WORD, PORT_VALUE],
    undo: Some(&[LISTEN_PORT_WORD, Optional(&[PORT_VALUE])]),
    enters: None,
};

const PEER_WORD: Syntax = Word("peer", "a BGP peer");
const PEER: Syntax = Value(Kind::Peer, "its address");

const AS_NUMBER_WORD: Syntax = Word("as-number", "its AS; undone, the peer is removed");
pub(super) static PEER_AS_NUMBER: Rule = of_peer(
    Item::PeerAsNumber,
    &[PEER_WORD, PEER, AS_NUMBER_WORD, AS_NUMBER],
    &[PEER_WORD, PEER, AS_NUMBER_WORD, Optional(&[AS_NUMBER])],
);

pub(super) static PEER_PORT: Rule = of_peer(
    Item::PeerPort,
    &[PEER_WORD, PEER, PORT_WORD, PORT_VALUE],
    &[PEER_WORD, PEER, PORT_WORD, Optional(&[PORT_VALUE])],
);

const PASSWORD_WORD: Syntax = Word("password", "a secret for TCP MD5");
const PASSWORD: Syntax = Value(Kind::Password, "the secret");
pub(super) static PEER_PASSWORD: Rule = of_peer(
    Item::PeerPassword,
    &[PEER_WORD, PEER, PASSWORD_WORD, PASSWORD],
    &[PEER_WORD, PEER, PASSWORD_WORD, Optional(&[PASSWORD])],
);

const LISTEN_ONLY_SYNTAX: &[Syntax] = &[PEER_WORD, PEER, Word("listen-only", "wait for the peer to connect")];
pub(super) static PEER_LISTEN_ONLY: Rule = of_peer(Item::PeerListenOnly, LISTEN_ONLY_SYNTAX, LISTEN_ONLY_SYNTAX);

const PEER_SOURCE_WORD: Syntax = Word("connect-interface", "name the source of the connection");
pub(super) static PEER_CONNECT_INTERFACE: Rule = of_peer(
    Item::PeerConnectInterface,
    &[PEER_WORD, PEER, PEER_SOURCE_WORD, SOURCE_FORMS],
    &[PEER_WORD, PEER, PEER_SOURCE_WORD, Optional(&[SOURCE_FORMS])],
);

const TIMER_WORD: Syntax = Word("timer", "times of the connection");
const TIMES: [Syntax; 4] = [
    Word("keepalive", "how often something is said"),
    Value(Kind::KeepaliveTime, "seconds"),
    Word("hold", "how long nothing may be said"),
    Value(Kind::HoldTime, "seconds; at least three times as many"),
];
pub(super) static PEER_TIMER: Rule = of_peer(
    Item::PeerTimer,
    &[PEER_WORD, PEER, TIMER_WORD, Choice(&[&TIMES])],
    &[PEER_WORD, PEER, TIMER_WORD, Optional(&TIMES)],
);

const fn of_peer(item: Item, syntax: &'static [Syntax], undo: &'static [Syntax]) -> Rule {
    Rule { action: Action::Configure(item), views: &[ViewKind::Bgp], syntax, undo: Some(undo), enters: None }
}

const fn family(syntax: &'static [Syntax]) -> Rule {
    Rule {
        action: Action::Configure(Item::BgpFamily),
        views: &[ViewKind::Bgp],
        syntax,
        undo: Some(syntax),
        enters: Some(ViewKind::BgpFamily),
    }
}
pub(super) static BGP_IPV4_FAMILY: Rule = family(IPV4_FAMILY);
pub(super) static BGP_IPV6_FAMILY: Rule = family(IPV6_FAMILY);
pub(super) static BGP_L2VPN_FAMILY: Rule = family(L2VPN_FAMILY);
pub(super) static BGP_LINK_STATE_FAMILY: Rule = family(LINK_STATE_FAMILY);

const ENABLE_SYNTAX: &[Syntax] = &[PEER_WORD, PEER, Word("enable", "take its routes of this family")];
pub(super) static PEER_ENABLE: Rule = Rule {
    action: Action::Configure(Item::PeerEnable),
    views: &[ViewKind::BgpFamily],
    syntax: ENABLE_SYNTAX,
    undo: Some(ENABLE_SYNTAX),
    enters: None,
};
