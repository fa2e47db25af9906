//! A page of a catch-up: what an endpoint was owed is queued, from the oldest delivery on, once
//! the endpoint is enabled. A delivery is queued and then its row is deleted: a crash in between
//! queues it twice with one hop, and `claim` drops the second.

use adapters::aws::sqs::{QueueName, batches};
use adapters::history::{Part, RowKey};
use adapters::metrics;
use adapters::redis::query::Trip;
use adapters::redis::records;
use adapters::registry::{CardFound, EndpointKey};
use adapters::telemetry::chain;
use domain::endpoint::{Card, EndpointState};
use domain::job::{CatchUpJob, Job, JobPage};
use domain::reason::Reason;
use domain::retry::REQUEUE_FLOOR;
use domain::schedule::RetrySchedule;
use domain::time::Millis;

use crate::context::{Context, SHORTEST_WAIT};
use crate::job_progress::JobProgress;
use crate::owed::{self, OwedError, OwedPart, OwedRow};
use crate::{retried, turn};

const REGISTRY_AWAY: &str = "the registry of endpoints cannot be read";
const NO_CARD: &str = "the endpoint has no card that can be read";
const AWAY: &str = "what the endpoint is owed cannot be read or changed";
const ANOTHER: &str = "another catch-up of the endpoint is at work";
const REFUSED: &str = "the queue did not take what the endpoint is owed";

/// What becomes of what an endpoint is owed.
enum Wish {
    /// It is sent, but for what was owed until then.
    Send { schedule: RetrySchedule, dropped_before: Option<Millis> },
    /// It is given up: the endpoint was deleted.
    GiveUp,
    /// Nothing of it is kept: the endpoint was erased.
    Erase,
}

/// Works on a page until `stop_at` at the latest.
pub(crate) async fn work_on(context: &Context, page: &JobPage, job: &CatchUpJob, stop_at: Millis) -> JobProgress {
    let wish = match wish(context, page, job).await {
        Ok(Some(wish)) => wish,
        // Whoever enables it wakes the catch-up up.
        Ok(None) => return JobProgress::Idle,
        Err(why) => return JobProgress::Waits(why),
    };
    // A page holds payloads. Nothing closes it.
    let _permit = context.replays.acquire().await.ok();
    let Some(turn) = turn::take(context, &job.endpoint).await else { return JobProgress::Waits(ANOTHER) };
    let (rows, bytes) = (context.pages.cards, context.pages.bytes);
    let mut run = Run { context, page, wish, stop_at, job: job.clone(), rows, bytes, has_moved: false };
    let came = run.run().await;
    turn::give_back(context, turn).await;
    let Run { job: done, has_moved, .. } = run;
    metrics::owed_caught_up(done.queued - job.queued);
    let now = context.clock.now();
    match came {
        Ok(true) => {
            let queued = done.queued;
            tracing::info!(tenant = %page.tenant, endpoint_id = %job.endpoint, queued, "an endpoint has what it was owed");
            JobProgress::Done
        }
        Ok(false) => JobProgress::Continues { job: Job::CatchUp(done), due: now },
        Err(_) if has_moved => JobProgress::Continues { job: Job::CatchUp(done), due: now.after(SHORTEST_WAIT) },
        Err(why) => JobProgress::Waits(why),
    }
}

/// What becomes of what the endpoint is owed; `None` while it is owed on.
async fn wish(context: &Context, page: &JobPage, job: &CatchUpJob) -> Result<Option<Wish>, &'static str> {
    let key = EndpointKey { tenant: page.tenant.clone(), endpoint: job.endpoint.clone() };
    let found = context.registry.card(&key).await.map_err(|error| {
        tracing::error!(endpoint_id = %job.endpoint, code = error.code(), error = %chain(&error), "a catch-up waits");
        REGISTRY_AWAY
    })?;
    match found {
        CardFound::Card(card) => Ok(wish_of(&card)),
        CardFound::Gone => Ok(Some(Wish::GiveUp)),
        CardFound::Erased => Ok(Some(Wish::Erase)),
        CardFound::Missing | CardFound::Unreadable => Err(NO_CARD),
    }
}

fn wish_of(card: &Card) -> Option<Wish> {
    match card.state {
        EndpointState::Enabled => {
            let (schedule, dropped_before) = (card.retry_schedule.clone(), card.owed_dropped_before);
            Some(Wish::Send { schedule, dropped_before })
        }
        EndpointState::Paused | EndpointState::Disabled => None,
    }
}

/// A page under way.
struct Run<'a> {
    context: &'a Context,
    page: &'a JobPage,
    wish: Wish,
    stop_at: Millis,
    /// How far it is.
    job: CatchUpJob,
    /// Rows and bytes that it may still look at.
    rows: usize,
    bytes: usize,
    /// Whether anything was done.
    has_moved: bool,
}

