//! How a request came in: signed for the gateway, or below `/api` with a token that the gate has
//! let through. What counts is the route that the gateway chose, because the gateway has asked who
//! calls for that route. A path that is not one of that route goes no further, and neither does a
//! token that does not open it, whatever the gate has said.

use domain::gate::{self, PREFIX};
use domain::scope::Scope;
use domain::time::Millis;
use http::{Method, Uri};
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt as _};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use super::answer::Problem;

/// What cannot stand in a path. A percent sign stays: the gateway has decoded the path once, and
/// names are held to their grammar after they are decoded again.
const NO_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'\\')
    .add(b'^')
    .add(b'|');
/// The route of whatever is no other route.
const ANYTHING_ELSE: &str = "$default";

/// What the gate tells of the token of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The token's id.
    pub token: String,
    /// What it may act on.
    pub scope: Scope,
    /// Whether it only reads.
    pub read_only: bool,
    /// The epoch of its scope when it was made.
    pub epoch: u64,
    /// When it ends.
    pub expires_at: Millis,
}

/// The token of a request, if it came with one.
pub fn bearer(request: &Request) -> Option<&Bearer> {
    request.extensions().get()
}

/// A request that the gateway found no route for. Whoever calls was asked for that only.
#[derive(Clone, Copy, Debug)]
struct Unrouted;

/// Whether the gateway found no route for a request. It must change nothing and show nothing,
/// whatever its path looks like after it was decoded.
pub fn is_unrouted(request: &Request) -> bool {
    request.extensions().get::<Unrouted>().is_some()
}

/// Whether a schedule of the stack has invoked the function. An event of the gateway that could
/// not be read is none.
pub fn is_schedule(request: &Request) -> bool {
    let is_event = matches!(request.request_context_ref(), Some(RequestContext::PassThrough));
    let source = || serde_json::from_slice::<Value>(request.body()).ok()?.get("source")?.as_str().map(str::to_owned);
    is_event && source().as_deref() == Some("aws.events")
}

/// Takes in a request. One from below `/api` is as any other after this, and knows its token.
///
/// # Errors
/// One whose path is not of the route that the gateway chose, or whose token does not open it.
pub fn enter(mut request: Request) -> Result<Request, Problem> {
    let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() else {
        // It did not come through the gateway: a schedule of the stack invokes the function.
        return if is_below_prefix(request.uri().path()) { Err(refused()) } else { Ok(request) };
    };
    let route = context.route_key.as_deref().unwrap_or(ANYTHING_ELSE);
    let told = context.authorizer.as_ref().map(|authorizer| &authorizer.fields).filter(|fields| !fields.is_empty());
    let path = request.raw_http_path();
    if route != ANYTHING_ELSE && !is_of_route(route, request.method(), path) {
        return Err(Problem::not_found(format!("There is no {} {path}.", request.method())));
    }
    let (inner, bearer) = match (is_below_prefix(path), told) {
        (false, None) => (path, None),
        (true, Some(told)) => {
            let bearer = bearer_of(|name| told.get(name)).ok_or_else(refused)?;
            let names = request.path_parameters_ref();
            let name = |name: &str| names.and_then(|names| names.first(name));
            gate::decide(&bearer.scope, bearer.read_only, route, name).map_err(|_| refused())?;
            let inner = path.strip_prefix(PREFIX).unwrap_or_default();
            if bearer.scope.tenant().is_some_and(|own| tenant_in(inner).is_some_and(|named| named != own)) {
                return Err(refused());
            }
            (inner, Some(bearer))
        }
        (true, None) | (false, Some(_)) => return Err(refused()),
    };
    let uri = uri_of(inner, request.uri().query())?;
    let has_no_route = route == ANYTHING_ELSE;
    *request.uri_mut() = uri;
    if has_no_route {
        request.extensions_mut().insert(Unrouted);
    }
    if let Some(bearer) = bearer {
        request.extensions_mut().insert(bearer);
    }
    Ok(request)
}

fn refused() -> Problem {
    Problem::forbidden("The token does not allow this.")
}

fn is_below_prefix(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|inner| inner.is_empty() || inner.starts_with('/'))
}

