//! A circuit breaker, shared by every consumer. A direct webhook has one, that of its origin.
//! A delivery to an endpoint has two: the endpoint's counts answers, its host's counts
//! connections, so that no endpoint waits for another one of its host.
//!
//! These rules stand twice on purpose, like those of the delivery record: here
//! as the specification, in `adapters` as Lua. It is closed while traffic flows.
//! Consecutive failures open it; when its time is over, one probe decides. Every
//! change bumps an epoch, and a report counts only in the epoch it began in, so
//! that a late result never moves it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};
use url::Url;

use crate::destination::Destination;
use crate::names::is_endpoint_id;
use crate::outcome::{HealthSignal, Watched};
use crate::time::Millis;

/// How many reports are remembered, so that a re-sent one counts once.
pub const REMEMBERED: usize = 32;

/// How many paths are remembered whose probes failed.
pub const MAX_FAILED_PATHS: usize = 8;

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Consecutive failures that open it.
    pub failure_threshold: u32,
    /// How long it stays open at first, in ms.
    pub reset_ms: u64,
    /// Each failed probe doubles that, up to this.
    pub reset_max_ms: u64,
}

/// Breaker policies by destination: one for all, and exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerPolicies {
    /// For every destination without one of its own.
    pub general: BreakerPolicy,
    /// For flaky but necessary ones.
    pub overrides: BTreeMap<String, BreakerPolicy>,
}

impl BreakerPolicies {
    /// The policy of a breaker.
    pub fn of(&self, breaker: &str) -> BreakerPolicy {
        self.overrides.get(breaker).copied().unwrap_or(self.general)
    }

    /// The name of the breaker that calls to `url` ask: the destination, or the longest
    /// exception that names a path above the URL's.
    pub fn breaker_of(&self, url: &Url) -> String {
        let destination = Destination::of(url);
        let covering = self.overrides.keys().filter(|name| covers(name, destination.as_str(), url.path()));
        covering.max_by_key(|name| name.len()).map_or_else(|| destination.as_str().to_owned(), Clone::clone)
    }
}

/// What the name of a host's breaker begins with.
const HOST: &str = "connect:";

/// The name of the breaker of an endpoint's host.
pub fn host_breaker(origin: &str) -> String {
    format!("{HOST}{origin}")
}

/// What the breaker of this name watches over, and what that is called.
pub fn watched(name: &str) -> (Watched, &str) {
    match name.strip_prefix(HOST) {
        Some(origin) => (Watched::Host, origin),
        None if is_endpoint_id(name) => (Watched::Endpoint, name),
        None => (Watched::Origin, name),
    }
}

/// A breaker's name as people see it: `endpoint:<id>`, `host:<origin>`, or an origin.
pub fn shown_name(name: &str) -> String {
    match watched(name) {
        (Watched::Host, origin) => format!("host:{origin}"),
        (Watched::Endpoint, id) => format!("endpoint:{id}"),
        (Watched::Origin, origin) => origin.to_owned(),
    }
}

/// Whether the breaker `name` watches a path of a destination: whole segments count.
fn covers(name: &str, destination: &str, path: &str) -> bool {
    let Some(prefix) = name.strip_prefix(destination).filter(|prefix| prefix.starts_with('/')) else { return false };
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The name of a breaker as it is written in settings and requests: a destination, and a
/// path if `url` has one.
pub fn breaker_name(url: &Url) -> String {
    format!("{}{}", Destination::of(url).as_str(), url.path().trim_end_matches('/'))
}

/// Where a breaker stands.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// Traffic flows.
    #[default]
    Closed,
    /// One probe is out, or may go out.
    HalfOpen,
    /// Traffic is refused.
    Open,
}

impl State {
    /// The state's name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The only probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who makes it.
    pub token: String,
    /// When its holder can no longer be alive.
    pub until: Millis,
    /// What it calls; see [`Caller::path`].
    pub path: String,
}

/// The delivery that is to be the next probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which delivery.
    pub id: String,
    /// Whether it is likely to fail: it did before, or a probe to its path did.
    pub is_suspect: bool,
}

