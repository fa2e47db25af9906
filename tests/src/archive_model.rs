//! The dead-letter table in memory. It passes the same contract test as the real
//! one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use adapters::dynamodb::{Archive, ArchiveError, Filed};
use async_trait::async_trait;
use domain::dead_letter::DeadLetter;

/// What DynamoDB takes, less what the other attributes need.
const MAX_ITEM: usize = 400 * 1024 - 1024;

/// The table.
#[derive(Clone, Default)]
pub struct ArchiveModel {
    letters: Arc<Mutex<BTreeMap<String, DeadLetter>>>,
}

impl ArchiveModel {
    /// Everything that is filed, by id.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn all(&self) -> BTreeMap<String, DeadLetter> {
        self.letters.lock().unwrap().clone()
    }
}

#[async_trait]
impl Archive for ArchiveModel {
    async fn file(&self, letter: &DeadLetter) -> Result<Filed, ArchiveError> {
        if serde_json::to_string(letter)?.len() > MAX_ITEM {
            return Err(ArchiveError::Put("item size has exceeded the maximum allowed size".to_owned()));
        }
        let mut letters = self.letters.lock().unwrap();
        if let Some(filed) = letters.get(&letter.webhook_id) {
            if filed.body_hash != letter.body_hash {
                return Ok(Filed::Foreign);
            }
            if !letter.is_newer_than(filed.accepted_at, filed.hop) {
                return Ok(Filed::Known);
            }
        }
        letters.insert(letter.webhook_id.clone(), letter.clone());
        Ok(Filed::Written)
    }
}
