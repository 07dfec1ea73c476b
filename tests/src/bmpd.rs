//! bmpd, the program under test, and `bmpctl` for it.

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

use bmp_user::control::read_json;
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use programs::{Built, Program};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    kernel::{self, BpfObjects},
    netns::Netns,
    process::{ChildProgram, answer},
    wait::{PATIENCE, patience, pause_after, until},
};

/// Returns a number of bmpctl's JSON.
///
/// # Panics
/// If `value` is not a number.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// Returns the elements of a JSON array.
///
/// # Panics
/// If `value` is no array.
pub fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(elements) => elements,
        other => panic!("{other} is not an array"),
    }
}

/// Exit status of a bmpd whose configuration file is wrong (`EX_CONFIG` of sysexits.h).
pub const WRONG_CONFIGURATION: i32 = 78;

/// How long bmpd may take for an orderly exit: Termination may take 2 s.
const ORDERLY: Duration = Duration::from_secs(5);

/// Returns a program that cargo built: in `BMPD_BIN_DIR`, or in the target folder of this test.
///
/// # Panics
/// If it is not there.
pub fn built(name: &str) -> Built {
    let folder = std::env::var_os("BMPD_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a process knows its program");
        // target/<profile>/deps/<test>
        test.parent().and_then(Path::parent).expect("a test is in the target folder").to_owned()
    });
    let path = folder.join(name);
    assert!(path.exists(), "there is no {}: build it first (`cargo xtask test` does)", path.display());
    Built::at(path)
}

/// Options for an unusual start of bmpd.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions<'a> {
    /// Additional arguments.
    pub arguments: &'a [&'a str],
    /// Arguments of setpriv(1), which then starts bmpd. Empty for a direct start.
    pub through: &'a [&'a str],
}

/// A configuration file in its own temporary folder, and the commands that use it.
#[derive(Debug)]
pub struct BmpdSetup {
    netns: Netns,
    folder: TempDir,
    control: PathBuf,
    bpffs: BpffsFolder,
}

/// The folder in the BPF file system for one configuration. Dropping it removes the pins of a
/// killed bmpd.
#[derive(Debug)]
struct BpffsFolder(PathBuf);

impl BpffsFolder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("/sys/fs/bpf/bmpd-lab-{}-{number}", std::process::id()).into())
    }
}

impl Drop for BpffsFolder {
    fn drop(&mut self) {
        if self.0.exists() {
            // If this fails, a bmpd is still running, and its test reports that.
            let _ = detach(built("bmpd").command(), &self.0).output();
        }
    }
}

/// Completes `command` to `bmpd detach` for a folder.
fn detach(mut command: Command, bpffs: &Path) -> Command {
    command.arg("detach").arg("--bpffs").arg(bpffs).env("NO_COLOR", "1");
    command
}

impl BmpdSetup {
    /// Writes `configuration` to a file.
    pub fn new(netns: &Netns, configuration: impl AsRef<[u8]>) -> Self {
        let folder = TempDir::with_prefix("lab-bmpd-").expect("a temporary folder can be made");
        let control = folder.path().join("bmpd.sock");
        let setup = Self { netns: netns.clone(), folder, control, bpffs: BpffsFolder::new() };
        std::fs::write(setup.file(), configuration).expect("a temporary file can be written");
        setup
    }

