//! Following something that is under way to its end, with a line that tells how far it is.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use domain::time::Millis;
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::{Answer, Api, read};
use crate::clock;
use crate::delivery::Life;
use crate::failure::Failure;
use crate::text::{DIM, clean, count_of, span};

/// How long to wait before the first look, and at most between two.
const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(2);
/// How long something may not be seen yet: a delivery has no record before a consumer has seen it.
const UNSEEN: Duration = Duration::from_secs(5);
/// The most deliveries of an event that are followed.
const MOST_DELIVERIES: u32 = 10_000;
/// The most characters of a progress line: what is longer than the window cannot be taken back.
const LINE: usize = 76;

/// A line on standard error: on a terminal it is replaced by the next one, elsewhere it is written when it changes.
struct Progress {
    last: String,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { last: String::new(), terminal: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, text: &str) {
        let text: String = clean(text).chars().take(LINE).collect();
        if text == self.last {
            return;
        }
        if self.terminal {
            anstream::eprint!("\r\u{1b}[K{DIM}{text}{DIM:#}");
            drop(std::io::stderr().flush());
        } else {
            anstream::eprintln!("{text}");
        }
        self.last = text;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && !self.last.is_empty() {
            anstream::eprint!("\r\u{1b}[K");
        }
    }
}

/// What a look has shown.
enum Look {
    /// How far it is.
    Waits(String),
    Over,
}

/// Looks again and again, ever more seldom, until it is over.
struct Watch {
    progress: Progress,
    start: Millis,
    timeout: Duration,
    wait: Duration,
}

impl Watch {
    fn new(timeout: Duration) -> Self {
        Self { progress: Progress::new(), start: clock::now(), timeout, wait: FIRST }
    }

    fn has_lasted(&self, time: Duration) -> bool {
        self.start.until(clock::now()) >= time
    }

    /// Tells how far it is, and waits for the next look.
    ///
    /// # Errors
    /// That the time is over.
    async fn next(&mut self, told: &str) -> Result<(), Failure> {
        if self.has_lasted(self.timeout) {
            let why = format!("not finished within {}: {}. It goes on", span(self.timeout), clean(told));
            return Err(Failure::Unreachable(why));
        }
        self.progress.tell(told);
        let left = clock::now().until(self.start.after(self.timeout));
        tokio::time::sleep(self.wait.min(left)).await;
        self.wait = (self.wait * 3 / 2).min(MOST);
        Ok(())
    }
}

/// How something ended, and what was seen of it last.
pub(crate) struct Followed<T> {
    pub(crate) last: Option<T>,
    pub(crate) end: Result<(), Failure>,
}

/// Looks at a path until `look` says that it is over. What is `known` to exist may not be seen for a while.
pub(crate) async fn until(
    api: &Api,
    path: &str,
    timeout: Duration,
    known: bool,
    mut look: impl FnMut(&Answer) -> Result<(bool, String), Failure>,
) -> Followed<Answer> {
    let (mut watch, mut last) = (Watch::new(timeout), None);
    let end = loop {
        let found = match answered(api, path).await {
            Ok(Some(answer)) => match look(&answer) {
                Ok((over, told)) => {
                    last = Some(answer);
                    Ok(if over { Look::Over } else { Look::Waits(told) })
                }
                Err(failure) => Err(failure),
            },
            // Redis may have lost its record; what was accepted goes on.
            Ok(None) if known || last.is_some() || !watch.has_lasted(UNSEEN) => {
                Ok(Look::Waits("it cannot be seen now".to_owned()))
            }
            Ok(None) => Err(Failure::Refused("there is nothing with this id, or it is no longer kept".to_owned())),
            Err(Failure::Unreachable(why)) => Ok(Look::Waits(waits_for(&why))),
            Err(failure) => Err(failure),
        };
        match found {
            Ok(Look::Over) => break Ok(()),
            Ok(Look::Waits(told)) => {
                if let Err(failure) = watch.next(&told).await {
                    break Err(failure);
                }
            }
            Err(failure) => break Err(failure),
        }
    };
    Followed { last, end }
}

