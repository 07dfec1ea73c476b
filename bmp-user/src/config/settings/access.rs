//! Access to the fields of the model: read from a command's arguments, set, cleared, and given back
//! as arguments for the printed form.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::arguments::{ArgumentType, LineKey, LineName};
use crate::config::{
    keychain::{ChainKey, KeychainConfig},
    language::{
        argument::ArgumentKind,
        token::{ArgumentTokens, WrongArgument},
        value::ArgumentValue,
    },
    model::{
        BgpConfig, BgpPeerConfig, BmpConfig, Config, MonitorConfig, MonitorId, RelayConfig, ReplayConfig,
        SessionConfig, SessionId,
    },
    route_filter::RouteFilterConfig,
    tls::TlsProfileConfig,
    view::CommandView,
};

/// Access to what one setting sets. A line is about the view that its command is in.
pub(in crate::config) trait Access: Sync {
    /// Returns the arguments in their printed form; `None` where some are missing.
    ///
    /// # Errors
    ///
    /// The arguments do not go together.
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument>;

    /// Sets the field.
    ///
    /// # Errors
    ///
    /// The value contradicts what is configured, or the view is gone. Nothing has changed then.
    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String>;

    /// Takes the field back to its default, whatever value it has.
    ///
    /// # Errors
    ///
    /// The view is gone.
    fn clear(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String>;

    /// Returns the values of each line that the view has.
    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>>;

    /// Returns the name of the line.
    fn name(&self, _arguments: ArgumentTokens<'_>) -> LineName {
        LineName::Only
    }

    /// Returns the view that the line enters.
    fn enters(&self, _around: &CommandView, _arguments: ArgumentTokens<'_>) -> Option<CommandView> {
        None
    }

    /// Decides whether `undo` with these arguments means the configured line.
    fn is_undone_by(&self, configured: ArgumentTokens<'_>, given: ArgumentTokens<'_>) -> bool {
        configured.0 == given.0
    }
}

/// The refusal of a line that lacks arguments. The grammar does not let one pass.
fn incomplete() -> String {
    "the command is not complete".to_owned()
}

/// Reads the value of a line that is known to be whole.
pub(in crate::config) fn whole<T: ArgumentType>(arguments: ArgumentTokens<'_>) -> Result<T, String> {
    T::read(arguments).map_err(|wrong| wrong.message)?.ok_or_else(incomplete)
}

/// A part of the model that views configure.
pub(in crate::config) trait Owner: 'static {
    /// Returns the part that the view configures, if it is there.
    fn find<'a>(config: &'a Config, view: &CommandView) -> Option<&'a Self>;

    /// Returns the part that the view configures.
    ///
    /// # Errors
    ///
    /// It is not there any more, or belongs to another view.
    fn find_mut<'a>(config: &'a mut Config, view: &CommandView) -> Result<&'a mut Self, String>;

    /// Notes that something in the part was set.
    fn touched(_config: &mut Config) {}
}

fn gone() -> String {
    "what this view configures is not there any more: enter the view again".to_owned()
}

fn other_view(name: &str) -> String {
    format!("this is a command of the {name} view")
}

impl Owner for Config {
    fn find<'a>(config: &'a Config, _view: &CommandView) -> Option<&'a Self> {
        Some(config)
    }

    fn find_mut<'a>(config: &'a mut Config, _view: &CommandView) -> Result<&'a mut Self, String> {
        Ok(config)
    }
}

impl Owner for BmpConfig {
    fn find<'a>(config: &'a Config, _view: &CommandView) -> Option<&'a Self> {
        Some(&config.bmp)
    }

    fn find_mut<'a>(config: &'a mut Config, _view: &CommandView) -> Result<&'a mut Self, String> {
        Ok(&mut config.bmp)
    }

    fn touched(config: &mut Config) {
        config.bmp.enabled = true;
    }
}

impl Owner for SessionConfig {
    fn find<'a>(config: &'a Config, view: &CommandView) -> Option<&'a Self> {
        match view {
            CommandView::Session(id) => config.bmp.sessions.get(id),
            _ => None,
        }
    }

    fn find_mut<'a>(config: &'a mut Config, view: &CommandView) -> Result<&'a mut Self, String> {
        match view {
            CommandView::Session(id) => config.bmp.sessions.get_mut(id).ok_or_else(gone),
            _ => Err(other_view("bmp-session")),
        }
    }
}

impl Owner for RelayConfig {
    fn find<'a>(config: &'a Config, view: &CommandView) -> Option<&'a Self> {
        match view {
            CommandView::Relay(name) => config.relays.get(name),
            _ => None,
        }
    }

    fn find_mut<'a>(config: &'a mut Config, view: &CommandView) -> Result<&'a mut Self, String> {
        match view {
            CommandView::Relay(name) => config.relays.get_mut(name).ok_or_else(gone),
            _ => Err(other_view("bmp-relay")),
        }
    }
}

