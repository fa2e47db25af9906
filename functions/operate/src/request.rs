//! What the routes share: reading a request's parts.

use std::sync::LazyLock;

use adapters::http::answer::Problem;
use adapters::http::body;
use domain::destination::Destination;
use domain::fault::{Fault, listed};
use domain::identity::{is_record_id, is_webhook_id};
use domain::object::ObjectReader;
use domain::reason::Reason;
use domain::status::Status;
use lambda_http::Body;
use percent_encoding::percent_decode_str;
use strum::VariantNames as _;
use url::Url;

/// Entries in a page, unless the request says otherwise.
pub(crate) const PAGE: usize = 50;
/// Most entries in a page.
pub(crate) const MAX_PAGE: usize = 200;
/// What a status is, for a person.
pub(crate) static STATUSES: LazyLock<String> = LazyLock::new(|| format!("must be {}", listed(Status::VARIANTS)));
/// What a reason is, for a person.
pub(crate) static REASONS: LazyLock<String> = LazyLock::new(|| format!("must be {}", listed(Reason::VARIANTS)));
/// What a destination is, for a person.
pub(crate) const ORIGIN: &str = "must be an origin such as https://example.com";

/// An id from a path, if it can be one.
pub(crate) fn id(text: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(text).decode_utf8().unwrap_or_default();
    if is_webhook_id(&decoded) {
        Ok(decoded.into_owned())
    } else {
        Err(Problem::invalid(Fault::at("/id", "must be 1 to 128 letters, digits, '_', ':' or '-'")))
    }
}

/// The id of a dead letter from a path, if it can be one. Those of deliveries to endpoints
/// have dots, and those of events a tilde.
pub(crate) fn dead_letter_id(text: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(text).decode_utf8().unwrap_or_default();
    if is_record_id(&decoded) { Ok(decoded.into_owned()) } else { id(text) }
}

/// The destination that a text names, in its normal form.
pub(crate) fn origin(text: &str) -> Option<String> {
    http_url(text).map(|url| Destination::of(&url).as_str().to_owned())
}

/// The URL of a receiver.
pub(crate) fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// A request's body: an object that may have the fields `known`.
pub(crate) fn object<'a>(body: &'a Body, known: &[&str]) -> Result<ObjectReader<'a>, Problem> {
    let raw = body::json(body.as_ref())?;
    ObjectReader::open("", raw, known, "the request").map_err(Problem::invalid)
}

/// Reads the body of a request that says nothing: none, or an object without fields.
pub(crate) fn empty(body: &Body) -> Result<(), Problem> {
    if body.is_empty() {
        return Ok(());
    }
    let faults = object(body, &[])?.finish();
    if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
}
