//! Wires the `health` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::dynamodb::Table;
use adapters::aws::sqs::Sqs;
use adapters::http::server;
use adapters::process::{self, Process, forever};
use fn_health::{Health, config};
use futures_util::FutureExt as _;
use lambda_http::service_fn;

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let process = forever(Process::start("health", config::read)?);
    let (config, clock) = (&process.config, process.clock.clone());
    let queues = Sqs::new(&config.account, config.queues.clone());
    let store = Table::new(&config.account, config.table.clone(), 0);
    let handler = forever(Health::new(
        &process.stack,
        process.redis(),
        Arc::new(queues),
        Arc::new(store),
        config.index_shards,
        clock,
    ));
    let handler = service_fn(|request| process.observe(handler.handle(request)).map(Ok::<_, Infallible>));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
