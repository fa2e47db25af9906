//! What a client asks for: tokens, links to the console and their sessions, read from JSON with
//! every fault named at once. A token makes tokens of its own scope or a narrower one, and none
//! that outlives it: a stolen session must not become a key.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::fault::Faults;
use crate::object::ObjectReader;
use crate::scope::{NoScope, Scope};
use crate::time::Millis;
use crate::token::{MAX_SESSION_S, MAX_TOKEN_S};

/// The longest description of a token, in characters.
pub const MAX_DESCRIPTION: usize = 128;
/// The longest code that is looked at.
const MAX_CODE: usize = 128;

/// The token of whoever asks for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maker {
    /// Its scope.
    pub scope: Scope,
    /// When it ends.
    pub expires_at: Millis,
}

/// What is asked for: a token, or a link to the console and its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// What it is to act on.
    pub scope: Scope,
    /// Whether it is only to read.
    pub read_only: bool,
    /// What it is for, in the words of whoever asks.
    pub description: String,
    /// When it is to end.
    pub expires_at: Millis,
}

/// Reads the request for a token. `maker` is the token of whoever asks, if it is one.
///
/// # Errors
/// Every fault.
pub fn token(raw: &RawValue, maker: Option<&Maker>, now: Millis) -> Result<TokenRequest, Faults> {
    let mut reader = ObjectReader::open("", raw, &["scope", "ttl_s", "read_only", "description"], "a token")?;
    let scope = scope(&mut reader, maker);
    reader.required("ttl_s");
    let ttl_s = reader.number("ttl_s", MAX_TOKEN_S);
    let fits = |text: &str| text.chars().count() <= MAX_DESCRIPTION && !text.chars().any(char::is_control);
    let description = reader.text_if("description", fits, "has at most 128 characters, in one line");
    finish(reader, scope, ttl_s, description.unwrap_or_default(), maker, now)
}

/// Reads the request for a link to the console. The session that it opens lasts as long as it
/// may, unless the request says otherwise.
///
/// # Errors
/// Every fault.
pub fn link(raw: &RawValue, maker: Option<&Maker>, now: Millis) -> Result<TokenRequest, Faults> {
    let mut reader = ObjectReader::open("", raw, &["scope", "ttl_s", "read_only"], "a link")?;
    let scope = scope(&mut reader, maker);
    let most = maker.map_or(MAX_SESSION_S, |maker| rest_s(maker, now).min(MAX_SESSION_S));
    let ttl_s = match reader.raw("ttl_s") {
        Some(_) => reader.number("ttl_s", MAX_SESSION_S),
        None => Some(most),
    };
    finish(reader, scope, ttl_s, String::new(), maker, now)
}

