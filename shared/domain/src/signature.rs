//! Standard Webhooks 1.0.0 signatures over `{id}.{timestamp}.{body}`, one for each active
//! secret, newest first: `v1,` and HMAC-SHA256 with a `whsec_` secret, `v1a,` and Ed25519
//! with a `whsk_` secret.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac::{self, Context, HMAC_SHA256, Key};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How a shared secret begins.
const SHARED: &str = "whsec_";
/// How a private key begins.
const PRIVATE: &str = "whsk_";
/// How a public key begins.
const PUBLIC: &str = "whpk_";
/// The bytes of an Ed25519 seed, which is the private key (RFC 8032 §5.1.5).
pub const SEED: usize = 32;

/// Why a signing secret cannot be used. It never shows the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No secret at all.
    #[error("no signing secret is given")]
    Missing,
    /// It lacks the prefix.
    #[error("a signing secret begins with `whsec_` or `whsk_`")]
    Prefix,
    /// It is not strict, padded base64.
    #[error("after its prefix a signing secret is strict base64 with padding")]
    Base64,
    /// It has too few or too many bytes.
    #[error("a signing secret has 24 to 64 bytes, this one has {0}")]
    Length(usize),
    /// It is not an Ed25519 key.
    #[error("a `whsk_` secret is an Ed25519 seed of 32 bytes, or seed and public key with 64 bytes")]
    Ed25519,
}

/// One signing secret.
#[derive(Clone)]
pub enum SigningSecret {
    /// `whsec_`: the receiver has it, too.
    Shared(Arc<Key>),
    /// `whsk_`: the receiver has the public key.
    Private(Arc<Ed25519KeyPair>),
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared(_) => "SigningSecret(shared)",
            Self::Private(_) => "SigningSecret(private)",
        })
    }
}

impl SigningSecret {
    /// Reads `whsec_…` or `whsk_…`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        // The standard engine refuses missing padding and stray trailing bits, so a
        // typing error cannot become a short key.
        let bytes = |encoded: &str| STANDARD.decode(encoded).map_err(|_| SecretError::Base64);
        if let Some(encoded) = text.strip_prefix(SHARED) {
            let bytes = bytes(encoded)?;
            return match bytes.len() {
                24..=64 => Ok(Self::Shared(Arc::new(Key::new(HMAC_SHA256, &bytes)))),
                length => Err(SecretError::Length(length)),
            };
        }
        let bytes = bytes(text.strip_prefix(PRIVATE).ok_or(SecretError::Prefix)?)?;
        let pair = match bytes.split_at_checked(SEED) {
            Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
            Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            None => return Err(SecretError::Ed25519),
        };
        pair.map(|pair| Self::Private(Arc::new(pair))).map_err(|_| SecretError::Ed25519)
    }

    /// The `whpk_…` that a receiver checks signatures with, if it differs from the secret.
    pub fn public_key(&self) -> Option<String> {
        match self {
            Self::Shared(_) => None,
            Self::Private(pair) => Some(format!("{PUBLIC}{}", STANDARD.encode(pair.public_key()))),
        }
    }

    /// Adds its signature to a value of `webhook-signature`.
    fn sign(&self, parts: [&[u8]; 2], header: &mut String) {
        match self {
            Self::Shared(key) => {
                let mut mac = Context::with_key(key);
                parts.iter().for_each(|part| mac.update(part));
                header.push_str("v1,");
                STANDARD.encode_string(mac.sign(), header);
            }
            Self::Private(pair) => {
                header.push_str("v1a,");
                STANDARD.encode_string(pair.sign(&parts.concat()), header);
            }
        }
    }
}

/// A new `whsec_` secret of these random bytes.
pub fn shared_secret(random: &[u8; 32]) -> String {
    format!("{SHARED}{}", STANDARD.encode(random))
}

/// The active signing secrets, newest first.
#[derive(Clone)]
pub struct Signer {
    secrets: Vec<SigningSecret>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} secrets)", self.secrets.len())
    }
}

impl Signer {
    /// A signer with these secrets, newest first.
    pub fn new(secrets: Vec<SigningSecret>) -> Self {
        Self { secrets }
    }

    /// Reads a space-separated list of secrets, newest first.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(secrets: &str) -> Result<Self, SecretError> {
        let secrets: Vec<_> = secrets.split_whitespace().map(SigningSecret::parse).collect::<Result<_, _>>()?;
        if secrets.is_empty() { Err(SecretError::Missing) } else { Ok(Self { secrets }) }
    }

    /// The value of `webhook-signature` for this attempt. `timestamp` is in whole
    /// seconds since the epoch and is the value of `webhook-timestamp`.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp}.");
        let parts = [head.as_bytes(), body];
        let mut header = String::with_capacity(self.secrets.len() * 48);
        for secret in &self.secrets {
            if !header.is_empty() {
                header.push(' ');
            }
            secret.sign(parts, &mut header);
        }
        header
    }
}

