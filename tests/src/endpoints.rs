//! Endpoints and messages for tests, as the registry and a fan-out make them.

use std::collections::BTreeMap;
use std::process::Command;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::delivery::{Delivery, EndpointTarget};
use domain::destination::Destination;
use domain::endpoint::{Card, CardSecret, EndpointState};
use domain::identity::{body_hash, delivery_id};
use domain::message::Message;
use domain::schedule::RetrySchedule;
use domain::time::Millis;
use url::Url;

use crate::receiver::Arrival;
use crate::world::{SECRET, master_keys};

/// The tenant of all tests.
pub const TENANT: &str = "acme";

/// An endpoint's id, by number.
pub fn endpoint_id(n: usize) -> String {
    format!("ep_{n:022}")
}

/// The card of an endpoint at `url`, signed with the tests' secret.
pub fn card(n: usize, url: &str, now: Millis) -> Card {
    let card = Card {
        tenant: TENANT.to_owned(),
        id: endpoint_id(n),
        uid: None,
        url: url.to_owned(),
        description: String::new(),
        event_types: Vec::new(),
        filter: None,
        headers: BTreeMap::new(),
        secrets: Vec::new(),
        retry_schedule: RetrySchedule::default(),
        rate: None,
        state: EndpointState::Enabled,
        state_reason: None,
        state_since: now,
        disabled_by: None,
        owed_dropped_before: None,
        metadata: BTreeMap::new(),
        created_at: now,
        updated_at: now,
        version: 1,
        change_id: String::new(),
    };
    signed_with(card, &[("s1", SECRET, None)], now)
}

/// The same card with these secrets, newest first: id, secret, and when it ends.
///
/// # Panics
/// Never.
pub fn signed_with(mut card: Card, secrets: &[(&str, &str, Option<Millis>)], now: Millis) -> Card {
    card.secrets = secrets
        .iter()
        .map(|(id, secret, expires_at)| {
            let nonce = std::array::from_fn(|_| fastrand::u8(..));
            let sealed = master_keys().seal(card.secret_place(id, *expires_at), nonce, secret.as_bytes()).unwrap();
            CardSecret { id: (*id).to_owned(), created_at: now, expires_at: *expires_at, sealed }
        })
        .collect();
    card
}

/// The first message of an event's delivery to an endpoint.
///
/// # Panics
/// When the card's URL cannot be read.
pub fn message(card: &Card, event_id: &str, payload: &str, now: Millis) -> Message {
    let target = EndpointTarget {
        tenant: card.tenant.clone(),
        endpoint: card.id.clone(),
        event_id: event_id.to_owned(),
        life: None,
        origin: Destination::of(&Url::parse(&card.url).unwrap()).as_str().to_owned(),
        is_test: false,
    };
    let event_type = Some("invoice.paid".to_owned());
    let delivery = Delivery {
        id: delivery_id(event_id, &card.id, None),
        body_hash: body_hash("", payload, &BTreeMap::new(), event_type.as_deref(), None),
        endpoint: Some(target),
        url: String::new(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        headers: BTreeMap::new(),
        event_type,
        correlation_id: format!("c-{event_id}"),
        trace: None,
        accepted_at: now,
        deadline: card.retry_schedule.deadline(now),
    };
    Message { delivery, not_before: now, ..Message::default() }
}

/// How many of an arrival's signatures this shared secret made. It is worked out here again
/// from the specification, as a receiver does.
///
/// # Panics
/// When the secret cannot be read.
pub fn signatures_by(arrival: &Arrival, secret: &str) -> usize {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap());
    let [id, timestamp] = ["webhook-id", "webhook-timestamp"].map(|name| arrival.header(name));
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &arrival.body].concat();
    let is_ours = |signature: &&str| {
        let given = signature.strip_prefix("v1,").and_then(|given| STANDARD.decode(given).ok());
        given.is_some_and(|given| hmac::verify(&key, &signed, &given).is_ok())
    };
    arrival.header("webhook-signature").split(' ').filter(is_ours).count()
}

/// Whether OpenSSL takes an arrival's `v1a` signature for one of this public key, `whpk_…`.
///
/// # Panics
/// When OpenSSL is missing, or there is no such signature.
pub fn openssl_accepts(arrival: &Arrival, public_key: &str) -> bool {
    /// What stands before an Ed25519 public key in DER (RFC 8410 §4).
    const DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let [id, timestamp] = ["webhook-id", "webhook-timestamp"].map(|name| arrival.header(name));
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &arrival.body].concat();
    let mut signatures = arrival.header("webhook-signature").split(' ');
    let signature = signatures.find_map(|one| one.strip_prefix("v1a,")).expect("no v1a signature");
    let key = STANDARD.decode(public_key.strip_prefix("whpk_").unwrap()).unwrap();
    let folder = std::env::temp_dir().join(format!("steadhook-openssl-{}", fastrand::u64(..)));
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    write("key", &[&DER[..], &key].concat());
    write("signed", &signed);
    write("signature", &STANDARD.decode(signature).unwrap());
    let verified = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key", "-rawin", "-in", "signed"])
        .args(["-sigfile", "signature"])
        .current_dir(&folder)
        .output()
        .expect("openssl is missing; `make setup` installs it");
    std::fs::remove_dir_all(&folder).unwrap();
    verified.status.success()
}
