//! Wires the `fanout` handler to its Lambda.

use std::sync::Arc;

use adapters::aws::dynamodb::Table;
use adapters::aws::event_bridge::EventBus;
use adapters::aws::history::HistoryTable;
use adapters::aws::registry::RegistryTable;
use adapters::aws::sqs::Sqs;
use adapters::aws::sqs_event::{Sent, SqsEvent};
use adapters::process::{self, Process, forever};
use fn_fanout::{Clients, Fanout, Subscriptions, config};
use futures_util::FutureExt as _;
use lambda_runtime::{LambdaEvent, service_fn};

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let process = forever(Process::start("fanout", config::read)?);
    let (config, clock) = (&process.config, process.clock.clone());
    let account = &config.account;
    let registry = Arc::new(RegistryTable::new(account, config.registry_table.clone()));
    let bus = config.notify_bus.clone().map(|name| Arc::new(EventBus::new(account, name)) as _);
    let clients = Clients {
        queue: Arc::new(Sqs::new(account, config.queues.clone())),
        redis: process.redis(),
        subscriptions: Subscriptions::new(Arc::clone(&registry) as _),
        registry,
        store: Arc::new(Table::new(account, config.dead_letter_table.clone(), config.dead_letter_life.as_secs())),
        history: Arc::new(HistoryTable::new(account, config.history.table.clone())),
        bus,
    };
    let fanout = forever(Fanout::new(config, clients, clock));
    let handler = service_fn(|event: LambdaEvent<SqsEvent<Sent>>| process.observe(fanout.answer(event)));
    lambda_runtime::run(handler).boxed().await.map_err(anyhow::Error::from_boxed)
}
