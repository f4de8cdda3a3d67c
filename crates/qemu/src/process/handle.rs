//! A process that was identified, held by a pidfd: the pid cannot come to mean another one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use voidvm_model::Bytes;

use super::identify::Stat;

/// How a process is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ask: QEMU closes its disks and ends.
    Term,
    /// End it now, whatever is lost.
    Kill,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Not our child: that it ended is all there is to know.
    Unknown,
}

impl Exit {
    /// Whether it ended of its own will, as far as can be known.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::Code(0) | Self::Unknown)
    }
}

/// One live (or just ended) process. Clones are the same process.
#[derive(Clone, Debug)]
pub struct ProcessHandle {
    pid: Pid,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pidfd: AsyncFd<OwnedFd>,
    /// How it ended; taken from the kernel once, for every clone.
    exit: OnceLock<Exit>,
}

impl ProcessHandle {
    /// Holds the process that has this pid now; the caller proves that it is the one he means *after* this.
    ///
    /// # Errors
    /// `ESRCH` when there is none; what tokio's reactor says. Must be called within a tokio runtime.
    pub(super) fn open(pid: Pid) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let pidfd = watch(pidfd)?;
        Ok(Self { pid, shared: Arc::new(Shared { pidfd, exit: OnceLock::new() }) })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until the process has ended; returns at once, and again, when it has. Safe to drop.
    ///
    /// # Errors
    /// What tokio's reactor says.
    pub async fn wait_exit(&self) -> io::Result<Exit> {
        // Readable means ended, and stays so: the readiness is never cleared.
        let _ready = self.shared.pidfd.readable().await?;
        Ok(*self.shared.exit.get_or_init(|| self.reap()))
    }

    /// Whether the process has ended.
    ///
    /// # Errors
    /// What `poll` says.
    pub fn has_ended(&self) -> io::Result<bool> {
        let mut fds = [rustix::event::PollFd::new(self.shared.pidfd.get_ref(), rustix::event::PollFlags::IN)];
        Ok(rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
    }

    /// Sends a signal to this process and no other. A process that has ended already is fine.
    ///
    /// # Errors
    /// What the kernel says; `EPERM` for another user's process.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        match pidfd_send_signal(self.shared.pidfd.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// CPU time the process has used, in user and kernel mode together. `None` when it has ended.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = self.stat()?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Some(Duration::from_micros(stat.cpu_ticks.saturating_mul(1_000_000) / per_second))
    }

    /// Host memory resident in the process. `None` when it has ended.
    #[must_use]
    pub fn resident(&self) -> Option<Bytes> {
        let pages = self.stat()?.resident_pages;
        Some(Bytes(pages.saturating_mul(rustix::param::page_size() as u64)))
    }

    /// The process's status line, proved to be this process's: it lives after the line was read.
    fn stat(&self) -> Option<Stat> {
        let stat = Stat::read(self.pid())?;
        (!self.has_ended().ok()?).then_some(stat)
    }

    /// Takes the exit status of a child; of what is not our child nothing can be had.
    fn reap(&self) -> Exit {
        let pidfd = self.shared.pidfd.get_ref().as_fd();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let Ok(Some(status)) = waitid(WaitId::PidFd(pidfd), options) else { return Exit::Unknown };
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }
    }
}

#[expect(unsafe_code, reason = "tokio wants the descriptor's constancy vouched for")]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is one descriptor from its making to its end.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(io::Error::from)
}