impl Owner for ReplayConfig {
    fn find<'a>(config: &'a Config, view: &CommandView) -> Option<&'a Self> {
        match view {
            CommandView::Replay(name) => config.replays.get(name),
            _ => None,
        }
    }

    fn find_mut<'a>(config: &'a mut Config, view: &CommandView) -> Result<&'a mut Self, String> {
        match view {
            CommandView::Replay(name) => config.replays.get_mut(name).ok_or_else(gone),
            _ => Err(other_view("mrt-replay")),
        }
    }
}

impl Owner for KeychainConfig {
    fn find<'a>(config: &'a Config, view: &CommandView) -> Option<&'a Self> {
        match view {
            CommandView::Keychain(name) => config.keychains.get(name),
            _ => None,
        }
    }

    fn find_mut<'a>(config: &'a mut Config, view: &CommandView) -> Result<&'a mut Self, String> {
        match view {
            CommandView::Keychain(name) => config.keychains.get_mut(name).ok_or_else(gone),
            _ => Err(other_view("keychain")),
        }
    }
}

impl Owner for TlsProfileConfig {
    fn find<'a>(config: &'a Config, view: &CommandView) -> Option<&'a Self> {
        match view {
            CommandView::TlsProfile(name) => config.tls_profiles.get(name),
            _ => None,
        }
    }

    fn find_mut<'a>(config: &'a mut Config, view: &CommandView) -> Result<&'a mut Self, String> {
        match view {
            CommandView::TlsProfile(name) => config.tls_profiles.get_mut(name).ok_or_else(gone),
            _ => Err(other_view("tls profile")),
        }
    }
}

impl Owner for ChainKey {
    fn find<'a>(config: &'a Config, view: &CommandView) -> Option<&'a Self> {
        match view {
            CommandView::Key(name, id) => config.keychains.get(name)?.keys.get(id),
            _ => None,
        }
    }

    fn find_mut<'a>(config: &'a mut Config, view: &CommandView) -> Result<&'a mut Self, String> {
        let find = |config: &'a mut Config, name: &String, id: &u8| config.keychains.get_mut(name)?.keys.get_mut(id);
        match view {
            CommandView::Key(name, id) => find(config, name, id).ok_or_else(gone),
            _ => Err(other_view("key-id")),
        }
    }
}

impl Owner for RouteFilterConfig {
    fn find<'a>(config: &'a Config, view: &CommandView) -> Option<&'a Self> {
        match view {
            CommandView::RouteFilter(name) => config.route_filters.get(name),
            _ => None,
        }
    }

    fn find_mut<'a>(config: &'a mut Config, view: &CommandView) -> Result<&'a mut Self, String> {
        match view {
            CommandView::RouteFilter(name) => config.route_filters.get_mut(name).ok_or_else(gone),
            _ => Err(other_view("route-filter")),
        }
    }
}

impl Owner for MonitorConfig {
    fn find<'a>(config: &'a Config, view: &CommandView) -> Option<&'a Self> {
        match view {
            CommandView::Monitor(id, monitor) => config.bmp.sessions.get(id)?.monitors.get(monitor),
            _ => None,
        }
    }

    fn find_mut<'a>(config: &'a mut Config, view: &CommandView) -> Result<&'a mut Self, String> {
        let find = |config: &'a mut Config, id: &SessionId, monitor: &MonitorId| {
            config.bmp.sessions.get_mut(id)?.monitors.get_mut(monitor)
        };
        match view {
            CommandView::Monitor(id, monitor) => find(config, id, monitor).ok_or_else(gone),
            _ => Err(other_view("monitor")),
        }
    }
}

impl Owner for BgpConfig {
    fn find<'a>(config: &'a Config, _view: &CommandView) -> Option<&'a Self> {
        config.bgp.as_ref()
    }

    fn find_mut<'a>(config: &'a mut Config, _view: &CommandView) -> Result<&'a mut Self, String> {
        config.bgp.as_mut().ok_or_else(|| "BGP is not configured any more: enter the bgp view again".to_owned())
    }
}

/// A type that a field of the model has. Its default means that nothing is configured.
pub(in crate::config) trait FieldType: Default + 'static {
    /// What the arguments of the command make.
    type Value: ArgumentType;

    /// Returns the value; `None` for the default.
    fn value(&self) -> Option<Self::Value>;

    /// Makes a field of a value.
    fn of(value: Self::Value) -> Self;
}

impl<T: ArgumentType> FieldType for Option<T> {
    type Value = T;

    fn value(&self) -> Option<T> {
        self.clone()
    }

    fn of(value: T) -> Self {
        Some(value)
    }
}

