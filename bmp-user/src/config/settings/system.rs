//! The settings of the system view that belong to no input and no session.

use super::{
    access::{Access, field},
    arguments::LineName,
    descriptor::{DefaultRow, DefaultValue, SettingDescriptor},
    effect::Effect,
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        number::{NumberRange, Unit},
        syntax::Syntax::{Value as Argument, Word},
        token::{ArgumentTokens, WrongArgument},
        value::ArgumentValue,
    },
    model::Config,
    view::{CommandView, ViewKind},
};

pub(in crate::config) static SYSNAME: SettingDescriptor = SettingDescriptor {
    head: &[Word("sysname", "name this device")],
    value: &[Argument(ArgumentKind::Sysname, "this device's name")],
    default: DefaultValue::Fixed("the host's name"),
    effect: Effect::NextConnection,
    access: field!(Config, sysname),
    ..SettingDescriptor::in_view(ViewKind::System)
};

pub(in crate::config) static INTERFACE_ALIAS: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("interface-alias", "give an interface one more name"),
        Argument(ArgumentKind::KernelName, "the interface's name in the kernel"),
    ],
    value: &[Argument(ArgumentKind::InterfaceName, "the name it gets")],
    effect: Effect::ReconnectsIfPinChanges,
    note: "An interface may have several names. `undo` without the last argument takes all of them.",
    access: &InterfaceAliases,
    ..SettingDescriptor::in_view(ViewKind::System)
};

/// The journal alone may take 64 MB.
static MEGABYTES: NumberRange = NumberRange {
    name: "MB",
    subject: "a memory limit is",
    unit: Unit::Megabytes,
    first: 96,
    last: 1_048_576,
    or_zero: false,
};

pub(in crate::config) static MEMORY_LIMIT: SettingDescriptor = SettingDescriptor {
    head: &[Word("memory-limit", "how much memory routes and what belongs to them may take")],
    value: &[Argument(ArgumentKind::Number(&MEGABYTES), "megabytes of 1,048,576 bytes, RANGE")],
    default: DefaultValue::Fixed("no limit"),
    rows: &[DefaultRow::new(256, "Memory of the feed")],
    effect: Effect::MemoryAtOnce,
    note: "Beyond the limit, the BGP peer, the daemon of a relay or the replay that has grown most is closed, and \
           stations are told a Peer Down for its peers. A peer, or a daemon's user or host, is refused for 300 \
           seconds, and longer while the feed takes more than the limit. A limit that is high enough ends that. The \
           process takes more than the feed: allow it 64 MB and a quarter of the limit besides.",
    access: field!(Config, memory_limit),
    ..SettingDescriptor::in_view(ViewKind::System)
};

/// The map from names to kernel names: one line a name.
struct InterfaceAliases;

impl Access for InterfaceAliases {
    fn values(&self, arguments: ArgumentTokens<'_>) -> Result<Option<Vec<ArgumentValue>>, WrongArgument> {
        let names = arguments.text_of(ArgumentKind::KernelName).zip(arguments.text_of(ArgumentKind::InterfaceName));
        Ok(names.map(|(kernel, name)| vec![ArgumentValue::Text(kernel), ArgumentValue::Text(name)]))
    }

    fn set(&self, config: &mut Config, _view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        let names = arguments.text_of(ArgumentKind::InterfaceName).zip(arguments.text_of(ArgumentKind::KernelName));
        config.interface_aliases.extend(names);
        Ok(())
    }

    fn clear(&self, config: &mut Config, _view: &CommandView, arguments: ArgumentTokens<'_>) -> Result<(), String> {
        match arguments.text_of(ArgumentKind::InterfaceName) {
            Some(name) => {
                config.interface_aliases.remove(&name);
            }
            None => {
                let kernel = arguments.text_of(ArgumentKind::KernelName);
                config.interface_aliases.retain(|_, known| Some(&*known) != kernel.as_ref());
            }
        }
        Ok(())
    }

    fn configured(&self, config: &Config, _view: &CommandView) -> Vec<Vec<ArgumentValue>> {
        let line = |(name, kernel): (&String, &String)| {
            vec![ArgumentValue::Text(kernel.clone()), ArgumentValue::Text(name.clone())]
        };
        config.interface_aliases.iter().map(line).collect()
    }

    fn name(&self, arguments: ArgumentTokens<'_>) -> LineName {
        arguments.text_of(ArgumentKind::InterfaceName).map_or(LineName::Only, LineName::Named)
    }
}
