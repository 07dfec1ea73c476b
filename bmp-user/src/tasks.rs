//! Starts every task and every thread of bmpd. A test finds any other place that does.
//!
//! If one task ends, bmpd would look alive and do nothing: `display` still answers. So the whole
//! process ends, with a message and exit status [`STATUS`], and a supervisor starts bmpd again. The
//! pins in the kernel hold meanwhile. The process ends when
//!
//! - any task or thread panics, even a task for a single client. A panic is a fault of the program
//!   and may leave half a change behind;
//! - a task of [`forever`] returns, or a task of [`until`] returns without leave.
//!
//! A task of [`passing`] may return at any time: a connection, a farewell, a timer.
//!
//! A task that may not return must also run. [`liveness`] has the proof, for the watchdog of a
//! service manager and for `/healthz`.
//!
//! These rules hold only after [`watch_over`]. Without it, as in unit tests, a panic ends only its
//! own task.

mod liveness;

use std::{
    future::Future,
    io, panic,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::task::{JoinHandle, JoinSet};

pub(crate) use liveness::{begin_round, hang, idle, unproven, until_woken};

/// Exit status after a fault of bmpd itself (`EX_SOFTWARE` of sysexits.h).
pub const STATUS: i32 = 70;

/// Logs the message of a process that ends at once. Unset in unit tests.
static LAST_WORDS: OnceLock<fn(&str)> = OnceLock::new();
/// True once bmpd is ending: tasks may return.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Ends the process from now on when a needed task ends or anything panics. `last_words` logs why.
pub fn watch_over(last_words: fn(&str)) {
    let _ = LAST_WORDS.set(last_words);
    panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
        let thread = thread::current();
        let thread = thread.name().unwrap_or("no name");
        end_process(&format!("a fault of bmpd (thread {thread}, panic{place}): {what}"));
    }));
}

/// Begins the orderly end, which must be over within `time`.
pub fn must_end_within(time: Duration) {
    ENDING.store(true, Ordering::Release);
    // If this thread cannot start, the end has no deadline.
    let _ = thread("end", move || {
        thread::sleep(time);
        end_process(&format!("bmpd has not ended within {} s", time.as_secs()));
    });
}

/// Marks bmpd as running until it is dropped. Drop it before the values that the tasks need.
#[derive(Debug)]
pub(crate) struct RunningGuard;

impl Drop for RunningGuard {
    fn drop(&mut self) {
        ENDING.store(true, Ordering::Release);
    }
}

fn end_process(why: &str) {
    if let Some(last_words) = LAST_WORDS.get() {
        last_words(&format!("{why}: bmpd ends now, and what the kernel enforces stays"));
    }
    // SAFETY: `_exit` does not return. After a fault, destructors cannot be trusted, so none runs.
    unsafe { libc::_exit(STATUS) };
}

fn ended_unasked(name: &str) {
    if !ENDING.load(Ordering::Acquire) && LAST_WORDS.get().is_some() {
        end_process(&format!("a fault of bmpd: the task `{name}` has ended"));
    }
}

/// Lets a task of [`until`] return, when given or dropped.
#[derive(Debug, Default)]
pub(crate) struct Leave(Arc<AtomicBool>);

impl Leave {
    pub(crate) fn give(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.give();
    }
}

/// Starts a task that must not return while bmpd runs. The caller may abort it.
pub(crate) fn forever(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    passing("", needed(name, task))
}

/// Starts a task that must not return before `leave` is given.
pub(crate) fn until(
    name: &'static str,
    leave: &Leave,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let leave = Arc::clone(&leave.0);
    passing("", async move {
        liveness::watched(name, fault::wrap(name, task)).await;
        if !leave.load(Ordering::Acquire) {
            ended_unasked(name);
        }
    })
}

/// Starts a task that may return at any time.
pub(crate) fn passing(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(fault::wrap(name, task))
}

/// Runs a task, or a part of the calling task, that must not return while bmpd runs. The caller may
/// drop it.
pub(crate) async fn needed(name: &'static str, task: impl Future<Output = ()>) {
    // What others wait for is dropped after the message, which would name them otherwise.
    let mut task = pin!(task);
    liveness::watched(name, fault::wrap(name, task.as_mut())).await;
    ended_unasked(name);
}

/// A set of tasks. Dropping the set aborts them.
#[derive(Debug, Default)]
pub(crate) struct Tasks(JoinSet<()>);

impl Tasks {
    /// Starts a task like [`passing`].
    pub(crate) fn passing(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(fault::wrap(name, task));
    }

