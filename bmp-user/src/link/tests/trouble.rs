//! Storms of events, lost events, and the end of the watch.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use tokio::{sync::watch::Receiver, task::JoinHandle};

use super::namespace::{in_namespace, ip, until, until_link};
use crate::link::{
    Host,
    watch::{WatchSettings, watch, watch_with},
};

/// Returns how many steps are few for a storm of so many events. Each time the processor is taken
/// from whoever makes the storm, its events pause, and a step ends.
///
/// The processor of `cargo xtask vm` is slower, so that it is taken more often.
fn few(events: usize) -> usize {
    let slowness = std::env::var("BMPD_PATIENCE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    events / 20 * slowness
}

/// Counts the published hosts until none has followed for a while.
fn count(mut hosts: Receiver<Arc<Host>>) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut published = 0;
        while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(2), hosts.changed()).await {
            hosts.mark_unchanged();
            published += 1;
        }
        published
    })
}

/// Runs commands of ip(8) while the watch continues. The new thread inherits the namespace of the
/// thread that starts it.
async fn ip_beside(commands: String) {
    let (done, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        ip(&commands);
        done.send(()).unwrap();
    });
    wait.await.unwrap();
}

#[test]
fn a_storm_of_10_000_link_events_ends_in_the_right_host_after_few_steps() {
    in_namespace(|| async {
        ip("link add near type veth peer name far\n link add br0 type bridge\n link set near up");
        let (_, mut hosts) = watch().await.unwrap();
        let published = count(hosts.clone());
        let mut commands = String::new();
        for round in 0..1250 {
            let (name, next) = if round % 2 == 0 { ("far", "moved") } else { ("moved", "far") };
            writeln!(
                commands,
                "link set near master br0\n link set {name} up\n link set {name} down\n link set near nomaster"
            )
            .unwrap();
            writeln!(commands, "link set {name} name {next}\n link set near down\n link set near up").unwrap();
            writeln!(commands, "addr add 192.0.2.{}/24 dev near", round % 200 + 1).unwrap();
            writeln!(commands, "addr flush dev near").unwrap();
        }
        commands.push_str("addr add 192.0.2.77/24 dev near\n link set far up\n");
        ip_beside(commands).await;
        let (host, a) = until_link(&mut hosts, "near", |a| a.is_usable() && a.ips() == ["192.0.2.77"]).await;
        assert!(a.controller.is_none() && host.named("far").unwrap().is_usable() && host.named("moved").is_none());
        let published = published.await.unwrap();
        assert!(published < few(10_000), "{published} tables for 10,000 events");
    });
}

#[test]
fn a_storm_of_routes_takes_few_steps_of_the_epoch() {
    in_namespace(|| async {
        ip(
            "link add near type veth peer name far\n link set near up\n link set far up\n addr add 192.0.2.1/24 dev near",
        );
        let (_, mut hosts) = watch().await.unwrap();
        until_link(&mut hosts, "near", |a| a.carrier).await;
        let before = hosts.borrow().clone();
        let published = count(hosts.clone());
        let mut commands = String::new();
        for route in 0..20_000 {
            writeln!(commands, "route add 10.{}.{}.0/24 via 192.0.2.2", route / 256, route % 256).unwrap();
        }
        ip_beside(commands).await;
        let after = until(&mut hosts, |host| host.routes_epoch > before.routes_epoch).await;
        assert_eq!(after.named("near").unwrap().ips(), before.named("near").unwrap().ips());
        let published = published.await.unwrap();
        assert!(published < few(20_000), "{published} tables for 20,000 routes");
    });
}

#[test]
fn lost_events_are_made_up_for_by_a_complete_read() {
    in_namespace(|| async {
        let settings = WatchSettings { link_buffer: 4096, route_buffer: 4096, ..WatchSettings::default() };
        let (_, mut hosts) = watch_with(settings).await.unwrap();
        let mut commands = String::new();
        for pair in 0..100 {
            writeln!(commands, "link add near{pair} type veth peer name far{pair}\n link set near{pair} up").unwrap();
            writeln!(commands, "addr add 10.0.{pair}.1/24 dev near{pair}").unwrap();
        }
        commands.push_str("link del near7\n");
        // Runs on the watch's own thread, so the watch cannot read meanwhile.
        ip(&commands);
        let host = until(&mut hosts, |host| host.links.len() == 1 + 2 * 99 && host.named("near7").is_none()).await;
        let host = match host.named("near99").is_some_and(|link| link.ips() == ["10.0.99.1"]) {
            true => host,
            false => until_link(&mut hosts, "near99", |link| link.ips() == ["10.0.99.1"]).await.0,
        };
        for pair in (0..100).filter(|&pair| pair != 7) {
            let link = host.named(&format!("near{pair}")).unwrap();
            assert!(link.up && link.ips() == [format!("10.0.{pair}.1")], "{link:?}");
        }
    });
}

#[test]
fn an_event_without_a_change_of_the_host_publishes_nothing() {
    in_namespace(|| async {
        ip("link add near type veth peer name far");
        let settings = WatchSettings { resynchronise: Duration::from_millis(5), ..WatchSettings::default() };
        let (_, mut hosts) = watch_with(settings).await.unwrap();
        hosts.mark_unchanged();
        ip("link set near mtu 1400\n link set near txqueuelen 77\n link set near mtu 1500");
        // Many times what the watch takes to collect events and to read everything.
        let changed = tokio::time::timeout(Duration::from_millis(300), hosts.changed()).await;
        assert!(changed.is_err(), "{:?}", hosts.borrow());
    });
}

#[test]
fn an_alternative_name_without_a_notification_is_found_by_the_next_read() {
    in_namespace(|| async {
        ip("link add near type veth peer name far");
        let settings = WatchSettings { resynchronise: Duration::from_millis(50), ..WatchSettings::default() };
        let (_, mut hosts) = watch_with(settings).await.unwrap();
        ip("link property add dev near altname uplink");
        until_link(&mut hosts, "uplink", |_| true).await;
    });
}

#[test]
fn a_change_is_published_within_milliseconds() {
    in_namespace(|| async {
        ip("link add near type veth peer name far\n link set near up\n link set far up");
        let (_, mut hosts) = watch().await.unwrap();
        until_link(&mut hosts, "near", |a| a.carrier).await;
        let mut fastest = Duration::MAX;
        for round in 0..20 {
            ip(if round % 2 == 0 { "link set near down" } else { "link set near up" });
            let begun = std::time::Instant::now();
            until_link(&mut hosts, "near", |a| a.up == (round % 2 == 1)).await;
            fastest = fastest.min(begun.elapsed());
        }
        // The fastest of several, because the machine may be busy with other tests.
        assert!(fastest < Duration::from_millis(20), "{fastest:?}");
    });
}

#[test]
fn the_watch_ends_with_its_last_receiver() {
    // The header line, the kernel's own socket (port 0), and ours.
    let sockets = || std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap().lines().count();
    in_namespace(move || async move {
        let before = sockets();
        let (routes, hosts) = watch().await.unwrap();
        assert!(sockets() > before);
        drop((routes, hosts));
        let gone = async {
            while sockets() > before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the sockets are closed");
    });
}
