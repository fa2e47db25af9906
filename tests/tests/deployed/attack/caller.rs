//! Callers with a role of their own: one that may use a single route, and one that may use what is below one tenant.
//! What strangers and unsigned callers may do is in `permissions.rs`, too.

use std::time::{Duration, SystemTime};

use adapters::clock::Clock;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::{Value, json};
use tests::stack::Stack;

use super::{Attack, Names, Request, Route, text};
use crate::logs::aws;
use crate::tokens::raw;

const ONE_TENANT: &str = "a caller who may call the routes of one tenant";

/// Sends a request exactly as it is written, with its signature.
fn signed(stack: &Stack, keys: &Credentials, request: &Request) -> (u16, String) {
    let Request { method, path, body, .. } = request;
    let (base, identity) = (stack.get("API_URL"), keys.clone().into());
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(stack.get("AWS_REGION"))
        .name("execute-api")
        .time(SystemTime::UNIX_EPOCH + Duration::from_millis(Clock::system().now().0))
        .settings(SigningSettings::default())
        .build()
        .unwrap();
    let host = [("host", base.trim_start_matches("http://"))].into_iter();
    let body_bytes = SignableBody::Bytes(body.as_bytes());
    let signable = SignableRequest::new(method, format!("{base}{path}"), host, body_bytes).unwrap();
    let (signature, _) = sign(signable, &parameters.into()).unwrap().into_parts();
    let headers: Vec<(&str, &str)> = signature.headers().collect();
    raw(stack, method, path, &headers, body)
}

/// What a role may call.
fn may_call(stack: &Stack, what: &str) {
    let id = stack.get("API_URL").trim_start_matches("http://").split('.').next().unwrap();
    let resource = format!("arn:aws:execute-api:{}:000000000000:{id}/*/{what}", stack.get("AWS_REGION"));
    let statement = json!({ "Effect": "Allow", "Action": "execute-api:Invoke", "Resource": resource });
    let policy = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
    let put = ["iam", "put-role-policy", "--role-name", "caller", "--policy-name", "call", "--policy-document"];
    aws(stack, &[&put[..], &[&policy]].concat());
}

/// The keys of a role that anybody of the account may take.
fn role(stack: &Stack) -> Credentials {
    let trust = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Principal": { "AWS": "*" }, "Action": "sts:AssumeRole" },
    ] });
    let create = ["iam", "create-role", "--role-name", "caller", "--assume-role-policy-document"];
    let made = aws(stack, &[&create[..], &[&trust.to_string()]].concat());
    let arn = text(&made["Role"], "Arn");
    let taken = aws(stack, &["sts", "assume-role", "--role-arn", &arn, "--role-session-name", "attack"]);
    let keys = |name: &str| text(&taken["Credentials"], name);
    Credentials::new(keys("AccessKeyId"), keys("SecretAccessKey"), Some(keys("SessionToken")), None, "role")
}

/// Ways out of what is below one tenant.
fn ways_out(path: &str) -> Vec<String> {
    let below = path.strip_prefix("/tenants").unwrap();
    let packed = below[1..].replace('/', "%2F");
    vec![
        path.to_owned(),
        format!("/tenants/acme/..{below}"),
        format!("/tenants/acme/%2e%2e{below}"),
        format!("/tenants/acme/%2e%2e%2f{packed}"),
        format!("/tenants/acme/..%2F{packed}"),
        format!("/tenants/acme%2F..%2F{packed}"),
        format!("/tenants/acme/..;{below}"),
        format!("/tenants/acme/..%5C{packed}"),
        format!("/tenants/acme/../..{path}"),
        format!("/tenants/acme/{path}"),
        format!("/tenants/acme,{packed}"),
        format!("//tenants/acme/..{below}"),
        format!("/api/tenants/acme/..{below}"),
    ]
}

/// All of it.
pub(super) fn attack(attack: &Attack<'_>) {
    let stack = attack.stack;
    let (id, secret) = stack.get("STRANGER_USER").split_once(':').unwrap();
    let stranger = Credentials::new(id, secret, None, None, "stranger");
    let own = Names { tenant: "acme".into(), ..attack.victim.clone() };
    let every = |names: &Names| -> Vec<Request> {
        let request = |route: &Route| Request::new(&route.method, route.at(names), vec![], &route.body(names));
        Route::all().iter().map(request).collect()
    };
    // What is open to everybody tells nothing of anybody.
    let is_open = |request: &Request| request.path == "/health" || request.path.starts_with("/console/");
    let forbidden = |request: &Request, code: u16| code == 403 || is_open(request);
    attack.sent("a caller who may call nothing", &every(&attack.victim), |it| signed(stack, &stranger, it), forbidden);
    let caller = role(stack);
    let send = |request: &Request| signed(stack, &caller, request);
    may_call(stack, "GET/tenants/acme/endpoints");
    let all = [every(&own), every(&attack.victim)].concat();
    attack.sent("a caller who may call one route", &all, send, |request, code| match request.path.as_str() {
        "/tenants/acme/endpoints" if request.method == "GET" => code == 200,
        _ => forbidden(request, code),
    });
    may_call(stack, "*/tenants/acme/*");
    let mut requests =
        vec![Request::new("GET", "/tenants/acme/endpoints", vec![], &Value::Null).that_may_succeed(true)];
    for route in Route::all().iter().filter(|route| route.template.starts_with("/tenants/{tenant}/")) {
        let ways = ways_out(&route.at(&attack.victim)).into_iter();
        requests.extend(ways.map(|path| Request::new(&route.method, path, vec![], &route.body(&attack.victim))));
    }
    attack.sent(ONE_TENANT, &requests, send, Request::is_settled);
    let served = attack.tally.lock().unwrap().get(&(ONE_TENANT, 200)).copied();
    assert_eq!(served, Some(1), "its own route, and no other");
}
