//! Tests of how calls are granted.

use proptest::prelude::*;

use super::*;

const BEGIN: Millis = Millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn rate(per_s: f64) -> Option<Rate> {
    Some(Rate::try_from(per_s).unwrap())
}

/// Asks with a token that was never used.
fn ask(state: &mut RateState, now: Millis, wanted: u32, own: Option<Rate>) -> Taken {
    let n = state.answers.back().map_or(0, |(token, _)| token.parse::<u64>().unwrap() + 1);
    take(state, now, &n.to_string(), wanted, own)
}

/// Has ten calls wanted at every step for `steps`. Gives how many were granted.
fn saturate(state: &mut RateState, begin: Millis, step_ms: u64, steps: u64, own: Option<Rate>) -> u64 {
    (0..steps).map(|n| u64::from(ask(state, Millis(begin.0 + n * step_ms), 10, own).granted)).sum()
}

#[test]
fn without_a_limit_everything_goes_and_nothing_is_kept() {
    let mut state = RateState::default();
    assert_eq!(ask(&mut state, BEGIN, 10, None), Taken { granted: 10, advice: Vec::new() });
    assert_eq!(state, RateState::default());
}

#[test]
fn a_second_s_worth_goes_at_once_and_three_calls_at_least() {
    for (per_s, burst) in [(0.1, 3), (1.0, 3), (4.5, 4), (50.0, 50), (500.0, 500)] {
        let granted = saturate(&mut RateState::default(), BEGIN, 0, 200, rate(per_s));
        assert_eq!(granted, burst, "{per_s}");
    }
}

#[test]
fn a_saturated_limit_grants_what_it_should_within_one_per_cent() {
    for (per_s, step_ms) in [(0.1, 1700), (1.0, 333), (7.3, 61), (50.0, 7), (333.333, 5), (500.0, 3)] {
        let seconds = 100_000 / step_ms.max(20) + 3000;
        let granted = saturate(&mut RateState::default(), BEGIN, step_ms, seconds * 1000 / step_ms, rate(per_s));
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let (granted, ideal) = (granted as f64, per_s * seconds as f64 + per_s.max(3.0));
        assert!((granted / ideal - 1.0).abs() < 0.01, "{per_s}: {granted} of {ideal}");
    }
}

#[test]
fn fractions_do_not_drift_over_a_million_grants() {
    let own = rate(333.333);
    let mut state = RateState::default();
    saturate(&mut state, BEGIN, 0, 40, own);
    // The burst leaves a third of a call, and the limit of its second holds back others for a while. Then
    // what was granted is what the rate says, rounded down.
    let (mut granted, mut now) = (0u64, BEGIN);
    while granted < 1_000_000 {
        now = Millis(now.0 + 27);
        granted += u64::from(ask(&mut state, now, 10, own).granted);
        let ideal = ((now.0 - BEGIN.0) * 333_333 + 333_000) / 1_000_000;
        assert!(granted == ideal || now < BEGIN.after(Duration::from_secs(60)), "{granted} of {ideal}");
    }
}

#[test]
fn the_slowest_rate_delivers_once_in_ten_seconds() {
    let mut state = RateState::default();
    saturate(&mut state, BEGIN, 0, 3, rate(0.1));
    let granted: Vec<u64> = (1..60u64)
        .filter(|second| ask(&mut state, Millis(BEGIN.0 + second * 1000), 1, rate(0.1)).granted == 1)
        .collect();
    assert_eq!(granted, [10, 20, 30, 40, 50]);
}

#[test]
fn advice_is_spread_behind_earlier_advice_and_not_before_the_next_call() {
    let mut state = RateState::default();
    let first = ask(&mut state, BEGIN, 5, rate(1.0));
    assert_eq!((first.granted, first.advice), (3, [1032, 2063].map(|ms| Millis(BEGIN.0 + ms)).to_vec()));
    let second = ask(&mut state, Millis(BEGIN.0 + 500), 1, rate(1.0));
    assert_eq!((second.granted, second.advice), (0, vec![Millis(BEGIN.0 + 3094)]));
    let later = ask(&mut state, Millis(BEGIN.0 + 5000), 4, rate(1.0));
    assert_eq!((later.granted, later.advice), (3, vec![Millis(BEGIN.0 + 6032)]));
}

#[test]
fn advice_is_four_hours_ahead_at_most_and_goes_on_in_layers() {
    let mut state = RateState::default();
    let ahead: Vec<Duration> =
        (0..4000).flat_map(|_| ask(&mut state, BEGIN, 10, rate(1.0)).advice).map(|at| BEGIN.until(at)).collect();
    assert_eq!(ahead.iter().max().copied().map(|most| most.as_secs().div_ceil(60)), Some(240));
    // The first layer takes four hours, and every further one an hour.
    let in_last_hour = ahead.iter().filter(|ahead| **ahead > 3 * HOUR).count();
    assert!((26_000..30_000).contains(&in_last_hour), "{in_last_hour}");
}

#[test]
fn a_full_bucket_that_stays_full_begins_advice_anew() {
    let mut state = RateState::default();
    for _ in 0..1000 {
        let _ = ask(&mut state, BEGIN, 10, rate(1.0));
    }
    // Full after three seconds, and quiet after thirty more.
    let mut early = state.clone();
    let answer = ask(&mut early, Millis(BEGIN.0 + 32_999), 4, rate(1.0));
    assert_eq!((answer.granted, answer.advice[0] > BEGIN.after(2 * HOUR)), (3, true));
    let now = Millis(BEGIN.0 + 33_000);
    assert_eq!(ask(&mut state, now, 4, rate(1.0)), Taken { granted: 3, advice: vec![Millis(now.0 + 1032)] });
}

