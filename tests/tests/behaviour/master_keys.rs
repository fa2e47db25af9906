//! Master keys from Secrets Manager are read again when one is not known, and not too often.

use std::time::Duration;

use adapters::aws::master_keys::{MasterKeySource, MasterKeyring};
use adapters::aws::secrets::StoredSecret;
use adapters::clock::Clock;
use adapters::config::reader::Environment;
use tests::endpoints_world::{EndpointsWorld, master_key, settings};
use tests::receiver::{Receiver, Reply};
use tests::world::{BEGINNING, changed_settings};

fn holding(text: &str) -> Reply {
    let headers = vec![("content-type", "application/x-amz-json-1.1".to_owned())];
    Reply { headers, body: serde_json::json!({ "SecretString": text }).to_string(), ..200.into() }
}

#[tokio::test]
async fn keys_are_read_again_once_a_minute_at_most() {
    let clock = Clock::fixed(BEGINNING);
    let service = Receiver::start().await;
    let account = service.account();
    let stored = StoredSecret::new(account, "arn:aws:secretsmanager:eu-central-1:0:secret:x");
    service.answer([holding(&master_key(1))]);
    let keyring = MasterKeyring::open(MasterKeySource::Stored(stored), clock.clone()).await.unwrap();
    let first = keyring.keys().newest().to_owned();

    assert!(!keyring.refresh().await, "they were read just now");
    clock.advance(Duration::from_secs(60));
    service.answer([holding(&format!("{} {}", master_key(2), master_key(1)))]);
    assert!(keyring.refresh().await);
    assert_ne!(keyring.keys().newest(), first);
    assert!(!keyring.refresh().await);
    assert_eq!(service.count(), 2);

    // What cannot be used changes nothing, and is not asked for again at once.
    let second = keyring.keys().newest().to_owned();
    clock.advance(Duration::from_secs(60));
    service.answer([holding("no key")]);
    assert!(!keyring.refresh().await && !keyring.refresh().await);
    assert_eq!((keyring.keys().newest(), service.count()), (second.as_str(), 3));
}

#[tokio::test]
async fn what_is_sealed_is_sealed_with_a_key_that_was_read_within_a_minute() {
    let mut world = EndpointsWorld::new().await;
    let service = Receiver::start().await;
    let stored = StoredSecret::new(service.account(), "arn:aws:secretsmanager:eu-central-1:0:secret:x");
    service.answer([holding(&master_key(1))]);
    let keyring = MasterKeyring::open(MasterKeySource::Stored(stored), world.clock.clone()).await.unwrap();
    world.seal_with(keyring.clone());
    service.always(holding(&format!("{} {}", master_key(2), master_key(1))));
    let (_, path) = world.create(r#"{"url":"https://receiver.example/"}"#).await;
    assert!(world.registry.all().contains(&format!("{}.", keyring.keys().newest())));
    for (method, path, body) in [
        ("POST", "/tenants/acme/endpoints".to_owned(), r#"{"url":"https://receiver.example/"}"#),
        ("POST", format!("{path}/rotate-secret"), "{}"),
        ("PATCH", path, r#"{"headers":{"x-key":{"value":"v","sensitive":true}}}"#),
    ] {
        world.clock.advance(Duration::from_secs(60));
        let reads = service.count();
        assert!(world.ask(method, &path, body).await.status < 300, "{method} {path}");
        assert_eq!(service.count() - reads, 1, "{method} {path}");
        assert!(world.registry.all().contains(&format!("{}.", keyring.keys().newest())));
    }
}

#[tokio::test]
async fn a_process_without_usable_keys_does_not_start() {
    let read = |changes: &[(&'static str, &str)]| {
        let own = settings();
        let own: Vec<_> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let all = changed_settings("redis://127.0.0.1:1", &[&own, changes].concat());
        let read = Environment::of(all).read(fn_endpoints::config::read);
        read.map(|_| ()).map_err(|error| format!("{error}"))
    };
    assert_eq!(read(&[]), Ok(()));
    assert_eq!(read(&[("MASTER_KEYS", ""), ("MASTER_KEYS_SECRET_ARN", "arn:aws:x")]), Ok(()));
    let both = read(&[("MASTER_KEYS_SECRET_ARN", "arn:aws:x")]).unwrap_err();
    assert!(both.contains("MASTER_KEYS must") || both.contains("MASTER_KEYS:"), "{both}");
    for (name, value) in [
        ("MASTER_KEYS", ""),
        ("MASTER_KEYS", "hush"),
        ("REGISTRY_TABLE", ""),
        ("MAX_ENDPOINTS", "0"),
        ("MAX_ENDPOINTS", "10001"),
    ] {
        let error = read(&[(name, value)]).unwrap_err();
        assert!(error.contains(name) && !error.contains("hush"), "{error}");
    }
}
