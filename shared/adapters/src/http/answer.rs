//! What every HTTP handler shares: correlation ids, JSON answers, and errors as
//! problem details (RFC 9457).

use crate::telemetry::chain;
use domain::fault::{Fault, Faults};
use domain::identity::is_correlation_id;
use domain::trace::Trace;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;

/// The header that carries a correlation id, in and out.
pub const CORRELATION_ID: &str = "x-correlation-id";

/// The caller's correlation id if it sent a usable one, else a new one.
pub fn correlation_id(headers: &HeaderMap) -> String {
    let given = headers.get(CORRELATION_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if is_correlation_id(id) => id.to_owned(),
        _ => new_correlation_id(),
    }
}

/// The caller's trace, if it sent one.
pub fn trace(headers: &HeaderMap) -> Option<Trace> {
    Trace::of_traceparent(headers.get("traceparent")?.to_str().ok()?)
}

/// 95 random bits in 16 characters: every record carries one.
fn new_correlation_id() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(16).collect()
}

/// Why a request is not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    // Every fallible function returns this type, so it is kept small.
    detail: Box<str>,
    errors: Faults,
    retry_after_s: Option<u16>,
    allow: Option<&'static str>,
    endpoint_id: Option<Box<str>>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    correlation_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Fault],
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<&'a str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into().into_boxed_str(),
            errors: Faults::default(),
            retry_after_s: None,
            allow: None,
            endpoint_id: None,
        }
    }

    /// 400: the body is not JSON.
    pub fn not_json(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "not-json", "The body is not JSON", detail)
    }

    /// 403: the caller may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 405: the path exists, for these methods.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("Allowed methods: {allow}.");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail);
        Self { allow: Some(allow), ..problem }
    }

    /// 409: the id belongs to another body.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 412: it is not as the client saw it last.
    pub fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", "Precondition failed", detail)
    }

    /// The same, naming the endpoint that is in the way.
    #[must_use]
    pub fn with_endpoint(self, endpoint_id: &str) -> Self {
        Self { endpoint_id: Some(endpoint_id.into()), ..self }
    }

    /// 413: too many bytes.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
    }

    /// 422: every fault of the request. If there are too many, the first ones are listed and
    /// the others counted.
    pub fn invalid(errors: impl Into<Faults>) -> Self {
        let errors = errors.into();
        let detail = match (errors.count(), errors.told().len()) {
            (1, _) => "The request has 1 fault.".to_owned(),
            (count, told) if told < count => format!("The request has {count} faults. The first {told} are listed."),
            (count, _) => format!("The request has {count} faults."),
        };
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request is invalid", detail) }
    }

    /// 503: try again later. Nothing was accepted.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable", detail);
        Self { retry_after_s: Some(2), ..problem }
    }

    /// The problem as JSON.
    ///
    /// # Panics
    /// Never: all its parts are serializable.
    pub fn to_json(&self, correlation_id: &str) -> serde_json::Value {
        let body = Body {
            r#type: format!("urn:steadhook:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            correlation_id,
            errors: self.errors.told(),
            endpoint_id: self.endpoint_id.as_deref(),
        };
        serde_json::to_value(body).unwrap_or_default()
    }

    /// The problem as an answer.
    pub fn response(&self, correlation_id: &str) -> Response<String> {
        let mut response =
            answer(self.status, "application/problem+json", &self.to_json(correlation_id), correlation_id);
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        }
        response
    }
}

/// An answer without a body.
pub fn no_content(correlation_id: &str) -> Response<String> {
    dressed(StatusCode::NO_CONTENT, None, String::new(), correlation_id)
}

/// An answer in another form than JSON.
pub fn text(kind: &'static str, text: String, correlation_id: &str) -> Response<String> {
    dressed(StatusCode::OK, Some(kind), text, correlation_id)
}

/// A JSON answer.
pub fn json(status: StatusCode, body: &impl Serialize, correlation_id: &str) -> Response<String> {
    answer(status, "application/json", body, correlation_id)
}

fn answer(status: StatusCode, kind: &'static str, body: &impl Serialize, correlation_id: &str) -> Response<String> {
    let (status, text) = match serde_json::to_string(body) {
        Ok(text) => (status, text),
        Err(error) => {
            tracing::error!(error = %chain(&error), "an answer cannot be serialized");
            (StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned())
        }
    };
    dressed(status, Some(kind), text, correlation_id)
}

/// What every answer wears.
fn dressed(status: StatusCode, kind: Option<&'static str>, text: String, correlation_id: &str) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::try_from(correlation_id) {
        headers.insert(CORRELATION_ID, id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_correlation_id_is_kept_and_an_unusable_one_replaced() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([("x-correlation-id".parse().unwrap(), HeaderValue::from_static(value))])
        };
        assert_eq!(correlation_id(&with("abc-1")), "abc-1");
        assert_eq!(correlation_id(&with("a b")).len(), 16);
        assert_eq!(correlation_id(&HeaderMap::new()).len(), 16);
    }

    #[test]
    fn a_problem_names_every_fault() {
        let mut faults = Faults::from(Fault::at("/a", "x"));
        faults.append(Fault::at("/b", "y").into());
        let problem = Problem::invalid(faults);
        let body = problem.to_json("c");
        assert_eq!(body["status"], 422);
        assert_eq!(body["errors"][1]["pointer"], "/b");
        assert_eq!(body["detail"], "The request has 2 faults.");
        assert_eq!(problem.response("c").headers()["content-type"], "application/problem+json");
    }

    #[test]
    fn a_problem_lists_the_first_faults_and_counts_them_all() {
        let mut faults = Faults::default();
        (0..1234).for_each(|_| faults.add(|| Fault::at("/a", "x")));
        let body = Problem::invalid(faults.first(20)).to_json("c");
        assert_eq!(body["errors"].as_array().unwrap().len(), 20);
        assert_eq!(body["detail"], "The request has 1234 faults. The first 20 are listed.");
    }

    #[test]
    fn unavailable_says_when_to_come_back() {
        assert_eq!(Problem::unavailable("x").response("c").headers()["retry-after"], "2");
    }
}
