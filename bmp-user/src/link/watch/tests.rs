use rtnetlink::sys::{Socket, protocols::NETLINK_GENERIC};

use super::*;
use crate::link::tests::namespace::{in_namespace, ip, until_link};

#[test]
fn after_netlink_fails_the_watch_restarts_and_the_epoch_continues() {
    in_namespace(|| async {
        ip("link add near type veth peer name far");
        let settings = WatchSettings { retry_first: Duration::from_millis(5), ..WatchSettings::default() };
        let mut watcher = HostWatcher::open(settings, Host::default()).await.unwrap();
        // A socket of another netlink family cannot answer requests for links.
        watcher.client = NetlinkClient::with_socket(Socket::new(NETLINK_GENERIC).unwrap()).unwrap();
        let before = watcher.host.clone();
        let (sender, mut hosts) = watch::channel(Arc::new(before.clone()));
        tokio::spawn(keep(watcher, settings, sender));
        ip("link set near up\n addr add 192.0.2.1/24 dev near");
        let (host, _) = until_link(&mut hosts, "near", |near| near.up && near.ips() == ["192.0.2.1"]).await;
        assert!(host.routes_epoch > before.routes_epoch);
        ip("addr add 198.51.100.1/24 dev near");
        until_link(&mut hosts, "near", |near| near.ips().len() == 2).await;
    });
}
