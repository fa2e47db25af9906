//! What the stack's master keys are for: secrets at rest, and what shows that a text was made
//! here. Secrets are sealed with AES-256-GCM under keys that HKDF-SHA256 derives. The associated
//! data names the place of a ciphertext, so that it opens there and nowhere else.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::identity::hex;
use crate::time::Millis;

/// The bytes of a master key.
pub const MASTER_KEY: usize = 32;
/// The random bytes of one sealing.
pub const NONCE: usize = NONCE_LEN;
/// Most master keys at a time.
const MAX_KEYS: usize = 16;
/// What every derivation of this stack says first (RFC 5869 §3.1).
const SALT: &[u8] = b"steadhook";

/// Why master keys cannot be used. It never shows a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// No key, or too many.
    #[error("there are 1 to 16 master keys, separated by spaces, the newest first")]
    Count,
    /// One is not a key.
    #[error("a master key is 32 random bytes in base64 with padding")]
    Key,
    /// One stands twice.
    #[error("a master key stands twice")]
    Twice,
}

/// Why a sealed value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its master key is not among ours: it may be newer.
    #[error("it is sealed with a master key that is not known here")]
    UnknownKey,
    /// It was changed, or belongs to another place.
    #[error("it was changed, or it belongs to another place")]
    Refused,
}

/// A sealed value, as tables and queues hold it: `<key id>.<base64 of nonce and ciphertext>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// The id of its master key.
    pub fn key_id(&self) -> &str {
        self.0.split_once('.').map_or("", |(id, _)| id)
    }
}

/// The place of a sealed value. Every part of it is authenticated.
#[derive(Clone, Copy, Debug)]
pub struct SealedPlace<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The endpoint's id.
    pub endpoint: &'a str,
    /// What it is for: `secret` or `header`.
    pub purpose: &'a str,
    /// Its name there: a secret's id, or a header's name.
    pub name: &'a str,
    /// When it ends, if it does.
    pub expires_at: Option<Millis>,
}

impl SealedPlace<'_> {
    /// The associated data: every part with its length.
    fn to_bytes(self, key_id: &str) -> Vec<u8> {
        let expiry = self.expires_at.map(|at| at.0.to_string()).unwrap_or_default();
        let mut bytes = Vec::new();
        for part in [self.tenant, self.endpoint, self.purpose, self.name, &expiry, key_id] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// One master key.
#[derive(Clone)]
struct MasterKey {
    id: String,
    bytes: [u8; MASTER_KEY],
}

impl MasterKey {
    fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| MasterKeyError::Key)?;
        let bytes: [u8; MASTER_KEY] = bytes.try_into().map_err(|_| MasterKeyError::Key)?;
        let named = derived(&bytes, b"id").ok_or(MasterKeyError::Key)?;
        let id = hex(&digest(&SHA256, &named).as_ref()[..4]);
        Ok(Self { id, bytes })
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        let key = derived(&self.bytes, b"seal")?;
        UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new)
    }

    fn authenticator(&self) -> Option<hmac::Key> {
        Some(hmac::Key::new(hmac::HMAC_SHA256, &derived(&self.bytes, b"token")?))
    }
}

/// A key for one purpose.
fn derived(master: &[u8], purpose: &[u8]) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let info = [purpose];
    let pseudorandom = Salt::new(HKDF_SHA256, SALT).extract(master);
    pseudorandom.expand(&info, HKDF_SHA256).and_then(|okm| okm.fill(&mut key)).ok()?;
    Some(key)
}

/// The stack's master keys, newest first.
#[derive(Clone)]
pub struct MasterKeys {
    keys: Vec<MasterKey>,
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeys({} keys)", self.keys.len())
    }
}