/// What a path answers; `None` if there is nothing.
async fn answered(api: &Api, path: &str) -> Result<Option<Answer>, Failure> {
    let answer = api.call_any(Method::GET, path, &[], None).await?;
    match answer.status {
        404 => Ok(None),
        _ if answer.is_success() => Ok(Some(answer)),
        _ => Err(answer.failure()),
    }
}

fn waits_for(why: &str) -> String {
    format!("waiting for an answer: {}", why.lines().next().unwrap_or_default())
}

#[derive(Deserialize)]
struct State {
    status: String,
    attempts: Option<serde_json::Value>,
    attempt_count: Option<u64>,
    error: Option<String>,
}

impl State {
    fn told(&self) -> String {
        let attempts = self.attempt_count.or_else(|| self.attempts.as_ref()?.as_u64()).unwrap_or_default();
        let mut told = format!("{}, {}", self.status, count_of(attempts, "attempt", "attempts"));
        if let Some(error) = &self.error {
            told.push_str(&format!(": {error}"));
        }
        told
    }
}

/// Follows one delivery to its end.
pub(crate) async fn delivery(api: &Api, path: &str, timeout: Duration, known: bool) -> Followed<Answer> {
    let mut given_up = None;
    let Followed { last, end } = until(api, path, timeout, known, |answer| {
        let state: State = answer.read()?;
        if state.status == "failed" {
            let why = clean(state.error.as_deref().unwrap_or("no reason is told")).into_owned();
            given_up = Some(Failure::Refused(format!("it was given up: {why}")));
        }
        Ok((matches!(state.status.as_str(), "delivered" | "failed"), state.told()))
    })
    .await;
    Followed { last, end: end.and_then(|()| given_up.map_or(Ok(()), Err)) }
}

#[derive(Deserialize)]
struct EventState {
    accepted_at: String,
    // Without Redis, history knows an event but not how far its fan-out is.
    status: Option<String>,
    matched: Option<u64>,
    queued: Option<u64>,
    owed: Option<u64>,
    error: Option<String>,
}

/// What became of an event.
pub(crate) struct Event {
    /// Its deliveries, as the API told of them.
    pub(crate) items: Vec<Box<RawValue>>,
    /// The same, read.
    pub(crate) lives: Vec<Life>,
    /// How many are kept for endpoints that are paused or disabled.
    pub(crate) owed: u64,
}

/// Follows an event until each of its deliveries has ended.
pub(crate) async fn event(api: &Api, path: &str, timeout: Duration) -> Followed<Event> {
    let start = clock::now();
    let Followed { last, end } = until(api, path, timeout, true, |answer| {
        let event: EventState = answer.read()?;
        let endpoints = count_of(event.matched.unwrap_or_default(), "endpoint", "endpoints");
        Ok(match event.status.as_deref() {
            None => (false, "accepted; how far it is cannot be told now".to_owned()),
            Some(status) => (matches!(status, "fanned_out" | "failed"), format!("{status}: {endpoints} so far")),
        })
    })
    .await;
    let event = match (end, last.as_ref().map(Answer::read::<EventState>)) {
        (Ok(()), Some(Ok(event))) => event,
        (Err(failure), _) | (Ok(()), Some(Err(failure))) => return Followed { last: None, end: Err(failure) },
        (Ok(()), None) => {
            return Followed { last: None, end: Err(Failure::Unreachable("nothing was seen of it".to_owned())) };
        }
    };
    if event.status.as_deref() == Some("failed") {
        let why = clean(event.error.as_deref().unwrap_or("no reason is told")).into_owned();
        let why = format!("its fan-out was given up: {why}. It is a dead letter and can be redriven");
        return Followed { last: None, end: Err(Failure::Refused(why)) };
    }
    deliveries(api, path, timeout.saturating_sub(start.until(clock::now())), &event).await
}

