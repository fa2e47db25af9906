//! What consumers know of an endpoint at once: its card's last change, and how calls to it go.
//!
//! These rules stand twice on purpose, like those of the delivery record: here as the
//! specification, in `adapters` as Lua. Cards are up to 30 s old where they are used. This state is
//! read with every batch, so a pause counts from the next batch on.

use std::collections::VecDeque;
use std::time::Duration;

use crate::endpoint::EndpointState;
use crate::time::{Millis, whole_ms};

/// How many notes are remembered, so that one that is sent again counts once.
pub const REMEMBERED: usize = 16;
/// How long a change overrules the card. After that the card alone counts: the registry may
/// have been restored, and must not be overruled for ever.
pub const OVERRULES: Duration = Duration::from_secs(20 * 60);
/// An endpoint whose last call took longer is slow.
pub const SLOW: Duration = Duration::from_secs(2);
/// An endpoint is not disabled before it failed so often.
pub const MIN_FAILURES: u64 = 10;

/// How long the live state of an endpoint is kept after its last call, where endpoints that only
/// fail are disabled after `disable_after`. A call that long afterwards must still find since when
/// they fail.
pub fn kept_for(disable_after: Duration) -> Duration {
    disable_after * 2
}

/// A call that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// Whether the receiver answered 2xx.
    pub delivered: bool,
    /// How long it took, in ms.
    pub duration_ms: u64,
}

/// The last change of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The card's version after it.
    pub version: u64,
    /// The state after it.
    pub state: EndpointState,
    /// When it was written, in the server's time.
    pub at: Millis,
}

/// What is known of an endpoint, or of the origin of direct webhooks: `endpoint_state:<key>` in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveState {
    /// The last change of its card.
    pub change: Option<Change>,
    /// The first failure since the last success.
    pub failing_since: Option<Millis>,
    /// Failures since the last success.
    pub failures: u64,
    /// The last 2xx.
    pub last_success_at: Option<Millis>,
    /// The last failure of any class.
    pub last_failure_at: Option<Millis>,
    /// How long the last call took, in ms.
    pub last_duration_ms: Option<u64>,
    /// Tokens of the last notes. They are not read with the rest.
    pub noted: VecDeque<String>,
}

/// What calls of one batch come to, in the order in which they ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whether one was delivered.
    pub delivered: bool,
    /// Whether one failed.
    pub failed: bool,
    /// How many failed after the last that was delivered.
    pub failures_since: u64,
    /// How long the last one took, in ms.
    pub last_duration_ms: u64,
}

impl Summary {
    /// The summary of calls; `None` if there is none.
    pub fn of(calls: &[Called]) -> Option<Self> {
        let last_duration_ms = calls.last()?.duration_ms;
        let failures_since = calls.iter().rev().take_while(|call| !call.delivered).count() as u64;
        let delivered = calls.iter().any(|call| call.delivered);
        let failed = calls.iter().any(|call| !call.delivered);
        Some(Self { delivered, failed, failures_since, last_duration_ms })
    }
}

/// Writes a change of the card. Says whether it is news: only a higher version is, unless the
/// change before is too old to count. `fresh_start`
/// forgets the failures, because the endpoint was enabled or has a new URL.
pub fn set_state(live: &mut LiveState, now: Millis, version: u64, state: EndpointState, fresh_start: bool) -> bool {
    // A change that is old enough not to count any more may be of a registry that was restored.
    let counts = |change: &Change| now < change.at.after(OVERRULES);
    if live.change.filter(counts).is_some_and(|change| change.version >= version) {
        return false;
    }
    live.change = Some(Change { version, state, at: now });
    if fresh_start {
        live.failing_since = None;
        live.failures = 0;
    }
    true
}

/// Notes how calls of one batch went. `token` is fresh for every note.
pub fn note(live: &mut LiveState, now: Millis, token: &str, calls: Summary) {
    if live.noted.iter().any(|earlier| earlier == token) {
        return;
    }
    if calls.delivered {
        live.failing_since = None;
        live.failures = 0;
        live.last_success_at = Some(now);
    }
    if calls.failed {
        live.last_failure_at = Some(now);
    }
    if calls.failures_since > 0 {
        live.failing_since.get_or_insert(now);
        live.failures += calls.failures_since;
    }
    live.last_duration_ms = Some(calls.last_duration_ms);
    live.noted.push_back(token.to_owned());
    if live.noted.len() > REMEMBERED {
        live.noted.pop_front();
    }
}

impl LiveState {
    /// The endpoint's state for somebody who has its card, of this version and state. A later
    /// version counts, but not for ever: see [`OVERRULES`].
    pub fn state_of(&self, card_version: u64, card_state: EndpointState, now: Millis) -> EndpointState {
        let later = self.change.filter(|change| change.version > card_version);
        later.filter(|change| now < change.at.after(OVERRULES)).map_or(card_state, |change| change.state)
    }

