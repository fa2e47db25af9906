//! Wires the `metrics` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::sqs::{Depths, Sqs};
use adapters::http::server;
use adapters::process::{self, Process, forever};
use fn_metrics::{Metrics, config};
use futures_util::FutureExt as _;
use lambda_http::service_fn;

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let process = forever(Process::start("metrics", config::read)?);
    let (config, clock) = (&process.config, process.clock.clone());
    let queues = config.queues.as_ref();
    let queues = queues.map(|(account, urls)| Arc::new(Sqs::new(account, urls.clone())) as Arc<dyn Depths>);
    let handler = forever(Metrics::new(process.redis(), queues, clock, config.lives.indexes));
    let handler = service_fn(|request| process.observe(handler.handle(request)).map(Ok::<_, Infallible>));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
