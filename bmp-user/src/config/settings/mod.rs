//! Every setting, described once: see [`SettingDescriptor`]. A file a view has its descriptors.

mod access;
mod arguments;
mod bgp;
mod bmp;
mod descriptor;
mod effect;
mod families;
mod forms;
mod http;
mod keychain;
mod monitor;
mod per_router;
mod refresh;
mod relay;
mod replay;
mod route_filter;
mod session;
mod system;
mod table;
mod tls;

pub use descriptor::Setting;
pub use effect::Effect;

pub(super) use arguments::{ArgumentType, LineName};
pub(super) use descriptor::SettingDescriptor;
pub(super) use families::family_words;
pub(super) use forms::{ALIAS, VPN_INSTANCE};
pub(super) use table::{SETTINGS, order, order_of_view, session_of};
