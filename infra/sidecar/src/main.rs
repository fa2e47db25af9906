//! Shows the fleet's metrics on `:8000/metrics`, for a Prometheus that stands
//! beside it and cannot sign requests. It reads the same Redis as the `metrics`
//! function and keeps nothing: it may be restarted at any time.

mod config;
mod credentials;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use adapters::aws::sqs::{Depths, Sqs};
use adapters::clock::Clock;
use adapters::metrics::exposition::{CONTENT_TYPE, Snapshot};
use adapters::process;
use adapters::redis::indexes::Indexes;
use adapters::redis::transport::Redis;
use adapters::telemetry::chain;
use anyhow::Context as _;
use http::header::CONTENT_TYPE as KIND;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

struct Sidecar {
    redis: Redis,
    queues: Option<Box<dyn Depths>>,
    clock: Clock,
    indexes: Indexes,
}

impl Sidecar {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, kind, text) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => {
                let (queues, now) = (self.queues.as_deref(), self.clock.now());
                let snapshot = Snapshot::read(&self.redis, queues, now, self.indexes).await;
                (StatusCode::OK, CONTENT_TYPE, snapshot.render())
            }
            // Whether this process lives, and not whether Redis does.
            (&Method::GET, "/-/healthy") => (StatusCode::OK, "text/plain", "it lives\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, "text/plain", "there is only GET /metrics\n".to_owned()),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(KIND, http::HeaderValue::from_static(kind));
        response
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let config = process::begin()
        .read(config::read)
        .inspect_err(|error| tracing::error!(error = %chain(error), "cannot start"))?;
    let clock = Clock::system();
    let redis = Redis::open(&config.redis, clock.clone()).context("redis")?;
    let queues = config.queues.map(|(account, urls)| Box::new(Sqs::new(&account, urls)) as Box<dyn Depths>);
    let sidecar = Arc::new(Sidecar { redis, queues, clock, indexes: config.lives.indexes });
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("listening on {}", config.listen))?;
    tracing::info!(address = %listener.local_addr()?, "showing metrics");
    let mut ended = signal(SignalKind::terminate())?;
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            _ = ended.recv() => return Ok(()),
        };
        let sidecar = Arc::clone(&sidecar);
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let sidecar = Arc::clone(&sidecar);
                async move { Ok::<_, Infallible>(sidecar.answer(&request).await) }
            });
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = connection.await {
                tracing::debug!(error = %chain(&error), "a connection ended");
            }
        });
    }
}
