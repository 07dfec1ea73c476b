//! Resolving connect-interface to interface and address, as for every session after a change of
//! configuration or host.

use std::{
    collections::BTreeMap,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
};

use bmp_user::{
    config::ConnectInterface,
    link::{Host, InterfaceAddress, Link},
    pin::{PinQuestion, resolve},
};

use super::MeasuredPart;

/// The operator's name for the interface.
const ALIAS: &str = "GigabitEthernet0/1/0";

/// The forms of connect-interface.
#[derive(Clone, Copy)]
pub(super) enum ConnectForm {
    Interface,
    Alias,
    Address,
    Both,
}

impl ConnectForm {
    pub(super) const ALL: [Self; 4] = [Self::Interface, Self::Alias, Self::Address, Self::Both];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Alias => "alias",
            Self::Address => "address",
            Self::Both => "interface and address",
        }
    }
}

/// Resolves the last of this many interfaces, which takes the longest.
pub(super) fn resolution(interfaces: u32, connect: ConnectForm) -> Box<dyn MeasuredPart> {
    let host = host(interfaces);
    let Link { name, addresses, .. } = host.links[&interfaces].clone();
    let address = addresses[0].ip;
    let aliases = BTreeMap::from([(ALIAS.to_owned(), name.clone())]);
    let connect = match connect {
        ConnectForm::Interface => ConnectInterface::Interface(name),
        ConnectForm::Alias => ConnectInterface::Interface(ALIAS.to_owned()),
        ConnectForm::Address => ConnectInterface::Address(address),
        ConnectForm::Both => ConnectInterface::Both { interface: name, address },
    };
    Box::new(move || {
        let question = PinQuestion {
            connect: Some(&connect),
            vpn_instance: None,
            egress_interfaces: &[],
            next_hop: None,
            station: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
            aliases: &aliases,
            keep: None,
        };
        let way = resolve(black_box(&question), black_box(&host)).expect("the host has the interface");
        assert_eq!(way.source, Some(address));
    })
}

/// Makes a host with interfaces `eth1` and on, each with two addresses. Those of `eth1` start with
/// `10.0.1.1`.
fn host(interfaces: u32) -> Host {
    let link = |index: u32| {
        let ip = |last: u8| IpAddr::V4(Ipv4Addr::new(10, (index >> 8) as u8, index as u8, last));
        let address = |last: u8, secondary: bool| InterfaceAddress {
            ip: ip(last),
            peer: None,
            prefix_len: 24,
            global: true,
            secondary,
            temporary: false,
            unproven: false,
            deprecated: false,
        };
        let addresses = vec![address(1, false), address(2, true)];
        Link { index, name: format!("eth{index}"), up: true, carrier: true, addresses, ..Link::default() }
    };
    Host { links: (1..=interfaces).map(|index| (index, link(index))).collect(), routes_epoch: 0 }
}
