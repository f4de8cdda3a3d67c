//! History of measured values: one number per step of time, packed block by block, and coarser with age.
//!
//! ```text
//! tier 0   15 s  ▏▏▏▏▏▏▏▏▏▏▏▏▏▏▏▏     a slot is what was measured in it
//! tier 1   1 min    ▎   ▎   ▎   ▎      a slot is made of the finer ones it covers: their mean, and the highest of them
//! tier 2   15 min          ▌
//! ```
//! A [`Block`] holds [`SLOTS`] slots of all values of one subject in one [`Tier`]. A slot nothing was measured in is a gap and
//! stays one: nothing is drawn between what is not known.
//!
//! Pure: no clock, no file. Times are seconds since 1970, and blocks begin at whole multiples of their length.

mod block;
mod tier;

pub use block::{Block, BlockError, Key, SLOTS, Value};
pub use tier::{Ladder, Tier, TierError};
