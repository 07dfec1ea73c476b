use super::namespace::{in_namespace, ip, sysctl, until, until_link};
use crate::link::watch;

#[test]
fn a_fresh_namespace_has_a_loopback_interface_that_is_down() {
    in_namespace(|| async {
        let (_, hosts) = watch().await.unwrap();
        let host = hosts.borrow().clone();
        let lo = host.named("lo").unwrap();
        assert!(lo.loopback && !lo.up && lo.is_donor() && !lo.is_usable() && lo.index == 1);
    });
}

#[test]
fn the_first_host_is_complete() {
    in_namespace(|| async {
        ip(
            "link set lo up\n link add near type veth peer name far\n addr add 192.0.2.1/24 dev near\n addr add 192.0.2.2/32 peer 198.51.100.1 dev far",
        );
        let (_, hosts) = watch().await.unwrap();
        let host = hosts.borrow().clone();
        let a = host.named("near").unwrap();
        assert_eq!((a.kind.as_deref(), a.up, a.ips()), (Some("veth"), false, vec!["192.0.2.1".to_owned()]));
        assert_eq!(host.named("far").unwrap().addresses[0].peer, Some([198, 51, 100, 1].into()));
        assert!(host.named("lo").unwrap().is_usable());
        assert!(!host.named("lo").unwrap().addresses[0].global, "127.0.0.1 has host scope");
    });
}

#[test]
fn changes_of_up_down_and_carrier_are_published() {
    in_namespace(|| async {
        ip("link add near type veth peer name far");
        let (_, mut hosts) = watch().await.unwrap();
        ip("link set near up");
        until_link(&mut hosts, "near", |a| a.up && !a.carrier).await;
        ip("link set far up");
        until_link(&mut hosts, "near", |a| a.up && a.carrier && a.is_usable()).await;
        ip("link set far down");
        until_link(&mut hosts, "near", |a| a.up && !a.carrier && !a.is_usable()).await;
        ip("link set far up");
        until_link(&mut hosts, "near", |a| a.is_usable()).await;
        ip("link set near down");
        until_link(&mut hosts, "near", |a| !a.up).await;
    });
}

#[test]
fn addresses_keep_the_kernels_order_and_a_secondary_is_promoted() {
    in_namespace(|| async {
        ip("link add near type veth peer name far\n link set near up\n link set far up");
        sysctl("ipv4/conf/near/promote_secondaries", "1");
        let (_, mut hosts) = watch().await.unwrap();
        ip("addr add 192.0.2.1/24 dev near\n addr add 192.0.2.2/24 dev near\n addr add 198.51.100.1/24 dev near");
        let (_, a) = until_link(&mut hosts, "near", |a| a.ips().len() == 3).await;
        assert_eq!(a.ips(), ["192.0.2.1", "198.51.100.1", "192.0.2.2"], "primaries first");
        assert_eq!(
            a.addresses.iter().take(3).map(|address| address.secondary).collect::<Vec<_>>(),
            [false, false, true]
        );
        ip("addr del 192.0.2.1/24 dev near");
        let (_, a) = until_link(&mut hosts, "near", |a| a.ips().len() == 2).await;
        assert_eq!(a.ips(), ["198.51.100.1", "192.0.2.2"]);
        assert!(!a.address([192, 0, 2, 2].into()).unwrap().secondary, "promoted");
        ip("addr flush dev near");
        until_link(&mut hosts, "near", |a| a.addresses.is_empty()).await;
    });
}

#[test]
fn an_ipv6_address_is_unproven_during_duplicate_address_detection() {
    in_namespace(|| async {
        ip("link add near type veth peer name far\n link set near up\n link set far up");
        let (_, mut hosts) = watch().await.unwrap();
        until_link(&mut hosts, "near", |a| a.carrier).await;
        ip(
            "addr add 2001:db8::1/64 dev near\n addr add 2001:db8::2/64 dev near nodad\n addr add 2001:db8::3/64 dev near nodad preferred_lft 0",
        );
        let (_, a) = until_link(&mut hosts, "near", |a| a.ips().len() == 3).await;
        let address = |ip: &str| *a.address(ip.parse().unwrap()).unwrap();
        assert!(address("2001:db8::1").unproven && address("2001:db8::1").global);
        assert!(!address("2001:db8::2").unproven && !address("2001:db8::2").deprecated);
        assert!(address("2001:db8::3").deprecated && !address("2001:db8::3").unproven);
        until_link(&mut hosts, "near", |a| a.address("2001:db8::1".parse().unwrap()).is_some_and(|a| !a.unproven))
            .await;
        ip("addr change 2001:db8::2/64 dev near preferred_lft 0");
        until_link(&mut hosts, "near", |a| a.address("2001:db8::2".parse().unwrap()).is_some_and(|a| a.deprecated))
            .await;
        ip("link set near down");
        until_link(&mut hosts, "near", |a| a.ips().is_empty()).await;
    });
}

