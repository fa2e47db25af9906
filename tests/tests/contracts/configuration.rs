//! The configuration of the functions: the template's settings are accepted, faults are
//! named without values, and the harness has the template's defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use adapters::config;
use adapters::config::reader::{ConfigError, Environment, Faulted, Reader};
use adapters::redis::transport::RedisConfig;
use serde_yaml_ng::Value;
use tests::world::{changed_settings, settings};

const REDIS_URL: &str = "redis://:hush@localhost:6379";

fn environment(changes: &[(&'static str, &str)]) -> Environment {
    Environment::of(changed_settings(REDIS_URL, changes))
}

/// Reads a function's own settings, and those that every process reads.
fn read<C>(
    environment: &Environment,
    read: impl FnOnce(&mut Reader<'_>) -> Result<C, Faulted>,
) -> Result<(RedisConfig, C), ConfigError> {
    environment.read(|reader| {
        config::stack(reader);
        Ok((config::redis(reader), read(reader)?))
    })
}

/// The settings that `deliver` or `enqueue` refuse after these changes.
fn faults_with(changes: &[(&'static str, &str)]) -> Vec<String> {
    let environment = environment(changes);
    let deliver = read(&environment, fn_deliver::config::read).err();
    let enqueue = read(&environment, fn_enqueue::config::read).err();
    let errors = [deliver, enqueue].into_iter().flatten();
    let names: BTreeSet<String> =
        errors.flat_map(|error| error.faults().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()).collect();
    names.into_iter().collect()
}

#[test]
fn what_the_template_sets_is_accepted() {
    assert_eq!(faults_with(&[]), [""; 0]);
    let environment = environment(&[]);
    assert!(read(&environment, fn_archive::config::read).is_ok());
    assert!(read(&environment, fn_operate::config::read).is_ok());
    assert!(read(&environment, fn_cleanup::config::read).is_ok());
    assert!(read(&environment, fn_health::config::read).is_ok());
    assert!(read(&environment, fn_metrics::config::read).is_ok());
    assert!(read(&environment, fn_endpoints::config::read).is_ok());
    assert!(read(&environment, fn_authorize::config::read).is_ok());
    assert!(read(&environment, fn_console::config::read).is_ok());
    assert!(read(&environment, fn_fanout::config::read).is_ok());
}

#[test]
fn an_empty_environment_names_everything_that_is_missing() {
    let error = read(&Environment::of::<String, String>([]), fn_deliver::config::read).unwrap_err();
    let needed = settings(REDIS_URL).into_iter().map(|(name, _)| name).filter(|name| {
        !matches!(
            *name,
            "ALLOWED_PRIVATE_CIDRS"
                | "INDEX_SHARDS"
                // The allocator reads it.
                | "MIMALLOC_ARENA_EAGER_COMMIT"
                | "MAX_PAYLOAD_BYTES"
                | "MAX_ENDPOINTS"
                | "PORTAL_FRAME_ANCESTORS"
                | "TTL_DEAD_LETTER_S"
                | "DEAD_LETTER_TABLE"
                | "INGEST_QUEUE_ARN"
                | "INGEST_DEAD_LETTER_QUEUE_ARN"
                | "INGEST_TENANT"
                | "INGEST_TRUSTS_TENANT"
                | "VALIDATE_EVENTS"
        )
    });
    for name in needed {
        assert!(error.faults().iter().any(|(fault, _)| fault == name), "{name}");
    }
}

#[test]
fn frames_are_named_by_origins() {
    let with = |value: &str| Environment::of([("PORTAL_FRAME_ANCESTORS", value)]).read(fn_console::config::read);
    for good in [
        "'none'",
        "'self'",
        "https://a.example",
        "https://a.example:8443 http://b.example",
        "https://A.example:443",
        "https://*.b.example",
    ] {
        assert_eq!(with(good).unwrap().frame_ancestors, good);
    }
    for bad in [
        "",
        "*",
        "a.example",
        "https://a.example/path",
        "https://a.example/",
        "https://u@a.example",
        "https://a.example; script-src *",
        "none",
        "data:",
    ] {
        assert!(with(bad).is_err(), "{bad}");
    }
}

#[test]
fn each_setting_has_bounds() {
    for (name, value) in [
        ("REDIS_URL", "http://localhost"),
        ("REDIS_CLUSTER", "yes"),
        ("MAX_RETRIES", "4"),
        ("MAX_RETRIES", "-1"),
        ("RETRY_BASE_S", "0"),
        ("RETRY_FACTOR", "x"),
        ("MAX_PAYLOAD_BYTES", "307201"),
        ("ALLOWED_PRIVATE_CIDRS", "127.0.0.1"),
        ("REFUSED_CIDRS", "vpc"),
        ("BREAKER_OVERRIDES", "[]"),
        ("BREAKER_OVERRIDES", "{\"x\": {}}"),
        ("BREAKER_OVERRIDES", "{\"https://a.example\": {\"failure_threshold\": 0}}"),
        ("BREAKER_OVERRIDES", "{\"https://a.example\": {\"treshold\": 9}}"),
        ("RECEIVER_CA_PEM", "no certificate"),
        ("SIGNING_SECRETS", "hush"),
        ("MASTER_KEYS", "hush"),
        ("DELIVERY_QUEUE_URL", " "),
        ("EVENT_QUEUE_URL", " "),
        ("TTL_EVENT_S", "3599"),
        ("HISTORY_TABLE", " "),
        ("HISTORY_DAYS", "31"),
        ("HISTORY_DAYS", "-1"),
        ("OWED_DAYS", "0"),
        ("OWED_DAYS", "91"),
        ("DISABLE_AFTER_H", "0"),
        ("DISABLE_AFTER_H", "721"),
    ] {
        assert_eq!(faults_with(&[(name, value)]), [name], "{value}");
    }
}

#[test]
fn unsafe_combinations_are_refused() {
    assert_eq!(faults_with(&[("QUEUE_VISIBILITY_S", "359")]), ["QUEUE_VISIBILITY_S"]);
    assert!(faults_with(&[("BATCH_WINDOW_S", "1"), ("QUEUE_VISIBILITY_S", "361")]).is_empty());
    assert_eq!(faults_with(&[("BATCH_WINDOW_S", "1"), ("QUEUE_VISIBILITY_S", "360")]), ["QUEUE_VISIBILITY_S"]);
    assert_eq!(faults_with(&[("DELIVERY_TIMEOUT_MS", "47001")]), ["DELIVERY_TIMEOUT_MS"]);
    assert_eq!(faults_with(&[("CONNECT_TIMEOUT_MS", "15001")]), ["CONNECT_TIMEOUT_MS"]);
    assert_eq!(faults_with(&[("TTL_UNFINISHED_S", "86399")]), ["TTL_UNFINISHED_S"]);
    assert_eq!(
        faults_with(&[("RETRY_BASE_S", "30"), ("RETRY_CAP_S", "29")]),
        ["RETRY_BASE_S", "RETRY_BASE_THROTTLED_S"]
    );
}

#[test]
fn a_destination_may_have_a_breaker_policy_of_its_own() {
    let overrides = r#"{"HTTPS://Flaky.example:443/": {"failure_threshold": 50},
        "https://flaky.example/hooks/": {"reset_timeout_s": 5}}"#;
    let (_, config) = read(&environment(&[("BREAKER_OVERRIDES", overrides)]), fn_deliver::config::read).unwrap();
    let policies = config.breakers;
    assert_eq!(policies.of("https://flaky.example").failure_threshold, 50);
    assert_eq!(policies.of("https://flaky.example").reset_ms, 60_000);
    assert_eq!(policies.of("https://flaky.example/hooks").reset_ms, 5_000);
    assert_eq!(policies.of("https://other.example"), policies.general);
}

#[test]
fn history_lives_for_days_or_there_is_none() {
    let lives = |days: &str| {
        let environment = environment(&[("HISTORY_DAYS", days)]);
        [
            read(&environment, fn_deliver::config::read).unwrap().1.history.life,
            read(&environment, fn_fanout::config::read).unwrap().1.history.life,
            read(&environment, fn_archive::config::read).unwrap().1.history.life,
            read(&environment, fn_operate::config::read).unwrap().1.history.life,
        ]
    };
    assert_eq!(lives("7"), [Some(Duration::from_secs(604_800)); 4]);
    assert_eq!(lives("0"), [None; 4]);
}

#[test]
fn what_is_owed_lives_as_long_everywhere_and_a_bus_is_told_only_where_there_is_one() {
    let with = |days: &str, bus: &str| {
        let environment = environment(&[("OWED_DAYS", days), ("NOTIFY_BUS", bus)]);
        let fanout = read(&environment, fn_fanout::config::read).unwrap().1;
        let deliver = read(&environment, fn_deliver::config::read).unwrap().1;
        let cleanup = read(&environment, fn_cleanup::config::read).unwrap().1;
        assert_eq!((fanout.owed_life, fanout.owed_life), (deliver.owed_life, cleanup.owed_life));
        assert_eq!(fanout.disable_after, deliver.disable_after);
        (fanout.owed_life.as_secs() / 86_400, fanout.notify_bus)
    };
    assert_eq!(with("14", ""), (14, None));
    assert_eq!(with("90", "ops"), (90, Some("ops".to_owned())));
}

#[test]
fn no_value_is_ever_shown() {
    let all = settings(REDIS_URL).into_iter().map(|(name, _)| (name, "hush"));
    let faulty = Environment::of(all.chain([("REDIS_URL", "redis://:hush@h")]));
    let error = read(&faulty, fn_deliver::config::read).unwrap_err();
    assert!(error.faults().len() > 10 && !error.to_string().contains("hush"), "{error}");
    let secret = environment(&[("AWS_SECRET_ACCESS_KEY", "hush")]);
    let config = read(&secret, fn_deliver::config::read).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
}

/// Settings that a test chooses itself: addresses, secrets, and access to the loopback.
const CHOSEN: [&str; 16] = [
    "REDIS_URL",
    "STACK_NAME",
    "DELIVERY_QUEUE_URL",
    "RETRY_QUEUE_URL",
    "WAIT_QUEUE_URL",
    "SLOW_QUEUE_URL",
    "EVENT_QUEUE_URL",
    "INGEST_QUEUE_ARN",
    "INGEST_DEAD_LETTER_QUEUE_ARN",
    "DEAD_LETTER_QUEUE_URL",
    "DEAD_LETTER_TABLE",
    "REGISTRY_TABLE",
    "HISTORY_TABLE",
    "SIGNING_SECRETS",
    "MASTER_KEYS",
    "ALLOWED_PRIVATE_CIDRS",
];
/// Settings that Lambda itself gives.
const OF_LAMBDA: [&str; 3] = ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// The value of a setting in a stack whose parameters all have their defaults. The
/// conditions of the template are false there.
fn by_default(template: &Value, value: &Value) -> String {
    if let Value::Tagged(function) = value {
        return match (function.tag.to_string().as_str(), &function.value) {
            ("!Ref", Value::String(parameter)) => by_default(template, &template["Parameters"][parameter]["Default"]),
            ("!If", Value::Sequence(parts)) => by_default(template, &parts[2]),
            _ => panic!("{function:?} is neither a parameter nor a choice"),
        };
    }
    value.as_str().map_or_else(|| value.as_u64().unwrap().to_string(), str::to_owned)
}

#[test]
fn the_harness_has_the_defaults_of_the_template() {
    let template: Value = serde_yaml_ng::from_str(include_str!("../../../template.yaml")).unwrap();
    let harness: BTreeMap<&str, String> = settings(REDIS_URL).into_iter().collect();
    let resources = template["Resources"].as_mapping().unwrap().values();
    let functions = resources.filter(|resource| resource["Type"] == "AWS::Serverless::Function");
    let functions = functions.map(|function| &function["Properties"]).chain([&template["Globals"]["Function"]]);
    let mut given = BTreeSet::new();
    for (name, value) in functions.filter_map(|of| of["Environment"]["Variables"].as_mapping()).flatten() {
        let name = name.as_str().unwrap();
        given.insert(name);
        if CHOSEN.contains(&name) {
            continue;
        }
        // An empty setting counts as absent.
        assert_eq!(harness.get(name).cloned().unwrap_or_default(), by_default(&template, value), "{name}");
    }
    assert!(given.len() >= 30, "{given:?}");
    let unknown: Vec<_> = harness.keys().filter(|name| !given.contains(*name) && !OF_LAMBDA.contains(name)).collect();
    assert!(unknown.is_empty(), "the template gives no function {unknown:?}");
}
