//! Attacks on a deployed stack with IAM enforced: a tenant with tokens and a caller with a role
//! of its own against every route of the contract, and receivers against the sender. What they
//! try and what comes of it is told in ARCHITECTURE.md.

mod caller;
mod receivers;
mod tenant;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::receiver::{Receiver, Reply};
use tests::stack::{OwnStack, Stack};

use crate::tokens::{raw, signed, token, until};

/// What stands in every text of the tenant that is attacked, and of the operator. No id has it.
const CANARY: &str = "canary7f3a";
const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];
/// Requests at a time.
const AT_ONCE: usize = 4;

/// A route of the contract.
struct Route {
    method: String,
    /// Its path, with names in braces.
    template: String,
    /// Whether it is a list with cursors.
    is_paged: bool,
}

impl Route {
    /// Every route of the contract.
    fn all() -> Vec<Self> {
        let document: Value = serde_yaml_ng::from_str(include_str!("../../../infra/openapi.yaml")).unwrap();
        let mut routes = Vec::new();
        for (template, operations) in document["paths"].as_object().unwrap() {
            for method in METHODS.into_iter().filter(|method| operations.get(method).is_some()) {
                let parameters = operations[method]["parameters"].to_string();
                let is_paged = parameters.contains("ursor");
                routes.push(Self { method: method.to_uppercase(), template: template.clone(), is_paged });
            }
        }
        routes
    }

    /// Its path with these names.
    fn at(&self, names: &Names) -> String {
        let id = if self.template.starts_with("/dead-letters") { &names.letter } else { &names.direct };
        let path = self.template.replace("{tenant}", &names.tenant).replace("{endpoint}", &names.endpoint);
        let path = path.replace("{event}", &names.event).replace("{replay}", &names.replay).replace("{id}", id);
        let path = path.replace("{token}", &names.token).replace("{name}", "order.paid");
        path.replace("{hash}", &"0".repeat(64))
    }

    /// A body that it takes, so that a gate that opened would let the harm be done.
    fn body(&self, names: &Names) -> Value {
        let Names { tenant, endpoint, url, .. } = names;
        let scope = format!("tenant:{tenant}");
        let event = json!({ "event_type": "order.paid", "event_id": "forged", "payload": 1 });
        let webhook = json!({ "webhook_url": url, "payload": 1 });
        match self.template.rsplit('/').next().unwrap() {
            _ if self.method == "GET" || self.method == "DELETE" => Value::Null,
            "webhooks" => webhook,
            "batch" if self.template.starts_with("/webhooks") => json!({ "webhooks": [webhook] }),
            "batch" => json!({ "events": [event] }),
            "events" => event,
            "endpoints" => json!({ "url": url }),
            "{endpoint}" | "{name}" => json!({ "description": "attacked" }),
            "replays" => json!({ "what": "failed", "since": names.since }),
            "reset" => json!({ "destination": format!("endpoint:{endpoint}") }),
            "tokens" => json!({ "scope": scope, "ttl_s": 60 }),
            "links" | "epochs" => json!({ "scope": scope }),
            "sessions" => json!({ "code": "guessed" }),
            _ => json!({}),
        }
    }

    /// Whether it shows a tenant something although its path names no tenant, or shows it to everybody.
    fn is_for_everyone(&self) -> bool {
        let of_everyone = ["/event-types", "/tokens", "/health"];
        self.method == "GET" && of_everyone.iter().any(|path| self.template.starts_with(path))
    }
}

/// Names that stand in paths.
#[derive(Clone)]
struct Names {
    tenant: String,
    endpoint: String,
    event: String,
    replay: String,
    token: String,
    direct: String,
    letter: String,
    /// A time before its events.
    since: String,
    /// Where a webhook would go.
    url: String,
}

/// One request of an attack.
#[derive(Clone)]
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    /// Whether it may be answered: what is asked for is the caller's own or everybody's.
    may_succeed: bool,
}

impl Request {
    fn new(method: &str, path: impl Into<String>, headers: Vec<(String, String)>, body: &Value) -> Self {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Self { method: method.into(), path: path.into(), headers, body, may_succeed: false }
    }

