//! Wires the `console` handler to its Lambda.

use std::convert::Infallible;
use std::future::ready;

use adapters::http::server;
use adapters::process::{self, forever};
use fn_console::{Console, config};
use lambda_http::{Request, service_fn};

fn main() -> anyhow::Result<()> {
    process::run(serve())?
}

async fn serve() -> anyhow::Result<()> {
    let config = process::alone(config::read)?;
    let handler = forever(Console::new(&config));
    let handler = service_fn(|request: Request| ready(Ok::<_, Infallible>(handler.handle(&request))));
    server::run(handler).await.map_err(anyhow::Error::from_boxed)
}
