//! What goes into a card: settings, with every confidential text sealed for its place.

use adapters::random::{self, NoRandomness};
use domain::endpoint::{Card, CardHeader, CardSecret};
use domain::endpoint_request::settings::{HeaderSetting, Settings};
use domain::seal::{MasterKeys, NONCE, OpenError, Sealed, SealedPlace};
use domain::signature::shared_secret;
use domain::time::Millis;

/// The letters and digits of a secret's id.
const SECRET_ID: usize = 12;

/// Why nothing is sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// There is no fresh nonce, id or secret.
    #[error("nothing can be sealed without randomness")]
    Random(#[from] NoRandomness),
    /// The cipher does not take it.
    #[error("a value cannot be sealed")]
    Cipher(#[from] OpenError),
}

impl SealError {
    /// A name for logs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Random(_) => "seal_random",
            Self::Cipher(_) => "seal_cipher",
        }
    }
}

/// Seals a text for its place.
pub(crate) fn seal(keys: &MasterKeys, place: SealedPlace<'_>, text: &str) -> Result<Sealed, SealError> {
    Ok(keys.seal(place, random::bytes::<NONCE>()?, text.as_bytes())?)
}

/// A new signing secret.
pub(crate) fn made_secret() -> Result<String, SealError> {
    Ok(shared_secret(&random::bytes()?))
}

/// A new secret of this card, sealed.
pub(crate) fn card_secret(keys: &MasterKeys, card: &Card, text: &str, now: Millis) -> Result<CardSecret, SealError> {
    let id = random::alphanumeric(SECRET_ID)?;
    let sealed = seal(keys, card.secret_place(&id, None), text)?;
    Ok(CardSecret { id, created_at: now, expires_at: None, sealed })
}

/// Writes settings into a card.
pub(crate) fn set(card: &mut Card, settings: Settings, keys: &MasterKeys) -> Result<(), SealError> {
    let Settings { url, uid, description, event_types, filter, headers, retry_schedule, rate, metadata } = settings;
    let headers = headers.into_iter().map(|(name, setting)| {
        let header = match setting {
            HeaderSetting::Plain(value) => CardHeader::Plain(value),
            HeaderSetting::Kept(sealed) => CardHeader::Sealed(sealed),
            HeaderSetting::Sensitive(value) => {
                CardHeader::Sealed(seal(keys, card.header_place(&name), value.expose())?)
            }
        };
        Ok((name, header))
    });
    card.headers = headers.collect::<Result<_, SealError>>()?;
    (card.url, card.uid, card.description) = (url, uid, description);
    (card.event_types, card.filter) = (event_types, filter);
    (card.retry_schedule, card.rate, card.metadata) = (retry_schedule, rate, metadata);
    Ok(())
}

/// Takes out of a card what no longer signs. The newest secret never expires.
pub(crate) fn drop_expired(card: &mut Card, now: Millis) {
    card.secrets.retain(|secret| secret.expires_at.is_none_or(|at| at > now));
}