/// Reads the request to end all tokens of a scope.
///
/// # Errors
/// Every fault.
pub fn epoch(raw: &RawValue, maker: Option<&Maker>) -> Result<Scope, Faults> {
    let mut reader = ObjectReader::open("", raw, &["scope"], "the request")?;
    let scope = scope(&mut reader, maker);
    let faults = reader.finish();
    scope.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Reads the code of a link.
///
/// # Errors
/// Every fault.
pub fn code(raw: &RawValue) -> Result<String, Faults> {
    let mut reader = ObjectReader::open("", raw, &["code"], "the request")?;
    reader.required("code");
    let code = reader.text_if("code", |text| (1..=MAX_CODE).contains(&text.len()), "must be the code of a link");
    let faults = reader.finish();
    code.filter(|_| faults.is_empty()).ok_or(faults)
}

fn scope(reader: &mut ObjectReader<'_>, maker: Option<&Maker>) -> Option<Scope> {
    reader.required("scope");
    let text = reader.text("scope")?;
    match text.parse::<Scope>() {
        Ok(scope) if maker.is_none_or(|maker| maker.scope.covers(&scope)) => Some(scope),
        Ok(_) => {
            reader.fault("scope", "must be the scope of the token that asks, or a narrower one");
            None
        }
        Err(why @ NoScope) => {
            reader.fault("scope", why.to_string());
            None
        }
    }
}

/// How long the maker's token lasts, in whole seconds.
fn rest_s(maker: &Maker, now: Millis) -> u64 {
    now.until(maker.expires_at).as_secs()
}

fn finish(
    mut reader: ObjectReader<'_>,
    scope: Option<Scope>,
    ttl_s: Option<u64>,
    description: String,
    maker: Option<&Maker>,
    now: Millis,
) -> Result<TokenRequest, Faults> {
    let read_only = reader.flag("read_only");
    if let (Some(ttl_s), Some(maker)) = (ttl_s, maker)
        && ttl_s > rest_s(maker, now)
    {
        let rest = rest_s(maker, now);
        reader.fault("ttl_s", format!("must be at most {rest}: it must not outlive the token that asks"));
    }
    if ttl_s == Some(0) {
        reader.fault("ttl_s", "the token that asks ends within a second");
    }
    match (scope, ttl_s) {
        (Some(scope), Some(ttl_s)) if reader.is_sound() => {
            Ok(TokenRequest { scope, read_only, description, expires_at: now.after(Duration::from_secs(ttl_s)) })
        }
        _ => Err(reader.finish()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn pointers<T: std::fmt::Debug>(read: Result<T, Faults>) -> Vec<String> {
        read.unwrap_err().told().iter().map(|fault| fault.pointer.clone()).collect()
    }

    fn maker(scope: &str, rest_s: u64) -> Maker {
        Maker { scope: scope.parse().unwrap(), expires_at: Millis(NOW.0 + rest_s * 1000) }
    }

    #[test]
    fn whoever_has_no_token_makes_any() {
        let read = token(&raw(r#"{"scope":"operator","ttl_s":31536000,"description":"CI"}"#), None, NOW).unwrap();
        assert_eq!((read.scope, read.read_only, read.description.as_str()), (Scope::Operator, false, "CI"));
        assert_eq!(read.expires_at, Millis(NOW.0 + 31_536_000_000));
        let read = link(&raw(r#"{"scope":"tenant:acme","read_only":true}"#), None, NOW).unwrap();
        assert_eq!((read.read_only, read.expires_at), (true, Millis(NOW.0 + 43_200_000)));
    }

    #[test]
    fn every_fault_is_told() {
        let bad = r#"{"scope":"tenant:","ttl_s":31536001,"read_only":1,"description":"a\nb","x":1}"#;
        let wanted = ["/x", "/scope", "/ttl_s", "/description", "/read_only"];
        assert_eq!(pointers(token(&raw(bad), None, NOW)), wanted);
        assert_eq!(pointers(token(&raw("{}"), None, NOW)), ["/scope", "/ttl_s"]);
        assert_eq!(pointers(link(&raw(r#"{"scope":"operator","ttl_s":43201}"#), None, NOW)), ["/ttl_s"]);
        assert_eq!(pointers(epoch(&raw("{}"), None)), ["/scope"]);
        assert_eq!(pointers(code(&raw(r#"{"code":""}"#))), ["/code"]);
    }

    #[test]
    fn a_token_makes_none_that_is_wider_or_lasts_longer() {
        let acme = maker("tenant:acme", 600);
        let of = |scope: &str, ttl_s: u64| raw(&format!(r#"{{"scope":"{scope}","ttl_s":{ttl_s}}}"#));
        assert!(token(&of("tenant:acme", 600), Some(&acme), NOW).is_ok());
        for wider in ["operator", "tenant:other"] {
            assert_eq!(pointers(token(&of(wider, 601), Some(&acme), NOW)), ["/scope", "/ttl_s"], "{wider}");
            assert_eq!(pointers(link(&of(wider, 600), Some(&acme), NOW)), ["/scope"], "{wider}");
            assert_eq!(pointers(epoch(&raw(&format!(r#"{{"scope":"{wider}"}}"#)), Some(&acme))), ["/scope"]);
        }
        let made = link(&raw(r#"{"scope":"tenant:acme"}"#), Some(&acme), NOW).unwrap();
        assert_eq!(made.expires_at, acme.expires_at, "a session without a ttl ends with the token that asked");
        assert!(token(&of("tenant:other", 600), Some(&maker("operator", 600)), NOW).is_ok());
        assert!(token(&of("tenant:acme", 1), Some(&maker("tenant:acme", 0)), NOW).is_err());
        let ending = maker("tenant:acme", 0);
        assert_eq!(pointers(link(&raw(r#"{"scope":"tenant:acme"}"#), Some(&ending), NOW)), ["/ttl_s"]);
    }
}
