//! Wires the `cleanup` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::sqs::Sqs;
use adapters::http::server;
use adapters::process::Process;
use fn_cleanup::{Cleanup, config};
use lambda_http::service_fn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let process = &Process::start("cleanup", config::read)?;
    let (config, clock) = (&process.config, process.clock.clone());
    let queue = Arc::new(Sqs::new(&config.account, config.queues.clone()));
    let handler = &Cleanup::new(config, process.redis(), queue, clock);
    let handler = service_fn(async |request| Ok::<_, Infallible>(process.observe(handler.handle(request)).await));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
