//! A model of the table of history in memory. It passes the same contract test as the real
//! one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use adapters::history::{
    Count, Direction, History, HistoryError, HistoryWriter, MAX_COUNTED, MAX_READS, Part, RowKey, Slice,
};
use async_trait::async_trait;
use domain::history::Row;
use domain::time::Millis;

/// Most rows of one read, as of the real table.
const MAX_QUERY: usize = 1000;
/// Most bytes of one read, as of the real table.
const MAX_BYTES: usize = 1 << 20;
/// The largest row of DynamoDB.
const MAX_ROW: usize = 400 * 1024;

/// The table.
#[derive(Clone, Default)]
pub struct HistoryModel {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<(String, String), Row>,
    is_away: bool,
    /// It takes no row whose partition begins so.
    refused: Option<String>,
    writes: usize,
    reads: usize,
}

impl HistoryModel {
    /// Every row, by partition and place.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn all(&self) -> Vec<Row> {
        self.state.lock().unwrap().rows.values().cloned().collect()
    }

    /// Shows every row of what endpoints are owed.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn each_owed(&self, look: impl FnMut(&Row)) {
        let state = self.state.lock().unwrap();
        let first = ("K#".to_owned(), String::new());
        state.rows.range(first..).take_while(|((of, _), _)| of.starts_with("K#")).map(|(_, row)| row).for_each(look);
    }

    /// Whether anything is owed.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn owes(&self) -> bool {
        let mut owes = false;
        self.each_owed(|_| owes = true);
        owes
    }

    /// From now on it fails, or works again.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn be_away(&self, away: bool) {
        self.state.lock().unwrap().is_away = away;
    }

    /// From now on it takes no row whose partition begins so, or all rows again.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn refuse(&self, prefix: Option<&str>) {
        self.state.lock().unwrap().refused = prefix.map(str::to_owned);
    }

    /// How many calls wrote rows, and how many read some.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn calls(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.writes, state.reads)
    }

    /// What it is at this moment, to be restored later.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn snapshot(&self) -> BTreeMap<(String, String), Row> {
        self.state.lock().unwrap().rows.clone()
    }

    /// Becomes again what it was.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn restore(&self, rows: BTreeMap<(String, String), Row>) {
        self.state.lock().unwrap().rows = rows;
    }

    fn reading(&self) -> Result<MutexGuard<'_, State>, HistoryError> {
        let mut state = self.state.lock().unwrap();
        if state.is_away {
            return Err(HistoryError::Read("the model is away".into()));
        }
        state.reads += 1;
        Ok(state)
    }

    fn writing(&self) -> Result<MutexGuard<'_, State>, HistoryError> {
        let mut state = self.state.lock().unwrap();
        if state.is_away {
            return Err(HistoryError::Write("the model is away".into()));
        }
        state.writes += 1;
        Ok(state)
    }
}

fn key(row: &Row) -> (String, String) {
    (row.partition.clone(), row.place.clone())
}

fn bytes(row: &Row) -> usize {
    row.partition.len() + row.place.len() + row.body.len()
}

/// The table keeps whole seconds.
fn stored(row: &Row) -> Row {
    Row { kept_until: Millis(row.kept_until.0.div_ceil(1000) * 1000), ..row.clone() }
}

#[async_trait]
impl HistoryWriter for HistoryModel {
    async fn write(&self, rows: Vec<Row>) -> Vec<Row> {
        if rows.is_empty() {
            return Vec::new();
        }
        let Ok(mut state) = self.writing() else { return rows };
        let refused = state.refused.clone();
        let is_taken = |row: &Row| {
            bytes(row) <= MAX_ROW && refused.as_ref().is_none_or(|prefix| !row.partition.starts_with(prefix))
        };
        let (taken, refused): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(is_taken);
        state.rows.extend(taken.iter().map(|row| (key(row), stored(row))));
        refused
    }

    async fn add(&self, row: &Row) -> Result<bool, HistoryError> {
        let mut state = self.writing()?;
        let is_new = !state.rows.contains_key(&key(row));
        if is_new {
            state.rows.insert(key(row), stored(row));
        }
        Ok(is_new)
    }
}

#[async_trait]
impl History for HistoryModel {
    async fn part(&self, part: &Part, now: Millis) -> Result<Slice, HistoryError> {
        let state = self.reading()?;
        // DynamoDB refuses empty keys.
        let keys = [Some(&part.partition), part.after.as_ref(), part.before.as_ref()];
        if keys.into_iter().flatten().any(String::is_empty) {
            return Err(HistoryError::Read("an empty key".into()));
        }
        let place_of = |row: &Row| match &row.by_event {
            Some(index) if part.by_event => (index.event.clone(), index.place.clone()),
            _ => key(row),
        };
        let belongs = |row: &&Row| {
            let (partition, place) = place_of(row);
            part.by_event <= row.by_event.is_some()
                && partition == part.partition
                && part.after.as_ref().is_none_or(|after| place > *after)
                && part.before.as_ref().is_none_or(|before| place < *before)
        };
        let mut rows: Vec<&Row> = if part.by_event {
            state.rows.values().filter(belongs).collect()
        } else {
            let first = (part.partition.clone(), String::new());
            let here = state.rows.range(first..).take_while(|((partition, _), _)| *partition == part.partition);
            here.map(|(_, row)| row).filter(belongs).collect()
        };
        rows.sort_by_key(|row| place_of(row).1);
        if part.direction == Direction::Backwards {
            rows.reverse();
        }
        let mut slice = Slice::default();
        let mut read = 0;
        let limit = part.limit.min(MAX_QUERY);
        for (count, row) in rows.iter().enumerate() {
            read += bytes(row);
            if count == limit || (count > 0 && read > MAX_BYTES) {
                slice.next = Some(place_of(rows[count - 1]).1);
                break;
            }
            slice.rows.extend((part.with_ended || row.is_kept(now)).then(|| (*row).clone()));
        }
        Ok(slice)
    }

    async fn count(&self, partition: &str, limit: usize, now: Millis) -> Result<Count, HistoryError> {
        let mut count = Count::default();
        let mut part = Part { limit, ..Part::of(partition.to_owned()) };
        for _ in 0..MAX_COUNTED {
            let slice = self.part(&part, now).await?;
            count.rows += slice.rows.len();
            (count.is_more, part.after) = (slice.next.is_some(), slice.next);
            part.limit = part.limit.saturating_sub(slice.rows.len());
            if part.limit == 0 || !count.is_more {
                break;
            }
        }
        Ok(count)
    }

    async fn rows(&self, keys: &[RowKey], now: Millis) -> Result<Vec<Option<Row>>, HistoryError> {
        let mut found = Vec::with_capacity(keys.len());
        for part in keys.chunks(MAX_READS) {
            let state = self.reading()?;
            let row = |key: &RowKey| state.rows.get(&(key.partition.clone(), key.place.clone()));
            found.extend(part.iter().map(|key| row(key).filter(|row| row.is_kept(now)).cloned()));
        }
        Ok(found)
    }

    async fn replace(&self, body: &str, row: &Row) -> Result<bool, HistoryError> {
        let mut state = self.writing()?;
        let is_there = state.rows.get(&key(row)).is_some_and(|there| there.body == body);
        if is_there {
            state.rows.insert(key(row), stored(row));
        }
        Ok(is_there)
    }

    async fn delete(&self, keys: &[RowKey]) -> Result<(), HistoryError> {
        let mut state = self.writing()?;
        for RowKey { partition, place } in keys {
            state.rows.remove(&(partition.clone(), place.clone()));
        }
        Ok(())
    }
}
