//! Takes a disk in: one thread reads it in ascending order, others name, compress, seal and pack its blocks.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};

use voidvm_model::ErrorBody;

use crate::BLOCK;
use crate::error;
use crate::id::Id;
use crate::index::Index;
use crate::lock::Lock;
use crate::record::BlobKind;
use crate::source::{DiskSource, Progress, Stage, Watch};
use crate::writer::Writer;

/// What a backup is made with.
pub(crate) struct Intake<'a> {
    pub(crate) writer: Writer<'a>,
    pub(crate) index: &'a Index,
    pub(crate) lock: &'a Lock,
    pub(crate) watch: &'a dyn Watch,
    /// The bytes of all disks.
    pub(crate) total: u64,
    pub(crate) counts: Counts,
    /// The name of a block of zeros, once it is kept.
    zeros: OnceLock<Id>,
}

/// Bytes of the disks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) done: u64,
    /// Asked of the sources.
    pub(crate) read: u64,
    /// Taken over from another backup.
    pub(crate) taken_over: u64,
}

/// What another backup says of a disk.
pub(crate) struct Before<'b> {
    pub(crate) size: u64,
    pub(crate) content: &'b [Id],
    /// What changed since, in any order.
    pub(crate) dirty: &'b [Range<u64>],
}

struct Job {
    at: usize,
    block: Vec<u8>,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(
        writer: Writer<'a>,
        index: &'a Index,
        lock: &'a Lock,
        watch: &'a dyn Watch,
        total: u64,
    ) -> Self {
        Self { writer, index, lock, watch, total, counts: Counts::default(), zeros: OnceLock::new() }
    }

    /// Whether the work may go on.
    pub(crate) fn check(&self) -> Result<(), ErrorBody> {
        if self.watch.cancelled() {
            return Err(error::cancelled());
        }
        self.lock.check()
    }

    /// Takes a disk in, and gives the names of its blocks.
    pub(crate) fn disk(
        &mut self,
        name: &str,
        source: &mut dyn DiskSource,
        before: Option<&Before<'_>>,
    ) -> Result<Vec<Id>, ErrorBody> {
        let size = source.size();
        let blocks = usize::try_from(size.div_ceil(BLOCK)).map_err(error::internal)?;
        let mut content = vec![None; blocks];
        if let Some(before) = before {
            self.take_over(size, before, &mut content);
        }
        let workers = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        let (named, failed, failure) = (Mutex::new(Vec::new()), AtomicBool::new(false), Mutex::new(None));
        let (send, receive) = mpsc::sync_channel::<Job>(workers * 2);
        let receive = Mutex::new(receive);
        let mut counts = self.counts;
        let this = &*self;
        let work = || {
            if let Err(wrong) = this.work(&receive, &named, &failed) {
                failed.store(true, Ordering::Relaxed);
                lock(&failure).get_or_insert(wrong);
                // The reader must not wait for a place in the queue.
                while lock(&receive).recv().is_ok() {}
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
            let read = this.read((name, size), source, &mut content, (&send, &failed), &mut counts);
            drop(send);
            read
        })?;
        self.counts = counts;
        if let Some(wrong) = lock(&failure).take() {
            return Err(wrong);
        }
        for (at, id) in lock(&named).drain(..) {
            content[at] = Some(id);
        }
        content.into_iter().map(|id| id.ok_or_else(|| error::internal("A block got lost."))).collect()
    }

    /// Takes over the names of the blocks that did not change, as far as they are there.
    fn take_over(&self, size: u64, before: &Before<'_>, content: &mut [Option<Id>]) {
        let length =
            |id: &Id| self.index.get(BlobKind::Data, *id).map(|place| u64::from(place.plain_length()));
        for (at, id) in before.content.iter().enumerate().take(content.len()) {
            let there = length(id);
            // A backup by another program is cut elsewhere; what is behind a block of another size is not where it was. A block that
            // is not there is read again.
            if there.is_some() && there != Some(block_length(before.size, at)) {
                content.iter_mut().for_each(|id| *id = None);
                return;
            }
            if there == Some(block_length(size, at)) {
                content[at] = Some(*id);
            }
        }
        for range in before.dirty.iter().filter(|range| !range.is_empty()) {
            let first = usize::try_from(range.start / BLOCK).unwrap_or(usize::MAX).min(content.len());
            let end = usize::try_from(range.end.div_ceil(BLOCK)).unwrap_or(usize::MAX).min(content.len());
            content[first..end].iter_mut().for_each(|id| *id = None);
        }
    }

    fn read(
        &self,
        (name, size): (&str, u64),
        source: &mut dyn DiskSource,
        content: &mut [Option<Id>],
        (send, failed): (&mpsc::SyncSender<Job>, &AtomicBool),
        counts: &mut Counts,
    ) -> Result<(), ErrorBody> {
        for (at, known) in content.iter_mut().enumerate() {
            if failed.load(Ordering::Relaxed) {
                // Who failed says why.
                return Ok(());
            }
            let (offset, length) = (at as u64 * BLOCK, block_length(size, at));
            if known.is_some() {
                counts.taken_over += length;
            } else {
                self.check()?;
                let wrong = |wrong| error::source(name, offset, &wrong);
                let zeros = self.zeros.get().filter(|_| length == BLOCK);
                if let Some(zeros) = zeros
                    && source.is_zero(offset..offset + length).map_err(wrong)?
                {
                    *known = Some(*zeros);
                } else {
                    let mut block = vec![0; usize::try_from(length).map_err(error::internal)?];
                    if !source.is_zero(offset..offset + length).map_err(wrong)? {
                        source.read_at(offset, &mut block).map_err(wrong)?;
                        counts.read += length;
                    }
                    if send.send(Job { at, block }).is_err() {
                        return Err(error::internal("The queue of blocks is gone."));
                    }
                }
            }
            counts.done += length;
            self.watch.progress(Progress { stage: Stage::Reading, done: counts.done, total: self.total });
        }
        Ok(())
    }

    fn work(
        &self,
        receive: &Mutex<mpsc::Receiver<Job>>,
        named: &Mutex<Vec<(usize, Id)>>,
        failed: &AtomicBool,
    ) -> Result<(), ErrorBody> {
        let mut sealer = self.writer.sealer()?;
        loop {
            let Ok(job) = lock(receive).recv() else { return Ok(()) };
            if failed.load(Ordering::Relaxed) {
                continue;
            }
            let zeros = job.block.len() as u64 == BLOCK && is_zero(&job.block);
            let known = self.zeros.get().filter(|_| zeros).copied();
            let id = match known {
                Some(id) => id,
                None => self.writer.put(&mut sealer, BlobKind::Data, &job.block)?,
            };
            if zeros {
                self.zeros.get_or_init(|| id);
            }
            lock(named).push((job.at, id));
        }
    }
}

/// How long the block is in a disk of that size.
fn block_length(size: u64, at: usize) -> u64 {
    size.saturating_sub(at as u64 * BLOCK).min(BLOCK)
}

/// Whether there is nothing but zeros: every byte is the one before it, and the first is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| *first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
