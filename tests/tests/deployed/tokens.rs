//! Callers with a token, on a deployed stack with IAM enforced: they get what signed callers
//! get, and nothing of another tenant.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::receiver::Receiver;
use tests::stack::{OwnStack, Stack};

use crate::permissions::call;

const PATIENCE: Duration = Duration::from_secs(60);
/// What stands in everything that belongs to the other tenant.
const CANARY: &str = "canary7f3a";
const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

/// Sends a request exactly as it is written here. Gives the status code and everything after it.
pub(crate) fn raw(stack: &Stack, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let host = stack.get("API_URL").trim_start_matches("http://");
    let port = host.rsplit(':').next().unwrap();
    let mut connection = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code =
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{path}: {answer}"));
    (code, answer)
}

/// The same with a token. Gives the body as JSON.
fn ask(stack: &Stack, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (code, answer) = raw(stack, method, path, &[("authorization", &format!("Bearer {token}"))], body);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (code, serde_json::from_str(body).unwrap_or(Value::Null))
}

pub(crate) fn signed(stack: &Stack, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    call(stack, Some("OPERATOR_USER"), method, path, body.map(|body| body.to_string()).as_deref())
}

pub(crate) fn token(stack: &Stack, body: Value) -> (String, String) {
    let (code, made) = signed(stack, "POST", "/tokens", Some(body));
    assert_eq!(code, 201, "{made}");
    (made["token"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Makes a tenant whose every text has the canary. Gives its endpoint's id.
fn victim(stack: &Stack, receiver: &Receiver) -> String {
    let endpoint = json!({
        "url": receiver.url(&format!("/{CANARY}")), "description": CANARY, "metadata": { CANARY: CANARY },
        "headers": { "x-a": CANARY },
    });
    let (code, made) = signed(stack, "POST", "/tenants/victim/endpoints", Some(endpoint));
    assert_eq!(code, 201, "{made}");
    let event = json!({ "event_type": CANARY, "event_id": "order-1", "payload": CANARY });
    assert_eq!(signed(stack, "POST", "/tenants/victim/events", Some(event)).0, 202);
    let delivery = format!("/tenants/victim/events/order-1/deliveries/{}", made["id"].as_str().unwrap());
    until("delivered", || signed(stack, "GET", &delivery, None).1["status"] == "delivered");
    token(stack, json!({ "scope": "tenant:victim", "ttl_s": 600, "description": CANARY }));
    made["id"].as_str().unwrap().to_owned()
}

/// The routes of the contract with the names of the other tenant in their places.
fn routes(endpoint: &str, tenant: &str) -> Vec<(String, String)> {
    let document: Value = serde_yaml_ng::from_str(include_str!("../../../infra/openapi.yaml")).unwrap();
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path
            .replace("{tenant}", tenant)
            .replace("{endpoint}", endpoint)
            .replace("{event}", "order-1")
            .replace("{replay}", "rp_1")
            .replace("{name}", "order.paid")
            .replace("{token}", "tok_0123456789abcdefghijkl")
            .replace("{hash}", &"0".repeat(64))
            .replace("{id}", &format!("order-1.{endpoint}"));
        let methods = METHODS.into_iter().filter(|method| operations.get(method).is_some());
        routes.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
    }
    routes
}

/// Whether a tenant's token opens the path whoever's it is: there it sees what is its own.
fn is_everyones(method: &str, path: &str) -> bool {
    path.starts_with("/tokens")
        || path.starts_with("/console/")
        || (path.starts_with("/event-types") && method == "GET")
}

fn nothing_of_another_tenant(stack: &Stack, endpoint: &str, acme: &str) {
    let bearer = format!("Bearer {acme}");
    let own = [("authorization", bearer.as_str())];
    let mut count = 0;
    let mut refused = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let (code, answer) = raw(stack, method, path, headers, body);
        assert!((400..500).contains(&code), "{method} {path}: {answer}");
        assert!(!answer.contains(CANARY), "{method} {path}: {answer}");
        count += 1;
    };
    for (method, path) in routes(endpoint, "victim") {
        if is_everyones(&method, &path) {
            continue;
        }
        refused(&method, &format!("/api{path}"), &own, "{}");
    }
    // One route, spelled in every way. The gateway decodes some of them.
    let inner = format!("/endpoints/{endpoint}");
    for tenant in [
        "%76ictim",
        "victim%2F",
        "%2Fvictim",
        "acme/../victim",
        "acme%2F..%2Fvictim",
        "acme%2f%2e%2e%2fvictim",
        "./victim",
        "%2E/victim",
        "victim;acme",
        "victim%00",
        "acme%00/../victim",
        "Victim",
        "VICTIM",
        "victim.",
        "victim%20",
        "%20victim",
        "%2576ictim",
        "acme/endpoints/../../victim",
        "acme%5C..%5Cvictim",
        "victim%23",
        "victim%3Facme",
        "\u{ff56}ictim",
        "acme,victim",
        "victim&tenant=acme",
    ] {
        for prefix in
            ["/api", "/api/", "/API", "//api", "/api/api", "/x/../api", "/%61pi", "/api%2F", "/$default/api", "/api/."]
        {
            refused("GET", &format!("{prefix}/tenants/{tenant}{inner}"), &own, "");
        }
    }
    let path = format!("/api/tenants/victim{inner}");
    for more in [
        ("x-http-method-override", "GET"),
        ("x-original-url", "/api/tenants/acme"),
        ("x-rewrite-url", "/api/tenants/acme"),
        ("x-amzn-authorizer-scope", "operator"),
        ("x-forwarded-prefix", "/api"),
        ("x-forwarded-proto", "https://h/tenants/victim#"),
        ("x-forwarded-proto", "foo,https"),
        ("x-forwarded-host", "h/tenants/victim#"),
        ("authorization", "Bearer x"),
        ("cookie", "scope=operator"),
    ] {
        refused("GET", &path, &[own[0], more], "");
        refused("GET", &path, &[more, own[0]], "");
    }
    for query in ["tenant=acme", "scope=operator", "authorization=x"] {
        refused("GET", &format!("{path}?{query}"), &own, "");
    }
    refused("HEAD", &path, &own, "");
    // Ids of another tenant do not work below its own, and cursors neither.
    for (method, path) in routes(endpoint, "acme") {
        if path.starts_with("/tenants/acme/") && method == "GET" {
            let (_, answer) = raw(stack, &method, &format!("/api{path}"), &own, "");
            assert!(!answer.contains(CANARY), "{path}: {answer}");
        }
    }
    for path in ["/api/tokens", "/api/tokens?limit=200", "/api/event-types"] {
        let (code, answer) = raw(stack, "GET", path, &own, "");
        assert!(code == 200 && !answer.contains(CANARY), "{path}: {answer}");
    }
    for body in [r#"{"scope":"tenant:victim","ttl_s":60}"#, r#"{"scope":"operator","ttl_s":60}"#] {
        for path in ["/api/tokens", "/api/tokens/links", "/api/tokens/epochs"] {
            refused("POST", path, &own, body);
        }
    }
    assert!(count > 250, "{count}");
}

/// What a caller's headers say becomes no path: not on the open routes, and not on its own.
fn no_header_becomes_a_path(stack: &Stack, endpoint: &str, acme: &str) {
    let bearer = format!("Bearer {acme}");
    let own = [("authorization", bearer.as_str())];
    let inner = format!("/endpoints/{endpoint}");
    let mine = "/api/tenants/acme/endpoints".to_owned();
    let open = format!("/console/links/{}", "0".repeat(64));
    for target in ["tokens", "tenants", &format!("tenants/victim{inner}"), &format!("tenants/victim{inner}/secret")] {
        for scheme in ["https://h/", "http://h/api/"] {
            for end in ["#", "?", "/", ""] {
                let value = format!("{scheme}{target}{end}");
                for path in [&mine, &open] {
                    let (code, answer) = raw(stack, "GET", path, &[own[0], ("x-forwarded-proto", &value)], "");
                    assert!([200, 404].contains(&code) && !answer.contains(CANARY), "{path} {value}: {answer}");
                    assert!(
                        !answer.contains("\"tokens\"") && !answer.contains("\"tenants\""),
                        "{path} {value}: {answer}"
                    );
                }
            }
        }
    }
    for (name, value) in [("x-forwarded-proto", "foo,https"), ("x-forwarded-proto", "")] {
        assert_eq!(raw(stack, "GET", &open, &[(name, value)], "").0, 404, "{name}: {value}");
    }
    let made = r#"{"scope":"operator","ttl_s":60}"#;
    let (code, answer) = raw(stack, "POST", "/console/sessions", &[("x-forwarded-proto", "https://h/tokens#")], made);
    assert!(code == 422 && !answer.contains("sht_"), "{answer}");
}

fn the_same_answer(stack: &Stack, endpoint: &str, operator: &str) {
    for path in [
        "/tenants",
        "/tenants/victim",
        "/tenants/victim/endpoints",
        "/tenants/victim/events",
        "/tenants/victim/events/order-1",
        "/tenants/victim/events/order-1/deliveries",
        "/event-types",
        "/dead-letters",
        "/circuit-breakers",
        "/tokens",
        "/reseal",
        "/webhook-statuses",
        "/webhook-statuses/none",
        "/deliveries/recent",
        "/tenants/victim/endpoints?limit=0",
        "/metrics/recent?minutes=61",
    ] {
        let with_token = ask(stack, operator, "GET", &format!("/api{path}"), "");
        let mut by_signature = signed(stack, "GET", path, None);
        let mut given = with_token.clone();
        for answer in [&mut given.1, &mut by_signature.1] {
            // Each request has one of its own.
            answer.as_object_mut().map(|fields| fields.remove("correlation_id"));
        }
        assert_eq!(given, by_signature, "{path}");
    }
    let card = format!("/tenants/victim/endpoints/{endpoint}");
    let (with_token, by_signature) =
        (ask(stack, operator, "GET", &format!("/api{card}"), ""), signed(stack, "GET", &card, None));
    assert_eq!((with_token.0, &with_token.1["url"]), (200, &by_signature.1["url"]));
    assert_eq!(ask(stack, operator, "GET", "/api/health", "").1["status"], "healthy");
    let (code, made) = ask(
        stack,
        operator,
        "POST",
        "/api/tenants/fresh/endpoints",
        &json!({ "url": "http://127.0.0.1:9/" }).to_string(),
    );
    assert_eq!(code, 201, "{made}");
    let (code, told) = ask(stack, operator, "POST", "/api/webhooks", "{}");
    assert_eq!((code, told["errors"].as_array().unwrap().len()), (422, 2), "{told}");
}

fn what_is_ended_is_refused(stack: &Stack) {
    let (gone, id) = token(stack, json!({ "scope": "tenant:acme", "ttl_s": 600 }));
    let (ended, _) = token(stack, json!({ "scope": "tenant:ended", "ttl_s": 600 }));
    let (short, _) = token(stack, json!({ "scope": "tenant:acme", "ttl_s": 1 }));
    let opens = |token: &str, tenant: &str| ask(stack, token, "GET", &format!("/api/tenants/{tenant}/endpoints"), "").0;
    assert_eq!((opens(&gone, "acme"), opens(&ended, "ended")), (200, 200));
    until("it expires", || opens(&short, "acme") == 403);
    assert_eq!((opens(&gone, "acme"), opens(&ended, "ended")), (200, 200));
    let began = Instant::now();
    assert_eq!(signed(stack, "DELETE", &format!("/tokens/{id}"), None).0, 204);
    assert_eq!(signed(stack, "POST", "/tokens/epochs", Some(json!({ "scope": "tenant:ended" }))).0, 200);
    until("it is refused", || opens(&gone, "acme") == 403 && opens(&ended, "ended") == 403);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let (reader, _) = token(stack, json!({ "scope": "tenant:victim", "ttl_s": 600, "read_only": true }));
    assert_eq!(ask(stack, &reader, "GET", "/api/tenants/victim/events", "").0, 200);
    for (method, path) in [("POST", "/api/tenants/victim/events"), ("POST", "/api/tokens")] {
        assert_eq!(ask(stack, &reader, method, path, "{}").0, 403, "{path}");
    }
    assert_eq!(raw(stack, "GET", "/api/tenants", &[], "").0, 401, "without a token the gate is not asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_what_it_is_for_and_nothing_else() {
    let own = OwnStack::start_guarded(&["RetryBaseS=1"]);
    let (stack, receiver) = (own.stack(), Receiver::start().await);
    receiver.always(200u16);
    let endpoint = victim(stack, &receiver);
    let (operator, _) = token(stack, json!({ "scope": "operator", "ttl_s": 3600 }));
    let (acme, _) = token(stack, json!({ "scope": "tenant:acme", "ttl_s": 3600 }));
    the_same_answer(stack, &endpoint, &operator);
    nothing_of_another_tenant(stack, &endpoint, &acme);
    no_header_becomes_a_path(stack, &endpoint, &acme);
    what_is_ended_is_refused(stack);
}
