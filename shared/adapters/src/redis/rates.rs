//! The limits of endpoints in Redis: `domain::rate_rules` as scripts on one key.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::rate::{Rate, RateSeen};
use domain::rate_rules::{Advised, Bucket, REMEMBERED, RateState, Second, Taken};
use domain::time::{Millis, whole_ms};
use redis::FromRedisValue as _;

use super::query::{Query, words};
use super::script::{Args, Script};
use super::transport::Call;

static TAKE: Script = Script::new("take", include_str!("scripts/take.lua"));
static BLOCK: Script = Script::new("block", include_str!("scripts/block.lua"));

/// The key of an endpoint's limit.
pub fn key(endpoint: &str) -> String {
    format!("rate:{endpoint}")
}

/// `domain::rate_rules::take`: asks for `wanted` calls, at most a batch. `token` is fresh for
/// every question, and has no spaces.
pub fn take(endpoint: &str, token: &str, wanted: u32, own: Option<Rate>) -> Query<Taken> {
    let args = Args::new().with(token).with(wanted).with(own.map_or(0, Rate::per_1000_s)).with(REMEMBERED);
    Query::one("take", Call::Script { script: &TAKE, key: key(endpoint), args }, move |value| {
        let words = words(value)?;
        let (granted, advice) = words.split_first()?;
        let advice: Option<Vec<Millis>> = advice.iter().map(|at| at.parse().ok().map(Millis)).collect();
        let taken = Taken { granted: granted.parse().ok()?, advice: advice? };
        // Each delivery has its own answer.
        (taken.granted as usize + taken.advice.len() == wanted as usize).then_some(taken)
    })
}

/// `domain::rate_rules::block`: until when nothing is granted. `token` is fresh for every block, and
/// has no spaces.
pub fn block(endpoint: &str, token: &str, wait: Duration) -> Query<Millis> {
    let args = Args::new().with(token).with(whole_ms(wait)).with(REMEMBERED);
    Query::one("block", Call::Script { script: &BLOCK, key: key(endpoint), args }, |value| {
        words(value)?.first()?.parse().ok().map(Millis)
    })
}

/// What is known of an endpoint's limit.
pub fn read(endpoint: &str) -> Query<RateSeen> {
    let mut command = redis::cmd("HMGET");
    command.arg(key(endpoint)).arg(field::BLOCKED_UNTIL).arg(field::ADVISED_UNTIL_US);
    Query::one("read rate", command, |value| {
        let (blocked_until, advised_until_us) = <(Option<u64>, Option<u64>)>::from_redis_value(value).ok()?;
        Some(RateSeen {
            blocked_until: blocked_until.map(Millis),
            advised_until: advised_until_us.map(|at| Millis(at.div_ceil(1000))),
        })
    })
}

/// Forgets an endpoint's limit.
pub fn remove(endpoint: &str) -> Query<()> {
    let mut delete = redis::cmd("DEL");
    delete.arg(key(endpoint));
    Query::write("remove rate", vec![delete.into()])
}

/// Names of the limit's fields in Redis.
mod field {
    #![allow(missing_docs, reason = "each name is its meaning")]
    pub(crate) const CALLS: &str = "calls";
    pub(crate) const COUNTED_AT: &str = "counted_at";
    pub(crate) const SECOND: &str = "second";
    pub(crate) const GRANTED: &str = "granted";
    pub(crate) const ADVISED_UNTIL_US: &str = "advised_until_us";
    pub(crate) const ADVISED_SECOND: &str = "advised_second";
    pub(crate) const ASKING: &str = "asking";
    pub(crate) const BLOCKED_UNTIL: &str = "blocked_until";
    pub(crate) const RATE: &str = "rate";
    pub(crate) const ANSWERS: &str = "answers";
}

/// Reads a limit from a Redis hash; fields that cannot be read count as absent.
pub fn from_fields(fields: &BTreeMap<String, String>) -> RateState {
    let number = |name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok());
    let bucket = number(field::CALLS).zip(number(field::COUNTED_AT));
    let second = number(field::SECOND).zip(number(field::GRANTED));
    let advised = number(field::ADVISED_UNTIL_US).zip(number(field::ADVISED_SECOND)).zip(number(field::ASKING));
    let own = number(field::RATE).and_then(|rate| u32::try_from(rate).ok());
    let answers = fields.get(field::ANSWERS).into_iter().flat_map(|answers| answers.split_whitespace());
    RateState {
        bucket: bucket.map(|(calls, counted_at)| Bucket { calls, counted_at: Millis(counted_at) }),
        second: second.map(|(at_s, granted)| Second { at_s, granted }),
        advised: advised.map(|((until_us, at_s), asking)| Advised { until_us, at_s, asking }),
        blocked_until: number(field::BLOCKED_UNTIL).map(Millis),
        own: own.and_then(|rate| Rate::from_per_1000_s(rate).ok()),
        answers: answers.filter_map(answer).collect(),
    }
}

/// A remembered answer: token, calls granted and advice, as `token=granted,advice,…`.
fn answer(entry: &str) -> Option<(String, Taken)> {
    let (token, numbers) = entry.rsplit_once('=')?;
    let mut numbers = numbers.split(',');
    let granted = numbers.next()?.parse().ok()?;
    let advice: Option<Vec<Millis>> = numbers.map(|at| at.parse().ok().map(Millis)).collect();
    Some((token.to_owned(), Taken { granted, advice: advice? }))
}
