//! Wires the `enqueue` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::registry::RegistryTable;
use adapters::aws::sqs::Sqs;
use adapters::http::server;
use adapters::process::{self, Process, forever};
use fn_enqueue::{Enqueue, config};
use futures_util::FutureExt as _;
use lambda_http::service_fn;

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let process = forever(Process::start("enqueue", config::read)?);
    let (config, clock) = (&process.config, process.clock.clone());
    let queue = Sqs::new(&config.account, config.queues.clone());
    let event_types = RegistryTable::new(&config.account, config.registry_table.clone());
    let handler = forever(Enqueue::new(config, Arc::new(queue), process.redis(), Arc::new(event_types), clock));
    let handler = service_fn(|request| process.observe(handler.handle(request)).map(Ok::<_, Infallible>));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
