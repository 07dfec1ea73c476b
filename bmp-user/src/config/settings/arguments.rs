//! The types of the model as arguments of commands: read from tokens, and given back as values.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use super::{
    families::{family_of, family_words, rib_of, rib_words},
    forms::WARNING_ONLY,
};
use crate::{
    config::{
        keychain::{KeyAlgorithm, KeyLifetime},
        language::{
            address,
            argument::{ArgumentKind, interface_name},
            line::quoted,
            secret::Secret,
            token::{ArgumentTokens, WrongArgument},
            utc::UtcTime,
            value::ArgumentValue,
        },
        model::{
            AllowedUser, BgpTimer, ConnectInterface, ConnectRetry, HttpListen, KeepaliveProbes, LineText,
            MaxConnections, MaximumRoutes, MonitorId, ReplayPace, RouteMode, SessionId, SessionKeepalive,
        },
        prefix::Prefix,
        refresh::InitialRefresh,
        route_filter::PrefixIndex,
        tls::CertificateFingerprint,
    },
    wire::bgp::Family,
};

/// How many interfaces `egress-interface` takes: as many as a pin holds in the kernel.
const EGRESS_MAX: usize = 8;

/// Which of the lines that one setting can have in one view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::config) enum LineName {
    /// There is one at most.
    Only,
    Named(String),
    Session(SessionId),
    Peer(IpAddr),
}

/// A type that the arguments of a command make.
pub(in crate::config) trait ArgumentType: Clone + 'static {
    /// Reads the arguments; `None` where some are missing, which `undo` alone allows.
    ///
    /// # Errors
    ///
    /// The arguments do not go together.
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument>;

    /// Returns the arguments in their order.
    fn values(&self) -> Vec<ArgumentValue>;
}

/// An argument that tells lines of one setting from each other.
pub(in crate::config) trait LineKey: ArgumentType + Ord {
    /// Returns the name of the line.
    fn line_name(&self) -> LineName;
}

/// Implements [`ArgumentType`] for a type of one argument that is refused by itself alone.
macro_rules! plain {
    ($type:ty, $read:expr, $value:expr) => {
        impl ArgumentType for $type {
            fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
                let read: fn(ArgumentTokens<'_>) -> Option<Self> = $read;
                Ok(read(arguments))
            }

            fn values(&self) -> Vec<ArgumentValue> {
                let value: fn(&Self) -> ArgumentValue = $value;
                vec![value(self)]
            }
        }
    };
}
plain!(String, |arguments| arguments.text(), |text| ArgumentValue::Text(text.clone()));
plain!(PathBuf, |arguments| arguments.text().map(Into::into), |path| ArgumentValue::Text(path.display().to_string()));
plain!(IpAddr, |arguments| arguments.address(), |address| ArgumentValue::Address(*address));
plain!(u8, |arguments| arguments.number(), |number| ArgumentValue::Number((*number).into()));
plain!(u16, |arguments| arguments.number(), |number| ArgumentValue::Number((*number).into()));
plain!(u32, |arguments| arguments.number(), |number| ArgumentValue::Number(*number));
plain!(Duration, |arguments| arguments.times().next().map(|(_, time)| time), |time| ArgumentValue::Time(*time));
plain!(Secret, |arguments| arguments.secret(), |secret| ArgumentValue::Secret(secret.clone()));
plain!(Prefix, |arguments| arguments.prefix(), |prefix| ArgumentValue::Prefix(*prefix));
plain!(CertificateFingerprint, |arguments| arguments.text().and_then(|text| Self::read(&text)), |fingerprint| {
    ArgumentValue::Text(fingerprint.to_string())
});
plain!(AllowedUser, |arguments| arguments.text_of(ArgumentKind::User).map(|word| Self::from(word.as_str())), |user| {
    ArgumentValue::Text(user.to_string())
});
plain!(
    Ipv4Addr,
    |arguments| match arguments.address() {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) | None => None,
    },
    |address| ArgumentValue::Address((*address).into())
);

/// All words to the end of the line.
impl ArgumentType for LineText {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let words: Vec<_> = arguments.texts_of(ArgumentKind::Text).collect();
        let Some(&(token, _)) = words.first() else { return Ok(None) };
        let text = words.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(" ");
        Self::new(&text).map(Some).map_err(|message| WrongArgument { token, message })
    }

    fn values(&self) -> Vec<ArgumentValue> {
        vec![ArgumentValue::Text(self.as_str().to_owned())]
    }
}

