//! Everything that can happen: to the configuration, to bmpd, and to the host.

use super::{
    configuration::{ConfigurationEdit, ModelSessionId},
    host::HostState,
    world::{ModelLink, ModelWorld, add},
};

/// One operation. To add one, add a variant, its part in `Play::step`, and its place in the
/// generator.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Types the edits into bmpctl and commits them.
    Commit(Vec<ConfigurationEdit>),
    /// Writes the edits to the file and sends SIGHUP.
    Reload(Vec<ConfigurationEdit>),
    /// Types the edits and then a wrong line, so that nothing changes.
    Refused(Vec<ConfigurationEdit>, String),
    /// Runs `reset bmp session`.
    Reset(ModelSessionId),
    /// Connects another process to the session's station.
    Foreign(ModelSessionId),
    /// Kills bmpd with SIGKILL and starts a new one.
    Crash(WhileDead),
    Host(HostEvent),
}

/// What happens while no bmpd runs.
#[derive(Clone, Debug)]
pub(crate) enum WhileDead {
    Nothing,
    Host(HostEvent),
    /// The file is edited.
    Edited(Vec<ConfigurationEdit>),
}

/// A change of the host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HostEvent {
    /// `ip link set down` at the router.
    Down(ModelLink),
    /// `ip link set up` at the router, with or without the routes.
    Up(ModelLink, bool),
    /// The far end goes down, and with it the carrier.
    CarrierDown(ModelLink),
    CarrierUp(ModelLink),
    /// An address of the loopback interface comes or goes.
    Loopback(&'static str, bool),
    Address(ModelLink, usize, bool),
    Route(ModelLink, usize, bool),
    /// The link becomes a port of a bridge.
    Enslave(ModelLink),
    Release(ModelLink),
    /// Renames a link that is down, to its other name or back. Older kernels rename no other links.
    Rename(ModelLink),
    /// An alternative name comes or goes.
    Also(ModelLink, bool),
    Delete(ModelLink),
    Create(ModelLink),
}

impl HostEvent {
    fn link(self) -> Option<ModelLink> {
        match self {
            Self::Loopback(..) => None,
            Self::Down(link)
            | Self::Up(link, _)
            | Self::CarrierDown(link)
            | Self::CarrierUp(link)
            | Self::Address(link, ..)
            | Self::Route(link, ..)
            | Self::Enslave(link)
            | Self::Release(link)
            | Self::Rename(link)
            | Self::Also(link, _)
            | Self::Delete(link)
            | Self::Create(link) => Some(link),
        }
    }

    /// Applies the event to the hosts.
    pub(crate) fn happen(self, world: &mut ModelWorld, host: &HostState) {
        let name =
            self.link().map_or_else(|| "lo".to_owned(), |link| world.name(host, link).unwrap_or_else(|| link.name()));
        match self {
            Self::Down(_) => world.at_router(&format!("link set {name} down")),
            Self::Up(link, routes) => world.set_up(link, &name, routes),
            Self::CarrierDown(link) => world.carrier_down(link, &name),
            Self::CarrierUp(link) => world.carrier_up(link, &name),
            Self::Loopback(address, true) => world.at_router(&add(address, &name)),
            Self::Loopback(address, false) => world.at_router(&format!("addr del {address} dev {name}")),
            Self::Address(link, number, true) => world.at_router(&add(&link.addresses()[number], &name)),
            Self::Address(link, number, false) => {
                world.at_router(&format!("addr del {} dev {name}", link.addresses()[number]));
            }
            Self::Route(link, number, there) => {
                let verb = if there { "add" } else { "del" };
                world.at_router(&format!("route {verb} {} dev {name}", link.routes()[number]));
            }
            Self::Enslave(link) => world.at_router(&format!("link set {name} master {}", link.bridge())),
            Self::Release(_) => world.at_router(&format!("link set {name} nomaster")),
            Self::Rename(link) => {
                let to = if name == link.name() { link.other_name() } else { link.name() };
                world.at_router(&format!("link set {name} name {to}"));
            }
            Self::Also(link, there) => {
                let verb = if there { "add" } else { "del" };
                world.at_router(&format!("link property {verb} dev {name} altname {}", link.also()));
            }
            Self::Delete(link) => world.delete(link, &name),
            Self::Create(link) => world.create(link),
        }
    }
}
