//! Proof that the needed tasks run, for the watchdog of a service manager and for `/healthz`.
//!
//! Each round of the watchdog wakes every needed task. A task proves that it runs where it waits
//! for its next work: in [`idle`], or with a branch [`until_woken`] of its `select!`. A task that
//! hangs in a system call, in a lock or in an endless loop never gets there, and misses the round.
//!
//! Rounds are counted, not timed: a host that stands still for a minute has no late tasks.
//!
//! Who asks at any moment, as `/healthz` does, waits for new proofs ([`unproven`]). That is no
//! round: however often it is asked, the watchdog finds no task late for it.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

/// A task that misses so many rounds is said to hang.
pub(crate) const ROUNDS_MISSED: u64 = 3;

/// The time from one look at the proofs that [`unproven`] waits for to the next.
const LOOK: Duration = Duration::from_millis(2);

/// The number of the round.
static ROUND: AtomicU64 = AtomicU64::new(0);
static WATCHED: Mutex<Vec<Weak<WatchedTask>>> = Mutex::new(Vec::new());

tokio::task_local! {
    /// The needed task that runs now.
    static OWN: Arc<WatchedTask>;
}

/// A needed task.
#[derive(Debug)]
struct WatchedTask {
    name: &'static str,
    /// The last round in which the task proved that it runs.
    proved: AtomicU64,
    /// How many times the task has proved that it runs.
    proofs: AtomicU64,
    waker: AtomicWaker,
}

/// Runs a needed task under the eyes of the watchdog.
pub(super) async fn watched(name: &'static str, task: impl Future<Output = ()>) {
    let own = Arc::new(WatchedTask {
        name,
        proved: AtomicU64::new(ROUND.load(Ordering::Relaxed)),
        proofs: AtomicU64::new(0),
        waker: AtomicWaker::new(),
    });
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&own));
    OWN.scope(own, task).await;
}

/// Never returns. A needed task that polls this proves that it runs. In tasks that are not needed
/// it does nothing.
pub(crate) fn until_woken() -> impl Future<Output = Infallible> {
    poll_fn(|context| {
        // Without a needed task around it there is nothing to prove.
        let _ = OWN.try_with(|own| {
            own.waker.register(context.waker());
            own.proved.store(ROUND.load(Ordering::Relaxed), Ordering::Relaxed);
            own.proofs.fetch_add(1, Ordering::Relaxed);
        });
        Poll::Pending
    })
}

/// Waits for `work`. Meanwhile the needed task proves that it runs.
pub(crate) async fn idle<T>(work: impl Future<Output = T>) -> T {
    let (mut work, mut woken) = (pin!(work), pin!(until_woken()));
    poll_fn(move |context| {
        let _pending = woken.as_mut().poll(context);
        work.as_mut().poll(context)
    })
    .await
}

/// Begins a round: every needed task is woken to prove that it runs. Returns the names of the tasks
/// that have missed [`ROUNDS_MISSED`] rounds before this one, in order and each once.
pub(crate) fn begin_round() -> Vec<&'static str> {
    let now = ROUND.fetch_add(1, Ordering::Relaxed) + 1;
    let tasks = needed_tasks();
    let late = |task: &&Arc<WatchedTask>| now - task.proved.load(Ordering::Relaxed) > ROUNDS_MISSED;
    let late = names(tasks.iter().filter(late).map(|task| task.name));
    tasks.iter().for_each(|task| task.waker.wake());
    late
}

/// Wakes every needed task and waits until each has proved that it runs or has ended, for at most
/// `time`. Returns the names of those that have not, in order and each once.
pub(crate) async fn unproven(time: Duration) -> Vec<&'static str> {
    let deadline = Instant::now() + time;
    // Not held meanwhile: a task that ends has nothing to prove.
    let mut asked: Vec<_> =
        needed_tasks().iter().map(|task| (Arc::downgrade(task), task.proofs.load(Ordering::Relaxed))).collect();
    asked.iter().filter_map(|(task, _)| task.upgrade()).for_each(|task| task.waker.wake());
    loop {
        asked
            .retain(|(task, before)| task.upgrade().is_some_and(|task| task.proofs.load(Ordering::Relaxed) == *before));
        if asked.is_empty() || Instant::now() >= deadline {
            return names(asked.iter().filter_map(|(task, _)| task.upgrade()).map(|task| task.name));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Says of tasks, which are some, that they hang.
pub(crate) fn hang(tasks: &[&str]) -> String {
    format!("the task `{}` hangs", tasks.join("`, `"))
}

fn needed_tasks() -> Vec<Arc<WatchedTask>> {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.retain(|task| task.strong_count() > 0);
    watched.iter().filter_map(Weak::upgrade).collect()
}

fn names(tasks: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut names: Vec<_> = tasks.collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync;

    use super::*;

    /// Rounds are those of the process: tests take turns.
    static TURN: sync::Mutex<()> = sync::Mutex::const_new(());

    /// Begins rounds until the task called `name` is late, or for `rounds` rounds.
    async fn is_late(name: &str, rounds: u64) -> bool {
        for _ in 0..rounds {
            if begin_round().contains(&name) {
                return true;
            }
            // Every task that was woken runs before this one goes on.
            tokio::task::yield_now().await;
        }
        false
    }

    #[tokio::test]
    async fn a_task_that_waits_for_work_proves_that_it_runs() {
        let _turn = TURN.lock().await;
        tokio::spawn(watched("idle test", idle(pending())));
        tokio::task::yield_now().await;
        assert!(!is_late("idle test", 4 * ROUNDS_MISSED).await);
    }

    #[tokio::test]
    async fn a_branch_of_select_proves_that_the_task_runs() {
        let _turn = TURN.lock().await;
        tokio::spawn(watched("select test", async {
            tokio::select! {
                () = pending() => {}
                never = until_woken() => match never {}
            }
        }));
        tokio::task::yield_now().await;
        assert!(!is_late("select test", 4 * ROUNDS_MISSED).await);
    }

    #[tokio::test]
    async fn a_task_that_hangs_elsewhere_is_late() {
        let _turn = TURN.lock().await;
        tokio::spawn(watched("hanging test", async {
            idle(tokio::task::yield_now()).await;
            pending::<()>().await;
        }));
        tokio::task::yield_now().await;
        // It proves itself in the first round, before it hangs.
        assert!(is_late("hanging test", ROUNDS_MISSED + 2).await);
    }

    #[tokio::test]
    async fn who_asks_waits_for_new_proofs_and_learns_which_task_hangs() {
        let _turn = TURN.lock().await;
        let waiting = tokio::spawn(watched("waiting test", idle(pending())));
        let busy = tokio::spawn(watched("busy test", pending()));
        tokio::task::yield_now().await;
        let found = unproven(Duration::from_millis(20)).await;
        assert!(found.contains(&"busy test") && !found.contains(&"waiting test"), "{found:?}");
        assert_eq!(hang(&["busy test"]), "the task `busy test` hangs");
        busy.abort();
        let _ = busy.await;
        assert!(!unproven(Duration::from_millis(20)).await.contains(&"busy test"), "it has ended");
        waiting.abort();
    }

    #[tokio::test]
    async fn a_task_that_has_ended_is_not_late() {
        let _turn = TURN.lock().await;
        tokio::spawn(watched("ended test", async {})).await.unwrap();
        assert!(!is_late("ended test", 4 * ROUNDS_MISSED).await);
    }
}
