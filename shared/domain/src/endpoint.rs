//! An endpoint: one receiver of a tenant, as its card in the registry describes it. A card
//! is configuration and not work: deliveries name their endpoint, and its card is read at
//! every attempt.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};

use crate::filter::Pattern;
use crate::rate::Rate;
use crate::redaction::Redactor;
use crate::schedule::RetrySchedule;
use crate::seal::{MasterKeys, OpenError, Sealed, SealedPlace};
use crate::signature::{Signer, SigningSecret};
use crate::time::Millis;

/// The largest card, in bytes of its JSON.
pub const MAX_CARD: usize = 16 * 1024;
/// Most event types of a card.
pub const MAX_EVENT_TYPES: usize = 100;
/// Most entries of `metadata`.
pub const MAX_METADATA: usize = 20;
/// The longest key or value of `metadata`, in characters.
pub const MAX_METADATA_TEXT: usize = 256;
/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 512;
/// What becomes of an endpoint's deliveries.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EndpointState {
    /// They are attempted.
    Enabled,
    /// They are kept as owed, because somebody asked for that.
    Paused,
    /// They are kept as owed, because the endpoint is gone or failed for too long.
    Disabled,
}

impl EndpointState {
    /// The state's name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why an endpoint is in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StateReason {
    /// Somebody asked for it.
    Asked,
    /// Its receiver answered 410 Gone.
    Gone,
    /// It failed for too long.
    Failing,
}

impl StateReason {
    /// The reason's name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A header that an endpoint's webhooks carry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CardHeader {
    /// Anybody who reads the card sees it.
    Plain(String),
    /// It is written once, and only shown to the receiver.
    Sealed(Sealed),
}

impl fmt::Debug for CardHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Sealed(_) => "Sealed",
        })
    }
}

/// A signing secret of a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardSecret {
    /// Its id, random.
    pub id: String,
    /// When it was made or given.
    pub created_at: Millis,
    /// When it ends, if it was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
    /// The secret.
    pub sealed: Sealed,
}

/// An endpoint as the registry keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The tenant that it belongs to.
    pub tenant: String,
    /// Its id, `ep_…`.
    pub id: String,
    /// The caller's own id, unique in the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Where to.
    pub url: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The event types that it wants, as names and `name.*`; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
    /// Which of these events it wants, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Pattern>,
    /// Headers that its webhooks carry, names in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, CardHeader>,
    /// What its webhooks are signed with, newest first.
    pub secrets: Vec<CardSecret>,
    /// When failed deliveries are tried again.
    #[serde(default, rename = "retry_schedule_s")]
    pub retry_schedule: RetrySchedule,
    /// How many calls a second it takes; `None` for as many as there are.
    #[serde(default, rename = "rate_per_s", skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What becomes of its deliveries.
    pub state: EndpointState,
    /// Why, if it is not as it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<StateReason>,
    /// Since when.
    pub state_since: Millis,
    /// The notice that disabled it. If that comes again, its events are sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_by: Option<String>,
    /// Deliveries that were owed until then are not wanted any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed_dropped_before: Option<Millis>,
    /// The caller's own notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Millis,
    /// When it was changed last.
    pub updated_at: Millis,
    /// Counts its changes, from 1.
    pub version: u64,
    /// Tells the last change from another of the same content at the same time. Whoever finds
    /// its own card in the registry knows by it that it was written, and not somebody else's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub change_id: String,
}

/// What a card says in clear text. It must not leave the process that calls its receiver.
#[derive(Clone)]
pub struct Opened {
    /// All headers.
    pub headers: BTreeMap<String, String>,
    /// Signs with every secret that has not expired.
    pub signer: Signer,
    /// Cuts what must not be kept of an answer: secrets and values of sensitive headers.
    pub confidential: Redactor,
    /// When the first of these secrets ends, if one does.
    pub until: Option<Millis>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("headers", &self.headers.len()).field("signer", &self.signer).finish()
    }
}

impl Card {
    /// The place of a signing secret.
    pub fn secret_place<'a>(&'a self, id: &'a str, expires_at: Option<Millis>) -> SealedPlace<'a> {
        SealedPlace { tenant: &self.tenant, endpoint: &self.id, purpose: "secret", name: id, expires_at }
    }

    /// The place of a sensitive header's value.
    pub fn header_place<'a>(&'a self, name: &'a str) -> SealedPlace<'a> {
        SealedPlace { tenant: &self.tenant, endpoint: &self.id, purpose: "header", name, expires_at: None }
    }

    /// The secrets that sign at `now`, newest first.
    pub fn active_secrets(&self, now: Millis) -> impl Iterator<Item = &CardSecret> {
        self.secrets.iter().filter(move |secret| secret.expires_at.is_none_or(|at| at > now))
    }

