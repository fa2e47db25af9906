//! An HTTP proxy before DynamoDB that fails on demand. The local DynamoDB itself never
//! fails and never throttles.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// How the tables fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableTrouble {
    /// They work.
    #[default]
    None,
    /// Every connection ends without an answer.
    Away,
    /// Two requests of three are throttled.
    Throttled,
    /// Every third answer is lost: what it tells of was done.
    LosesReplies,
}

#[derive(Default)]
struct State {
    trouble: TableTrouble,
    /// The URL of DynamoDB, once that is known.
    behind: Option<String>,
    requests: usize,
    troubled: usize,
}

/// A running proxy.
#[derive(Clone)]
pub struct DynamoDbProxy {
    port: u16,
    http: reqwest::Client,
    state: Arc<Mutex<State>>,
}

impl DynamoDbProxy {
    /// A proxy before a DynamoDB that is not there yet.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let proxy = Self { port, http, state: Arc::default() };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let proxy = accepting.clone();
                let service = service_fn(move |request| proxy.clone().serve(request));
                // How a connection ends is the client's to see.
                tokio::spawn(async move {
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        proxy
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on, requests go to this URL.
    ///
    /// # Panics
    /// Never, unless another user of the proxy panicked.
    pub fn stand_before(&self, url: &str) {
        self.state.lock().unwrap().behind = Some(url.to_owned());
    }

    /// From now on the tables fail like this, or work again. Says how many requests the
    /// trouble before has met.
    ///
    /// # Panics
    /// Never, unless another user of the proxy panicked.
    pub fn set(&self, trouble: TableTrouble) -> usize {
        let mut state = self.state.lock().unwrap();
        state.trouble = trouble;
        std::mem::take(&mut state.troubled)
    }

    /// Where the request goes, and whether it is in trouble.
    fn next(&self) -> (Option<String>, TableTrouble) {
        let mut state = self.state.lock().unwrap();
        state.requests += 1;
        let is_third = state.requests.is_multiple_of(3);
        let is_met = match state.trouble {
            TableTrouble::None => false,
            TableTrouble::Away => true,
            TableTrouble::Throttled => !is_third,
            TableTrouble::LosesReplies => is_third,
        };
        let trouble = if is_met { state.trouble } else { TableTrouble::None };
        state.troubled += usize::from(trouble != TableTrouble::None);
        (state.behind.clone(), trouble)
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let broken = || std::io::Error::other("no answer");
        let (behind, trouble) = self.next();
        let behind = behind.ok_or_else(broken)?;
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        match trouble {
            TableTrouble::Away => return Err(broken()),
            TableTrouble::Throttled => return Ok(throttled()),
            TableTrouble::None | TableTrouble::LosesReplies => {}
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut forwarded = self.http.request(head.method, format!("{behind}{path}")).body(body);
        for (name, value) in head.headers.iter().filter(|(name, _)| *name != http::header::HOST) {
            forwarded = forwarded.header(name, value);
        }
        let mut answer = forwarded.send().await.map_err(std::io::Error::other)?;
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(std::io::Error::other)? {
            text.extend_from_slice(&chunk);
        }
        if trouble == TableTrouble::LosesReplies {
            return Err(broken());
        }
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = answer.status();
        for name in ["content-type", "x-amzn-requestid", "x-amz-crc32"] {
            if let Some(value) = answer.headers().get(name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    }
}

/// What DynamoDB answers to who asks too much.
fn throttled() -> Response<Full<Bytes>> {
    let body =
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"too much"}"#;
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = http::StatusCode::BAD_REQUEST;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/x-amz-json-1.0"));
    response
}
