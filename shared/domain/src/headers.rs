//! Which headers a client may add to its webhooks.

use std::borrow::Cow;

use crate::fault::{Fault, pointer_token, refused_by_sqs};

/// Most headers a client may add.
pub const MAX_HEADERS: usize = 20;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 128;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 4096;
/// Most bytes of all names and values together: a dead letter has to hold them.
pub const MAX_TOTAL: usize = 16 * 1024;

/// Names that belong to the connection, to the message's framing, to caches, or to us.
const FORBIDDEN: &[&str] = &[
    "accept-encoding",
    "age",
    "cache-control",
    "clear-site-data",
    "connection",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "keep-alive",
    "pragma",
    "te",
    "trailer",
    "trailers",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "warning",
    "x-correlation-id",
];

/// The same, by how they begin.
const FORBIDDEN_PREFIXES: &[&str] = &[
    "content-",
    "proxy-",
    "sec-",
    "svix-",
    "webhook-",
    "x-amz-",
    "x-amzn-",
    "x-azure-",
    "x-fd-",
    "x-forwarded-",
    "x-gfe",
    "x-goog-",
    "x-google",
    "x-steadhook-",
    "x-svix-",
];

/// Judges one header of a client and gives its name in lower case. Faults point
/// to `/headers/<name>` below `base`.
///
/// # Errors
/// The header's fault.
pub fn vet(base: &str, name: &str, value: &str) -> Result<String, Fault> {
    let fault = |message: &str| Err(Fault::at(format!("{base}/headers/{}", pointer_token(name)), message));
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_token) {
        return fault("a header name is 1 to 128 characters of an HTTP token");
    }
    let folded = folded(&lower);
    if FORBIDDEN.contains(&&*folded) || FORBIDDEN_PREFIXES.iter().any(|prefix| folded.starts_with(prefix)) {
        return fault("this header cannot be set by a client");
    }
    if value.len() > MAX_VALUE {
        return fault("a header value has at most 4096 bytes");
    }
    // Line breaks would inject headers; other controls and non-ASCII are read
    // differently by different receivers (RFC 9110 §5.5).
    if !value.bytes().all(|b| b == b'\t' || (0x20..0x7f).contains(&b)) || refused_by_sqs(value).is_some() {
        return fault("a header value is visible ASCII, spaces and tabs");
    }
    if value.trim() != value {
        return fault("a header value does not begin or end with white space");
    }
    Ok(lower)
}

/// The name as a receiver may read it. CGI and its heirs (WSGI, Rack, PHP) turn a name
/// into a variable in which a hyphen and an underscore are one character, and some
/// servers do so with every other punctuation: `webhook_id` would be read as `webhook-id`.
fn folded(lower: &str) -> Cow<'_, str> {
    if lower.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Cow::Borrowed(lower);
    }
    Cow::Owned(lower.replace(|c: char| !c.is_ascii_alphanumeric(), "-"))
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_headers_pass_in_lower_case() {
        assert_eq!(vet("", "X-Tenant", "a b").unwrap(), "x-tenant");
        assert_eq!(vet("", "Authorization", "Bearer x").unwrap(), "authorization");
    }

    #[test]
    fn ours_and_the_connections_cannot_be_set_in_any_case() {
        for name in [
            "Host",
            "WEBHOOK-signature",
            "webhook-id",
            "Content-Length",
            "content-type",
            "Transfer-Encoding",
            "connection",
            "User-Agent",
            "x-correlation-id",
            "traceparent",
            "Proxy-Authorization",
            "x-amz-date",
        ] {
            assert!(vet("", name, "x").is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_that_a_receiver_may_fold_into_a_forbidden_one_cannot_be_set() {
        for name in [
            "webhook_signature",
            "Webhook_Id",
            "webhook-signature_",
            "content_length",
            "content_type",
            "transfer_encoding",
            "user_agent",
            "x_forwarded_for",
            "x_correlation-id",
            "webhook.signature",
            "webhook!id",
        ] {
            assert!(vet("", name, "x").is_err(), "{name}");
        }
        for name in ["x_tenant", "x.tenant", "web_hook", "contents", "x_y-z"] {
            assert_eq!(vet("", name, "x").unwrap(), name);
        }
    }

    #[test]
    fn nothing_can_be_injected() {
        for (name, value) in [
            ("x", "a\r\nb: c"),
            ("x", "a\nb"),
            ("x", "a\0"),
            ("x", "é"),
            ("x", " a"),
            ("x y", "a"),
            ("x:", "a"),
            ("", "a"),
            ("x\r\ny", "a"),
            ("é", "a"),
        ] {
            assert!(vet("", name, value).is_err(), "{name:?} {value:?}");
        }
        assert!(vet("", "x", &"a".repeat(4096)).is_ok());
        assert!(vet("", "x", &"a".repeat(4097)).is_err());
        assert!(vet("", &"x".repeat(129), "a").is_err());
    }

    #[test]
    fn the_fault_points_at_the_header() {
        assert_eq!(vet("/webhooks/3", "a/b", "x").unwrap_err().pointer, "/webhooks/3/headers/a~1b");
    }

    proptest! {
        #[test]
        fn what_passes_has_no_control_characters(name in "[A-Za-z-]{1,12}|[ -~]{0,6}|\\PC{0,6}", value in "[ -~]{0,20}|(?s).{0,20}") {
            if let Ok(lower) = vet("", &name, &value) {
                prop_assert!(lower.bytes().all(|b| b.is_ascii_graphic() && b != b':'));
                prop_assert!(value.bytes().all(|b| b == b'\t' || (0x20..0x7f).contains(&b)));
            }
        }
    }
}
