//! `listen`: a receiver on this machine, which verifies and shows what comes, answers as told, and can hand it on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use url::Url;

use crate::api::Api;
use crate::capture::{Checked, Checker, Webhook};
use crate::clock;
use crate::connection::{Connection, TenantArgument};
use crate::failure::Failure;
use crate::input;
use crate::output::Output;
use crate::text::{BAD, BOLD, DIM, GOOD, WAITS, clean, pretty, style_of};

/// The longest body that is read.
const MAX_BODY: usize = 8 << 20;
/// How old a webhook may be.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Receives webhooks on this machine, verifies and shows them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It answers 200, or as told. It ends with Ctrl-C.

Examples:
  steadhook listen --port 9000 --secret whsec_…
  steadhook listen --endpoint shop --tenant acme
  steadhook listen --status 500 --times 2
  steadhook listen --forward http://localhost:3000/hooks")]
pub(crate) struct Arguments {
    /// Port to listen on; 0 takes a free one
    #[arg(long, short, value_name = "PORT", default_value_t = 9000)]
    port: u16,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// A secret, whsec_… or whsk_…, or a public key, whpk_…, to verify with; may be repeated
    #[arg(
        long = "secret",
        value_name = "SECRET",
        env = "STEADHOOK_SECRETS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    secrets: Vec<String>,
    /// Verify with the secrets of this endpoint as well: its id or uid
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    #[command(flatten)]
    tenant: TenantArgument,
    /// Answer with this status code
    #[arg(long, value_name = "CODE", value_parser = status, default_value = "200")]
    status: StatusCode,
    /// Answer so only so many times, and 200 after that
    #[arg(long, value_name = "COUNT")]
    times: Option<u64>,
    /// Send this header with the status, such as 'retry-after: 30'; may be repeated
    #[arg(long = "answer-header", value_name = "NAME: VALUE", value_parser = input::header)]
    answer_headers: Vec<(String, String)>,
    /// Wait before answering
    #[arg(long, value_name = "DURATION", value_parser = input::duration, default_value = "0s", hide_default_value = true)]
    delay: Duration,
    /// Hand each call on to this URL, and answer as that does
    #[arg(long, value_name = "URL", conflicts_with_all = ["status", "times", "answer_headers"])]
    forward: Option<Url>,
    /// End after so many calls
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Show headers as well
    #[arg(long)]
    headers: bool,
}

fn status(text: &str) -> Result<StatusCode, String> {
    let code = text.parse::<u16>().ok().filter(|code| (200..=599).contains(code));
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    code.ok_or_else(|| "a status code is a number from 200 to 599".to_owned())
}

struct Listener {
    output: Output,
    arguments: Arguments,
    checker: Checker,
    calls: Cell<u64>,
    /// How often each webhook-id has come.
    seen: RefCell<BTreeMap<String, u64>>,
    http: reqwest::Client,
    over: Notify,
}

/// Listens.
///
/// # Errors
/// When nobody can listen there, or the secrets of the endpoint cannot be read.
pub(crate) async fn run(connection: &Connection, output: Output, mut arguments: Arguments) -> Result<(), Failure> {
    if let Some(endpoint) = &arguments.endpoint {
        #[derive(Deserialize)]
        struct Secrets {
            secrets: Vec<Secret>,
        }
        #[derive(Deserialize)]
        struct Secret {
            secret: String,
        }
        let tenant = arguments.tenant.path(connection)?;
        let api = Api::of(connection).await?;
        let answer = api.get(&format!("{}/secret", api.endpoint(&tenant, endpoint).await?), &[]).await?;
        let Secrets { secrets } = answer.read()?;
        arguments.secrets.extend(secrets.into_iter().map(|one| one.secret));
    }
    let checker = Checker::new(&arguments.secrets)?;
    let address = SocketAddr::from((arguments.address, arguments.port));
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| Failure::Usage(format!("nobody can listen on {address}: {error}")))?;
    let bound = listener.local_addr().unwrap_or(address);
    let verifies = if checker.is_empty() { ", without a secret to verify with" } else { "" };
    anstream::eprintln!("{DIM}listening on{DIM:#} {BOLD}http://{bound}/{BOLD:#}{DIM}{verifies}{DIM:#}");
    let http =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(Duration::from_secs(30)).build();
    let http = http.map_err(|error| Failure::Unreachable(format!("no HTTP client can be made: {error}")))?;
    let (calls, seen, over) = (Cell::new(0), RefCell::default(), Notify::new());
    let here = Rc::new(Listener { output, arguments, checker, calls, seen, http, over });
    tokio::task::LocalSet::new().run_until(serve(listener, here)).await;
    Ok(())
}

async fn serve(listener: TcpListener, here: Rc<Listener>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = here.over.notified() => break,
            _ = tokio::signal::ctrl_c() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let here = Rc::clone(&here);
        connections.spawn_local(async move {
            let over = Rc::clone(&here);
            let answer = service_fn(move |request| {
                let here = Rc::clone(&here);
                async move { Ok::<_, Infallible>(here.answer(request).await) }
            });
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
            tokio::pin!(connection);
            tokio::select! {
                // A connection that breaks off is the sender's affair.
                ended = connection.as_mut() => drop(ended),
                () = over.over.notified() => {
                    connection.as_mut().graceful_shutdown();
                    drop(connection.await);
                }
            }
        });
    }
    // Answers that are being written are written to their end.
    here.over.notify_waiters();
    drop(tokio::time::timeout(Duration::from_secs(5), connections.join_all()).await);
}

