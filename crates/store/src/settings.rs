//! What the user set, key by key; a key without a row is left to the layers below.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::row::{Reader, json};
use crate::{Store, StoreError};

/// The table of settings.
#[derive(Clone, Copy, Debug)]
pub struct SettingsTable<'a>(pub(crate) &'a Store);

impl SettingsTable<'_> {
    /// Every key that was set.
    ///
    /// # Errors
    /// The store's.
    pub async fn get_all(&self) -> Result<BTreeMap<String, Value>, StoreError> {
        let rows = sqlx::query!("SELECT key, value FROM settings ORDER BY key")
            .fetch_all(self.0.readers())
            .await
            .map_err(self.0.failed("read the settings"))?;
        rows.into_iter()
            .map(|row| {
                let value = Reader::new(self.0.database(), "settings", &row.key).json("value", &row.value)?;
                Ok((row.key, value))
            })
            .collect()
    }

    /// Replaces everything that was set, as one change.
    ///
    /// # Errors
    /// The store's; then nothing has changed.
    pub async fn replace(&self, values: &BTreeMap<String, Value>) -> Result<(), StoreError> {
        let failed = || self.0.failed("write the settings");
        let mut transaction = self.0.writer().begin().await.map_err(failed())?;
        sqlx::query!("DELETE FROM settings").execute(&mut *transaction).await.map_err(failed())?;
        for (key, value) in values {
            let value = json("settings.value", value)?;
            sqlx::query!("INSERT INTO settings (key, value) VALUES (?, ?)", key, value)
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())
    }
}
