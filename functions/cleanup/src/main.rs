//! Wires the `cleanup` handler to its Lambda.

use std::convert::Infallible;

use adapters::process::Process;
use fn_cleanup::{Cleanup, config};
use lambda_http::service_fn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let process = &Process::start("cleanup", config::read)?;
    let (config, clock) = (&process.config, process.clock.clone());
    let handler = &Cleanup::new(config, process.redis(), clock);
    let handler = service_fn(async |request| Ok::<_, Infallible>(process.observe(handler.handle(request)).await));
    lambda_http::run(handler).await.map_err(anyhow::Error::from_boxed)
}
