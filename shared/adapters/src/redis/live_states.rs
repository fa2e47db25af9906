//! The live states of endpoints and of origins in Redis: `domain::live_state` as scripts on one key.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use domain::endpoint::EndpointState;
use domain::live_state::{Called, Change, LiveState, OVERRULES, REMEMBERED, Summary};
use domain::time::{Millis, whole_ms};
use redis::FromRedisValue as _;

use super::query::{Query, words};
use super::script::{Args, Script};
use super::transport::Call;

static SET_STATE: Script = Script::new("set_state", include_str!("scripts/set_state.lua"));
static NOTE: Script = Script::new("note", include_str!("scripts/note.lua"));

/// The key of an endpoint's live state, or of that of the origin of a direct webhook.
pub fn key(of: &str) -> String {
    format!("endpoint_state:{of}")
}

/// `domain::live_state::set_state`: says whether it is news. `life` is how long the state is kept.
pub fn set_state(endpoint: &str, version: u64, state: EndpointState, fresh_start: bool, life: Duration) -> Query<bool> {
    let args = Args::new()
        .with(version)
        .with(state.as_str())
        .with(u8::from(fresh_start))
        .with(whole_ms(life))
        .with(whole_ms(OVERRULES));
    let call = Call::Script { script: &SET_STATE, key: key(endpoint), args };
    Query::one("set state", call, |value| match words(value)?.first()?.as_str() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    })
}

/// `domain::live_state::note`: notes how calls of one batch went, in the order in which they
/// ended, and tells the state after it. `token` is fresh for every note, and has no spaces.
/// Without calls, the state is only read.
pub fn note(of: &str, token: &str, calls: &[Called], life: Duration) -> Query<LiveState> {
    let Some(calls) = Summary::of(calls) else { return read(of) };
    let args = Args::new()
        .with(token)
        .with(u8::from(calls.delivered))
        .with(u8::from(calls.failed))
        .with(calls.failures_since)
        .with(calls.last_duration_ms)
        .with(whole_ms(life))
        .with(REMEMBERED);
    Query::one("note", Call::Script { script: &NOTE, key: key(of), args }, |value| {
        let words = words(value)?;
        (words.len() == field::READ.len()).then(|| from_words(|at| words.get(at).map(String::as_str)))
    })
}

/// Notes that a call is slow which has not ended yet: it has taken `so_far`. Others need not wait
/// for its end to know.
pub fn note_slow(of: &str, so_far: Duration, life: Duration) -> Query<()> {
    let mut set = redis::cmd("HSET");
    set.arg(key(of)).arg(field::LAST_DURATION_MS).arg(whole_ms(so_far));
    let mut expire = redis::cmd("PEXPIRE");
    expire.arg(key(of)).arg(whole_ms(life));
    Query::write("note slow", vec![set.into(), expire.into()])
}

/// What is known. The default if there is nothing.
pub fn read(of: &str) -> Query<LiveState> {
    let mut command = redis::cmd("HMGET");
    command.arg(key(of)).arg(&field::READ);
    Query::one("read live state", command, |value| {
        let words = Vec::<Option<String>>::from_redis_value(value).ok()?;
        Some(from_words(|at| words.get(at)?.as_deref()))
    })
}

/// Forgets what is known.
pub fn remove(of: &str) -> Query<()> {
    let mut delete = redis::cmd("DEL");
    delete.arg(key(of));
    Query::write("remove live state", vec![delete.into()])
}

/// Names of the live state's fields in Redis.
mod field {
    /// In the order in which they are read.
    pub(super) const READ: [&str; 8] = [
        "version",
        "state",
        "changed_at",
        "failing_since",
        "failures",
        "last_success_at",
        "last_failure_at",
        LAST_DURATION_MS,
    ];
    pub(super) const LAST_DURATION_MS: &str = "last_duration_ms";
    /// Tokens of the last notes.
    pub(super) const NOTED: &str = "noted";
}

/// Reads a live state from its fields in the order of [`field::READ`]; fields that cannot be read count
/// as absent.
fn from_words<'w>(word: impl Fn(usize) -> Option<&'w str>) -> LiveState {
    let number = |at| word(at)?.parse::<u64>().ok();
    let instant = |at| number(at).map(Millis);
    let state = word(1).and_then(|name| name.parse().ok());
    let change = number(0).zip(state).zip(instant(2));
    LiveState {
        change: change.map(|((version, state), at)| Change { version, state, at }),
        failing_since: instant(3),
        failures: number(4).unwrap_or_default(),
        last_success_at: instant(5),
        last_failure_at: instant(6),
        last_duration_ms: number(7),
        noted: VecDeque::new(),
    }
}

/// Reads a live state from a Redis hash, with the tokens of the last notes.
pub fn from_fields(fields: &BTreeMap<String, String>) -> LiveState {
    let noted = fields.get(field::NOTED).into_iter().flat_map(|tokens| tokens.split_whitespace());
    let live = from_words(|at| fields.get(*field::READ.get(at)?).map(String::as_str));
    LiveState { noted: noted.map(str::to_owned).collect(), ..live }
}