    /// Returns the path of the configuration file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("bmpd.conf")
    }

    /// Moves the control socket to `path`.
    #[must_use]
    pub fn with_control(self, path: impl Into<PathBuf>) -> Self {
        Self { control: path.into(), ..self }
    }

    /// Returns the path of the control socket.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// Returns the folder in the BPF file system.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs.0
    }

    /// Runs `bmpd detach` for that folder, on the host of bmpd.
    pub fn detach(&self) -> Output {
        detach(self.netns.command(built("bmpd")), self.bpffs()).output().expect("bmpd can be started")
    }

    /// Lists the files in the folder, without the configuration file.
    pub fn left_behind(&self) -> Vec<OsString> {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder is there");
        entries.flatten().map(|entry| entry.file_name()).filter(|name| name != "bmpd.conf").collect()
    }

    /// Returns the command that runs bmpd with this configuration.
    pub fn command(&self, options: &StartOptions<'_>) -> Command {
        let bmpd = built("bmpd");
        let mut command = if options.through.is_empty() {
            self.netns.command(bmpd)
        } else {
            let mut command = self.netns.command(Program::Setpriv);
            command.args(options.through).arg(bmpd);
            command
        };
        command.arg("--config").arg(self.file()).arg("--control").arg(self.control());
        command.arg("--bpffs").arg(self.bpffs()).args(options.arguments);
        // bmpd attaches only to a cgroup that it is in.
        if let Some(at) = options.arguments.iter().position(|argument| *argument == "--cgroup") {
            kernel::start_in(&mut command, options.arguments[at + 1]);
        }
        // Tests compare log lines with plain text.
        command.env("NO_COLOR", "1").env_remove("RUST_LOG");
        command
    }

    /// Runs `bmpd check` on the file.
    pub fn check(&self) -> Output {
        self.bmpd().arg("check").arg("--config").arg(self.file()).output().expect("bmpd can be started")
    }

    /// Returns a command that runs bmpd without arguments.
    pub fn bmpd(&self) -> Command {
        self.netns.command(built("bmpd"))
    }

    /// Returns a bmpctl command for the bmpd of this setup.
    pub fn bmpctl(&self, words: &str) -> Command {
        let mut command = self.netns.command(built("bmpctl"));
        command.arg("--control").arg(self.control()).args(words.split_whitespace());
        command
    }

    /// Runs a bmpd that exits by itself, for example because of a wrong configuration.
    ///
    /// # Panics
    /// If it does not exit within [`PATIENCE`].
    pub fn run(&self, options: &StartOptions<'_>) -> ExitReport {
        let mut process = ChildProgram::start(&mut self.command(options));
        let status = process.wait();
        ExitReport { code: status.code(), lines: process.lines() }
    }
}

/// Exit code and output of a program that has ended.
#[derive(Clone, Debug)]
pub struct ExitReport {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Lines of stdout and stderr.
    pub lines: Vec<String>,
}

/// A running bmpd. Dropping it sends SIGTERM, and SIGKILL if that is not enough.
#[derive(Debug)]
pub struct Bmpd {
    process: ChildProgram,
    setup: BmpdSetup,
}

impl Bmpd {
    /// Starts bmpd in `netns` and waits until it answers on its control socket.
    pub fn start(netns: &Netns, configuration: &str) -> Self {
        Self::start_with(netns, configuration, &StartOptions::default())
    }

    /// Starts bmpd with options, and waits until it answers.
    pub fn start_with(netns: &Netns, configuration: &str, options: &StartOptions<'_>) -> Self {
        Self::start_in(BmpdSetup::new(netns, configuration), options)
    }

    /// Starts bmpd with an existing setup, and waits until it answers.
    pub fn start_in(setup: BmpdSetup, options: &StartOptions<'_>) -> Self {
        let bmpd = Self::start_without_request(setup, options);
        // While bmpd loads its programs, connections wait in the queue of the socket. On an
        // emulated processor that can outlast bmpctl's timeout, so ask again.
        until("bmpd answers", PATIENCE, || {
            bmpd.try_display("display current-configuration").status.success().then_some(())
        });
        bmpd
    }

    /// Starts bmpd and waits for its control socket, without a request.
    pub fn start_without_request(setup: BmpdSetup, options: &StartOptions<'_>) -> Self {
        let mut command = setup.command(options);
        Self::start_by(setup, &mut command)
    }

