//! The measured programs: bmpd, and daemons with a built-in BMP exporter. All have the same BGP
//! session and report to the same station.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use lab::{bmpd::Bmpd, footprint::resident, process::ChildProgram};
use nix::{
    sys::signal::Signal,
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use programs::Program;
use serde_json::Value;
use tempfile::TempDir;

use crate::links::{BenchLinks, PEER, ROUTER, STATION, STATION_PORT};

/// Address of bmpd's relay.
pub(crate) const RELAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// A measured program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum SubjectKind {
    Bmpd,
    Frr,
    Gobgp,
    Bird,
}

impl SubjectKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bmpd => "bmpd",
            Self::Frr => "FRR",
            Self::Gobgp => "GoBGP",
            Self::Bird => "BIRD",
        }
    }

    /// Returns its version, or the reason why it cannot be measured here.
    pub(crate) fn version(self) -> Result<String, String> {
        let first_line = |program: Program, argument: &str| {
            let output = program.command().arg(argument).output();
            let output = output.map_err(|error| format!("{}: {error}", program.file()))?;
            let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            Ok::<_, String>(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
        };
        let number = |text: &str| {
            let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
            word.unwrap_or(text).to_owned()
        };
        match self {
            Self::Bmpd => Ok(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Frr => Ok(number(&first_line(Program::Bgpd, "--version")?)),
            Self::Gobgp => Ok(number(&first_line(Program::Gobgpd, "--version")?)),
            Self::Bird => {
                let version = number(&first_line(Program::Bird, "--version")?);
                // BIRD has BMP from 2.14 on, as a build option. Debian's BIRD 2 lacks it, its BIRD
                // 3 has it.
                match takes_configuration() {
                    Ok(true) => Ok(version),
                    Ok(false) => Err(format!("BIRD {version} has no BMP")),
                    Err(error) => Err(format!("bird: {error}")),
                }
            }
        }
    }
}

/// A running subject.
pub(crate) struct BenchSubject {
    running: RunningSubject,
}

enum RunningSubject {
    Bmpd(Box<Bmpd>),
    Other(ChildProgram, TempDir),
}

impl BenchSubject {
    /// Starts a subject on the router, with one BGP peer and one station.
    pub(crate) fn start(kind: SubjectKind, links: &BenchLinks) -> io::Result<Self> {
        let running = match kind {
            SubjectKind::Bmpd => RunningSubject::Bmpd(Box::new(Bmpd::start(&links.router, &bmpd()))),
            SubjectKind::Frr => other(&frr(), |folder| {
                let mut command = links.router.command(Program::Bgpd);
                command.args(["-M", "bmp", "-Z", "-n", "-S", "-P", "0", "--log", "stdout", "-l"]);
                command.arg(ROUTER.0.to_string()).arg("-f").arg(folder.join("conf")).arg("-i").arg(folder.join("pid"));
                command.arg("--vty_socket").arg(folder);
                command
            })?,
            SubjectKind::Gobgp => other(&gobgp(), |folder| {
                let mut command = links.router.command(Program::Gobgpd);
                command.arg("-f").arg(folder.join("conf")).args(["--api-hosts", "127.0.0.1:50051", "--log-plain"]);
                command
            })?,
            SubjectKind::Bird => other(&bird(), |folder| {
                let mut command = links.router.command(Program::Bird);
                command.arg("-f").arg("-c").arg(folder.join("conf")).arg("-s").arg(folder.join("ctl"));
                command
            })?,
        };
        Ok(Self { running })
    }

    /// Starts a bmpd with a relay in place of the BGP peer, and this many sessions to consecutive
    /// ports of the station.
    pub(crate) fn relay(links: &BenchLinks, sessions: u16) -> io::Result<Self> {
        let (address, port) = (RELAY.ip(), RELAY.port());
        let configuration = format!("bmp-relay daemon\n listen {address} port {port}\n{}", sessions_of(sessions));
        Ok(Self { running: RunningSubject::Bmpd(Box::new(Bmpd::start(&links.router, &configuration))) })
    }

    /// Starts a bmpd with one BGP peer, and two sessions: the usual one, and one with TLS to
    /// another port, which trusts a CA.
    pub(crate) fn with_tls(links: &BenchLinks, ca: &Path, port: u16) -> io::Result<Self> {
        let configuration = format!(
            "tls profile bench\n trusted-ca {}\n{} bmp-session {STATION} alias tls\n  tcp connect port {port} tls \
             bench\n  connect-retry 1 1\n",
            ca.display(),
            bmpd()
        );
        Ok(Self { running: RunningSubject::Bmpd(Box::new(Bmpd::start(&links.router, &configuration))) })
    }

    /// Makes a subject connect to its station. BIRD tries only when its protocol starts, the others
    /// retry by themselves.
    pub(crate) fn connect(&self, kind: SubjectKind, links: &BenchLinks) -> io::Result<()> {
        let (SubjectKind::Bird, RunningSubject::Other(_, folder)) = (kind, &self.running) else { return Ok(()) };
        let mut command = links.router.command(Program::Birdcl);
        command.arg("-s").arg(folder.path().join("ctl")).args(["restart", "bench"]);
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stdout))))
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        match &self.running {
            RunningSubject::Bmpd(bmpd) => bmpd.pid(),
            RunningSubject::Other(process, _) => process.pid(),
        }
    }

    /// Returns its resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        resident(self.pid())
    }

    /// Returns the bytes of the journal, which depend on time and not on the table. 0 for other
    /// subjects than bmpd.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.feed().map_or(0, |feed| feed["journal"]["bytes"].as_u64().unwrap_or(0))
    }

    /// Returns the number of its routes. `None` for other subjects than bmpd.
    pub(crate) fn routes(&self) -> Option<u64> {
        self.feed()?["routes"].as_u64()
    }

    /// Returns its sessions. Empty for other subjects than bmpd.
    pub(crate) fn sessions(&self) -> Vec<Value> {
        match &self.running {
            RunningSubject::Bmpd(bmpd) => bmpd.sessions(),
            RunningSubject::Other(..) => Vec::new(),
        }
    }

    fn feed(&self) -> Option<Value> {
        match &self.running {
            RunningSubject::Bmpd(bmpd) => Some(bmpd.display_json("display bmp feed")),
            RunningSubject::Other(..) => None,
        }
    }

    /// Returns the processor time of all its threads, to the nanosecond.
    pub(crate) fn processor(&self) -> io::Result<Duration> {
        let pid = Pid::from_raw(self.pid().cast_signed());
        Ok(clock_gettime(clock_getcpuclockid(pid)?)?.into())
    }

    /// Returns the processor time of all its threads, in user space and in the kernel.
    pub(crate) fn cpu(&self) -> (Duration, Duration) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // After the name, which may hold any character: fields 14 and 15 of proc_pid_stat(5), in
        // ticks of 10 ms.
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|f| f.parse().ok())
            .collect();
        let time = |field: usize| Duration::from_millis(10 * fields.get(field).copied().unwrap_or(0));
        (time(0), time(1))
    }
}

