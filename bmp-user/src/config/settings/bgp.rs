//! The settings of the bgp view and of its families.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    access::{Access, Owner, field, peer_address, peer_field, peer_mut, whole},
    arguments::{ArgumentType, LineKey, LineName},
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
    families::{IPV4_FAMILY, IPV6_FAMILY, L2VPN_FAMILY, LINK_STATE_FAMILY, family_words},
    forms::{KEYCHAIN_NAME, MAXIMUM_ROUTES, PORT_VALUE, PORT_WORD, SECRET_FORMS, SOURCE_FORMS},
};
use crate::{
    config::{
        language::{
            argument::ArgumentKind,
            number::{NumberRange, Unit},
            syntax::Syntax::{self, Value as Argument, Word},
            token::{ArgumentTokens, WrongArgument},
            value::ArgumentValue,
        },
        model::{BgpConfig, BgpPeerConfig, BgpTimer, Config},
        view::{CommandView, ViewKind},
    },
    wire::bgp::Family,
};

const AS_NUMBER: Syntax = Argument(ArgumentKind::AsNumber, "an AS number");

pub(in crate::config) static BGP: SettingDescriptor = SettingDescriptor {
    head: &[Word("bgp", "take routes from BGP peers, and say nothing")],
    value: &[AS_NUMBER],
    enters: Some(ViewKind::Bgp),
    effect: Effect::Enters,
    note: "Another AS number needs `undo bgp` first.",
    access: &BgpView,
    ..SettingDescriptor::in_view(ViewKind::System)
};

/// The bgp view itself, with the AS number of this device.
struct BgpView;

impl Access for BgpView {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        Ok(u32::read(arguments)?.map(|asn| asn.values()))
    }

    fn set(&self, config: &mut Config, _view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let asn = whole(arguments)?;
        match &config.bgp {
            Some(bgp) if bgp.asn != asn => {
                return Err(format!("BGP is configured with AS {} already: `undo bgp` first", bgp.asn));
            }
            Some(_) => {}
            None => config.bgp = Some(BgpConfig { asn, router_id: None, listen_port: None, peers: BTreeMap::new() }),
        }
        Ok(())
    }

    fn clear(&self, config: &mut Config, _view: &CommandView, _arguments: ArgumentTokens<'_>) -> Result<(), String> {
        config.bgp = None;
        Ok(())
    }

    fn configured(&self, config: &Config, _view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        config.bgp.iter().map(|bgp| bgp.asn.values()).collect()
    }

    fn enters(&self, _around: &CommandView, _arguments: ArgumentTokens<'_>) -> Option<CommandView> {
        Some(CommandView::Bgp)
    }
}

pub(in crate::config) static ROUTER_ID: SettingDescriptor = SettingDescriptor {
    head: &[Word("router-id", "this device's BGP identifier")],
    value: &[Argument(ArgumentKind::RouterId, "an identifier in the form of an IPv4 address")],
    default: DefaultValue::Fixed("none; no peer is spoken to"),
    effect: Effect::BgpReconnects,
    access: field!(BgpConfig, router_id),
    ..SettingDescriptor::in_view(ViewKind::Bgp)
};

pub(in crate::config) static LISTEN_PORT: SettingDescriptor = SettingDescriptor {
    head: &[Word("listen-port", "let peers connect (a local BGP daemon usually has 179)")],
    value: &[PORT_VALUE],
    default: DefaultValue::Fixed("peers cannot connect"),
    effect: Effect::BgpListensAnew,
    access: field!(BgpConfig, listen_port),
    ..SettingDescriptor::in_view(ViewKind::Bgp)
};

const PEER_WORD: Syntax = Word("peer", "a BGP peer");
const PEER: Syntax = Argument(ArgumentKind::Peer, "its address");

pub(in crate::config) static PEER_AS_NUMBER: SettingDescriptor = SettingDescriptor {
    head: &[PEER_WORD, PEER, Word("as-number", "its AS; undone, the peer is removed")],
    value: &[AS_NUMBER],
    effect: Effect::BgpReconnects,
    note: "Every other setting of a peer needs it.",
    access: &PeerAsNumber,
    ..SettingDescriptor::in_view(ViewKind::Bgp)
};

/// The AS number of a peer. The peer is there with it, and goes with it.
struct PeerAsNumber;

impl Access for PeerAsNumber {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        AS_NUMBER_FIELD.values(arguments)
    }

    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        BgpConfig::find_mut(config, view)?.peers.entry(peer_address(arguments)?).or_default();
        AS_NUMBER_FIELD.set(config, view, arguments)
    }

    fn clear(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        BgpConfig::find_mut(config, view)?.peers.remove(&peer_address(arguments)?);
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        AS_NUMBER_FIELD.configured(config, view)
    }

    fn name(&self, arguments: ArgumentTokens<'_>) -> LineName {
        AS_NUMBER_FIELD.name(arguments)
    }
}

