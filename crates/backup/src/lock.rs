//! Locks, as `restic` has them: files in `locks/`, so that programs that do not know of each other keep out of each other's way.
//!
//! ```text
//! shared (backup, restore, verify) ── with other shared ones          exclusive (forget, prune) ── with nobody
//! ```
//! A lock is written first and the others looked at then: of two that begin at once, at least one sees the other. It is renewed
//! every five minutes, and stale after thirty, or when its process on this host is gone. Who finds its own lock taken away stops.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use voidvm_model::{ErrorBody, ErrorCode};

use crate::crypto::Key;
use crate::error;
use crate::folder::{Folder, Kind};
use crate::host::Host;
use crate::id::Id;
use crate::record::LockFile;

const RENEW: Duration = Duration::from_secs(5 * 60);
/// So old a lock is renewed by whoever looks at it: the host may have slept.
const OVERDUE: SignedDuration = SignedDuration::from_mins(15);
const STALE: SignedDuration = SignedDuration::from_mins(30);

/// Whom a lock keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those who remove.
    Shared,
    /// Everybody.
    Exclusive,
}

/// A lock that is held until it is dropped.
pub(crate) struct Lock {
    held: Arc<Held>,
    renewal: Option<JoinHandle<()>>,
}

struct Held {
    folder: Arc<Folder>,
    key: Key,
    reach: Reach,
    state: Mutex<State>,
    ended: Condvar,
}

enum State {
    /// Under this name, since then.
    Held(Id, Timestamp),
    /// Somebody took it away.
    Lost,
    /// Given back.
    Ended,
}

impl Lock {
    /// Takes a lock. Stale ones of others are removed first.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] when another one is in the way.
    pub(crate) fn take(folder: &Arc<Folder>, key: &Key, reach: Reach) -> Result<Self, ErrorBody> {
        refuse_others(folder, key, reach, None)?;
        let (id, time) = write(folder, key, reach)?;
        if let Err(refused) = refuse_others(folder, key, reach, Some(id)) {
            folder.remove(Kind::Lock, id)?;
            return Err(refused);
        }
        let held = Arc::new(Held {
            folder: Arc::clone(folder),
            key: key.clone(),
            reach,
            state: Mutex::new(State::Held(id, time)),
            ended: Condvar::new(),
        });
        let renewing = Arc::clone(&held);
        let renewal = std::thread::Builder::new()
            .name("backup-lock".to_owned())
            .spawn(move || renewing.renew())
            .map_err(|failed| error::internal(format!("No thread for the lock: {failed}.")));
        let mut lock = Self { held, renewal: None };
        lock.renewal = Some(renewal?);
        Ok(lock)
    }