    fn that_may_succeed(self, may_succeed: bool) -> Self {
        Self { may_succeed, ..self }
    }

    /// Whether this code is what the request should be answered with.
    fn is_settled(&self, code: u16) -> bool {
        (400..500).contains(&code) || (self.may_succeed && (200..300).contains(&code))
    }
}

/// The attacked: a tenant, and the operator's direct webhooks.
struct Attack<'s> {
    stack: &'s Stack,
    victim: Names,
    /// What no answer may have.
    canaries: Vec<String>,
    /// What was answered, by attack and code.
    tally: Mutex<BTreeMap<(&'static str, u16), usize>>,
    /// What was answered and should have been refused.
    holes: Mutex<Vec<String>>,
}

impl Attack<'_> {
    /// Sends all requests. Each must be refused, unless it may be answered.
    fn refused(&self, what: &'static str, requests: &[Request]) {
        let send = |request: &Request| {
            let headers: Vec<(&str, &str)> = request.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            raw(self.stack, &request.method, &request.path, &headers, &request.body)
        };
        self.sent(what, requests, send, Request::is_settled);
    }

    /// Sends all requests by `send`, some at a time. No answer may have a canary.
    fn sent(
        &self,
        what: &'static str,
        requests: &[Request],
        send: impl Fn(&Request) -> (u16, String) + Sync,
        is_settled: impl Fn(&Request, u16) -> bool + Sync,
    ) {
        let next = AtomicUsize::new(0);
        let attack = || {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::SeqCst)) {
                let (code, answer) = send(request);
                *self.tally.lock().unwrap().entry((what, code)).or_default() += 1;
                if !is_settled(request, code) || self.canaries.iter().any(|canary| answer.contains(canary)) {
                    let Request { method, path, .. } = request;
                    self.holes.lock().unwrap().push(format!("{what}: {method} {path}: {answer}"));
                }
            }
        };
        std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(attack))));
    }
}

/// Gives the answer of a signed caller who may do everything.
fn operator(stack: &Stack, method: &str, path: &str, body: Value, wanted: u16) -> Value {
    let (code, answer) = signed(stack, method, path, Some(body).filter(|body| !body.is_null()));
    assert_eq!(code, wanted, "{method} {path}: {answer}");
    answer
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name}: {value}")).to_owned()
}

/// Makes a tenant whose every text is a canary: two endpoints, events, deliveries, dead letters, a replay and a
/// token. The operator's direct webhooks are canaries as well.
fn victim<'s>(stack: &'s Stack, receiver: &Receiver) -> Attack<'s> {
    receiver.always_below("/bad", Reply { body: CANARY.into(), ..500.into() });
    receiver.always_below("/gone", Reply { body: CANARY.into(), ..404.into() });
    let key = STANDARD.encode([0x5a; 32]);
    let header = "Bearer-hidden-canary";
    let card = |path: &str| {
        json!({
            "url": receiver.url(&format!("{path}?{CANARY}")), "uid": format!("{CANARY}{}", &path[1..]),
            "description": CANARY, "metadata": { CANARY: CANARY }, "secret": format!("whsec_{key}"),
            "headers": { "x-a": CANARY, "x-b": { "value": header, "sensitive": true } }, "retry_schedule_s": [],
        })
    };
    operator(stack, "POST", "/tenants/victim/endpoints", card("/good"), 201);
    let bad = text(&operator(stack, "POST", "/tenants/victim/endpoints", card("/bad"), 201), "id");
    operator(stack, "PUT", "/event-types/order.paid", json!({ "description": "known to all" }), 201);
    for n in 1..=2 {
        let event = json!({ "event_type": CANARY, "event_id": format!("order-{n}"), "payload": CANARY });
        operator(stack, "POST", "/tenants/victim/events", event, 202);
        let direct = json!({
            "webhook_url": receiver.url(&format!("/gone?{CANARY}")), "payload": CANARY, "headers": { "x-a": CANARY },
            "reference_id": format!("direct-{n}"), "event_type": CANARY,
        });
        operator(stack, "POST", "/webhooks", direct, 202);
    }
    for letter in ["direct-1".to_owned(), "direct-2".into(), format!("order-1.{bad}"), format!("order-2.{bad}")] {
        until("filed", || signed(stack, "GET", &format!("/dead-letters/{letter}"), None).0 == 200);
    }
    let since = text(&operator(stack, "GET", "/tenants/victim/events/order-1", Value::Null, 200), "accepted_at");
    let replay = json!({ "what": "failed", "since": since, "dry_run": true });
    let replay = operator(stack, "POST", &format!("/tenants/victim/endpoints/{bad}/replays"), replay, 202);
    let replay = text(&replay, "replay_id");
    until("counted", || signed(stack, "GET", &format!("/tenants/victim/replays/{replay}"), None).1["state"] == "done");
    let (bearer, id) = token(stack, json!({ "scope": "tenant:victim", "ttl_s": 3600, "description": CANARY }));
    let victim = Names {
        tenant: "victim".into(),
        letter: format!("order-1.{bad}"),
        endpoint: bad,
        event: "order-1".into(),
        replay,
        token: id,
        direct: "direct-1".into(),
        since,
        url: receiver.url("/forged"),
    };
    Attack {
        stack,
        victim,
        canaries: vec![CANARY.into(), key, header.into(), bearer],
        tally: Mutex::default(),
        holes: Mutex::default(),
    }
}

