//! Cutting confidential texts out of what is kept of a receiver's answer. A receiver may
//! send back what it was sent, for example in an error page, and write it in its own way.

use std::cmp::Reverse;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded::byte_serialize;

/// What stands in the place of a confidential text.
pub const REMOVED: &str = "[removed]";
/// The shortest part of a confidential text that is cut by itself.
const SHORTEST_PART: usize = 8;
/// The shortest beginning of a confidential text that is cut at the end of a text that does
/// not end by itself.
const SHORTEST_BEGINNING: usize = 4;

/// The most bytes of forms that are kept. A process keeps those of two thousand endpoints, and of a long header with quotes
/// there may be half a megabyte.
const MOST_KEPT: usize = 16 * 1024;

/// Cuts some confidential texts. Their forms are found once and not for each answer, unless they are large.
#[derive(Clone)]
pub enum Redactor {
    /// All forms, the longest first: of two that begin at one place, the longer one is cut.
    Forms(Vec<String>),
    /// Texts with so many forms that these are not kept.
    Texts(Vec<String>),
}

/// All forms of these texts, the longest first.
fn needles(confidential: &[String]) -> Vec<String> {
    let mut needles: Vec<String> = confidential.iter().flat_map(|secret| forms_of(secret)).collect();
    needles.sort_unstable_by(|a, b| Reverse(a.len()).cmp(&Reverse(b.len())).then_with(|| a.cmp(b)));
    needles.dedup();
    needles
}

impl Redactor {
    /// Cuts these texts: as they are, in their parts, and as JSON, URLs and HTML write them.
    pub fn of(confidential: &[String]) -> Self {
        let needles = needles(confidential);
        if needles.iter().map(String::len).sum::<usize>() > MOST_KEPT {
            Self::Texts(confidential.to_vec())
        } else {
            Self::Forms(needles)
        }
    }

    /// The text without them. If it is not `whole`, its end may hold the beginning of one, which
    /// is cut, too.
    pub fn redacted(&self, text: &str, whole: bool) -> String {
        let made;
        let needles = match self {
            Self::Forms(needles) => needles,
            Self::Texts(texts) => {
                made = needles(texts);
                &made
            }
        };
        let mut kept = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let found = needles.iter().find(|needle| rest.starts_with(needle.as_str()));
            let is_beginning = |needle: &String| rest.len() >= SHORTEST_BEGINNING && needle.starts_with(rest);
            let (end, piece) = match found {
                Some(needle) => (needle.len(), REMOVED),
                None if !whole && needles.iter().any(is_beginning) => (rest.len(), REMOVED),
                None => (c.len_utf8(), rest.get(..c.len_utf8()).unwrap_or_default()),
            };
            kept.push_str(piece);
            rest = rest.get(end..).unwrap_or_default();
        }
        kept
    }
}

/// None of the texts.
impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Forms(texts) | Self::Texts(texts)) = self;
        write!(f, "Redactor({} texts)", texts.len())
    }
}

/// Every form in which a text may come back.
fn forms_of(secret: &str) -> Vec<String> {
    let mut parts = vec![secret.to_owned()];
    let is_separator = |c: char| c.is_whitespace() || "_=;,:\"".contains(c);
    let words = secret.split(is_separator).filter(|part| part.len() >= SHORTEST_PART);
    parts.extend(words.map(str::to_owned));
    // `whsec_…` and `Basic …`, whatever is in the rest.
    for separator in ['_', ' '] {
        let rest = secret.split_once(separator).map(|(_, rest)| rest).filter(|rest| rest.len() >= SHORTEST_PART);
        parts.extend(rest.map(str::to_owned));
    }
    let credentials = secret.split_once(' ').and_then(|(_, encoded)| STANDARD.decode(encoded).ok());
    if let Some(credentials) = credentials.and_then(|bytes| String::from_utf8(bytes).ok()) {
        parts.extend(credentials.split_once(':').map(|(_, password)| password.to_owned()));
        parts.push(credentials);
    }
    let mut forms = Vec::with_capacity(parts.len() * 6);
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let json = serde_json::Value::from(part.as_str()).to_string();
        let json = json.get(1..json.len() - 1).unwrap_or_default().to_owned();
        let percent: String = byte_serialize(part.as_bytes()).collect();
        forms.push(json.replace('/', "\\/"));
        forms.push(json);
        forms.push(percent.replace('+', "%20"));
        forms.push(lower_hex(&percent));
        forms.push(percent);
        forms.push(html(part));
        forms.push(part.clone());
    }
    forms
}