/// A breaker, `circuit_breaker:<destination>` in Redis. One that is not there is
/// closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Where it stands.
    pub state: State,
    /// Consecutive failures.
    pub failures: u32,
    /// Bumped by every change of state.
    pub epoch: u64,
    /// When it opened last.
    pub opened_at: Option<Millis>,
    /// When it may half-open.
    pub retry_at: Option<Millis>,
    /// How long it is open this time, in ms.
    pub reset_ms: Option<u64>,
    /// The probe that is out.
    pub probe: Option<Probe>,
    /// The delivery that waits exactly until `retry_at`.
    pub candidate: Option<Candidate>,
    /// Paths whose probes failed since it opened, the last ones.
    pub failed_paths: VecDeque<String>,
    /// Tokens of the last reports that could change something.
    pub reported: VecDeque<String>,
}

/// The right to call a destination.
#[must_use = "report how the call went"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// As one of many.
    Regular {
        /// The epoch it began in.
        epoch: u64,
    },
    /// As the one that decides.
    Probe {
        /// The epoch it began in.
        epoch: u64,
        /// Whose it is.
        token: String,
        /// How long the breaker was open before, in ms.
        reset_ms: u64,
    },
    /// The breaker could not be asked; nothing is reported.
    Blind,
}

/// The answer to somebody who wants to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Call.
    Admitted(Pass),
    /// Come back later.
    Refused {
        /// When the breaker may let somebody through.
        wait: Duration,
        /// Whether this one is first in line.
        first: bool,
    },
}

/// How long somebody who becomes the probe holds its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTimes {
    /// How long the caller can live: after that, the probe is lost.
    pub lease: Duration,
    /// How long a call takes at most. Others wait for a probe this long, since its
    /// holder mostly lives far longer than its call.
    pub call: Duration,
}

/// A delivery that asks to call.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Which delivery.
    pub id: &'a str,
    /// This receive of its message.
    pub token: &'a str,
    /// Whether an attempt of it failed before. One that always fails must not keep a
    /// destination's other deliveries waiting, so it yields to one that has not failed.
    pub has_failed: bool,
    /// A short name for the path that it calls, without spaces. A path whose probe failed
    /// yields to the destination's other paths.
    pub path: &'a str,
    /// How long it holds the place of the probe.
    pub times: ProbeTimes,
}

/// Asks to call.
pub fn admit(breaker: &mut Breaker, now: Millis, caller: Caller<'_>, policy: &BreakerPolicy) -> Admission {
    let probing = |breaker: &Breaker| {
        Admission::Admitted(Pass::Probe {
            epoch: breaker.epoch,
            token: caller.token.to_owned(),
            reset_ms: breaker.reset_ms.unwrap_or(policy.reset_ms),
        })
    };
    let is_suspect = caller.has_failed || breaker.failed_paths.iter().any(|path| path == caller.path);
    match breaker.state {
        State::Closed => return Admission::Admitted(Pass::Regular { epoch: breaker.epoch }),
        State::Open => {
            let retry_at = breaker.retry_at.unwrap_or_default();
            let candidate = breaker.candidate.as_ref();
            let yields = |candidate: &Candidate| candidate.id != caller.id && is_suspect && !candidate.is_suspect;
            if now < retry_at {
                let first = candidate
                    .is_none_or(|candidate| candidate.id == caller.id || (candidate.is_suspect && !is_suspect));
                if first {
                    breaker.candidate = Some(Candidate { id: caller.id.to_owned(), is_suspect });
                }
                return Admission::Refused { wait: now.until(retry_at), first };
            }
            // A candidate that is not suspect is on its way, and is given the time of a call.
            let reserved_until = retry_at.after(caller.times.call);
            if now < reserved_until && candidate.is_some_and(yields) {
                return Admission::Refused { wait: now.until(reserved_until), first: false };
            }
        }
        State::HalfOpen => {
            if let Some(probe) = &breaker.probe {
                if probe.token == caller.token {
                    return probing(breaker);
                }
                if now < probe.until {
                    let wait = now.until(probe.until).min(caller.times.call);
                    return Admission::Refused { wait, first: false };
                }
            }
        }
    }
    breaker.state = State::HalfOpen;
    breaker.epoch += 1;
    breaker.candidate = None;
    let until = now.after(caller.times.lease);
    breaker.probe = Some(Probe { token: caller.token.to_owned(), until, path: caller.path.to_owned() });
    probing(breaker)
}

