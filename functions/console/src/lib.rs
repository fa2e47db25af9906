//! `GET /console/app`: the console, a single page app that is part of the binary. It holds no data:
//! the page asks the API below `/api` with the token of whoever looks at it.

pub mod config;

mod files;

use adapters::http::answer::{self, Problem};
use lambda_http::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, LOCATION, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use lambda_http::http::{HeaderMap, Response, StatusCode};
use lambda_http::{Body, Request};

use crate::config::Config;
use crate::files::{FOLDER, File, PAGE};

/// Where the app is.
const BASE: &str = "/console";
/// A route of another function.
const SESSIONS: &str = "/console/sessions";

/// The handler.
#[derive(Clone, Debug)]
pub struct Console {
    policy: HeaderValue,
}

impl Console {
    /// A handler with these settings.
    pub fn new(config: &Config) -> Self {
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors {}",
            config.frame_ancestors
        );
        // Without a policy that can be sent, nothing runs, and nobody may show it in a frame.
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        let policy = HeaderValue::try_from(policy).unwrap_or(nothing);
        Self { policy }
    }

    /// Answers one request.
    pub fn handle(&self, request: &Request) -> Response<Body> {
        let mut response = found(request.uri().path(), request.headers());
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        headers.insert(
            HeaderName::from_static("permissions-policy"),
            HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        );
        response
    }
}

fn found(path: &str, headers: &HeaderMap) -> Response<Body> {
    if path == BASE {
        // The page names its files relative to itself.
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(LOCATION, HeaderValue::from_static("console/app"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        return response;
    }
    if path == SESSIONS {
        // The route of all files takes what is not posted there.
        let problem = Problem::method_not_allowed("POST").response(&answer::correlation_id(headers));
        return problem.map(Body::from);
    }
    match path.strip_prefix(BASE).and_then(|rest| rest.strip_prefix('/')).and_then(files::find) {
        Some(file) => served(file, headers),
        None => missing(),
    }
}

fn served(file: &File, asked: &HeaderMap) -> Response<Body> {
    let is_page = file.name == PAGE;
    let tag = tag();
    let is_known = asked.get_all(IF_NONE_MATCH).iter().any(|known| known == tag);
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    // The page names the folder of its version. What is in that folder never changes.
    let keep = if is_page { "no-cache" } else { "public, max-age=31536000, immutable" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(ETAG, tag);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(files::kind(file.name)));
    let bytes = if takes_gzip(asked) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        file.packed
    } else {
        file.plain
    };
    *response.body_mut() = Body::Binary(bytes.to_vec());
    response
}

/// The tag of this version, of which every file is a part. It is weak, because it is the same for
/// both forms of a file.
fn tag() -> HeaderValue {
    HeaderValue::try_from(format!("W/\"{FOLDER}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

fn missing() -> Response<Body> {
    let mut response = Response::new(Body::from("There is no such file. The console is at /console/app."));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether the client takes gzip (RFC 9110 §12.5.3). One that gives it no weight does not.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let given = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        matches!(name.trim().to_ascii_lowercase().as_str(), "gzip" | "*") && weight.is_some_and(|weight| weight > 0.0)
    })
}

/// The name of the folder that the files of this version are in.
pub fn folder() -> &'static str {
    FOLDER
}

/// What a browser loads to show the page: the names of all files but texts about them, and
/// their compressed sizes in bytes.
pub fn sizes() -> impl Iterator<Item = (&'static str, usize)> {
    let shown = files::FILES.iter().filter(|file| !files::kind(file.name).starts_with("text/plain"));
    shown.map(|file| (file.name, file.packed.len()))
}
