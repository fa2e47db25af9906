//! Tokens, links to the console and their sessions, as the function `endpoints` makes them.

use std::time::Duration;

use domain::identity::sha256_hex;
use domain::scope::Scope;
use domain::time::Millis;
use domain::token::Token;
use serde_json::{Value, json};
use tests::endpoints_world::{Answer, EndpointsWorld};

const HOUR: u64 = 3600;

/// The token of an answer, as the gate reads it.
fn read(world: &EndpointsWorld, answer: &Answer) -> Token {
    let text = answer.body["token"].as_str().unwrap();
    Token::read(&EndpointsWorld::master_keys(), text, world.clock.now()).unwrap()
}

async fn make(world: &EndpointsWorld, scope: &str, ttl_s: u64) -> Token {
    let made = world.ask("POST", "/tokens", json!({ "scope": scope, "ttl_s": ttl_s })).await;
    assert_eq!(made.status, 201, "{made:?}");
    read(world, &made)
}

async fn link(world: &EndpointsWorld, body: Value) -> String {
    let made = world.ask("POST", "/tokens/links", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let code = made.body["code"].as_str().unwrap();
    assert_eq!(made.body["path"], format!("/console/app#code={code}"));
    code.to_owned()
}

async fn open(world: &EndpointsWorld, code: &str) -> Answer {
    world.ask("POST", "/console/sessions", json!({ "code": code })).await
}

async fn look(world: &EndpointsWorld, code: &str) -> Answer {
    world.get(&format!("/console/links/{}", sha256_hex(code.as_bytes()))).await
}

#[tokio::test]
async fn a_token_is_shown_once_and_says_what_it_may_do() {
    let world = EndpointsWorld::new().await;
    let body = json!({ "scope": "tenant:acme", "ttl_s": HOUR, "read_only": true, "description": "CI <b>" });
    let made = world.ask("POST", "/tokens", body).await;
    assert_eq!((made.status, &made.body["kind"], &made.body["read_only"]), (201, &json!("key"), &json!(true)));
    assert_eq!(made.header("cache-control"), "no-store");
    let token = read(&world, &made);
    assert_eq!((token.scope.clone(), token.read_only), (Scope::Tenant("acme".into()), true));
    assert_eq!(token.expires_at, world.clock.now().after(Duration::from_secs(HOUR)));
    let listed = world.get("/tokens").await;
    assert_eq!(listed.body["tokens"][0]["id"], token.id);
    assert_eq!(listed.body["tokens"][0]["description"], "CI <b>");
    assert!(!listed.text.contains("sht_"), "{}", listed.text);
}

#[tokio::test]
async fn a_token_makes_and_sees_tokens_of_its_scope_only() {
    let world = EndpointsWorld::new().await;
    let acme = make(&world, "tenant:acme", HOUR).await;
    let other = make(&world, "tenant:other", HOUR).await;
    let operator = make(&world, "operator", HOUR).await;
    for (scope, ttl_s, pointers) in [
        ("tenant:other", HOUR, vec!["/scope"]),
        ("operator", HOUR, vec!["/scope"]),
        ("tenant:acme", HOUR + 1, vec!["/ttl_s"]),
    ] {
        for path in ["/tokens", "/tokens/links"] {
            let refused = world.ask_with(&acme, "POST", path, json!({ "scope": scope, "ttl_s": ttl_s })).await;
            assert_eq!((refused.status, refused.pointers()), (422, pointers.clone()), "{path} {scope} {ttl_s}");
        }
    }
    let refused = world.ask_with(&acme, "POST", "/tokens/epochs", json!({ "scope": "tenant:other" })).await;
    assert_eq!(refused.pointers(), ["/scope"]);
    let made = world.ask_with(&acme, "POST", "/tokens", json!({ "scope": "tenant:acme", "ttl_s": 60 })).await;
    assert_eq!(made.status, 201, "{made:?}");
    // It sees its own, whatever it asks for.
    let ids = |answer: &Answer| -> Vec<String> {
        answer.body["tokens"].as_array().unwrap().iter().map(|token| token["scope"].to_string()).collect()
    };
    assert_eq!(ids(&world.ask_with(&acme, "GET", "/tokens", "").await), ["\"tenant:acme\"", "\"tenant:acme\""]);
    let refused = world.ask_with(&acme, "GET", "/tokens?scope=tenant:other", "").await;
    assert_eq!(refused.pointers(), ["/scope"]);
    assert_eq!(ids(&world.ask_with(&operator, "GET", "/tokens", "").await).len(), 4);
    // A cursor of one list leads into no other.
    let page = world.ask_with(&operator, "GET", "/tokens?limit=1", "").await;
    let cursor = page.body["next_cursor"].as_str().unwrap();
    let refused = world.ask_with(&acme, "GET", &format!("/tokens?cursor={cursor}"), "").await;
    assert_eq!(refused.pointers(), ["/cursor"]);
    // Whoever makes up a cursor of the list gets no further either.
    for place in ["", "operator#tok_1", &format!("tenant:other#{}", other.id), "tenant:acme#../x", "E#operator"] {
        let cursor = domain::cursor::after(&["tokens", "tenant:acme"], place);
        let refused = world.ask_with(&acme, "GET", &format!("/tokens?cursor={cursor}"), "").await;
        assert_eq!(refused.pointers(), ["/cursor"], "{place}");
    }
    // It revokes its own.
    let refused = world.ask_with(&acme, "DELETE", &format!("/tokens/{}", other.id), "").await;
    assert_eq!(refused.status, 404);
    let done = world.ask_with(&acme, "DELETE", &format!("/tokens/{}", acme.id), "").await;
    assert_eq!(done.status, 204);
    assert_eq!(world.ask("DELETE", &format!("/tokens/{}", acme.id), "").await.status, 404, "it has ended");
    assert_eq!(world.ask("DELETE", &format!("/tokens/{}", other.id), "").await.status, 204);
}

#[tokio::test]
async fn a_token_that_only_reads_makes_none() {
    let world = EndpointsWorld::new().await;
    let reader = Token { read_only: true, ..make(&world, "operator", HOUR).await };
    for (path, body) in [("/tokens", json!({ "scope": "operator", "ttl_s": 1 })), ("/tokens/links", json!({}))] {
        assert_eq!(world.ask_with(&reader, "POST", path, body).await.status, 403);
    }
}

#[tokio::test]
async fn a_tenants_token_is_refused_by_the_function_as_well() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": "https://a.example/" })).await;
    let (acme, other) = (make(&world, "tenant:acme", HOUR).await, make(&world, "tenant:other", HOUR).await);
    for path in [path.as_str(), &format!("{path}/secret"), "/tenants", "/tenants/acme", "/reseal", "/tenants/%61cme"] {
        assert_eq!(world.ask_with(&other, "GET", path, "").await.status, 403, "{path}");
    }
    assert_eq!(world.ask_with(&acme, "GET", &path, "").await.body, world.get(&path).await.body);
}

