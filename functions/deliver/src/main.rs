//! Wires the `deliver` handler to its Lambda.

use std::sync::Arc;

use adapters::clock::Clock;
use adapters::config::Environment;
use adapters::meter::Meter;
use adapters::redis::Redis;
use adapters::secrets::Keyring;
use adapters::sender::HttpSender;
use adapters::sqs::Sqs;
use anyhow::Context as _;
use fn_deliver::{Deliver, Event};
use lambda_runtime::{LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let environment = Environment::of_process();
    adapters::telemetry::init(environment.log_level());
    let config = environment.deliver().inspect_err(|error| tracing::error!(%error, "cannot start"))?;
    let clock = Clock::system();
    let meter = &Meter::new("deliver", &config.stack, clock.clone()).installed();
    let redis = &meter.aboard(Redis::open(&config.redis, clock.clone()).context("redis")?);
    let queue = Sqs::new(config.account.sqs(), config.queues.clone());
    let keyring = Keyring::open(config.signing.clone(), clock.clone())
        .await
        .inspect_err(
            |error| tracing::error!(code = error.code(), error = ?error, "cannot start without signing secrets"),
        )
        .context("signing secrets")?;
    let courier = HttpSender::new(config.sender.clone(), Arc::new(keyring), clock.clone()).context("tls")?;
    let deliver = &Deliver::new(&config, Arc::new(queue), Arc::new(redis.clone()), Arc::new(courier), clock);
    let handler =
        service_fn(|event: LambdaEvent<Event>| async move { meter.observe(redis, deliver.answer(event)).await });
    lambda_runtime::run(handler).await.map_err(anyhow::Error::from_boxed)
}
