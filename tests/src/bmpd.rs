//! The program under test.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    net::IpAddr,
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use programs::{Built, Program};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    kernel::{self, Objects},
    netns::Netns,
    process::{Process, answer},
    wait::{PATIENCE, patience, until},
};

/// A number in bmpctl's JSON.
///
/// # Panics
/// If it is not one.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// How long bmpd has for an orderly end: Termination may take 2 s.
const ORDERLY: Duration = Duration::from_secs(5);

/// The folder of the programs that cargo built: `BMPD_BIN_DIR`, or the target folder that this test is in.
fn program(name: &str) -> Built {
    let folder = std::env::var_os("BMPD_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a process knows its program");
        // target/<profile>/deps/<test>
        test.parent().and_then(Path::parent).expect("a test is in the target folder").to_owned()
    });
    let path = folder.join(name);
    assert!(path.exists(), "there is no {}: build it first (`cargo xtask test` does)", path.display());
    Built::at(path)
}

/// How to start bmpd, where it is not the usual way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Further arguments.
    pub arguments: &'a [&'a str],
    /// Arguments of setpriv(1), which then starts bmpd; none where bmpd is started directly.
    pub through: &'a [&'a str],
}

/// A configuration file in a folder of its own, and the command lines that go with it.
#[derive(Debug)]
pub struct Setup {
    netns: Netns,
    folder: TempDir,
    control: PathBuf,
    bpffs: Bpffs,
}

/// The folder of the BPF file system that the bmpd of one configuration has. Dropped, it and all that a killed bmpd left in it is removed.
#[derive(Debug)]
struct Bpffs(PathBuf);

impl Bpffs {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("/sys/fs/bpf/bmpd-lab-{}-{number}", std::process::id()).into())
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if self.0.exists() {
            // Where it fails, the bmpd that did not end is what the test has to tell of.
            let _ = detach(program("bmpd").command(), &self.0).output();
        }
    }
}

/// `bmpd detach` for a folder.
fn detach(mut command: Command, bpffs: &Path) -> Command {
    command.arg("detach").arg("--bpffs").arg(bpffs).env("NO_COLOR", "1");
    command
}

impl Setup {
    /// Writes `configuration` to a file.
    pub fn new(netns: &Netns, configuration: impl AsRef<[u8]>) -> Self {
        let folder = TempDir::with_prefix("lab-bmpd-").expect("a temporary folder can be made");
        let control = folder.path().join("bmpd.sock");
        let setup = Self { netns: netns.clone(), folder, control, bpffs: Bpffs::new() };
        std::fs::write(setup.file(), configuration).expect("a temporary file can be written");
        setup
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("bmpd.conf")
    }

    /// The same with the control socket somewhere else.
    #[must_use]
    pub fn with_control(self, path: impl Into<PathBuf>) -> Self {
        Self { control: path.into(), ..self }
    }

