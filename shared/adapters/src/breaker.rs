//! The circuit breakers in Redis: `domain::breaker` as scripts on one key, and the
//! index of the destinations that have one.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::breaker::{Admission, Breaker, Pass, Policy, REMEMBERED, State, field};
use domain::outcome::Verdict;
use domain::time::Millis;
use redis::FromRedisValue as _;

use crate::index;
use crate::ledger::{LedgerError, words};
use crate::redis::{Args, Call, Reply, Script, Unavailable, Wire};

/// How long a breaker is kept after its last change, in ms: a day.
const LIFE_MS: u64 = 86_400_000;
/// Destinations in a page of the index.
const PAGE: usize = 1000;
/// Most pages that one survey looks through.
const MAX_PAGES: usize = 10;
/// Destinations that have a breaker, scored by their last change.
pub const INDEX: &str = "circuit_breaker_index";

static ADMIT: Script = Script::new(include_str!("scripts/admit.lua"));
static REPORT: Script = Script::new(include_str!("scripts/report.lua"));
static REPORT_PROBE: Script = Script::new(include_str!("scripts/report_probe.lua"));
static RESET: Script = Script::new(include_str!("scripts/reset.lua"));

/// The breaker's key.
pub fn key(destination: &str) -> String {
    format!("circuit_breaker:{destination}")
}

/// Reads whether a breaker is closed, and in which epoch.
pub fn look(destination: &str) -> Call {
    let mut command = redis::cmd("HMGET");
    command.arg(key(destination)).arg(field::STATE).arg(field::EPOCH);
    command.into()
}

/// Reads the answer to [`look`]: the epoch of a closed breaker, `None` when
/// somebody has to ask for admission.
///
/// # Errors
/// When Redis refused the command or answered nonsense.
pub fn closed_epoch(reply: Reply) -> Result<Option<u64>, LedgerError> {
    let value = reply.map_err(|error| LedgerError::Refused("look", error))?;
    let (state, epoch) =
        <(Option<String>, Option<u64>)>::from_redis_value(value).map_err(|_| LedgerError::Unexpected("look"))?;
    let closed = state.is_none_or(|state| state == State::Closed.as_str());
    Ok(closed.then_some(epoch.unwrap_or_default()))
}

/// `domain::breaker::admit`.
pub fn admit(destination: &str, id: &str, token: &str, (lease_ms, call_ms): (u64, u64), policy: &Policy) -> Call {
    let args = Args::new().with(id).with(token).with(lease_ms).with(policy.reset_ms).with(LIFE_MS).with(call_ms);
    Call::Script { script: &ADMIT, key: key(destination), args }
}

/// Reads the answer to [`admit`] for `token`.
///
/// # Errors
/// When Redis refused the command or answered nonsense.
pub fn admitted(reply: Reply, token: &str) -> Result<Admission, LedgerError> {
    let words = words("admit", reply)?;
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    match (words.first().map(String::as_str), number(1), number(2)) {
        (Some("regular"), Some(epoch), None) => Ok(Admission::Admitted(Pass::Regular { epoch })),
        (Some("probe"), Some(epoch), Some(reset_ms)) => {
            Ok(Admission::Admitted(Pass::Probe { epoch, token: token.to_owned(), reset_ms }))
        }
        (Some("refused"), Some(wait), Some(first)) => {
            Ok(Admission::Refused { wait: Duration::from_millis(wait), first: first == 1 })
        }
        _ => Err(LedgerError::Unexpected("admit")),
    }
}

/// `domain::breaker::report`. `token` is fresh for every report.
pub fn report(destination: &str, token: &str, epoch: u64, verdicts: &[Verdict], policy: &Policy) -> Call {
    let letters: String = verdicts.iter().copied().map(letter).collect();
    let args = Args::new()
        .with(token)
        .with(epoch)
        .with(letters)
        .with(policy.failure_threshold)
        .with(policy.reset_ms)
        .with(LIFE_MS)
        .with(REMEMBERED);
    Call::Script { script: &REPORT, key: key(destination), args }
}

/// `domain::breaker::report_probe`.
pub fn report_probe(destination: &str, token: &str, epoch: u64, verdict: Verdict, policy: &Policy) -> Call {
    let args = Args::new()
        .with(token)
        .with(epoch)
        .with(letter(verdict))
        .with(policy.reset_ms)
        .with(policy.reset_max_ms)
        .with(LIFE_MS);
    Call::Script { script: &REPORT_PROBE, key: key(destination), args }
}

