//! A function's real binary, driven through a Lambda Runtime API of our own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::clock::Clock;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::Notify;

/// How long an invocation may take.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct State {
    events: VecDeque<(u64, String)>,
    answers: Vec<(u64, bool, Value)>,
    sequence: u64,
}

/// A running function.
pub struct Function {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    child: Child,
}

/// Where the workspace's binaries are: beside the test's own.
fn path_of(name: &str) -> PathBuf {
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let changed = Arc::new(Notify::new());
        let (served, notify) = (Arc::clone(&state), Arc::clone(&changed));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, changed) = (Arc::clone(&served), Arc::clone(&notify));
                tokio::spawn(async move {
                    let service = service_fn(move |request| serve(request, Arc::clone(&state), Arc::clone(&changed)));
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        let child = Command::new(path_of(name))
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
        Self { state, changed, child }
    }

    /// Hands over an event and waits for the function's answer.
    ///
    /// # Panics
    /// When the function reports an error or does not answer.
    pub async fn invoke(&self, event: &Value) -> Value {
        let id = {
            let mut state = self.state.lock().unwrap();
            state.sequence += 1;
            let id = state.sequence;
            state.events.push_back((id, event.to_string()));
            id
        };
        self.changed.notify_waiters();
        let answering = async {
            loop {
                let changed = self.changed.notified();
                let found = self.state.lock().unwrap().answers.iter().find(|(of, ..)| *of == id).cloned();
                if let Some((_, ok, answer)) = found {
                    assert!(ok, "the function failed: {answer}");
                    return answer;
                }
                changed.await;
            }
        };
        tokio::time::timeout(TIMEOUT, answering).await.expect("the function did not answer")
    }

    /// Waits until the function ends by itself; gives its exit code and output.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(self) -> (Option<i32>, String) {
        let output =
            tokio::time::timeout(TIMEOUT, self.child.wait_with_output()).await.expect("still running").unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

async fn serve(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if request.method() == Method::GET {
        let (id, event) = loop {
            let waiting = changed.notified();
            if let Some(event) = state.lock().unwrap().events.pop_front() {
                break event;
            }
            waiting.await;
        };
        let deadline = Clock::system().now().after(TIMEOUT);
        let response = Response::builder()
            .header("lambda-runtime-aws-request-id", id.to_string())
            .header("lambda-runtime-deadline-ms", deadline.0.to_string())
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:000000000000:function:test")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(event)))
            .unwrap();
        return Ok(response);
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut parts = path.rsplit('/');
    let kind = parts.next().unwrap_or_default().to_owned();
    if let Some(id) = parts.next().and_then(|id| id.parse().ok()) {
        let answer = serde_json::from_slice(&body).unwrap_or(Value::Null);
        state.lock().unwrap().answers.push((id, kind == "response", answer));
        changed.notify_waiters();
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
                "messageId": format!("m-{i}"), "receiptHandle": "r", "body": body, "attributes": {},
                "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-central-1:000000000000:q", "awsRegion": "eu-central-1",
            })
        })
        .collect();
    serde_json::json!({ "Records": records })
}

/// The event of an HTTP API request, payload format 2.0.
pub fn http_event(method: &str, path: &str, body: &str) -> Value {
    serde_json::json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": { "content-type": "application/json" },
        "requestContext": {
            "accountId": "000000000000", "apiId": "api", "domainName": "localhost", "domainPrefix": "api",
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test" },
            "requestId": "r", "routeKey": "$default", "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 0,
        },
        "body": body, "isBase64Encoded": false,
    })
}
