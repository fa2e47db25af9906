//! A tenant with tokens against every route of the contract.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domain::scope::Scope;
use domain::seal::MasterKeys;
use domain::token::Token;
use serde_json::{Value, json};
use tests::receiver::Receiver;

use super::{Attack, CANARY, Names, Request, Route, operator, seen, text};
use crate::tokens::{raw, signed, token, until};

/// Ways to write a path below `/api`. The gateway decodes some of them. The routes for signed callers are not tried:
/// AWS refuses whatever is not signed there, and the local AWS takes every `Authorization` for a signature.
fn spellings(path: &str) -> Vec<String> {
    let (above, last) = path.rsplit_once('/').unwrap();
    let encoded: String = last.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let packed = path[1..].replace('/', "%2F");
    let mut spellings = vec![
        format!("/api{path}"),
        format!("/api{path}/"),
        format!("/api{path}."),
        format!("/api{path}%20"),
        format!("/api{path}%00"),
        format!("/api{path};x"),
        format!("/api{path}?tenant=acme&tenant=victim&scope=operator&tenant=acme"),
        format!("/api/{path}"),
        format!("//api{path}"),
        format!("/api/{packed}"),
        format!("/api%2F{packed}"),
        format!("/API{}", path.to_uppercase()),
        format!("/api{above}/{encoded}"),
        format!("/api/tenants/acme/../..{path}"),
        format!("/api/tenants/acme/%2e%2e/%2e%2e{path}"),
        format!("/api/tenants/acme%2F..%2F..%2F{packed}"),
        format!("/api/tenants/acme/..%5C..%5C{packed}"),
        format!("/api/console/..{path}"),
        format!("/$default/api{path}"),
    ];
    if path.contains("/victim") {
        let names =
            ["~victim", "victim~", "_operator", "Victim", "victim.", "acme,victim", "%2576ictim", "acme%00victim"];
        spellings.extend(names.map(|name| format!("/api{}", path.replace("/victim", &format!("/{name}")))));
    }
    spellings
}

/// Headers with which a caller claims to be somebody else, or to be somewhere else.
fn claims(path: &str) -> Vec<(String, String)> {
    let (proto, host) = (format!("https://h{path}#"), format!("h{path}#"));
    let context = r#"{"authorizer":{"lambda":{"scope":"operator"}}}"#;
    let claims = [
        ("x-http-method-override", "GET"),
        ("x-http-method", "GET"),
        ("x-original-url", path),
        ("x-rewrite-url", path),
        ("x-forwarded-prefix", "/api"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", &proto),
        ("x-forwarded-host", &host),
        ("x-amzn-request-context", context),
        ("x-amzn-lambda-context", context),
        ("requestcontext", context),
        ("x-amzn-authorizer-scope", "operator"),
        ("x-amz-security-token", "x"),
        ("scope", "operator"),
        ("tenant", "victim"),
        ("cookie", "scope=operator; tenant=victim"),
    ];
    claims.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("authorization".to_owned(), format!("Bearer {token}"))]
}

/// Tokens that are no good: changed, of another stack, over, or ended.
fn no_tokens(attack: &Attack<'_>, acme: &str) -> [(&'static str, String); 4] {
    let another = MasterKeys::parse(&STANDARD.encode([7; 32])).unwrap();
    let forged = Token { scope: Scope::Operator, ..Token::unchecked(acme).unwrap() }.to_text(&another).unwrap();
    let (signed, tag) = acme.split_once('.').unwrap();
    let mut said: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&signed["sht_".len()..]).unwrap()).unwrap();
    said["scope"] = json!("operator");
    let changed = format!("sht_{}.{tag}", URL_SAFE_NO_PAD.encode(said.to_string()));
    let (over, _) = token(attack.stack, json!({ "scope": "operator", "ttl_s": 1 }));
    // No gate has seen it before it ends, so none remembers it.
    let (ended, id) = token(attack.stack, json!({ "scope": "operator", "ttl_s": 600 }));
    operator(attack.stack, "DELETE", &format!("/tokens/{id}"), Value::Null, 204);
    let over_now = bearer(&over).remove(0).1;
    until("it ends", || raw(attack.stack, "GET", "/api/tenants", &[("authorization", &over_now)], "").0 == 403);
    [
        ("a token of another stack", forged),
        ("a token with other claims", changed),
        ("a token that is over", over),
        ("a token that was ended", ended),
    ]
}