/// Reports how calls that began in `epoch` went, in the order in which they ended.
pub fn report(
    breaker: &mut Breaker,
    now: Millis,
    token: &str,
    epoch: u64,
    signals: &[HealthSignal],
    policy: &BreakerPolicy,
) {
    if breaker.state != State::Closed
        || breaker.epoch != epoch
        || breaker.reported.iter().any(|earlier| earlier == token)
    {
        return;
    }
    // Said again later, this would count anew. Only success upon success may be
    // forgotten: it writes nothing.
    if breaker.failures == 0 && !signals.contains(&HealthSignal::Unhealthy) {
        return;
    }
    remember(breaker, token);
    for signal in signals {
        match signal {
            HealthSignal::Healthy => breaker.failures = 0,
            HealthSignal::Unhealthy => {
                breaker.failures += 1;
                if breaker.failures >= policy.failure_threshold {
                    return open(breaker, now, policy.reset_ms);
                }
            }
            HealthSignal::Throttled | HealthSignal::Neutral => {}
        }
    }
}

/// Reports how a probe went.
pub fn report_probe(
    breaker: &mut Breaker,
    now: Millis,
    token: &str,
    epoch: u64,
    signal: HealthSignal,
    policy: &BreakerPolicy,
) {
    let Some(probe) = breaker.probe.clone().filter(|probe| probe.token == token) else { return };
    if breaker.state != State::HalfOpen || breaker.epoch != epoch {
        return;
    }
    match signal {
        HealthSignal::Healthy => close(breaker),
        HealthSignal::Unhealthy | HealthSignal::Throttled => {
            let reset = next_reset_ms(breaker.reset_ms.unwrap_or(policy.reset_ms), policy);
            open(breaker, now, reset);
            if !breaker.failed_paths.contains(&probe.path) {
                breaker.failed_paths.push_back(probe.path);
                if breaker.failed_paths.len() > MAX_FAILED_PATHS {
                    breaker.failed_paths.pop_front();
                }
            }
        }
        HealthSignal::Neutral => breaker.probe = None,
    }
}

/// How long a breaker stays open after a failed probe.
pub fn next_reset_ms(reset_ms: u64, policy: &BreakerPolicy) -> u64 {
    reset_ms.saturating_mul(2).min(policy.reset_max_ms.max(policy.reset_ms))
}

/// Closes a breaker by hand.
pub fn reset(breaker: &mut Breaker) {
    close(breaker);
}

fn open(breaker: &mut Breaker, now: Millis, reset_ms: u64) {
    breaker.state = State::Open;
    breaker.epoch += 1;
    breaker.opened_at = Some(now);
    breaker.retry_at = Some(now.after(Duration::from_millis(reset_ms)));
    breaker.reset_ms = Some(reset_ms);
    breaker.probe = None;
    breaker.candidate = None;
}

fn close(breaker: &mut Breaker) {
    let epoch = breaker.epoch + 1;
    *breaker = Breaker { epoch, ..Breaker::default() };
}

fn remember(breaker: &mut Breaker, token: &str) {
    breaker.reported.push_back(token.to_owned());
    if breaker.reported.len() > REMEMBERED {
        breaker.reported.pop_front();
    }
}

