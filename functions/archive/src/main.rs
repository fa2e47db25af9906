//! Wires the `archive` handler to its Lambda.

use std::sync::Arc;

use adapters::aws::dynamodb::Table;
use adapters::aws::history::HistoryTable;
use adapters::process::Process;
use aws_lambda_events::sqs::SqsEvent;
use fn_archive::{Archivist, config};
use lambda_runtime::{LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let process = &Process::start("archive", config::read)?;
    let (config, clock) = (&process.config, process.clock.clone());
    let store = Table::new(&config.account, config.table.clone(), config.life.as_secs());
    let history = HistoryTable::new(&config.account, config.history.table.clone());
    let archivist = &Archivist::new(config, process.redis(), Arc::new(store), Arc::new(history), clock);
    let handler = service_fn(|event: LambdaEvent<SqsEvent>| process.observe(archivist.answer(event)));
    lambda_runtime::run(handler).await.map_err(anyhow::Error::from_boxed)
}
