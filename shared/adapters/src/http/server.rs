//! What stands between Lambda and the handlers of our API. The runtime's crate makes a URL of an
//! event, and takes scheme and host from the caller's own headers: a header could become a path,
//! or end the process. So what is not ours to believe is taken out of an event before that.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use lambda_http::lambda_runtime::{self, Diagnostic};
use lambda_http::request::LambdaRequest;
use lambda_http::tower::ServiceExt as _;
use lambda_http::{Adapter, Error, IntoResponse, LambdaEvent, Request, Service};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What cannot stand in a query string. A percent sign stays: the query is as the caller wrote it.
const NO_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'`');

/// Serves requests until Lambda ends the process.
///
/// # Errors
/// When the Runtime API cannot be used.
pub fn run<S, R, E>(handler: S) -> BoxFuture<'static, Result<(), Error>>
where
    S: Service<Request, Response = R, Error = E> + Send + 'static,
    S::Future: Send + 'static,
    R: IntoResponse + Send + Sync + 'static,
    E: std::fmt::Debug + Into<Diagnostic> + Send + 'static,
{
    lambda_runtime::run(Adapter::from(handler).map_request(plain)).boxed()
}

/// The event without what its caller could mislead the conversion with.
fn plain(mut event: LambdaEvent<LambdaRequest>) -> LambdaEvent<LambdaRequest> {
    if let LambdaRequest::ApiGatewayV2(request) = &mut event.payload {
        request.headers.remove("x-forwarded-proto");
        request.headers.remove("host");
        request.request_context.domain_name = None;
        if !request.raw_path.as_deref().is_some_and(|path| path.starts_with('/')) {
            request.raw_path = Some("/".to_owned());
        }
        let query = request.raw_query_string.take();
        request.raw_query_string = query.map(|query| utf8_percent_encode(&query, NO_QUERY).to_string());
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambda_http::RequestExt as _;
    use serde_json::json;

    fn request(path: &str, query: &str, headers: serde_json::Value) -> Request {
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query, "headers": headers,
            "requestContext": { "http": { "method": "GET" }, "stage": "$default", "domainName": "x/y#", "timeEpoch": 0 },
            "isBase64Encoded": false,
        });
        let payload: LambdaRequest = serde_json::from_value(event).unwrap();
        plain(LambdaEvent::new(payload, lambda_runtime::Context::default())).payload.into()
    }

    #[test]
    fn no_header_becomes_a_part_of_the_path() {
        for (name, value) in [
            ("x-forwarded-proto", "https://h/tokens#"),
            ("x-forwarded-proto", "foo,https"),
            ("host", "h/tokens#"),
            ("host", "["),
        ] {
            let request = request("/console/links/a", "", json!({ name: value }));
            assert_eq!(
                (request.uri().path(), request.raw_http_path()),
                ("/console/links/a", "/console/links/a"),
                "{value}"
            );
        }
    }

    #[test]
    fn no_event_of_the_gateway_ends_the_process() {
        for path in ["", "x", ":99999", "@h", "/é ü", "/a\tb", "//", "/../..", "/%", "/#?", "/[", "/\u{0}"] {
            for query in ["", "a=\u{e9}", "a b", "<\">", "#", "%", "a=1&a=2", "\u{7f}"] {
                assert!(request(path, query, json!({})).uri().path().starts_with('/'), "{path} {query}");
            }
        }
    }
}