impl Breaker {
    /// What it is for whoever looks: an open one whose time is over is half-open,
    /// whether somebody has come by or not.
    pub fn seen_at(&self, now: Millis) -> State {
        match self.state {
            State::Open if self.retry_at.is_none_or(|retry_at| now >= retry_at) => State::HalfOpen,
            State::Closed | State::Open | State::HalfOpen => self.state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller<'a>(id: &'a str, token: &'a str, lease_ms: u64, call_ms: u64) -> Caller<'a> {
        let times = ProbeTimes { lease: Duration::from_millis(lease_ms), call: Duration::from_millis(call_ms) };
        Caller { id, token, has_failed: false, path: "p", times }
    }

    const POLICY: BreakerPolicy = BreakerPolicy { failure_threshold: 5, reset_ms: 60_000, reset_max_ms: 900_000 };
    const BAD: HealthSignal = HealthSignal::Unhealthy;

    fn tripped() -> Breaker {
        let mut breaker = Breaker::default();
        report(&mut breaker, Millis(0), "r", 0, &[BAD; 5], &POLICY);
        assert_eq!(breaker.state, State::Open);
        breaker
    }

    fn probe(breaker: &mut Breaker, now: u64, token: &str) -> u64 {
        let answer = admit(breaker, Millis(now), caller("d", token, 10_000, 10_000), &POLICY);
        let Admission::Admitted(Pass::Probe { epoch, .. }) = answer else { panic!("{answer:?}") };
        epoch
    }

    #[test]
    fn a_breakers_name_tells_what_it_watches_over() {
        let id = format!("ep_{}", "a".repeat(22));
        let host = host_breaker("https://a.example");
        assert_eq!(watched(&id), (Watched::Endpoint, id.as_str()));
        assert_eq!(watched(&host), (Watched::Host, "https://a.example"));
        assert_eq!(watched("https://a.example/x"), (Watched::Origin, "https://a.example/x"));
        assert_eq!(shown_name(&id), format!("endpoint:{id}"));
        assert_eq!(shown_name(&host), "host:https://a.example");
        assert_eq!(shown_name("https://a.example"), "https://a.example");
    }

    #[test]
    fn a_path_may_have_a_breaker_of_its_own() {
        let names = ["https://a.example", "https://a.example/hooks", "https://a.example/hooks/slow"];
        let overrides = names.map(|name| (name.to_owned(), POLICY)).into_iter().collect();
        let policies = BreakerPolicies { general: POLICY, overrides };
        for (url, wanted) in [
            ("https://a.example/", "https://a.example"),
            ("https://a.example/hooksy", "https://a.example"),
            ("https://a.example/hooks", "https://a.example/hooks"),
            ("https://A.example:443/hooks/x?y", "https://a.example/hooks"),
            ("https://a.example/hooks/slow/x", "https://a.example/hooks/slow"),
            ("https://a.example.org/hooks", "https://a.example.org"),
            ("https://a.example:8443/hooks", "https://a.example:8443"),
        ] {
            assert_eq!(policies.breaker_of(&Url::parse(url).unwrap()), wanted, "{url}");
        }
        assert_eq!(breaker_name(&Url::parse("HTTPS://a.example:443/hooks/").unwrap()), "https://a.example/hooks");
        assert_eq!(breaker_name(&Url::parse("https://a.example").unwrap()), "https://a.example");
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_starts_over() {
        let mut breaker = Breaker::default();
        report(&mut breaker, Millis(0), "a", 0, &[BAD, BAD, BAD, BAD, HealthSignal::Healthy, BAD], &POLICY);
        assert_eq!((breaker.state, breaker.failures), (State::Closed, 1));
        report(
            &mut breaker,
            Millis(0),
            "b",
            0,
            &[HealthSignal::Throttled, BAD, HealthSignal::Neutral, BAD, BAD],
            &POLICY,
        );
        assert_eq!((breaker.state, breaker.failures), (State::Closed, 4));
        report(&mut breaker, Millis(7), "c", 0, &[BAD, HealthSignal::Healthy], &POLICY);
        assert_eq!((breaker.state, breaker.retry_at, breaker.epoch), (State::Open, Some(Millis(60_007)), 1));
    }

    #[test]
    fn a_re_sent_report_counts_once() {
        let mut breaker = Breaker::default();
        for token in ["a", "b", "a", "a", "b"] {
            report(&mut breaker, Millis(0), token, 0, &[BAD, BAD], &POLICY);
        }
        assert_eq!(breaker.failures, 4);
    }

    #[test]
    fn a_report_that_changed_nothing_in_sum_is_remembered_too() {
        let mut breaker = Breaker::default();
        report(&mut breaker, Millis(0), "a", 0, &[BAD, HealthSignal::Healthy], &POLICY);
        report(&mut breaker, Millis(0), "b", 0, &[BAD; 4], &POLICY);
        report(&mut breaker, Millis(0), "a", 0, &[BAD, HealthSignal::Healthy], &POLICY);
        assert_eq!((breaker.state, breaker.failures), (State::Closed, 4));
    }

    #[test]
    fn throttling_never_opens_it_whatever_the_count() {
        let mut breaker = Breaker { failures: 9, ..Breaker::default() };
        report(&mut breaker, Millis(0), "a", 0, &[HealthSignal::Throttled, HealthSignal::Neutral], &POLICY);
        assert_eq!(breaker.state, State::Closed);
    }

    #[test]
    fn while_a_probe_is_out_others_wait_as_long_as_a_call_takes() {
        let mut breaker = tripped();
        probe(&mut breaker, 60_000, "p");
        let wait = Duration::from_millis(25);
        let answer = admit(&mut breaker, Millis(60_001), caller("e", "q", 60_000, 25), &POLICY);
        assert_eq!(answer, Admission::Refused { wait, first: false });
    }

    #[test]
    fn an_open_one_refuses_and_only_the_first_waits_exactly() {
        let mut breaker = tripped();
        let mut ask = |id: &str| admit(&mut breaker, Millis(20_000), caller(id, "t", 1, 1), &POLICY);
        let wait = Duration::from_secs(40);
        assert_eq!(ask("x"), Admission::Refused { wait, first: true });
        assert_eq!(ask("y"), Admission::Refused { wait, first: false });
        assert_eq!(ask("x"), Admission::Refused { wait, first: true });
    }

    #[test]
    fn a_delivery_that_failed_yields_to_one_that_has_not() {
        let mut breaker = tripped();
        let failed = |id| Caller { has_failed: true, ..caller(id, id, 60_000, 25_000) };
        let fresh = |id| caller(id, id, 60_000, 25_000);
        let mut ask = |now, caller| admit(&mut breaker, Millis(now), caller, &POLICY);
        let refused = |wait_ms, first| Admission::Refused { wait: Duration::from_millis(wait_ms), first };
        assert_eq!(ask(20_000, failed("x")), refused(40_000, true));
        assert_eq!(ask(20_000, failed("y")), refused(40_000, false));
        assert_eq!(ask(20_000, fresh("z")), refused(40_000, true), "it becomes the candidate");
        assert_eq!(ask(20_000, fresh("w")), refused(40_000, false));
        assert_eq!(ask(60_000, failed("x")), refused(25_000, false), "the candidate is on its way");
        assert!(matches!(ask(60_001, fresh("z")), Admission::Admitted(Pass::Probe { .. })));
    }

    #[test]
    fn a_path_whose_probe_failed_yields_to_the_others() {
        let mut breaker = tripped();
        let on = |id, path| Caller { path, ..caller(id, id, 60_000, 25_000) };
        let Admission::Admitted(Pass::Probe { epoch, .. }) =
            admit(&mut breaker, Millis(60_000), on("x", "bad"), &POLICY)
        else {
            panic!("no probe")
        };
        report_probe(&mut breaker, Millis(60_001), "x", epoch, BAD, &POLICY);
        let mut first = |id, path| match admit(&mut breaker, Millis(70_000), on(id, path), &POLICY) {
            Admission::Refused { first, .. } => first,
            Admission::Admitted(_) => panic!("it is open"),
        };
        assert_eq!([first("y", "bad"), first("z", "good"), first("w", "bad")], [true, true, false]);
    }

    #[test]
    fn a_candidate_that_does_not_come_holds_nobody_up_for_long() {
        let mut breaker = tripped();
        let failed = |id| Caller { has_failed: true, ..caller(id, id, 60_000, 25_000) };
        admit(&mut breaker, Millis(20_000), caller("z", "z", 60_000, 25_000), &POLICY);
        let answer = admit(&mut breaker, Millis(85_000), failed("x"), &POLICY);
        assert!(matches!(answer, Admission::Admitted(Pass::Probe { .. })));
    }

    #[test]
    fn one_probe_decides() {
        for (signal, state) in
            [(HealthSignal::Healthy, State::Closed), (BAD, State::Open), (HealthSignal::Throttled, State::Open)]
        {
            let mut breaker = tripped();
            let epoch = probe(&mut breaker, 60_000, "p");
            assert!(matches!(
                admit(&mut breaker, Millis(60_001), caller("e", "q", 1, 1), &POLICY),
                Admission::Refused { .. }
            ));
            report_probe(&mut breaker, Millis(61_000), "p", epoch, signal, &POLICY);
            assert_eq!(breaker.state, state, "{signal:?}");
        }
    }

    #[test]
    fn each_failed_probe_doubles_the_time_up_to_its_limit() {
        let mut breaker = tripped();
        let mut resets = Vec::new();
        for n in 0..6 {
            let now = breaker.retry_at.unwrap().0;
            let epoch = probe(&mut breaker, now, &n.to_string());
            report_probe(&mut breaker, Millis(now), &n.to_string(), epoch, BAD, &POLICY);
            resets.push(breaker.reset_ms.unwrap() / 1000);
        }
        assert_eq!(resets, [120, 240, 480, 900, 900, 900]);
    }

    #[test]
    fn a_lost_probe_is_replaced_when_its_lease_ends_and_its_result_ignored() {
        let mut breaker = tripped();
        let lost = probe(&mut breaker, 60_000, "p");
        assert!(matches!(
            admit(&mut breaker, Millis(69_999), caller("e", "q", 10_000, 10_000), &POLICY),
            Admission::Refused { .. }
        ));
        let epoch = probe(&mut breaker, 70_000, "q");
        report_probe(&mut breaker, Millis(70_001), "p", lost, HealthSignal::Healthy, &POLICY);
        assert_eq!(breaker.state, State::HalfOpen);
        report_probe(&mut breaker, Millis(70_002), "q", epoch, HealthSignal::Healthy, &POLICY);
        assert_eq!(breaker.state, State::Closed);
    }

    #[test]
    fn a_neutral_probe_frees_the_slot_at_once() {
        let mut breaker = tripped();
        let epoch = probe(&mut breaker, 60_000, "p");
        report_probe(&mut breaker, Millis(60_001), "p", epoch, HealthSignal::Neutral, &POLICY);
        probe(&mut breaker, 60_002, "q");
    }

    #[test]
    fn a_straggler_cannot_move_it() {
        let mut breaker = tripped();
        report(&mut breaker, Millis(1), "late", 0, &[HealthSignal::Healthy], &POLICY);
        assert_eq!(breaker.state, State::Open);
        let epoch = probe(&mut breaker, 60_000, "p");
        report(&mut breaker, Millis(60_001), "later", 0, &[HealthSignal::Healthy], &POLICY);
        report(&mut breaker, Millis(60_001), "later", epoch, &[HealthSignal::Healthy], &POLICY);
        assert_eq!(breaker.state, State::HalfOpen);
    }

    #[test]
    fn failures_of_an_earlier_closed_time_do_not_count() {
        let mut breaker = tripped();
        let epoch = probe(&mut breaker, 60_000, "p");
        report_probe(&mut breaker, Millis(60_001), "p", epoch, HealthSignal::Healthy, &POLICY);
        report(&mut breaker, Millis(60_002), "late", 0, &[BAD; 5], &POLICY);
        assert_eq!((breaker.state, breaker.failures), (State::Closed, 0));
    }

    #[test]
    fn a_re_sent_admission_gets_the_same_probe() {
        let mut breaker = tripped();
        let epoch = probe(&mut breaker, 60_000, "p");
        assert_eq!(probe(&mut breaker, 60_100, "p"), epoch);
    }

    #[test]
    fn time_that_steps_back_does_not_wedge_it() {
        let mut breaker = tripped();
        probe(&mut breaker, 60_000, "p");
        // A failover whose clock is two seconds behind.
        assert!(matches!(
            admit(&mut breaker, Millis(58_000), caller("e", "q", 10_000, 10_000), &POLICY),
            Admission::Refused { .. }
        ));
        probe(&mut breaker, 70_000, "q");
    }

    #[test]
    fn it_is_seen_half_open_when_its_time_is_over() {
        let breaker = tripped();
        assert_eq!((breaker.seen_at(Millis(59_999)), breaker.seen_at(Millis(60_000))), (State::Open, State::HalfOpen));
    }
}
