//! What can happen: to the configuration, to bmpd, and to the host.

use super::{
    configuration::{Edit, Id},
    host::Host,
    world::{Link, World, add},
};

/// One thing that happens. To add another: a variant, what `Play::step` does for it, and when the generator draws it.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Typed into bmpctl and committed at once.
    Commit(Vec<Edit>),
    /// Written to the file, and SIGHUP.
    Reload(Vec<Edit>),
    /// Typed, and then a line of the system view that is wrong: nothing changes.
    Refused(Vec<Edit>, String),
    /// `reset bmp session`.
    Reset(Id),
    /// Another process connects where the session does.
    Foreign(Id),
    /// kill -9, and a new bmpd.
    Crash(Meanwhile),
    Host(Event),
}

/// What happens while no bmpd runs.
#[derive(Clone, Debug)]
pub(crate) enum Meanwhile {
    Nothing,
    Host(Event),
    /// In the file.
    Edited(Vec<Edit>),
}

/// What happens to the host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// `ip link set down` and `up` at the router; the routes are there again, or are not.
    Down(Link),
    Up(Link, bool),
    /// The same at the far end: the carrier.
    CarrierDown(Link),
    CarrierUp(Link),
    /// An address of the loopback interface or of a link comes or goes.
    Loopback(&'static str, bool),
    Address(Link, usize, bool),
    Route(Link, usize, bool),
    /// Into a bridge, and out again.
    Enslave(Link),
    Release(Link),
    /// To its other name, or back, while it is down: older kernels rename no other.
    Rename(Link),
    /// A name beside its own comes or goes.
    Also(Link, bool),
    Delete(Link),
    Create(Link),
}

impl Event {
    fn link(self) -> Option<Link> {
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

    /// Does to the hosts what it says.
    pub(crate) fn happen(self, world: &mut World, host: &Host) {
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
