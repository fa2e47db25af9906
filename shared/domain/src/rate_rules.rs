//! How calls to an endpoint with a limit are granted, and when the others ask again.
//!
//! These rules stand twice on purpose, like those of the delivery record: here as the
//! specification, in `adapters` as Lua. A call is granted only if it may go now: GCRA, kept as
//! a bucket of calls in millionths, so that no rate drifts. Nothing is reserved. What is refused
//! gets an *advice*, a time behind those that were advised before it. The last advice is only a
//! number, so a delivery that never comes back blocks nobody.
//!
//! Four rules are there because SQS delays are whole seconds, so messages come back in lumps:
//!
//! * A server second grants at most a tenth more than the burst. The bucket alone would grant
//!   twice the burst in a second that follows a quiet one.
//! * A second's worth is advised to each server second, and no more. Otherwise two lumps could come in one
//!   second, and the limit of that second would refuse the later one once more.
//! * Advice is spread at thirty-three thirty-seconds of the emission interval. What comes late or
//!   was refused once more finds room in what is left.
//! * Where advice would be too far ahead, it goes on an hour earlier, in a second layer. Without
//!   layers, all that is beyond the limit would come back at one time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::rate::{LEARNING, MAX_ADVICE, MAX_BLOCK, Rate, limit};
use crate::time::{Millis, whole_ms};

/// How many answers are remembered, so that a command that is sent again takes nothing twice. One
/// that was forgotten takes again, which grants less and never more.
pub const REMEMBERED: usize = 16;
/// The smallest burst, in calls.
const MIN_BURST: u64 = 3;
/// One call in the bucket.
const CALL: u64 = 1_000_000;
/// How far advice steps back when it is too far ahead.
const LAYER: Duration = Duration::from_secs(3600);
/// How long it takes until what is refused is sent to the queue, and later until what was received asks, in ms.
const SENDING_MS: u64 = 25;
/// When a bucket was full for this long, nobody waits, whatever was advised.
const QUIET_MS: u64 = 30_000;
/// What is further ahead than this was written by another clock.
const PLAUSIBLE: Duration = MAX_BLOCK.saturating_mul(2);
/// How long a key is kept beyond its block and its advice: longer than the slowest bucket takes to
/// fill (30 s), and than a command may be sent again.
const SPARE_MS: u64 = 60_000;

/// An answer to whoever asked for calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many calls may go now.
    pub granted: u32,
    /// When each of the others should ask again; see [`crate::rate::due`].
    pub advice: Vec<Millis>,
}

/// Calls that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// How many, in millionths of a call.
    pub calls: u64,
    /// When that was counted; ahead during a block.
    pub counted_at: Millis,
}

/// Calls that were granted in one second of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Second {
    /// Which second, since the epoch.
    pub at_s: u64,
    /// How many calls.
    pub granted: u64,
}

/// What was advised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advised {
    /// The last time, in microseconds.
    pub until_us: u64,
    /// The last second in which somebody is to ask again, since the epoch; 0 if it is not known.
    pub at_s: u64,
    /// How many are to ask in it.
    pub asking: u64,
}

/// An endpoint's limit, `rate:<endpoint>` in Redis. One that is not there is as good as new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateState {
    /// Calls that may go; full if absent.
    pub bucket: Option<Bucket>,
    /// The last second in which calls were granted.
    pub second: Option<Second>,
    /// What was advised last.
    pub advised: Option<Advised>,
    /// Until when nothing is granted.
    pub blocked_until: Option<Millis>,
    /// The card's rate when calls were last asked for.
    pub own: Option<Rate>,
    /// The last tokens with their answers.
    pub answers: VecDeque<(String, Taken)>,
}

/// Asks for `wanted` calls, at most a batch. `own` is the card's rate. `token` is fresh for
/// every question.
pub fn take(state: &mut RateState, now: Millis, token: &str, wanted: u32, own: Option<Rate>) -> Taken {
    let blocked_until = state.blocked_until.filter(|at| *at <= now.after(PLAUSIBLE));
    let Some(rate) = limit(own, blocked_until, now) else {
        return Taken { granted: wanted, advice: Vec::new() };
    };
    if let Some(answer) = state.answer(token) {
        return answer;
    }
    state.blocked_until = blocked_until;
    state.refill(now, rate);
    state.take_over(now, own);
    let granted = if blocked_until.is_some_and(|at| now < at) { 0 } else { state.grant(now, wanted, rate) };
    let advice = (granted..wanted).map(|_| state.advise(now)).collect();
    state.remember(token, Taken { granted, advice })
}

/// Grants nothing for `wait`, which a receiver asked for. Tells until when; a later end of an
/// earlier block counts. `token` is fresh for every block.
pub fn block(state: &mut RateState, now: Millis, token: &str, wait: Duration) -> Millis {
    if let Some(until) = state.answer(token).and_then(|answer| answer.advice.first().copied()) {
        return until;
    }
    let asked = now.after(wait.min(MAX_BLOCK));
    let earlier = state.blocked_until.filter(|at| *at <= now.after(PLAUSIBLE));
    let until = earlier.map_or(asked, |earlier| earlier.max(asked));
    if earlier != Some(until) {
        // It begins with single calls, not with a burst.
        state.bucket = Some(Bucket { calls: 0, counted_at: until });
        state.blocked_until = Some(until);
    }
    state.remember(token, Taken { granted: 0, advice: vec![until] });
    until
}

/// The most calls that go at once, in millionths: a second's worth, or three.
fn burst(rate: Rate) -> u64 {
    (u64::from(rate.per_1000_s()) * 1000).max(MIN_BURST * CALL)
}

