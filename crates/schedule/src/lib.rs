//! When schedules run, how their snapshots are called, and which of them are kept. Pure: no file, no clock, no task; who calls says
//! what time it is and which zone the clock is in.
//!
//! * [`Times`], from a cron expression to instants, through changes of the clocks.
//! * [`mod@due`], what is to be done now, after a sleep, a pause of voidVM or a clock that was set.
//! * [`mod@judge`], which snapshots retention keeps, with the reasons.
//! * [`naming`], names.

pub mod due;
pub mod judge;
pub mod naming;
mod times;

pub use times::{Occurrence, Times, TimesError};