    /// Whether its last call was slow.
    pub fn is_slow(&self) -> bool {
        self.last_duration_ms.is_some_and(|duration| duration > whole_ms(SLOW))
    }

    /// Whether it failed since its last success.
    pub fn is_failing(&self) -> bool {
        self.failing_since.is_some()
    }

    /// Whether it has been failing for so long and so often that it is to be disabled.
    pub fn must_disable(&self, now: Millis, after: Duration) -> bool {
        self.failures >= MIN_FAILURES && self.failing_since.is_some_and(|since| since.after(after) <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointState::{Disabled, Enabled, Paused};

    const AFTER: Duration = Duration::from_secs(120 * 3600);

    fn calls(outcomes: &[bool]) -> Summary {
        let ended = |(n, &delivered)| Called { delivered, duration_ms: n as u64 };
        Summary::of(&outcomes.iter().enumerate().map(ended).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn only_a_higher_version_changes_the_state() {
        let mut live = LiveState::default();
        assert!(set_state(&mut live, Millis(5), 3, Paused, false));
        assert!(!set_state(&mut live, Millis(6), 3, Enabled, true));
        assert!(!set_state(&mut live, Millis(6), 2, Enabled, true));
        assert_eq!(live.change, Some(Change { version: 3, state: Paused, at: Millis(5) }));
    }

    #[test]
    fn a_later_version_overrules_the_card_for_twenty_minutes() {
        let mut live = LiveState::default();
        assert_eq!(live.state_of(1, Enabled, Millis(0)), Enabled);
        set_state(&mut live, Millis(5), 3, Paused, false);
        let end = Millis(5).after(OVERRULES).0;
        assert_eq!([0, end - 1, end].map(|now| live.state_of(2, Enabled, Millis(now))), [Paused, Paused, Enabled]);
        assert_eq!([3, 4].map(|version| live.state_of(version, Disabled, Millis(6))), [Disabled; 2]);
    }

    #[test]
    fn a_fresh_start_forgets_failures_and_a_mere_change_does_not() {
        let mut live = LiveState::default();
        note(&mut live, Millis(1), "a", calls(&[false, false]));
        set_state(&mut live, Millis(2), 1, Paused, false);
        assert_eq!((live.failing_since, live.failures), (Some(Millis(1)), 2));
        set_state(&mut live, Millis(3), 2, Enabled, true);
        assert_eq!((live.is_failing(), live.failures, live.last_failure_at), (false, 0, Some(Millis(1))));
    }

    #[test]
    fn what_counts_is_what_failed_after_the_last_success() {
        let mut live = LiveState::default();
        note(&mut live, Millis(1), "a", calls(&[false]));
        note(&mut live, Millis(2), "b", calls(&[false, false]));
        assert_eq!((live.failing_since, live.failures, live.last_success_at), (Some(Millis(1)), 3, None));
        note(&mut live, Millis(3), "c", calls(&[false, true, false]));
        assert_eq!((live.failing_since, live.failures), (Some(Millis(3)), 1));
        note(&mut live, Millis(4), "d", calls(&[false, true]));
        assert_eq!((live.is_failing(), live.failures), (false, 0));
        assert_eq!((live.last_success_at, live.last_failure_at), (Some(Millis(4)), Some(Millis(4))));
        assert_eq!((live.last_duration_ms, Summary::of(&[])), (Some(1), None));
    }

    #[test]
    fn a_note_that_is_sent_again_counts_once() {
        let mut live = LiveState::default();
        for token in ["a", "b", "a", "b", "a"] {
            note(&mut live, Millis(1), token, calls(&[false]));
        }
        assert_eq!(live.failures, 2);
    }

    #[test]
    fn an_endpoint_is_disabled_when_it_failed_for_long_and_often() {
        let failing = |failures, since| LiveState { failures, failing_since: Some(since), ..LiveState::default() };
        let end = Millis(7).after(AFTER);
        assert!(failing(10, Millis(7)).must_disable(end, AFTER));
        assert!(!failing(9, Millis(7)).must_disable(end, AFTER));
        assert!(!failing(10, Millis(8)).must_disable(end, AFTER));
        assert!(!LiveState::default().must_disable(end, AFTER));
    }

    #[test]
    fn above_two_seconds_it_is_slow() {
        let slow = |last_duration_ms| LiveState { last_duration_ms, ..LiveState::default() }.is_slow();
        assert_eq!([None, Some(2000), Some(2001)].map(slow), [false, false, true]);
    }
}
