//! Wires the `health` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::dynamodb::Table;
use adapters::aws::sqs::Sqs;
use adapters::http::server;
use adapters::process::Process;
use fn_health::{Health, config};
use lambda_http::service_fn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let process = &Process::start("health", config::read)?;
    let (config, clock) = (&process.config, process.clock.clone());
    let queues = Sqs::new(&config.account, config.queues.clone());
    let store = Table::new(&config.account, config.table.clone(), 0);
    let handler =
        &Health::new(&process.stack, process.redis(), Arc::new(queues), Arc::new(store), config.index_shards, clock);
    let handler = service_fn(async |request| Ok::<_, Infallible>(process.observe(handler.handle(request)).await));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