impl MasterKeys {
    /// Reads a space-separated list of keys, newest first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let keys: Vec<_> = text.split_whitespace().map(MasterKey::parse).collect::<Result<_, _>>()?;
        if !(1..=MAX_KEYS).contains(&keys.len()) {
            return Err(MasterKeyError::Count);
        }
        let is_twice = keys.iter().enumerate().any(|(n, key)| keys[..n].iter().any(|other| other.id == key.id));
        if is_twice { Err(MasterKeyError::Twice) } else { Ok(Self { keys }) }
    }

    /// The id of the newest key, which seals.
    pub fn newest(&self) -> &str {
        &self.keys[0].id
    }

    /// Seals a value for its place. `nonce` is random and fresh.
    ///
    /// # Errors
    /// [`OpenError::Refused`] when the cipher refuses it, which it does not for any value
    /// that fits a card.
    pub fn seal(&self, place: SealedPlace<'_>, nonce: [u8; NONCE], plain: &[u8]) -> Result<Sealed, OpenError> {
        let key = &self.keys[0];
        let cipher = key.cipher().ok_or(OpenError::Refused)?;
        let mut text = plain.to_vec();
        let aad = Aad::from(place.to_bytes(&key.id));
        cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text)
            .map_err(|_| OpenError::Refused)?;
        Ok(Sealed(format!("{}.{}", key.id, STANDARD.encode([&nonce[..], &text].concat()))))
    }

    /// What shows that a text was made here, with the newest key: HMAC-SHA256.
    ///
    /// # Errors
    /// [`OpenError::Refused`] when no key can be derived, which does not happen.
    pub fn authenticate(&self, text: &[u8]) -> Result<Vec<u8>, OpenError> {
        let key = self.keys[0].authenticator().ok_or(OpenError::Refused)?;
        Ok(hmac::sign(&key, text).as_ref().to_vec())
    }

    /// Whether a text was made here, with the key of this id. The comparison takes the same
    /// time whatever differs.
    ///
    /// # Errors
    /// Why it is not known to be.
    pub fn verify(&self, key_id: &str, text: &[u8], tag: &[u8]) -> Result<(), OpenError> {
        let key = self.keys.iter().find(|key| key.id == key_id).ok_or(OpenError::UnknownKey)?;
        let key = key.authenticator().ok_or(OpenError::Refused)?;
        hmac::verify(&key, text, tag).map_err(|_| OpenError::Refused)
    }

    /// Opens a value at its place.
    ///
    /// # Errors
    /// Why it stays closed.
    pub fn open(&self, place: SealedPlace<'_>, sealed: &Sealed) -> Result<String, OpenError> {
        let (id, encoded) = sealed.0.split_once('.').ok_or(OpenError::Refused)?;
        let key = self.keys.iter().find(|key| key.id == id).ok_or(OpenError::UnknownKey)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| OpenError::Refused)?;
        let (nonce, text) = bytes.split_at_checked(NONCE).ok_or(OpenError::Refused)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Refused)?;
        let cipher = key.cipher().ok_or(OpenError::Refused)?;
        let mut text = text.to_vec();
        let plain =
            cipher.open_in_place(nonce, Aad::from(place.to_bytes(id)), &mut text).map_err(|_| OpenError::Refused)?;
        String::from_utf8(plain.to_vec()).map_err(|_| OpenError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(byte: u8) -> String {
        STANDARD.encode([byte; MASTER_KEY])
    }

    fn keys(bytes: &[u8]) -> MasterKeys {
        MasterKeys::parse(&bytes.iter().map(|byte| text_of(*byte)).collect::<Vec<_>>().join(" ")).unwrap()
    }

    const PLACE: SealedPlace<'_> =
        SealedPlace { tenant: "acme", endpoint: "ep_1", purpose: "secret", name: "s1", expires_at: Some(Millis(7)) };

    #[test]
    fn what_is_sealed_opens_in_its_own_place_only() {
        let keys = keys(&[1]);
        let sealed = keys.seal(PLACE, [9; NONCE], b"whsec_x").unwrap();
        assert_eq!(keys.open(PLACE, &sealed).as_deref(), Ok("whsec_x"));
        for other in [
            SealedPlace { tenant: "acm", ..PLACE },
            // The parts have lengths, so that no byte can move from one to the next.
            SealedPlace { tenant: "acmee", endpoint: "p_1", ..PLACE },
            SealedPlace { endpoint: "ep_2", ..PLACE },
            SealedPlace { purpose: "header", ..PLACE },
            SealedPlace { name: "s2", ..PLACE },
            SealedPlace { expires_at: Some(Millis(8)), ..PLACE },
            SealedPlace { expires_at: None, ..PLACE },
        ] {
            assert_eq!(keys.open(other, &sealed), Err(OpenError::Refused), "{other:?}");
        }
    }

    #[test]
    fn no_byte_of_it_can_be_changed() {
        let keys = keys(&[1]);
        let Sealed(text) = keys.seal(PLACE, [9; NONCE], b"whsec_x").unwrap();
        let (id, encoded) = text.split_once('.').unwrap();
        let bytes = STANDARD.decode(encoded).unwrap();
        for n in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[n] ^= 1;
            let sealed = Sealed(format!("{id}.{}", STANDARD.encode(&changed)));
            assert_eq!(keys.open(PLACE, &sealed), Err(OpenError::Refused), "byte {n}");
        }
        for broken in ["", ".", "x", &format!("{id}."), &format!("{id}.AAAA"), &format!("{id}.*")] {
            assert!(keys.open(PLACE, &Sealed(broken.to_owned())).is_err(), "{broken}");
        }
    }

    #[test]
    fn an_older_key_opens_until_it_is_taken_away() {
        let sealed = keys(&[1]).seal(PLACE, [9; NONCE], b"x").unwrap();
        let both = keys(&[2, 1]);
        assert_eq!(both.open(PLACE, &sealed).as_deref(), Ok("x"));
        assert_ne!(both.newest(), sealed.key_id());
        let again = both.seal(PLACE, [8; NONCE], b"x").unwrap();
        assert_eq!(again.key_id(), both.newest());
        assert_eq!(keys(&[2]).open(PLACE, &again).as_deref(), Ok("x"));
        assert_eq!(keys(&[2]).open(PLACE, &sealed), Err(OpenError::UnknownKey));
    }

    #[test]
    fn unusable_master_keys_are_refused_without_being_shown() {
        for (text, why) in [
            (String::new(), MasterKeyError::Count),
            ("x".to_owned(), MasterKeyError::Key),
            (STANDARD.encode([1; 31]), MasterKeyError::Key),
            (format!("{} {}", text_of(1), text_of(1)), MasterKeyError::Twice),
            ((0..17).map(text_of).collect::<Vec<_>>().join(" "), MasterKeyError::Count),
        ] {
            assert_eq!(MasterKeys::parse(&text).unwrap_err(), why);
        }
        assert_eq!(format!("{:?}", keys(&[1, 2])), "MasterKeys(2 keys)");
    }
}