/// A command without arguments: to give it is to set it.
impl ArgumentType for bool {
    fn read(_arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        Ok(Some(true))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        Vec::new()
    }
}

impl ArgumentType for SocketAddr {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let port: Option<u16> = arguments.number();
        Ok(arguments.address().zip(port).map(Self::from))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        vec![ArgumentValue::Address(self.ip()), ArgumentValue::Number(self.port().into())]
    }
}

/// `ADDRESS port N [ vpn-instance NAME ]`
impl ArgumentType for HttpListen {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let vpn_instance = arguments.text_of(ArgumentKind::VpnInstance);
        Ok(SocketAddr::read(arguments)?.map(|address| Self { address, vpn_instance }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        let vpn_instance = self.vpn_instance.clone().map(ArgumentValue::Text);
        self.address.values().into_iter().chain(vpn_instance).collect()
    }
}

/// `TOTAL [ per-source NUMBER ]`
impl ArgumentType for MaxConnections {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let mut numbers = arguments.numbers();
        let Some((_, total)) = numbers.next() else { return Ok(None) };
        let per_source = match numbers.next() {
            Some((token, most)) if most > total => {
                let message = "one source has no more connections than there are in all".to_owned();
                return Err(WrongArgument { token, message });
            }
            per_source => per_source.map(|(_, most)| most),
        };
        Ok(Some(Self { total, per_source }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        [self.total].into_iter().chain(self.per_source).map(ArgumentValue::Number).collect()
    }
}

/// `ROUTES [ warning-only ]`
impl ArgumentType for MaximumRoutes {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let warning_only = arguments.has(WARNING_ONLY);
        Ok(arguments.number().map(|routes| Self { routes, warning_only }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        let warning_only = self.warning_only.then_some(ArgumentValue::Keyword(WARNING_ONLY));
        [ArgumentValue::Number(self.routes)].into_iter().chain(warning_only).collect()
    }
}

/// `recorded`, `maximum`, `NUMBER updates-per-second`
impl ArgumentType for ReplayPace {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        Ok(match arguments.number().and_then(NonZeroU32::new) {
            Some(rate) => Some(Self::UpdatesPerSecond(rate)),
            None if arguments.has("recorded") => Some(Self::Recorded),
            None => arguments.has("maximum").then_some(Self::Maximum),
        })
    }

    fn values(&self) -> Vec<ArgumentValue> {
        vec![match self {
            Self::Recorded => ArgumentValue::Keyword("recorded"),
            Self::Maximum => ArgumentValue::Keyword("maximum"),
            Self::UpdatesPerSecond(rate) => ArgumentValue::Number(rate.get()),
        }]
    }
}

/// `keepalive SECONDS hold SECONDS`. A hold time is at least three keepalive times, so that one
/// KEEPALIVE may be lost (RFC 4271 §10), or both are zero.
impl ArgumentType for BgpTimer {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let Some((keepalive, hold, token)) = arguments.two_times() else { return Ok(None) };
        let seconds = |time: Duration| u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        let (keepalive, hold) = (seconds(keepalive), seconds(hold));
        if u32::from(hold) < 3 * u32::from(keepalive) || (keepalive == 0) != (hold == 0) {
            let message = "the hold time is at least three times the keepalive time, or both are zero".to_owned();
            return Err(WrongArgument { token, message });
        }
        Ok(Some(Self { keepalive, hold }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        [self.keepalive, self.hold].map(|seconds| ArgumentValue::Time(Duration::from_secs(seconds.into()))).into()
    }
}

/// `FIRST LONGEST`
impl ArgumentType for ConnectRetry {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        match arguments.two_times() {
            Some((first, longest, token)) if longest < first => {
                Err(WrongArgument { token, message: "the longest wait is no shorter than the first".to_owned() })
            }
            times => Ok(times.map(|(first, longest, _)| Self { first, longest })),
        }
    }

