//! A page of a replay: history is walked through from where the last page ended, and what is
//! to be sent is queued, spread over time. Whatever is away makes it wait: nobody is in a hurry,
//! and what is not known must not be taken for missing.

mod run;
mod sift;
mod walk;

use adapters::history::{HistoryError, Part};
use adapters::metrics;
use adapters::registry::{CardFound, EndpointKey};
use adapters::replays::{self, Changed};
use adapters::telemetry::chain;
use domain::history::names;
use domain::history::replay::{Replay, ReplayJob, ReplayKind, ReplayState};
use domain::job::{Job, JobPage};
use domain::retry::REQUEUE_FLOOR;
use domain::subscription::Subscription;
use domain::time::Millis;

use self::run::Run;
use self::walk::HISTORY_AWAY;
use crate::context::{Context, SHORTEST_WAIT};
use crate::job_progress::JobProgress;

/// Most earlier replays whose lives are asked about.
const MOST_EARLIER: usize = 10;

const REGISTRY_AWAY: &str = "the registry of endpoints cannot be read";
const OWED: &str = "the endpoint is owed deliveries, and gets them first";
const UNKNOWN: &str = "it cannot be read what the endpoint wants";

/// Works on a page until `stop_at` at the latest.
pub(crate) async fn work_on(context: &Context, page: &JobPage, job: &ReplayJob, stop_at: Millis) -> JobProgress {
    let now = context.clock.now();
    match replays::read(context.history.as_ref(), &page.tenant, &page.id, now).await {
        Ok(Some(replay)) if replay.is_given_up(page.hop) => return JobProgress::Done,
        Ok(Some(replay)) if !replay.is_over() && !replay.has_passed(page.hop) => {}
        Ok(found) => return carried_on(found, now),
        Err(error) => {
            tracing::error!(replay_id = %page.id, code = error.code(), error = %chain(&error), "a replay waits");
            return JobProgress::Waits(HISTORY_AWAY);
        }
    }
    let subscription = match subscription(context, page, job).await {
        Ok(Some(subscription)) => subscription,
        Ok(None) => return end(context, page).await,
        Err(why) => return JobProgress::Waits(why),
    };
    if let Some(why) = owes(context, page, job, now).await {
        return JobProgress::Waits(why);
    }
    let earlier = match earlier(context, page, job, now).await {
        Ok(earlier) => earlier,
        Err(error) => {
            tracing::error!(replay_id = %page.id, code = error.code(), error = %chain(&error), "a replay waits");
            return JobProgress::Waits(HISTORY_AWAY);
        }
    };
    // A page holds payloads. Nothing closes it.
    let _turn = context.replays.acquire().await.ok();
    let mut run = Run::new(context, page, job, (&subscription, &earlier), stop_at);
    run.run().await;
    if run.sent > 0 && !job.request.dry_run {
        metrics::replay_deliveries(run.sent);
    }
    let due = match run.failure {
        Some(why) if run.job == *job => return JobProgress::Waits(why),
        Some(_) => context.clock.now().after(SHORTEST_WAIT).max(now.after(job.request.pause(run.sent))),
        None => now.after(job.request.pause(run.sent)),
    };
    note(context, page, run.job, run.is_complete, due).await
}

/// Notes that a replay was given up, if its row can be written.
pub(crate) async fn given_up(context: &Context, page: &JobPage) {
    let now = context.clock.now();
    let failed = |replay: &Replay| replay.ended(ReplayState::Failed, now);
    let of = (page.tenant.as_str(), page.id.as_str());
    if let Err(error) = replays::change(context.history.as_ref(), of, now, failed).await {
        tracing::error!(replay_id = %page.id, code = error.code(), error = %chain(&error), "a replay that was given up still shows as running");
    }
}

/// What is left of a replay that this page does not work on: nothing of one that is over or
/// erased; what follows on a page whose message has come again.
fn carried_on(found: Option<Replay>, now: Millis) -> JobProgress {
    match found.filter(|replay| !replay.is_over()) {
        Some(replay) => JobProgress::Continues { job: Job::Replay(replay.job()), due: now.after(REQUEUE_FLOOR) },
        None => JobProgress::Done,
    }
}

