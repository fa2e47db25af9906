//! The trace that the attempts of a delivery belong to: a client's own, taken from its
//! `traceparent`, or one that its correlation id names (W3C Trace Context).
//!
//! <https://www.w3.org/TR/trace-context/#traceparent-header>

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::identity::hex;

/// The length of a `traceparent` of version 00, the shortest of any version.
const LENGTH: usize = 55;

/// A client's trace: its id and whether it is sampled, as `<trace id>-<flags>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trace(String);

impl Trace {
    /// The trace of a `traceparent`, if it is a valid one. Of a later version only what
    /// version 00 has is read (§3.2.4).
    pub fn of_traceparent(header: &str) -> Option<Self> {
        let (version, rest) = header.split_once('-')?;
        let is_sound = match version {
            "00" => header.len() == LENGTH,
            "ff" => false,
            _ => is_hex(version, 2) && (header.len() == LENGTH || header.as_bytes().get(LENGTH) == Some(&b'-')),
        };
        let mut parts = rest.split('-');
        let (id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let is_sound = is_sound && is_hex(id, 32) && is_hex(parent, 16) && is_hex(flags, 2);
        // An id of zeros is invalid (§3.2.2.3 and §3.2.2.4).
        let is_named = !is_zero(id) && !is_zero(parent);
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1;
        (is_sound && is_named).then(|| Self(format!("{id}-{sampled:02x}")))
    }

    /// The `traceparent` of one attempt in this trace. `span` is any random number.
    pub fn traceparent(&self, span: u64) -> String {
        let (id, flags) = self.0.split_once('-').unwrap_or_default();
        written(id, span, flags)
    }

    /// Whether it is what [`Trace::of_traceparent`] gives.
    pub fn is_sound(&self) -> bool {
        let (id, flags) = self.0.split_once('-').unwrap_or_default();
        is_hex(id, 32) && !is_zero(id) && matches!(flags, "00" | "01")
    }
}

/// The `traceparent` of one attempt whose client has no trace. Its trace id comes from the
/// correlation id, so that every attempt of every delivery under it lands in one trace.
pub fn traceparent(correlation_id: &str, span: u64) -> String {
    let trace = hex(&digest(&SHA256, correlation_id.as_bytes()).as_ref()[..16]);
    written(&trace, span, "01")
}

fn written(trace: &str, span: u64, flags: &str) -> String {
    // An all-zero span is invalid (§3.2.2.4).
    format!("00-{trace}-{:016x}-{flags}", span.max(1))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_traceparent_has_the_w3c_form() {
        let header = traceparent("c-1", 0);
        let parts: Vec<_> = header.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2]);
        assert!(header.ends_with("-0000000000000001-01"));
        assert_eq!(header[..36], traceparent("c-1", 7)[..36]);
    }

    #[test]
    fn a_clients_trace_is_carried_on_with_another_span() {
        for (flags, carried) in [("00", "00"), ("01", "01"), ("03", "01")] {
            let trace = Trace::of_traceparent(&format!("00-{ID}-b7ad6b7169203331-{flags}")).unwrap();
            assert!(trace.is_sound());
            assert_eq!(trace.traceparent(255), format!("00-{ID}-00000000000000ff-{carried}"));
        }
        let later = Trace::of_traceparent(&format!("cc-{ID}-b7ad6b7169203331-01-what-the-future-is")).unwrap();
        assert_eq!(later.traceparent(1), format!("00-{ID}-0000000000000001-01"));
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        let span = "b7ad6b7169203331";
        for header in [
            String::new(),
            "00".to_owned(),
            format!("00-{ID}-{span}"),
            format!("00-{ID}-{span}-01-x"),
            format!("ff-{ID}-{span}-01"),
            format!("00-{}-{span}-01", ID.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{ID}-{}-01", "0".repeat(16)),
            format!("00-{ID}-{span}-0g"),
            format!("cc-{ID}-{span}-01x"),
            format!("0é-{ID}-{span}-01"),
        ] {
            assert_eq!(Trace::of_traceparent(&header), None, "{header}");
        }
        assert!(!Trace("x".to_owned()).is_sound());
    }
}
