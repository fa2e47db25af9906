//! Standard Webhooks 1.0.0 signatures: `v1,` and HMAC-SHA256 over
//! `{id}.{timestamp}.{body}`, one for each active secret, newest first.

use std::fmt;

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const PREFIX: &str = "whsec_";

/// Why a signing secret cannot be used. It never shows the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No secret at all.
    #[error("no signing secret is given")]
    Missing,
    /// It lacks the prefix.
    #[error("a signing secret begins with `whsec_`")]
    Prefix,
    /// It is not strict, padded base64.
    #[error("after `whsec_` a signing secret is strict base64 with padding")]
    Base64,
    /// It has too few or too many bytes.
    #[error("a signing secret has 24 to 64 bytes, this one has {0}")]
    Length(usize),
}

/// The active signing secrets, newest first.
#[derive(Clone)]
pub struct Signer {
    keys: Vec<Key>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} secrets)", self.keys.len())
    }
}

impl Signer {
    /// Reads a space-separated list of `whsec_…` secrets, newest first.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(secrets: &str) -> Result<Self, SecretError> {
        let keys: Vec<_> = secrets.split_whitespace().map(key).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(SecretError::Missing) } else { Ok(Self { keys }) }
    }

    /// The value of `webhook-signature` for this attempt. `timestamp` is in whole
    /// seconds since the epoch and is the value of `webhook-timestamp`.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut header = String::with_capacity(self.keys.len() * 48);
        for key in &self.keys {
            let mut mac = Context::with_key(key);
            mac.update(id.as_bytes());
            mac.update(b".");
            mac.update(timestamp.to_string().as_bytes());
            mac.update(b".");
            mac.update(body);
            if !header.is_empty() {
                header.push(' ');
            }
            header.push_str("v1,");
            STANDARD.encode_string(mac.sign(), &mut header);
        }
        header
    }
}

fn key(secret: &str) -> Result<Key, SecretError> {
    let encoded = secret.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
    // The standard engine refuses missing padding and stray trailing bits, so a
    // typing error cannot become a short key.
    let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?;
    if !(24..=64).contains(&bytes.len()) {
        return Err(SecretError::Length(bytes.len()));
    }
    Ok(Key::new(HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_published_vector_holds() {
        let signer = Signer::parse(SECRET).unwrap();
        assert_eq!(
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn the_other_published_vector_holds() {
        // Its secret has 18 bytes, which is too weak to be accepted from anybody.
        assert_eq!(Signer::parse("whsec_plJ3nmyCDGBKInavdOK15jsl").unwrap_err(), SecretError::Length(18));
        let bytes = STANDARD.decode("plJ3nmyCDGBKInavdOK15jsl").unwrap();
        let signer = Signer { keys: vec![Key::new(HMAC_SHA256, &bytes)] };
        assert_eq!(
            signer.sign("msg_loFOjxBNrRLzqYUf", 1_731_705_121, br#"{"event_type":"ping","data":{"success":true}}"#),
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="
        );
    }

    #[test]
    fn rotation_signs_once_for_each_secret_newest_first() {
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let both = Signer::parse(&format!(" {other}  {SECRET} ")).unwrap().sign("a", 1, b"x");
        let alone = |secret| Signer::parse(secret).unwrap().sign("a", 1, b"x");
        assert_eq!(both, format!("{} {}", alone(other), alone(SECRET)));
    }

    #[test]
    fn weak_and_sloppy_secrets_are_refused_without_being_shown() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (secret, why) in [
            (String::new(), SecretError::Missing),
            ("  ".into(), SecretError::Missing),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(), SecretError::Prefix),
            ("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(), SecretError::Prefix),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS".into(), SecretError::Base64),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS*".into(), SecretError::Base64),
            (format!("{}=", of(24)), SecretError::Base64),
            (of(25).trim_end_matches('=').to_owned(), SecretError::Base64),
            (of(23), SecretError::Length(23)),
            (of(65), SecretError::Length(65)),
        ] {
            assert_eq!(Signer::parse(&secret).unwrap_err(), why);
        }
        for bytes in [24, 32, 64] {
            assert!(Signer::parse(&of(bytes)).is_ok());
        }
        assert_eq!(format!("{:?}", Signer::parse(SECRET).unwrap()), "Signer(1 secrets)");
    }
}