/// Reads the answer to a report: the state that it changed to, if it did.
///
/// # Errors
/// When Redis refused the command or answered nonsense.
pub fn changed(reply: Reply) -> Result<Option<State>, LedgerError> {
    let words = words("report", reply)?;
    match words.first().map(String::as_str) {
        Some("") => Ok(None),
        Some(name) => State::named(name).map(Some).ok_or(LedgerError::Unexpected("report")),
        None => Err(LedgerError::Unexpected("report")),
    }
}

/// `domain::breaker::reset`.
pub fn reset(destination: &str) -> Call {
    Call::Script { script: &RESET, key: key(destination), args: Args::new().with(LIFE_MS) }
}

/// Notes that destinations may have changed, and drops those that are forgotten.
pub fn touched<'d>(destinations: impl Iterator<Item = &'d str>, now: Millis) -> Vec<Call> {
    let mut add = redis::cmd("ZADD");
    add.arg(INDEX);
    let mut any = false;
    for destination in destinations {
        add.arg(now.0).arg(destination);
        any = true;
    }
    if !any {
        return Vec::new();
    }
    vec![add.into(), index::trim(INDEX, now, LIFE_MS)]
}

/// Asks for a page of the destinations that have a breaker, the last changed first.
fn list(page: usize) -> Call {
    let mut command = redis::cmd("ZREVRANGE");
    command.arg(INDEX).arg(page * PAGE).arg((page + 1) * PAGE - 1);
    command.into()
}

/// Reads the answer to [`list`].
fn listed(reply: Reply) -> Result<Vec<String>, LedgerError> {
    let value = reply.map_err(|error| LedgerError::Refused("list", error))?;
    Vec::from_redis_value(value).map_err(|_| LedgerError::Unexpected("list"))
}

/// Asks for a whole breaker.
pub fn read(destination: &str) -> Call {
    let mut command = redis::cmd("HGETALL");
    command.arg(key(destination));
    command.into()
}

/// Reads the answer to [`read`]; `None` when it is forgotten.
///
/// # Errors
/// When Redis refused the command or answered nonsense.
pub fn breaker(reply: Reply) -> Result<Option<Breaker>, LedgerError> {
    let value = reply.map_err(|error| LedgerError::Refused("read", error))?;
    let fields = BTreeMap::<String, String>::from_redis_value(value).map_err(|_| LedgerError::Unexpected("read"))?;
    Ok((!fields.is_empty()).then(|| Breaker::from_fields(&fields)))
}

/// Why breakers are not known now.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// Redis is away.
    #[error(transparent)]
    Away(#[from] Unavailable),
    /// Redis answered, but not what was asked.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl SurveyError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Away(error) => error.code(),
            Self::Ledger(error) => error.code(),
        }
    }
}

/// Every breaker that changed within a day, the last changed first: two round trips
/// for every thousand, ten thousand at most.
///
/// # Errors
/// When Redis is away or does not give the index. A breaker that cannot be read is
/// logged and left out.
pub async fn survey(redis: &dyn Wire) -> Result<Vec<(String, Breaker)>, SurveyError> {
    let mut found = Vec::new();
    for page in 0..MAX_PAGES {
        let reply = redis.wave(&[list(page)]).await?.pop().ok_or(LedgerError::Unexpected("list"))?;
        let destinations = listed(reply)?;
        let calls: Vec<Call> = destinations.iter().map(|destination| read(destination)).collect();
        let replies = redis.wave(&calls).await?;
        let last = destinations.len() < PAGE;
        for (destination, reply) in destinations.into_iter().zip(replies) {
            match breaker(reply) {
                Ok(Some(breaker)) => found.push((destination, breaker)),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%destination, code = error.code(), error = ?error, "a circuit breaker cannot be read");
                }
            }
        }
        if last {
            break;
        }
    }
    Ok(found)
}

fn letter(verdict: Verdict) -> char {
    match verdict {
        Verdict::Healthy => 'h',
        Verdict::Unhealthy => 'u',
        Verdict::Throttled => 't',
        Verdict::Neutral => 'n',
    }
}