/// What a receiver checks signatures with: the secret that both have, or a public key.
pub enum Verifier {
    /// `whsec_`.
    Shared(Arc<Key>),
    /// `whpk_`.
    Public(Vec<u8>),
}

impl Verifier {
    /// Reads `whsec_…`, `whpk_…`, or `whsk_…` for the public key that belongs to it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if let Some(encoded) = text.strip_prefix(PUBLIC) {
            let key = STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?;
            return if key.len() == SEED { Ok(Self::Public(key)) } else { Err(SecretError::Ed25519) };
        }
        SigningSecret::parse(text).map(|secret| match secret {
            SigningSecret::Shared(key) => Self::Shared(key),
            SigningSecret::Private(pair) => Self::Public(pair.public_key().as_ref().to_vec()),
        })
    }

    /// Whether one of the signatures in `webhook-signature` is right. How old the timestamp is, the caller decides.
    pub fn verify(&self, id: &str, timestamp: &str, body: &[u8], header: &str) -> bool {
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        header.split_ascii_whitespace().any(|signature| match (self, signature.split_once(',')) {
            (Self::Shared(key), Some(("v1", tag))) => {
                STANDARD.decode(tag).is_ok_and(|tag| hmac::verify(key, &signed, &tag).is_ok())
            }
            (Self::Public(key), Some(("v1a", tag))) => STANDARD
                .decode(tag)
                .is_ok_and(|tag| UnparsedPublicKey::new(&ED25519, key).verify(&signed, &tag).is_ok()),
            (Self::Shared(_) | Self::Public(_), _) => false,
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared(_) => "Verifier(shared)",
            Self::Public(_) => "Verifier(public)",
        })
    }
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
        let signer = Signer::new(vec![SigningSecret::Shared(Arc::new(Key::new(HMAC_SHA256, &bytes)))]);
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

    // Test 1 of RFC 8032 §7.1.
    const SEED_1: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    const PUBLIC_1: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    #[test]
    fn a_private_key_is_a_seed_with_or_without_its_public_key() {
        let alone = SigningSecret::parse(&format!("whsk_{SEED_1}")).unwrap();
        assert_eq!(alone.public_key(), Some(format!("whpk_{PUBLIC_1}")));
        let both = [SEED_1, PUBLIC_1].map(|part| STANDARD.decode(part).unwrap()).concat();
        let pair = SigningSecret::parse(&format!("whsk_{}", STANDARD.encode(&both))).unwrap();
        assert_eq!(pair.public_key(), alone.public_key());
        for wrong in [&both[..31], &both[..63], &[both.clone(), vec![0]].concat(), &[&both[..32], &[7; 32]].concat()] {
            let secret = format!("whsk_{}", STANDARD.encode(wrong));
            assert_eq!(SigningSecret::parse(&secret).unwrap_err(), SecretError::Ed25519);
        }
        assert_eq!(SigningSecret::parse(SECRET).unwrap().public_key(), None);
    }

    #[test]
    fn a_signature_is_checked_with_the_secret_or_the_public_key() {
        let header = Signer::parse(&format!("whsk_{SEED_1} {SECRET}")).unwrap().sign("msg_1", 7, b"{}");
        assert!(header.starts_with("v1a,") && header.contains(" v1,"));
        for good in [SECRET.to_owned(), format!("whpk_{PUBLIC_1}"), format!("whsk_{SEED_1}")] {
            let verifier = Verifier::parse(&good).unwrap();
            assert!(verifier.verify("msg_1", "7", b"{}", &header), "{verifier:?}");
            for (id, timestamp, body, header) in [
                ("msg_2", "7", "{}", &*header),
                ("msg_1", "8", "{}", &header),
                ("msg_1", "7", "{ }", &header),
                ("msg_1", "7", "{}", &header.replace("v1", "v2")),
                ("msg_1", "7", "{}", &header.replace("v1a,", "v3,").replace("v1,", "v1a,").replace("v3,", "v1,")),
                ("msg_1", "7", "{}", ""),
                ("msg_1", "7", "{}", "v1 v1, v1a,* ,"),
            ] {
                assert!(!verifier.verify(id, timestamp, body.as_bytes(), header), "{verifier:?} {header}");
            }
        }
        let others = ["whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), format!("whpk_{SEED_1}")];
        assert!(others.iter().all(|other| !Verifier::parse(other).unwrap().verify("msg_1", "7", b"{}", &header)));
        for (bad, why) in
            [("whpk_AAAA", SecretError::Ed25519), ("whpk_*", SecretError::Base64), ("x", SecretError::Prefix)]
        {
            assert_eq!(Verifier::parse(bad).unwrap_err(), why);
        }
    }

    #[test]
    fn a_made_secret_can_be_used() {
        assert!(SigningSecret::parse(&shared_secret(&[7; 32])).is_ok());
    }
}
