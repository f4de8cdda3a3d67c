//! How fine values are kept for how long, and which of that answers a question.

use thiserror::Error;

use crate::block::SLOTS_OF_TIME;

/// One fineness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Seconds of a slot.
    pub step: u32,
    /// Seconds its values are kept.
    pub keep: u64,
}

impl Tier {
    /// Seconds of a block.
    #[must_use]
    pub const fn block(&self) -> i64 {
        self.step as i64 * SLOTS_OF_TIME
    }
}

/// The tiers, finest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder(Vec<Tier>);

/// Tiers that make no ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TierError {
    /// There is none.
    #[error("there must be a tier")]
    Empty,
    /// A slot of one is not made of whole slots of the one before.
    #[error("tier {0}: its step must be a multiple of the step before it, and it must be kept longer")]
    Step(usize),
}

const DAY: u64 = 86_400;

impl Default for Ladder {
    /// 15 s for a day, a minute for a week, a quarter of an hour for a quarter, two hours for five years.
    fn default() -> Self {
        Self(vec![
            Tier { step: 15, keep: DAY },
            Tier { step: 60, keep: 7 * DAY },
            Tier { step: 900, keep: 92 * DAY },
            Tier { step: 7200, keep: 5 * 366 * DAY },
        ])
    }
}

impl Ladder {
    /// Makes sure that each tier can be made of the one before it.
    ///
    /// # Errors
    /// [`TierError`].
    pub fn new(tiers: Vec<Tier>) -> Result<Self, TierError> {
        if tiers.is_empty() || tiers[0].step == 0 {
            return Err(TierError::Empty);
        }
        let wrong = tiers.windows(2).position(|pair| {
            pair[1].step <= pair[0].step || pair[1].step % pair[0].step != 0 || pair[1].keep < pair[0].keep
        });
        wrong.map_or(Ok(Self(tiers)), |at| Err(TierError::Step(at + 1)))
    }

    /// The tiers, finest first.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.0
    }

    /// Which tier answers for a stretch of time: the finest that still has its beginning and needs no more than so many points;
    /// where none does, the coarsest.
    #[must_use]
    pub fn choose(&self, now: i64, from: i64, to: i64, points: u32) -> usize {
        let fits = |tier: &Tier| {
            let kept = i64::try_from(tier.keep).unwrap_or(i64::MAX);
            from >= now.saturating_sub(kept) && (to - from) / i64::from(tier.step) <= i64::from(points)
        };
        self.0.iter().position(fits).unwrap_or(self.0.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_that_has_it_and_fits_answers() {
        let ladder = Ladder::default();
        let now = 2_000_000_000;
        let day = 86_400;
        for (from, points, tier) in [
            (now - 3600, 1000, 0),
            (now - day, 6000, 0),
            (now - day, 1500, 1),
            (now - 6 * day, 1000, 2),
            (now - 2 * day, 6000, 1),
            (now - 80 * day, 10_000, 2),
            (now - 80 * day, 500, 3),
            (now - 4000 * day, 10, 3),
        ] {
            assert_eq!(ladder.choose(now, from, now, points), tier, "{}", now - from);
        }
    }

    #[test]
    fn a_step_is_made_of_whole_finer_ones() {
        let tier = |step, keep| Tier { step, keep };
        assert!(Ladder::new(vec![tier(15, 1), tier(60, 2)]).is_ok());
        assert_eq!(Ladder::new(vec![]), Err(TierError::Empty));
        assert_eq!(Ladder::new(vec![tier(15, 1), tier(50, 2)]), Err(TierError::Step(1)));
        assert_eq!(Ladder::new(vec![tier(15, 5), tier(60, 2)]), Err(TierError::Step(1)));
    }
}
