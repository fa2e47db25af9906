//! Wires the `archive` handler to its Lambda.

use std::sync::Arc;

use adapters::clock::Clock;
use adapters::config::Environment;
use adapters::dynamodb::Table;
use adapters::meter::Meter;
use adapters::redis::Redis;
use anyhow::Context as _;
use aws_lambda_events::sqs::SqsEvent;
use fn_archive::Archivist;
use lambda_runtime::{LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let environment = Environment::of_process();
    adapters::telemetry::init(environment.log_level());
    let config = environment.archive().inspect_err(|error| tracing::error!(%error, "cannot start"))?;
    let clock = Clock::system();
    let meter = &Meter::new("archive", &config.stack, clock.clone()).installed();
    let redis = &meter.aboard(Redis::open(&config.redis, clock.clone()).context("redis")?);
    let table = Table::new(config.account.dynamodb(), config.table.clone(), config.life.as_secs());
    let archivist = &Archivist::new(&config, Arc::new(redis.clone()), Arc::new(table), clock);
    let handler =
        service_fn(|event: LambdaEvent<SqsEvent>| async move { meter.observe(redis, archivist.answer(event)).await });
    lambda_runtime::run(handler).await.map_err(anyhow::Error::from_boxed)
}
