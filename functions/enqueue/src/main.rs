//! Wires the `enqueue` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::registry::RegistryTable;
use adapters::aws::sqs::Sqs;
use adapters::http::server;
use adapters::process::Process;
use fn_enqueue::{Enqueue, config};
use lambda_http::service_fn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let process = &Process::start("enqueue", config::read)?;
    let (config, clock) = (&process.config, process.clock.clone());
    let queue = Sqs::new(&config.account, config.queues.clone());
    let event_types = RegistryTable::new(&config.account, config.registry_table.clone());
    let handler = &Enqueue::new(config, Arc::new(queue), process.redis(), Arc::new(event_types), clock);
    let handler = service_fn(async |request| Ok::<_, Infallible>(process.observe(handler.handle(request)).await));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
