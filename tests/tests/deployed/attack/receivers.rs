//! Receivers that attack the sender. Each is an endpoint of one tenant, and one event is sent to all of them. What a
//! receiver can do to one call is in `behaviour/hostile_receivers.rs` and `behaviour/sending.rs`; here is what then
//! reaches the API and the logs of a whole stack.

use std::net::SocketAddr;
use std::time::Duration;

use adapters::clock::Clock;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::time::Millis;
use serde_json::{Value, json};
use tests::peer::{Act, Peer};
use tests::receiver::{Receiver, Reply};
use tests::stack::Stack;
use tokio::net::TcpListener;

use super::{operator, text};
use crate::logs::aws;
use crate::tokens::{signed, until};

/// The address of all receivers. It is the only one that may be called.
const OUTSIDE: &str = "127.0.0.2";
/// A confidential header of every endpoint here.
const HEADER: &str = "Bearer-of-mallory-1";
/// What stands in answers.
const MARK: &str = "MARK-OF-AN-ANSWER";
/// More than the buffers of the system hold, and less than an endless answer has.
const MUCH: usize = 16 * 1024 * 1024;
/// The longest wait that a receiver may ask for, and the jitter.
const LONGEST_WAIT: Duration = Duration::from_secs(3660);

/// A receiver that does what it is told.
pub(super) async fn honest() -> Receiver {
    let free: SocketAddr = TcpListener::bind((OUTSIDE, 0)).await.unwrap().local_addr().unwrap();
    Receiver::start_at(free).await
}

/// How a delivery to a hostile receiver must look when it has settled.
type Wanted = fn(&Value) -> bool;

/// A hostile receiver as an endpoint.
struct Case {
    what: &'static str,
    endpoint: String,
    wanted: Wanted,
}

/// The attack while it runs.
pub(super) struct Hostile {
    cases: Vec<Case>,
    /// Those that write without an end.
    endless: Vec<Peer>,
    /// It is redirected to, and may be called.
    trap: Receiver,
    /// It is inside: no name may lead there.
    inside: Receiver,
    forgetful: Receiver,
    secret: String,
}

fn failed_as(delivery: &Value, class: &str) -> bool {
    delivery["status"] == "failed" && delivery["attempts"][0]["error_class"] == class
}

fn head(status: &str, fields: &str) -> Act {
    Act::Write(format!("HTTP/1.1 {status}\r\n{fields}\r\n").into_bytes())
}

fn redirect(code: &str, to: &str) -> Vec<Act> {
    vec![head(code, &format!("location: {to}\r\ncontent-length: 0\r\n"))]
}

/// URLs that lead inside as they are written.
fn no_receivers(stack: &Stack) {
    let port = stack.get("AWS_ENDPOINT_URL").rsplit(':').next().unwrap();
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://[fd00:ec2::254]/",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.2/",
        &format!("http://127.0.0.1:{port}/"),
        &format!("http://0x7f.1:{port}/"),
        &format!("http://0177.0.0.1:{port}/"),
        &format!("http://[::1]:{port}/"),
        &format!("http://[::ffff:127.0.0.1]:{port}/"),
        &format!("http://0.0.0.0:{port}/"),
        &format!("http://127.0.0.2@127.0.0.1:{port}/"),
    ] {
        operator(stack, "POST", "/tenants/mallory/endpoints", json!({ "url": url }), 422);
        operator(stack, "POST", "/webhooks", json!({ "webhook_url": url, "payload": 1 }), 422);
    }
}

