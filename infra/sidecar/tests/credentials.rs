//! The real sidecar with the credentials of a role. One server of the test stands for the
//! endpoint of a container, for the metadata of an instance, and for SQS.

#![allow(clippy::unwrap_used, reason = "in tests a surprise ends the test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(30);
const IMDS: &str = "/latest/meta-data/iam/security-credentials/";

/// What the server was asked.
#[derive(Default)]
struct Seen {
    /// How often credentials were given.
    given: usize,
    /// The access key and session token of each call of SQS.
    calls: Vec<(String, String)>,
}

/// The server, and how long the credentials that it gives are valid.
struct Aws {
    address: SocketAddr,
    expires: &'static str,
    seen: Mutex<Seen>,
}

impl Aws {
    async fn start(expires: &'static str) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let aws = Arc::new(Self { address: listener.local_addr().unwrap(), expires, seen: Mutex::default() });
        let serving = Arc::clone(&aws);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let aws = Arc::clone(&serving);
                let answer = service_fn(move |request| {
                    let answer = aws.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), answer));
            }
        });
        aws
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let header = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let (status, body) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/role") if header("authorization") == "hush" => (200, self.give()),
            (&Method::PUT, "/latest/api/token") => (200, "imds-token".to_owned()),
            (&Method::GET, path) if header("x-aws-ec2-metadata-token") == "imds-token" => match path {
                IMDS => (200, "steadhook".to_owned()),
                _ if path == format!("{IMDS}steadhook") => (200, self.give()),
                _ => (404, String::new()),
            },
            (&Method::POST, "/") => {
                let signed = header("authorization");
                let key = signed.split_once("Credential=").unwrap().1.split('/').next().unwrap().to_owned();
                self.seen.lock().unwrap().calls.push((key, header("x-amz-security-token")));
                let figures = r#"{"Attributes": {"ApproximateNumberOfMessages": "7",
                    "ApproximateNumberOfMessagesNotVisible": "0", "ApproximateNumberOfMessagesDelayed": "0"}}"#;
                (200, figures.to_owned())
            }
            _ => (403, String::new()),
        };
        let mut response = Response::builder().status(status).header("content-type", "application/json");
        if request.method() == Method::PUT {
            response = response.header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
        } else if request.method() == Method::POST {
            response = response.header("content-type", "application/x-amz-json-1.0");
        }
        response.body(Full::from(body)).unwrap()
    }

    /// New credentials, numbered.
    fn give(&self) -> String {
        let mut seen = self.seen.lock().unwrap();
        seen.given += 1;
        let (number, expires) = (seen.given, self.expires);
        format!(
            r#"{{"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
            "AccessKeyId": "ROLE{number}", "SecretAccessKey": "hush", "Token": "session{number}",
            "Expiration": "{expires}"}}"#
        )
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A running sidecar.
struct Sidecar {
    _child: Child,
    address: SocketAddr,
}

impl Sidecar {
    /// Starts one that asks SQS at `aws`, with these variables and no keys.
    async fn start(aws: &Aws, variables: &[(&str, String)]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let settings = [
            ("STACK_NAME", "steadhook"),
            // Nothing listens there. Queues are shown without Redis.
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("REDIS_CLUSTER", "false"),
            ("TTL_DELIVERED_S", "1800"),
            ("TTL_UNFINISHED_S", "604800"),
            ("TTL_EVENT_S", "604800"),
            ("DELIVERY_DEADLINE_S", "86400"),
            ("DELIVERY_QUEUE_URL", "http://localhost/delivery"),
            ("RETRY_QUEUE_URL", "http://localhost/retry"),
            ("WAIT_QUEUE_URL", "http://localhost/wait"),
            ("SLOW_QUEUE_URL", "http://localhost/slow"),
            ("EVENT_QUEUE_URL", "http://localhost/event"),
            ("DEAD_LETTER_QUEUE_URL", "http://localhost/dead"),
            ("AWS_REGION", "eu-central-1"),
        ];
        let child = Command::new(env!("CARGO_BIN_EXE_sidecar"))
            .env_clear()
            .envs(settings)
            .env("LISTEN_ADDRESS", free.to_string())
            .env("AWS_ENDPOINT_URL", aws.url(""))
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { _child: child, address: free }
    }

    /// The metrics that it shows.
    async fn metrics(&self) -> String {
        let connecting = async {
            loop {
                if let Ok(stream) = TcpStream::connect(self.address).await {
                    return stream;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut stream = tokio::time::timeout(PATIENCE, connecting).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }
}

fn shows_the_queues(metrics: &str) -> bool {
    metrics.contains(r#"queue="delivery",state="visible"} 7"#)
}

#[tokio::test]
async fn a_container_asks_its_queues_as_its_role() {
    let aws = Aws::start("2099-01-01T00:00:00Z").await;
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", aws.url("/role")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush".to_owned()),
    ];
    let sidecar = Sidecar::start(&aws, &container).await;
    for _ in 0..2 {
        let metrics = sidecar.metrics().await;
        assert!(shows_the_queues(&metrics), "{metrics}");
    }
    let seen = aws.seen.lock().unwrap();
    assert_eq!(seen.calls, vec![("ROLE1".to_owned(), "session1".to_owned()); 12]);
    assert_eq!(seen.given, 1, "valid credentials are kept");
}

#[tokio::test]
async fn an_instance_asks_its_queues_as_its_role() {
    let aws = Aws::start("2099-01-01T00:00:00Z").await;
    let sidecar = Sidecar::start(&aws, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url(""))]).await;
    let metrics = sidecar.metrics().await;
    assert!(shows_the_queues(&metrics), "{metrics}");
    assert_eq!(aws.seen.lock().unwrap().calls, vec![("ROLE1".to_owned(), "session1".to_owned()); 6]);
}

#[tokio::test]
async fn credentials_that_expire_are_asked_for_again() {
    let aws = Aws::start("2026-01-01T00:00:00Z").await;
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", aws.url("/role")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush".to_owned()),
    ];
    let sidecar = Sidecar::start(&aws, &container).await;
    assert!(shows_the_queues(&sidecar.metrics().await));
    let first = aws.seen.lock().unwrap().calls.clone();
    assert!(shows_the_queues(&sidecar.metrics().await));
    let seen = aws.seen.lock().unwrap();
    let second = &seen.calls[first.len()..];
    assert!(second.iter().all(|call| !first.contains(call)), "{first:?} {second:?}");
}

#[tokio::test]
async fn the_keys_of_a_user_come_first() {
    let aws = Aws::start("2099-01-01T00:00:00Z").await;
    let both = [
        ("AWS_ACCESS_KEY_ID", "USER".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "hush".to_owned()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url("")),
    ];
    let sidecar = Sidecar::start(&aws, &both).await;
    assert!(shows_the_queues(&sidecar.metrics().await));
    let seen = aws.seen.lock().unwrap();
    assert!(seen.given == 0 && seen.calls.iter().all(|(key, _)| key == "USER"), "{:?}", seen.calls);
}
