//! Wires the `operate` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::aws::dynamodb::Table;
use adapters::aws::history::HistoryTable;
use adapters::aws::registry::RegistryTable;
use adapters::aws::sqs::Sqs;
use adapters::http::server;
use adapters::process::{self, Process, forever};
use fn_operate::{Clients, Operate, config};
use futures_util::FutureExt as _;
use lambda_http::service_fn;

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let process = forever(Process::start("operate", config::read)?);
    let (config, clock) = (&process.config, process.clock.clone());
    let account = &config.account;
    let clients = Clients {
        redis: process.redis(),
        store: Arc::new(Table::new(account, config.table.clone(), config.life.as_secs())),
        queue: Arc::new(Sqs::new(account, config.queues.clone())),
        history: Arc::new(HistoryTable::new(account, config.history.table.clone())),
        registry: Arc::new(RegistryTable::new(account, config.registry_table.clone())),
    };
    let handler = forever(Operate::new(config, clients, clock));
    let handler = service_fn(|request| process.observe(handler.handle(request)).map(Ok::<_, Infallible>));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
