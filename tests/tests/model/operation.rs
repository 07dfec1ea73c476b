//! What can happen: to the configuration, to bmpd, and to the host.

use super::{
    configuration::{Edit, Id},
    host::Host,
    world::{Link, World, add},
};

/// One thing that happens. To add another: a variant, what it does, and when the generator draws it.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Typed into bmpctl and committed at once.
    Commit(Vec<Edit>),
    /// Written to the file, and SIGHUP.
    Reload(Vec<Edit>),
    /// `reset bmp session`.
    Reset(Id),
    /// kill -9, perhaps something else meanwhile, and a new bmpd.
    Crash(Option<Box<Operation>>),
    /// `ip link set down` and `up` at the router; the routes are there again, or are not.
    Down(Link),
    Up(Link, bool),
    /// The same at the far end: the carrier.
    CarrierDown(Link),
    CarrierUp(Link),
    /// An address of an interface comes or goes.
    Address(String, &'static str, bool),
    LinkAddress(Link, usize, bool),
    Route(Link, usize, bool),
    /// Into a bridge, and out again.
    Enslave(Link),
    Release(Link),
    /// To its other name, or back, while it is down: older kernels rename no other.
    Rename(Link),
    Delete(Link),
    Create(Link),
}

impl Operation {
    /// Does to the hosts what it says; the rest is not for the hosts.
    pub(crate) fn happen(&self, world: &mut World, host: &Host) {
        let name = |world: &World, link: Link| world.name(host, link).expect("a deleted link is only made again");
        match self {
            Self::Down(link) => {
                let name = name(world, *link);
                world.at_router(&format!("link set {name} down"));
            }
            Self::Up(link, routes) => {
                let name = name(world, *link);
                world.set_up(*link, &name, *routes);
            }
            Self::CarrierDown(link) => {
                let name = name(world, *link);
                world.carrier_down(*link, &name);
            }
            Self::CarrierUp(link) => {
                let name = name(world, *link);
                world.carrier_up(*link, &name);
            }
            Self::Address(name, address, true) => world.at_router(&add(address, name)),
            Self::Address(name, address, false) => world.at_router(&format!("addr del {address} dev {name}")),
            Self::LinkAddress(link, number, there) => {
                let (name, address) = (name(world, *link), link.addresses().swap_remove(*number));
                let command = if *there { add(&address, &name) } else { format!("addr del {address} dev {name}") };
                world.at_router(&command);
            }
            Self::Route(link, number, there) => {
                let (name, route) = (name(world, *link), link.routes().swap_remove(*number));
                let verb = if *there { "add" } else { "del" };
                world.at_router(&format!("route {verb} {route} dev {name}"));
            }
            Self::Enslave(link) => {
                let name = name(world, *link);
                world.enslave(*link, &name);
            }
            Self::Release(link) => {
                let name = name(world, *link);
                world.at_router(&format!("link set {name} nomaster"));
            }
            Self::Rename(link) => {
                let from = name(world, *link);
                let to = if from == link.name() { link.other_name() } else { link.name() };
                world.at_router(&format!("link set {from} name {to}"));
            }
            Self::Delete(link) => {
                let name = name(world, *link);
                world.delete(*link, &name);
            }
            Self::Create(link) => world.create(*link),
            Self::Commit(_) | Self::Reload(_) | Self::Reset(_) | Self::Crash(_) => {
                panic!("{self:?} does not happen to the hosts")
            }
        }
    }
}
