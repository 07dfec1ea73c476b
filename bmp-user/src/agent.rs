//! The tasks of bmpd: what starts them, what connects them, how they end.
//!
//! ```text
//!         Store: what is in force, its file ◀── commits ── control, SIGHUP
//!             │ watch<Config>
//!             ├───────────────────────────┬──────────────────────┬───────────────────┐
//!             ▼                           ▼                      ▼                   ▼
//!   relays (1; a task a listener    sessions (1; a task    pins (1)             control (1; a task
//!   and a connection)               a session)               │  ▲               a connection)
//!             │ frames                 ▲   ▲  ▲              │  │ watch<Host>        │ reads
//!             └───────▶ Feed ──────────┘   │  └ watch<PinView> link (1 for events)    ▼
//!                      journal, peers      └ watch<DeviceIdentity>              status, pins, feed
//! ```
//!
//! A configuration is a value. Each task compares a new value with the previous one.
//!
//! The tasks end in the direction of the data. Sessions send Termination first, then inputs end,
//! and the kernel programs are detached last.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};

use crate::{
    config::{CommitHistory, Config, ConfigStore, KeyFile, StartLimits, TlsProfileConfig, secrecy_warnings},
    control::{self, ControlSocket},
    feed::Feed,
    http, input,
    link::{self, Marks},
    notify::ServiceManager,
    pin::{self, Datapath, Enforcement, ForeignSockets, NextHopRoutes, Pins, SourceChoices},
    sandbox::{self, ApartThread, Sandbox, SandboxNeeds},
    session::{self, DeviceIdentity, SessionSurroundings, Sessions},
    sys, tasks,
    tls::{self, TlsProfiles},
};

/// Time that an orderly end may take.
const ENDING: Duration = Duration::from_secs(15);

/// The options of the command line.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// The path of the control socket.
    pub control: PathBuf,
    /// Who may use the control socket.
    pub access: control::AccessGroups,
    /// The folder of what bmpd remembers. `None` for files beside the configuration file.
    pub state: Option<PathBuf>,
    /// The key that seals the secrets of the configuration.
    pub keys: KeyFile,
    /// How the kernel holds packets to their pin.
    pub datapath: pin::DatapathOptions,
    /// Whether bmpd gives up what it needs no more once it has started.
    pub sandbox: bool,
}

/// What a start has made with all rights of the process, before it gives them up.
#[derive(Debug)]
pub struct Started {
    socket: ControlSocket,
    datapath: Datapath,
    inspector: ApartThread,
    mender: ApartThread,
    marks: Option<Marks>,
    sandbox: Sandbox,
    limits: StartLimits,
}

/// Binds the control socket, loads the programs, and then gives up every right that `config` does
/// not need. Call it before the first thread of the runtime starts, because a thread keeps the
/// rights that it was started with.
///
/// # Errors
/// Fails if one of the first two fails.
pub fn start(options: &DaemonOptions, config: &Config) -> anyhow::Result<Started> {
    sys::one_heap();
    if let Err(error) = sys::raise_file_limit() {
        warn!("cannot raise the limit of open files: {error}");
    }
    let socket = ControlSocket::bind(&options.control, options.access)?;
    let datapath = Datapath::load(&options.datapath)?;
    let mut limits = StartLimits::sessions(options.datapath.room.sessions());
    input::relay::learn_system_accounts();
    // Whoever needs a mark and cannot have one is told why then.
    let marks = Marks::open().ok();
    if !options.sandbox {
        let sandbox = Sandbox::none("--no-sandbox");
        warn!("--no-sandbox: bmpd keeps every right that it was started with");
        let [inspector, mender] = [ApartThread::in_runtime(), ApartThread::in_runtime()];
        return Ok(Started { socket, datapath, inspector, mender, marks, sandbox, limits });
    }
    let needs = needs(options, config, &socket, marks.as_ref());
    let inspector = ApartThread::inspector().context("cannot start a thread")?;
    let mender = ApartThread::mender(&needs).context("cannot start a thread")?;
    let sandbox = sandbox::enter(&needs);
    limits.low_ports = needs.low_ports;
    limits.folders = sandbox.has_closed_files().then(|| [needs.read, needs.written].concat());
    Ok(Started { socket, datapath, inspector, mender, marks, sandbox, limits })
}

