//! A real Prometheus scrapes a deployed stack, through the API and through the sidecar.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tests::client::Api;
use tests::receiver::Receiver;
use tests::redis_server::free_port;
use tests::stack::{OwnStack, Stack};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn sidecar(stack: &Stack, port: u16) -> Process {
    let mut command = Command::new(format!("{ROOT}/target/debug/sidecar"));
    command
        .envs(stack.lines())
        .env("REDIS_CLUSTER", "false")
        .env("TTL_DELIVERED_S", "1800")
        .env("TTL_UNFINISHED_S", "604800")
        .env("TTL_EVENT_S", "604800")
        .env("DELIVERY_DEADLINE_S", "86400")
        .env("LISTEN_ADDRESS", format!("127.0.0.1:{port}"))
        .stdout(Stdio::null());
    Process(command.spawn().expect("the sidecar is missing: run the tests by `make test`"))
}

/// A Prometheus for this test, which scrapes every second.
struct Prometheus {
    _process: Process,
    url: String,
    dir: PathBuf,
    http: reqwest::Client,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl Prometheus {
    fn start(stack: &Stack, sidecar: u16) -> Self {
        let dir = std::env::temp_dir().join(format!("steadhook-prometheus-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let api = reqwest::Url::parse(stack.get("API_URL")).unwrap();
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [
                format!("{ROOT}/infra/prometheus/recording-rules.yml"),
                format!("{ROOT}/infra/prometheus/alerting-rules.yml"),
            ],
            "scrape_configs": [
                { "job_name": "steadhook", "static_configs": [{ "targets": [format!("127.0.0.1:{sidecar}")] }] },
                {
                    "job_name": "steadhook-api",
                    "metrics_path": format!("{}/metrics", api.path()),
                    "static_configs": [{ "targets": [format!("127.0.0.1:{}", api.port().unwrap())] }],
                },
            ],
        });
        // JSON is YAML, too.
        std::fs::write(dir.join("prometheus.yml"), config.to_string()).unwrap();
        let port = free_port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is missing: run the tests by `make test`");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { _process: Process(process), url: format!("http://127.0.0.1:{port}"), dir, http }
    }

    /// The result of a query now.
    async fn ask(&self, query: &str) -> Result<Vec<Value>, String> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/query", self.url)).unwrap();
        url.query_pairs_mut().append_pair("query", query);
        let mut answer = self.http.get(url).send().await.map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
            body.extend_from_slice(&chunk);
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        answer["data"]["result"].as_array().cloned().ok_or_else(|| answer.to_string())
    }