    /// A shared lock for reading; none where nobody can write, and so nobody can prune either.
    pub(crate) fn for_reading(folder: &Arc<Folder>, key: &Key) -> Result<Option<Self>, ErrorBody> {
        match Self::take(folder, key, Reach::Shared) {
            Err(refused)
                if matches!(
                    refused.code,
                    ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::DiskFull
                ) =>
            {
                tracing::info!(folder = %folder.root().display(), reason = %refused, "reading backups without a lock");
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Whether the work may go on.
    pub(crate) fn check(&self) -> Result<(), ErrorBody> {
        let mut state = self.held.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Held(_, since) = *state
            && Timestamp::now().duration_since(since) > OVERDUE
        {
            self.held.renew_once(&mut state);
        }
        match *state {
            State::Held(..) => Ok(()),
            State::Lost | State::Ended => Err(ErrorBody::new(
                ErrorCode::Interrupted,
                "The lock on the backups was taken away while they were worked on.",
            )
            .with_hint("Do it again; what is there already is not written twice.")),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let state = {
            let mut state = self.held.state.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *state, State::Ended)
        };
        self.held.ended.notify_all();
        if let Some(renewal) = self.renewal.take()
            && renewal.join().is_err()
        {
            tracing::error!("the renewal of a lock ended badly");
        }
        if let State::Held(id, _) = state
            && let Err(failed) = self.held.folder.remove(Kind::Lock, id)
        {
            tracing::warn!(error = %failed, "a lock stays; it is stale once this program has ended");
        }
    }
}

impl Held {
    fn renew(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while matches!(*state, State::Held(..)) {
            let (next, waited) =
                self.ended.wait_timeout(state, RENEW).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if waited.timed_out() {
                self.renew_once(&mut state);
            }
        }
    }

    /// A new lock in the place of the old one. A failure is not the end: the old one holds for some time yet.
    fn renew_once(&self, state: &mut State) {
        let State::Held(id, since) = *state else { return };
        if !self.folder.path(Kind::Lock, id).exists() {
            *state = State::Lost;
            return;
        }
        match write(&self.folder, &self.key, self.reach) {
            Ok((new, time)) => {
                *state = State::Held(new, time);
                if let Err(failed) = self.folder.remove(Kind::Lock, id) {
                    tracing::warn!(error = %failed, "an old lock stays");
                }
            }
            Err(failed) => {
                tracing::warn!(error = %failed, "a lock could not be renewed");
                if Timestamp::now().duration_since(since) > STALE {
                    *state = State::Lost;
                }
            }
        }
    }
}

fn write(folder: &Folder, key: &Key, reach: Reach) -> Result<(Id, Timestamp), ErrorBody> {
    let (host, time) = (Host::this(), Timestamp::now());
    let lock = LockFile {
        time,
        exclusive: reach == Reach::Exclusive,
        hostname: host.name,
        username: host.user,
        pid: i64::from(std::process::id()),
        uid: host.uid,
        gid: host.gid,
    };
    let text = serde_json::to_vec(&lock).map_err(error::internal)?;
    Ok((folder.write(Kind::Lock, &key.seal(&text)?)?, time))
}

/// Removes locks that are stale, and says who is in the way.
fn refuse_others(folder: &Folder, key: &Key, reach: Reach, own: Option<Id>) -> Result<(), ErrorBody> {
    for (id, _) in folder.list(Kind::Lock)? {
        if Some(id) == own {
            continue;
        }
        let Some(other) = read(folder, key, id)? else { continue };
        if stale(&other) {
            folder.remove(Kind::Lock, id)?;
        } else if reach == Reach::Exclusive || other.exclusive {
            let (host, pid) = (&other.hostname, other.pid);
            return Err(ErrorBody::new(
                ErrorCode::Busy,
                format!(
                    "Another program works on these backups (process {pid} on {host}, since {:.0}).",
                    other.time
                ),
            )
            .with_hint("Wait until it has ended. If it ended badly, its lock is gone after half an hour.")
            .with_detail("host", host.as_str())
            .with_detail("pid", pid));
        }
    }
    Ok(())
}

/// A lock; none when it was given back meanwhile.
fn read(folder: &Folder, key: &Key, id: Id) -> Result<Option<LockFile>, ErrorBody> {
    let sealed = match folder.read(Kind::Lock, id) {
        Ok(sealed) => sealed,
        Err(_) if !folder.path(Kind::Lock, id).exists() => return Ok(None),
        Err(failed) => return Err(failed),
    };
    crate::sealed::open_document(key, &sealed)
        .map(Some)
        .ok_or_else(|| error::damaged(format!("The lock {id} cannot be read.")))
}

fn stale(lock: &LockFile) -> bool {
    let age = Timestamp::now().duration_since(lock.time);
    if age > STALE {
        return true;
    }
    let host = Host::this();
    if lock.hostname != host.name {
        return false;
    }
    let pid = i32::try_from(lock.pid).ok().and_then(rustix::process::Pid::from_raw);
    // A process of somebody else answers with a refusal: it is there.
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(pid: i64, age: SignedDuration) -> LockFile {
        let host = Host::this();
        LockFile {
            time: Timestamp::now() - age,
            exclusive: true,
            hostname: host.name,
            username: host.user,
            pid,
            uid: 0,
            gid: 0,
        }
    }

    fn folder() -> (tempfile::TempDir, Arc<Folder>, Key) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::at(dir.path().join("r")));
        folder.make().unwrap();
        (dir, folder, Key::generate().unwrap())
    }

    #[test]
    fn shared_ones_share_and_exclusive_ones_do_not() {
        let (_dir, folder, key) = folder();
        let first = Lock::take(&folder, &key, Reach::Shared).unwrap();
        let second = Lock::take(&folder, &key, Reach::Shared).unwrap();
        let refused = Lock::take(&folder, &key, Reach::Exclusive).err().unwrap();
        assert_eq!(refused.code, ErrorCode::Busy);
        drop((first, second));
        let only = Lock::take(&folder, &key, Reach::Exclusive).unwrap();
        assert_eq!(Lock::take(&folder, &key, Reach::Shared).err().unwrap().code, ErrorCode::Busy);
        drop(only);
        assert!(folder.list(Kind::Lock).unwrap().is_empty());
    }

    #[test]
    fn a_lock_that_was_taken_away_is_noticed() {
        let (_dir, folder, key) = folder();
        let lock = Lock::take(&folder, &key, Reach::Shared).unwrap();
        lock.check().unwrap();
        // As after a sleep: renewed by who looks, then gone.
        let back = |held: &Held| {
            let mut state = held.state.lock().unwrap();
            if let State::Held(id, _) = *state {
                *state = State::Held(id, Timestamp::now() - SignedDuration::from_mins(20));
            }
        };
        back(&lock.held);
        lock.check().unwrap();
        let (id, _) = folder.list(Kind::Lock).unwrap()[0];
        folder.remove(Kind::Lock, id).unwrap();
        back(&lock.held);
        assert_eq!(lock.check().unwrap_err().code, ErrorCode::Interrupted);
    }

    #[test]
    fn stale_is_what_is_old_or_has_no_process() {
        let own = i64::from(std::process::id());
        assert!(!stale(&lock(own, SignedDuration::ZERO)));
        assert!(stale(&lock(own, SignedDuration::from_mins(31))));
        assert!(stale(&lock(i64::from(i32::MAX), SignedDuration::ZERO)));
        assert!(!stale(&LockFile {
            hostname: "elsewhere".into(),
            ..lock(i64::from(i32::MAX), SignedDuration::ZERO)
        }));
    }
}
