//! Wires the `fanout` handler to its Lambda.

use std::sync::Arc;

use adapters::aws::registry::RegistryTable;
use adapters::aws::sqs::Sqs;
use adapters::process::Process;
use fn_fanout::{Event, Fanout, Subscriptions, config};
use lambda_runtime::{LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let process = &Process::start("fanout", config::read)?;
    let (config, clock) = (&process.config, process.clock.clone());
    let registry = RegistryTable::new(&config.account, config.registry_table.clone());
    let queue = Sqs::new(&config.account, config.queues.clone());
    let subscriptions = Subscriptions::new(Arc::new(registry));
    let fanout = &Fanout::new(config, Arc::new(queue), process.redis(), subscriptions, clock);
    let handler = service_fn(|event: LambdaEvent<Event>| process.observe(fanout.answer(event)));
    lambda_runtime::run(handler).await.map_err(anyhow::Error::from_boxed)
}