/// Whether a path is one of the route of this key.
fn is_of_route(key: &str, method: &Method, path: &str) -> bool {
    let Some((wanted, template)) = key.split_once(' ') else { return false };
    let is_part = |(name, part): (&str, &str)| if name.starts_with('{') { !part.is_empty() } else { name == part };
    wanted == method.as_str()
        && template.split('/').count() == path.split('/').count()
        && template.split('/').zip(path.split('/')).all(is_part)
}

/// The tenant that a path names.
fn tenant_in(path: &str) -> Option<String> {
    let tenant = path.strip_prefix("/tenants/")?.split('/').next()?;
    Some(percent_decode_str(tenant).decode_utf8_lossy().into_owned())
}

/// The path as a URI has it, with the query.
fn uri_of(path: &str, query: Option<&str>) -> Result<Uri, Problem> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let uri = Uri::try_from(format!("{}{query}", utf8_percent_encode(path, NO_PATH)));
    uri.map_err(|_| Problem::not_found("There is no such path."))
}

/// What the gate has told. A gateway may pass numbers and truth values on as text.
fn bearer_of<'v>(told: impl Fn(&str) -> Option<&'v Value>) -> Option<Bearer> {
    let text = |name: &str| match told(name)? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Bool(_) | Value::Number(_)) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    Some(Bearer {
        token: text("token")?,
        scope: text("scope")?.parse().ok()?,
        read_only: text("read_only")?.parse().ok()?,
        epoch: text("epoch")?.parse().ok()?,
        expires_at: Millis(text("expires_at")?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambda_http::Body;
    use serde_json::json;

    const ENDPOINT: &str = "ep_0123456789abcdefghijkl";

    /// A request as the gateway passes it on.
    fn request(route: &str, path: &str, told: Option<Value>) -> Request {
        let method = route.split(' ').next().filter(|method| *method != ANYTHING_ELSE).unwrap_or("GET");
        let authorizer = told.map(|told| json!({ "lambda": told }));
        let context =
            json!({ "http": { "method": method }, "routeKey": route, "authorizer": authorizer, "timeEpoch": 0 });
        let context = RequestContext::ApiGatewayV2(serde_json::from_value(context).unwrap());
        let template = route.split(' ').nth(1).unwrap_or_default();
        let names: std::collections::HashMap<String, String> = template
            .split('/')
            .zip(path.split('?').next().unwrap_or_default().split('/'))
            .filter_map(|(name, part)| Some((name.strip_prefix('{')?.strip_suffix('}')?.to_owned(), part.to_owned())))
            .collect();
        let uri = path.split('?').nth(1).map_or("/".to_owned(), |query| format!("/?{query}"));
        let request = http::Request::builder().method(method).uri(uri).body(Body::Empty).unwrap();
        let request = request.with_request_context(context).with_path_parameters(names);
        request.with_raw_http_path(path.split('?').next().unwrap_or_default())
    }

    fn token(scope: &str, read_only: bool) -> Option<Value> {
        Some(json!({ "token": "tok_1", "scope": scope, "read_only": read_only, "epoch": 2, "expires_at": "5" }))
    }

    const EVENTS: &str = "GET /api/tenants/{tenant}/events";

    #[test]
    fn a_path_below_the_prefix_is_as_without_it() {
        let entered = enter(request(EVENTS, "/api/tenants/acme/events?limit=5", token("tenant:acme", false))).unwrap();
        assert_eq!(entered.uri(), "/tenants/acme/events?limit=5");
        let wanted = Bearer {
            token: "tok_1".into(),
            scope: Scope::Tenant("acme".into()),
            read_only: false,
            epoch: 2,
            expires_at: Millis(5),
        };
        assert_eq!(bearer(&entered), Some(&wanted));
        let signed = enter(request("GET /tenants/{tenant}", "/tenants/acme", None)).unwrap();
        assert!(bearer(&signed).is_none() && signed.uri() == "/tenants/acme");
        assert!(!is_unrouted(&signed));
        let elsewhere = enter(request(ANYTHING_ELSE, "/no such é", None)).unwrap();
        assert!(is_unrouted(&elsewhere));
        assert_eq!(elsewhere.uri(), "/no%20such%20%C3%A9");
    }

    #[test]
    fn what_the_gate_tells_may_come_as_text_or_as_it_is() {
        let told = json!({ "token": "t", "scope": "operator", "read_only": "true", "epoch": "7", "expires_at": 1_795_696_233_935_u64 });
        let entered = enter(request(EVENTS, "/api/tenants/acme/events", Some(told))).unwrap();
        let found = bearer(&entered).unwrap();
        assert_eq!((found.read_only, found.epoch, found.expires_at), (true, 7, Millis(1_795_696_233_935)));
    }

    #[test]
    fn nothing_below_the_prefix_goes_on_without_the_gate() {
        for told in
            [None, Some(json!({})), Some(json!({ "scope": "operator" })), token("", false), token("root", false)]
        {
            for route in ["GET /api/health", ANYTHING_ELSE, "GET /health"] {
                assert!(enter(request(route, "/api/health", told.clone())).is_err(), "{route} {told:?}");
            }
        }
        let mut direct = Request::new(Body::Empty);
        *direct.uri_mut() = Uri::from_static("/api/health");
        assert!(enter(direct).is_err());
        assert!(
            enter(request("GET /health", "/health", token("operator", false))).is_err(),
            "no route there has a gate"
        );
    }

    #[test]
    fn the_path_is_of_the_route_that_the_gateway_chose() {
        // The gateway asks nobody who calls for a link.
        let open = "GET /console/links/{hash}";
        assert!(enter(request(open, "/console/links/a", None)).is_ok());
        for path in [
            "/tokens",
            "/console/links",
            "/console/links/",
            "/console/links/a/b",
            "/console/links/../../tokens",
            "//console/links/a",
        ] {
            assert!(enter(request(open, path, None)).is_err(), "{path}");
        }
        let mut other_method = request(open, "/console/links/a", None);
        *other_method.method_mut() = Method::DELETE;
        assert!(enter(other_method).is_err());
        // A token is decided about by its route. Another path than that of the route is refused.
        assert!(enter(request(EVENTS, "/api/tenants/acme/endpoints", token("tenant:acme", false))).is_err());
        assert!(enter(request("GET /api/event-types", "/api/tenants", token("operator", false))).is_err());
    }

    #[test]
    fn a_tenants_token_reaches_no_other_tenant_however_it_is_spelled() {
        let of_acme = |route: &str, path: &str| enter(request(route, path, token("tenant:acme", false)));
        let tenant = "GET /api/tenants/{tenant}";
        assert!(of_acme(tenant, "/api/tenants/acme").is_ok());
        assert!(of_acme("GET /api/event-types/{name}", "/api/event-types/a.b").is_ok());
        assert!(of_acme("GET /api/tokens", "/api/tokens").is_ok());
        for path in [
            "/api/tenants/other",
            "/api/tenants/Acme",
            "/api/tenants/%61cme",
            "/api/tenants/acme%00",
            "/api/tenants/..",
        ] {
            assert!(of_acme(tenant, path).is_err(), "{path}");
        }
        for (route, path) in [
            ("GET /api/tenants", "/api/tenants"),
            ("DELETE /api/tenants/{tenant}", "/api/tenants/acme"),
            ("PUT /api/event-types/{name}", "/api/event-types/a"),
            ("GET /api/dead-letters", "/api/dead-letters"),
            (ANYTHING_ELSE, "/api/tenants/acme"),
        ] {
            assert!(of_acme(route, path).is_err(), "{route}");
        }
        // The names that the gateway gives and the path itself must agree.
        let mut torn = request(tenant, "/api/tenants/other", token("tenant:acme", false));
        torn = torn.with_path_parameters(
            [("tenant".to_owned(), "acme".to_owned())].into_iter().collect::<std::collections::HashMap<_, _>>(),
        );
        assert!(enter(torn).is_err());
    }

    #[test]
    fn a_token_that_only_reads_changes_nothing() {
        let reading = |route: &str, path: &str| enter(request(route, path, token("operator", true)));
        let endpoint = format!("/api/tenants/acme/endpoints/{ENDPOINT}");
        assert!(reading("GET /api/tenants/{tenant}/endpoints/{endpoint}", &endpoint).is_ok());
        assert!(
            reading("GET /api/tenants/{tenant}/endpoints/{endpoint}/secret", &format!("{endpoint}/secret")).is_err()
        );
        for method in ["POST", "PATCH", "DELETE"] {
            let key = format!("{method} /api/tenants/{{tenant}}/endpoints/{{endpoint}}");
            assert!(reading(&key, &endpoint).is_err(), "{method}");
        }
    }
}
