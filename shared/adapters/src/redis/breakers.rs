//! The circuit breakers in Redis: `domain::breaker` as scripts on one key, and the
//! index of the destinations that have one.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::breaker::{
    Admission, Breaker, BreakerPolicy, Caller, Candidate, MAX_FAILED_PATHS, Pass, Probe, REMEMBERED, State,
};
use domain::outcome::HealthSignal;
use domain::time::{Millis, whole_ms};
use redis::FromRedisValue as _;

use super::indexes::trim;
use super::query::{Query, QueryError, ReplyError, Trip, words};
use super::script::{Args, Script};
use super::transport::{Call, RedisPort};
use crate::telemetry::chain;

/// How long a breaker is kept after its last change, in ms: a day.
const LIFE_MS: u64 = 86_400_000;
/// Breakers that are read in one round trip.
const PAGE: usize = 1000;
/// Most breakers that one survey looks at.
const MAX_SURVEYED: usize = 10_000;
/// Destinations that have a breaker, scored by their last change.
const INDEX: &str = "circuit_breaker_index";

static ADMIT: Script = Script::new("admit", include_str!("scripts/admit.lua"));
static REPORT: Script = Script::new("report", include_str!("scripts/report.lua"));
static REPORT_PROBE: Script = Script::new("report_probe", include_str!("scripts/report_probe.lua"));
static RESET: Script = Script::new("reset", include_str!("scripts/reset.lua"));

/// The breaker's key.
pub fn key(destination: &str) -> String {
    format!("circuit_breaker:{destination}")
}

/// The epoch of a closed breaker; `None` when a caller has to ask for admission.
pub fn closed_epoch(destination: &str) -> Query<Option<u64>> {
    let mut command = redis::cmd("HMGET");
    command.arg(key(destination)).arg(field::STATE).arg(field::EPOCH);
    Query::one("breaker epoch", command, |value| {
        let (state, epoch) = <(Option<String>, Option<u64>)>::from_redis_value(value).ok()?;
        let closed = state.is_none_or(|state| state == State::Closed.as_str());
        Some(closed.then_some(epoch.unwrap_or_default()))
    })
}

/// `domain::breaker::admit`.
pub fn admit(destination: &str, caller: Caller<'_>, policy: &BreakerPolicy) -> Query<Admission> {
    let Caller { id, token, has_failed, path, times } = caller;
    let args = Args::new()
        .with(id)
        .with(token)
        .with(whole_ms(times.lease))
        .with(policy.reset_ms)
        .with(LIFE_MS)
        .with(whole_ms(times.call))
        .with(u8::from(has_failed))
        .with(path);
    let token = token.to_owned();
    Query::one("admit", Call::Script { script: &ADMIT, key: key(destination), args }, move |value| {
        let words = words(value)?;
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        match (words.first().map(String::as_str), number(1), number(2)) {
            (Some("regular"), Some(epoch), None) => Some(Admission::Admitted(Pass::Regular { epoch })),
            (Some("probe"), Some(epoch), Some(reset_ms)) => {
                Some(Admission::Admitted(Pass::Probe { epoch, token, reset_ms }))
            }
            (Some("refused"), Some(wait), Some(first)) => {
                Some(Admission::Refused { wait: Duration::from_millis(wait), first: first == 1 })
            }
            _ => None,
        }
    })
}

/// `domain::breaker::report`: the state that it changed to, if it did. `token` is fresh
/// for every report.
pub fn report(
    destination: &str,
    token: &str,
    epoch: u64,
    signals: &[HealthSignal],
    policy: &BreakerPolicy,
) -> Query<Option<State>> {
    let letters: String = signals.iter().copied().map(letter).collect();
    let args = Args::new()
        .with(token)
        .with(epoch)
        .with(letters)
        .with(policy.failure_threshold)
        .with(policy.reset_ms)
        .with(LIFE_MS)
        .with(REMEMBERED);
    changed_state(Call::Script { script: &REPORT, key: key(destination), args })
}

/// `domain::breaker::report_probe`: the state that it changed to, if it did.
pub fn report_probe(
    destination: &str,
    token: &str,
    epoch: u64,
    signal: HealthSignal,
    policy: &BreakerPolicy,
) -> Query<Option<State>> {
    let args = Args::new()
        .with(token)
        .with(epoch)
        .with(letter(signal))
        .with(policy.reset_ms)
        .with(policy.reset_max_ms)
        .with(LIFE_MS)
        .with(MAX_FAILED_PATHS);
    changed_state(Call::Script { script: &REPORT_PROBE, key: key(destination), args })
}

fn changed_state(call: Call) -> Query<Option<State>> {
    Query::one("report", call, |value| match words(value)?.first()?.as_str() {
        "" => Some(None),
        name => Some(Some(name.parse().ok()?)),
    })
}

/// `domain::breaker::reset`.
pub fn reset(destination: &str) -> Query<()> {
    let call = Call::Script { script: &RESET, key: key(destination), args: Args::new().with(LIFE_MS) };
    Query::write("reset", vec![call])
}

/// Enters destinations whose breakers may have changed into the index, and trims it.
pub fn enter<'d>(destinations: impl Iterator<Item = &'d str>, now: Millis) -> Query<()> {
    let mut add = redis::cmd("ZADD");
    add.arg(INDEX);
    let mut any = false;
    for destination in destinations {
        add.arg(now.0).arg(destination);
        any = true;
    }
    Query::write("enter breakers", if any { vec![add.into(), trim(INDEX, now, LIFE_MS)] } else { Vec::new() })
}

