//! Runs a test in a network namespace of its own.

use std::{io::Write as _, process::Stdio, sync::Arc, time::Duration};

use programs::Program;
use tokio::{sync::watch::Receiver, time::timeout};

use crate::link::{Host, Link};

/// Time for an expected event. It is long enough for a busy machine; only a failing test waits that
/// long.
pub(in crate::link) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `test` on a thread in a fresh network namespace, which ends with the thread. Needs root.
pub(in crate::link) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let run = move || {
        // SAFETY: moves only the calling thread, which has nothing open yet, into a new namespace.
        // Touches no memory.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(result, 0, "a network namespace needs root: {}", std::io::Error::last_os_error());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs commands of ip(8), one a line, in the calling thread's namespace. A line that starts with
/// `-6` is for IPv6.
pub(in crate::link) fn ip(commands: &str) {
    let lines: Vec<_> = commands.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for run in lines.chunk_by(|one, next| one.starts_with("-6") == next.starts_with("-6")) {
        let family = if run.iter().any(|line| line.starts_with("-6")) { &["-6"][..] } else { &[] };
        let batch = run.iter().map(|line| format!("{}\n", line.trim_start_matches("-6"))).collect::<String>();
        ip_batch(family, &batch);
    }
}

fn ip_batch(family: &[&str], batch: &str) {
    let mut child = Program::Ip
        .command()
        .args(family)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr));
}

/// Writes a file below `/proc/sys/net` of the calling thread's namespace.
pub(in crate::link) fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

/// Returns the first host published from now on for which `condition` holds.
pub(in crate::link) async fn until(hosts: &mut Receiver<Arc<Host>>, condition: impl Fn(&Host) -> bool) -> Arc<Host> {
    let found = timeout(PATIENCE, hosts.wait_for(|host| condition(host))).await.map(|found| found.unwrap().clone());
    found.unwrap_or_else(|_| panic!("it never came about; last seen: {:#?}", hosts.borrow()))
}

/// Returns the first host published from now on with a link `name` for which `condition` holds.
pub(in crate::link) async fn until_link(
    hosts: &mut Receiver<Arc<Host>>,
    name: &str,
    condition: impl Fn(&Link) -> bool,
) -> (Arc<Host>, Link) {
    let host = until(hosts, |host| host.named(name).is_some_and(&condition)).await;
    let link = host.named(name).unwrap().clone();
    (host, link)
}

impl Host {
    /// Returns the link with this kernel name or alternative name.
    pub(in crate::link) fn named(&self, name: &str) -> Option<&Link> {
        self.link_named(name, &Default::default())
    }
}

impl Link {
    /// Returns the global addresses as text.
    pub(in crate::link) fn ips(&self) -> Vec<String> {
        self.addresses.iter().filter(|address| address.global).map(|address| address.ip.to_string()).collect()
    }
}
