//! The host as ip(8) shows it: a second opinion beside bmpd's netlink.

use std::net::IpAddr;

use lab::netns::Netns;
use serde_json::Value;

/// Interfaces and routes of a host at rest.
#[derive(Clone, Debug)]
pub(crate) struct HostState {
    pub(crate) interfaces: Vec<HostInterface>,
    pub(crate) routes: Vec<HostRoute>,
}

#[derive(Clone, Debug)]
pub(crate) struct HostInterface {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Alternative names.
    pub(crate) also: Vec<String>,
    pub(crate) up: bool,
    pub(crate) carrier: bool,
    /// True if it only lends its address.
    pub(crate) donor: bool,
    /// True for a port of a bridge or of the like.
    pub(crate) layer2: bool,
    /// Addresses, in the kernel's order.
    pub(crate) addresses: Vec<HostAddress>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HostAddress {
    pub(crate) ip: IpAddr,
    pub(crate) bits: u8,
    /// True if a session may choose it by itself.
    pub(crate) eligible: bool,
    /// True if a socket can be bound to it.
    pub(crate) usable: bool,
}

/// A route of the main table.
#[derive(Clone, Debug)]
pub(crate) struct HostRoute {
    pub(crate) prefix: IpAddr,
    pub(crate) bits: u8,
    pub(crate) interface: String,
    pub(crate) metric: u64,
    /// True if its link has a carrier.
    pub(crate) alive: bool,
}

impl HostState {
    pub(crate) fn read(netns: &Netns) -> Self {
        let interfaces = list(&netns.ip_show("-json -details address show")).iter().map(interface).collect();
        let routes = [4, 6].map(|family| list(&netns.ip_show(&format!("-{family} -json route show table main"))));
        Self { interfaces, routes: routes.concat().iter().filter_map(route).collect() }
    }

    pub(crate) fn interface(&self, name: &str) -> Option<&HostInterface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }
}

impl HostInterface {
    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| address.ip == ip)
    }

    /// True if packets can leave by it.
    pub(crate) fn works(&self) -> bool {
        self.up && self.carrier && !self.layer2
    }
}

/// True if the prefix contains the address.
pub(crate) fn holds(prefix: IpAddr, bits: u8, ip: IpAddr) -> bool {
    let (one, other, width) = match (prefix, ip) {
        (IpAddr::V4(prefix), IpAddr::V4(ip)) => (prefix.to_bits().into(), ip.to_bits().into(), 32),
        (IpAddr::V6(prefix), IpAddr::V6(ip)) => (prefix.to_bits(), ip.to_bits(), 128),
        _ => return false,
    };
    let host_bits = width - u32::from(bits);
    // A default route shifts all bits out.
    u128::checked_shr(one ^ other, host_bits).unwrap_or(0) == 0
}

fn list(json: &str) -> Vec<Value> {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("ip -json did not print a JSON array ({e}):\n{json}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn interface(value: &Value) -> HostInterface {
    let flag = |name: &str| value["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == name));
    let also = value["altnames"].as_array().into_iter().flatten();
    HostInterface {
        index: value["ifindex"].as_u64().and_then(|index| index.try_into().ok()).expect("an interface has an index"),
        name: text(value, "ifname").to_owned(),
        also: also.filter_map(Value::as_str).map(str::to_owned).collect(),
        up: flag("UP"),
        carrier: flag("LOWER_UP"),
        donor: flag("LOOPBACK") || text(&value["linkinfo"], "info_kind") == "dummy",
        layer2: value["master"].is_string() && text(&value["linkinfo"], "info_slave_kind") != "vrf",
        addresses: value["addr_info"].as_array().into_iter().flatten().map(address).collect(),
    }
}

fn address(value: &Value) -> HostAddress {
    let ip: IpAddr = text(value, "local").parse().expect("ip prints valid addresses");
    let is = |name: &str| value[name] == true;
    let usable = !is("tentative") && !is("dadfailed");
    let lasting = if ip.is_ipv4() { !is("secondary") } else { !is("temporary") && !is("deprecated") && usable };
    let bits = value["prefixlen"].as_u64().and_then(|bits| bits.try_into().ok()).expect("a prefix has a length");
    HostAddress { ip, bits, eligible: lasting && text(value, "scope") == "global", usable }
}

fn route(value: &Value) -> Option<HostRoute> {
    // An ordinary route has no type. Blackholes and the like lead nowhere.
    if value["type"].is_string() && value["type"] != "unicast" {
        return None;
    }
    let mut flags = value["flags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let (prefix, bits) = match text(value, "dst") {
        "default" => return None,
        prefix => prefix.split_once('/').map_or((prefix, None), |(prefix, bits)| (prefix, bits.parse().ok())),
    };
    let prefix: IpAddr = prefix.parse().expect("a route's destination is a prefix");
    let bits = bits.unwrap_or(if prefix.is_ipv4() { 32 } else { 128 });
    Some(HostRoute {
        prefix,
        bits,
        interface: text(value, "dev").to_owned(),
        metric: value["metric"].as_u64().unwrap_or_default(),
        alive: !flags.any(|flag| matches!(flag, "dead" | "linkdown")),
    })
}
