//! A page of the daily walk through all endpoints: what they have been owed for too long is given
//! up. Nothing that is owed ends in silence.

use std::collections::VecDeque;

use adapters::aws::sqs::{Outgoing, QueueName, SendError, delay_s};
use adapters::history::{HistoryError, Part};
use adapters::owed::WAKE_UP_AHEAD;
use adapters::registry::RegistryError;
use adapters::telemetry::chain;
use domain::endpoint::{Card, EndpointState};
use domain::history::{names, owed as rules};
use domain::job::{ExpireJob, Job, JobPage};
use domain::reason::Reason;
use domain::time::{Millis, whole_ms};
use futures_util::future::try_join_all;

use crate::context::{Context, SHORTEST_WAIT};
use crate::job_progress::JobProgress;
use crate::owed::{self, OwedError, OwedRow};

/// Tenants that are read at a time.
const TENANTS: usize = 100;
/// Endpoints that are asked about at a time.
const AT_ONCE: usize = 16;

/// Why a walk does not go on.
#[derive(Debug, thiserror::Error)]
enum ExpireError {
    #[error("the registry of endpoints cannot be read")]
    Registry(#[from] RegistryError),
    #[error("what endpoints are owed cannot be read or ended")]
    Owed(#[from] OwedError),
    #[error("what endpoints are owed cannot be read")]
    History(#[from] HistoryError),
    #[error("a catch-up cannot be written")]
    Json(#[from] serde_json::Error),
    #[error("a catch-up is not queued")]
    Queue(#[from] SendError),
}

/// A page under way.
struct Walk<'a> {
    context: &'a Context,
    stop_at: Millis,
    /// How far it is.
    job: ExpireJob,
    /// The tenants that follow, as far as they were read, and whether there are more.
    tenants: VecDeque<String>,
    has_more: bool,
}

/// Works on a page until `stop_at` at the latest.
pub(crate) async fn work_on(context: &Context, page: &JobPage, job: &ExpireJob, stop_at: Millis) -> JobProgress {
    let mut walk = Walk { context, stop_at, job: job.clone(), tenants: VecDeque::new(), has_more: true };
    let came = walk.run().await;
    let now = context.clock.now();
    match came {
        Ok(true) => {
            tracing::info!(job_id = %page.id, expired = walk.job.expired, "everything was looked at that is owed");
            JobProgress::Done
        }
        Ok(false) => JobProgress::Continues { job: Job::Expire(walk.job), due: now },
        Err(error) => {
            tracing::error!(job_id = %page.id, error = %chain(&error), "the end of what is owed for too long waits");
            match walk.job == *job {
                true => JobProgress::Waits("what endpoints are owed cannot be read or ended"),
                false => JobProgress::Continues { job: Job::Expire(walk.job), due: now.after(SHORTEST_WAIT) },
            }
        }
    }
}

impl Walk<'_> {
    /// Goes on until it is time to stop. Says whether all tenants were walked through.
    async fn run(&mut self) -> Result<bool, ExpireError> {
        if self.job.tenant.is_none() {
            self.next_tenant().await?;
        }
        while let Some(tenant) = self.job.tenant.clone() {
            if !self.endpoints(&tenant).await? {
                return Ok(false);
            }
            self.next_tenant().await?;
            if self.is_over() {
                return Ok(self.job.tenant.is_none());
            }
        }
        Ok(true)
    }

    fn is_over(&self) -> bool {
        self.context.clock.now() >= self.stop_at
    }

    /// Moves on to the next tenant, if there is one.
    async fn next_tenant(&mut self) -> Result<(), ExpireError> {
        if self.tenants.is_empty() && self.has_more {
            let page = self.context.registry.tenants(self.job.tenant.as_deref(), TENANTS).await?;
            self.tenants = page.tenants.into();
            self.has_more = page.next.is_some();
        }
        self.job = ExpireJob { tenant: self.tenants.pop_front(), endpoint: None, place: None, ..self.job.clone() };
        Ok(())
    }

    /// Walks through the endpoints of a tenant, also through those whose cards cannot be read.
    /// Says whether there was time for all of them.
    async fn endpoints(&mut self, tenant: &str) -> Result<bool, ExpireError> {
        // The last page ended in the middle of this one.
        if let (Some(endpoint), Some(place)) = (self.job.endpoint.clone(), self.job.place.clone())
            && !self.rows(tenant, &endpoint, Some(place)).await?
        {
            return Ok(false);
        }
        loop {
            let page = self.context.registry.list(tenant, self.job.endpoint.as_deref(), AT_ONCE).await?;
            self.wake_enabled(tenant, &page.cards).await?;
            let mut endpoints: Vec<String> = page.cards.into_iter().map(|card| card.id).collect();
            endpoints.extend(page.unreadable);
            endpoints.sort_unstable();
            let asked = endpoints.iter().map(|endpoint| self.has_old_rows(tenant, endpoint));
            let has_rows = try_join_all(asked).await?;
            for (endpoint, has_rows) in endpoints.into_iter().zip(has_rows) {
                match if has_rows { self.rows(tenant, &endpoint, None).await } else { Ok(true) } {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    // One record that cannot be read must not stop the walk for everybody.
                    Err(ExpireError::Owed(OwedError::Reply(error))) => {
                        tracing::error!(tenant, endpoint_id = %endpoint, error = %chain(&error), "what an endpoint is owed is passed over");
                    }
                    Err(error) => return Err(error),
                }
                self.job.endpoint = Some(endpoint);
            }
            let Some(next) = page.next else { return Ok(true) };
            self.job.endpoint = Some(next);
            if self.is_over() {
                return Ok(false);
            }
        }
    }

    /// Wakes up the catch-ups of endpoints that are enabled and owed something. Nobody does it when
    /// a registry is restored in which they are enabled, or when a catch-up was given up.
    async fn wake_enabled(&self, tenant: &str, cards: &[Card]) -> Result<(), ExpireError> {
        let now = self.context.clock.now();
        let enabled: Vec<&str> =
            cards.iter().filter(|card| card.state == EndpointState::Enabled).map(|card| card.id.as_str()).collect();
        let asked = enabled.iter().map(|endpoint| {
            let part = Part { limit: 1, ..owed::part_of(tenant, endpoint, None) };
            async move { self.context.history.part(&part, now).await }
        });
        let slices = try_join_all(asked).await?;
        let due = now.after(WAKE_UP_AHEAD);
        for (endpoint, slice) in enabled.into_iter().zip(slices) {
            if slice.rows.is_empty() {
                continue;
            }
            tracing::warn!(
                tenant,
                endpoint_id = endpoint,
                "an enabled endpoint is owed something; its catch-up begins"
            );
            let body = JobPage::wake_up(tenant, endpoint, due).encode()?;
            let message = Outgoing::new(body, tenant.to_owned(), delay_s(now, due));
            for result in self.context.send(QueueName::Event, vec![message]).await {
                result?;
            }
        }
        Ok(())
    }

    /// Rows that may have expired: what was accepted within a day is owed for less than that.
    fn old_rows(&self, tenant: &str, endpoint: &str, after: Option<String>) -> Part {
        let until = Millis(self.context.clock.now().0.saturating_sub(whole_ms(rules::SHORTEST_LIFE)));
        Part { before: Some(names::sortable(until)), ..owed::part_of(tenant, endpoint, after) }
    }

    async fn has_old_rows(&self, tenant: &str, endpoint: &str) -> Result<bool, ExpireError> {
        let part = Part { limit: 1, ..self.old_rows(tenant, endpoint, None) };
        Ok(!self.context.history.part(&part, self.context.clock.now()).await?.rows.is_empty())
    }

    /// Ends what has expired of an endpoint. Says whether there was time for all of it.
    async fn rows(&mut self, tenant: &str, endpoint: &str, mut after: Option<String>) -> Result<bool, ExpireError> {
        loop {
            let part = self.old_rows(tenant, endpoint, after);
            let read = owed::read(self.context, &part).await?;
            owed::delete(self.context, &read.unwanted).await?;
            let has_expired = |row: &&OwedRow| row.owed.since <= self.job.before || row.has_expired(self.context);
            let expired: Vec<_> = read.rows.iter().filter(has_expired).map(|row| (row, Reason::Expired)).collect();
            owed::end(self.context, &expired).await?;
            self.job.expired += expired.len() as u64;
            self.job.endpoint = Some(endpoint.to_owned());
            self.job.place.clone_from(&read.next);
            match read.next {
                None => return Ok(true),
                Some(_) if self.is_over() => return Ok(false),
                next => after = next,
            }
        }
    }
}