#[test]
fn a_raised_rate_counts_at_once() {
    let mut state = RateState::default();
    for _ in 0..36 {
        let _ = ask(&mut state, BEGIN, 10, rate(0.1));
    }
    let now = Millis(BEGIN.0 + 1000);
    let answer = ask(&mut state, now, 10, rate(100.0));
    // A second at the new rate, and what waits takes a thousandth of the time.
    assert_eq!(answer.granted, 10);
    let next = ask(&mut state, now, 100, rate(100.0)).advice[0];
    assert!(now.until(next) < Duration::from_secs(5), "{next}");
    assert_eq!(ask(&mut state, Millis(now.0 + 1000), 10, rate(100.0)).granted, 10);
}

#[test]
fn during_a_block_nothing_goes_and_after_it_single_calls() {
    let mut state = RateState::default();
    let until = block(&mut state, BEGIN, "b", Duration::from_secs(60));
    assert_eq!(until, BEGIN.after(Duration::from_secs(60)));
    let answer = take(&mut state, BEGIN, "t", 3, None);
    // At ten a second.
    assert_eq!((answer.granted, answer.advice), (0, [104, 207, 310].map(|ms| Millis(until.0 + ms)).to_vec()));
    assert_eq!(take(&mut state, Millis(until.0 - 1), "u", 1, None).granted, 0);
    assert_eq!(take(&mut state, Millis(until.0 + 99), "v", 1, None).granted, 0);
    assert_eq!(take(&mut state, Millis(until.0 + 300), "w", 5, None).granted, 3);
    assert_eq!(take(&mut state, until.after(LEARNING), "x", 500, None).granted, 500);
}

#[test]
fn advice_after_a_block_follows_the_rate_as_it_doubles() {
    let mut state = RateState::default();
    let until = block(&mut state, BEGIN, "b", Duration::from_secs(60));
    // In six minutes, the rates of 10 to 320 calls a second have room for 36,650 calls.
    let last = (0..3660).map(|n| *take(&mut state, BEGIN, &format!("t{n}"), 10, None).advice.last().unwrap()).max();
    let after = until.until(last.unwrap());
    assert!((Duration::from_secs(355)..=LEARNING).contains(&after), "{after:?}");
}

#[test]
fn the_later_of_two_blocks_counts_and_none_is_longer_than_an_hour() {
    let mut state = RateState::default();
    let first = block(&mut state, BEGIN, "a", 9 * HOUR);
    assert_eq!(first, BEGIN.after(HOUR));
    assert_eq!(block(&mut state, Millis(BEGIN.0 + 5), "b", HOUR / 2), first);
    assert_eq!(block(&mut state, Millis(BEGIN.0 + 5), "a", HOUR), first);
    assert_eq!(block(&mut state, Millis(BEGIN.0 + 5), "c", HOUR), Millis(first.0 + 5));
}

#[test]
fn a_state_of_another_clock_does_not_hold_anybody_for_ever() {
    let mut state = RateState::default();
    let years = BEGIN.after(10_000 * HOUR);
    block(&mut state, years, "a", HOUR);
    let _ = take(&mut state, years, "b", 10, rate(1.0));
    let answer = take(&mut state, BEGIN, "c", 10, rate(1.0));
    assert_eq!((answer.granted, answer.advice[0]), (3, Millis(BEGIN.0 + 1032)));
}

/// A question: ms since the one before, calls wanted, and whether it is sent again at once.
fn questions() -> impl Strategy<Value = Vec<(u64, u32, bool)>> {
    proptest::collection::vec((prop_oneof![0u64..30, 0u64..3000], 1u32..=10, any::<bool>()), 1..200)
}

proptest! {
    #[test]
    fn no_window_has_more_than_the_burst_and_its_rate(thousandths in 100u32..=500_000, questions in questions()) {
        let rate = Rate::from_per_1000_s(thousandths).unwrap();
        let own = Some(rate);
        let (mut state, mut now, mut grants) = (RateState::default(), BEGIN, Vec::new());
        for (pause, wanted, again) in questions {
            now = Millis(now.0 + pause);
            let answer = ask(&mut state, now, wanted, own);
            let (token, _) = state.answers.back().unwrap().clone();
            if again {
                prop_assert_eq!(&take(&mut state, Millis(now.0 + 7), &token, wanted, own), &answer);
            }
            prop_assert_eq!(answer.granted as usize + answer.advice.len(), wanted as usize);
            prop_assert!(answer.advice.iter().all(|at| *at > now && now.until(*at) <= MAX_ADVICE));
            prop_assert!(answer.advice.is_sorted());
            grants.push((now.0, u64::from(answer.granted) * CALL));
        }
        for (n, (begin, _)) in grants.iter().enumerate() {
            let mut sum = 0;
            for (end, granted) in &grants[n..] {
                sum += granted;
                prop_assert!(sum <= burst(rate) + (end - begin) * u64::from(thousandths));
            }
        }
    }

    #[test]
    fn no_second_grants_more_than_a_tenth_above_the_burst(thousandths in 100u32..=500_000, questions in questions()) {
        let rate = Rate::from_per_1000_s(thousandths).unwrap();
        let own = Some(rate);
        let (mut state, mut now, mut seconds) = (RateState::default(), BEGIN, std::collections::BTreeMap::new());
        for (pause, wanted, _) in questions {
            now = Millis(now.0 + pause);
            *seconds.entry(now.as_secs()).or_insert(0) += u64::from(ask(&mut state, now, wanted, own).granted);
        }
        prop_assert!(seconds.values().all(|granted| granted * CALL * 10 <= burst(rate) * 11));
    }
}