/// What is told of one call.
struct Call<'a> {
    number: u64,
    line: &'a str,
    webhook: &'a Webhook,
    checked: Option<&'a Checked>,
    again: u64,
    status: StatusCode,
}

impl Listener {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return response(StatusCode::PAYLOAD_TOO_LARGE, &[], Bytes::from_static(b"more than 8 MiB\n"));
        };
        let number = self.calls.get() + 1;
        self.calls.set(number);
        let name = |name: &http::HeaderName| name.as_str().to_owned();
        let headers =
            head.headers.iter().map(|(key, value)| (name(key), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let webhook = Webhook { headers: headers.collect(), body: body.to_bytes().to_vec() };
        let checked = (!self.checker.is_empty()).then(|| self.checker.check(&webhook, clock::now(), Some(TOLERANCE)));
        let again = self.times_seen(&webhook);
        tokio::time::sleep(self.arguments.delay).await;
        let answer = match &self.arguments.forward {
            Some(url) => self.forward(url, &head, &webhook).await,
            None if self.arguments.times.is_none_or(|times| number <= times) => {
                response(self.arguments.status, &self.arguments.answer_headers, Bytes::new())
            }
            None => response(StatusCode::OK, &[], Bytes::new()),
        };
        let line = format!("{} {}", head.method, head.uri);
        self.show(&Call {
            number,
            line: &line,
            webhook: &webhook,
            checked: checked.as_ref(),
            again,
            status: answer.status(),
        });
        if self.arguments.count.is_some_and(|count| number >= count) {
            self.over.notify_one();
        }
        answer
    }

    /// How often this webhook has come, this time included.
    fn times_seen(&self, webhook: &Webhook) -> u64 {
        let Some(id) = webhook.header("webhook-id") else { return 1 };
        let mut seen = self.seen.borrow_mut();
        // A receiver that runs for days must not grow without bound.
        if seen.len() >= 10_000 {
            seen.clear();
        }
        let times = seen.entry(id.to_owned()).or_default();
        *times += 1;
        *times
    }

    async fn forward(&self, url: &Url, head: &http::request::Parts, webhook: &Webhook) -> Response<Full<Bytes>> {
        let mut request = self.http.request(head.method.clone(), url.clone()).body(webhook.body.clone());
        for (name, value) in &head.headers {
            // The connection's own headers belong to this connection.
            if !matches!(name.as_str(), "host" | "connection" | "content-length" | "transfer-encoding") {
                request = request.header(name, value);
            }
        }
        match request.send().await {
            Ok(mut answer) => {
                let mut body = Vec::new();
                while let Ok(Some(chunk)) = answer.chunk().await {
                    body.extend_from_slice(&chunk);
                    if body.len() > MAX_BODY {
                        break;
                    }
                }
                response(answer.status(), &[], Bytes::from(body))
            }
            Err(error) => {
                anstream::eprintln!("{BAD}not handed on{BAD:#}: {error}");
                response(StatusCode::BAD_GATEWAY, &[], Bytes::new())
            }
        }
    }

    fn show(&self, call: &Call<'_>) {
        let body = String::from_utf8_lossy(&call.webhook.body);
        if self.output == Output::Json {
            anstream::println!("{}", call.as_json(&body));
            return;
        }
        let signature = match call.checked {
            None => format!("{WAITS}signature not checked{WAITS:#}"),
            Some(Ok(_)) => format!("{GOOD}signature valid{GOOD:#}"),
            Some(Err(why)) => format!("{BAD}signature invalid{BAD:#}: {}", clean(why)),
        };
        let style = if call.status.is_success() { style_of("ok") } else { BAD };
        let again = if call.again > 1 {
            format!("  {WAITS}for the {} time{WAITS:#}", ordinal(call.again))
        } else {
            String::new()
        };
        let at = clock::now().to_string();
        let at = at.get(11..19).unwrap_or_default();
        anstream::println!(
            "{DIM}{at}{DIM:#} {BOLD}{}{BOLD:#}  {}{again}\n         {signature} → {style}{}{style:#}",
            clean(call.line),
            clean(call.webhook.header("webhook-id").unwrap_or("without webhook-id")),
            call.status.as_u16()
        );
        if self.arguments.headers {
            for (name, value) in &call.webhook.headers {
                anstream::println!("         {DIM}{}: {}{DIM:#}", clean(name), clean(value));
            }
        }
        for line in pretty(&body).lines() {
            anstream::println!("         {line}");
        }
    }
}

impl Call<'_> {
    fn as_json(&self, body: &str) -> String {
        json!({
            "number": self.number,
            "request": self.line,
            "headers": self.webhook.headers,
            "body": body,
            "signature": match self.checked { None => "unchecked", Some(Ok(_)) => "valid", Some(Err(_)) => "invalid" },
            "why": self.checked.and_then(|checked| checked.as_ref().err()),
            "times": self.again,
            "status": self.status.as_u16(),
        })
        .to_string()
    }
}

/// 2nd, 3rd, 4th.
fn ordinal(number: u64) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

fn response(status: StatusCode, headers: &[(String, String)], body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