/// Starts the receivers, makes them endpoints and sends an event to all.
#[allow(clippy::too_many_lines, reason = "a table of receivers")]
pub(super) async fn attack(stack: &Stack) -> Hostile {
    no_receivers(stack);
    let (trap, inside) = (honest().await, Receiver::start().await);
    let forgetful = honest().await;
    let again = |value: &str| vec![("set-cookie", "a=1; path=/".to_owned()), ("retry-after", value.to_owned())];
    forgetful.answer([Reply { headers: again("-1"), ..503.into() }, 200.into()]);
    let key = STANDARD.encode([0x33; 32]);
    let trapped = trap.url("/trapped");
    let named = |at: &str, path: &str| format!("http://localhost:{}{path}", at.rsplit(':').next().unwrap());
    let api = stack.get("API_URL").trim_start_matches("http://").split('.').next().unwrap();
    let api = named(stack.get("AWS_ENDPOINT_URL"), &format!("/_aws/execute-api/{api}/$default/health"));
    let told = format!("\r\n\r\n\x1b[2J\u{9b}31m\0{MARK}\r\n{{\"level\":\"ERROR\"}} whsec_{key} {HEADER}");
    let told = [told.as_bytes(), b" \xff\xfe"].concat();
    let acts: Vec<(&'static str, Vec<Act>, Wanted)> = vec![
        (
            "a head without an end",
            vec![Act::Write(b"HTTP/1.1 200 OK\r\n".to_vec()), Act::Repeat("x-a: 1\r\n".repeat(1000).into())],
            |seen| failed_as(seen, "network"),
        ),
        (
            "interim answers without an end",
            vec![Act::Repeat("HTTP/1.1 100 Continue\r\n\r\n".repeat(1000).into())],
            |seen| failed_as(seen, "network"),
        ),
        ("a body without an end", vec![head("200 OK", ""), Act::Repeat(MARK.repeat(1000).into())], |seen| {
            let kept = seen["attempts"][0]["answer"].as_str().unwrap_or_default().len();
            seen["status"] == "delivered" && (1..=2048).contains(&kept)
        }),
        ("a head that drips", vec![Act::Drip("HTTP/1.1 200 OK\r\nx: ")], |seen| failed_as(seen, "timeout")),
        ("silence", vec![Act::Hang], |seen| failed_as(seen, "timeout")),
        ("a redirect to the metadata service", redirect("302 Found", "http://169.254.169.254/latest/"), |seen| {
            failed_as(seen, "client_error")
        }),
        ("a redirect to another receiver", redirect("307 Temporary Redirect", &trapped), |seen| {
            failed_as(seen, "client_error")
        }),
        ("a redirect inside", redirect("308 Permanent Redirect", &inside.url("/")), |seen| {
            failed_as(seen, "client_error")
        }),
        ("control characters and secrets", vec![Act::Write([b"HTTP/1.1 500 x", &told[..]].concat())], |seen| {
            let answer = seen["attempts"][0]["answer"].as_str().unwrap_or_default();
            failed_as(seen, "server_error") && answer.matches("[removed]").count() == 2
        }),
        (
            "a wait of centuries",
            vec![head("503 x", "retry-after: 99999999999999999999999\r\ncontent-length: 0\r\n")],
            |seen| seen["status"] == "retrying" && seen["next_attempt_at"].is_string(),
        ),
    ];
    let mut urls = vec![
        ("a name that leads inside", named(&inside.url(""), "/"), (|seen| failed_as(seen, "validation")) as Wanted),
        ("a name that leads to the API itself", api, |seen| failed_as(seen, "validation")),
        ("a name that leads to Redis", named(stack.get("REDIS_URL"), "/"), |seen| failed_as(seen, "validation")),
        ("a cookie and a wait that is negative", forgetful.url("/"), |seen| {
            seen["status"] == "delivered" && seen["attempt_count"] == 2
        }),
    ];
    let mut endless = Vec::new();
    for (what, acts, wanted) in acts {
        let peer = Peer::start_at(OUTSIDE, acts).await;
        urls.push((what, peer.url(), wanted));
        endless.push(peer);
    }
    let mut cases = Vec::new();
    for (what, url, wanted) in urls {
        let waits = if what.contains("wait") { json!([1]) } else { json!([]) };
        let card = json!({
            "url": url, "retry_schedule_s": waits, "secret": format!("whsec_{key}"),
            "headers": { "x-key": { "value": HEADER, "sensitive": true } },
        });
        let endpoint = text(&operator(stack, "POST", "/tenants/mallory/endpoints", card, 201), "id");
        cases.push(Case { what, endpoint, wanted });
    }
    let event = json!({ "event_type": "order.paid", "event_id": "attack", "payload": 1 });
    operator(stack, "POST", "/tenants/mallory/events", event, 202);
    Hostile { cases, endless, trap, inside, forgetful, secret: key }
}

/// Every text of a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

impl Hostile {
    /// Each delivery has come to its end, nothing else was called, and nothing that a receiver wrote is a danger to
    /// who reads it.
    pub(super) async fn came_to_nothing(self, stack: &Stack) {
        let (mut read, mut holes) = (Vec::new(), Vec::new());
        for Case { what, endpoint, wanted } in &self.cases {
            let path = format!("/tenants/mallory/events/attack/deliveries/{endpoint}");
            let mut seen = Value::Null;
            until(what, || {
                seen = signed(stack, "GET", &path, None).1;
                matches!(seen["status"].as_str(), Some("delivered" | "failed" | "retrying"))
                    && (seen["status"] != "retrying" || what.contains("centuries"))
            });
            if !wanted(&seen) {
                holes.push(format!("{what}: {seen}"));
            }
            if let Some(at) = seen["next_attempt_at"].as_str().filter(|_| seen["status"] == "retrying") {
                let wait = Clock::system().now().until(Millis::parse_rfc3339(at).unwrap());
                assert!(wait < LONGEST_WAIT, "{what}: {at}");
            }
            let list = format!("/tenants/mallory/endpoints/{endpoint}/deliveries");
            read.extend([seen, signed(stack, "GET", &list, None).1]);
            if what.contains("control") {
                let letter = format!("/dead-letters/attack.{endpoint}");
                until("filed", || signed(stack, "GET", &letter, None).0 == 200);
                read.push(signed(stack, "GET", &letter, None).1);
            }
        }
        let lists =
            ["/dead-letters", "/deliveries/recent", "/circuit-breakers", "/tenants/mallory/events/attack/deliveries"];
        read.extend(lists.map(|path| signed(stack, "GET", path, None).1));
        for text in read.iter().flat_map(texts) {
            let is_secret = text.contains(&self.secret) || text.contains(HEADER);
            assert!(!is_secret && !text.contains(char::is_control), "{text:?}");
        }
        for peer in &self.endless {
            assert!(peer.written() < MUCH, "{}", peer.written());
        }
        assert_eq!((self.trap.connections(), self.inside.connections()), (0, 0));
        let arrivals = self.forgetful.arrivals();
        assert_eq!((arrivals.len(), arrivals[1].header("cookie")), (2, ""));
        self.logs_are_clean(stack);
    }

    fn logs_are_clean(&self, stack: &Stack) {
        let groups = aws(stack, &["logs", "describe-log-groups"]);
        let names = groups["logGroups"].as_array().unwrap().iter().filter_map(|group| group["logGroupName"].as_str());
        let name = names.into_iter().find(|name| name.contains("DeliverLogs")).unwrap();
        let events = aws(stack, &["logs", "filter-log-events", "--log-group-name", name]);
        let lines: Vec<&str> =
            events["events"].as_array().unwrap().iter().filter_map(|e| e["message"].as_str()).collect();
        assert!(lines.iter().filter(|line| line.contains("attack.ep_")).count() >= self.cases.len(), "{lines:?}");
        for line in lines {
            for bad in [MARK, HEADER, &self.secret, "\u{1b}", "\u{9b}"] {
                assert!(!line.contains(bad), "{line}");
            }
        }
    }
}
