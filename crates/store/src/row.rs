//! How values are written in columns and read back. Times as RFC 3339 with nine decimals, enums by their wire form, documents
//! as JSON. What cannot be read back is damage, and says in which column.

use std::path::Path;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

/// A time, such that text order is time order.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// A document.
pub(crate) fn json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unstorable { what, reason: error.to_string() })
}

/// Reads the columns of one row; remembers which row, for the error.
pub(crate) struct Reader<'a> {
    database: &'a Path,
    table: &'static str,
    id: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(database: &'a Path, table: &'static str, id: &'a str) -> Self {
        Self { database, table, id }
    }

    fn damage(&self, column: &str, reason: impl std::fmt::Display) -> StoreError {
        StoreError::Corrupt {
            path: self.database.to_owned(),
            reason: format!("{}.{column} of {}: {reason}", self.table, self.id),
        }
    }

    /// A text with a grammar of its own (ids, times).
    pub(crate) fn parse<T>(&self, column: &str, text: &str) -> Result<T, StoreError>
    where
        T: FromStr<Err: std::fmt::Display>,
    {
        text.parse().map_err(|error| self.damage(column, error))
    }

    /// The same, where there may be none.
    pub(crate) fn parse_optional<T>(&self, column: &str, text: Option<&str>) -> Result<Option<T>, StoreError>
    where
        T: FromStr<Err: std::fmt::Display>,
    {
        text.map(|text| self.parse(column, text)).transpose()
    }

    /// A document.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| self.damage(column, error))
    }

    /// A document, where there may be none.
    pub(crate) fn json_optional<T: DeserializeOwned>(
        &self,
        column: &str,
        text: Option<&str>,
    ) -> Result<Option<T>, StoreError> {
        text.map(|text| self.json(column, text)).transpose()
    }

    /// One of a closed set, by its wire form.
    pub(crate) fn one_of<T: Copy>(
        &self,
        column: &str,
        text: &str,
        all: &[T],
        wire: impl Fn(T) -> &'static str,
    ) -> Result<T, StoreError> {
        all.iter()
            .copied()
            .find(|value| wire(*value) == text)
            .ok_or_else(|| self.damage(column, format_args!("unknown value {text:?}")))
    }

    /// A count.
    pub(crate) fn count(&self, column: &str, value: Option<i64>) -> Result<Option<u64>, StoreError> {
        value.map(|value| value.try_into().map_err(|error| self.damage(column, error))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_order_of_times_is_time_order_and_nothing_is_lost() {
        let nanos =
            [0_i128, 1, 999_999_999, 1_000_000_000, 1_700_000_000_000_000_000, 1_700_000_000_100_000_000];
        let texts: Vec<String> =
            nanos.iter().map(|n| time(Timestamp::from_nanosecond(*n).unwrap())).collect();
        assert!(texts.is_sorted(), "{texts:?}");
        for (nano, text) in nanos.iter().zip(&texts) {
            assert_eq!(text.parse::<Timestamp>().unwrap().as_nanosecond(), *nano);
        }
    }
}
