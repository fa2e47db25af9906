//! Which route of the API a token opens: the one place where that is decided. A route is named
//! as the gateway names it, and never taken from a path that somebody decoded. What is not
//! listed is refused.

use crate::identity::{is_record_id, is_webhook_id};
use crate::names::{is_endpoint_id, is_event_id, is_event_type, is_tenant_or_operator};
use crate::scope::Scope;
use crate::token::is_token_id;

/// What a route's paths begin with, for callers with a token.
pub const PREFIX: &str = "/api";

/// Whose tokens open a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// The operator's.
    Operator,
    /// The operator's and those of the tenant in its path.
    Tenant,
    /// Those of every scope. What is answered depends on the scope.
    Everyone,
}

/// What a token must allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Reading. Tokens that only read open it, too.
    Reading,
    /// Changes, or the sight of a secret.
    Writing,
}

use For::{Everyone, Operator, Tenant};
use Needs::{Reading, Writing};

/// Every route that a token may open.
const ROUTES: &[(&str, For, Needs)] = &[
    // Direct webhooks.
    ("POST /webhooks", Operator, Writing),
    ("POST /webhooks/batch", Operator, Writing),
    ("GET /webhook-statuses", Operator, Reading),
    ("GET /webhook-statuses/{id}", Operator, Reading),
    ("POST /webhook-cleanup", Operator, Writing),
    // Dead letters and circuit breakers.
    ("GET /dead-letters", Operator, Reading),
    ("GET /dead-letters/{id}", Operator, Reading),
    ("DELETE /dead-letters/{id}", Operator, Writing),
    ("POST /dead-letters/{id}/redrive", Operator, Writing),
    ("POST /dead-letters/redrive", Operator, Writing),
    ("GET /circuit-breakers", Operator, Reading),
    ("POST /circuit-breakers/reset", Operator, Writing),
    // The stack.
    ("GET /health", Operator, Reading),
    ("GET /metrics", Operator, Reading),
    ("GET /metrics/recent", Operator, Reading),
    ("GET /deliveries/recent", Operator, Reading),
    ("GET /reseal", Operator, Reading),
    ("POST /reseal", Operator, Writing),
    // Tenants. Only the operator erases one.
    ("GET /tenants", Operator, Reading),
    ("GET /tenants/{tenant}", Tenant, Reading),
    ("DELETE /tenants/{tenant}", Operator, Writing),
    // Endpoints.
    ("GET /tenants/{tenant}/endpoints", Tenant, Reading),
    ("POST /tenants/{tenant}/endpoints", Tenant, Writing),
    ("GET /tenants/{tenant}/endpoints/{endpoint}", Tenant, Reading),
    ("PATCH /tenants/{tenant}/endpoints/{endpoint}", Tenant, Writing),
    ("DELETE /tenants/{tenant}/endpoints/{endpoint}", Tenant, Writing),
    ("GET /tenants/{tenant}/endpoints/{endpoint}/secret", Tenant, Writing),
    ("POST /tenants/{tenant}/endpoints/{endpoint}/rotate-secret", Tenant, Writing),
    ("POST /tenants/{tenant}/endpoints/{endpoint}/test", Tenant, Writing),
    ("GET /tenants/{tenant}/endpoints/{endpoint}/deliveries", Tenant, Reading),
    ("POST /tenants/{tenant}/endpoints/{endpoint}/replays", Tenant, Writing),
    ("GET /tenants/{tenant}/replays/{replay}", Tenant, Reading),
    ("DELETE /tenants/{tenant}/replays/{replay}", Tenant, Writing),
    // Events.
    ("GET /tenants/{tenant}/events", Tenant, Reading),
    ("POST /tenants/{tenant}/events", Tenant, Writing),
    ("POST /tenants/{tenant}/events/batch", Tenant, Writing),
    ("GET /tenants/{tenant}/events/{event}", Tenant, Reading),
    ("DELETE /tenants/{tenant}/events/{event}/payload", Tenant, Writing),
    ("GET /tenants/{tenant}/events/{event}/deliveries", Tenant, Reading),
    ("GET /tenants/{tenant}/events/{event}/deliveries/{endpoint}", Tenant, Reading),
    ("POST /tenants/{tenant}/events/{event}/deliveries/{endpoint}/resend", Tenant, Writing),
    // The catalogue. Everyone reads it.
    ("GET /event-types", Everyone, Reading),
    ("GET /event-types/{name}", Everyone, Reading),
    ("PUT /event-types/{name}", Operator, Writing),
    ("DELETE /event-types/{name}", Operator, Writing),
    // Tokens. Each scope has its own.
    ("GET /tokens", Everyone, Reading),
    ("POST /tokens", Everyone, Writing),
    ("DELETE /tokens/{token}", Everyone, Writing),
    ("POST /tokens/links", Everyone, Writing),
    ("POST /tokens/epochs", Everyone, Writing),
];

