//! Secrets from Secrets Manager are read and renewed. A read that fails changes nothing.

use std::time::Duration;

use adapters::aws::secrets::{Keyring, SecretsError, SigningSource, StoredSecret};
use adapters::clock::Clock;
use adapters::redis::transport::{Redis, RedisConfig, RedisPort as _};
use tests::receiver::{Receiver, Reply};
use tests::redis_server::RedisServer;
use tests::stack::Stack;
use tests::world::{BEGINNING, SECRET};

const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

async fn create(text: &str) -> String {
    let name = format!("test-{:x}", fastrand::u64(..));
    let made = Stack::running().secrets().create_secret().name(name).secret_string(text).send().await.unwrap();
    made.arn().unwrap().to_owned()
}

fn stored_at(arn: &str) -> StoredSecret {
    StoredSecret::new(Stack::running().account(), arn)
}

async fn stored(text: &str) -> StoredSecret {
    stored_at(&create(text).await)
}

async fn change(arn: &str, text: &str) {
    let put = Stack::running().secrets().put_secret_value().secret_id(arn).secret_string(text);
    put.send().await.unwrap();
}

#[tokio::test]
async fn a_rotation_is_seen_within_minutes_and_a_bad_one_changes_nothing() {
    let arn = create(SECRET).await;
    let clock = Clock::fixed(BEGINNING);
    let keyring = Keyring::open(SigningSource::Stored(stored_at(&arn)), clock.clone()).await.unwrap();
    let signatures = || keyring.signer().sign("id", 1, b"body").split(' ').count();
    // Secrets are read in the background.
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
    clock.advance(Duration::from_secs(239));
    assert_eq!(signatures(), 1);
    a_moment().await;
    assert_eq!(signatures(), 1, "the secret is not read every time");
    clock.advance(Duration::from_secs(1));
    become_known(2).await;
    change(&arn, "no secret").await;
    clock.advance(Duration::from_secs(300));
    assert_eq!(signatures(), 2);
    a_moment().await;
    assert_eq!(signatures(), 2, "a text that is no secret is not used");
    change(&arn, OTHER).await;
    a_moment().await;
    assert_eq!(signatures(), 2, "after a failure it is not read again at once");
    clock.advance(Duration::from_secs(30));
    become_known(1).await;
}

/// A Secrets Manager that answers as a test says, and a keyring that has read `SECRET` from
/// it.
async fn scripted(clock: &Clock) -> (Receiver, Keyring) {
    let service = Receiver::start().await;
    let account = service.account();
    service.answer([holding(SECRET)]);
    let source = SigningSource::Stored(StoredSecret::new(account, "arn:aws:secretsmanager:eu-central-1:0:secret:x"));
    let keyring = Keyring::open(source, clock.clone()).await.unwrap();
    assert_eq!(service.count(), 1);
    (service, keyring)
}

fn holding(text: &str) -> Reply {
    let headers = vec![("content-type", "application/x-amz-json-1.1".to_owned())];
    Reply { headers, body: serde_json::json!({ "SecretString": text }).to_string(), ..200.into() }
}

fn signatures(keyring: &Keyring) -> usize {
    keyring.signer().sign("id", 1, b"body").split(' ').count()
}

#[tokio::test]
async fn an_invocation_after_a_long_freeze_signs_with_the_secrets_of_now() {
    let clock = Clock::fixed(BEGINNING);
    let (service, keyring) = scripted(&clock).await;
    let both = format!("{OTHER} {SECRET}");
    clock.advance(Duration::from_secs(299));
    keyring.freshen().await;
    assert_eq!(service.count(), 1, "nobody waits for what is young enough");
    service.answer([holding(&both)]);
    clock.advance(Duration::from_secs(1));
    keyring.freshen().await;
    assert_eq!((signatures(&keyring), service.count()), (2, 2));
    keyring.freshen().await;
    assert_eq!(service.count(), 2);
    // Twelve hours later one of them is gone.
    service.answer([holding(OTHER)]);
    clock.advance(Duration::from_secs(12 * 3600));
    keyring.freshen().await;
    assert_eq!((signatures(&keyring), service.count()), (1, 3));
}

