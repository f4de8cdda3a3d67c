//! acc
/// x
pub fn accel() {}
