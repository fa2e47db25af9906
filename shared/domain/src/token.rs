//! Bearer tokens: who may do what until when, authenticated with the stack's master key
//! (HMAC-SHA256). What ends a token before its time is kept in the registry.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::scope::Scope;
use crate::seal::{MasterKeys, OpenError};
use crate::time::Millis;

/// The longest life of a token, in seconds: a year.
pub const MAX_TOKEN_S: u64 = 365 * 86_400;
/// The longest life of a session of the console, in seconds.
pub const MAX_SESSION_S: u64 = 12 * 3600;
/// How long a link to the console can be used, in seconds.
pub const LINK_S: u64 = 60;
/// The characters of a token's id after `tok_`.
pub const TOKEN_ID_RANDOM: usize = 22;
/// How a token begins, so that it is recognised wherever it turns up.
const PREFIX: &str = "sht_";
/// The longest text that is looked at.
const MAX_TEXT: usize = 1024;

/// Whether it is a token's id: `tok_` and 22 letters and digits.
pub fn is_token_id(text: &str) -> bool {
    let random = text.strip_prefix("tok_").unwrap_or_default();
    random.len() == TOKEN_ID_RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What a token says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its id: `tok_` and 22 letters and digits.
    pub id: String,
    /// What it may act on.
    pub scope: Scope,
    /// Whether it may only read.
    pub read_only: bool,
    /// All tokens of a scope with an older epoch have ended.
    pub epoch: u64,
    /// When it ends.
    pub expires_at: Millis,
}

/// A token with the id of the key that authenticates it.
#[derive(Serialize, Deserialize)]
struct Claims {
    key: String,
    #[serde(flatten)]
    token: Token,
}

/// Why a text is no token that is good now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is none of ours, or it was changed.
    #[error("it is no token of this stack, or it was changed")]
    Refused,
    /// Its master key is not among ours: it may be newer.
    #[error("it is authenticated with a master key that is not known here")]
    UnknownKey,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
}

impl Token {
    /// The token as its holder sends it.
    ///
    /// # Errors
    /// [`TokenError::Refused`] when it cannot be authenticated, which does not happen with keys
    /// that were parsed.
    pub fn to_text(&self, keys: &MasterKeys) -> Result<String, TokenError> {
        let claims = Claims { key: keys.newest().to_owned(), token: self.clone() };
        let json = serde_json::to_vec(&claims).map_err(|_| TokenError::Refused)?;
        let signed = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json));
        let tag = keys.authenticate(signed.as_bytes()).map_err(|_| TokenError::Refused)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// Reads what a caller sends.
    ///
    /// # Errors
    /// Why it is not good now. Whether it was ended before its time is not known here.
    pub fn read(keys: &MasterKeys, text: &str, now: Millis) -> Result<Self, TokenError> {
        if text.len() > MAX_TEXT {
            return Err(TokenError::Refused);
        }
        let (signed, tag) = text.split_once('.').ok_or(TokenError::Refused)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| TokenError::Refused)?;
        let json = signed.strip_prefix(PREFIX).and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
        let claims: Claims = json.and_then(|json| serde_json::from_slice(&json).ok()).ok_or(TokenError::Refused)?;
        keys.verify(&claims.key, signed.as_bytes(), &tag).map_err(|error| match error {
            OpenError::UnknownKey => TokenError::UnknownKey,
            OpenError::Refused => TokenError::Refused,
        })?;
        if claims.token.expires_at <= now { Err(TokenError::Expired) } else { Ok(claims.token) }
    }

    /// What a token says of itself, for its holder: nobody has authenticated it, so it decides nothing.
    pub fn unchecked(text: &str) -> Option<Self> {
        let (signed, _) = text.split_once('.').filter(|_| text.len() <= MAX_TEXT)?;
        let json = URL_SAFE_NO_PAD.decode(signed.strip_prefix(PREFIX)?).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn keys(bytes: &[u8]) -> MasterKeys {
        let texts: Vec<String> = bytes.iter().map(|byte| STANDARD.encode([*byte; 32])).collect();
        MasterKeys::parse(&texts.join(" ")).unwrap()
    }

    fn token() -> Token {
        Token {
            id: format!("tok_{}", "a".repeat(TOKEN_ID_RANDOM)),
            scope: Scope::Tenant("acme".into()),
            read_only: true,
            epoch: 3,
            expires_at: Millis(1000),
        }
    }

    #[test]
    fn a_token_is_good_until_its_end() {
        let text = token().to_text(&keys(&[1])).unwrap();
        assert!(text.starts_with("sht_") && text.len() < MAX_TEXT);
        assert_eq!(Token::read(&keys(&[1]), &text, Millis(999)), Ok(token()));
        assert_eq!(Token::read(&keys(&[2, 1]), &text, Millis(999)), Ok(token()), "after a change of the master key");
        assert_eq!(Token::read(&keys(&[1]), &text, Millis(1000)), Err(TokenError::Expired));
        assert_eq!(Token::read(&keys(&[2]), &text, Millis(0)), Err(TokenError::UnknownKey));
    }

    #[test]
    fn no_character_of_a_token_can_be_changed() {
        let text = token().to_text(&keys(&[1])).unwrap();
        for n in 0..text.len() {
            for other in ["A", "b", "_", ".", ""] {
                let mut changed = text.clone();
                changed.replace_range(n..=n, other);
                if changed != text {
                    assert!(Token::read(&keys(&[1]), &changed, Millis(0)).is_err(), "character {n}");
                }
            }
        }
        for broken in ["", ".", "sht_", "sht_.", "sht_e30.e30", &"x".repeat(5000), &format!("{text}.")] {
            assert_eq!(Token::read(&keys(&[1]), broken, Millis(0)), Err(TokenError::Refused), "{broken}");
        }
    }

    #[test]
    fn its_holder_can_read_it_without_the_key() {
        let text = token().to_text(&keys(&[1])).unwrap();
        assert_eq!(Token::unchecked(&text), Some(token()));
        for broken in ["", "sht_e30.e30", "sht_.x", &text[4..], &"x".repeat(5000)] {
            assert_eq!(Token::unchecked(broken), None, "{broken}");
        }
    }

    #[test]
    fn ids_have_a_grammar() {
        assert!(is_token_id(&token().id));
        for bad in ["", "tok_", "tok_a", "tok_aaaaaaaaaaaaaaaaaaaaa#"] {
            assert!(!is_token_id(bad), "{bad}");
        }
    }
}