/// Makes the tenant that attacks: one endpoint, an event with the id of one of the victim's, and a replay.
fn attacker(attack: &Attack<'_>, receiver: &Receiver) -> Names {
    let (stack, url) = (attack.stack, receiver.url("/own"));
    let endpoint = text(&operator(stack, "POST", "/tenants/acme/endpoints", json!({ "url": url }), 201), "id");
    let event = json!({ "event_type": "order.paid", "event_id": "order-1", "payload": 1 });
    operator(stack, "POST", "/tenants/acme/events", event, 202);
    let delivery = format!("/tenants/acme/events/order-1/deliveries/{endpoint}");
    until("delivered", || signed(stack, "GET", &delivery, None).1["status"] == "delivered");
    let replay = json!({ "what": "failed", "since": attack.victim.since, "dry_run": true });
    let replay = text(
        &operator(stack, "POST", &format!("/tenants/acme/endpoints/{endpoint}/replays"), replay, 202),
        "replay_id",
    );
    until("counted", || signed(stack, "GET", &format!("/tenants/acme/replays/{replay}"), None).1["state"] == "done");
    Names { tenant: "acme".into(), endpoint, replay, url, ..attack.victim.clone() }
}

fn paths_and_headers(attack: &Attack<'_>, acme: &str) {
    let (mut spelled, mut claiming) = (Vec::new(), Vec::new());
    for route in Route::all() {
        let (path, body) = (route.at(&attack.victim), route.body(&attack.victim));
        for spelling in spellings(&path) {
            let request = Request::new(&route.method, spelling, bearer(acme), &body);
            spelled.push(request.that_may_succeed(route.is_for_everyone()));
        }
        let headers = [bearer(acme), claims(&path)].concat();
        let request = Request::new(&route.method, format!("/api{path}"), headers, &body);
        claiming.push(request.that_may_succeed(route.is_for_everyone()));
    }
    attack.refused("names of others, in every spelling", &spelled);
    attack.refused("headers that claim more", &claiming);
}

fn methods(attack: &Attack<'_>, acme: &str) {
    let (mut requests, routes) = (Vec::new(), Route::all());
    for route in &routes {
        let path = format!("/api{}", route.at(&attack.victim));
        let has = |method: &str| routes.iter().any(|other| other.template == route.template && other.method == method);
        for method in
            ["HEAD", "OPTIONS", "GET", "POST", "PUT", "PATCH", "DELETE"].into_iter().filter(|method| !has(method))
        {
            requests.push(Request::new(method, &path, bearer(acme), &Value::Null));
        }
        let request = Request::new(&route.method.to_lowercase(), path, bearer(acme), &route.body(&attack.victim));
        requests.push(request.that_may_succeed(route.is_for_everyone()));
    }
    attack.refused("other methods", &requests);
}

fn tokens(attack: &Attack<'_>, acme: &str) {
    for (what, bad) in no_tokens(attack, acme) {
        let with = |route: &Route| {
            let path = format!("/api{}", route.at(&attack.victim));
            Request::new(&route.method, path, bearer(&bad), &route.body(&attack.victim))
        };
        attack.refused(what, &Route::all().iter().map(with).collect::<Vec<_>>());
    }
    let (all, _) = token(attack.stack, json!({ "scope": "operator", "ttl_s": 600 }));
    let elsewhere = |route: &Route| {
        let path = route.at(&attack.victim);
        let path = format!("/api{path}?authorization=Bearer%20{all}&access_token={all}&token={all}");
        let names = ["x-authorization", "proxy-authorization", "x-api-key", "x-amz-security-token", "cookie"];
        let headers = names.map(|name| (name.to_owned(), format!("Bearer {all}"))).to_vec();
        Request::new(&route.method, path, headers, &route.body(&attack.victim))
    };
    attack.refused("a good token in another place", &Route::all().iter().map(elsewhere).collect::<Vec<_>>());
}

/// Ids of the victim below the attacker's own tenant, and cursors of its lists.
fn ids_and_cursors(attack: &Attack<'_>, own: &Names, acme: &str) {
    let below = Names { tenant: own.tenant.clone(), ..attack.victim.clone() };
    let (mut ids, mut cursors) = (Vec::new(), Vec::new());
    for route in Route::all() {
        if route.template.starts_with("/tenants/{tenant}/") && route.template.matches('{').count() > 1 {
            // It has an event of that id, which it may see and erase.
            let is_of_event = route.template.contains("{event}") && !route.template.contains("{endpoint}");
            let may = is_of_event && (route.method == "GET" || route.template.ends_with("/payload"));
            let request =
                Request::new(&route.method, format!("/api{}", route.at(&below)), bearer(acme), &route.body(&below));
            ids.push(request.that_may_succeed(may));
        }
        if route.is_paged && route.method == "GET" {
            let first = format!("{}?limit=1", route.at(&attack.victim));
            if let Some(cursor) = signed(attack.stack, "GET", &first, None).1["next_cursor"].as_str() {
                let path = format!("/api{}?cursor={cursor}", route.at(own));
                cursors.push(Request::new("GET", path, bearer(acme), &Value::Null));
            }
        }
    }
    assert!(cursors.len() >= 4, "{}", cursors.len());
    attack.refused("cursors of others", &cursors);
    attack.refused("ids of others below its own name", &ids);
}

