//! `listen`: a receiver on this machine, which verifies and shows what comes, answers as told, and can hand it on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

use crate::api::Api;
use crate::capture::{Checked, Checker, Webhook};
use crate::client;
use crate::clock;
use crate::connection::{Connection, TenantArgument};
use crate::failure::Failure;
use crate::input;
use crate::output::{Output, json};
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
    #[arg(long = "answer-header", value_name = "NAME: VALUE", value_parser = answer_header)]
    answer_headers: Vec<(HeaderName, HeaderValue)>,
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

fn answer_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = input::header(text)?;
    let header = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
    header.ok_or_else(|| "this cannot be sent as a header".to_owned())
}

struct Listener {
    output: Output,
    arguments: Arguments,
    checker: Checker,
    calls: Cell<u64>,
    /// How often each webhook-id has come.
    seen: RefCell<BTreeMap<String, u64>>,
    /// Where calls are handed on to.
    next: Option<(Url, reqwest::Client)>,
    over: watch::Sender<bool>,
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
    let next = match arguments.forward.clone() {
        Some(url) => Some((url.clone(), client::client(&url)?)),
        None => None,
    };
    let (calls, seen, over) = (Cell::new(0), RefCell::default(), watch::Sender::new(false));
    let here = Rc::new(Listener { output, arguments, checker, calls, seen, next, over });
    tokio::task::LocalSet::new().run_until(serve(listener, here)).await;
    Ok(())
}

async fn serve(listener: TcpListener, here: Rc<Listener>) {
    let mut connections = tokio::task::JoinSet::new();
    let mut over = here.over.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = over.wait_for(|over| *over) => break,
            _ = tokio::signal::ctrl_c() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        connections.spawn_local(Rc::clone(&here).talk(stream));
    }
    // Answers that are being written are written to their end.
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
    /// Answers the calls of one connection.
    async fn talk(self: Rc<Self>, stream: TcpStream) {
        let mut over = self.over.subscribe();
        let answer = service_fn(move |request| {
            // A sender that does not wait for the answer has called all the same: the call is shown.
            let answering = tokio::task::spawn_local(Rc::clone(&self).answer(request));
            async move {
                Ok::<_, Infallible>(answering.await.unwrap_or_else(|_| response(StatusCode::INTERNAL_SERVER_ERROR)))
            }
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
        tokio::pin!(connection);
        tokio::select! {
            // A connection that breaks off is the sender's affair.
            ended = connection.as_mut() => drop(ended),
            _ = over.wait_for(|over| *over) => {
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
        }
    }

    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            anstream::eprintln!("{BAD}not read{BAD:#}: a body that broke off, or has more than 8 MiB");
            return response(StatusCode::PAYLOAD_TOO_LARGE);
        };
        let number = self.calls.get() + 1;
        self.calls.set(number);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
        let webhook = Webhook { headers: headers.collect(), body: body.to_bytes().to_vec() };
        let checked = (!self.checker.is_empty()).then(|| self.checker.check(&webhook, clock::now(), Some(TOLERANCE)));
        let again = self.times_seen(&webhook);
        tokio::time::sleep(self.arguments.delay).await;
        let answer = match &self.next {
            Some((url, client)) => forward(client, url, &head, &webhook).await,
            None if self.arguments.times.is_none_or(|times| number <= times) => {
                let mut answer = response(self.arguments.status);
                answer.headers_mut().extend(self.arguments.answer_headers.iter().cloned());
                answer
            }
            None => response(StatusCode::OK),
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
            self.over.send_replace(true);
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

    fn show(&self, call: &Call<'_>) {
        let body = String::from_utf8_lossy(&call.webhook.body);
        if self.output == Output::Json {
            json(&call.as_json(&body));
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
        serde_json::json!({
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

fn response(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Hands a call on, and answers as that receiver does.
async fn forward(
    client: &reqwest::Client,
    to: &Url,
    head: &http::request::Parts,
    webhook: &Webhook,
) -> Response<Full<Bytes>> {
    let request =
        client.request(head.method.clone(), to.clone()).headers(end_to_end(&head.headers)).body(webhook.body.clone());
    let answered = async {
        let mut answer = request.send().await.map_err(|error| client::cause(&error))?;
        let body = client::body(&mut answer).await?;
        Ok::<_, String>((answer, body))
    };
    match answered.await {
        Ok((answer, body)) => {
            let mut response = Response::new(Full::from(body));
            *response.status_mut() = answer.status();
            *response.headers_mut() = end_to_end(answer.headers());
            response
        }
        Err(why) => {
            anstream::eprintln!("{BAD}not handed on{BAD:#}: {}", clean(&why));
            response(StatusCode::BAD_GATEWAY)
        }
    }
}

/// The headers that belong to the message and not to its connection (RFC 9110 §7.6.1).
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let of_connection = |name: &HeaderName| {
        [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, TE, TRAILER, UPGRADE].contains(name)
            || name == "keep-alive"
            || named.iter().any(|other| other == name.as_str())
    };
    let kept = headers.iter().filter(|(name, _)| !of_connection(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}
