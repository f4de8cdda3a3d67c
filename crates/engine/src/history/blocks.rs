//! The blocks that are being filled: one of each subject and tier. The finest gets the readings; each slot of a coarser one is made
//! of the finer slots it covers, whenever one of those changes.

use std::collections::{BTreeMap, HashMap};

use voidvm_model::ErrorBody;
use voidvm_model::metrics::{Metric, MetricSubject};
use voidvm_series::{Block, Key, Ladder, Value};
use voidvm_store::{HistoryRow, Store};

use super::Reading;

/// What a subject is called in the store.
pub(super) fn name(subject: MetricSubject) -> String {
    match subject {
        MetricSubject::Vm(id) => id.to_string(),
        MetricSubject::Host => "host".to_owned(),
        MetricSubject::Pool(id) => format!("pool:{id}"),
    }
}

/// The mean and the highest of a value over a stretch of time that may lie in several blocks.
pub(super) fn over(blocks: &BTreeMap<i64, Block>, key: Key, from: i64, to: i64) -> Option<Value> {
    let (mut sum, mut count, mut peak) = (0.0_f64, 0_u32, f32::NEG_INFINITY);
    for block in blocks.range(..to).rev().map(|(_, block)| block).take_while(|block| block.end() > from) {
        if let Some((value, slots)) = block.over(key, from, to) {
            sum += f64::from(value.mean) * f64::from(slots);
            count += slots;
            peak = peak.max(value.peak);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "a mean of such floats is one")]
    let mean = (sum / f64::from(count)) as f32;
    (count > 0).then_some(Value { mean, peak })
}

#[derive(Debug)]
struct Filling {
    block: Block,
    changed: bool,
}

/// What was read in the slot that is not over yet.
#[derive(Clone, Copy, Debug)]
struct Sum {
    slot: i64,
    sum: f64,
    count: u32,
    peak: f32,
}

/// The blocks of now.
#[derive(Debug)]
pub(super) struct Blocks {
    ladder: Ladder,
    filling: HashMap<(MetricSubject, usize), Filling>,
    sums: HashMap<(MetricSubject, Metric), Sum>,
}

impl Blocks {
    pub(super) fn new(ladder: Ladder) -> Self {
        Self { ladder, filling: HashMap::new(), sums: HashMap::new() }
    }

    /// The block of a subject and tier that is being filled.
    pub(super) fn of(&self, subject: MetricSubject, tier: usize) -> impl Iterator<Item = &Block> {
        self.filling.get(&(subject, tier)).map(|filling| &filling.block).into_iter()
    }

    /// Puts a reading in its place. One that is older than the block that is being filled is left out: the clock was set back.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn put(
        &mut self,
        store: &Store,
        subject: MetricSubject,
        at: i64,
        reading: &Reading,
    ) -> Result<(), ErrorBody> {
        for tier in 0..self.ladder.tiers().len() {
            if !self.open(store, subject, tier, at).await? {
                return Ok(());
            }
        }
        for (metric, value) in reading.iter().filter(|(_, value)| value.is_finite()) {
            let value = self.so_far(subject, *metric, at, *value);
            for tier in 0..self.ladder.tiers().len() {
                let step = i64::from(self.ladder.tiers()[tier].step);
                let slot = at.div_euclid(step) * step;
                let value = match tier.checked_sub(1) {
                    None => Some(value),
                    Some(finer) => {
                        let finer = &self.filling.get(&(subject, finer)).map(|filling| &filling.block);
                        finer
                            .and_then(|block| block.over(metric.key(), slot, slot + step))
                            .map(|(value, _)| value)
                    }
                };
                if let (Some(value), Some(filling)) = (value, self.filling.get_mut(&(subject, tier))) {
                    filling.block.set(metric.key(), slot, value);
                    filling.changed = true;
                }
            }
        }
        Ok(())
    }

    /// The value of the slot an instant is in, with all that was read in it.
    fn so_far(&mut self, subject: MetricSubject, metric: Metric, at: i64, value: f32) -> Value {
        let step = i64::from(self.ladder.tiers()[0].step);
        let slot = at.div_euclid(step);
        let empty = Sum { slot, sum: 0.0, count: 0, peak: f32::NEG_INFINITY };
        let sum = self.sums.entry((subject, metric)).or_insert(empty);
        if sum.slot != slot {
            *sum = empty;
        }
        sum.sum += f64::from(value);
        sum.count += 1;
        sum.peak = sum.peak.max(value);
        #[expect(clippy::cast_possible_truncation, reason = "a mean of such floats is one")]
        let mean = (sum.sum / f64::from(sum.count)) as f32;
        Value { mean, peak: sum.peak }
    }

    /// Makes the block an instant is in the one that is being filled; false when it is over already.
    async fn open(
        &mut self,
        store: &Store,
        subject: MetricSubject,
        tier: usize,
        at: i64,
    ) -> Result<bool, ErrorBody> {
        let step = self.ladder.tiers()[tier].step;
        let start = Block::start_of(step, at);
        match self.filling.get(&(subject, tier)).map(|filling| filling.block.start()) {
            Some(now) if now == start => return Ok(true),
            Some(now) if now > start => return Ok(false),
            Some(_) => self.write_one(store, subject, tier).await?,
            None => {}
        }
        // An owner before this one may have begun it.
        let rows = store.history().get(&name(subject), step, start, start + 1).await;
        let rows = rows.map_err(|error| error.body())?;
        let begun = rows.first().and_then(|row| Block::decode(step, start, &row.data).ok());
        let filling = Filling { block: begun.unwrap_or_else(|| Block::at(step, at)), changed: false };
        self.filling.insert((subject, tier), filling);
        Ok(true)
    }

    fn row(subject: MetricSubject, block: &Block) -> Option<HistoryRow> {
        match block.encode() {
            Ok(data) => {
                Some(HistoryRow { subject: name(subject), step: block.step(), start: block.start(), data })
            }
            Err(error) => {
                tracing::error!(%error, "a block of history cannot be packed");
                None
            }
        }
    }

    async fn write_one(
        &mut self,
        store: &Store,
        subject: MetricSubject,
        tier: usize,
    ) -> Result<(), ErrorBody> {
        let Some(filling) = self.filling.get_mut(&(subject, tier)).filter(|filling| filling.changed) else {
            return Ok(());
        };
        let rows: Vec<HistoryRow> = Self::row(subject, &filling.block).into_iter().collect();
        store.history().put(&rows).await.map_err(|error| error.body())?;
        filling.changed = false;
        Ok(())
    }

    /// Writes what is new, and lets go of blocks that are over.
    ///
    /// # Errors
    /// The store's; it is tried again the next time.
    pub(super) async fn write(&mut self, store: &Store, now: i64) -> Result<(), ErrorBody> {
        let changed = self.filling.iter().filter(|(_, filling)| filling.changed);
        let rows: Vec<HistoryRow> =
            changed.filter_map(|((subject, _), filling)| Self::row(*subject, &filling.block)).collect();
        store.history().put(&rows).await.map_err(|error| error.body())?;
        for filling in self.filling.values_mut() {
            filling.changed = false;
        }
        self.filling.retain(|_, filling| filling.block.end() > now);
        Ok(())
    }

    /// Forgets a subject.
    pub(super) fn forget(&mut self, subject: MetricSubject) {
        self.filling.retain(|(of, _), _| *of != subject);
        self.sums.retain(|(of, _), _| *of != subject);
    }
}