/// Implements [`FieldType`] for types whose default value is the one that is not printed.
macro_rules! unless_default {
    ($($field:ty),*) => {
        $(impl FieldType for $field {
            type Value = Self;

            fn value(&self) -> Option<Self> {
                (*self != Self::default()).then(|| self.clone())
            }

            fn of(value: Self) -> Self {
                value
            }
        })*
    };
}
unless_default!(std::time::Duration, Vec<String>, crate::config::model::ReplayPace, bool);

/// Access to nothing, for a descriptor that does not say yet what it sets.
pub(in crate::config) struct NoAccess;

impl Access for NoAccess {
    fn values(&self, _arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        Ok(None)
    }

    fn set(&self, _config: &mut Config, _view: &CommandView, _arguments: ArgumentTokens<'_>) -> Result<(), String> {
        Ok(())
    }

    fn clear(&self, _config: &mut Config, _view: &CommandView, _arguments: ArgumentTokens<'_>) -> Result<(), String> {
        Ok(())
    }

    fn configured(&self, _config: &Config, _view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        Vec::new()
    }
}

/// A field that one setting of the view sets.
pub(in crate::config) struct Field<O: 'static, F: FieldType> {
    pub(in crate::config) get: fn(&O) -> &F,
    pub(in crate::config) get_mut: fn(&mut O) -> &mut F,
    /// Says why the value cannot be set beside what is configured, if so.
    pub(in crate::config) check: fn(&Config, &CommandView, &F::Value) -> Result<(), String>,
}

/// Makes the [`Field`] of a name, with a check of what is configured beside it or without.
macro_rules! field {
    ($owner:ty, $field:ident) => {
        field!($owner, $field, |_, _, _| Ok(()))
    };
    ($owner:ty, $field:ident, $check:expr) => {
        &$crate::config::settings::access::Field {
            get: |owner: &$owner| &owner.$field,
            get_mut: |owner: &mut $owner| &mut owner.$field,
            check: $check,
        }
    };
}
pub(in crate::config) use field;

impl<O: Owner, F: FieldType> Access for Field<O, F> {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        Ok(F::Value::read(arguments)?.map(|value| value.values()))
    }

    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let value = whole(arguments)?;
        (self.check)(config, view, &value)?;
        *(self.get_mut)(O::find_mut(config, view)?) = F::of(value);
        O::touched(config);
        Ok(())
    }

    fn clear(&self, config: &mut Config, view: &CommandView, _arguments: ArgumentTokens<'_>) -> Result<(), String> {
        *(self.get_mut)(O::find_mut(config, view)?) = F::default();
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let value = O::find(config, view).and_then(|owner| (self.get)(owner).value());
        value.map(|value| value.values()).into_iter().collect()
    }
}

/// A field of a BGP peer, which the command names: `peer ADDRESS ...`.
pub(in crate::config) struct PeerField<F: 'static> {
    pub(in crate::config) get: fn(&BgpPeerConfig) -> &F,
    pub(in crate::config) get_mut: fn(&mut BgpPeerConfig) -> &mut F,
}

/// Makes the [`PeerField`] of a name.
macro_rules! peer_field {
    ($field:ident) => {
        &$crate::config::settings::access::PeerField {
            get: |peer: &$crate::config::model::BgpPeerConfig| &peer.$field,
            get_mut: |peer: &mut $crate::config::model::BgpPeerConfig| &mut peer.$field,
        }
    };
}
pub(in crate::config) use peer_field;

/// Returns the peer that a command names.
pub(in crate::config) fn peer_address(arguments: ArgumentTokens<'_>) -> Result<IpAddr, String> {
    arguments.address_of(ArgumentKind::Peer).ok_or_else(incomplete)
}

/// Returns the peer of an address, which must have an AS number.
pub(in crate::config) fn peer_mut(config: &mut Config, address: IpAddr) -> Result<&mut BgpPeerConfig, String> {
    let missing = || format!("there is no peer {address}: say its AS first, `peer {address} as-number N`");
    BgpConfig::find_mut(config, &CommandView::Bgp)?.peers.get_mut(&address).ok_or_else(missing)
}

impl<F: FieldType> Access for PeerField<F> {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        let (Some(peer), Some(value)) = (arguments.address_of(ArgumentKind::Peer), F::Value::read(arguments)?) else {
            return Ok(None);
        };
        Ok(Some([vec![ArgumentValue::Address(peer)], value.values()].concat()))
    }

    fn set(&self, config: &mut Config, _view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let value = whole(arguments)?;
        *(self.get_mut)(peer_mut(config, peer_address(arguments)?)?) = F::of(value);
        Ok(())
    }

    fn clear(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let address = peer_address(arguments)?;
        if let Some(peer) = BgpConfig::find_mut(config, view)?.peers.get_mut(&address) {
            *(self.get_mut)(peer) = F::default();
        }
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let peers = BgpConfig::find(config, view).into_iter().flat_map(|bgp| &bgp.peers);
        let line = |(address, peer): (&IpAddr, &BgpPeerConfig)| {
            let value = (self.get)(peer).value()?;
            Some([vec![ArgumentValue::Address(*address)], value.values()].concat())
        };
        peers.filter_map(line).collect()
    }

    fn name(&self, arguments: ArgumentTokens<'_>) -> LineName {
        arguments.address_of(ArgumentKind::Peer).map_or(LineName::Only, LineName::Peer)
    }
}