#[tokio::test]
async fn secrets_that_cannot_be_read_hold_up_no_invocation_for_long() {
    let clock = Clock::fixed(BEGINNING);
    let (service, keyring) = scripted(&clock).await;
    let refused = || Reply { body: r#"{"__type":"AccessDeniedException"}"#.to_owned(), ..400.into() };
    clock.advance(Duration::from_secs(3600));
    service.answer([refused()]);
    keyring.freshen().await;
    assert_eq!((signatures(&keyring), service.count()), (1, 2), "the known ones are used");
    clock.advance(Duration::from_secs(29));
    keyring.freshen().await;
    assert_eq!(service.count(), 2, "it is not asked every time");
    // It hangs. The SDK would give up after four seconds, and ask a second time before.
    clock.advance(Duration::from_secs(1));
    service.answer([Reply { after: Duration::from_millis(1500), ..holding(&format!("{OTHER} {SECRET}")) }]);
    keyring.freshen().await;
    assert_eq!((signatures(&keyring), service.count()), (1, 3));
    let late = async {
        while signatures(&keyring) != 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), late).await.is_ok(), "what comes late is used");
    assert_eq!(service.count(), 3);
}

#[tokio::test]
async fn an_answer_that_was_frozen_on_its_way_does_not_bring_old_secrets_back() {
    let clock = Clock::fixed(BEGINNING);
    let (service, keyring) = scripted(&clock).await;
    service.answer([Reply { after: Duration::from_millis(300), ..holding(SECRET) }]);
    clock.advance(Duration::from_secs(240));
    assert_eq!(signatures(&keyring), 1);
    service.wait_for(2).await;
    service.answer([holding(&format!("{OTHER} {SECRET}"))]);
    clock.advance(Duration::from_secs(60));
    keyring.freshen().await;
    assert_eq!((signatures(&keyring), service.count()), (2, 3));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(signatures(&keyring), 2);
}

#[tokio::test]
async fn secrets_that_cannot_be_read_or_used_are_refused_at_the_start() {
    let clock = Clock::system();
    let missing = stored_at("arn:aws:secretsmanager:eu-central-1:000000000000:secret:none");
    let opened = Keyring::open(SigningSource::Stored(missing), clock.clone()).await;
    assert!(matches!(opened.map(|_| ()), Err(SecretsError::Read(_))));
    let unusable = Keyring::open(SigningSource::Stored(stored("hush").await), clock).await.map(|_| ()).unwrap_err();
    assert!(matches!(unusable, SecretsError::Signing(_)));
    assert!(!format!("{unusable} {unusable:?}").contains("hush"));
}

async fn answers(redis: &Redis) -> bool {
    let replies = redis.round_trip(vec![redis::cmd("PING").into()]).await;
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
        let config = RedisConfig { secret: Some(stored(secret).await), ..RedisConfig::node(&at) };
        assert!(answers(&Redis::open(&config, Clock::system()).unwrap()).await, "{secret}");
    }
}

#[tokio::test]
async fn a_password_that_is_changed_or_cannot_be_read_is_found_again() {
    let server = RedisServer::start_with(&["--requirepass", "first"]);
    let arn = create(r#"{"user": "no password"}"#).await;
    let secret = Some(stored_at(&arn));
    let clock = Clock::fixed(BEGINNING);
    let config = RedisConfig { secret, ..RedisConfig::node(format!("redis://127.0.0.1:{}", server.port())) };
    let redis = Redis::open(&config, clock.clone()).unwrap();
    assert!(!answers(&redis).await, "it starts, and works without Redis");
    change(&arn, "first").await;
    assert!(!answers(&redis).await, "the secret is not read every time");
    clock.advance(Duration::from_secs(10));
    assert!(answers(&redis).await);
    // The password changes, and the connections end.
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