/// From one advice to the next, in microseconds.
fn step_us(rate: Rate) -> u64 {
    let interval = 1_000_000_000u64.div_ceil(u64::from(rate.per_1000_s()));
    interval + interval / 32
}

impl RateState {
    fn answer(&self, token: &str) -> Option<Taken> {
        self.answers.iter().find(|(earlier, _)| earlier == token).map(|(_, answer)| answer.clone())
    }

    fn remember(&mut self, token: &str, answer: Taken) -> Taken {
        self.answers.push_back((token.to_owned(), answer.clone()));
        if self.answers.len() > REMEMBERED {
            self.answers.pop_front();
        }
        answer
    }

    /// Adds the calls of the time that has passed. If the bucket was full for long, nobody who was
    /// advised comes back, and advice begins anew.
    fn refill(&mut self, now: Millis, rate: Rate) {
        let (full, per_ms) = (burst(rate), u64::from(rate.per_1000_s()));
        let counted = self.bucket.filter(|bucket| bucket.counted_at <= now.after(PLAUSIBLE));
        let Bucket { calls, counted_at } = counted.unwrap_or(Bucket { calls: full, counted_at: now });
        let passed_ms = now.0.saturating_sub(counted_at.0);
        let full_after_ms = full.saturating_sub(calls).div_ceil(per_ms);
        let plausible_us = now.after(MAX_ADVICE + PLAUSIBLE).0 * 1000;
        let is_quiet = passed_ms >= full_after_ms + QUIET_MS;
        self.advised = self.advised.filter(|advised| !is_quiet && advised.until_us <= plausible_us);
        let calls = calls.saturating_add(passed_ms.saturating_mul(per_ms)).min(full);
        self.bucket = Some(Bucket { calls, counted_at: counted_at.max(now) });
    }

    /// Takes over the card's rate. As many deliveries wait as before, so what is advised ahead
    /// shrinks when the rate rises.
    fn take_over(&mut self, now: Millis, own: Option<Rate>) {
        if own != self.own {
            self.advised = match (self.own, own, self.advised) {
                (Some(before), Some(after), Some(advised)) => {
                    let now_us = now.0 * 1000;
                    let ahead_us = advised.until_us.saturating_sub(now_us).min(whole_ms(MAX_ADVICE) * 1000);
                    let ahead_us = ahead_us * u64::from(before.per_1000_s()) / u64::from(after.per_1000_s());
                    Some(Advised { until_us: now_us + ahead_us, at_s: 0, asking: 0 })
                }
                (None, _, _) | (_, None, _) | (_, _, None) => None,
            };
        }
        self.own = own;
    }

    /// Takes up to `wanted` calls from the bucket, and not too many in one second.
    fn grant(&mut self, now: Millis, wanted: u32, rate: Rate) -> u32 {
        let Some(bucket) = &mut self.bucket else { return 0 };
        let at_s = now.as_secs();
        let so_far = self.second.filter(|second| second.at_s == at_s).map_or(0, |second| second.granted);
        let most = burst(rate) * 11 / 10 / CALL;
        let free = (bucket.calls / CALL).min(most.saturating_sub(so_far));
        let granted = u32::try_from(free).map_or(wanted, |free| free.min(wanted));
        if granted > 0 {
            bucket.calls -= u64::from(granted) * CALL;
            self.second = Some(Second { at_s, granted: so_far + u64::from(granted) });
        }
        granted
    }

    /// The next time behind those that were advised, a block and now.
    fn advise(&mut self, now: Millis) -> Millis {
        let begin = self.blocked_until.map_or(now, |until| until.max(now));
        let behind_us = self.advised.map_or(0, |advised| advised.until_us).max(begin.0 * 1000);
        let rate = limit(self.own, self.blocked_until, Millis(behind_us / 1000)).unwrap_or(Rate::HIGHEST);
        let advised = self.in_its_second(now, behind_us + step_us(rate), burst(rate) / CALL);
        let last_us = now.after(MAX_ADVICE).0 * 1000;
        let advised = if advised.until_us > last_us {
            Advised { until_us: last_us - whole_ms(LAYER) * 1000, at_s: 0, asking: 0 }
        } else {
            advised
        };
        self.advised = Some(advised);
        Millis(advised.until_us.div_ceil(1000))
    }

    /// An advice at this time, or later if it would come before the last one or in a second in
    /// which `most` are to ask already. The wait for it is in whole seconds.
    fn in_its_second(&self, now: Millis, until_us: u64, most: u64) -> Advised {
        let wait_s = until_us.div_ceil(1000).saturating_sub(now.0).div_ceil(1000).max(1);
        let sent_s = (now.0 + SENDING_MS) / 1000;
        let (at_s, asking) = match self.advised {
            Some(last) if last.at_s >= sent_s + wait_s && last.asking < most => (last.at_s, last.asking + 1),
            Some(last) if last.at_s >= sent_s + wait_s => (last.at_s + 1, 1),
            Some(_) | None => (sent_s + wait_s, 1),
        };
        // Rounded up, this is the wait until then, even if it begins a little later.
        let later_us = (now.0 + (at_s - sent_s - 1) * 1000 + SENDING_MS) * 1000;
        let until_us = if at_s > sent_s + wait_s { until_us.max(later_us) } else { until_us };
        Advised { until_us, at_s, asking }
    }

    /// How long the state is kept from `now` on: until it is as good as new.
    pub fn life(&self, now: Millis) -> Duration {
        let learned = self.blocked_until.map(|until| until.after(LEARNING));
        let advised = self.advised.map(|advised| Millis(advised.until_us.div_ceil(1000)));
        let until = [learned, advised].into_iter().flatten().max().unwrap_or(now);
        now.until(until) + Duration::from_millis(SPARE_MS)
    }
}

#[cfg(test)]
mod tests;
