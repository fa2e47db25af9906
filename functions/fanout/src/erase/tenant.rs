//! Erases all that is kept of a tenant: its endpoints, its history, its dead letters and what
//! Redis has of it. Each stage may take many pages. A page that ends in the middle begins again
//! where it began: what it deleted is gone.

use std::time::Duration;

use adapters::history::{Part, RowKey};
use adapters::redis::{erasure, recent, tenants, waiting};
use domain::history::replay::Replay;
use domain::history::{Row, names};
use domain::time::{Millis, whole_ms};
use futures_util::future::try_join_all;
use strum::{EnumString, IntoStaticStr};

use super::event::delete_dead_letters;
use super::{EraseError, Sweep, Until};
use crate::context::Context;

/// How long after its event was accepted a delivery may end at most: it waits for its deadline,
/// may be redriven for as long as its dead letter lives, and waits again.
const LONGEST_DELIVERY: Duration = Duration::from_secs(48 * 86_400);
/// How long history keeps anything at most, whatever it is set to now.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Partitions that are read at a time.
const AT_ONCE: usize = 16;
/// Most rows that are deleted at a time.
const ROWS: usize = 200;
/// Most dead letters at a time: each takes some calls.
const LETTERS: usize = 20;

/// The stages, in order.
#[derive(Clone, Copy, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
enum Stage {
    /// The endpoints, what they are owed, and the history of their deliveries.
    Endpoints,
    /// The events, by day.
    Events,
    /// The dead letters.
    DeadLetters,
    /// The replays.
    Replays,
    /// What Redis has.
    Redis,
}

impl Stage {
    fn next(self) -> Option<Self> {
        match self {
            Self::Endpoints => Some(Self::Events),
            Self::Events => Some(Self::DeadLetters),
            Self::DeadLetters => Some(Self::Replays),
            Self::Replays => Some(Self::Redis),
            Self::Redis => None,
        }
    }
}

/// What a step of a stage came to.
enum Step {
    /// The stage is done.
    Done,
    /// It goes on from there.
    From(String),
    /// There was no time for all of it: it begins again where it began.
    Again,
}

impl From<Option<String>> for Step {
    fn from(next: Option<String>) -> Self {
        next.map_or(Self::Done, Self::From)
    }
}

/// Goes through everything that is kept of a tenant.
pub(super) async fn sweep(
    context: &Context,
    tenant: &str,
    before: Millis,
    position: Option<&str>,
    until: Until<'_>,
) -> Result<Sweep, EraseError> {
    let begun = position.and_then(|text| text.split_once(':'));
    let mut stage = begun.and_then(|(name, _)| name.parse().ok()).unwrap_or(Stage::Endpoints);
    let mut after = begun.map(|(_, after)| after.to_owned()).filter(|after| !after.is_empty());
    loop {
        let from = after.as_deref();
        let step = match stage {
            Stage::Endpoints => endpoints(context, tenant, before, from, until).await?,
            Stage::Events => events(context, tenant, before, from, until).await?,
            Stage::DeadLetters => dead_letters(context, tenant, before, from).await?,
            Stage::Replays => replays(context, tenant, before, from).await?,
            Stage::Redis => {
                if from.is_none() {
                    recent::forget(context.redis.as_ref(), tenant).await?;
                }
                erasure::sweep(context.redis.as_ref(), tenant, before, from, || until.is_over()).await?.into()
            }
        };
        match step {
            Step::Again => {}
            Step::From(next) => after = Some(next),
            Step::Done => match stage.next() {
                Some(next) => (stage, after) = (next, None),
                None => return Ok(Sweep::Complete),
            },
        }
        if until.is_over() {
            let name: &str = stage.into();
            return Ok(Sweep::Until(format!("{name}:{}", after.unwrap_or_default())));
        }
    }
}

/// Notes that a tenant is erased: it can be made anew.
pub(super) async fn end(context: &Context, tenant: &str, before: Millis) -> Result<(), EraseError> {
    context.registry.end_erasing(tenant, before).await?;
    // Another erasing that began since keeps the mark for itself.
    let is_last = tenants::erasing(tenant).run(context.redis.as_ref()).await?.is_none_or(|at| at <= before);
    if is_last {
        tenants::end_erasing(tenant).run(context.redis.as_ref()).await?;
    }
    Ok(())
}

