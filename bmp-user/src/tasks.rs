//! Where every task and every thread of bmpd begins: nothing else spawns one, which a test sees to.
//!
//! A task that is no more leaves a bmpd that looks alive: `display` goes on, and nothing happens. So the process ends instead, with a
//! message and [`STATUS`], and a supervisor starts it again under the pins that stay in the kernel. It ends when
//!
//! - anything panics, in whatever task or thread, also one for a single client: a panic is a fault of the program, it may have left
//!   half a change behind, and what the stations are told must be exact;
//! - a task of [`forever`] returns, or one of [`until`] before it was asked to.
//!
//! A task of [`passing`] may return: a connection, a farewell, a timer.
//!
//! Only [`watch_over`] makes it so. Without it, as in unit tests, a panic is the panic of its task.

use std::{
    future::Future,
    io, panic,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::task::{JoinHandle, JoinSet};

use crate::log;

/// Exit status of a bmpd that ended because of a fault of its own (`EX_SOFTWARE` of sysexits.h).
pub const STATUS: i32 = 70;

/// What is done when bmpd cannot go on.
static END: OnceLock<fn(&str)> = OnceLock::new();
/// Whether bmpd is ending: tasks may return.
static ENDING: AtomicBool = AtomicBool::new(false);

/// From now on the process ends when a task ends that is needed, or anything panics.
pub fn watch_over() {
    let _ = END.set(end_process);
    panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
        let thread = thread::current();
        let thread = thread.name().unwrap_or("no name");
        end_process(&format!("a fault of bmpd (thread {thread}, panic{place}): {what}"));
    }));
}

/// Orderly ending has begun, and must be over within `time`.
pub fn must_end_within(time: Duration) {
    ENDING.store(true, Ordering::Release);
    // Without a thread the ending is not hurried.
    let _ = thread("end", move || {
        thread::sleep(time);
        end_process(&format!("bmpd has not ended within {} s", time.as_secs()));
    });
}

/// As long as this is there, bmpd is not ending. What the tasks need is to be dropped after it.
#[derive(Debug)]
pub(crate) struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        ENDING.store(true, Ordering::Release);
    }
}

fn end_process(why: &str) {
    log::last_words(&format!("{why}: bmpd ends now, and what the kernel enforces stays"));
    // SAFETY: it does not return. Nothing is to be tidied up by a program that does not know what it has done.
    unsafe { libc::_exit(STATUS) };
}

fn ended_unasked(name: &str) {
    if !ENDING.load(Ordering::Acquire)
        && let Some(end) = END.get()
    {
        end(&format!("a fault of bmpd: the task `{name}` has ended"));
    }
}

/// Says that a task of [`until`] may return. Dropped, it says so too.
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

/// Starts a task that never returns as long as bmpd runs. It may be aborted.
pub(crate) fn forever(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    passing("", needed(name, task))
}

/// Starts a task that does not return before it has leave to.
pub(crate) fn until(
    name: &'static str,
    leave: &Leave,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let leave = Arc::clone(&leave.0);
    passing("", async move {
        fault::of(name, task).await;
        if !leave.load(Ordering::Acquire) {
            ended_unasked(name);
        }
    })
}

/// Starts a task that may return at any time.
pub(crate) fn passing(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(fault::of(name, task))
}

async fn needed(name: &'static str, task: impl Future<Output = ()>) {
    fault::of(name, task).await;
    ended_unasked(name);
}

/// Tasks that end with this.
#[derive(Debug, Default)]
pub(crate) struct Tasks(JoinSet<()>);

impl Tasks {
    /// Starts one as [`passing`] does.
    pub(crate) fn passing(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(fault::of(name, task));
    }

    /// Starts one as [`forever`] does.
    pub(crate) fn forever(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(needed(name, task));
    }

    /// Waits until one ends, and forgets it; `None` if there are none.
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

/// Does what blocks, where that holds nobody up.
///
/// # Errors
///
/// The runtime ends meanwhile.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Starts a thread.
pub(crate) fn thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Faults on demand, in builds with debug assertions alone: a test asks for one to see what becomes of the process.
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

    static TASKS: Mutex<Vec<Weak<Watched>>> = Mutex::new(Vec::new());

    struct Watched {
        name: &'static str,
        panics: AtomicBool,
        returns: AtomicBool,
        waker: Mutex<Option<Waker>>,
    }

    /// Carries out `list`, `panic TASK` or `return TASK`; what there is to say.
    pub(crate) fn order(order: &str) -> String {
        let tasks: Vec<_> =
            TASKS.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
        let (what, name) = order.split_once(' ').unwrap_or((order, ""));
        for task in tasks.iter().filter(|task| task.name == name) {
            match what {
                "panic" => task.panics.store(true, Ordering::Release),
                "return" => task.returns.store(true, Ordering::Release),
                _ => {}
            }
            if let Some(waker) = task.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
                waker.wake();
            }
        }
        let names: BTreeSet<_> = tasks.iter().map(|task| task.name).collect();
        names.into_iter().map(|name| format!("{name}\n")).collect()
    }

    /// The task, with the faults that are asked for.
    pub(super) async fn of(name: &'static str, task: impl Future<Output = ()>) {
        let watched = Arc::new(Watched {
            name,
            panics: AtomicBool::new(false),
            returns: AtomicBool::new(false),
            waker: Mutex::default(),
        });
        if !name.is_empty() {
            let mut tasks = TASKS.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.retain(|task| task.strong_count() > 0);
            tasks.push(Arc::downgrade(&watched));
        }
        let mut task = pin!(task);
        poll_fn(move |context| {
            assert!(!watched.panics.load(Ordering::Acquire), "task `{name}` panics because it was told to");
            if watched.returns.load(Ordering::Acquire) {
                return Poll::Ready(());
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
    pub(super) fn of<F>(_: &'static str, task: F) -> F {
        task
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// What begins a task or a thread.
    const BEGINNINGS: [&str; 6] =
        ["tokio::spawn(", "spawn_blocking(", ".spawn(", "thread::spawn(", "spawn_local(", "JoinSet"];

    fn beginnings_in(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("tests") {
                beginnings_in(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tasks.rs")
                && !path.ends_with("tests.rs")
            {
                let text = fs::read_to_string(&path).unwrap();
                let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                let lines = product.lines().enumerate();
                let begins = lines.filter(|(_, line)| BEGINNINGS.iter().any(|begins| line.contains(begins)));
                found.extend(begins.map(|(number, line)| format!("{}:{}: {line}", path.display(), number + 1)));
            }
        }
    }

    #[test]
    fn no_task_or_thread_begins_elsewhere() {
        let mut found = Vec::new();
        beginnings_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