#[tokio::test]
async fn a_link_opens_one_session() {
    let world = EndpointsWorld::new().await;
    let code = link(&world, json!({ "scope": "tenant:acme", "read_only": true })).await;
    for _ in 0..2 {
        let seen = look(&world, &code).await;
        assert_eq!(
            (seen.status, &seen.body["scope"], &seen.body["read_only"]),
            (200, &json!("tenant:acme"), &json!(true))
        );
    }
    let opened = open(&world, &code).await;
    assert_eq!((opened.status, &opened.body["kind"]), (201, &json!("session")));
    let session = read(&world, &opened);
    assert_eq!((session.scope.clone(), session.read_only), (Scope::Tenant("acme".into()), true));
    assert_eq!(session.expires_at, world.clock.now().after(Duration::from_secs(12 * HOUR)));
    for answer in [open(&world, &code).await, look(&world, &code).await] {
        assert_eq!(answer.status, 404);
        assert!(answer.body["detail"].as_str().unwrap().contains("Ask for a new one"), "{answer:?}");
    }
    let listed = world.get("/tokens?scope=tenant:acme").await;
    assert_eq!(
        (&listed.body["tokens"][0]["id"], &listed.body["tokens"][0]["kind"]),
        (&json!(session.id), &json!("session"))
    );
}

#[tokio::test]
async fn a_link_that_is_old_or_changed_opens_nothing() {
    let world = EndpointsWorld::new().await;
    let code = link(&world, json!({ "scope": "operator" })).await;
    let mut changed = code.clone();
    changed.replace_range(0..1, if code.starts_with('A') { "B" } else { "A" });
    assert_eq!(open(&world, &changed).await.status, 404);
    world.clock.advance(Duration::from_secs(59));
    assert_eq!(look(&world, &code).await.status, 200);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!((look(&world, &code).await.status, open(&world, &code).await.status), (404, 404));
    assert_eq!(world.get("/console/links/abc").await.pointers(), ["/hash"]);
    assert_eq!(world.ask("POST", "/console/sessions", json!({ "code": 1, "x": 2 })).await.pointers(), ["/x", "/code"]);
    assert_eq!(world.ask("POST", "/console/sessions", json!({ "code": "x".repeat(2000) })).await.status, 413);
}

