//! The rows of replays: whoever changes one begins with what it says, so that no change is
//! lost.

use domain::history::replay::Replay;
use domain::history::{Row, names};
use domain::time::Millis;

use crate::history::{History, HistoryError, Part, RowKey};

/// How often a change is tried that others come before.
const TRIES: u32 = 5;

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is written.
    Done(Replay),
    /// It was not wanted for what the row says.
    Unwanted(Replay),
    /// There is no such replay.
    Gone,
}

fn replay(row: &Row) -> Result<Replay, HistoryError> {
    serde_json::from_str(&row.body).map_err(|error| HistoryError::Incomplete(Some(error)))
}

async fn row(history: &dyn History, tenant: &str, id: &str, now: Millis) -> Result<Option<Row>, HistoryError> {
    let key = RowKey { partition: names::replays(tenant), place: id.to_owned() };
    Ok(history.rows(&[key], now).await?.pop().flatten())
}

/// A replay as it is now.
///
/// # Errors
/// When it cannot be read.
pub async fn read(history: &dyn History, tenant: &str, id: &str, now: Millis) -> Result<Option<Replay>, HistoryError> {
    row(history, tenant, id, now).await?.as_ref().map(replay).transpose()
}

/// Writes a new replay.
///
/// # Errors
/// When it is not written.
pub async fn create(history: &dyn History, new: &Replay) -> Result<(), HistoryError> {
    history.add(&written(new)?).await.map(|_| ())
}

/// Changes a replay as `change` says, which is asked again when somebody else was faster.
///
/// # Errors
/// When it cannot be read or written.
pub async fn change(
    history: &dyn History,
    (tenant, id): (&str, &str),
    now: Millis,
    change: impl Fn(&Replay) -> Option<Replay> + Send,
) -> Result<Changed, HistoryError> {
    for _ in 0..TRIES {
        let Some(before) = row(history, tenant, id, now).await? else { return Ok(Changed::Gone) };
        let found = replay(&before)?;
        let Some(changed) = change(&found) else { return Ok(Changed::Unwanted(found)) };
        if history.replace(&before.body, &written(&changed)?).await? {
            return Ok(Changed::Done(changed));
        }
    }
    Err(HistoryError::Write("others changed it again and again".into()))
}

/// A tenant's replays.
///
/// # Errors
/// When they cannot be read.
pub async fn all(history: &dyn History, tenant: &str, now: Millis) -> Result<Vec<Replay>, HistoryError> {
    let mut part = Part::of(names::replays(tenant));
    let mut all = Vec::new();
    loop {
        let slice = history.part(&part, now).await?;
        for found in slice.rows.iter().map(replay) {
            all.push(found?);
        }
        match slice.next {
            Some(next) => part.after = Some(next),
            None => return Ok(all),
        }
    }
}

fn written(replay: &Replay) -> Result<Row, HistoryError> {
    replay.row().map_err(|error| HistoryError::Incomplete(Some(error)))
}