/// Returns what bmpd opens and binds after its start.
fn needs(options: &DaemonOptions, config: &Config, socket: &ControlSocket, marks: Option<&Marks>) -> SandboxNeeds {
    let mut needs = SandboxNeeds { low_ports: config.low_port().is_some(), ..SandboxNeeds::default() };
    needs.writes(&options.config);
    needs.writes(&options.control);
    needs.written.extend(options.state.clone());
    needs.written.extend(pin::pinned_in(&options.datapath));
    if let Some(marks) = marks {
        needs.writes(marks.path());
        needs.made.extend(marks.folders().map(Path::to_owned));
    }
    needs.made.extend(socket.made_folder().map(Path::to_owned));
    config.replays.values().filter_map(|replay| replay.file.as_deref()).for_each(|file| needs.reads(file));
    for file in config.tls_profiles.values().flat_map(TlsProfileConfig::files) {
        needs.reads(file);
        // What keeps certificates new often has a link to the newest.
        if let Ok(file) = file.canonicalize() {
            needs.reads(&file);
        }
    }
    needs
}

/// Runs bmpd until SIGTERM, SIGINT or SIGUSR1 arrives. SIGHUP reloads the configuration file. After
/// SIGUSR1, everything that the kernel enforces stays for the next bmpd.
///
/// # Errors
/// Fails if bmpd cannot start or cannot detach its kernel programs. A failed start leaves nothing
/// behind in the kernel.
pub async fn run(options: DaemonOptions, config: Config, started: Started) -> anyhow::Result<()> {
    // The file of the marks is open to the end: its folder stays the one that the sandbox knows.
    let Started { socket, datapath, inspector, mender, marks: _marks, sandbox, limits } = started;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut hand_over = signal(SignalKind::user_defined1())?;

    // Dropping this value lets tasks return, also if a later step of the start fails.
    let _running = tasks::RunningGuard;
    let (routes, host) = match link::watch().await {
        Ok(watched) => watched,
        Err(error) => {
            datapath.abandon();
            return Err(error).context("cannot watch this host's interfaces over netlink");
        }
    };
    datapath.follow_log();
    match datapath.enforcement() {
        Enforcement::Kernel => info!("egress is enforced and counted by the kernel programs"),
        Enforcement::Cgroup { why } => warn!("egress is enforced by the kernel programs for this cgroup only: {why}"),
        Enforcement::Socket { why } => warn!("egress is not enforced by the kernel, sockets are bound only: {why}"),
    }

    let feed = Feed::default();
    let (pins, steers) = (Pins::new(datapath.clone()).mended_by(mender.clone()), NextHopRoutes::default());
    let sessions = Sessions::default();
    let relays = input::relay::Relays::default();
    let (stop, stopping) = watch::channel(false);
    let (stop_inputs, inputs_stopping) = watch::channel(false);
    let (identity_sender, identity) = watch::channel(identity_of(&config));
    let history = match &options.state {
        Some(folder) => CommitHistory::in_folder(folder),
        None => CommitHistory::beside(&options.config),
    };
    let keys = options.keys.clone();
    secrecy_warnings(&options.config, &config, &keys).iter().for_each(|warning| warn!("{warning}"));
    let store = ConfigStore::new(&options.config, config, limits).with_history(history).with_keys(keys);
    let mut config = store.subscribe();

    let foreign = ForeignSockets::new(pins.clone(), routes.clone(), host.clone(), inspector);
    let pin_task = tasks::forever(
        "pins",
        pin::run(
            pins.clone(),
            steers.clone(),
            match &options.state {
                Some(folder) => SourceChoices::in_folder(folder, store.on_trial()),
                None => SourceChoices::beside(&options.config, store.on_trial()),
            },
            foreign.clone(),
            config.clone(),
            host.clone(),
            routes.clone(),
        ),
    );
    let event_task = tasks::forever("kernel events", follow_events(pins.clone()));
    let tls = TlsProfiles::default();
    let tls_task = tasks::forever("TLS profiles", tls::run(tls.clone(), config.clone()));
    let relay_task = tasks::forever(
        "relays",
        input::relay::run(config.clone(), feed.clone(), relays.clone(), host.clone(), tls.clone()),
    );
    let memory_task = tasks::forever("memory limit", input::memory::run(config.clone(), feed.clone()));
    let replays = input::mrt::Replays::default();
    let replay_task = tasks::forever("replays", input::mrt::run_all(config.clone(), feed.clone(), replays.clone()));
    let bgp_peers = input::bgp::BgpPeers::default();
    let bgp_task = tasks::forever(
        "BGP peers",
        input::bgp::run(config.clone(), feed.clone(), pins.clone(), bgp_peers.clone(), inputs_stopping),
    );
    let mut session_task = tasks::forever(
        "sessions",
        session::run(
            sessions.clone(),
            SessionSurroundings { feed: feed.clone(), pins: pins.clone(), foreign, identity, tls: tls.clone() },
            config.clone(),
            stopping,
        ),
    );
    let context = control::ControlContext {
        store: store.clone(),
        host,
        routes,
        sessions,
        pins,
        feed,
        bgp_peers,
        relays,
        replays,
        tls: tls.clone(),
        http: control::HttpStatus::default(),
        sandbox: Arc::new(sandbox),
    };

    let http_task = tasks::forever("HTTP", http::run(store.subscribe(), context.clone()));
    let described = context.clone();
    let manager = ServiceManager::find(move || described.in_one_sentence())?;
    let is_handed_over = {
        let (settled, served, manager) = (context.pins.clone(), context.clone(), manager.clone());
        let serve = async {
            // Pins that an earlier bmpd left are taken over first, so that the first answer counts
            // their bytes.
            tasks::idle(settled.settled()).await;
            info!("ready, control socket {}", options.control.display());
            manager.ready();
            control::serve(&socket, served).await;
        };
        let mut serving = std::pin::pin!(tasks::needed("control", serve));
        loop {
            select! {
                () = &mut serving => {}
                _ = terminate.recv() => break false,
                _ = interrupt.recv() => break false,
                _ = hand_over.recv() => break true,
                // The store owns the sender and lives as long as this function.
                Ok(()) = config.changed() => {
                    let identity = identity_of(&config.borrow_and_update());
                    identity_sender.send_if_modified(|known| {
                        let differs = *known != identity;
                        *known = identity;
                        differs
                    });
                }
                // A task of its own, because a hanging disk must not delay operators or SIGTERM.
                _ = hangup.recv() => {
                    tls.read_again();
                    tasks::passing("reload", reload(context.clone(), options.config.clone(), manager.clone()));
                }
            }
        }
    };

    info!("closing");
    manager.stopping();
    tasks::must_end_within(ENDING);
    stop.send_replace(true);
    if let Err(error) = (&mut session_task).await {
        error!("the session task failed: {error}");
    }
    // Inputs end after sessions: a station that has received Termination needs no Peer Down.
    stop_inputs.send_replace(true);
    if let Err(error) = bgp_task.await {
        error!("the task of the BGP peers failed: {error}");
    }
    for task in [http_task, tls_task, relay_task, replay_task, memory_task, pin_task, event_task] {
        task.abort();
        // The error only says that the task was aborted.
        let _ = task.await;
    }
    let running = store.running();
    let adopted = running.bmp.sessions.values().any(|session| session.adopt);
    let persist = running.bmp.persist || adopted || is_handed_over;
    if persist {
        let why = match (adopted, is_handed_over) {
            (_, true) => "the next bmpd takes it over",
            (true, false) => "a session is adopted",
            (false, false) => "persist is configured",
        };
        info!("what the kernel enforces stays: {why} (`bmpd detach` removes it)");
    } else {
        steers.end().await;
    }
    let detached = mender.run(move || datapath.detach(persist)).await?;
    detached.context("the kernel programs are left behind (`bmpd detach` removes them)")?;
    info!("closed");
    Ok(())
}