    /// The control socket.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// The folder of the BPF file system.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs.0
    }

    /// Runs `bmpd detach` for that folder, on the host where bmpd ran.
    pub fn detach(&self) -> Output {
        detach(self.netns.command(program("bmpd")), self.bpffs()).output().expect("bmpd can be started")
    }

    /// What is in the folder besides the configuration file.
    pub fn left_behind(&self) -> Vec<OsString> {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder is there");
        entries.flatten().map(|entry| entry.file_name()).filter(|name| name != "bmpd.conf").collect()
    }

    /// The command that runs bmpd with this configuration.
    pub fn command(&self, options: &Options<'_>) -> Command {
        let bmpd = program("bmpd");
        let mut command = if options.through.is_empty() {
            self.netns.command(bmpd)
        } else {
            let mut command = self.netns.command(Program::Setpriv);
            command.args(options.through).arg(bmpd);
            command
        };
        command.arg("--config").arg(self.file()).arg("--control").arg(self.control());
        command.arg("--bpffs").arg(self.bpffs()).args(options.arguments);
        // It attaches to no cgroup that it is not in.
        if let Some(at) = options.arguments.iter().position(|argument| *argument == "--cgroup") {
            kernel::start_in(&mut command, options.arguments[at + 1]);
        }
        // Logs are compared with words, not with colours.
        command.env("NO_COLOR", "1").env_remove("RUST_LOG");
        command
    }

    /// Runs `bmpd check` on the file.
    pub fn check(&self) -> Output {
        self.bmpd().arg("check").arg("--config").arg(self.file()).output().expect("bmpd can be started")
    }

    /// bmpd without arguments.
    pub fn bmpd(&self) -> Command {
        self.netns.command(program("bmpd"))
    }

    /// A bmpctl command line for the bmpd that is started so.
    pub fn bmpctl(&self, words: &str) -> Command {
        let mut command = self.netns.command(program("bmpctl"));
        command.arg("--control").arg(self.control()).args(words.split_whitespace());
        command
    }

    /// Runs a bmpd that ends by itself, as it does when its configuration is wrong.
    ///
    /// # Panics
    /// If it does not end within [`PATIENCE`].
    pub fn run(&self, options: &Options<'_>) -> Ended {
        let mut process = Process::start(&mut self.command(options));
        let status = process.wait();
        Ended { code: status.code(), lines: process.lines() }
    }
}

/// How a program ended and what it had said, on both outputs.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Its lines.
    pub lines: Vec<String>,
}

/// A running bmpd. Dropped, it is terminated, and killed if that does not help.
#[derive(Debug)]
pub struct Bmpd {
    process: Process,
    setup: Setup,
}

impl Bmpd {
    /// Starts bmpd in `netns`; it has answered over its control socket when this returns.
    pub fn start(netns: &Netns, configuration: &str) -> Self {
        Self::start_with(netns, configuration, &Options::default())
    }

    /// The same, in another way than the usual.
    pub fn start_with(netns: &Netns, configuration: &str, options: &Options<'_>) -> Self {
        Self::start_in(Setup::new(netns, configuration), options)
    }

    /// Starts bmpd once more with a configuration that is there.
    pub fn start_in(setup: Setup, options: &Options<'_>) -> Self {
        let bmpd = Self::start_unasked(setup, options);
        // A connection waits in the socket's queue while bmpd loads its programs; an answer comes when it runs. bmpctl's own patience may
        // be too short for that on an emulated processor.
        until("bmpd answers", PATIENCE, || {
            bmpd.try_display("display current-configuration").status.success().then_some(())
        });
        bmpd
    }

    /// The same, and has asked it nothing when this returns: its control socket is there.
    pub fn start_unasked(setup: Setup, options: &Options<'_>) -> Self {
        let mut command = setup.command(options);
        Self::start_by(setup, &mut command)
    }