impl Run<'_> {
    /// Goes on until the page has what it may have. Says whether nothing is left.
    async fn run(&mut self) -> Result<bool, &'static str> {
        let whole = owed::part_of(&self.page.tenant, &self.job.endpoint, None);
        while self.rows > 0 && self.bytes > 0 && self.context.clock.now() < self.stop_at {
            let after = self.job.after.clone();
            let part = Part { after, limit: owed::PART.min(self.rows), ..whole.clone() };
            let next = match self.wish {
                Wish::Erase => self.erase(&part).await,
                Wish::Send { .. } | Wish::GiveUp => self.catch_up(&part).await,
            };
            match next {
                Ok(None) => return Ok(true),
                Ok(Some(next)) => self.job.after = Some(next),
                Err(Stopped::Refused) => return Err(REFUSED),
                Err(Stopped::Failed(error)) => {
                    tracing::error!(endpoint_id = %self.job.endpoint, error = %chain(&error), "a catch-up waits");
                    return Err(AWAY);
                }
            }
            self.has_moved = true;
        }
        Ok(false)
    }

    fn spend(&mut self, rows: usize, bytes: usize) {
        self.rows = self.rows.saturating_sub(rows);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Deletes a part of the rows, whatever they say.
    async fn erase(&mut self, part: &Part) -> Result<Option<String>, Stopped> {
        let slice = self.context.history.part(part, self.context.clock.now()).await.map_err(OwedError::from)?;
        self.spend(slice.rows.len(), 0);
        owed::delete(self.context, &slice.rows.iter().map(RowKey::of).collect::<Vec<_>>()).await?;
        Ok(slice.next)
    }

    /// Queues a part of the deliveries, or ends them. Gives the place after which they go on.
    async fn catch_up(&mut self, part: &Part) -> Result<Option<String>, Stopped> {
        let OwedPart { rows, unwanted, count, bytes, next } = owed::read(self.context, part).await?;
        self.spend(count, bytes);
        owed::delete(self.context, &unwanted).await?;
        let (mut wanted, mut ended) = (Vec::new(), Vec::new());
        for row in &rows {
            match self.end_of(row) {
                Some(reason) => ended.push((row, reason)),
                None => wanted.push(row),
            }
        }
        owed::end(self.context, &ended).await?;
        let queued = self.queue(&wanted).await;
        self.note_queued(&wanted, &queued).await;
        self.has_moved |= !queued.is_empty();
        self.job.queued += queued.len() as u64;
        owed::delete(self.context, &queued).await?;
        if queued.len() < wanted.len() { Err(Stopped::Refused) } else { Ok(next) }
    }

    /// Gives a record to each delivery that has none, so that it is known before it is attempted: a
    /// replay of what is missing would send it as well.
    async fn note_queued(&self, wanted: &[&OwedRow], queued: &[RowKey]) {
        let mut trip = Trip::default();
        for row in wanted.iter().filter(|row| queued.contains(&row.key())) {
            let message = row.message();
            let noted = records::confirm(&message.delivery.id, &message.new_record(), self.context.lifetimes);
            drop(trip.add(noted));
        }
        drop(self.context.round_trip(trip).await);
    }

    /// Why a delivery is not sent any more, if it is not.
    fn end_of(&self, row: &OwedRow) -> Option<Reason> {
        match &self.wish {
            Wish::GiveUp | Wish::Erase => Some(Reason::EndpointGone),
            Wish::Send { dropped_before, .. } if dropped_before.is_some_and(|before| row.owed.since <= before) => {
                Some(Reason::CatchUpRefused)
            }
            Wish::Send { .. } => row.has_expired(self.context).then_some(Reason::Expired),
        }
    }

    /// Queues deliveries one hop on. Gives the rows of those that the queue has.
    async fn queue(&self, wanted: &[&OwedRow]) -> Vec<RowKey> {
        let (Wish::Send { schedule, .. }, now) = (&self.wish, self.context.clock.now()) else { return Vec::new() };
        let due = now.after(REQUEUE_FLOOR);
        let outgoing = wanted.iter().filter_map(|row| {
            let message = row.message().begun_again(due, schedule.deadline(now));
            Some((row.key(), retried::outgoing(&message, now)?))
        });
        let mut queued = Vec::with_capacity(wanted.len());
        // One after the other: the oldest is sent first.
        for (keys, messages) in batches(outgoing) {
            for (key, result) in keys.into_iter().zip(self.context.send(QueueName::Retry, messages).await) {
                match result {
                    Ok(()) => queued.push(key),
                    Err(error) => {
                        tracing::error!(place = %key.place, code = error.code(), error = %chain(&error), "an owed delivery is not queued; its row stays");
                    }
                }
            }
        }
        queued
    }
}

/// Why a page stopped.
enum Stopped {
    /// The queue did not take everything.
    Refused,
    /// Something else is away.
    Failed(OwedError),
}

impl From<OwedError> for Stopped {
    fn from(error: OwedError) -> Self {
        Self::Failed(error)
    }
}
