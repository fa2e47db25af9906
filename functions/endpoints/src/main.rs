//! Wires the `endpoints` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::history::HistoryTable;
use adapters::aws::master_keys::MasterKeyring;
use adapters::aws::registry::RegistryTable;
use adapters::aws::sqs::Sqs;
use adapters::http::server;
use adapters::process::{self, Process, forever};
use adapters::telemetry::chain;
use fn_endpoints::{Clients, Endpoints, config};
use futures_util::FutureExt as _;
use lambda_http::service_fn;

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let process = forever(Process::start("endpoints", config::read)?);
    let (config, clock) = (&process.config, process.clock.clone());
    let keyring = MasterKeyring::open(config.master_keys.clone(), clock.clone()).await;
    let keyring = keyring.inspect_err(|error| tracing::error!(error = %chain(error), "cannot start"))?;
    let registry = Arc::new(RegistryTable::new(&config.account, config.table.clone()));
    let clients = Clients {
        registry: registry.clone(),
        tokens: registry,
        keyring,
        queue: Arc::new(Sqs::new(&config.account, config.queues.clone())),
        redis: process.redis(),
        history: Arc::new(HistoryTable::new(&config.account, config.history_table.clone())),
    };
    let handler = forever(Endpoints::new(config, clients, clock));
    let handler = service_fn(|request| process.observe(handler.handle(request)).map(Ok::<_, Infallible>));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
