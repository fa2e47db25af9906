//! Wires the `authorize` handler to its Lambda.

use std::sync::Arc;

use adapters::aws::master_keys::MasterKeyring;
use adapters::aws::registry::RegistryTable;
use adapters::clock::Clock;
use adapters::process::{self, forever};
use adapters::telemetry::chain;
use aws_lambda_events::apigw::ApiGatewayV2CustomAuthorizerV2Request;
use fn_authorize::{Authorize, config};
use futures_util::{FutureExt as _, TryFutureExt as _};
use lambda_runtime::{Error, LambdaEvent, service_fn};

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let (config, clock) = (process::alone(config::read)?, Clock::system());
    let keyring = MasterKeyring::open(config.master_keys, clock.clone()).await;
    let keyring = keyring.inspect_err(|error| tracing::error!(error = %chain(error), "cannot start"))?;
    let gate = forever(Authorize::new(Arc::new(RegistryTable::new(&config.account, config.table)), keyring, clock));
    let handler = service_fn(|event: LambdaEvent<ApiGatewayV2CustomAuthorizerV2Request>| {
        gate.handle(event.payload).map_err(Error::from)
    });
    lambda_runtime::run(handler).boxed().await.map_err(anyhow::Error::from_boxed)
}
