//! Consumes events and jobs: read → claim → keep → fan out → finish. An event becomes a row of
//! history; a page of it becomes deliveries, which are queued or owed, and a continuation
//! carries the rest of it on. Jobs have pages, too. Nothing that was queued is lost when this
//! process ends: the page comes back, and `claim` drops what was done twice.

pub mod config;

mod announce;
mod catch_up;
mod claim;
mod context;
mod decision;
mod erase;
mod expire;
mod finish;
mod group;
mod ingest;
mod job_progress;
mod jobs;
mod kept;
mod notice;
mod owed;
mod page;
mod read;
mod replay;
mod retried;
mod subscriptions;
mod turn;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use adapters::aws::sqs_event::{self, Received, Sent, SqsEvent};
use adapters::clock::Clock;
use adapters::metrics;
use adapters::registry::TenantRevision;
use aws_lambda_events::sqs::SqsBatchResponse;
use domain::event::EventPage;
use domain::job::JobPage;
use domain::record::Ending;
use domain::retry::REQUEUE_FLOOR;
use domain::time::{Millis, whole_ms};
use domain::work::Work;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use lambda_runtime::LambdaEvent;

use crate::claim::{Claimed, claim};
use crate::config::Config;
use crate::context::{Context, SHORTEST_WAIT};
use crate::decision::{Decided, Decision, HeldClaim};
use crate::finish::finish;
use crate::job_progress::JobProgress;
use crate::kept::keep;
use crate::page::{PageEnd, Progress, REGISTRY_AWAY, fan_out};
use crate::read::read;

pub use crate::context::Clients;
pub use crate::subscriptions::Subscriptions;

/// What a batch leaves for its continuations, its dead letters and its records.
const FINISHING: Duration = Duration::from_secs(10);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The handler.
pub struct Fanout {
    context: Context,
}

impl Fanout {
    /// A handler with these settings.
    pub fn new(config: &Config, clients: Clients, clock: Clock) -> Self {
        Self { context: Context::new(config, clients, clock) }
    }

    /// Answers one event of Lambda.
    ///
    /// # Errors
    /// Never: a failure is reported for its own message.
    pub async fn answer(&self, event: LambdaEvent<SqsEvent<Sent>>) -> Result<SqsBatchResponse, Infallible> {
        let ends_at = Millis(event.context.deadline);
        let kept = self.handle(&event.payload.received(), ends_at).await;
        Ok(sqs_event::response(kept))
    }

    /// Works through one batch, all pages at once, and names the messages that SQS is to
    /// keep. `ends_at` is when Lambda ends the invocation.
    pub async fn handle(&self, records: &[Received], ends_at: Millis) -> Vec<String> {
        let context = &self.context;
        let now = context.clock.now();
        let stop_at = now.after(context.pages.time).min(Millis(ends_at.0.saturating_sub(whole_ms(FINISHING))));
        let mut decided = Vec::new();

        // Others may write to their queue, and what it brings is never taken for a page.
        let is_foreign = |(_, received): &(usize, &Received)| received.source == context.ingest_queue;
        let (foreign, own): (Vec<_>, Vec<_>) = records.iter().enumerate().partition(is_foreign);
        ingest::accept(context, &foreign, &mut decided).await;
        let read = read(&own, now, &mut decided);
        let claimed = claim(context, read, ends_at, &mut decided).await;
        keep(context, &claimed).await;
        decided.extend(join_all(claimed.into_iter().map(|next| catching(context, next, stop_at))).await);
        let mut kept = finish(context, decided).await;

        kept.sort_unstable();
        kept.into_iter().map(|record| records[record].message_id.clone()).collect()
    }
}

/// Works on one page. A panic costs this page and no other: its message comes back.
async fn catching(context: &Context, next: Claimed, stop_at: Millis) -> Decided {
    let (record, claim) = (next.record, next.claim.clone());
    match AssertUnwindSafe(work_on(context, next, stop_at)).catch_unwind().await {
        Ok(decided) => decided,
        Err(_) => {
            tracing::error!(webhook_id = %claim.id, hop = claim.hop, outcome = "panicked", "a page panicked; it stays in its queue");
            Decided { record, decision: Decision::Release(claim) }
        }
    }
}

/// Works on one page and decides what becomes of its message.
async fn work_on(context: &Context, next: Claimed, stop_at: Millis) -> Decided {
    let Claimed { record, work, claim, revision } = next;
    let decision = match work {
        Work::Event(page) => event(context, page, claim, revision, stop_at).await,
        Work::Job(page) => job(context, page, claim, stop_at).await,
        // None is read from this queue.
        Work::Delivery(_) => Decision::Release(claim),
    };
    Decided { record, decision }
}

/// Works on one page of an event.
async fn event(
    context: &Context,
    page: Box<EventPage>,
    claim: HeldClaim,
    revision: Option<TenantRevision>,
    stop_at: Millis,
) -> Decision {
    let progress = match revision {
        Some(known) => fan_out(context, &page, known.revision, claim.is_known, stop_at).await,
        None => Progress::failed(&page, REGISTRY_AWAY),
    };
    let Progress { after, matched, owed, end } = progress;
    if owed > 0 {
        let event = &page.event;
        tracing::info!(
            tenant = %event.tenant,
            event_id = %event.id,
            correlation_id = %event.correlation_id,
            owed,
            "deliveries of an event are owed"
        );
    }
    let (matched_so_far, owed_so_far) = (page.matched.saturating_add(matched), page.owed.saturating_add(owed));
    let failure = match end {
        PageEnd::Complete => {
            return Decision::FannedOut { claim, page, matched: matched_so_far, owed: owed_so_far };
        }
        PageEnd::Spent => None,
        PageEnd::Failed(why) => Some(why),
    };
    let has_moved = after != page.after;
    let due = failure.map(|_| context.clock.now().after(wait(if has_moved { 0 } else { page.waited })));
    let (successor, ending) = match (has_moved.then_some(after).flatten(), due) {
        (Some(after), due) => {
            let next = page.continued(&after, matched, owed);
            let next = if let Some(due) = due { next.not_before(due) } else { next };
            (next, Ending::Continued { matched: matched_so_far, owed: owed_so_far })
        }
        (None, due) => {
            metrics::event_waits();
            let due = due.unwrap_or_else(|| context.clock.now().after(REQUEUE_FLOOR));
            let error = failure.unwrap_or("there was no time for it").to_owned();
            (page.delayed(due), Ending::Parked { error, next_attempt_at: due })
        }
    };
    Decision::Continue { claim, successor: Work::Event(Box::new(successor)), ending }
}

/// Works on one page of a job.
async fn job(context: &Context, page: Box<JobPage>, claim: HeldClaim, stop_at: Millis) -> Decision {
    let (successor, ending) = match jobs::work_on(context, &page, stop_at).await {
        JobProgress::Done => return Decision::JobDone { claim, page },
        JobProgress::Idle => return Decision::JobIdle(claim),
        JobProgress::Continues { job, due } => (page.continued(job, due), Ending::Continued { matched: 0, owed: 0 }),
        JobProgress::Waits(why) => {
            let due = context.clock.now().after(wait(page.waited));
            (page.delayed(due), Ending::Parked { error: why.to_owned(), next_attempt_at: due })
        }
    };
    Decision::Continue { claim, successor: Work::Job(Box::new(successor)), ending }
}

/// How long an event waits that had to wait so often before. A part of it is chance.
fn wait(waited: u32) -> Duration {
    let full = SHORTEST_WAIT.saturating_mul(1 << waited.min(10)).min(LONGEST_WAIT);
    full.mul_f64(0.5 + 0.5 * fastrand::f64())
}