    /// Starts a task like [`forever`].
    pub(crate) fn forever(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(needed(name, task));
    }

    /// Waits until a task ends and forgets it. Returns `None` if the set is empty.
    pub(crate) async fn join_next(&mut self) -> Option<()> {
        self.0.join_next().await.map(|_ended| ())
    }

    pub(crate) fn abort_all(&mut self) {
        self.0.abort_all();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Runs blocking work on a thread where it delays no task.
///
/// # Errors
///
/// Fails if the runtime ends before the work does.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Starts a named thread.
///
/// # Errors
///
/// The host has no room for another thread.
pub fn thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Starts a named thread that does `first` before this function returns, and then `work`.
pub(crate) fn thread_after<T: Send + 'static>(
    name: &'static str,
    first: impl FnOnce() + Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    let (done, is_done) = mpsc::channel();
    let started = thread(name, move || {
        first();
        // Whoever started the thread waits.
        let _ = done.send(());
        work()
    })?;
    // An error means a panic of `first`, which ends the process.
    let _ = is_done.recv();
    Ok(started)
}

/// Faults on demand, only in builds with debug assertions. Tests use them to see how the process
/// ends.
#[cfg(debug_assertions)]
pub(crate) mod fault {
    use std::{
        collections::BTreeSet,
        future::{Future, poll_fn},
        pin::pin,
        sync::{
            Arc, Mutex, PoisonError, Weak,
            atomic::{AtomicBool, Ordering},
        },
        task::{Poll, Waker},
    };

    static TASKS: Mutex<Vec<Weak<FaultyTask>>> = Mutex::new(Vec::new());

    struct FaultyTask {
        name: &'static str,
        panics: AtomicBool,
        returns: AtomicBool,
        stops: AtomicBool,
        waker: Mutex<Option<Waker>>,
    }

    /// Carries out `list`, `panic TASK`, `return TASK` or `stop TASK`. Returns the names of all
    /// tasks, one a line.
    pub(crate) fn order(order: &str) -> String {
        let tasks: Vec<_> =
            TASKS.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
        let (what, name) = order.split_once(' ').unwrap_or((order, ""));
        for task in tasks.iter().filter(|task| task.name == name) {
            match what {
                "panic" => task.panics.store(true, Ordering::Release),
                "return" => task.returns.store(true, Ordering::Release),
                "stop" => task.stops.store(true, Ordering::Release),
                _ => {}
            }
            if let Some(waker) = task.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
                waker.wake();
            }
        }
        let names: BTreeSet<_> = tasks.iter().map(|task| task.name).collect();
        names.into_iter().map(|name| format!("{name}\n")).collect()
    }

    /// Runs a task that panics, returns or hangs on demand.
    pub(super) async fn wrap(name: &'static str, task: impl Future<Output = ()>) {
        let watched = Arc::new(FaultyTask {
            name,
            panics: AtomicBool::new(false),
            returns: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            waker: Mutex::default(),
        });
        if !name.is_empty() {
            let mut tasks = TASKS.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.retain(|task| task.strong_count() > 0);
            tasks.push(Arc::downgrade(&watched));
        }
        let mut task = pin!(task);
        poll_fn(move |context| {
            assert!(!watched.panics.load(Ordering::Acquire), "task `{name}` panics on demand");
            if watched.returns.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            if watched.stops.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            let mut waker = watched.waker.lock().unwrap_or_else(PoisonError::into_inner);
            if waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            drop(waker);
            task.as_mut().poll(context)
        })
        .await
    }
}

#[cfg(not(debug_assertions))]
mod fault {
    pub(super) fn wrap<F>(_: &'static str, task: F) -> F {
        task
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Calls that start a task or a thread.
    const SPAWNS: [&str; 6] =
        ["tokio::spawn(", "spawn_blocking(", ".spawn(", "thread::spawn(", "spawn_local(", "JoinSet"];

    fn spawns_in(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("tests") {
                spawns_in(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tasks.rs")
                && !path.ends_with("tests.rs")
            {
                let text = fs::read_to_string(&path).unwrap();
                let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                let lines = product.lines().enumerate();
                let begins = lines.filter(|(_, line)| SPAWNS.iter().any(|begins| line.contains(begins)));
                found.extend(begins.map(|(number, line)| format!("{}:{}: {line}", path.display(), number + 1)));
            }
        }
    }

    #[test]
    fn no_other_file_starts_a_task_or_a_thread() {
        let mut found = Vec::new();
        spawns_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
