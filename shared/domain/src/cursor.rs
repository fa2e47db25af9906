//! Opaque cursors of lists that are ordered by a name. A cursor is bound to the list and the
//! query that it was made for, so that it does not lead into another one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::identity::sha256_hex;

/// The characters of a scope's hash in a cursor.
const SCOPE: usize = 16;

/// The cursor after `name`, in the list and query that `scope` says.
pub fn after(scope: &[&str], name: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}{name}", hash(scope)))
}

/// The name that a cursor of this scope goes on after; `None` for any other cursor.
pub fn read(scope: &[&str], cursor: &str) -> Option<String> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    text.strip_prefix(&hash(scope)).map(str::to_owned)
}

/// Every part with its length, so that none can pass into the next.
fn hash(scope: &[&str]) -> String {
    let parts: String = scope.iter().map(|part| format!("{}:{part}", part.len())).collect();
    sha256_hex(parts.as_bytes()).chars().take(SCOPE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_on_in_its_own_list_only() {
        let cursor = after(&["endpoints", "acme"], "ep_1");
        assert_eq!(read(&["endpoints", "acme"], &cursor).as_deref(), Some("ep_1"));
        for other in [&["endpoints", "acme2"][..], &["tenants", "acme"], &["endpoints"], &["endpointsacme"], &[]] {
            assert_eq!(read(other, &cursor), None, "{other:?}");
        }
        for broken in ["", "x", "%00", &cursor[1..], "_____"] {
            assert_eq!(read(&["endpoints", "acme"], broken), None, "{broken}");
        }
        assert!(!cursor.contains("acme"));
    }
}
