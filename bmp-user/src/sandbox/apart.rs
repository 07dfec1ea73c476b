//! Threads that are outside of a part of the sandbox, because their work needs it. They read
//! nothing that comes from a network.
//!
//! - The **inspector** looks at other processes. An adopted session is a connection of another
//!   process: to find it, bmpd reads the descriptors of all processes (proc_pid_fd(5)) and takes a
//!   copy of one (pidfd_getfd(2)). That takes `CAP_SYS_PTRACE`, and Landlock does not allow it.
//! - The **mender** puts back what somebody took out of the kernel. If that was the whole BPF file
//!   system, the new one is none that Landlock's rules know.

use std::{io, sync::mpsc};

use tokio::sync::oneshot;

use super::{SandboxNeeds, capabilities};
use crate::tasks;

/// Work for the thread.
type Work = Box<dyn FnOnce() + Send>;

/// Hands work to a thread that starts before the sandbox is in force. Clones share the thread.
#[derive(Clone, Debug)]
pub(crate) struct ApartThread(Option<mpsc::Sender<Work>>);

impl ApartThread {
    /// Starts the inspector, which keeps `CAP_SYS_PTRACE`. Call it before [`super::enter`].
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(crate) fn inspector() -> io::Result<Self> {
        Self::start("inspector", || {
            let _ = capabilities::keep_to_inspect();
        })
    }

    /// Starts the mender, which keeps the capabilities of bmpd. Call it before [`super::enter`].
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(crate) fn mender(needs: &SandboxNeeds) -> io::Result<Self> {
        let needs = needs.clone();
        Self::start("mender", move || {
            let _ = capabilities::keep(&needs);
        })
    }

    /// Starts a thread that first gives up rights. What it cannot give up it does not use.
    fn start(name: &'static str, give_up: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (sender, work) = mpsc::channel::<Work>();
        tasks::thread_after(name, give_up, move || work.into_iter().for_each(|work| work()))?;
        Ok(Self(Some(sender)))
    }

    /// Returns one that uses the threads of the runtime, with their rights.
    pub(crate) fn in_runtime() -> Self {
        Self(None)
    }

    /// Runs `work` on the thread.
    ///
    /// # Errors
    ///
    /// The runtime or the thread ends meanwhile.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let Some(sender) = &self.0 else { return tasks::blocking(work).await };
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move || {
            // Whoever asked may be gone.
            let _ = answer.send(work());
        });
        let has_ended = || io::Error::other("a thread of bmpd has ended");
        sender.send(work).map_err(|_| has_ended())?;
        answered.await.map_err(|_| has_ended())
    }
}