/// Bodies and queries that name others, or ask for more than the token has.
fn bodies(attack: &Attack<'_>, own: &Names, acme: &str) {
    let Names { endpoint: other, token: other_token, .. } = &attack.victim;
    let (events, endpoints) = ("/api/tenants/acme/events", "/api/tenants/acme/endpoints");
    let card = format!("{endpoints}/{}", own.endpoint);
    let event = |more: Value| {
        let mut event = json!({ "event_type": "order.paid", "payload": 1 });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("POST", events, event)
    };
    let mut asked = vec![
        event(json!({ "tenant": "victim" })),
        event(json!({ "scope": "operator" })),
        event(json!({ "endpoint": other })),
        event(json!({ "event_id": "../victim/order-1" })),
        event(json!({ "event_id": "victim#order-1" })),
        event(json!({ "event_id": format!("order-1.{other}") })),
        event(json!({ "event_type": "steadhook.endpoint.disabled" })),
        ("POST", endpoints, json!({ "url": own.url, "tenant": "victim" })),
        ("POST", endpoints, json!({ "url": own.url, "id": other })),
        ("PATCH", &card, json!({ "tenant": "victim" })),
        ("PATCH", &card, json!({ "id": other })),
        ("PATCH", &card, json!({ "owed": 1 })),
        ("PATCH", &card, json!({ "secrets": [] })),
    ];
    for scope in
        [json!("tenant:victim"), json!("operator"), json!("tenant:_operator"), json!(["tenant:acme", "operator"])]
    {
        asked.push(("POST", "/api/tokens", json!({ "scope": scope, "ttl_s": 60 })));
        asked.push(("POST", "/api/tokens/links", json!({ "scope": scope })));
        asked.push(("POST", "/api/tokens/epochs", json!({ "scope": scope })));
    }
    asked.push(("POST", "/api/tokens", json!({ "scope": "tenant:acme", "ttl_s": 31_536_000 })));
    let twice = r#"{"scope":"tenant:acme","scope":"tenant:victim","ttl_s":60}"#;
    let mut requests =
        vec![Request { body: twice.into(), ..Request::new("POST", "/api/tokens", bearer(acme), &Value::Null) }];
    requests.extend(asked.iter().map(|(method, path, body)| Request::new(method, *path, bearer(acme), body)));
    for path in [
        "/api/tokens?scope=tenant:victim".to_owned(),
        "/api/tokens?scope=operator".to_owned(),
        "/api/tokens?scope=tenant:acme&scope=tenant:victim".to_owned(),
        format!("/api/tokens?limit=200&after={other_token}"),
        format!("{endpoints}?uid={}", "~victim"),
        format!("{endpoints}?tenant=victim"),
        format!("{events}?event_type=*&tenant=victim"),
        format!("{card}/deliveries?endpoint={other}"),
    ] {
        requests.push(Request::new("GET", path, bearer(acme), &Value::Null).that_may_succeed(true));
    }
    attack.refused("bodies and queries that name others", &requests);
}

/// A token that only reads, on every route of its own tenant.
async fn only_reading(attack: &Attack<'_>, own: &Names, reader: &str) {
    let before = seen(attack.stack, own).await;
    let mut requests = Vec::new();
    for route in Route::all() {
        let may = route.method == "GET" && !route.template.ends_with("/secret");
        let path = format!("/api{}", route.at(own));
        let headers = [bearer(reader), claims(&path)].concat();
        for headers in [bearer(reader), headers] {
            let request = Request::new(&route.method, &path, headers, &route.body(own));
            requests.push(request.that_may_succeed(may));
        }
    }
    attack.refused("a token that only reads, on its own", &requests);
    assert_eq!(seen(attack.stack, own).await, before, "it changed nothing");
    let reads = attack.tally.lock().unwrap()[&("a token that only reads, on its own", 200)];
    assert!(reads > 20, "{reads}: it reads what is its own");
}

/// All of it.
pub(super) async fn attack(attack: &Attack<'_>, receiver: &Receiver) {
    let own = attacker(attack, receiver);
    let (acme, _) = token(attack.stack, json!({ "scope": "tenant:acme", "ttl_s": 3600 }));
    let (reader, _) = token(attack.stack, json!({ "scope": "tenant:acme", "ttl_s": 3600, "read_only": true }));
    assert!(!own.url.contains(CANARY));
    only_reading(attack, &own, &reader).await;
    paths_and_headers(attack, &acme);
    methods(attack, &acme);
    tokens(attack, &acme);
    bodies(attack, &own, &acme);
    ids_and_cursors(attack, &own, &acme);
}
