//! Wires the `cleanup` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::sqs::Sqs;
use adapters::http::server;
use adapters::process::{self, Process, forever};
use fn_cleanup::{Cleanup, config};
use futures_util::FutureExt as _;
use lambda_http::service_fn;

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let process = forever(Process::start("cleanup", config::read)?);
    let (config, clock) = (&process.config, process.clock.clone());
    let queue = Arc::new(Sqs::new(&config.account, config.queues.clone()));
    let handler = forever(Cleanup::new(config, process.redis(), queue, clock));
    let handler = service_fn(|request| process.observe(handler.handle(request)).map(Ok::<_, Infallible>));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
