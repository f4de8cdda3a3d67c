//! The scheduler on a clock that tests move, with snapshots that are only written down.

mod fake;
mod rules;
mod year;