/// Erases a part of the endpoints, what they are owed, and the history of their deliveries.
async fn endpoints(
    context: &Context,
    tenant: &str,
    before: Millis,
    after: Option<&str>,
    until: Until<'_>,
) -> Result<Step, EraseError> {
    let now = context.clock.now();
    let part = context.registry.erase_part(tenant, before, after, now).await?;
    let oldest = Millis(now.0.saturating_sub(whole_ms(LONGEST_LIFE + LONGEST_DELIVERY)));
    for endpoint in &part.endpoints {
        waiting::remove_all(endpoint).run(context.redis.as_ref()).await?;
        let mut partitions = vec![names::owed(tenant, endpoint)];
        for day in names::days(oldest, before) {
            partitions.extend((0..names::SHARDS).map(|shard| names::deliveries(tenant, endpoint, &day, shard)));
        }
        for some in partitions.chunks(AT_ONCE) {
            let deleting = some.iter().map(|partition| delete_all(context, partition.clone(), before, until));
            if try_join_all(deleting).await?.contains(&false) {
                return Ok(Step::Again);
            }
        }
    }
    Ok(part.next.into())
}

/// Erases the events of one day, and gives the next day.
async fn events(
    context: &Context,
    tenant: &str,
    before: Millis,
    after: Option<&str>,
    until: Until<'_>,
) -> Result<Step, EraseError> {
    let now = context.clock.now();
    let oldest = Millis(now.0.saturating_sub(whole_ms(LONGEST_LIFE + names::DAY)));
    let Some(day) = names::days(oldest, before).into_iter().find(|day| after.is_none_or(|after| day.as_str() > after))
    else {
        return Ok(Step::Done);
    };
    let mut part = Part { limit: ROWS, with_ended: true, ..Part::of(names::events(tenant, &day)) };
    loop {
        let slice = context.history.part(&part, now).await?;
        // The payload first: its line in the list leads to it.
        let (mut payloads, mut lines) = (Vec::new(), Vec::new());
        for row in slice.rows.iter().filter(|row| is_before(row, before)) {
            let named = row.accepted_at().zip(names::split_listed(&row.partition, &row.place));
            payloads.extend(named.map(|(accepted_at, (_, event_id))| RowKey {
                partition: names::event(tenant, event_id),
                place: names::sortable(accepted_at),
            }));
            lines.push(RowKey::of(row));
        }
        context.history.delete(&payloads).await?;
        context.history.delete(&lines).await?;
        match slice.next {
            Some(_) if until.is_over() => return Ok(Step::Again),
            Some(next) => part.after = Some(next),
            None => return Ok(Step::From(day)),
        }
    }
}

async fn dead_letters(
    context: &Context,
    tenant: &str,
    before: Millis,
    after: Option<&str>,
) -> Result<Step, EraseError> {
    let whole = Part { with_ended: true, ..Part::of(names::dead_letters(tenant)) };
    let part = Part { after: after.map(str::to_owned), limit: LETTERS, ..whole };
    let slice = context.history.part(&part, context.clock.now()).await?;
    delete_dead_letters(context, tenant, &slice.rows, before).await?;
    Ok(slice.next.into())
}

async fn replays(context: &Context, tenant: &str, before: Millis, after: Option<&str>) -> Result<Step, EraseError> {
    let whole = Part { with_ended: true, ..Part::of(names::replays(tenant)) };
    let part = Part { after: after.map(str::to_owned), limit: ROWS, ..whole };
    let slice = context.history.part(&part, context.clock.now()).await?;
    let is_older = |row: &&Row| {
        let replay = serde_json::from_str::<Replay>(&row.body);
        replay.map_or(true, |replay| replay.created_at <= before)
    };
    let keys: Vec<RowKey> = slice.rows.iter().filter(is_older).map(RowKey::of).collect();
    context.history.delete(&keys).await?;
    Ok(slice.next.into())
}

/// Deletes what a partition has of events that were accepted until `before`. Says whether there
/// was time for all of it.
async fn delete_all(
    context: &Context,
    partition: String,
    before: Millis,
    until: Until<'_>,
) -> Result<bool, EraseError> {
    let mut part = Part { limit: ROWS, with_ended: true, ..Part::of(partition) };
    loop {
        let slice = context.history.part(&part, context.clock.now()).await?;
        let keys: Vec<RowKey> = slice.rows.iter().filter(|row| is_before(row, before)).map(RowKey::of).collect();
        if !keys.is_empty() {
            context.history.delete(&keys).await?;
        }
        match slice.next {
            Some(_) if until.is_over() => return Ok(false),
            Some(next) => part.after = Some(next),
            None => return Ok(true),
        }
    }
}

fn is_before(row: &Row, before: Millis) -> bool {
    row.accepted_at() <= Some(before)
}