    /// Starts bmpd with so few descriptors, and without the means to ask for more. It has more when [`Self::allow_descriptors`] says so.
    pub fn start_with_descriptors(netns: &Netns, configuration: &str, most: u64) -> Self {
        let setup = Setup::new(netns, configuration);
        let mut command = setup.command(&Options::default());
        let limit = move || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            setrlimit(Resource::RLIMIT_NOFILE, most, hard)?;
            refuse_limits()
        };
        // SAFETY: between fork and exec three system calls are made.
        unsafe { command.pre_exec(limit) };
        Self::start_by(setup, &mut command)
    }

    /// Changes how many descriptors it may have (prlimit(2)).
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn allow_descriptors(&self, most: u64) {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a process knows its limits");
        let limit = libc::rlimit { rlim_cur: most, rlim_max: hard };
        let pid = libc::pid_t::try_from(self.pid()).expect("a process id fits");
        // SAFETY: the kernel reads one `rlimit`.
        let refused = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
        assert_eq!(refused, 0, "prlimit: {}", std::io::Error::last_os_error());
    }

    /// Starts bmpd by a command that [`Setup::command`] made.
    pub fn start_by(setup: Setup, command: &mut Command) -> Self {
        let mut process = Process::start(command);
        until("bmpd's control socket answers", PATIENCE, || {
            if let Some(status) = process.ended() {
                process.wait();
                let configuration = std::fs::read_to_string(setup.file()).unwrap_or_default();
                let lines = process.lines().join("\n");
                panic!("bmpd ended, {status}, with:\n{lines}\nits configuration was:\n{configuration}");
            }
            UnixStream::connect(setup.control()).ok()
        });
        Self { process, setup }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its configuration file and folder.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Writes another configuration to its file and has it read: SIGHUP. Returns when bmpd has read it.
    pub fn reload(&self, configuration: &str) {
        let known = self.log().len();
        std::fs::write(self.setup.file(), configuration).expect("a temporary file can be written");
        self.process.signal(Signal::SIGHUP);
        self.process.wait_for_line("bmpd reads its file again", known, PATIENCE, |line| line.contains("again"));
    }

    /// What it has logged until now.
    pub fn log(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Waits for a line of its log that satisfies `wanted`, however old, and returns it.
    pub fn wait_for_log(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.process.wait_for_line(what, 0, PATIENCE, wanted)
    }

    /// The BPF programs, tables and links that it holds.
    pub fn objects(&self) -> Objects {
        Objects::of(self.pid())
    }

    /// A bmpctl command line for it, for example `display bmp session`.
    pub fn bmpctl(&self, words: &str) -> Command {
        self.setup.bmpctl(words)
    }

    /// What a bmpctl command answers.
    ///
    /// # Panics
    /// If it fails.
    pub fn display(&self, words: &str) -> String {
        answer(&mut self.bmpctl(words))
    }

    /// How a bmpctl command ends, whichever way.
    pub fn try_display(&self, words: &str) -> Output {
        self.bmpctl(words).output().expect("bmpctl can be started")
    }

    /// All sessions, as `display bmp session --json` gives them.
    pub fn sessions(&self) -> Vec<Value> {
        let text = self.display("display bmp session --json");
        serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("bmpctl --json printed what is no JSON array ({e}):\n{text}"))
    }

    /// The session to `station`.
    ///
    /// # Panics
    /// If there is none.
    pub fn session(&self, station: IpAddr) -> Value {
        let sessions = self.sessions();
        find(&sessions, station).unwrap_or_else(|| panic!("no session to {station} among {sessions:#?}")).clone()
    }

    /// Waits until the session to `station` satisfies `wanted`, and returns it.
    pub fn wait_session(&self, station: IpAddr, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_session_for(station, what, PATIENCE, wanted)
    }

    /// The same with a patience of its own.
    pub fn wait_session_for(
        &self,
        station: IpAddr,
        what: &str,
        usual: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let patience = patience(usual);
        let deadline = Instant::now() + patience;
        loop {
            let known = self.process.lines().len();
            let sessions = self.sessions();
            if let Some(session) = find(&sessions, station).filter(|session| wanted(session)) {
                return session.clone();
            }
            assert!(
                Instant::now() < deadline,
                "the session to {station} is not {what} within {patience:?}; the sessions are\n{sessions:#?}"
            );
            // A change of state is a line of the log; counters change without one.
            self.process.wait_for_more(known, Duration::from_millis(50));
        }
    }

    /// Feeds `bmpctl -f -` with these lines; what it prints, and whether it took them all.
    pub fn typed(&self, lines: &str) -> (bool, String) {
        let mut bmpctl = self.bmpctl("-f -");
        bmpctl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut bmpctl = bmpctl.spawn().expect("bmpctl can be started");
        bmpctl.stdin.take().expect("it is piped").write_all(lines.as_bytes()).expect("bmpctl reads");
        let output = bmpctl.wait_with_output().expect("bmpctl ends");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.success(), said)
    }

    /// Commits these lines of the view of the session to `station`.
    ///
    /// # Panics
    /// If one is not taken.
    pub fn commit(&self, station: IpAddr, lines: &str) {
        let (taken, said) = self.typed(&format!("system-view\nbmp\nbmp-session {station}\n{lines}\ncommit\n"));
        assert!(taken, "{said}");
    }

    /// Does this while bmpd cannot run (SIGSTOP).
    pub fn halted<R>(&self, meanwhile: impl FnOnce() -> R) -> R {
        self.process.signal(Signal::SIGSTOP);
        let result = meanwhile();
        self.process.signal(Signal::SIGCONT);
        result
    }

    /// Waits until the session to `station` is up.
    pub fn wait_up(&self, station: IpAddr) -> Value {
        self.wait_session(station, "up", |session| session["state"] == "up")
    }

    /// Waits until the session to `station` is down for `reason`.
    pub fn wait_down(&self, station: IpAddr, reason: &str) -> Value {
        self.wait_session(station, &format!("down, {reason}"), |session| {
            session["state"] == "down" && session["reason"] == reason
        })
    }

    /// SIGTERM; its end must be an orderly one. Returns its folder, to see what is left in it.
    ///
    /// # Panics
    /// If its exit code is not 0.
    pub fn terminate(mut self) -> Setup {
        let status = self.process.terminate();
        assert_eq!(status.code(), Some(0), "bmpd ended with {status}:\n{}", self.process.lines().join("\n"));
        self.into_setup()
    }

    /// SIGTERM; its end must be an orderly one. Returns all that it has logged.
    ///
    /// # Panics
    /// If its exit code is not 0.
    pub fn terminate_and_read(mut self) -> Vec<String> {
        let status = self.process.terminate();
        assert_eq!(status.code(), Some(0), "bmpd ended with {status}:\n{}", self.process.lines().join("\n"));
        self.process.lines()
    }

    /// Waits until it ends by itself. Returns how, and its folder with all that is in it.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_end(mut self) -> (Ended, Setup) {
        let status = self.process.wait();
        (Ended { code: status.code(), lines: self.process.lines() }, self.into_setup())
    }

    /// Has a task of bmpd panic or return, as `panic TASK` or `return TASK` (`list` does nothing). Returns the tasks that there are; `None` where
    /// bmpd was built without debug assertions, and has no such faults.
    pub fn fault(&self, order: &str) -> Option<Vec<String>> {
        let mut stream = UnixStream::connect(self.setup.control()).expect("bmpd serves its control socket");
        stream.write_all(format!("fault {order}\n").as_bytes()).expect("bmpd reads");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
        let mut answer = String::new();
        // A bmpd that ends for it may do so before it has answered.
        let mut stream = BufReader::new(stream);
        let _ = stream.read_line(&mut answer);
        if order != "list" {
            // The task that serves this may be the one.
            let _ = stream.read_to_end(&mut Vec::new());
        }
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let names = answer["refused"].as_str().unwrap_or_default();
        (!names.starts_with("not a request")).then(|| names.lines().map(str::to_owned).collect())
    }

    /// SIGKILL, as a crash would end it. Returns its folder with all that is in it.
    pub fn crash(mut self) -> Setup {
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
        self.into_setup()
    }

    /// The folder of a bmpd that has ended; `self` keeps an empty one, which it removes.
    fn into_setup(mut self) -> Setup {
        let netns = self.setup.netns.clone();
        std::mem::replace(&mut self.setup, Setup::new(&netns, ""))
    }
}

/// Has the kernel refuse this process and its children prlimit64(2), by a filter of seccomp(2): load the number of the system call; if it is that
/// one, EPERM.
fn refuse_limits() -> std::io::Result<()> {
    let code = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = [
        code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_prlimit64 as u32, 1),
        code(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0),
        code(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel reads the program, which lives through the call.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn find(sessions: &[Value], station: IpAddr) -> Option<&Value> {
    sessions.iter().find(|session| session["station"] == station.to_string())
}

impl Drop for Bmpd {
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.process.signal(Signal::SIGTERM);
            let deadline = Instant::now() + patience(ORDERLY);
            while self.process.ended().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