static AS_NUMBER_FIELD: &dyn Access = peer_field!(asn);

pub(in crate::config) static PEER_PORT: SettingDescriptor = SettingDescriptor {
    head: &[PEER_WORD, PEER, PORT_WORD],
    value: &[PORT_VALUE],
    default: DefaultValue::Computed(|| BgpPeerConfig::PORT.to_string()),
    rows: &[DefaultRow::new(270, "BGP peer's port")],
    effect: Effect::BgpReconnects,
    access: peer_field!(port),
    ..SettingDescriptor::in_view(ViewKind::Bgp)
};

pub(in crate::config) static PEER_PASSWORD: SettingDescriptor = SettingDescriptor {
    head: &[PEER_WORD, PEER, Word("password", "a secret for TCP MD5")],
    value: &[SECRET_FORMS],
    default: DefaultValue::Fixed("none"),
    effect: Effect::BgpReconnects,
    access: peer_field!(password),
    ..SettingDescriptor::in_view(ViewKind::Bgp)
};

pub(in crate::config) static PEER_KEYCHAIN: SettingDescriptor = SettingDescriptor {
    head: &[PEER_WORD, PEER, Word("keychain", "sign with the keys of a key chain, and take nothing else")],
    value: &[KEYCHAIN_NAME],
    default: DefaultValue::Fixed("none"),
    effect: Effect::BgpReconnects,
    note: "A peer with a key chain does not use `password`.",
    access: peer_field!(keychain),
    ..SettingDescriptor::in_view(ViewKind::Bgp)
};

pub(in crate::config) static PEER_LISTEN_ONLY: SettingDescriptor = SettingDescriptor {
    head: &[PEER_WORD, PEER, Word("listen-only", "wait for the peer to connect")],
    default: DefaultValue::Fixed("this device connects too"),
    effect: Effect::BgpReconnects,
    access: peer_field!(listen_only),
    ..SettingDescriptor::in_view(ViewKind::Bgp)
};

pub(in crate::config) static PEER_CONNECT_INTERFACE: SettingDescriptor = SettingDescriptor {
    head: &[PEER_WORD, PEER, Word("connect-interface", "name the source of the connection")],
    value: &[SOURCE_FORMS],
    default: DefaultValue::Fixed("the kernel's choice"),
    effect: Effect::BgpReconnectsIfPinChanges,
    access: peer_field!(connect_interface),
    ..SettingDescriptor::in_view(ViewKind::Bgp)
};

static KEEPALIVE_TIME: NumberRange = NumberRange {
    name: "KEEPALIVE",
    subject: "a keepalive time is",
    unit: Unit::Seconds,
    first: 0,
    last: HOLD_TIME.last / 3,
    or_zero: false,
};
/// RFC 4271 §4.2.
static HOLD_TIME: NumberRange =
    NumberRange { name: "HOLD", subject: "a hold time is", unit: Unit::Seconds, first: 3, last: 65_535, or_zero: true };

pub(in crate::config) static PEER_TIMER: SettingDescriptor = SettingDescriptor {
    head: &[PEER_WORD, PEER, Word("timer", "times of the connection")],
    value: &[
        Word("keepalive", "how often something is said"),
        Argument(ArgumentKind::Number(&KEEPALIVE_TIME), "seconds RANGE"),
        Word("hold", "how long nothing may be said"),
        Argument(ArgumentKind::Number(&HOLD_TIME), "seconds; at least three times as many"),
    ],
    default: DefaultValue::Computed(|| {
        let BgpTimer { keepalive, hold } = BgpPeerConfig::TIMER;
        format!("keepalive {keepalive} s, hold {hold} s")
    }),
    rows: &[DefaultRow::new(280, "BGP peer's timers")],
    effect: Effect::BgpReconnects,
    note: "Both are zero, or the hold time is at least three times the keepalive time.",
    access: peer_field!(timer),
    ..SettingDescriptor::in_view(ViewKind::Bgp)
};

pub(in crate::config) static PEER_MAXIMUM_ROUTES: SettingDescriptor = SettingDescriptor {
    head: &[PEER_WORD, PEER, Word("maximum-routes", "how many routes the peer may have")],
    value: MAXIMUM_ROUTES,
    default: DefaultValue::Fixed("no limit"),
    rows: &[DefaultRow::new(285, "BGP peer's routes")],
    effect: Effect::BgpAtOnce,
    note: "A peer with more routes gets a Cease (Maximum Number of Prefixes Reached, RFC 4486), and is not spoken to \
           for 300 seconds, or until `reset bgp peer` or a limit that is high enough.",
    access: peer_field!(maximum_routes),
    ..SettingDescriptor::in_view(ViewKind::Bgp)
};

