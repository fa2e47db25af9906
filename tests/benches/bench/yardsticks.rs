//! What others cost, in the same run: a bare loop of posts, and a Celery worker
//! with its API.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tests::binary::path_of;
use tests::process::{Usage, family};
use tests::redis_server::{RedisServer, free_port};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::stage::us_each;
use crate::surroundings::Sink;

/// A running loop of posts.
pub(crate) struct Loop {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Loop {
    pub(crate) fn start(url: &str, payload_bytes: usize, at_once: usize) -> Self {
        Self::start_trusting("reqwest-loop", None, url, payload_bytes, at_once)
    }

    /// The loop of this name, which trusts these certificate authorities if there are any.
    pub(crate) fn start_trusting(
        name: &str,
        authorities: Option<&Path>,
        url: &str,
        payload_bytes: usize,
        at_once: usize,
    ) -> Self {
        let mut child = Command::new(path_of(name))
            .args([url, &payload_bytes.to_string(), &at_once.to_string()])
            .envs(authorities.map(|path| ("SSL_CERT_FILE", path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, to, from }
    }

    /// CPU time of so many posts, in µs a post.
    pub(crate) async fn posts(&mut self, count: usize) -> f64 {
        let pid = self.child.id().unwrap();
        let before = Usage::of(pid).cpu;
        self.to.write_all(format!("{count}\n").as_bytes()).await.unwrap();
        assert_eq!(self.from.next_line().await.unwrap().as_deref(), Some("done"));
        us_each(Usage::of(pid).cpu.saturating_sub(before), count)
    }
}

/// The Celery worker and its API, on a Redis of their own.
pub(crate) struct Celery {
    redis: RedisServer,
    worker: Child,
    api: Child,
    port: u16,
}

fn python() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../.local/venvs/bench/bin/python").to_owned()
}

fn script(redis: &RedisServer) -> Command {
    let mut command = Command::new(python());
    command
        .current_dir(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/yardstick/celery")))
        .env("REDIS_URL", redis.url())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

impl Celery {
    pub(crate) fn start() -> Self {
        let redis = RedisServer::start();
        let port = free_port();
        let worker =
            script(&redis).args(["-m", "celery", "-A", "worker", "worker", "--loglevel=ERROR"]).spawn().unwrap();
        let api = script(&redis)
            .args(["-m", "uvicorn", "api:app", "--log-level=error", "--port", &port.to_string()])
            .spawn()
            .unwrap();
        Self { redis, worker, api, port }
    }

    fn cpu(of: &Child) -> Duration {
        family(of.id().unwrap()).into_iter().map(|pid| Usage::of(pid).cpu).sum()
    }

    /// CPU time of so many deliveries, in µs each.
    pub(crate) async fn deliveries(&self, sink: &Sink, count: usize, payload_bytes: usize) -> f64 {
        let (posts, before) = (sink.posts(), Self::cpu(&self.worker));
        let filled = script(&self.redis)
            .args(["fill.py", &count.to_string(), &sink.url(200), &payload_bytes.to_string()])
            .status()
            .await;
        assert!(filled.unwrap().success());
        until("the worker delivered", || sink.posts() - posts >= count).await;
        us_each(Self::cpu(&self.worker).saturating_sub(before), count)
    }

    /// CPU time of so many accepted requests, in µs each. The worker that posts what
    /// was accepted is not in it.
    pub(crate) async fn requests(&self, sink: &Sink, count: usize, payload_bytes: usize) -> f64 {
        let url = format!("http://127.0.0.1:{}/webhooks", self.port);
        let client = reqwest::Client::new();
        let note = json!({ "note": "x".repeat(payload_bytes - 11) });
        let body = json!({ "webhook_url": sink.url(200), "payload": note }).to_string();
        let post = || client.post(&url).header("content-type", "application/json").body(body.clone()).send();
        let mut tries = 0;
        while post().await.is_err() {
            tries += 1;
            assert!(tries < 300, "the API of the yardstick did not come up");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let posts = sink.posts();
        let before = Self::cpu(&self.api);
        for _ in 0..count {
            assert_eq!(post().await.unwrap().status(), 202);
        }
        let spent = us_each(Self::cpu(&self.api).saturating_sub(before), count);
        until("the worker delivered", || sink.posts() - posts >= count).await;
        spent
    }
}

impl Drop for Celery {
    fn drop(&mut self) {
        // Its children end with their parent only when it is asked.
        for child in [&self.worker, &self.api] {
            for pid in child.id().map(family).unwrap_or_default() {
                drop(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status());
            }
        }
    }
}

/// Waits for something that comes soon.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(120), waiting).await.is_ok(), "not in time: {what}");
}
