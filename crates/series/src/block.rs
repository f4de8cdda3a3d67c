//! A stretch of time of one subject: its columns, a value in each slot, and the form it is stored in.
//!
//! Stored form: a version byte, then zstd of: the number of columns; of each its key, whether it has peaks, and its slots as
//! 32-bit floats, NaN for a gap, with the floats' first bytes before all second ones and so on (neighbours are alike).

use std::collections::BTreeMap;

use thiserror::Error;

/// Slots of a block.
pub const SLOTS: usize = 240;
/// As many, for reckoning with times.
pub(crate) const SLOTS_OF_TIME: i64 = 240;
const VERSION: u8 = 1;
/// zstd's own default: blocks are small, and written often.
const LEVEL: i32 = 3;
/// More columns than anything measured has: what is read must not make us take memory without end.
const COLUMNS_MAX: usize = 255;

/// Which value a column holds; what the numbers mean is the caller's.
pub type Key = u8;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// Of what was measured in it.
    pub mean: f32,
    /// The highest of what was measured in it.
    pub peak: f32,
}

impl Value {
    /// What was measured once.
    #[must_use]
    pub const fn once(value: f32) -> Self {
        Self { mean: value, peak: value }
    }
}

/// A block that cannot be read.
#[derive(Debug, Error)]
pub enum BlockError {
    /// Written by a newer voidVM.
    #[error("a block of version {0}, which this voidVM does not know")]
    Version(u8),
    /// Not what was written.
    #[error("a block that is damaged: {0}")]
    Damaged(&'static str),
    /// zstd does not take it.
    #[error("a block that cannot be unpacked")]
    Packed(#[from] std::io::Error),
}

#[derive(Clone, Debug, PartialEq)]
struct Column {
    means: Box<[f32]>,
    /// None: each is its mean.
    peaks: Option<Box<[f32]>>,
}

impl Column {
    fn empty() -> Self {
        Self { means: gaps(), peaks: None }
    }
}

fn gaps() -> Box<[f32]> {
    vec![f32::NAN; SLOTS].into_boxed_slice()
}

/// A stretch of time of one subject.
#[derive(Clone, Debug)]
pub struct Block {
    step: u32,
    start: i64,
    columns: BTreeMap<Key, Column>,
}

impl Block {
    /// The block an instant is in, empty.
    #[must_use]
    pub fn at(step: u32, time: i64) -> Self {
        Self { step, start: Self::start_of(step, time), columns: BTreeMap::new() }
    }

    /// Where the block begins that an instant is in.
    #[must_use]
    pub const fn start_of(step: u32, time: i64) -> i64 {
        let length = step as i64 * SLOTS_OF_TIME;
        time.div_euclid(length) * length
    }

    /// Its first instant.
    #[must_use]
    pub const fn start(&self) -> i64 {
        self.start
    }

    /// Seconds of a slot.
    #[must_use]
    pub const fn step(&self) -> u32 {
        self.step
    }

    /// The first instant after it.
    #[must_use]
    pub const fn end(&self) -> i64 {
        self.start + self.step as i64 * SLOTS_OF_TIME
    }

    fn slot(&self, time: i64) -> Option<usize> {
        let slot = usize::try_from((time - self.start).div_euclid(i64::from(self.step))).ok()?;
        (slot < SLOTS).then_some(slot)
    }

    /// Sets what was measured at an instant; of several in one slot the last is kept. One that is not in the block, and what is
    /// not a number, changes nothing.
    pub fn set(&mut self, key: Key, time: i64, value: Value) {
        let Some(slot) = self.slot(time) else { return };
        if value.mean.is_nan() {
            return;
        }
        let column = self.columns.entry(key).or_insert_with(Column::empty);
        column.means[slot] = value.mean;
        if column.peaks.is_none() && value.peak.total_cmp(&value.mean).is_ne() {
            column.peaks = Some(column.means.clone());
        }
        if let Some(peaks) = &mut column.peaks {
            peaks[slot] = value.peak;
        }
    }

    /// What was measured at an instant; `None` is a gap.
    #[must_use]
    pub fn get(&self, key: Key, time: i64) -> Option<Value> {
        let slot = self.slot(time)?;
        let column = self.columns.get(&key)?;
        let mean = column.means[slot];
        let peak = column.peaks.as_ref().map_or(mean, |peaks| peaks[slot]);
        (!mean.is_nan()).then_some(Value { mean, peak })
    }

    /// The values there are.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.columns.keys().copied()
    }

    /// The mean and the highest of a value over a stretch of time, of the slots that are in the block and no gaps: with how many
    /// those are.
    #[must_use]
    pub fn over(&self, key: Key, from: i64, to: i64) -> Option<(Value, u32)> {
        let column = self.columns.get(&key)?;
        let step = i64::from(self.step);
        let first = (from.max(self.start) - self.start).div_euclid(step);
        let last = (to.min(self.end()) - self.start + step - 1).div_euclid(step);
        let slots = usize::try_from(first).unwrap_or(0)..usize::try_from(last).unwrap_or(0).min(SLOTS);
        let (mut sum, mut peak, mut count) = (0.0_f64, f32::NEG_INFINITY, 0_u32);
        for slot in slots.filter(|slot| !column.means[*slot].is_nan()) {
            sum += f64::from(column.means[slot]);
            peak = peak.max(column.peaks.as_ref().map_or(column.means[slot], |peaks| peaks[slot]));
            count += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a mean of such floats is one")]
        let mean = (sum / f64::from(count)) as f32;
        (count > 0).then_some((Value { mean, peak }, count))
    }

    /// The form it is stored in.
    ///
    /// # Errors
    /// zstd's, which needs memory.
    pub fn encode(&self) -> Result<Vec<u8>, BlockError> {
        let mut plain = vec![u8::try_from(self.columns.len()).unwrap_or(u8::MAX)];
        for (key, column) in self.columns.iter().take(COLUMNS_MAX) {
            plain.extend([*key, u8::from(column.peaks.is_some())]);
            for values in std::iter::once(&column.means).chain(&column.peaks) {
                for byte in 0..4 {
                    plain.extend(values.iter().map(|value| value.to_be_bytes()[byte]));
                }
            }
        }
        let mut stored = vec![VERSION];
        stored.extend(zstd::bulk::compress(&plain, LEVEL)?);
        Ok(stored)
    }

    /// Reads the stored form of the block that an instant is in.
    ///
    /// # Errors
    /// [`BlockError`]; nothing of it can be used then.
    pub fn decode(step: u32, time: i64, stored: &[u8]) -> Result<Self, BlockError> {
        let (version, packed) = stored.split_first().ok_or(BlockError::Damaged("it is empty"))?;
        if *version != VERSION {
            return Err(BlockError::Version(*version));
        }
        let most = 1 + COLUMNS_MAX * (2 + 2 * 4 * SLOTS);
        let plain = zstd::bulk::decompress(packed, most)?;
        let mut rest = plain.as_slice();
        let mut block = Self::at(step, time);
        let count = take(&mut rest, 1)?[0];
        for _ in 0..count {
            let head = take(&mut rest, 2)?;
            let means = floats(take(&mut rest, 4 * SLOTS)?);
            let peaks = if head[1] == 0 { None } else { Some(floats(take(&mut rest, 4 * SLOTS)?)) };
            block.columns.insert(head[0], Column { means, peaks });
        }
        if rest.is_empty() { Ok(block) } else { Err(BlockError::Damaged("there is more than its columns")) }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], BlockError> {
    let (taken, left) = rest.split_at_checked(count).ok_or(BlockError::Damaged("it ends early"))?;
    *rest = left;
    Ok(taken)
}

fn floats(planes: &[u8]) -> Box<[f32]> {
    let float = |slot: usize| {
        f32::from_be_bytes([
            planes[slot],
            planes[SLOTS + slot],
            planes[2 * SLOTS + slot],
            planes[3 * SLOTS + slot],
        ])
    };
    (0..SLOTS).map(float).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_holds_what_was_measured_last_and_a_gap_stays_one() {
        let mut block = Block::at(15, 1_000_000);
        assert_eq!((block.start() % (15 * 240), block.end() - block.start()), (0, 3600));
        block.set(1, 1_000_000, Value::once(3.0));
        block.set(1, 1_000_001, Value::once(4.0));
        block.set(2, 1_000_000, Value::once(f32::NAN));
        block.set(1, block.end(), Value::once(5.0));
        assert_eq!(block.get(1, 1_000_004), Some(Value::once(4.0)));
        assert_eq!(block.get(1, 1_000_015), None);
        assert_eq!(block.get(2, 1_000_000), None);
        assert_eq!(block.keys().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_was_not_written_is_told() {
        let stored = Block::at(15, 0).encode().unwrap();
        assert!(matches!(Block::decode(15, 0, &[]), Err(BlockError::Damaged(_))));
        assert!(matches!(Block::decode(15, 0, &[9, 1]), Err(BlockError::Version(9))));
        assert!(Block::decode(15, 0, &stored[..stored.len() - 1]).is_err());
    }
}
