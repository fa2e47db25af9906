//! `GET /metrics`: the whole fleet's metrics, for a Prometheus that can sign its
//! requests. For one that cannot there is the sidecar, which shows the same text.

pub mod config;

use std::sync::Arc;

use adapters::aws::sqs::Depths;
use adapters::clock::Clock;
use adapters::http::{answer, entry};
use adapters::metrics::exposition::{CONTENT_TYPE, Snapshot};
use adapters::redis::indexes::Indexes;
use adapters::redis::transport::RedisPort;
use lambda_http::Request;
use lambda_http::http::Response;

/// The handler and what it reads.
pub struct Metrics {
    redis: Arc<dyn RedisPort>,
    queues: Option<Arc<dyn Depths>>,
    clock: Clock,
    indexes: Indexes,
}

impl Metrics {
    /// A handler over these.
    pub fn new(redis: Arc<dyn RedisPort>, queues: Option<Arc<dyn Depths>>, clock: Clock, indexes: Indexes) -> Self {
        Self { redis, queues, clock, indexes }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request) -> Response<String> {
        let correlation_id = answer::correlation_id(request.headers());
        if let Err(problem) = entry::enter(request) {
            return problem.response(&correlation_id);
        }
        let (queues, now) = (self.queues.as_deref(), self.clock.now());
        let snapshot = Snapshot::read(self.redis.as_ref(), queues, now, self.indexes).await;
        answer::text(CONTENT_TYPE, snapshot.render(), &correlation_id)
    }
}