    /// Waits until the first value of a query is as wanted.
    async fn until(&self, query: &str, wanted: impl Fn(f64) -> bool) {
        let mut last = String::new();
        let waiting = async {
            loop {
                let found = self.ask(query).await;
                last = format!("{found:?}");
                let value = found.ok().and_then(|found| found.first()?["value"][1].as_str()?.parse().ok());
                if value.is_some_and(&wanted) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(done.is_ok(), "{query}: {last}");
    }

    async fn until_is(&self, query: &str, wanted: f64) {
        self.until(query, |value| (value - wanted).abs() < 1e-9).await;
    }
}

fn promtool(arguments: &[&str], input: &[u8]) -> Output {
    use std::io::Write as _;
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(ROOT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: run the tests by `make test`");
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

async fn scrape(port: u16) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut answer = http.get(format!("http://127.0.0.1:{port}/metrics")).send().await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).unwrap()
}

async fn send(api: &Api, receiver: &Receiver, ids: std::ops::Range<usize>, path: &str) {
    let webhooks: Vec<Value> = ids
        .map(|n| json!({ "webhook_url": receiver.url(path), "payload": n, "reference_id": format!("p-{n}") }))
        .collect();
    let (code, answer) = api.post("/webhooks/batch", json!({ "webhooks": webhooks }).to_string()).await;
    assert_eq!((code, &answer["rejected"]), (200, &json!(0)), "{answer}");
}

/// Every query of the dashboard.
fn dashboard() -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join("infra/grafana/steadhook.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "30s")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_sees_what_happened_through_restarts_and_an_emptied_redis() {
    let own = OwnStack::start(&["RetryBaseS=1", "BreakerFailureThreshold=4", "BreakerResetTimeoutS=600"]);
    let (api, receiver, dead) = (Api::of(own.stack()), Receiver::start().await, Receiver::start().await);
    let port = free_port();
    let mut beside = Some(sidecar(own.stack(), port));
    let prometheus = Prometheus::start(own.stack(), port);
    let sum = |family: &str, job: &str| format!("sum({family}{{job=\"{job}\"}})");
    prometheus.until_is(&sum("webhook_enqueued_total", "steadhook"), 0.0).await;

    // 20 are delivered at once, 5 after a retry, 5 are given up, 4 open a breaker.
    receiver.always(200u16);
    send(&api, &receiver, 0..20, "/").await;
    receiver.wait_longer_for(20, PATIENCE).await;
    receiver.answer([503u16; 2]);
    send(&api, &receiver, 20..25, "/").await;
    receiver.wait_longer_for(27, PATIENCE).await;
    receiver.answer([410u16; 5]);
    send(&api, &receiver, 25..30, "/").await;
    dead.always(500u16);
    send(&api, &dead, 30..34, "/").await;
    for job in ["steadhook", "steadhook-api"] {
        prometheus.until_is(&sum("webhook_enqueued_total", job), 34.0).await;
        let outcome = |name: &str| format!("webhook_deliveries_total{{job=\"{job}\", outcome=\"{name}\"}}");
        prometheus.until_is(&outcome("delivered"), 25.0).await;
        prometheus.until_is(&outcome("dead_lettered"), 5.0).await;
        prometheus
            .until_is(&format!("webhook_dead_letters_total{{job=\"{job}\", reason=\"gone\", kind=\"direct\"}}"), 5.0)
            .await;
        prometheus.until_is(&format!("webhook_end_to_end_seconds_count{{job=\"{job}\"}}"), 25.0).await;
        prometheus.until_is(&format!("circuit_breakers{{job=\"{job}\", state=\"open\", kind=\"direct\"}}"), 1.0).await;
        prometheus.until_is(&format!("circuit_breaker_state{{job=\"{job}\"}}"), 2.0).await;
    }

    // An event for two endpoints.
    for _ in 0..2 {
        let (code, made) = api.post("/tenants/acme/endpoints", json!({ "url": receiver.url("/") }).to_string()).await;
        assert_eq!(code, 201, "{made}");
    }
    let event = json!({ "event_type": "order.paid", "payload": 1 });
    let (code, accepted) = api.post("/tenants/acme/events", event.to_string()).await;
    assert_eq!(code, 202, "{accepted}");
    for (family, count) in [
        ("event_accepted_total", 1.0),
        ("event_fanned_out_total", 1.0),
        ("event_deliveries_total", 2.0),
        ("event_fan_out_seconds_count", 1.0),
    ] {
        prometheus.until_is(&sum(family, "steadhook"), count).await;
    }

    // Every query of the dashboard has a value now.
    let queries = dashboard();
    assert!(queries.len() >= 35, "{}", queries.len());
    for query in queries {
        prometheus.until(&query, |value| value.is_finite()).await;
    }

    // The text has each kind of metric, and promtool accepts it.
    let text = scrape(port).await;
    for word in ["webhook", "event_", "circuit_breaker", "task_"] {
        assert!(text.lines().any(|line| line.starts_with(word)), "{word}");
    }
    let output = promtool(&["check", "metrics"], text.as_bytes());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // The sidecar keeps nothing. After a restart it shows the same.
    drop(beside.take());
    prometheus.until_is("up{job=\"steadhook\"}", 0.0).await;
    let _beside = sidecar(own.stack(), port);
    prometheus.until_is(&sum("webhook_enqueued_total", "steadhook"), 34.0).await;
    prometheus.until_is("sum(resets(webhook_enqueued_total[10m]))", 0.0).await;

    // Redis comes back empty. Sums begin at zero, and increases stay right.
    own.stop_redis();
    prometheus.until_is("redis_up{job=\"steadhook\"}", 0.0).await;
    own.start_redis();
    send(&api, &receiver, 40..46, "/").await;
    prometheus.until_is(&sum("webhook_enqueued_total", "steadhook"), 6.0).await;
    prometheus
        .until("sum(increase(webhook_enqueued_total{job=\"steadhook\"}[30m]))", |grown| (38.0..=44.0).contains(&grown))
        .await;
}

#[test]
fn rules_are_well_formed_and_each_alert_fires_and_stays_silent() {
    let rules = ["infra/prometheus/recording-rules.yml", "infra/prometheus/alerting-rules.yml"];
    for arguments in [
        vec!["check", "rules", rules[0], rules[1]],
        vec!["check", "config", "infra/prometheus/prometheus.yml"],
        vec!["test", "rules", "infra/prometheus/tests/alerting.yml"],
    ] {
        let output = promtool(&arguments, b"");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}\n{}", String::from_utf8_lossy(&said));
    }
    let alerts = std::fs::read_to_string(Path::new(ROOT).join(rules[1])).unwrap();
    let cases = std::fs::read_to_string(Path::new(ROOT).join("infra/prometheus/tests/alerting.yml")).unwrap();
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut count = 0;
    for name in names {
        assert!(cases.contains(&format!("{name} fires")) && cases.contains(&format!("{name} stays silent")), "{name}");
        count += 1;
    }
    assert_eq!(count, 19);
    let output =
        Command::new("amtool").args(["check-config", "infra/prometheus/alertmanager.yml"]).current_dir(ROOT).output();
    let output = output.expect("amtool is missing: run the tests by `make test`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