/// A set of values, each of which has a line of its own.
pub(in crate::config) struct Members<O: 'static, K: 'static> {
    pub(in crate::config) get: fn(&O) -> &BTreeSet<K>,
    pub(in crate::config) get_mut: fn(&mut O) -> &mut BTreeSet<K>,
}

impl<O: Owner, K: LineKey> Access for Members<O, K> {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        Ok(K::read(arguments)?.map(|member| member.values()))
    }

    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let member = whole(arguments)?;
        (self.get_mut)(O::find_mut(config, view)?).insert(member);
        O::touched(config);
        Ok(())
    }

    fn clear(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let member = whole(arguments)?;
        (self.get_mut)(O::find_mut(config, view)?).remove(&member);
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        O::find(config, view).into_iter().flat_map(|owner| (self.get)(owner)).map(ArgumentType::values).collect()
    }

    fn name(&self, arguments: ArgumentTokens<'_>) -> LineName {
        line_name::<K>(arguments)
    }
}

/// A map whose entries have a line each. The command names the key, and sets the value.
pub(in crate::config) struct KeyedLines<O: 'static, K: 'static, V: 'static> {
    pub(in crate::config) get: fn(&O) -> &BTreeMap<K, V>,
    pub(in crate::config) get_mut: fn(&mut O) -> &mut BTreeMap<K, V>,
    /// Says why a key cannot be added, if so.
    pub(in crate::config) check: fn(&Config, &CommandView, &K) -> Result<(), String>,
}

impl<O: Owner, K: LineKey, V: ArgumentType> Access for KeyedLines<O, K, V> {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        let (Some(key), Some(value)) = (K::read(arguments)?, V::read(arguments)?) else { return Ok(None) };
        Ok(Some([key.values(), value.values()].concat()))
    }

    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let (key, value) = (whole(arguments)?, whole(arguments)?);
        (self.check)(config, view, &key)?;
        (self.get_mut)(O::find_mut(config, view)?).insert(key, value);
        O::touched(config);
        Ok(())
    }

    fn clear(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let key: K = whole(arguments)?;
        (self.get_mut)(O::find_mut(config, view)?).remove(&key);
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let entries = O::find(config, view).into_iter().flat_map(|owner| (self.get)(owner));
        entries.map(|(key, value)| [key.values(), value.values()].concat()).collect()
    }

    fn name(&self, arguments: ArgumentTokens<'_>) -> LineName {
        line_name::<K>(arguments)
    }
}

/// A map whose entries have a view each.
pub(in crate::config) struct Entries<O: 'static, K: 'static, V: 'static> {
    pub(in crate::config) get: fn(&O) -> &BTreeMap<K, V>,
    pub(in crate::config) get_mut: fn(&mut O) -> &mut BTreeMap<K, V>,
    /// Says why a name cannot be used, if so.
    pub(in crate::config) check: fn(&Config, &K) -> Result<(), String>,
    /// Returns the view of an entry, from the view that its command is in.
    pub(in crate::config) view: fn(&CommandView, K) -> Option<CommandView>,
}

impl<O: Owner, K: LineKey, V: Default + 'static> Access for Entries<O, K, V> {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        Ok(K::read(arguments)?.map(|key| key.values()))
    }

    fn set(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let key = whole(arguments)?;
        (self.check)(config, &key)?;
        (self.get_mut)(O::find_mut(config, view)?).entry(key).or_default();
        O::touched(config);
        Ok(())
    }

    fn clear(&self, config: &mut Config, view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let key: K = whole(arguments)?;
        (self.get_mut)(O::find_mut(config, view)?).remove(&key);
        Ok(())
    }

    fn configured(&self, config: &Config, view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let entries = O::find(config, view).into_iter().flat_map(|owner| (self.get)(owner).keys());
        entries.map(ArgumentType::values).collect()
    }

    fn name(&self, arguments: ArgumentTokens<'_>) -> LineName {
        line_name::<K>(arguments)
    }

    fn enters(&self, around: &CommandView, arguments: ArgumentTokens<'_>) -> Option<CommandView> {
        (self.view)(around, whole(arguments).ok()?)
    }
}

fn line_name<K: LineKey>(arguments: ArgumentTokens<'_>) -> LineName {
    whole::<K>(arguments).map_or(LineName::Only, |key| key.line_name())
}
