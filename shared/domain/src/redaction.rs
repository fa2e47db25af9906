//! Cutting confidential texts out of what is kept of a receiver's answer. A receiver may
//! send back what it was sent, for example in an error page.

/// What stands in the place of a confidential text.
pub const REMOVED: &str = "[removed]";
/// The shortest part of a confidential text that is cut by itself.
const SHORTEST_PART: usize = 8;

/// The text without the confidential ones: as they are, as JSON escapes them, and without
/// the word before them (`Bearer …`, `whsec_…`).
pub fn redacted(text: &str, confidential: &[String]) -> String {
    let mut needles: Vec<String> = confidential.iter().flat_map(|secret| parts(secret)).collect();
    // Of two that begin at one place, the longer one is cut.
    needles.sort_unstable_by_key(|needle| std::cmp::Reverse(needle.len()));
    needles.dedup();
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (end, piece) = match needles.iter().find(|needle| rest.starts_with(needle.as_str())) {
            Some(needle) => (needle.len(), REMOVED),
            None => (c.len_utf8(), rest.get(..c.len_utf8()).unwrap_or_default()),
        };
        kept.push_str(piece);
        rest = rest.get(end..).unwrap_or_default();
    }
    kept
}

fn parts(secret: &str) -> Vec<String> {
    let mut parts = vec![secret.to_owned()];
    let words = secret.split([' ', '\t', '_']).filter(|part| part.len() >= SHORTEST_PART);
    parts.extend(words.map(str::to_owned));
    parts.extend(secret.split_once('_').map(|(_, rest)| rest.to_owned()).filter(|part| part.len() >= SHORTEST_PART));
    let escaped = serde_json::Value::from(secret).to_string();
    parts.push(escaped.trim_matches('"').to_owned());
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &str, secrets: &[&str]) -> String {
        redacted(text, &secrets.iter().map(|&secret| secret.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn whatever_a_receiver_sends_back_holds_no_secret() {
        let bearer = "Bearer abcdefgh-1";
        assert_eq!(cut("got Bearer abcdefgh-1!", &[bearer]), "got [removed]!");
        assert_eq!(cut("token=abcdefgh-1&x", &[bearer]), "token=[removed]&x");
        assert_eq!(
            cut("key MfKQ9r8GKYqrTwjU, whsec_MfKQ9r8GKYqrTwjU", &["whsec_MfKQ9r8GKYqrTwjU"]),
            "key [removed], [removed]"
        );
        assert_eq!(cut(r#"{"a":"x\"y"}"#, &["x\"y"]), r#"{"a":"[removed]"}"#);
        assert_eq!(cut("a shorter and a short", &["short", "shorter"]), "a [removed] and a [removed]");
        assert_eq!(cut("removed", &["e"]), "r[removed]mov[removed]d");
        assert_eq!(cut("nothing é", &[""]), "nothing é");
    }

    proptest! {
        #[test]
        fn no_secret_is_left(before in "[a-c]{0,9}", secret in "[a-c_ ]{3,12}", after in "[a-c]{0,9}") {
            let kept = cut(&format!("{before}{secret}{after}"), &[&secret]);
            let left = kept.replace(REMOVED, "|");
            prop_assert!(!left.contains(&secret));
        }
    }
}
