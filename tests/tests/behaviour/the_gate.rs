//! The function `authorize`, in virtual time, over a model of the registry.

use std::sync::Arc;
use std::time::Duration;

use adapters::aws::master_keys::MasterKeyring;
use adapters::clock::Clock;
use adapters::tokens::{KeptToken, TokenKind, Tokens as _};
use domain::gate::Refusal;
use domain::scope::Scope;
use domain::token::{Token, TokenError};
use fn_authorize::{Authorize, Refused};
use serde_json::{Value, json};
use tests::endpoints_world::EndpointsWorld;
use tests::tokens_model::TokensModel;
use tests::world::BEGINNING;

const HOUR: Duration = Duration::from_secs(3600);

struct Gate {
    clock: Clock,
    tokens: TokensModel,
    gate: Authorize,
}

impl Gate {
    fn new() -> Self {
        let (clock, tokens) = (Clock::fixed(BEGINNING), TokensModel::default());
        let keyring = MasterKeyring::given(EndpointsWorld::master_keys());
        let gate = Authorize::new(Arc::new(tokens.clone()), keyring, clock.clone());
        Self { clock, tokens, gate }
    }

    async fn token(&self, scope: &str) -> (String, Token) {
        let scope: Scope = scope.parse().unwrap();
        let token = Token {
            id: format!("tok_{:022}", fastrand::u32(..)),
            epoch: self.tokens.epoch(&scope).await.unwrap(),
            scope,
            read_only: false,
            expires_at: self.clock.now().after(HOUR),
        };
        let Token { id, scope, read_only, epoch, expires_at } = token.clone();
        let (kind, description, created_at) = (TokenKind::Key, String::new(), self.clock.now());
        let made_by = None;
        let kept = KeptToken { id, scope, kind, read_only, description, epoch, made_by, created_at, expires_at };
        self.tokens.keep(&kept, None).await.unwrap();
        (token.to_text(&EndpointsWorld::master_keys()).unwrap(), token)
    }

    async fn ask(&self, authorization: &str, route: &str, tenant: &str) -> Result<Token, Refused> {
        let event = event(authorization, route, tenant);
        let decided = self.gate.decide(&serde_json::from_value(event.clone()).unwrap()).await;
        match self.gate.handle(serde_json::from_value(event).unwrap()).await {
            Ok(answer) => assert_eq!(answer.is_authorized, decided.is_ok()),
            Err(why) => assert_eq!((why, &decided), (Refused::Unknown, &Err(Refused::Unknown))),
        }
        decided
    }

    async fn opens(&self, text: &str) -> bool {
        self.ask(&format!("Bearer {text}"), "GET /api/tenants/{tenant}", "acme").await.is_ok()
    }
}

/// What API Gateway sends (payload format 2.0).
fn event(authorization: &str, route: &str, tenant: &str) -> Value {
    json!({
        "version": "2.0", "type": "REQUEST", "routeArn": "arn:aws:execute-api:eu-central-1:123456789012:a/$default/GET/api",
        "identitySource": [authorization], "routeKey": route, "rawPath": "/api/tenants/other", "rawQueryString": "",
        "headers": { "authorization": authorization, "host": "a.example" },
        "pathParameters": { "tenant": tenant },
        "requestContext": { "http": { "method": "GET", "path": "/api/tenants/other" }, "stage": "$default", "timeEpoch": 0 },
    })
}

#[tokio::test]
async fn a_good_token_goes_on_with_what_the_functions_must_know() {
    let gate = Gate::new();
    let (text, token) = gate.token("tenant:acme").await;
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let event = event(&format!("{scheme} {text}"), "GET /api/tenants/{tenant}", "acme");
        let answer = gate.gate.handle(serde_json::from_value(event).unwrap()).await.unwrap();
        let answer = serde_json::to_value(answer).unwrap();
        let context = json!({
            "token": token.id, "scope": "tenant:acme", "read_only": "false", "epoch": "0",
            "expires_at": token.expires_at.0.to_string(),
        });
        assert_eq!(answer, json!({ "isAuthorized": true, "context": context }));
    }
}