    /// Starts bmpd with at most `most` descriptors. bmpd cannot raise this limit;
    /// [`Self::allow_descriptors`] can.
    pub fn start_with_descriptors(netns: &Netns, configuration: &str, most: u64) -> Self {
        let setup = BmpdSetup::new(netns, configuration);
        let mut command = setup.command(&StartOptions::default());
        let limit = move || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            setrlimit(Resource::RLIMIT_NOFILE, most, hard)?;
            refuse_limits()
        };
        // SAFETY: only three system calls run between fork and exec.
        unsafe { command.pre_exec(limit) };
        Self::start_by(setup, &mut command)
    }

    /// Changes bmpd's limit of descriptors (prlimit(2)).
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn allow_descriptors(&self, most: u64) {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a process knows its limits");
        let limit = libc::rlimit { rlim_cur: most, rlim_max: hard };
        let pid = libc::pid_t::try_from(self.pid()).expect("a process id fits");
        // SAFETY: the kernel reads one `rlimit` and writes nothing.
        let refused = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
        assert_eq!(refused, 0, "prlimit: {}", std::io::Error::last_os_error());
    }

    /// Starts bmpd with a command from [`BmpdSetup::command`].
    pub fn start_by(setup: BmpdSetup, command: &mut Command) -> Self {
        let mut process = ChildProgram::start(command);
        until("bmpd's control socket answers", PATIENCE, || {
            if let Some(status) = process.ended() {
                process.wait();
                let configuration = std::fs::read_to_string(setup.file()).unwrap_or_default();
                let lines = process.lines().join("\n");
                panic!("bmpd ended with {status} and printed:\n{lines}\nits configuration was:\n{configuration}");
            }
            UnixStream::connect(setup.control()).ok()
        });
        Self { process, setup }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns its configuration file and folder.
    pub fn setup(&self) -> &BmpdSetup {
        &self.setup
    }

    /// Writes a new configuration, sends SIGHUP, and waits until bmpd has read the file.
    pub fn reload(&self, configuration: &str) {
        let known = self.log().len();
        std::fs::write(self.setup.file(), configuration).expect("a temporary file can be written");
        self.process.signal(Signal::SIGHUP);
        self.process.wait_for_line("bmpd reads its file again", known, PATIENCE, |line| line.contains("again"));
    }

    /// Returns all log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Waits for a log line that satisfies `wanted`, from the start of the log on, and returns it.
    pub fn wait_for_log(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.process.wait_for_line(what, 0, PATIENCE, wanted)
    }

    /// Returns the BPF programs, maps and links that bmpd holds.
    pub fn objects(&self) -> BpfObjects {
        BpfObjects::of(self.pid())
    }

    /// Returns a bmpctl command for this bmpd, for example `display bmp session`.
    pub fn bmpctl(&self, words: &str) -> Command {
        self.setup.bmpctl(words)
    }

    /// Returns the output of a bmpctl command.
    ///
    /// # Panics
    /// If the command fails.
    pub fn display(&self, words: &str) -> String {
        answer(&mut self.bmpctl(words))
    }

    /// Returns the data in the JSON of the display command `words`.
    ///
    /// # Panics
    /// If bmpctl fails or prints no answer in JSON.
    pub fn display_json(&self, words: &str) -> Value {
        let text = self.display(&format!("{words} --json"));
        read_json(&text).unwrap_or_else(|e| panic!("{words} --json did not print an answer ({e:#}):\n{text}"))
    }

    /// Returns output and exit status of a bmpctl command, which may fail.
    pub fn try_display(&self, words: &str) -> Output {
        self.bmpctl(words).output().expect("bmpctl can be started")
    }

    /// Returns all sessions from `display bmp session --json`.
    pub fn sessions(&self) -> Vec<Value> {
        array(self.display_json("display bmp session"))
    }

    /// Returns the first entry of `display interface-binding --json`.
    pub fn first_binding(&self) -> Value {
        self.display_json("display interface-binding")[0].take()
    }

    /// Returns the session to `station`.
    ///
    /// # Panics
    /// If there is no such session.
    pub fn session(&self, station: IpAddr) -> Value {
        let sessions = self.sessions();
        find(&sessions, station).unwrap_or_else(|| panic!("no session to {station} among {sessions:#?}")).clone()
    }

    /// Waits until the session to `station` satisfies `wanted`, and returns it.
    pub fn wait_session(&self, station: IpAddr, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_session_for(station, what, PATIENCE, wanted)
    }

    /// Waits like [`Self::wait_session`], for as long as `usual` says.
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
            let begin = Instant::now();
            let sessions = self.sessions();
            if let Some(session) = find(&sessions, station).filter(|session| wanted(session)) {
                return session.clone();
            }
            assert!(
                Instant::now() < deadline,
                "the session to {station} is not {what} within {patience:?}; the sessions are\n{sessions:#?}"
            );
            // A state change logs a line, which ends this wait. A counter changes silently.
            self.process.wait_for_more(known, pause_after(begin.elapsed()).max(Duration::from_millis(50)));
        }
    }

    /// Feeds lines to `bmpctl -f -`. Returns true if bmpctl took them all, and its output.
    pub fn typed(&self, lines: &str) -> (bool, String) {
        let mut bmpctl = self.bmpctl("-f -");
        bmpctl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut bmpctl = bmpctl.spawn().expect("bmpctl can be started");
        bmpctl.stdin.take().expect("stdin is piped").write_all(lines.as_bytes()).expect("bmpctl reads");
        let output = bmpctl.wait_with_output().expect("bmpctl ends");
        let answer = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.success(), answer)
    }

    /// Commits these lines in the system view. Returns the answer.
    ///
    /// # Panics
    /// If a line is refused.
    pub fn commit_lines(&self, lines: &str) -> String {
        let (accepted, answer) = self.typed(&format!("system-view\n{lines}\ncommit\n"));
        assert!(accepted, "{answer}");
        answer
    }

    /// Commits these lines in the view of the session to `station`. Returns the answer.
    ///
    /// # Panics
    /// If a line is refused.
    pub fn commit(&self, station: IpAddr, lines: &str) -> String {
        self.commit_lines(&format!("bmp\nbmp-session {station}\n{lines}"))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Runs `meanwhile` while bmpd is stopped (SIGSTOP).
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

    /// Waits until the session to `station` is down with `reason`.
    pub fn wait_down(&self, station: IpAddr, reason: &str) -> Value {
        self.wait_session(station, &format!("down, {reason}"), |session| {
            session["state"] == "down" && session["reason"] == reason
        })
    }

    /// Sends SIGTERM and waits for an orderly exit. Returns the setup, whose folder shows remaining
    /// files.
    ///
    /// # Panics
    /// If the exit code is not 0.
    pub fn terminate(mut self) -> BmpdSetup {
        let status = self.process.terminate();
        assert_eq!(status.code(), Some(0), "bmpd ended with {status}:\n{}", self.process.lines().join("\n"));
        self.into_setup()
    }

    /// Sends SIGTERM and waits for an orderly exit. Returns all log lines.
    ///
    /// # Panics
    /// If the exit code is not 0.
    pub fn terminate_and_read(mut self) -> Vec<String> {
        let status = self.process.terminate();
        assert_eq!(status.code(), Some(0), "bmpd ended with {status}:\n{}", self.process.lines().join("\n"));
        self.process.lines()
    }

    /// Waits until bmpd exits by itself. Returns its exit code, its output and its setup.
    ///
    /// # Panics
    /// If bmpd does not exit.
    pub fn wait_end(mut self) -> (ExitReport, BmpdSetup) {
        let status = self.process.wait();
        (ExitReport { code: status.code(), lines: self.process.lines() }, self.into_setup())
    }

    /// Makes a task of bmpd panic (`panic TASK`), return (`return TASK`) or hang (`stop TASK`);
    /// `list` does nothing. Returns the names of all tasks.
    ///
    /// `attempt WHAT` tries what an intruder would, and returns what came of it.
    ///
    /// Returns `None` for a bmpd without debug assertions, which has no such faults.
    pub fn fault(&self, order: &str) -> Option<Vec<String>> {
        let mut stream = UnixStream::connect(self.setup.control()).expect("bmpd serves its control socket");
        stream.write_all(format!("fault {order}\n").as_bytes()).expect("bmpd reads");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
        let mut answer = String::new();
        // bmpd may exit before its answer is complete.
        let mut stream = BufReader::new(stream);
        let _ = stream.read_line(&mut answer);
        if ["panic ", "return "].iter().any(|fault| order.starts_with(fault)) {
            // The fault may end the very task that serves this request.
            let _ = stream.read_to_end(&mut Vec::new());
        }
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let names = answer["refused"].as_str().unwrap_or_default();
        (!names.starts_with("not a request")).then(|| names.lines().map(str::to_owned).collect())
    }

    /// Sends SIGKILL, as in a crash. Returns the setup with all remaining files.
    pub fn crash(mut self) -> BmpdSetup {
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
        self.into_setup()
    }

    /// Returns the setup of a bmpd that has ended. `self` keeps an empty setup, which it removes.
    fn into_setup(mut self) -> BmpdSetup {
        let netns = self.setup.netns.clone();
        std::mem::replace(&mut self.setup, BmpdSetup::new(&netns, ""))
    }
}

/// Makes the kernel refuse prlimit64(2) to this process and its children. A seccomp(2) filter loads
/// the number of the system call and returns EPERM for that one.
fn refuse_limits() -> std::io::Result<()> {
    let code = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = [
        code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_prlimit64 as u32, 1),
        code(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0),
        code(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel reads the filter, which lives through the call.
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
