//! Jobs: what each of them does on one page.

use domain::job::{Job, JobPage};
use domain::time::Millis;

use crate::context::Context;
use crate::job_progress::JobProgress;
use crate::{catch_up, erase, expire, notice, replay};

/// Works on a page until `stop_at` at the latest.
pub(crate) async fn work_on(context: &Context, page: &JobPage, stop_at: Millis) -> JobProgress {
    match &page.job {
        Job::Replay(job) => replay::work_on(context, page, job, stop_at).await,
        Job::Erase(job) => erase::work_on(context, page, job, stop_at).await,
        Job::CatchUp(job) => catch_up::work_on(context, page, job, stop_at).await,
        Job::Expire(job) => expire::work_on(context, page, job, stop_at).await,
        Job::Notice(notice) => notice::work_on(context, page, notice).await,
    }
}

/// Notes that a job was given up: the dead-letter queue has it.
pub(crate) async fn given_up(context: &Context, page: &JobPage) {
    match &page.job {
        Job::Replay(_) => replay::given_up(context, page).await,
        Job::Erase(_) | Job::CatchUp(_) | Job::Expire(_) | Job::Notice(_) => {}
    }
}