#[test]
fn a_duplicate_ipv6_address_stays_unproven() {
    in_namespace(|| async {
        ip(
            "link add near type veth peer name far\n link set near up\n link set far up\n addr add 2001:db8::1/64 dev far nodad",
        );
        let (_, mut hosts) = watch().await.unwrap();
        until_link(&mut hosts, "near", |a| a.carrier).await;
        ip("addr add 2001:db8::1/64 dev near");
        until_link(&mut hosts, "near", |a| !a.ips().is_empty()).await;
        // The kernel keeps the duplicate. A second address that is proven meanwhile shows that
        // detection is over.
        ip("addr add 2001:db8::2/64 dev near");
        let proven = |a: &crate::link::Link| a.address("2001:db8::2".parse().unwrap()).is_some_and(|a| !a.unproven);
        let (_, a) = until_link(&mut hosts, "near", proven).await;
        assert!(a.address("2001:db8::1".parse().unwrap()).unwrap().unproven);
    });
}

#[test]
fn a_renamed_link_keeps_its_index_and_may_have_alternative_names() {
    in_namespace(|| async {
        ip("link add near type veth peer name far");
        let (_, mut hosts) = watch().await.unwrap();
        let index = hosts.borrow().named("near").unwrap().index;
        ip("link set near name uplink");
        let (host, uplink) = until_link(&mut hosts, "uplink", |_| true).await;
        assert!(uplink.index == index && host.named("near").is_none());
        ip("link set uplink up\n link property add dev uplink altname to-the-station");
        let (_, other) = until_link(&mut hosts, "to-the-station", |_| true).await;
        assert_eq!((other.index, other.name.as_str()), (index, "uplink"));
        ip("link property del dev uplink altname to-the-station");
        until(&mut hosts, |host| host.named("to-the-station").is_none()).await;
    });
}

#[test]
fn a_bridge_port_is_a_layer_2_port_until_it_leaves_the_bridge() {
    in_namespace(|| async {
        ip("link add near type veth peer name far\n link add br0 type bridge");
        let (_, mut hosts) = watch().await.unwrap();
        ip("link set near master br0");
        let (host, a) = until_link(&mut hosts, "near", |a| a.controller.is_some()).await;
        assert_eq!(a.controller, Some(host.named("br0").unwrap().index));
        assert!(a.is_layer2_port(&host));
        ip("link set near nomaster");
        let (host, a) = until_link(&mut hosts, "near", |a| a.controller.is_none()).await;
        assert!(!a.is_layer2_port(&host));
    });
}

#[test]
fn a_link_created_again_has_none_of_its_old_addresses() {
    in_namespace(|| async {
        ip("link add near type veth peer name far\n addr add 192.0.2.1/24 dev near");
        let (_, mut hosts) = watch().await.unwrap();
        let index = hosts.borrow().named("near").unwrap().index;
        ip("link del near");
        let host = until(&mut hosts, |host| host.named("near").is_none()).await;
        assert!(!host.links.contains_key(&index) && host.named("far").is_none());
        ip("link add near type veth peer name far");
        let (_, a) = until_link(&mut hosts, "near", |_| true).await;
        assert!(a.index != index && a.addresses.is_empty());
        // Deleted and created again between two reads, with the same index.
        ip(&format!(
            "addr add 192.0.2.9/24 dev near\n link del near\n link add near index {} type veth peer name far",
            a.index
        ));
        ip("addr add 192.0.2.7/24 dev near");
        let (_, a) = until_link(&mut hosts, "near", |a| a.ips() == ["192.0.2.7"]).await;
        assert_ne!(a.index, index);
    });
}

#[test]
fn the_epoch_grows_with_every_route_rule_link_and_address() {
    in_namespace(|| async {
        ip(
            "link set lo up\n link add near type veth peer name far\n link set near up\n link set far up\n addr add 192.0.2.1/24 dev near",
        );
        let (_, mut hosts) = watch().await.unwrap();
        until_link(&mut hosts, "near", |a| a.carrier).await;
        for change in [
            "route add 198.51.100.0/24 via 192.0.2.2",
            "route change 198.51.100.0/24 via 192.0.2.3",
            "route del 198.51.100.0/24",
            "-6 route add 2001:db8:1::/48 dev near",
            "-6 route del 2001:db8:1::/48 dev near",
            "rule add from 192.0.2.1 table 100",
            "-6 rule add from 2001:db8::1 table 100",
            "nexthop add id 7 via 192.0.2.2 dev near",
            "addr add 192.0.2.9/24 dev far",
            "link set far down",
        ] {
            let before = hosts.borrow_and_update().routes_epoch;
            ip(change);
            until(&mut hosts, |host| host.routes_epoch > before).await;
        }
    });
}