/// One of the commands that enter the view of a family.
const fn family(head: &'static [Syntax], access: &'static dyn Access) -> SettingDescriptor {
    SettingDescriptor {
        head,
        enters: Some(ViewKind::BgpFamily),
        effect: Effect::BgpReconnects,
        note: "`undo` takes the family back from every peer.",
        access,
        ..SettingDescriptor::in_view(ViewKind::Bgp)
    }
}
pub(in crate::config) static BGP_IPV4_FAMILY: SettingDescriptor = family(IPV4_FAMILY, &FamilyViews("ipv4-family"));
pub(in crate::config) static BGP_IPV6_FAMILY: SettingDescriptor = family(IPV6_FAMILY, &FamilyViews("ipv6-family"));
pub(in crate::config) static BGP_L2VPN_FAMILY: SettingDescriptor = family(L2VPN_FAMILY, &FamilyViews("l2vpn-family"));
pub(in crate::config) static BGP_LINK_STATE_FAMILY: SettingDescriptor =
    family(LINK_STATE_FAMILY, &FamilyViews("link-state-family"));

/// The views of the families that begin with this word. One is there while a peer has its family.
struct FamilyViews(&'static str);

impl Access for FamilyViews {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        Ok(Family::read(arguments)?.map(|family| family.values()))
    }

    fn set(&self, config: &mut Config, view: &CommandView, _arguments: ArgumentTokens<'_>) -> Result<(), String> {
        BgpConfig::find_mut(config, view).map(|_| ())
    }

    fn clear(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let family: Family = whole(arguments)?;
        for peer in BgpConfig::find_mut(config, view)?.peers.values_mut() {
            peer.families.remove(&family);
        }
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let peers = BgpConfig::find(config, view).into_iter().flat_map(|bgp| bgp.peers.values());
        let families: BTreeSet<_> = peers.flat_map(|peer| peer.families.iter().copied()).collect();
        let begins_so = |family: &Family| family_words(*family).first() == Some(&self.0);
        families.into_iter().filter(begins_so).map(|family| family.values()).collect()
    }

    fn name(&self, arguments: ArgumentTokens<'_>) -> LineName {
        whole::<Family>(arguments).map_or(LineName::Only, |family| family.line_name())
    }

    fn enters(&self, _around: &CommandView, arguments: ArgumentTokens<'_>) -> Option<CommandView> {
        whole(arguments).ok().map(CommandView::BgpFamily)
    }
}

pub(in crate::config) static PEER_ENABLE: SettingDescriptor = SettingDescriptor {
    head: &[PEER_WORD, PEER, Word("enable", "take its routes of this family")],
    default: DefaultValue::Fixed("no routes are taken"),
    effect: Effect::BgpReconnects,
    access: &PeerEnable,
    ..SettingDescriptor::in_view(ViewKind::BgpFamily)
};

/// The family of the view, among those of a peer.
struct PeerEnable;

impl PeerEnable {
    fn family(view: &CommandView) -> Result<Family, String> {
        match view {
            CommandView::BgpFamily(family) => Ok(*family),
            _ => Err("this is a command of a family's view".to_owned()),
        }
    }
}

impl Access for PeerEnable {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        Ok(arguments.address_of(ArgumentKind::Peer).map(|address| vec![ArgumentValue::Address(address)]))
    }

    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let family = Self::family(view)?;
        peer_mut(config, peer_address(arguments)?)?.families.insert(family);
        Ok(())
    }

    fn clear(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let family = Self::family(view)?;
        if let Some(peer) = BgpConfig::find_mut(config, view)?.peers.get_mut(&peer_address(arguments)?) {
            peer.families.remove(&family);
        }
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let Ok(family) = Self::family(view) else { return Vec::new() };
        let peers = BgpConfig::find(config, view).into_iter().flat_map(|bgp| &bgp.peers);
        let enabled = peers.filter(|(_, peer): &(&IpAddr, &BgpPeerConfig)| peer.families.contains(&family));
        enabled.map(|(address, _)| vec![ArgumentValue::Address(*address)]).collect()
    }

    fn name(&self, arguments: ArgumentTokens<'_>) -> LineName {
        arguments.address_of(ArgumentKind::Peer).map_or(LineName::Only, LineName::Peer)
    }
}
