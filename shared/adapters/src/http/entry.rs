//! How a request came in: signed for the gateway, or below `/api` with a token that the gate has
//! let through. Every function goes by the gate's decision and holds it against its own path as
//! well, so that no mistake in one place opens the data of another tenant.

use domain::gate::PREFIX;
use domain::scope::Scope;
use domain::time::Millis;
use http::{Method, Uri};
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt as _};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::answer::Problem;

/// What the gate tells of the token of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Bearer {
    /// The token's id.
    pub token: String,
    /// What it may act on.
    pub scope: Scope,
    /// Whether it only reads.
    pub read_only: bool,
    /// When it ends.
    pub expires_at: Millis,
}

/// The token of a request, if it came with one.
pub fn bearer(request: &Request) -> Option<&Bearer> {
    request.extensions().get()
}

/// Takes in a request. One from below `/api` is as any other after this, and knows its token.
///
/// # Errors
/// One below `/api` that the gate has not let through, or that is about another tenant.
pub fn enter(mut request: Request) -> Result<Request, Problem> {
    let Some(inner) = below_prefix(request.uri().path()) else { return Ok(request) };
    let bearer = told(&request).ok_or_else(refused)?;
    let is_allowed = is_covered(&bearer.scope, inner) && (!bearer.read_only || is_reading(request.method(), inner));
    if !is_allowed {
        return Err(refused());
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let uri = Uri::try_from(format!("{inner}{query}")).map_err(|_| refused())?;
    *request.uri_mut() = uri;
    request.extensions_mut().insert(bearer);
    Ok(request)
}

fn refused() -> Problem {
    Problem::forbidden("The token does not allow this.")
}

/// The path below the prefix.
fn below_prefix(path: &str) -> Option<&str> {
    path.strip_prefix(PREFIX).filter(|inner| inner.is_empty() || inner.starts_with('/'))
}

/// What the gate has told of the request.
fn told(request: &Request) -> Option<Bearer> {
    let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() else { return None };
    let fields = &context.authorizer.as_ref()?.fields;
    serde_json::from_value(fields.clone().into_iter().collect()).ok()
}

/// Whether a scope covers what a path is about.
fn is_covered(scope: &Scope, path: &str) -> bool {
    let Scope::Tenant(tenant) = scope else { return true };
    let mut parts = path.split('/').skip(1);
    match parts.next() {
        Some("tenants") => {
            let named = parts.next().map(|part| percent_decode_str(part).decode_utf8_lossy());
            named.is_some_and(|named| named == tenant.as_str())
        }
        Some("event-types" | "tokens") => true,
        _ => false,
    }
}

/// Whether a request changes nothing and shows no secret.
fn is_reading(method: &Method, path: &str) -> bool {
    *method == Method::GET && path.split('/').next_back() != Some("secret")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambda_http::Body;
    use serde_json::{Value, json};

    fn request(method: &str, path: &str, told: Option<Value>) -> Request {
        let authorizer = told.map(|told| json!({ "lambda": told }));
        let context = json!({ "http": { "method": method }, "authorizer": authorizer, "timeEpoch": 0 });
        let context = RequestContext::ApiGatewayV2(serde_json::from_value(context).unwrap());
        let request = http::Request::builder().method(method).uri(path).body(Body::Empty).unwrap();
        request.with_request_context(context)
    }

    fn token(scope: &str, read_only: bool) -> Option<Value> {
        Some(json!({ "token": "tok_1", "scope": scope, "read_only": read_only, "expires_at": 5 }))
    }

    #[test]
    fn a_path_below_the_prefix_is_as_without_it() {
        let entered = enter(request("GET", "/api/tenants/acme/events?limit=5", token("tenant:acme", false))).unwrap();
        assert_eq!(entered.uri(), "/tenants/acme/events?limit=5");
        assert_eq!(bearer(&entered).unwrap().scope, Scope::Tenant("acme".into()));
        let signed = enter(request("GET", "/tenants/acme", None)).unwrap();
        assert!(bearer(&signed).is_none() && signed.uri() == "/tenants/acme");
        assert!(bearer(&enter(request("GET", "/apis", None)).unwrap()).is_none());
    }

    #[test]
    fn nothing_below_the_prefix_goes_on_without_the_gate() {
        for told in
            [None, Some(json!({})), Some(json!({ "scope": "operator" })), token("", false), token("root", false)]
        {
            for path in ["/api", "/api/", "/api/tenants", "/api/health"] {
                assert!(enter(request("GET", path, told.clone())).is_err(), "{path} {told:?}");
            }
        }
    }

    #[test]
    fn a_tenants_token_reaches_no_other_tenant_however_it_is_spelled() {
        let of_acme = |path: &str| enter(request("GET", path, token("tenant:acme", false)));
        for path in ["/api/tenants/acme", "/api/tenants/%61cme/events", "/api/event-types/a.b", "/api/tokens"] {
            assert!(of_acme(path).is_ok(), "{path}");
        }
        for path in [
            "/api/tenants",
            "/api/tenants/",
            "/api//tenants/acme",
            "/api/tenants//acme",
            "/api/tenants/other/events",
            "/api/tenants/Acme",
            "/api/tenants/acme%2F..%2Fother/events",
            "/api/tenants/acme%00/events",
            "/api/tenants/..",
            "/api/dead-letters",
            "/api/health",
            "/api/api/tenants/acme",
            "/api/",
            "/api",
        ] {
            assert!(of_acme(path).is_err(), "{path}");
        }
        assert!(enter(request("GET", "/api/tenants/other", token("operator", false))).is_ok());
    }

    #[test]
    fn a_token_that_only_reads_changes_nothing() {
        let reading = |method: &str, path: &str| enter(request(method, path, token("operator", true)));
        assert!(reading("GET", "/api/tenants/acme/endpoints").is_ok());
        assert!(reading("GET", "/api/tenants/acme/endpoints/ep_1/secret").is_err());
        for method in ["POST", "PUT", "PATCH", "DELETE", "HEAD"] {
            assert!(reading(method, "/api/tenants/acme/endpoints").is_err(), "{method}");
        }
    }
}