/// The same with lower-case hexadecimal digits after each percent sign.
fn lower_hex(percent: &str) -> String {
    let mut digits = 0;
    let lower = |c: char| {
        digits = if c == '%' { 2 } else { i32::max(digits - 1, -1) };
        if c != '%' && digits >= 0 { c.to_ascii_lowercase() } else { c }
    };
    percent.chars().map(lower).collect()
}

fn html(text: &str) -> String {
    let escaped = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&#39;")];
    escaped.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &str, secrets: &[&str]) -> String {
        let secrets: Vec<String> = secrets.iter().map(|&secret| secret.to_owned()).collect();
        Redactor::of(&secrets).redacted(text, true)
    }

    #[test]
    fn whatever_a_receiver_sends_back_holds_no_secret() {
        let bearer = "Bearer abcdefgh-1";
        assert_eq!(cut("got Bearer abcdefgh-1!", &[bearer]), "got [removed]!");
        assert_eq!(cut("token=abcdefgh-1&x", &[bearer]), "token=[removed]&x");
        let secret = "whsec_MfKQ9r8GKYqrTwjU";
        assert_eq!(cut("key MfKQ9r8GKYqrTwjU, whsec_MfKQ9r8GKYqrTwjU", &[secret]), "key [removed], [removed]");
        assert_eq!(cut(r#"{"a":"x\"y"}"#, &["x\"y"]), r#"{"a":"[removed]"}"#);
        assert_eq!(cut("a shorter and a short", &["short", "shorter"]), "a [removed] and a [removed]");
        assert_eq!(cut("removed", &["e"]), "r[removed]mov[removed]d");
        assert_eq!(cut("nothing é", &[""]), "nothing é");
    }

    #[test]
    fn it_is_cut_however_it_is_written() {
        let secret = "ab/cd+ef==<'gh'>";
        for written in [
            r"ab\/cd+ef==<'gh'>",
            "ab%2Fcd%2Bef%3D%3D%3C%27gh%27%3E",
            "ab%2fcd%2bef%3d%3d%3c%27gh%27%3e",
            "ab/cd+ef==&lt;&#39;gh&#39;&gt;",
        ] {
            assert_eq!(cut(&format!("x {written} y"), &[secret]), "x [removed] y", "{written}");
        }
        // `Basic` has a user and a password in base64.
        assert_eq!(cut("user:pass-word, pass-word", &["Basic dXNlcjpwYXNzLXdvcmQ="]), "[removed], [removed]");
        assert_eq!(cut("a AAAAAAAA b BBBBBBBB", &["one=AAAAAAAA; two=BBBBBBBB"]), "a [removed] b [removed]");
    }

    #[test]
    fn long_secrets_are_cut_without_keeping_their_forms() {
        let long = format!("A _{}", "\"".repeat(4000));
        let redactor = Redactor::of(&[long.clone(), "Bearer abcdefgh-1".to_owned()]);
        assert!(matches!(&redactor, Redactor::Texts(texts) if texts.len() == 2));
        assert_eq!(redactor.redacted(&format!("x {long} abcdefgh-1"), true), "x [removed] [removed]");
        assert!(matches!(Redactor::of(&["Bearer abcdefgh-1".to_owned()]), Redactor::Forms(_)));
    }

    #[test]
    fn the_beginning_of_a_secret_at_the_end_of_a_part_is_cut() {
        let redactor = Redactor::of(&["Bearer abcdefgh-1".to_owned()]);
        for (text, kept) in [
            ("got Bearer abcd", "got [removed]"),
            ("got abcdefg", "got [removed]"),
            ("got Bea", "got Bea"),
            ("got Bearer abcdefgh-1", "got [removed]"),
            ("got Bearer!", "got Bearer!"),
        ] {
            assert_eq!(redactor.redacted(text, false), kept, "{text}");
        }
        assert_eq!(redactor.redacted("got Bearer abcd", true), "got Bearer abcd");
    }

    proptest! {
        #[test]
        fn no_secret_is_left(before in "[a-c]{0,9}", secret in "[a-c_ ]{3,12}", after in "[a-c]{0,9}") {
            let kept = cut(&format!("{before}{secret}{after}"), &[&secret]);
            let left = kept.replace(REMOVED, "|");
            prop_assert!(!left.contains(&secret));
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,60}", secret in "\\PC{0,20}", whole: bool) {
            Redactor::of(&[secret]).redacted(&text, whole);
        }
    }
}
