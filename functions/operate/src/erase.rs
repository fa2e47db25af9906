//! `DELETE /tenants/{tenant}/events/{event}/payload` and `DELETE /tenants/{tenant}`: what is erased
//! is marked at once, and a job goes through everything that is kept.

use std::time::Duration;

use adapters::aws::sqs::{Outgoing, QueueName};
use adapters::http::answer::Problem;
use adapters::random;
use adapters::redis::query::QueryError;
use adapters::redis::{marks, tenants};
use adapters::registry::RegistryError;
use adapters::telemetry::chain;
use domain::identity::event_record_id;
use domain::job::{EraseJob, Job, JobPage};
use domain::time::Millis;
use serde_json::{Value, json};

use crate::Operate;
use crate::event_path::{event_names, tenant_name};

/// What is accepted so soon after the request is erased as well.
const MARGIN: Duration = Duration::from_secs(5);
/// How long a job may take before it is given up: far longer than any does.
const PATIENCE: Duration = Duration::from_secs(30 * 86_400);

impl Operate {
    /// Erases the payload of an event and what receivers answered to it.
    pub(crate) async fn erase_event(&self, tenant: &str, event: &str, correlation_id: &str) -> Result<Value, Problem> {
        let (tenant, event_id) = event_names(tenant, event)?;
        let marked = marks::erase(&event_record_id(&tenant, &event_id)).run(self.redis.as_ref()).await;
        let before = marked.map_err(unmarked)?.at;
        let job = EraseJob { event_id: Some(event_id.clone()), before, sweep: 0, position: None };
        let job_id = self.begin_erasing(&tenant, job, correlation_id).await?;
        tracing::warn!(audit = true, %tenant, %event_id, %job_id, correlation_id, %before, "an event is being erased");
        Ok(json!({ "event_id": event_id, "erased_at": before.to_string() }))
    }

    /// Erases all that is kept of a tenant. It can be made anew when that is done.
    pub(crate) async fn erase_tenant(&self, tenant: &str, correlation_id: &str) -> Result<Value, Problem> {
        let tenant = tenant_name(tenant)?;
        // Other clocks may be ahead, and what was checked just before is accepted a moment later.
        let before = self.clock.now().after(MARGIN);
        self.registry.begin_erasing(&tenant, before).await.map_err(unchanged)?;
        tenants::begin_erasing(&tenant, before).run(self.redis.as_ref()).await.map_err(unmarked)?;
        let job = EraseJob { event_id: None, before, sweep: 0, position: None };
        let job_id = self.begin_erasing(&tenant, job, correlation_id).await?;
        tracing::warn!(audit = true, %tenant, %job_id, correlation_id, %before, "a tenant is being erased");
        let erasing = json!({ "before": before.to_string(), "done": false });
        Ok(json!({ "tenant": tenant, "erasing": erasing }))
    }

    /// Queues the job.
    async fn begin_erasing(&self, tenant: &str, job: EraseJob, correlation_id: &str) -> Result<String, Problem> {
        let random = random::alphanumeric(22).map_err(|_| Problem::unavailable("There is no randomness."))?;
        let now = self.clock.now();
        let page = JobPage {
            tenant: tenant.to_owned(),
            id: format!("er_{random}"),
            job: Job::Erase(job),
            correlation_id: correlation_id.to_owned(),
            accepted_at: now,
            deadline: now.after(PATIENCE),
            hop: 0,
            waited: 0,
            not_before: Millis(0),
        };
        let body = page.encode().map_err(|error| {
            tracing::error!(error = %chain(&error), "a job cannot be written");
            not_queued()
        })?;
        let message = Outgoing::new(body, tenant.to_owned(), 0);
        match self.queue.send(QueueName::Event, vec![message]).await.into_iter().next() {
            Some(Ok(())) => Ok(page.id),
            Some(Err(error)) => {
                tracing::error!(tenant, code = error.code(), error = %chain(&error), "erasing is not queued");
                Err(not_queued())
            }
            None => Err(not_queued()),
        }
    }
}

fn not_queued() -> Problem {
    Problem::unavailable("Erasing may have begun, and is not queued. Send the request again.")
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unmarked(error: QueryError) -> Problem {
    tracing::error!(code = error.code(), error = %chain(&error), "Redis does not take the mark of what is erased");
    Problem::unavailable("Erasing may have begun: Redis does not answer. Send the request again.")
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unchanged(error: RegistryError) -> Problem {
    tracing::error!(code = error.code(), error = %chain(&error), "the registry does not take the mark of what is erased");
    Problem::unavailable("Erasing may have begun: the registry does not answer. Send the request again.")
}