/// Why a replay of what is missing has to wait: what the endpoint is owed is not missing, and its
/// catch-up comes first.
async fn owes(context: &Context, page: &JobPage, job: &ReplayJob, now: Millis) -> Option<&'static str> {
    match job.request.what {
        ReplayKind::Failed => return None,
        ReplayKind::Missing => {}
    }
    let part = Part { limit: 1, ..Part::of(names::owed(&page.tenant, &job.request.endpoint)) };
    match context.history.part(&part, now).await {
        Ok(slice) if slice.rows.is_empty() => None,
        Ok(_) => Some(OWED),
        Err(error) => {
            tracing::error!(replay_id = %page.id, code = error.code(), error = %chain(&error), "a replay waits");
            Some(HISTORY_AWAY)
        }
    }
}

/// What the endpoint wants; `None` if there is none any more.
async fn subscription(
    context: &Context,
    page: &JobPage,
    job: &ReplayJob,
) -> Result<Option<Subscription>, &'static str> {
    let key = EndpointKey { tenant: page.tenant.clone(), endpoint: job.request.endpoint.clone() };
    let found = context.registry.card(&key).await.map_err(|error| {
        tracing::error!(replay_id = %page.id, code = error.code(), error = %chain(&error), "a replay waits");
        REGISTRY_AWAY
    })?;
    let subscription = match found {
        CardFound::Card(card) => Subscription::of(&card),
        CardFound::Unreadable => Subscription::unreadable(job.request.endpoint.clone()),
        CardFound::Gone | CardFound::Erased | CardFound::Missing => return Ok(None),
    };
    // Everything would be wanted, for ever.
    match job.request.what {
        ReplayKind::Missing if subscription.is_unknown() => Err(UNKNOWN),
        ReplayKind::Missing | ReplayKind::Failed => Ok(Some(subscription)),
    }
}

/// The replays that made lives of deliveries to this endpoint, the latest first. Some of those
/// lives may not have ended.
async fn earlier(context: &Context, page: &JobPage, job: &ReplayJob, now: Millis) -> Result<Vec<String>, HistoryError> {
    let made_lives = |replay: &Replay| {
        let request = &replay.request;
        let has_sent = request.what == ReplayKind::Failed && !request.dry_run;
        has_sent && request.endpoint == job.request.endpoint && replay.id != page.id
    };
    let mut all = match job.request.what {
        ReplayKind::Failed => replays::all(context.history.as_ref(), &page.tenant, now).await?,
        ReplayKind::Missing => Vec::new(),
    };
    all.retain(made_lives);
    all.sort_unstable_by_key(|replay| std::cmp::Reverse(replay.created_at));
    Ok(all.into_iter().take(MOST_EARLIER).map(|replay| replay.id).collect())
}

/// Ends a replay whose endpoint is gone.
async fn end(context: &Context, page: &JobPage) -> JobProgress {
    tracing::warn!(replay_id = %page.id, tenant = %page.tenant, "a replay ends: its endpoint is gone");
    let now = context.clock.now();
    let failed = |replay: &Replay| replay.ended(ReplayState::Failed, now);
    let of = (page.tenant.as_str(), page.id.as_str());
    match replays::change(context.history.as_ref(), of, now, failed).await {
        Ok(_) => JobProgress::Done,
        Err(error) => {
            tracing::error!(replay_id = %page.id, code = error.code(), error = %chain(&error), "a replay waits");
            JobProgress::Waits(HISTORY_AWAY)
        }
    }
}

/// Notes how far a page came, and says what follows. The message has it, too: while history is
/// away, a replay that is not done goes on.
async fn note(context: &Context, page: &JobPage, job: ReplayJob, is_complete: bool, due: Millis) -> JobProgress {
    let now = context.clock.now();
    let state = if is_complete { ReplayState::Done } else { ReplayState::Running };
    let moved = |replay: &Replay| replay.moved(&job, page.hop, state, now);
    let of = (page.tenant.as_str(), page.id.as_str());
    match replays::change(context.history.as_ref(), of, now, moved).await {
        Ok(Changed::Done(_)) if is_complete => JobProgress::Done,
        Ok(Changed::Done(_)) => JobProgress::Continues { job: Job::Replay(job), due },
        Ok(Changed::Unwanted(replay)) => carried_on(Some(replay), now),
        Ok(Changed::Gone) => JobProgress::Done,
        Err(error) => {
            tracing::error!(replay_id = %page.id, code = error.code(), error = %chain(&error), "how far a replay is cannot be noted");
            JobProgress::Continues { job: Job::Replay(job), due: due.max(now.after(SHORTEST_WAIT)) }
        }
    }
}
