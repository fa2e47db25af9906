//! The real binary of a function, which gets its events from a Lambda Runtime API of the
//! test.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adapters::clock::Clock;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::contract;
use crate::process::Usage;

/// How long an invocation may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The end of an invocation: whether the function answered or reported an error, and the
/// body.
type Answer = (bool, Bytes);

/// The Runtime API of one function. Events wait for its next poll, and callers wait for its
/// answers.
struct Runtime {
    events: AsyncMutex<mpsc::UnboundedReceiver<(u64, Bytes)>>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    first_poll: watch::Sender<Option<Instant>>,
}

/// A running function.
pub struct Function {
    runtime: Arc<Runtime>,
    events: mpsc::UnboundedSender<(u64, Bytes)>,
    sequence: AtomicU64,
    started: Instant,
    output: JoinHandle<Vec<u8>>,
    child: Child,
}

/// The path of one of the workspace's binaries, which are beside the test's own folder.
pub fn path_of(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let dir = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path = dir.join(name);
    assert!(path.is_file(), "{} is missing: `make build` makes it", path.display());
    path
}

impl Function {
    /// Starts the binary `name` with these variables and no others.
    ///
    /// # Panics
    /// When it is not built.
    pub async fn start(name: &str, variables: &[(&str, String)]) -> Self {
        Self::start_under(&[], name, variables).await
    }

    /// The same under another program, which gets the binary as its last argument.
    ///
    /// # Panics
    /// When one of them is missing.
    pub async fn start_under(wrapper: &[String], name: &str, variables: &[(&str, String)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (events, incoming) = mpsc::unbounded_channel();
        let runtime = Arc::new(Runtime {
            events: AsyncMutex::new(incoming),
            waiting: Mutex::default(),
            first_poll: watch::Sender::new(None),
        });
        let serving = Arc::clone(&runtime);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let runtime = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = service_fn(move |request| serve(request, Arc::clone(&runtime)));
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        let binary = path_of(name).into_os_string();
        let mut line = wrapper.iter().map(Into::into).chain([binary]);
        let mut child = Command::new(line.next().unwrap())
            .args(line)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let started = Instant::now();
        let output = tokio::spawn(drain(child.stdout.take().unwrap()));
        Self { runtime, events, sequence: AtomicU64::new(1), started, output, child }
    }

    /// Hands over an event and waits for the function's answer.
    ///
    /// # Panics
    /// When the function reports an error or does not answer.
    pub async fn invoke(&self, event: &Value) -> Value {
        let answer = self.invoke_with(Bytes::from(event.to_string())).await;
        serde_json::from_slice(&answer).unwrap_or(Value::Null)
    }

    /// The same with an event and an answer in bytes.
    ///
    /// # Panics
    /// When the function reports an error or does not answer.
    pub async fn invoke_with(&self, event: Bytes) -> Bytes {
        let (ok, answer) = self.ended_with(event).await;
        assert!(ok, "the function failed: {}", String::from_utf8_lossy(&answer));
        answer
    }

    /// Hands over an event that the function reports an error for. Gives the error.
    ///
    /// # Panics
    /// When the function answers, or does neither.
    pub async fn fails(&self, event: &Value) -> Value {
        let (ok, error) = self.ended_with(Bytes::from(event.to_string())).await;
        assert!(!ok, "the function answered: {}", String::from_utf8_lossy(&error));
        serde_json::from_slice(&error).unwrap_or(Value::Null)
    }

    async fn ended_with(&self, event: Bytes) -> Answer {
        let id = self.sequence.fetch_add(1, Ordering::Relaxed);
        let (answering, answered) = oneshot::channel();
        self.runtime.waiting.lock().unwrap().insert(id, answering);
        self.events.send((id, event)).unwrap();
        tokio::time::timeout(TIMEOUT, answered).await.expect("the function did not answer").unwrap()
    }

    /// Waits until it asks for its first event; gives the time since its start.
    ///
    /// # Panics
    /// When it never does.
    pub async fn polls(&self) -> Duration {
        let mut polled = self.runtime.first_poll.subscribe();
        let polled = tokio::time::timeout(TIMEOUT, polled.wait_for(Option::is_some)).await;
        let at = polled.expect("the function did not poll").unwrap().unwrap();
        at.duration_since(self.started)
    }

    /// Its process.
    ///
    /// # Panics
    /// When it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the function has ended")
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        Usage::of(self.pid())
    }

    /// Waits until the function ends by itself; gives its exit code and output.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(TIMEOUT, self.child.wait()).await.expect("still running").unwrap();
        let output = self.output.await.unwrap();
        (status.code(), String::from_utf8_lossy(&output).into_owned())
    }
}

/// Reads what the function logs, since a full pipe would stop it. Gives the first mebibyte.
async fn drain(mut from: ChildStdout) -> Vec<u8> {
    const KEPT: usize = 1024 * 1024;
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let room = KEPT.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}

async fn serve(request: Request<Incoming>, runtime: Arc<Runtime>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        runtime.first_poll.send_if_modified(|first| first.replace(first.unwrap_or_else(Instant::now)).is_none());
        let Some((id, event)) = runtime.events.lock().await.recv().await else {
            return Ok(Response::builder().status(410).body(Full::default()).unwrap());
        };
        let deadline = Clock::system().now().after(TIMEOUT);
        let response = Response::builder()
            .header("lambda-runtime-aws-request-id", id.to_string())
            .header("lambda-runtime-deadline-ms", deadline.0.to_string())
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:000000000000:function:test")
            .header("content-type", "application/json")
            .body(Full::new(event))
            .unwrap();
        return Ok(response);
    }
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut parts = path.rsplit('/');
    let kind = parts.next().unwrap_or_default();
    let id: Option<u64> = parts.next().and_then(|id| id.parse().ok());
    let waiting = id.and_then(|id| runtime.waiting.lock().unwrap().remove(&id));
    if let Some(waiting) = waiting {
        // The caller may have given up.
        drop(waiting.send((kind == "response", body)));
    }
    Ok(Response::builder().status(202).body(Full::default()).unwrap())
}

/// The event of an SQS trigger with these bodies.
pub fn sqs_event(bodies: &[String]) -> Value {
    let records: Vec<Value> = bodies
        .iter()
        .enumerate()
        .map(|(i, body)| {
            serde_json::json!({
                "messageId": format!("m-{i}"), "receiptHandle": "r", "body": body,
                "attributes": {
                    "ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000", "SenderId": "AIDA",
                    "ApproximateFirstReceiveTimestamp": "1767225600001",
                },
                "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-central-1:000000000000:q", "awsRegion": "eu-central-1",
            })
        })
        .collect();
    serde_json::json!({ "Records": records })
}

/// The event of an HTTP API request, payload format 2.0. The path may have a query.
pub fn http_event(method: &str, path: &str, body: &str) -> Value {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let route = contract::route_key(method, path);
    serde_json::json!({
        "version": "2.0", "routeKey": route, "rawPath": path, "rawQueryString": query,
        "headers": { "content-type": "application/json" },
        "requestContext": {
            "accountId": "000000000000", "apiId": "api", "domainName": "localhost", "domainPrefix": "api",
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test" },
            "requestId": "r", "routeKey": route, "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 0,
        },
        "body": body, "isBase64Encoded": false,
    })
}
