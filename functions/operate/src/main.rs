//! Wires the `operate` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::dynamodb::Table;
use adapters::aws::sqs::Sqs;
use adapters::process::Process;
use fn_operate::{Operate, config};
use lambda_http::service_fn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let process = &Process::start("operate", config::read)?;
    let (config, clock) = (&process.config, process.clock.clone());
    let store = Table::new(&config.account, config.table.clone(), config.life.as_secs());
    let queue = Sqs::new(&config.account, config.queues.clone());
    let handler = &Operate::new(config, process.redis(), Arc::new(store), Arc::new(queue), clock);
    let handler = service_fn(async |request| Ok::<_, Infallible>(process.observe(handler.handle(request)).await));
    lambda_http::run(handler).await.map_err(anyhow::Error::from_boxed)
}