/// How many breakers the index has.
pub fn count() -> Query<u64> {
    let mut command = redis::cmd("ZCARD");
    command.arg(INDEX);
    Query::one("count breakers", command, |value| u64::from_redis_value(value).ok())
}

/// The destinations that have a breaker, the last changed first.
fn destinations() -> Query<Vec<String>> {
    let mut command = redis::cmd("ZREVRANGE");
    command.arg(INDEX).arg(0).arg(MAX_SURVEYED - 1);
    Query::one("breaker index", command, |value| Vec::from_redis_value(value).ok())
}

/// What lists show of a breaker; `None` when it is forgotten.
fn shown(destination: &str) -> Query<Option<Breaker>> {
    let mut command = redis::cmd("HMGET");
    command.arg(key(destination)).arg(field::STATE).arg(field::FAILURES).arg(field::OPENED_AT).arg(field::RETRY_AT);
    Query::one("breaker", command, |value| {
        let [state, failures, opened_at, retry_at] = <[Option<String>; 4]>::from_redis_value(value).ok()?;
        let number = |field: Option<String>| field?.parse::<u64>().ok();
        let breaker = |state: String| Breaker {
            state: state.parse().unwrap_or_default(),
            failures: number(failures).and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
            opened_at: number(opened_at).map(Millis),
            retry_at: number(retry_at).map(Millis),
            ..Breaker::default()
        };
        Some(state.map(breaker))
    })
}

/// A whole breaker; `None` when it is forgotten.
pub fn read(destination: &str) -> Query<Option<Breaker>> {
    let mut command = redis::cmd("HGETALL");
    command.arg(key(destination));
    Query::one("read breaker", command, |value| {
        let fields = BTreeMap::<String, String>::from_redis_value(value).ok()?;
        Some((!fields.is_empty()).then(|| from_fields(&fields)))
    })
}

/// Every breaker that changed within a day, the last changed first, ten thousand at most: as much of each as lists show.
///
/// # Errors
/// When Redis is away or does not give the index. A breaker that cannot be read is
/// logged and left out.
pub async fn survey(redis: &dyn RedisPort) -> Result<Vec<(String, Breaker)>, QueryError> {
    let destinations = destinations().run(redis).await?;
    let mut found = Vec::with_capacity(destinations.len());
    // One page after the other: each has the whole limit of time of a round trip.
    for page in destinations.chunks(PAGE) {
        let mut trip = Trip::default();
        let tickets = trip.add_all(page.iter().map(|destination| shown(destination)));
        let mut replies = trip.run(redis).await?;
        for (destination, ticket) in page.iter().zip(tickets) {
            match ticket.take(&mut replies) {
                Ok(Some(breaker)) => found.push((destination.clone(), breaker)),
                Ok(None) => {}
                Err(error) => unreadable(destination, &error),
            }
        }
    }
    Ok(found)
}

fn unreadable(destination: &str, error: &ReplyError) {
    tracing::error!(%destination, code = error.code(), error = %chain(&error), "a circuit breaker cannot be read");
}

fn letter(signal: HealthSignal) -> char {
    match signal {
        HealthSignal::Healthy => 'h',
        HealthSignal::Unhealthy => 'u',
        HealthSignal::Throttled => 't',
        HealthSignal::Neutral => 'n',
    }
}

/// Names of the breaker's fields in Redis.
pub(super) mod field {
    #![allow(missing_docs, reason = "each name is its meaning")]
    pub(crate) const STATE: &str = "state";
    pub(crate) const FAILURES: &str = "failures";
    pub(crate) const EPOCH: &str = "epoch";
    pub(crate) const OPENED_AT: &str = "opened_at";
    pub(crate) const RETRY_AT: &str = "retry_at";
    pub(crate) const RESET_MS: &str = "reset_ms";
    pub(crate) const PROBE: &str = "probe";
    pub(crate) const PROBE_UNTIL: &str = "probe_until";
    pub(crate) const CANDIDATE: &str = "candidate";
    pub(crate) const CANDIDATE_SUSPECT: &str = "candidate_suspect";
    pub(crate) const PROBE_PATH: &str = "probe_path";
    pub(crate) const FAILED_PATHS: &str = "failed_paths";
    pub(crate) const REPORTED: &str = "reported";
}

/// Reads a breaker from a Redis hash; fields that cannot be read count as absent.
pub fn from_fields(fields: &BTreeMap<String, String>) -> Breaker {
    let number = |name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok());
    let list =
        |name: &str| fields.get(name).into_iter().flat_map(|list| list.split_whitespace()).map(str::to_owned).collect();
    let probe = fields.get(field::PROBE).cloned().zip(number(field::PROBE_UNTIL));
    Breaker {
        state: fields.get(field::STATE).and_then(|name| name.parse().ok()).unwrap_or_default(),
        failures: number(field::FAILURES).and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
        epoch: number(field::EPOCH).unwrap_or_default(),
        opened_at: number(field::OPENED_AT).map(Millis),
        retry_at: number(field::RETRY_AT).map(Millis),
        reset_ms: number(field::RESET_MS),
        probe: probe.map(|(token, until)| Probe {
            token,
            until: Millis(until),
            path: fields.get(field::PROBE_PATH).cloned().unwrap_or_default(),
        }),
        candidate: fields
            .get(field::CANDIDATE)
            .map(|id| Candidate { id: id.clone(), is_suspect: fields.contains_key(field::CANDIDATE_SUSPECT) }),
        reported: list(field::REPORTED),
        failed_paths: list(field::FAILED_PATHS),
    }
}
