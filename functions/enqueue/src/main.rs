//! Wires the `enqueue` handler to its Lambda.

use std::convert::Infallible;
use std::sync::Arc;

use adapters::clock::Clock;
use adapters::config::Environment;
use adapters::meter::Meter;
use adapters::redis::Redis;
use adapters::sqs::Sqs;
use anyhow::Context as _;
use fn_enqueue::Enqueue;
use lambda_http::service_fn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let environment = Environment::of_process();
    adapters::telemetry::init(environment.log_level());
    let config = environment.enqueue().inspect_err(|error| tracing::error!(%error, "cannot start"))?;
    let clock = Clock::system();
    let meter = &Meter::new("enqueue", &config.stack, clock.clone()).installed();
    let redis = &meter.aboard(Redis::open(&config.redis, clock.clone()).context("redis")?);
    let queue = Sqs::new(config.account.sqs(), config.queues.clone());
    let enqueue = &Enqueue::new(&config, Arc::new(queue), Arc::new(redis.clone()), clock);
    lambda_http::run(service_fn(|request| async move {
        Ok::<_, Infallible>(meter.observe(redis, enqueue.handle(request)).await)
    }))
    .await
    .map_err(anyhow::Error::from_boxed)
}
