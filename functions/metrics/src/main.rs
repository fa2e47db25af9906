//! Wires the `metrics` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::sqs::{Depths, Sqs};
use adapters::http::server;
use adapters::process::Process;
use fn_metrics::{Metrics, config};
use lambda_http::service_fn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let process = &Process::start("metrics", config::read)?;
    let (config, clock) = (&process.config, process.clock.clone());
    let queues = config.queues.as_ref();
    let queues = queues.map(|(account, urls)| Arc::new(Sqs::new(account, urls.clone())) as Arc<dyn Depths>);
    let handler = &Metrics::new(process.redis(), queues, clock, config.lives.indexes);
    let handler = service_fn(async |request| Ok::<_, Infallible>(process.observe(handler.handle(request)).await));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
