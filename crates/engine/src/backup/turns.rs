//! Who of this engine works on a repository: any number of those that add to it or read it, or one that removes from it.
//!
//! The repository's own locks refuse whoever comes at the wrong time, of whatever program; within one engine the turn is waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::RwLock;
use voidvm_backup::Repository;

/// The turns of all repositories.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Arc<RwLock<()>>>>);

impl Turns {
    /// Those of one repository, wherever its directory is.
    pub(super) fn of(&self, repository: &Repository) -> Arc<RwLock<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(repository.id()).or_default())
    }
}
