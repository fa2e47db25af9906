//! Wires the `deliver` handler to its Lambda.

use std::sync::Arc;

use adapters::aws::secrets::Keyring;
use adapters::aws::sqs::Sqs;
use adapters::http::sender::HttpReceiverClient;
use adapters::process::Process;
use adapters::telemetry::chain;
use anyhow::Context as _;
use fn_deliver::{Deliver, Event, config};
use lambda_runtime::{LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let process = &Process::start("deliver", config::read)?;
    let (config, clock) = (&process.config, process.clock.clone());
    let keyring = Keyring::open(config.signing.clone(), clock.clone()).await.inspect_err(
        |error| tracing::error!(code = error.code(), error = %chain(error), "cannot start without signing secrets"),
    )?;
    let receiver_client =
        HttpReceiverClient::new(config.receiver_client.clone(), Arc::new(keyring), clock.clone()).context("tls")?;
    let queue = Sqs::new(&config.account, config.queues.clone());
    let deliver = &Deliver::new(config, Arc::new(queue), process.redis(), Arc::new(receiver_client), clock);
    let handler = service_fn(|event: LambdaEvent<Event>| process.observe(deliver.answer(event)));
    lambda_runtime::run(handler).await.map_err(anyhow::Error::from_boxed)
}
