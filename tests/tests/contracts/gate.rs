//! The gate against the contract: every route and every kind of token.

use std::collections::BTreeSet;

use domain::gate::{Refusal, decide};
use domain::scope::Scope;
use serde_json::Value;

const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

/// What a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opens {
    /// The operator.
    Operator,
    /// The operator and the tenant of the path.
    Tenant,
    /// Everyone.
    Everyone,
}

/// The routes of the contract that callers with a token have, with what each is for. It is said
/// here again, as the page of the API says it: below a tenant all is the tenant's but its
/// erasure, event types are read by everyone, tokens are everyone's own.
fn routes() -> Vec<(String, Opens)> {
    let document: Value = serde_yaml_ng::from_str(include_str!("../../../infra/openapi.yaml")).unwrap();
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in METHODS.into_iter().filter(|method| operations.get(method).is_some()) {
            if operations[method]["security"].as_array().is_some_and(Vec::is_empty) && path.starts_with("/console/") {
                continue;
            }
            let opens = match path.as_str() {
                "/tenants/{tenant}" if method == "delete" => Opens::Operator,
                path if path.starts_with("/tenants/{tenant}") => Opens::Tenant,
                path if path.starts_with("/event-types") && method == "get" => Opens::Everyone,
                path if path.starts_with("/tokens") => Opens::Everyone,
                _ => Opens::Operator,
            };
            routes.push((format!("{} /api{path}", method.to_uppercase()), opens));
        }
    }
    routes
}

/// A value of a name in a path, in the tenant `acme`.
fn value(name: &str) -> Option<&'static str> {
    match name {
        "tenant" => Some("acme"),
        "endpoint" => Some("ep_0123456789abcdefghijkl"),
        "event" => Some("order-1"),
        "replay" => Some("rp_1"),
        "name" => Some("order.paid"),
        "token" => Some("tok_0123456789abcdefghijkl"),
        "id" => Some("order-1.ep_0123456789abcdefghijkl"),
        _ => None,
    }
}

fn of(tenant: &str) -> Scope {
    Scope::Tenant(tenant.to_owned())
}

#[test]
fn every_route_of_the_contract_is_decided_for_every_scope() {
    let routes = routes();
    assert_eq!(routes.len(), 50, "{routes:?}");
    for (key, opens) in &routes {
        let decided = |scope: &Scope, read_only| decide(scope, read_only, key, value);
        assert_eq!(decided(&Scope::Operator, false), Ok(()), "{key}");
        let own = if *opens == Opens::Operator { Err(Refusal::Scope) } else { Ok(()) };
        assert_eq!(decided(&of("acme"), false), own, "{key}");
        let others = if *opens == Opens::Everyone { Ok(()) } else { Err(Refusal::Scope) };
        assert_eq!(decided(&of("other"), false), others, "{key}");
        let reads = key.starts_with("GET ") && !key.ends_with("/secret");
        let reading = if reads { Ok(()) } else { Err(Refusal::ReadOnly) };
        assert_eq!(decided(&Scope::Operator, true), reading, "{key}");
        assert_eq!(decided(&of("acme"), true), own.and(reading), "{key}");
    }
}

#[test]
fn every_name_in_a_path_is_held_to_its_grammar() {
    for (key, _) in routes() {
        for name in key.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            for bad in ["", "..", "a/b", "a%2Fb", "a b", "é", "a\0", &"x".repeat(300)] {
                let with = |asked: &str| if asked == name { Some(bad) } else { value(asked) };
                assert_eq!(decide(&Scope::Operator, false, &key, with), Err(Refusal::Name), "{key} {name}={bad:?}");
            }
            let without = |asked: &str| value(asked).filter(|_| asked != name);
            assert_eq!(decide(&Scope::Operator, false, &key, without), Err(Refusal::Name), "{key} without {name}");
        }
    }
}

#[test]
fn the_gate_knows_no_route_that_the_template_lacks() {
    let template = include_str!("../../../infra/token-api.yaml");
    let there: BTreeSet<&str> = template.lines().filter_map(|line| line.trim().strip_prefix("RouteKey: ")).collect();
    let known: BTreeSet<String> = routes().into_iter().map(|(key, _)| key).collect();
    assert_eq!(there, known.iter().map(String::as_str).collect());
}
