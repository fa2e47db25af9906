//! Following something that is under way to its end, with a line that tells how far it is.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use http::Method;
use serde::Deserialize;

use crate::api::{Answer, Api, read};
use crate::clock;
use crate::delivery;
use crate::failure::Failure;
use crate::output::Output;
use crate::text::{DIM, clean, count_of, span, when};

/// How long to wait before the first look, and at most between two.
const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(2);
/// How long something that was accepted may not be seen yet.
const UNSEEN: Duration = Duration::from_secs(5);
/// The most deliveries of an event that are looked at one by one.
const MOST_DELIVERIES: usize = 10_000;

/// A line on standard error: on a terminal it is replaced by the next one, elsewhere it is written when it changes.
struct Progress {
    last: String,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { last: String::new(), terminal: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, text: String) {
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

/// Looks at a path until `ended` says that it is over. `tell` says how far it is.
///
/// # Errors
/// What the API says, or that the time is over.
pub(crate) async fn until(
    api: &Api,
    path: &str,
    timeout: Duration,
    mut look: impl FnMut(&Answer) -> Result<(bool, String), Failure>,
) -> Result<Answer, Failure> {
    let (mut progress, start, mut wait) = (Progress::new(), clock::now(), FIRST);
    loop {
        let now = clock::now();
        let left = now.until(start.after(timeout));
        match api.call_any(Method::GET, path, &[], None).await {
            // A delivery has no record before a consumer has seen it.
            Ok(Answer { status: 404, .. }) if now.until(start.after(UNSEEN.min(timeout))) > Duration::ZERO => {
                progress.tell("accepted".to_owned());
            }
            Ok(answer) if answer.status >= 400 => match Failure::of_answer(answer.status, &answer.body) {
                Failure::Unreachable(why) if !left.is_zero() => progress.tell(waits_for(&why)),
                failure @ (Failure::Refused(_) | Failure::Usage(_) | Failure::Unreachable(_)) => return Err(failure),
            },
            Ok(answer) => {
                let (over, told) = look(&answer)?;
                if over {
                    return Ok(answer);
                }
                progress.tell(told);
            }
            // What was accepted goes on, whether it can be looked at now or not.
            Err(Failure::Unreachable(why)) if !left.is_zero() => progress.tell(waits_for(&why)),
            Err(failure) => return Err(failure),
        }
        if left.is_zero() {
            let told = format!("not finished within {}. It goes on; look again with the id", span(timeout));
            return Err(Failure::Unreachable(told));
        }
        tokio::time::sleep(wait.min(left)).await;
        wait = (wait * 3 / 2).min(MOST);
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
    next_attempt_at: Option<String>,
    error: Option<String>,
}

impl State {
    fn told(&self) -> String {
        let attempts = self.attempt_count.or_else(|| self.attempts.as_ref()?.as_u64()).unwrap_or_default();
        let mut told = format!("{}, {}", clean(&self.status), count_of(attempts, "attempt", "attempts"));
        if let Some(next) = &self.next_attempt_at {
            told.push_str(&format!(", next {}", when(next, clock::now())));
        }
        if let Some(error) = &self.error {
            told.push_str(&format!(": {}", clean(error)));
        }
        told
    }

    fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "delivered" | "failed")
    }
}

/// Follows one delivery to its end, and shows it.
///
/// # Errors
/// That it was given up, or what the API says.
pub(crate) async fn delivery(api: &Api, output: Output, path: &str, timeout: Duration) -> Result<(), Failure> {
    let answer = until(api, path, timeout, |answer| {
        let state: State = answer.read()?;
        Ok((state.is_over(), state.told()))
    })
    .await?;
    let shown = delivery::Shown::read(&answer)?;
    output.show(&answer, |now| shown.told(now));
    let state: State = answer.read()?;
    match state.status.as_str() {
        "delivered" => Ok(()),
        _ => Err(Failure::Refused(format!(
            "it was given up: {}",
            clean(state.error.as_deref().unwrap_or("no reason is told"))
        ))),
    }
}

#[derive(Deserialize)]
struct EventState {
    status: Option<String>,
    matched: Option<u64>,
    queued: Option<u64>,
    owed: Option<u64>,
    error: Option<String>,
}

/// Follows an event until each of its deliveries has ended, and shows them.
///
/// # Errors
/// That one was given up, or what the API says.
pub(crate) async fn event(api: &Api, output: Output, path: &str, timeout: Duration) -> Result<(), Failure> {
    let end = clock::now().after(timeout);
    let answer = until(api, path, timeout, |answer| {
        let event: EventState = answer.read()?;
        let status = event.status.as_deref().unwrap_or("fanned_out");
        let endpoints = count_of(event.matched.unwrap_or_default(), "endpoint", "endpoints");
        let told = format!("{}: {endpoints} so far", clean(status));
        Ok((matches!(status, "fanned_out" | "failed"), told))
    })
    .await?;
    let fanned_out: EventState = answer.read()?;
    if fanned_out.status.as_deref() == Some("failed") {
        let why = clean(fanned_out.error.as_deref().unwrap_or("no reason is told")).into_owned();
        return Err(Failure::Refused(format!(
            "its fan-out was given up: {why}. It is a dead letter and can be redriven"
        )));
    }
    let queued = usize::try_from(fanned_out.queued.unwrap_or_default()).unwrap_or(usize::MAX);
    let (mut progress, mut wait) = (Progress::new(), FIRST);
    loop {
        let lives = api.list(&format!("{path}/deliveries"), &[], "deliveries", MOST_DELIVERIES).await?;
        let found: Vec<delivery::Life> = lives.iter().map(|life| read(life.get())).collect::<Result<_, _>>()?;
        let over: BTreeSet<&str> = found.iter().filter(|life| life.is_over()).map(|life| &*life.delivery_id).collect();
        if found.len() >= queued.min(MOST_DELIVERIES) && over.len() == found.len() {
            drop(progress);
            output.show_list(&lives, |now| {
                let mut text = if found.is_empty() {
                    "No endpoint of the tenant wants it.\n".to_owned()
                } else {
                    delivery::table_by_endpoint(&found, now)
                };
                if let Some(owed @ 1..) = fanned_out.owed {
                    text.push_str(&format!("{owed} more are kept for endpoints that are paused or disabled.\n"));
                }
                text
            });
            let given_up = found.iter().filter(|life| life.status != "delivered").count();
            return match given_up {
                0 => Ok(()),
                _ => Err(Failure::Refused(format!("{given_up} of {} deliveries were given up", found.len()))),
            };
        }
        let left = clock::now().until(end);
        if left.is_zero() {
            let told =
                format!("{} of {queued} deliveries have ended within {}. The others go on", over.len(), span(timeout));
            return Err(Failure::Unreachable(told));
        }
        progress.tell(format!("{} of {queued} deliveries have ended", over.len()));
        tokio::time::sleep(wait.min(left)).await;
        wait = (wait * 3 / 2).min(MOST);
    }
}