/// Why a token does not open a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not one of the routes for tokens.
    #[error("the route is not for tokens")]
    Route,
    /// A name in the path is missing, or is none.
    #[error("a name in the path is not one")]
    Name,
    /// The token is not for this route or this tenant.
    #[error("the scope of the token does not cover it")]
    Scope,
    /// The token only reads.
    #[error("the token only reads")]
    ReadOnly,
}

/// Whether a token of this scope, which may be one that only reads, opens the route of this
/// key, `GET /api/tenants/{tenant}` for example. `parameter` gives the names in its path.
///
/// # Errors
/// Why it does not.
pub fn decide<'p>(
    scope: &Scope,
    read_only: bool,
    route_key: &str,
    parameter: impl Fn(&str) -> Option<&'p str>,
) -> Result<(), Refusal> {
    let (method, path) = route_key.split_once(' ').ok_or(Refusal::Route)?;
    let path = path.strip_prefix(PREFIX).ok_or(Refusal::Route)?;
    let is_it = |key: &str| key.split_once(' ') == Some((method, path));
    let &(_, who, needs) = ROUTES.iter().find(|(key, ..)| is_it(key)).ok_or(Refusal::Route)?;
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    for name in names {
        if !parameter(name).is_some_and(|value| is_named(name, value)) {
            return Err(Refusal::Name);
        }
    }
    let is_covered = match (who, scope) {
        (_, Scope::Operator) | (Everyone, Scope::Tenant(_)) => true,
        (Operator, Scope::Tenant(_)) => false,
        (Tenant, Scope::Tenant(tenant)) => parameter("tenant") == Some(tenant),
    };
    if !is_covered {
        return Err(Refusal::Scope);
    }
    if read_only && needs == Writing {
        return Err(Refusal::ReadOnly);
    }
    Ok(())
}

/// Whether a value keeps to the grammar of this part of a path.
fn is_named(name: &str, value: &str) -> bool {
    match name {
        "tenant" => is_tenant_or_operator(value),
        "endpoint" => is_endpoint_id(value),
        "event" | "replay" => is_event_id(value),
        "name" => is_event_type(value),
        "token" => is_token_id(value),
        // A direct webhook, or a dead letter of whatever kind.
        "id" => is_webhook_id(value) || is_record_id(value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: &str = "ep_0123456789abcdefghijkl";

    fn names<'p>(tenant: &'p str) -> impl Fn(&str) -> Option<&'p str> {
        move |name| match name {
            "tenant" => Some(tenant),
            "endpoint" => Some(ENDPOINT),
            "event" | "replay" => Some("order-1"),
            _ => None,
        }
    }

    fn of(tenant: &str) -> Scope {
        Scope::Tenant(tenant.to_owned())
    }

    #[test]
    fn a_tenants_token_opens_the_routes_of_that_tenant_only() {
        let key = "GET /api/tenants/{tenant}/endpoints/{endpoint}";
        assert_eq!(decide(&of("acme"), false, key, names("acme")), Ok(()));
        for other in ["other", "_operator", "acme2", "Acme", "ACME"] {
            assert_eq!(decide(&of("acme"), false, key, names(other)), Err(Refusal::Scope), "{other}");
        }
        for spelled in ["", "acme/", "acme%2F..", "..", ".", "acme\0", " acme", "acme ", "%61cme", "acme,other"] {
            assert_eq!(decide(&of("acme"), false, key, names(spelled)), Err(Refusal::Name), "{spelled:?}");
        }
        assert_eq!(decide(&Scope::Operator, false, key, names("_operator")), Ok(()));
        assert_eq!(decide(&of("acme"), false, "DELETE /api/tenants/{tenant}", names("acme")), Err(Refusal::Scope));
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        for key in [
            "",
            "$default",
            "GET /tenants/{tenant}",
            "GET /apis/tenants/{tenant}",
            "GET  /api/tenants/{tenant}",
            "get /api/tenants/{tenant}",
            "HEAD /api/tenants/{tenant}",
            "GET /api/tenants/{tenant}/",
            "GET /api/tenants/acme",
            "ANY /api/{proxy+}",
            "GET /api/console/links/{hash}",
        ] {
            assert_eq!(decide(&Scope::Operator, false, key, names("acme")), Err(Refusal::Route), "{key}");
        }
    }

    #[test]
    fn a_token_that_only_reads_sees_no_secret_and_changes_nothing() {
        let decide = |key: &str| decide(&of("acme"), true, key, names("acme"));
        assert_eq!(decide("GET /api/tenants/{tenant}/events"), Ok(()));
        assert_eq!(decide("GET /api/tenants/{tenant}/endpoints/{endpoint}/secret"), Err(Refusal::ReadOnly));
        for (key, ..) in ROUTES.iter().filter(|(_, _, needs)| *needs == Reading) {
            assert!(key.starts_with("GET ") && !key.ends_with("/secret"), "{key}");
        }
        for (key, ..) in ROUTES.iter().filter(|(key, ..)| !key.starts_with("GET ")) {
            let key = key.replacen(' ', " /api", 1);
            assert_ne!(super::decide(&Scope::Operator, true, &key, names("acme")), Ok(()), "{key}");
        }
    }
}
