//! Quantities with their unit in the type, so that bytes, MiB and percentages cannot be mixed up.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A number of bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(transparent)]
pub struct Bytes(#[ts(type = "number")] pub u64);

/// A number of mebibytes (1 MiB = 1,048,576 bytes).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(transparent)]
pub struct MiB(#[ts(type = "number")] pub u64);

/// A share of a whole in per cent, 0 to 100; for a machine's CPU the whole is all its virtual CPUs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema, TS)]
#[serde(transparent)]
pub struct Percent(pub f32);

impl MiB {
    /// The same quantity in bytes; saturates far beyond any real memory.
    #[must_use]
    pub const fn bytes(self) -> Bytes {
        Bytes(self.0.saturating_mul(1 << 20))
    }
}

impl Bytes {
    /// Whole mebibytes, rounded down.
    #[must_use]
    pub const fn mib(self) -> MiB {
        MiB(self.0 >> 20)
    }

    /// The difference, or zero where `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Bytes {
    /// Binary multiples with the words people use: `512 B`, `1.5 GB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 || value.fract() < 0.05 {
            write!(f, "{value:.0} {}", UNITS[unit])
        } else {
            write!(f, "{value:.1} {}", UNITS[unit])
        }
    }
}

impl fmt::Display for MiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

/// Why a size could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size; write a number with K, M, G or T, for example 20G")]
pub struct ParseSizeError(String);

impl FromStr for Bytes {
    type Err = ParseSizeError;

    /// Reads `20G`, `512M`, `1.5T`, `1024` (bytes); multiples are binary, as in `qemu-img`; a trailing `B` or `iB` is allowed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseSizeError(text.to_owned());
        let trimmed = text.trim();
        let upper = trimmed.to_ascii_uppercase();
        let core = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
        let (number, shift) = match core.as_bytes().last().ok_or_else(wrong)? {
            b'K' => (&core[..core.len() - 1], 10),
            b'M' => (&core[..core.len() - 1], 20),
            b'G' => (&core[..core.len() - 1], 30),
            b'T' => (&core[..core.len() - 1], 40),
            _ => (core, 0),
        };
        let number = number.trim();
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << shift).map(Self).ok_or_else(wrong);
        }
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') || shift == 0 {
            return Err(wrong());
        }
        let value: f64 = number.parse().map_err(|_| wrong())?;
        #[expect(clippy::cast_precision_loss, reason = "shift is at most 40")]
        let bytes = value * (1_u64 << shift) as f64;
        #[expect(clippy::cast_precision_loss, reason = "a bound, not a figure")]
        if bytes >= u64::MAX as f64 {
            return Err(wrong());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded just above, digits only"
        )]
        let bytes = bytes as u64;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("1024", 1024),
            ("20G", 20 << 30),
            ("20 GiB", 20 << 30),
            ("512m", 512 << 20),
            ("1.5T", 3 << 39),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "G", "-1G", "1e3G", "twenty", "1.5", "99999999999T", "1,5G", "0x10"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_fitting_unit() {
        assert_eq!(Bytes(512).to_string(), "512 B");
        assert_eq!(Bytes(3 << 29).to_string(), "1.5 GB");
        assert_eq!(MiB(2048).to_string(), "2 GB");
    }
}
