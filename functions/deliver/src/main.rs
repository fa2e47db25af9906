//! Wires the `deliver` handler to its Lambda.

use std::sync::Arc;

use adapters::aws::history::HistoryTable;
use adapters::aws::master_keys::MasterKeyring;
use adapters::aws::registry::RegistryTable;
use adapters::aws::secrets::Keyring;
use adapters::aws::sqs::Sqs;
use adapters::aws::sqs_event::SqsEvent;
use adapters::http::receiver_client::HttpReceiverClient;
use adapters::process::{self, Process, forever};
use adapters::telemetry::chain;
use fn_deliver::{CardCache, Deliver, config};
use futures_util::FutureExt as _;
use lambda_runtime::{LambdaEvent, service_fn};

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let process = forever(Process::start("deliver", config::read)?);
    let (config, clock) = (&process.config, process.clock.clone());
    let keyring = forever(Arc::new(Keyring::open(config.signing.clone(), clock.clone()).await.inspect_err(
        |error| tracing::error!(code = error.code(), error = %chain(error), "cannot start without signing secrets"),
    )?));
    let roots = config.receiver_client.clone().with_roots_of(config.receiver_ca.as_ref()).await;
    let receiver_client = roots
        .and_then(|config| HttpReceiverClient::new(config, Arc::clone(keyring), clock.clone()))
        .inspect_err(|error| tracing::error!(error = %chain(error), "cannot start without TLS"))?;
    let master_keys = MasterKeyring::open(config.master_keys.clone(), clock.clone()).await.inspect_err(
        |error| tracing::error!(code = error.code(), error = %chain(error), "cannot start without master keys"),
    )?;
    let registry = RegistryTable::new(&config.account, config.registry_table.clone());
    let cards = Arc::new(CardCache::new(Arc::new(registry), master_keys));
    let queue = Sqs::new(&config.account, config.queues.clone());
    let history = Arc::new(HistoryTable::new(&config.account, config.history.table.clone()));
    let receiver_client = Arc::new(receiver_client);
    let deliver =
        forever(Deliver::new(config, Arc::new(queue), process.redis(), receiver_client, cards, history, clock));
    let handler = service_fn(|event: LambdaEvent<SqsEvent>| {
        process.observe(async move {
            keyring.freshen().await;
            deliver.answer(event).await
        })
    });
    lambda_runtime::run(handler).boxed().await.map_err(anyhow::Error::from_boxed)
}