    fn values(&self) -> Vec<ArgumentValue> {
        [self.first, self.longest].map(ArgumentValue::Time).into()
    }
}

/// `delay SECONDS spread SECONDS`
impl ArgumentType for InitialRefresh {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        Ok(arguments.two_times().map(|(delay, spread, _)| Self { delay, spread }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        [self.delay, self.spread].map(ArgumentValue::Time).into()
    }
}

/// `IDLE [ INTERVAL COUNT ]`
impl ArgumentType for SessionKeepalive {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let mut times = arguments.times();
        let Some((_, idle)) = times.next() else { return Ok(None) };
        let probes = match times.next().zip(arguments.number()) {
            Some(((token, _), _)) if idle.is_zero() => {
                let message = "with 0 there is no keepalive, and no probe".to_owned();
                return Err(WrongArgument { token, message });
            }
            probes => probes.map(|((_, interval), count)| KeepaliveProbes { interval, count }),
        };
        Ok(Some(Self { idle, probes }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        let probes = self
            .probes
            .map(|KeepaliveProbes { interval, count }| [ArgumentValue::Time(interval), ArgumentValue::Number(count)]);
        [ArgumentValue::Time(self.idle)].into_iter().chain(probes.into_iter().flatten()).collect()
    }
}

/// An interface in one word or two, an address, or both.
impl ArgumentType for ConnectInterface {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let number = arguments.texts_of(ArgumentKind::InterfaceNumber).next();
        let interface = match (arguments.text_of(ArgumentKind::InterfaceType), number) {
            (Some(kind), Some((token, number))) => {
                Some(joined_name(&kind, number).map_err(|message| WrongArgument { token, message })?)
            }
            _ => arguments.text_of(ArgumentKind::InterfaceName),
        };
        Ok(match (interface, arguments.address_of(ArgumentKind::Source)) {
            (Some(interface), Some(address)) => Some(Self::Both { interface, address }),
            (Some(interface), None) => Some(Self::Interface(interface)),
            (None, Some(address)) => Some(Self::Address(address)),
            (None, None) => None,
        })
    }

    fn values(&self) -> Vec<ArgumentValue> {
        let interface = self.interface().map(|name| ArgumentValue::Text(name.to_owned()));
        interface.into_iter().chain(self.address().map(ArgumentValue::Address)).collect()
    }
}

/// Returns the name that an interface's type and number spell together.
///
/// A word that does not begin with a digit is no number. It is rather the second of two names. A
/// number with a dot behind a whole name is rather the beginning of an address.
fn joined_name(kind: &str, number: &str) -> Result<String, String> {
    let is_whole_name = kind.ends_with(|last: char| last.is_ascii_digit());
    if !number.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(format!(
            "{} is no address, and no interface number, which begins with a digit: {} was understood as an interface's type and number",
            quoted(number),
            quoted(&format!("{kind} {number}"))
        ));
    }
    if is_whole_name && address::notation(number).is_some() {
        return Err(address::no_address(number));
    }
    let name = format!("{kind}{number}");
    interface_name(&name).map(|_| name)
}

/// `INTERFACE ...`. The grammar counts the names no further than "one or more".
impl ArgumentType for Vec<String> {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let mut names = Self::new();
        for (token, name) in arguments.texts_of(ArgumentKind::EgressName) {
            if names.len() == EGRESS_MAX {
                let message = format!("a session may leave by at most {EGRESS_MAX} interfaces");
                return Err(WrongArgument { token, message });
            }
            if names.iter().any(|known| known == name) {
                return Err(WrongArgument { token, message: format!("{} is named already", quoted(name)) });
            }
            names.push(name.to_owned());
        }
        Ok((!names.is_empty()).then_some(names))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        self.iter().cloned().map(ArgumentValue::Text).collect()
    }
}

/// `[ vpn-instance NAME ] ADDRESS [ alias ALIAS ]`
impl ArgumentType for SessionId {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let vpn_instance = arguments.text_of(ArgumentKind::VpnInstance);
        let alias = arguments.text_of(ArgumentKind::Alias);
        let station = arguments.address_of(ArgumentKind::Station);
        Ok(station.map(|station| Self { vpn_instance, station, alias }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        let text = |text: &Option<String>| text.clone().map(ArgumentValue::Text);
        let vpn_instance = text(&self.vpn_instance).into_iter();
        vpn_instance.chain([ArgumentValue::Address(self.station)]).chain(text(&self.alias)).collect()
    }
}

/// The forms of `monitor`.
impl ArgumentType for MonitorId {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let table = arguments.text_of(ArgumentKind::TableName);
        let input = arguments.text_of(ArgumentKind::InputName);
        Ok(match (table, arguments.address_of(ArgumentKind::Peer), input) {
            (vpn_instance, Some(address), _) => Some(Self::Peer { vpn_instance, address }),
            (Some(name), None, _) => Some(Self::VpnInstance(name)),
            (None, None, Some(name)) if arguments.has("mrt-replay") => Some(Self::Replay(name)),
            (None, None, Some(name)) => Some(Self::Relay(name)),
            (None, None, None) if arguments.has("bgp") => Some(Self::Bgp),
            (None, None, None) if arguments.has("public") => Some(Self::Public),
            (None, None, None) => arguments.has("all-vpn-instance").then_some(Self::AllVpnInstances),
        })
    }

