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

async fn create(text: &str) -> String {
    let name = format!("test-{:x}", fastrand::u64(..));
    let made =
        Stack::running().account().secrets().create_secret().name(name).secret_string(text).send().await.unwrap();
    made.arn().unwrap().to_owned()
}

async fn store(text: &str) -> Stored {
    Stored::new(&Stack::running().account(), create(text).await)
}

async fn change(arn: &str, text: &str) {
    let put = Stack::running().account().secrets().put_secret_value().secret_id(arn).secret_string(text);
    put.send().await.unwrap();
}

#[tokio::test]
async fn a_rotation_is_seen_within_minutes_and_a_bad_one_changes_nothing() {
    let arn = create(SECRET).await;
    let stored = Stored::new(&Stack::running().account(), &arn);
    let clock = Clock::fixed(BEGINNING);
    let keyring = Keyring::open(Signing::Stored(stored), clock.clone()).await.unwrap();
    let signatures = || keyring.signer().sign("id", 1, b"body").split(' ').count();
    // What is read beside the work arrives in a moment.
    let become_known = async |wanted: usize| {
        let waiting = async {
            while signatures() != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(10), waiting).await.is_ok(), "{wanted}");
    };
    let a_moment = async || tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(signatures(), 1);
    change(&arn, &format!("{OTHER} {SECRET}")).await;
    clock.advance(Duration::from_secs(299));
    assert_eq!(signatures(), 1);
    a_moment().await;
    assert_eq!(signatures(), 1, "it is not asked for every time");
    clock.advance(Duration::from_secs(1));
    become_known(2).await;
    change(&arn, "no secret").await;
    clock.advance(Duration::from_secs(300));
    assert_eq!(signatures(), 2);
    a_moment().await;
    assert_eq!(signatures(), 2, "what cannot be used is not used");
    change(&arn, OTHER).await;
    a_moment().await;
    assert_eq!(signatures(), 2, "a failure is not repeated at once");
    clock.advance(Duration::from_secs(30));
    become_known(1).await;
}

#[tokio::test]
async fn secrets_that_cannot_be_read_or_used_are_refused_at_the_start() {
    let clock = Clock::system();
    let missing =
        Stored::new(&Stack::running().account(), "arn:aws:secretsmanager:eu-central-1:000000000000:secret:none");
    let opened = Keyring::open(Signing::Stored(missing), clock.clone()).await;
    assert!(matches!(opened.map(|_| ()), Err(SecretsError::Read(_))));
    let unusable = Keyring::open(Signing::Stored(store("hush").await), clock).await.map(|_| ()).unwrap_err();
    assert!(matches!(unusable, SecretsError::Signing(_)));
    assert!(!format!("{unusable} {unusable:?}").contains("hush"));
}

async fn answers(redis: &Redis) -> bool {
    let replies = redis.wave(&[redis::cmd("PING").into()]).await;
    replies.is_ok_and(|replies| replies.iter().all(Result::is_ok))
}

#[tokio::test]
async fn redis_is_signed_in_to_with_what_its_secret_says() {
    let server = RedisServer::start_with(&["--requirepass", "s3cr:t/@%41"]);
    let admin = format!("redis://:s3cr%3At%2F%40%2541@127.0.0.1:{}", server.port());
    let mut admin = redis::Client::open(admin).unwrap().get_connection().unwrap();
    let rules = ["SETUSER", "steadhook", "on", ">pass w?rd", "~*", "+@all"];
    let _: () = redis::cmd("ACL").arg(&rules).query(&mut admin).unwrap();
    let at = format!("redis://127.0.0.1:{}", server.port());
    for secret in
        ["s3cr:t/@%41", r#"{"username": "steadhook", "password": "pass w?rd"}"#, r#"{"password": "s3cr:t/@%41"}"#]
    {
        let config = RedisConfig { secret: Some(store(secret).await), ..RedisConfig::node(&at) };
        assert!(answers(&Redis::open(&config, Clock::system()).unwrap()).await, "{secret}");
    }
}

#[tokio::test]
async fn a_password_that_is_changed_or_cannot_be_read_is_found_again() {
    let server = RedisServer::start_with(&["--requirepass", "first"]);
    let arn = create(r#"{"user": "no password"}"#).await;
    let secret = Some(Stored::new(&Stack::running().account(), &arn));
    let clock = Clock::fixed(BEGINNING);
    let config = RedisConfig { secret, ..RedisConfig::node(format!("redis://127.0.0.1:{}", server.port())) };
    let redis = Redis::open(&config, clock.clone()).unwrap();
    assert!(!answers(&redis).await, "it starts, and works without redis");
    change(&arn, "first").await;
    assert!(!answers(&redis).await, "it is not asked for every time");
    clock.advance(Duration::from_secs(10));
    assert!(answers(&redis).await);
    // Another password, and the connections end.
    let mut admin =
        redis::Client::open(format!("redis://:first@127.0.0.1:{}", server.port())).unwrap().get_connection().unwrap();
    let _: () = redis::cmd("CONFIG").arg(&["SET", "requirepass", "second"]).query(&mut admin).unwrap();
    change(&arn, "second").await;
    let _: () = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut admin).unwrap();
    clock.advance(Duration::from_secs(10));
    let found = async {
        while !answers(&redis).await {
            clock.advance(Duration::from_secs(10));
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), found).await.is_ok());
}
