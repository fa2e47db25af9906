//! `If-Match` (RFC 9110 §13.1.1): a change is only made to the version that its client saw.

use adapters::http::answer::Problem;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::IF_MATCH;

/// What a client wants the endpoint's version to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Any version will do.
    Any,
    /// One of these entity tags.
    OneOf(Vec<String>),
}

/// The entity tag of a version.
pub(crate) fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

impl Precondition {
    /// Reads it from a request's headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(IF_MATCH).iter().map(|line| line.to_str().unwrap_or_default());
        let tags: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        if tags.is_empty() || tags.contains(&"*") {
            return Self::Any;
        }
        // A weak tag is none of ours, and so never matches.
        Self::OneOf(tags.into_iter().map(str::to_owned).collect())
    }

    /// Whether a change may be made to this version.
    pub(crate) fn check(&self, version: u64) -> Result<(), Problem> {
        match self {
            Self::OneOf(tags) if !tags.contains(&etag(version)) => Err(Problem::precondition_failed(
                "The endpoint has another version than If-Match names. Read it again.",
            )),
            Self::Any | Self::OneOf(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambda_http::http::HeaderValue;

    #[test]
    fn only_a_strong_tag_of_this_version_matches() {
        let allows = |lines: &[&'static str], version| {
            let headers = lines.iter().map(|line| (IF_MATCH, HeaderValue::from_static(line)));
            Precondition::of(&headers.collect()).check(version).is_ok()
        };
        for lines in [&[][..], &["*"], &["\"7\""], &["\"1\", \"7\""], &["\"1\"", "\"7\""], &[" \"7\" "]] {
            assert!(allows(lines, 7), "{lines:?}");
        }
        for lines in [&["\"8\""][..], &["7"], &["W/\"7\""], &[""], &["\"77\""], &["\"1\",\"8\""]] {
            assert!(!allows(lines, 7), "{lines:?}");
        }
    }
}