    fn values(&self) -> Vec<ArgumentValue> {
        let text = |text: &String| ArgumentValue::Text(text.clone());
        match self {
            Self::Public => vec![ArgumentValue::Keyword("public")],
            Self::AllVpnInstances => vec![ArgumentValue::Keyword("all-vpn-instance")],
            Self::VpnInstance(name) => vec![ArgumentValue::Keyword("vpn-instance"), text(name)],
            Self::Peer { vpn_instance: None, address } => {
                vec![ArgumentValue::Keyword("peer"), ArgumentValue::Address(*address)]
            }
            Self::Peer { vpn_instance: Some(name), address } => {
                vec![ArgumentValue::Keyword("vpn-instance"), text(name), ArgumentValue::Address(*address)]
            }
            Self::Relay(name) => vec![ArgumentValue::Keyword("relay"), text(name)],
            Self::Replay(name) => vec![ArgumentValue::Keyword("mrt-replay"), text(name)],
            Self::Bgp => vec![ArgumentValue::Keyword("bgp")],
        }
    }
}

/// The word of an algorithm.
impl ArgumentType for KeyAlgorithm {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        Ok(Self::ALL.into_iter().find(|algorithm| arguments.has(algorithm.as_str())))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        vec![ArgumentValue::Keyword(self.as_str())]
    }
}

/// `TIME DATE [ to TIME END-DATE ]`
impl ArgumentType for KeyLifetime {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let mut times = arguments.times_of_day();
        let (Some(time), Some((_, date))) = (times.next(), arguments.date_of(ArgumentKind::StartDate)) else {
            return Ok(None);
        };
        let from = UtcTime::new(date, time);
        let to = match (times.next(), arguments.date_of(ArgumentKind::EndDate)) {
            (Some(time), Some((token, date))) => {
                let to = UtcTime::new(date, time);
                if to <= from {
                    let message = "a lifetime ends after it has begun".to_owned();
                    return Err(WrongArgument { token, message });
                }
                Some(to)
            }
            _ => None,
        };
        Ok(Some(Self { from, to }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        let both = |at: UtcTime| [ArgumentValue::TimeOfDay(at.time_of_day()), ArgumentValue::Date(at.date())];
        both(self.from).into_iter().chain(self.to.into_iter().flat_map(both)).collect()
    }
}

fn keywords(words: impl IntoIterator<Item = &'static str>) -> Vec<ArgumentValue> {
    words.into_iter().map(ArgumentValue::Keyword).collect()
}

/// The two words of a family.
impl ArgumentType for Family {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        Ok(family_of(|keyword| arguments.has(keyword)))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        keywords(family_words(*self))
    }
}

/// The words of a family and of a RIB.
impl ArgumentType for RouteMode {
    fn read(arguments: ArgumentTokens<'_>) -> Result<Option<Self>, WrongArgument> {
        let has = |keyword: &str| arguments.has(keyword);
        Ok(family_of(has).zip(rib_of(has)).map(|(family, view)| Self { family, view }))
    }

    fn values(&self) -> Vec<ArgumentValue> {
        keywords(family_words(self.family).into_iter().chain(rib_words(self.view).iter().copied()))
    }
}

/// Implements [`LineKey`] for a type whose lines are told apart by text.
macro_rules! named {
    ($type:ty, $name:expr) => {
        impl LineKey for $type {
            fn line_name(&self) -> LineName {
                let name: fn(&Self) -> String = $name;
                LineName::Named(name(self))
            }
        }
    };
}
named!(String, |name| name.clone());
named!(u8, |number| number.to_string());
named!(u32, |number| number.to_string());
named!(PrefixIndex, |entry| format!("{} {}", entry.list, entry.index));
named!(Prefix, |prefix| prefix.to_string());
named!(AllowedUser, |user| user.to_string());
named!(MonitorId, |monitor| monitor.to_string());
named!(Family, |family| family_words(*family).join(" "));
named!(RouteMode, |mode| {
    let words = family_words(mode.family).into_iter().chain(rib_words(mode.view).iter().copied());
    words.collect::<Vec<_>>().join(" ")
});

impl LineKey for SessionId {
    fn line_name(&self) -> LineName {
        LineName::Session(self.clone())
    }
}