impl Drop for BenchSubject {
    fn drop(&mut self) {
        if let RunningSubject::Other(process, _) = &mut self.running {
            // Some subjects need a minute to free a table in an orderly exit.
            process.signal(Signal::SIGKILL);
            process.wait();
        }
    }
}

fn other(configuration: &str, command: impl FnOnce(&Path) -> Command) -> io::Result<RunningSubject> {
    let folder = TempDir::with_prefix("bench-")?;
    fs::write(folder.path().join("conf"), configuration)?;
    Ok(RunningSubject::Other(ChildProgram::start(&mut command(folder.path())), folder))
}

fn bmpd() -> String {
    let ((own, asn), (peer, peer_as)) = (ROUTER, PEER);
    format!(
        "bgp {asn}\n router-id {own}\n listen-port 179\n peer {peer} as-number {peer_as}\n peer {peer} listen-only\n ipv4-family unicast\n  peer {peer} enable\n{}",
        sessions_of(1)
    )
}

fn sessions_of(sessions: u16) -> String {
    let mut text = "bmp\n".to_owned();
    for session in 0..sessions {
        text += &format!(
            " bmp-session {STATION} alias s{session}\n  tcp connect port {}\n  connect-retry 1 1\n",
            STATION_PORT + session
        );
    }
    text
}

fn frr() -> String {
    let ((own, asn), (peer, peer_as)) = (ROUTER, PEER);
    format!(
        "hostname frr
router bgp {asn}
 bgp router-id {own}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor {peer} remote-as {peer_as}
 neighbor {peer} passive
 address-family ipv4 unicast
  neighbor {peer} activate
  neighbor {peer} soft-reconfiguration inbound
 exit-address-family
 bmp targets bench
  bmp connect {STATION} port {STATION_PORT} min-retry 100 max-retry 1000
  bmp monitor ipv4 unicast pre-policy
 exit
exit
"
    )
}

fn gobgp() -> String {
    let ((own, asn), (peer, peer_as)) = (ROUTER, PEER);
    format!(
        r#"[global.config]
as = {asn}
router-id = "{own}"
port = 179

[[bmp-servers]]
[bmp-servers.config]
address = "{STATION}"
port = {STATION_PORT}
route-monitoring-policy = "pre-policy"
# It never reads: that a station is gone, it notices when it has something to say, and this is the least.
statistics-timeout = 15

[[neighbors]]
[neighbors.config]
neighbor-address = "{peer}"
peer-as = {peer_as}
[neighbors.transport.config]
passive-mode = true
"#
    )
}

/// True if the installed BIRD accepts its whole configuration.
fn takes_configuration() -> io::Result<bool> {
    let folder = TempDir::with_prefix("bench-")?;
    let file = folder.path().join("conf");
    fs::write(&file, bird())?;
    Ok(Program::Bird.command().arg("-p").arg("-c").arg(file).output()?.status.success())
}

fn bird() -> String {
    let ((own, asn), (peer, peer_as)) = (ROUTER, PEER);
    format!(
        "router id {own};
protocol device {{ }}
protocol bmp bench {{
  station address ip {STATION} port {STATION_PORT};
  monitoring rib in pre_policy;
}}
protocol bgp fed {{
  local {own} as {asn};
  neighbor {peer} as {peer_as};
  passive;
  ipv4 {{ import all; export none; import table; }};
}}
"
    )
}

/// Returns the address of the BGP session for every subject.
pub(crate) fn bgp_address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(ROUTER.0), 179)
}
