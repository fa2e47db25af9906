//! Wires the `archive` handler to its Lambda.

use std::sync::Arc;

use adapters::aws::dynamodb::Table;
use adapters::aws::history::HistoryTable;
use adapters::process::{self, Process, forever};
use aws_lambda_events::sqs::SqsEvent;
use fn_archive::{Archivist, config};
use futures_util::FutureExt as _;
use lambda_runtime::{LambdaEvent, service_fn};

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let process = forever(Process::start("archive", config::read)?);
    let (config, clock) = (&process.config, process.clock.clone());
    let store = Table::new(&config.account, config.table.clone(), config.life.as_secs());
    let history = HistoryTable::new(&config.account, config.history.table.clone());
    let archivist = forever(Archivist::new(config, process.redis(), Arc::new(store), Arc::new(history), clock));
    let handler = service_fn(|event: LambdaEvent<SqsEvent>| process.observe(archivist.answer(event)));
    lambda_runtime::run(handler).boxed().await.map_err(anyhow::Error::from_boxed)
}
