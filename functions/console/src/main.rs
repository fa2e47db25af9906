//! Wires the `console` handler to its Lambda.

use std::convert::Infallible;

use adapters::http::server;
use adapters::process;
use fn_console::{Console, config};
use lambda_http::{Request, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let config = process::alone(config::read)?;
    let handler = &Console::new(&config);
    let handler = service_fn(async |request: Request| Ok::<_, Infallible>(handler.handle(&request)));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
