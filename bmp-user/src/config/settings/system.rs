//! The settings of the system view that belong to no input and no session.

use super::{
    access::{Access, field},
    arguments::LineName,
    descriptor::{DefaultValue, SettingDescriptor},
    effect::Effect,
};
use crate::config::{
    language::{
        argument::ArgumentKind,
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
