//! The body of a request to our API: one bounded JSON value.

use domain::json::well_formed;
use serde_json::value::RawValue;

use super::answer::Problem;

/// The largest request, in bytes. Lambda takes 6 MB, base64 and envelope included.
pub const MAX_REQUEST: usize = 4 * 1024 * 1024;

/// The body as one JSON value, unparsed.
///
/// # Errors
/// When it is too large, not UTF-8 or not JSON.
pub fn json(body: &[u8]) -> Result<&RawValue, Problem> {
    if body.len() > MAX_REQUEST {
        let detail = format!("The request has {} bytes; at most {MAX_REQUEST} are taken.", body.len());
        return Err(Problem::too_large(detail));
    }
    let text = std::str::from_utf8(body).map_err(|_| Problem::not_json("The body is not UTF-8."))?;
    well_formed(text).map_err(|error| Problem::not_json(format!("The body is not JSON: {error}.")))
}
