//! What was measured, over years: readings come in, are put together slot by slot, and lie in the store as packed blocks
//! (`voidvm-series`).
//!
//! ```text
//! meters, host ─▶ taken ─▶ blocks of now ─(once a minute, and at the end)─▶ store
//!                              └───────────────┬──────────────────────────────┘
//!                                          questions
//! ```
//! A kill costs what was measured since the last write, a minute at most. Invariants: nothing is ever made up, a gap stays a gap;
//! what history takes is bounded.

mod blocks;
mod host;
mod keep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use voidvm_model::metrics::{
    Metric, MetricHistory, MetricHistoryRequest, MetricSeries, MetricStorage, MetricSubject, POINTS_MAX,
    SUBJECTS_MAX,
};
use voidvm_model::{Bytes, ErrorBody};
use voidvm_series::{Block, Ladder};
use voidvm_store::Store;

use blocks::Blocks;
pub(crate) use keep::keep;

/// How many points an answer has when nothing is said.
const POINTS: u32 = 600;
/// What history may take in the store.
const LIMIT: Bytes = Bytes(512 << 20);

/// The values of one reading.
pub(crate) type Reading = Vec<(Metric, f32)>;

/// The history of everything.
#[derive(Debug)]
pub(crate) struct History {
    store: Store,
    ladder: Ladder,
    taken: std::sync::Mutex<Vec<(MetricSubject, i64, Reading)>>,
    blocks: tokio::sync::Mutex<Blocks>,
}

impl History {
    pub(crate) fn new(store: Store) -> Self {
        let ladder = Ladder::default();
        Self {
            blocks: tokio::sync::Mutex::new(Blocks::new(ladder.clone())),
            ladder,
            store,
            taken: std::sync::Mutex::default(),
        }
    }

    /// Takes a reading.
    pub(crate) fn take(&self, subject: MetricSubject, at: Timestamp, reading: Reading) {
        let mut taken = self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        taken.push((subject, at.as_second(), reading));
    }

    /// The blocks of now, with all that was taken.
    async fn current(&self) -> Result<tokio::sync::MutexGuard<'_, Blocks>, ErrorBody> {
        let mut blocks = self.blocks.lock().await;
        let taken =
            std::mem::take(&mut *self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for (subject, at, reading) in taken {
            blocks.put(&self.store, subject, at, &reading).await?;
        }
        Ok(blocks)
    }

    /// Writes what is new.
    pub(crate) async fn write(&self) -> Result<(), ErrorBody> {
        let mut blocks = self.current().await?;
        blocks.write(&self.store, Timestamp::now().as_second()).await
    }

    /// Forgets a machine that is gone.
    async fn forget(&self, subject: MetricSubject) -> Result<(), ErrorBody> {
        self.current().await?.forget(subject);
        self.store.history().forget(&blocks::name(subject)).await.map_err(|error| error.body())
    }

    /// What history takes.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn storage(&self) -> Result<MetricStorage, ErrorBody> {
        let size = self.store.history().size().await.map_err(|error| error.body())?;
        Ok(MetricStorage { size: Bytes(size), limit: LIMIT })
    }

    /// Answers a question.
    ///
    /// # Errors
    /// A field that is out of bounds; the store's.
    pub(crate) async fn ask(&self, request: &MetricHistoryRequest) -> Result<MetricHistory, ErrorBody> {
        let now = Timestamp::now();
        let to = request.to.unwrap_or(now).min(now);
        let (from, end) = (request.from.as_second(), to.as_second());
        let points = request.points.unwrap_or(POINTS);
        if !(1..=POINTS_MAX).contains(&points) {
            return Err(ErrorBody::invalid("points", format!("{points} points cannot be had."))
                .with_hint(format!("Ask for 1 to {POINTS_MAX}.")));
        }
        if from >= end {
            return Err(ErrorBody::invalid("from", "The first instant is not before the last one.")
                .with_hint("Choose an earlier one."));
        }
        if request.subjects.is_empty() || request.subjects.len() > SUBJECTS_MAX {
            return Err(ErrorBody::invalid("subjects", "There must be a subject, and not too many.")
                .with_hint(format!("Name 1 to {SUBJECTS_MAX}.")));
        }
        let tier = self.ladder.choose(now.as_second(), from, end, points);
        let fine = i64::from(self.ladder.tiers()[tier].step);
        // The coarsest tier may still be too fine for so long a time.
        let slots = ((end - from) / fine).div_euclid(i64::from(points)) + 1;
        let step = fine * slots;
        let first = from.div_euclid(step) * step;
        let count = (end - first).div_euclid(step) + 1;
        let mut series = Vec::new();
        for subject in &request.subjects {
            let blocks = self.blocks_of(*subject, tier, first, end).await?;
            series.extend(series_of(*subject, &request.metrics, &blocks, (first, step, count)));
        }
        Ok(MetricHistory {
            from: Timestamp::from_second(first).unwrap_or(request.from),
            step: u32::try_from(step).unwrap_or(u32::MAX),
            points: u32::try_from(count).unwrap_or(u32::MAX),
            series,
        })
    }

    async fn blocks_of(
        &self,
        subject: MetricSubject,
        tier: usize,
        from: i64,
        to: i64,
    ) -> Result<BTreeMap<i64, Block>, ErrorBody> {
        let step = self.ladder.tiers()[tier].step;
        let begin = Block::start_of(step, from);
        // First, since a block that is over goes to the store with this.
        let filling: Vec<Block> = self.current().await?.of(subject, tier).cloned().collect();
        let rows = self.store.history().get(&blocks::name(subject), step, begin, to + 1).await;
        let rows = rows.map_err(|error| error.body())?;
        let mut found = tokio::task::spawn_blocking(move || {
            let mut found = BTreeMap::new();
            for row in rows {
                match Block::decode(step, row.start, &row.data) {
                    Ok(block) => drop(found.insert(row.start, block)),
                    Err(error) => {
                        tracing::warn!(%error, subject = row.subject, "a block of history is left out");
                    }
                }
            }
            found
        })
        .await
        .unwrap_or_default();
        found.extend(filling.into_iter().map(|block| (block.start(), block)));
        Ok(found)
    }
}

fn series_of(
    subject: MetricSubject,
    wanted: &[Metric],
    blocks: &BTreeMap<i64, Block>,
    (first, step, count): (i64, i64, i64),
) -> Vec<MetricSeries> {
    let wanted = Metric::ALL.iter().filter(|metric| wanted.is_empty() || wanted.contains(metric));
    let mut series = Vec::new();
    for metric in wanted {
        let (mut mean, mut peak) = (Vec::new(), Vec::new());
        for point in 0..count {
            let (from, to) = (first + point * step, first + (point + 1) * step);
            let value = blocks::over(blocks, metric.key(), from, to);
            mean.push(value.map(|value| value.mean));
            peak.push(value.map(|value| value.peak));
        }
        if mean.iter().any(Option::is_some) {
            series.push(MetricSeries { subject, metric: *metric, unit: metric.unit(), mean, peak });
        }
    }
    series
}
