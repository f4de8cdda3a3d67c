//! What was measured, block by block; what is in a block is not known here.

use crate::{Store, StoreError};

/// A block as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// Whose values.
    pub subject: String,
    /// Seconds of a slot.
    pub step: u32,
    /// Its first second, since 1970.
    pub start: i64,
    /// The values, packed.
    pub data: Vec<u8>,
}

/// The table of history.
#[derive(Clone, Copy, Debug)]
pub struct History<'a>(pub(crate) &'a Store);

impl History<'_> {
    /// Writes blocks, in place of what there was of them, as one change.
    ///
    /// # Errors
    /// The store's; then nothing has changed.
    pub async fn put(&self, rows: &[HistoryRow]) -> Result<(), StoreError> {
        let failed = || self.0.failed("write the history");
        let mut transaction = self.0.writer().begin().await.map_err(failed())?;
        for row in rows {
            sqlx::query!(
                "INSERT INTO history (subject, step, start, data) VALUES (?, ?, ?, ?)
                 ON CONFLICT (subject, step, start) DO UPDATE SET data = excluded.data",
                row.subject,
                row.step,
                row.start,
                row.data
            )
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())
    }

    /// The blocks of a subject that begin in a stretch of time, its end left out; oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(
        &self,
        subject: &str,
        step: u32,
        from: i64,
        to: i64,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        let rows = sqlx::query!(
            "SELECT start, data FROM history WHERE subject = ? AND step = ? AND start >= ? AND start < ? ORDER BY start",
            subject,
            step,
            from,
            to
        )
        .fetch_all(self.0.readers())
        .await
        .map_err(self.0.failed("read the history"))?;
        let row =
            |row: (i64, Vec<u8>)| HistoryRow { subject: subject.to_owned(), step, start: row.0, data: row.1 };
        Ok(rows.into_iter().map(|found| row((found.start, found.data))).collect())
    }

    /// Removes the blocks of a step that begin before an instant; how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_before(&self, step: u32, before: i64) -> Result<u64, StoreError> {
        let done = sqlx::query!("DELETE FROM history WHERE step = ? AND start < ?", step, before)
            .execute(self.0.writer())
            .await
            .map_err(self.0.failed("prune the history"))?;
        Ok(done.rows_affected())
    }

    /// Removes all of a subject.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget(&self, subject: &str) -> Result<(), StoreError> {
        sqlx::query!("DELETE FROM history WHERE subject = ?", subject)
            .execute(self.0.writer())
            .await
            .map_err(self.0.failed("forget history"))?;
        Ok(())
    }

    /// What the blocks take, in bytes.
    ///
    /// # Errors
    /// The store's.
    pub async fn size(&self) -> Result<u64, StoreError> {
        let row = sqlx::query!(r#"SELECT COALESCE(SUM(LENGTH(data)), 0) AS "bytes!: i64" FROM history"#)
            .fetch_one(self.0.readers())
            .await
            .map_err(self.0.failed("read the history"))?;
        Ok(u64::try_from(row.bytes).unwrap_or(0))
    }

    /// The earliest beginning of a block of a step.
    ///
    /// # Errors
    /// The store's.
    pub async fn oldest(&self, step: u32) -> Result<Option<i64>, StoreError> {
        let row = sqlx::query!(r#"SELECT MIN(start) AS "start: i64" FROM history WHERE step = ?"#, step)
            .fetch_one(self.0.readers())
            .await
            .map_err(self.0.failed("read the history"))?;
        Ok(row.start)
    }
}