#[tokio::test]
async fn what_is_ended_takes_unused_links_along() {
    let world = EndpointsWorld::new().await;
    let code = link(&world, json!({ "scope": "tenant:acme" })).await;
    let ended = world.ask("POST", "/tokens/epochs", json!({ "scope": "tenant:acme" })).await;
    assert_eq!((ended.status, ended.body), (200, json!({ "scope": "tenant:acme", "epoch": 1 })));
    assert_eq!((look(&world, &code).await.status, open(&world, &code).await.status), (404, 404));
    assert_eq!(make(&world, "tenant:acme", HOUR).await.epoch, 1);
}

#[tokio::test]
async fn a_token_that_has_ended_makes_nothing_although_the_gate_does_not_know_it_yet() {
    let world = EndpointsWorld::new().await;
    let (revoked, operator) = (make(&world, "tenant:acme", HOUR).await, make(&world, "operator", HOUR).await);
    assert_eq!(world.ask("DELETE", &format!("/tokens/{}", revoked.id), "").await.status, 204);
    assert_eq!(world.ask("POST", "/tokens/epochs", json!({ "scope": "operator" })).await.status, 200);
    for (maker, scope) in [(&revoked, "tenant:acme"), (&operator, "operator"), (&operator, "tenant:acme")] {
        for path in ["/tokens", "/tokens/links"] {
            let answer = world.ask_with(maker, "POST", path, json!({ "scope": scope, "ttl_s": 60 })).await;
            assert_eq!(answer.status, 403, "{path} {scope}: {answer:?}");
        }
    }
    assert_eq!(world.get("/tokens").await.body["tokens"], json!([]));
}

#[tokio::test]
async fn a_link_ends_with_the_token_that_asked_for_it() {
    let world = EndpointsWorld::new().await;
    let maker = make(&world, "operator", HOUR).await;
    let mut codes = Vec::new();
    for scope in ["operator", "tenant:acme"] {
        let made = world.ask_with(&maker, "POST", "/tokens/links", json!({ "scope": scope })).await;
        codes.push(made.body["code"].as_str().unwrap().to_owned());
    }
    assert_eq!(world.ask("DELETE", &format!("/tokens/{}", maker.id), "").await.status, 204);
    for code in codes {
        assert_eq!(open(&world, &code).await.status, 404);
    }
    assert_eq!(world.get("/tokens").await.body["tokens"], json!([]));
}

#[tokio::test]
async fn a_list_says_which_token_made_another() {
    let world = EndpointsWorld::new().await;
    let maker = make(&world, "operator", HOUR).await;
    let made = world.ask_with(&maker, "POST", "/tokens", json!({ "scope": "tenant:acme", "ttl_s": 60 })).await;
    assert_eq!(made.body["made_by"], maker.id);
    let code = world.ask_with(&maker, "POST", "/tokens/links", json!({ "scope": "tenant:acme" })).await;
    let session = open(&world, code.body["code"].as_str().unwrap()).await;
    assert_eq!(session.body["made_by"], maker.id);
}

#[tokio::test]
async fn nobody_gets_a_token_of_a_tenant_that_is_being_erased() {
    let world = EndpointsWorld::new().await;
    world.create(json!({ "url": "https://a.example/" })).await;
    adapters::registry::Registry::begin_erasing(&world.registry, "acme", world.clock.now()).await.unwrap();
    for path in ["/tokens", "/tokens/links"] {
        assert_eq!(world.ask("POST", path, json!({ "scope": "tenant:acme", "ttl_s": 60 })).await.status, 409, "{path}");
    }
    make(&world, "tenant:other", HOUR).await;
}

#[tokio::test]
async fn a_session_cannot_outlive_who_made_it() {
    let world = EndpointsWorld::new().await;
    let maker = make(&world, "tenant:acme", 600).await;
    world.clock.advance(Duration::from_secs(100));
    let made = world.ask_with(&maker, "POST", "/tokens/links", json!({ "scope": "tenant:acme" })).await;
    let session = read(&world, &open(&world, made.body["code"].as_str().unwrap()).await);
    assert_eq!(session.expires_at, maker.expires_at);
    world.clock.advance(Duration::from_secs(500));
    assert!(session.expires_at <= Millis(world.clock.now().0));
}

#[tokio::test]
async fn without_the_registry_nothing_is_made() {
    let world = EndpointsWorld::new().await;
    let code = link(&world, json!({ "scope": "operator" })).await;
    world.tokens.be_away(true);
    for (path, body) in [
        ("/tokens", json!({ "scope": "operator", "ttl_s": 1 })),
        ("/tokens/links", json!({ "scope": "operator" })),
        ("/tokens/epochs", json!({ "scope": "operator" })),
        ("/console/sessions", json!({ "code": code })),
    ] {
        assert_eq!(world.ask("POST", path, body).await.status, 503, "{path}");
    }
    world.tokens.be_away(false);
    assert_eq!(open(&world, &code).await.status, 201, "the link was not used up");
}
