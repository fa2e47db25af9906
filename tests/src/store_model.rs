//! A model of the dead-letter table in memory. It passes the same contract test as the
//! real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use adapters::dead_letter_store::{DeadLetterStore, Filed, Kept, Listed, Reserved, StoreError};
use async_trait::async_trait;
use domain::dead_letter::{DeadLetter, Filter, Summary};
use domain::place::Place;
use domain::reason::Reason;
use domain::time::Millis;

/// The largest item of DynamoDB, less what the other attributes need.
const MAX_ITEM: usize = 400 * 1024 - 16 * 1024;

#[derive(Clone, Debug)]
struct Item {
    letter: DeadLetter,
    redriving: Option<(String, Millis)>,
    redriven_at: Option<Millis>,
}

/// The table.
#[derive(Clone, Default)]
pub struct StoreModel {
    items: Arc<Mutex<BTreeMap<String, Item>>>,
    away: Arc<Mutex<bool>>,
}

impl StoreModel {
    /// Everything that is filed, by id.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn all(&self) -> BTreeMap<String, DeadLetter> {
        self.items.lock().unwrap().iter().map(|(id, item)| (id.clone(), item.letter.clone())).collect()
    }

    /// Shows everything that is filed, and when it was sent again.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn each(&self, mut look: impl FnMut(&DeadLetter, Option<Millis>)) {
        self.items.lock().unwrap().values().for_each(|item| look(&item.letter, item.redriven_at));
    }

    /// From now on it fails, or works again.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn be_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    fn items(&self) -> Result<MutexGuard<'_, BTreeMap<String, Item>>, StoreError> {
        if *self.away.lock().unwrap() {
            return Err(StoreError::Get("the model is away".into()));
        }
        Ok(self.items.lock().unwrap())
    }

    fn update(&self, letter: &DeadLetter, change: impl Fn(&mut Item)) -> Result<(), StoreError> {
        let mut items = self.items()?;
        let same = |item: &&mut Item| (item.letter.accepted_at, item.letter.hop) == (letter.accepted_at, letter.hop);
        if let Some(item) = items.get_mut(&letter.webhook_id).filter(same) {
            change(item);
        }
        Ok(())
    }
}

fn matches(filter: &Filter, item: &Item) -> bool {
    let letter = &item.letter;
    filter.reason.is_none_or(|reason| letter.reason == Some(reason))
        && filter.destination.as_ref().is_none_or(|to| letter.destination == *to)
        && filter.since.is_none_or(|since| letter.failed_at >= since)
        && filter.until.is_none_or(|until| letter.failed_at < until)
        && (!filter.redrivable || (item.redriven_at.is_none() && letter.reason != Some(Reason::Malformed)))
}

#[async_trait]
impl DeadLetterStore for StoreModel {
    async fn file(&self, letter: &DeadLetter) -> Result<Filed, StoreError> {
        if serde_json::to_string(letter)?.len() > MAX_ITEM {
            return Err(StoreError::Put("item size has exceeded the maximum allowed size".into()));
        }
        let mut items = self.items()?;
        if let Some(Item { letter: filed, redriven_at, .. }) = items.get(&letter.webhook_id)
            && !letter.takes_place_of(filed, redriven_at.is_some())
        {
            return Ok(if filed.body_hash == letter.body_hash { Filed::Known } else { Filed::Foreign });
        }
        // The table keeps text: what cannot be read back fails here.
        let letter: DeadLetter = serde_json::from_str(&serde_json::to_string(letter)?)?;
        let item = Item { letter: letter.clone(), redriving: None, redriven_at: None };
        items.insert(letter.webhook_id.clone(), item);
        Ok(Filed::Written)
    }

    async fn get(&self, id: &str) -> Result<Option<Kept>, StoreError> {
        let items = self.items()?;
        Ok(items.get(id).map(|item| Kept { letter: item.letter.clone(), redriven_at: item.redriven_at }))
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&Place>,
        limit: usize,
        _now: Millis,
    ) -> Result<Listed, StoreError> {
        let items = self.items()?;
        let found = items.values().filter(|item| matches(filter, item));
        let mut letters: Vec<Summary> = found.map(|item| item.letter.summary(item.redriven_at)).collect();
        letters.retain(|letter| after.is_none_or(|after| letter.place() < *after));
        letters.sort_by_key(|letter| std::cmp::Reverse(letter.place()));
        let more = letters.len() > limit;
        letters.truncate(limit);
        let next = letters.last().filter(|_| more).map(Summary::place);
        Ok(Listed { letters, next })
    }

    async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.items()?.remove(id).is_some())
    }

    async fn reserve(&self, id: &str, token: &str, now: Millis, until: Millis) -> Result<Reserved, StoreError> {
        let mut items = self.items()?;
        let Some(item) = items.get_mut(id) else { return Ok(Reserved::Missing) };
        if item.redriven_at.is_some() {
            return Ok(Reserved::Redriven(Box::new(item.letter.clone())));
        }
        if item.redriving.as_ref().is_some_and(|(by, until)| by != token && *until > now) {
            return Ok(Reserved::Taken);
        }
        item.redriving = Some((token.to_owned(), until));
        Ok(Reserved::Granted(Box::new(item.letter.clone())))
    }

    async fn redriven(&self, letter: &DeadLetter, at: Millis) -> Result<(), StoreError> {
        self.update(letter, |item| {
            item.redriven_at = Some(at);
            item.redriving = None;
        })
    }

    async fn release(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.update(letter, |item| item.redriving = None)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.items().map(|_| ())
    }
}