async fn deliveries(api: &Api, path: &str, timeout: Duration, event: &EventState) -> Followed<Event> {
    let (mut watch, mut last) = (Watch::new(timeout), None);
    let queued = event.queued.unwrap_or_default();
    let end = loop {
        let told = match found(api, path, event).await {
            Ok(seen) => {
                let tally = Tally::of(&seen.lives);
                let told = format!("{} of {queued} deliveries have ended", tally.ended());
                last = Some(seen);
                if tally.waiting == 0 && tally.ended() >= queued {
                    let all = count_of(tally.ended(), "delivery was", "deliveries were");
                    let given_up = format!("{} of {all} given up", tally.given_up);
                    break if tally.given_up == 0 { Ok(()) } else { Err(Failure::Refused(given_up)) };
                }
                if queued > u64::from(MOST_DELIVERIES) {
                    break Err(Failure::Unreachable(format!(
                        "it has {queued} deliveries, and only {MOST_DELIVERIES} can be followed"
                    )));
                }
                told
            }
            Err(Failure::Unreachable(why)) => waits_for(&why),
            Err(failure) => break Err(failure),
        };
        if let Err(failure) = watch.next(&told).await {
            break Err(failure);
        }
    };
    Followed { last, end }
}

/// The deliveries of this acceptance of an event: an id can be used again once its record is gone.
async fn found(api: &Api, path: &str, event: &EventState) -> Result<Event, Failure> {
    let since = Millis::parse_rfc3339(&event.accepted_at).unwrap_or_default();
    let mut seen = Event { items: Vec::new(), lives: Vec::new(), owed: event.owed.unwrap_or_default() };
    for item in api.list(&format!("{path}/deliveries"), &[], "deliveries", MOST_DELIVERIES).await? {
        let life: Life = read(item.get())?;
        if life.accepted_at() >= since {
            seen.lives.push(life);
            seen.items.push(item);
        }
    }
    Ok(seen)
}

/// How many deliveries have come to what. One that was sent again is delivered if one of its lives is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    delivered: u64,
    given_up: u64,
    waiting: u64,
}

impl Tally {
    fn of(lives: &[Life]) -> Self {
        let mut by_endpoint: BTreeMap<&str, Vec<&Life>> = BTreeMap::new();
        for life in lives {
            by_endpoint.entry(&life.endpoint_id).or_default().push(life);
        }
        let mut tally = Self::default();
        for lives in by_endpoint.values() {
            if lives.iter().any(|life| life.status == "delivered") {
                tally.delivered += 1;
            } else if lives.iter().all(|life| life.status == "failed") {
                tally.given_up += 1;
            } else {
                tally.waiting += 1;
            }
        }
        tally
    }

    fn ended(&self) -> u64 {
        self.delivered + self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(endpoint: &str, status: &str) -> Life {
        let json = serde_json::json!({
            "delivery_id": format!("e.{endpoint}"), "event_id": "e", "endpoint_id": endpoint, "status": status,
            "attempt_count": 1, "accepted_at": "2026-05-01T12:00:00.000Z",
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_delivery_that_was_sent_again_counts_once() {
        let tally = |lives: &[(&str, &str)]| {
            Tally::of(&lives.iter().map(|(endpoint, status)| life(endpoint, status)).collect::<Vec<_>>())
        };
        let of = |delivered, given_up, waiting| Tally { delivered, given_up, waiting };
        assert_eq!(tally(&[("a", "delivered"), ("a", "delivered"), ("b", "retrying")]), of(1, 0, 1));
        assert_eq!(tally(&[("a", "failed"), ("a", "delivered"), ("b", "failed")]), of(1, 1, 0));
        assert_eq!(tally(&[("a", "failed"), ("a", "pending")]), of(0, 0, 1));
        assert_eq!(tally(&[]), of(0, 0, 0));
    }
}