/// Reloads the configuration file and logs the changes and their consequences.
async fn reload(context: control::ControlContext, file: PathBuf, manager: ServiceManager) {
    manager.reloading();
    let before = context.baseline();
    match context.store.reload().await {
        Ok(changed) => {
            context.pins_follow(&context.store.running()).await;
            manager.reloaded(Ok(()));
            if !changed {
                return info!("read {} again: nothing in it changed", file.display());
            }
            info!("read {} again: what it changed is in force", file.display());
        }
        Err(error) => {
            let first = error.to_string().lines().next().unwrap_or_default().to_owned();
            manager.reloaded(Err(first));
            error!("the configuration stays as it was:");
            // Each line is a log line of its own, because the error shows the faulty line of the
            // file.
            return error.to_string().lines().for_each(|line| error!("{line}"));
        }
    }
    context.log_consequences(&before).await;
}

async fn follow_events(pins: Pins) {
    if let Err(error) = pin::follow(pins).await {
        error!("cannot read the connection events of the kernel: {error:#}");
    }
}

/// Returns the identity of this host. sysName is the configured name or the host name; sysDescr
/// names bmpd and the kernel.
fn identity_of(config: &Config) -> DeviceIdentity {
    let kernel = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).map(|text| text.trim().to_owned());
    let unknown = |_| "unknown".to_owned();
    DeviceIdentity {
        note: None,
        sys_name: config.sysname.clone().unwrap_or_else(sys::host_name),
        sys_descr: format!(
            "bmpd {} on Linux {}",
            env!("CARGO_PKG_VERSION"),
            kernel("osrelease").unwrap_or_else(unknown)
        ),
    }
}
