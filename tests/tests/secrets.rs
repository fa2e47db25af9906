//! Secrets from Secrets Manager: read, renewed, and never lost to a bad moment.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use std::time::Duration;

use adapters::clock::Clock;
use adapters::config::RedisConfig;
use adapters::redis::{Redis, Wire as _};
use adapters::secrets::{Keyring, SecretsError, Signing, Stored};
use tests::redis_server::RedisServer;
use tests::stack::Stack;
use tests::world::{BEGINNING, SECRET};

const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

async fn store(text: &str) -> Stored {
    let account = Stack::running().account();
    let name = format!("test-{:x}", fastrand::u64(..));
    let made = account.secrets().create_secret().name(name).secret_string(text).send().await.unwrap();
    Stored { arn: made.arn().unwrap().to_owned(), account }
}

async fn change(stored: &Stored, text: &str) {
    let put = stored.account.secrets().put_secret_value().secret_id(&stored.arn).secret_string(text);
    put.send().await.unwrap();
}

#[tokio::test]
async fn a_rotation_is_seen_within_minutes_and_a_bad_one_changes_nothing() {
    let stored = store(SECRET).await;
    let clock = Clock::fixed(BEGINNING);
    let keyring = Keyring::open(Signing::Stored(stored.clone()), clock.clone()).await.unwrap();
    let signatures = async || keyring.signer().await.sign("id", 1, b"body").split(' ').count();
    assert_eq!(signatures().await, 1);
    change(&stored, &format!("{OTHER} {SECRET}")).await;
    clock.advance(Duration::from_secs(299));
    assert_eq!(signatures().await, 1, "it is not asked for every time");
    clock.advance(Duration::from_secs(1));
    assert_eq!(signatures().await, 2);
    change(&stored, "no secret").await;
    clock.advance(Duration::from_secs(300));
    assert_eq!(signatures().await, 2, "what cannot be used is not used");
    change(&stored, OTHER).await;
    assert_eq!(signatures().await, 2, "a failure is not repeated at once");
    clock.advance(Duration::from_secs(30));
    assert_eq!(signatures().await, 1);
}

#[tokio::test]
async fn secrets_that_cannot_be_read_or_used_are_refused_at_the_start() {
    let clock = Clock::system();
    let missing =
        Stored { arn: "arn:aws:secretsmanager:eu-central-1:000000000000:secret:none".into(), ..store("x").await };
    let opened = Keyring::open(Signing::Stored(missing), clock.clone()).await;
    assert!(matches!(opened.map(|_| ()), Err(SecretsError::Read(_))));
    let unusable = Keyring::open(Signing::Stored(store("hush").await), clock).await.map(|_| ()).unwrap_err();
    assert!(matches!(unusable, SecretsError::Signing(_)));
    assert!(!format!("{unusable} {unusable:?}").contains("hush"));
}

#[tokio::test]
async fn redis_is_signed_in_to_with_what_its_secret_says() {
    let server = RedisServer::start_with(&["--requirepass", "s3cr:t/@"]);
    let mut admin = redis::Client::open(format!("redis://:s3cr%3At%2F%40@127.0.0.1:{}", server.port()))
        .unwrap()
        .get_connection()
        .unwrap();
    let _: () =
        redis::cmd("ACL").arg(&["SETUSER", "steadhook", "on", ">pass w?rd", "~*", "+@all"]).query(&mut admin).unwrap();
    for secret in ["s3cr:t/@", r#"{"username": "steadhook", "password": "pass w?rd"}"#, r#"{"password": "s3cr:t/@"}"#] {
        let config = RedisConfig {
            secret: Some(store(secret).await),
            ..RedisConfig::node(format!("redis://127.0.0.1:{}", server.port()))
        };
        let redis = Redis::open(&config.signed_in().await.unwrap(), Clock::system()).unwrap();
        let pong = redis.wave(&[redis::cmd("PING").into()]).await.unwrap().remove(0);
        assert!(pong.is_ok(), "{secret}: {pong:?}");
    }
    let config =
        RedisConfig { secret: Some(store(r#"{"user": "x"}"#).await), ..RedisConfig::node("redis://127.0.0.1:1") };
    assert!(matches!(config.signed_in().await, Err(SecretsError::Redis)));
}