#[tokio::test]
async fn what_is_no_good_token_is_refused() {
    let gate = Gate::new();
    let (text, _) = gate.token("tenant:acme").await;
    let route = "GET /api/tenants/{tenant}";
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        &text,
        &format!("Bearer {text}x"),
        &format!("Bearer {text}, Bearer {text}"),
    ] {
        assert!(gate.ask(bad, route, "acme").await.is_err(), "{bad}");
    }
    let good = format!("Bearer {text}");
    assert_eq!(gate.ask(&good, route, "other").await, Err(Refused::Gate(Refusal::Scope)));
    assert_eq!(gate.ask(&good, "GET /api/dead-letters", "acme").await, Err(Refused::Gate(Refusal::Scope)));
    assert_eq!(gate.ask(&good, "$default", "acme").await, Err(Refused::Gate(Refusal::Route)));
    gate.clock.advance(HOUR);
    assert_eq!(gate.ask(&good, route, "acme").await, Err(Refused::Token(TokenError::Expired)));
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_thirty_seconds() {
    let gate = Gate::new();
    let (text, token) = gate.token("tenant:acme").await;
    assert!(gate.opens(&text).await);
    gate.tokens.revoke(&token.id, &Scope::Operator, gate.clock.now()).await.unwrap();
    gate.clock.advance(Duration::from_secs(29));
    assert!(!gate.opens(&text).await);
}

#[tokio::test]
async fn all_tokens_of_a_scope_are_refused_within_thirty_seconds() {
    let gate = Gate::new();
    let ((ended, token), (other, _)) = (gate.token("tenant:acme").await, gate.token("operator").await);
    assert!(gate.opens(&ended).await && gate.opens(&other).await);
    gate.tokens.end_all(&token.scope).await.unwrap();
    gate.clock.advance(Duration::from_secs(29));
    assert!(!gate.opens(&ended).await && gate.opens(&other).await);
    let (new, _) = gate.token("tenant:acme").await;
    assert!(gate.opens(&new).await);
}

#[tokio::test]
async fn the_registry_is_read_once_in_twenty_seconds_for_each_token() {
    let gate = Gate::new();
    let (text, _) = gate.token("tenant:acme").await;
    for _ in 0..19 {
        assert!(gate.opens(&text).await);
        gate.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(gate.tokens.reads(), 1);
    // What was not made here costs no read.
    assert!(!gate.opens("sht_e30.e30").await);
    assert_eq!(gate.tokens.reads(), 1);
}

#[tokio::test]
async fn while_the_registry_is_away_what_is_known_serves_for_a_quarter_of_an_hour() {
    let gate = Gate::new();
    let (known, _) = gate.token("tenant:acme").await;
    let (unknown, _) = gate.token("tenant:acme").await;
    assert!(gate.opens(&known).await);
    gate.tokens.be_away(true);
    gate.clock.advance(Duration::from_secs(14 * 60));
    assert!(gate.opens(&known).await);
    let asked = gate.ask(&format!("Bearer {unknown}"), "GET /api/tenants/{tenant}", "acme").await;
    assert_eq!(asked, Err(Refused::Unknown), "the gateway answers 500: of this one nothing is known");
    gate.clock.advance(Duration::from_secs(60));
    assert!(!gate.opens(&known).await);
    gate.tokens.be_away(false);
    assert!(gate.opens(&known).await && gate.opens(&unknown).await);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_left_alone_for_a_moment() {
    let gate = Gate::new();
    let (text, _) = gate.token("tenant:acme").await;
    assert!(gate.opens(&text).await);
    gate.tokens.be_away(true);
    gate.clock.advance(Duration::from_secs(60));
    for _ in 0..50 {
        assert!(gate.opens(&text).await);
    }
    assert_eq!(gate.tokens.reads(), 2);
    gate.clock.advance(Duration::from_secs(5));
    assert!(gate.opens(&text).await);
    assert_eq!(gate.tokens.reads(), 3);
}

#[tokio::test]
async fn a_token_that_was_never_kept_is_refused() {
    let gate = Gate::new();
    let forged = Token {
        id: format!("tok_{:022}", 7),
        scope: Scope::Operator,
        read_only: false,
        epoch: 9,
        expires_at: gate.clock.now().after(HOUR),
    };
    assert!(!gate.opens(&forged.to_text(&EndpointsWorld::master_keys()).unwrap()).await);
}

#[tokio::test]
async fn a_clock_that_goes_back_makes_nothing_fresh() {
    let gate = Gate::new();
    gate.clock.advance(HOUR);
    let (text, token) = gate.token("tenant:acme").await;
    assert!(gate.opens(&text).await);
    gate.tokens.revoke(&token.id, &Scope::Operator, gate.clock.now()).await.unwrap();
    gate.clock.step_back(HOUR);
    assert!(!gate.opens(&text).await);
}

#[tokio::test]
async fn a_revoked_token_stays_revoked_while_the_registry_is_away() {
    let gate = Gate::new();
    let (text, token) = gate.token("tenant:acme").await;
    gate.tokens.revoke(&token.id, &Scope::Operator, gate.clock.now()).await.unwrap();
    assert!(!gate.opens(&text).await);
    gate.tokens.be_away(true);
    gate.clock.advance(Duration::from_secs(60));
    assert!(!gate.opens(&text).await);
}
