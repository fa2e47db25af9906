//! Erasing: the payload of an event, or all that is kept of a tenant. Everything is gone
//! through twice. What was being delivered, written or filed the first time has ended when the
//! second time begins, and no message of it is left in a queue.

mod event;
mod owed;
mod tenant;

use std::time::Duration;

use adapters::clock::Clock;
use adapters::dead_letter_store::StoreError;
use adapters::history::HistoryError;
use adapters::metrics;
use adapters::redis::query::{QueryError, ReplyError};
use adapters::redis::transport::Unavailable;
use adapters::registry::RegistryError;
use adapters::telemetry::chain;
use domain::job::{EraseJob, Job, JobPage};
use domain::time::Millis;

use crate::context::Context;
use crate::job_progress::JobProgress;

/// How long after the first sweep the second one begins. No message is out of sight for longer
/// than 15 minutes, and no invocation lasts longer than one.
const SETTLING: Duration = Duration::from_secs(16 * 60);
/// How often everything is gone through.
const SWEEPS: u8 = 2;

/// How far a sweep came on one page.
#[derive(Debug)]
pub(crate) enum Sweep {
    /// To its end.
    Complete,
    /// To there.
    Until(String),
}

/// When a page ends.
#[derive(Clone, Copy)]
pub(crate) struct Until<'a> {
    clock: &'a Clock,
    stop_at: Millis,
}

impl Until<'_> {
    /// Whether it is time to stop.
    pub(crate) fn is_over(self) -> bool {
        self.clock.now() >= self.stop_at
    }
}

/// Why a sweep did not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EraseError {
    /// The registry failed.
    #[error("the registry does not do its part")]
    Registry(#[from] RegistryError),
    /// History failed.
    #[error("history does not do its part")]
    History(#[from] HistoryError),
    /// The store of dead letters failed.
    #[error("the store of dead letters does not do its part")]
    Store(#[from] StoreError),
    /// Redis failed.
    #[error("Redis does not do its part")]
    Redis(#[from] QueryError),
    /// Redis did not answer.
    #[error("Redis does not answer")]
    Away(#[from] Unavailable),
    /// Redis refused a command.
    #[error("Redis refused a command")]
    Reply(#[from] ReplyError),
    /// History did not take a row without its payload.
    #[error("history did not take an erased row")]
    Refused,
    /// A row cannot be read or written.
    #[error("a row of history cannot be read")]
    Unreadable(#[from] serde_json::Error),
}

/// Works on a page until `stop_at` at the latest.
pub(crate) async fn work_on(context: &Context, page: &JobPage, job: &EraseJob, stop_at: Millis) -> JobProgress {
    // A page holds rows of some endpoints at a time. Nothing closes it.
    let _permit = context.replays.acquire().await.ok();
    let position = job.position.as_deref();
    let until = Until { clock: &context.clock, stop_at };
    let swept = match &job.event_id {
        Some(event_id) => event::sweep(context, (&page.tenant, event_id), job.before, position, until).await,
        None => tenant::sweep(context, &page.tenant, job.before, position, until).await,
    };
    let now = context.clock.now();
    let next = |job| JobProgress::Continues { job: Job::Erase(job), due: now };
    match swept {
        Ok(Sweep::Until(position)) => next(EraseJob { position: Some(position), ..job.clone() }),
        Ok(Sweep::Complete) if job.sweep + 1 < SWEEPS => {
            let job = EraseJob { sweep: job.sweep + 1, position: None, ..job.clone() };
            JobProgress::Continues { job: Job::Erase(job), due: now.after(SETTLING) }
        }
        Ok(Sweep::Complete) => end(context, page, job).await,
        Err(error) => {
            tracing::error!(tenant = %page.tenant, job_id = %page.id, error = %chain(&error), "erasing waits");
            JobProgress::Waits("something that is erased from is away")
        }
    }
}

/// Says that it is done. The line in the log stays as the proof, without what was erased.
async fn end(context: &Context, page: &JobPage, job: &EraseJob) -> JobProgress {
    let ended = match &job.event_id {
        Some(_) => Ok(()),
        None => tenant::end(context, &page.tenant, job.before).await,
    };
    if let Err(error) = ended {
        tracing::error!(tenant = %page.tenant, job_id = %page.id, error = %chain(&error), "erasing is done and cannot be noted");
        return JobProgress::Waits("the end of an erasing cannot be noted");
    }
    if job.event_id.is_some() {
        metrics::events_erased();
    }
    tracing::warn!(
        audit = true,
        tenant = %page.tenant,
        event_id = job.event_id.as_deref().unwrap_or_default(),
        job_id = %page.id,
        correlation_id = %page.correlation_id,
        before = %job.before,
        "erased"
    );
    JobProgress::Done
}