/// What the operator reads of these names, on every route that reads one of them, and what the tables hold.
async fn seen(stack: &Stack, names: &Names) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let named = |route: &&Route| route.method == "GET" && route.template.contains('{');
    let mut paths: Vec<String> = Route::all().iter().filter(named).map(|route| route.at(names)).collect();
    paths.retain(|path| !path.starts_with("/console"));
    paths.extend(["/event-types".to_owned(), format!("/tokens?scope=tenant%3A{}", names.tenant)]);
    for path in paths {
        let mut answer = operator(stack, "GET", &path, Value::Null, 200);
        answer.as_object_mut().unwrap().remove("ttl_seconds");
        seen.insert(path, answer.to_string());
    }
    for table in ["REGISTRY_TABLE", "HISTORY_TABLE"] {
        let rows = stack.dynamodb().scan().table_name(stack.get(table)).send().await.unwrap();
        for row in rows.items.unwrap_or_default() {
            let row: BTreeMap<String, AttributeValue> = row.into_iter().collect();
            let row = format!("{row:?}");
            if row.contains(&names.tenant) {
                seen.insert(format!("{table}: {row}"), String::new());
            }
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_attack_is_refused_and_changes_nothing() {
    // Receivers are at 127.0.0.2, and only that address may be called: the stack itself is at 127.0.0.1.
    let own = OwnStack::start_guarded(&[
        "RetryBaseS=1",
        "DeliveryTimeoutMs=2000",
        "ConnectTimeoutMs=500",
        "AllowedPrivateCidrs=127.0.0.2/32",
    ]);
    let (stack, receiver) = (own.stack(), receivers::honest().await);
    let hostile = receivers::attack(stack).await;
    let attack = victim(stack, &receiver);
    let before = seen(stack, &attack.victim).await;
    let told: String = before.iter().flat_map(|(path, answer)| [path.as_str(), answer]).collect();
    assert!(attack.canaries[..2].iter().all(|canary| told.contains(canary)), "the operator sees them: {told}");
    let calls = receiver.count();

    tenant::attack(&attack, &receiver).await;
    caller::attack(&attack);

    let tally = attack.tally.lock().unwrap().clone();
    let holes = attack.holes.lock().unwrap().join("\n");
    hostile.came_to_nothing(stack).await;
    assert!(holes.is_empty(), "{tally:#?}\n{holes}");
    assert!(tally.values().sum::<usize>() > 1500, "{tally:#?}");
    let after = seen(stack, &attack.victim).await;
    for (what, was) in &before {
        assert_eq!(after.get(what), Some(was), "{what}");
    }
    assert_eq!(before.len(), after.len(), "nothing is new");
    assert!(receiver.arrivals()[calls..].iter().all(|arrival| arrival.path == "/own"), "nobody was sent anything");
}