    /// The card's texts as they are sent and signed with at `now`.
    ///
    /// # Errors
    /// Why a sealed value does not open. A secret of a strange form counts as changed.
    pub fn open(&self, keys: &MasterKeys, now: Millis) -> Result<Opened, OpenError> {
        let (mut headers, mut secrets, mut confidential) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (name, header) in &self.headers {
            let value = match header {
                CardHeader::Plain(value) => value.clone(),
                CardHeader::Sealed(sealed) => {
                    let value = keys.open(self.header_place(name), sealed)?;
                    confidential.push(value.clone());
                    value
                }
            };
            headers.insert(name.clone(), value);
        }
        for secret in self.active_secrets(now) {
            let text = keys.open(self.secret_place(&secret.id, secret.expires_at), &secret.sealed)?;
            secrets.push(SigningSecret::parse(&text).map_err(|_| OpenError::Refused)?);
            confidential.push(text);
        }
        // Without a signature, nobody could tell where a webhook comes from.
        if secrets.is_empty() {
            return Err(OpenError::Refused);
        }
        let until = self.active_secrets(now).filter_map(|secret| secret.expires_at).min();
        Ok(Opened { headers, signer: Signer::new(secrets), confidential: Redactor::of(&confidential), until })
    }

    /// Whether fan-out treats this card and `other` alike. The registry's revision of a tenant
    /// rises where it does not.
    pub fn fans_out_like(&self, other: &Self) -> bool {
        (&self.event_types, &self.filter, self.state, &self.retry_schedule)
            == (&other.event_types, &other.filter, other.state, &other.retry_schedule)
    }

    /// The ids of the master keys that its values are sealed with.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.values().filter_map(|header| match header {
            CardHeader::Plain(_) => None,
            CardHeader::Sealed(sealed) => Some(sealed.key_id()),
        });
        headers.chain(self.secrets.iter().map(|secret| secret.sealed.key_id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;
    use base64::Engine as _;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn keys(byte: u8) -> MasterKeys {
        MasterKeys::parse(&base64::engine::general_purpose::STANDARD.encode([byte; 32])).unwrap()
    }

    fn sealed(place: SealedPlace<'_>, text: &str) -> Sealed {
        keys(1).seal(place, [0; 12], text.as_bytes()).unwrap()
    }

    fn card() -> Card {
        let mut card = Card {
            tenant: "acme".into(),
            id: format!("ep_{}", "a".repeat(22)),
            uid: None,
            url: "https://a.example/".into(),
            description: String::new(),
            event_types: Vec::new(),
            filter: None,
            headers: BTreeMap::from([("x-plain".to_owned(), CardHeader::Plain("1".to_owned()))]),
            secrets: Vec::new(),
            retry_schedule: RetrySchedule::default(),
            rate: None,
            state: EndpointState::Enabled,
            state_reason: None,
            state_since: Millis(1),
            disabled_by: None,
            owed_dropped_before: None,
            metadata: BTreeMap::new(),
            created_at: Millis(1),
            updated_at: Millis(1),
            version: 1,
            change_id: String::new(),
        };
        let value = sealed(card.header_place("authorization"), "Bearer x");
        card.headers.insert("authorization".into(), CardHeader::Sealed(value));
        for (id, expires_at) in [("s2", None), ("s1", Some(Millis(100)))] {
            let sealed = sealed(card.secret_place(id, expires_at), SECRET);
            card.secrets.push(CardSecret { id: id.into(), created_at: Millis(1), expires_at, sealed });
        }
        card
    }

    #[test]
    fn a_card_opens_with_the_secrets_that_have_not_expired() {
        let card = card();
        let signatures = |now| card.open(&keys(1), Millis(now)).unwrap().signer.sign("m", 1, b"").split(' ').count();
        assert_eq!((signatures(99), signatures(100)), (2, 1));
        let opened = card.open(&keys(1), Millis(5)).unwrap();
        assert_eq!(opened.headers["authorization"], "Bearer x");
        assert_eq!(opened.confidential.redacted(&format!("Bearer x, {SECRET}"), true), "[removed], [removed]");
        assert!(!format!("{opened:?} {card:?}").contains("Bearer"));
        assert_eq!(card.open(&keys(2), Millis(5)).unwrap_err(), OpenError::UnknownKey);
    }

    #[test]
    fn a_value_does_not_open_in_another_field() {
        let mut card = card();
        card.headers.insert("x-other".into(), card.headers["authorization"].clone());
        assert_eq!(card.open(&keys(1), Millis(5)).unwrap_err(), OpenError::Refused);
        let mut longer = self::card();
        longer.secrets[1].expires_at = None;
        assert_eq!(longer.open(&keys(1), Millis(5)).unwrap_err(), OpenError::Refused);
    }

    #[test]
    fn a_card_without_an_active_secret_stays_closed() {
        let mut card = card();
        card.secrets.remove(0);
        assert!(card.open(&keys(1), Millis(99)).is_ok());
        assert_eq!(card.open(&keys(1), Millis(100)).unwrap_err(), OpenError::Refused);
    }

    #[test]
    fn a_card_is_the_same_after_json() {
        let card = card();
        let text = serde_json::to_string(&card).unwrap();
        assert_eq!(serde_json::from_str::<Card>(&text).unwrap(), card);
        assert!(!text.contains("Bearer") && !text.contains(SECRET) && !text.contains("filter"));
        let raw = serde_json::from_str(r#"{ "payload":{"b":[1.0],"a":[1]}}"#).unwrap();
        let filtered = Card { filter: Some(Filter::read("", raw).unwrap().pattern().clone()), ..card };
        let text = serde_json::to_string(&filtered).unwrap();
        assert_eq!(serde_json::from_str::<Card>(&text).unwrap(), filtered);
    }
}
