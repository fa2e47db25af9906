//! Messages that wait for the rate of their endpoint, in virtual time. They hop as SQS makes them hop: in
//! whole seconds, fifteen minutes at most. What is due asks in batches of ten.

#![allow(clippy::print_stdout, reason = "the figures of a run are shown")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::RangeInclusive;
use std::time::Duration;

use adapters::aws::sqs::delay_s;
use domain::rate::{MAX_ADVICE, Rate, due};
use domain::rate_rules::{RateState, Taken, take};
use domain::time::Millis;
use fastrand::Rng;
use tests::world::BEGINNING;

const BATCH: usize = 10;
/// The longest delay of SQS, in seconds.
const HOP_S: u64 = 900;
const DAY_S: u64 = 86_400;
const HOUR: Duration = Duration::from_secs(3600);

/// One endpoint's limit, and how often it was asked.
struct Limit {
    state: RateState,
    own: Option<Rate>,
    asks: u64,
}

impl Limit {
    fn new(per_s: f64) -> Self {
        Self { state: RateState::default(), own: Rate::try_from(per_s).ok(), asks: 0 }
    }

    fn ask(&mut self, now: Millis, wanted: usize) -> Taken {
        self.asks += 1;
        take(&mut self.state, now, &self.asks.to_string(), u32::try_from(wanted).unwrap(), self.own)
    }
}

/// A backlog of one endpoint, by the second in which its messages are due. They are alike, so they are counted.
struct Backlog {
    limit: Limit,
    rng: Rng,
    /// Messages that are due in each second, from the present one on.
    due: Vec<u64>,
    now: Millis,
    waiting: u64,
    granted: u64,
    asking: u64,
    receives: u64,
}

impl Backlog {
    fn new(per_s: f64) -> Self {
        // Every hop may be two seconds late.
        let seconds = usize::try_from(MAX_ADVICE.as_secs()).unwrap() + 100;
        let rng = Rng::with_seed(1);
        Self {
            limit: Limit::new(per_s),
            rng,
            due: vec![0; seconds],
            now: BEGINNING,
            waiting: 0,
            granted: 0,
            asking: 0,
            receives: 0,
        }
    }

    fn slot(&self, at: Millis) -> usize {
        usize::try_from(at.as_secs()).unwrap() % self.due.len()
    }

    /// A batch asks. What is refused waits.
    fn ask(&mut self, at: Millis, wanted: usize) -> u32 {
        let answer = self.limit.ask(at, wanted);
        self.granted += u64::from(answer.granted);
        self.asking += wanted as u64;
        for advice in &answer.advice {
            assert!(at.until(*advice) <= MAX_ADVICE);
            let wait_s = due(at, *advice).as_secs() - at.as_secs();
            let hops = wait_s.div_ceil(HOP_S);
            self.receives += hops;
            let late_s = (0..hops).filter(|_| self.rng.u8(0..10) == 0).count() as u64;
            let slot = self.slot(at.after(Duration::from_secs(wait_s + late_s)));
            self.due[slot] += 1;
            self.waiting += 1;
        }
        answer.granted
    }

    /// One second, in which so many new deliveries come.
    fn second(&mut self, new: u64) {
        let slot = self.slot(self.now);
        let mut back = std::mem::take(&mut self.due[slot]);
        self.waiting -= back;
        let mut batches: Vec<usize> = vec![1; usize::try_from(new).unwrap()];
        while back > 0 {
            let batch = back.min(BATCH as u64);
            back -= batch;
            batches.push(usize::try_from(batch).unwrap());
        }
        self.rng.shuffle(&mut batches);
        let pause = 1000 / (batches.len() as u64 + 1);
        for (n, wanted) in batches.into_iter().enumerate() {
            self.ask(Millis(self.now.0 + pause * n as u64), wanted);
        }
        self.now = self.now.after(Duration::from_secs(1));
    }
}

#[test]
fn twice_the_rate_for_six_days_drains_at_the_rate_and_leaves_nothing_behind() {
    let mut backlog = Backlog::new(1.0);
    let (mut most_asking, mut before) = (0, 0);
    for second in 0..6 * DAY_S {
        backlog.second(2);
        if second % 3600 == 0 {
            most_asking = most_asking.max((backlog.asking - before) / 3600);
            before = backlog.asking;
        }
    }
    assert!(backlog.waiting > 500_000);
    let mut seconds = 6 * DAY_S;
    while backlog.waiting > 0 {
        backlog.second(0);
        seconds += 1;
    }
    let ideal = 2 * 6 * DAY_S;
    println!(
        "{} deliveries in {:.3} of the ideal time; asking {} in all, {} a second at most; {} batches; {} receives a second",
        backlog.granted,
        seconds as f64 / ideal as f64,
        backlog.asking,
        most_asking,
        backlog.limit.asks,
        backlog.receives / seconds,
    );
    assert_eq!(backlog.granted, ideal);
    assert!(seconds * 100 <= ideal * 105, "{seconds} of {ideal}");
    // Half a million wait for four hours at a time.
    assert!(most_asking <= 45, "{most_asking}");
    // The burst is back, and nobody is asked to wait for those that are gone.
    backlog.now = backlog.now.after(Duration::from_secs(60));
    assert_eq!(backlog.ask(backlog.now, 4), 3);
    (0..5).for_each(|_| backlog.second(0));
    assert_eq!(backlog.waiting, 0);
}

#[test]
fn an_endpoint_whose_waiting_messages_vanished_is_as_good_as_new() {
    let mut limit = Limit::new(1.0);
    for _ in 0..2000 {
        let _ = limit.ask(BEGINNING, BATCH);
    }
    let advised_until_us = limit.state.advised.map(|advised| advised.until_us);
    assert!(advised_until_us.is_some_and(|until_us| until_us >= BEGINNING.after(MAX_ADVICE - HOUR).0 * 1000));
    // All of them are gone. New deliveries go at once, as long as they come at the rate.
    let later = |seconds: u64| BEGINNING.after(Duration::from_secs(seconds));
    assert_eq!(limit.ask(later(4), 4).granted, 3);
    assert!((5..30).all(|seconds| limit.ask(later(seconds), 1).granted == 1));
    // A burst may have to wait for ghosts, until the limit was quiet for half a minute.
    let ghosts = limit.ask(later(34), BATCH);
    assert!(ghosts.granted == 3 && ghosts.advice.iter().all(|at| later(34).until(*at) <= MAX_ADVICE));
    let quiet = limit.ask(later(70), BATCH);
    assert!(quiet.granted == 3 && quiet.advice.iter().all(|at| later(70).until(*at) < Duration::from_secs(10)));
}

/// What may happen, in virtual time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// A consumer has its batch, and asks.
    Ask(usize),
    /// A consumer is free again.
    Free(usize),
}

/// Five thousand deliveries and six consumers.
struct Flood {
    rng: Rng,
    limit: Limit,
    now: Millis,
    /// How long a call takes, in ms.
    call_ms: RangeInclusive<u64>,
    /// Messages by the time at which they can be received.
    queue: BinaryHeap<Reverse<(Millis, u64, usize)>>,
    moments: BinaryHeap<Reverse<(Millis, Moment)>>,
    batches: Vec<Vec<usize>>,
    idle: Vec<usize>,
    sends: u64,
    asked: Vec<u32>,
    granted_at: Vec<Millis>,
}

impl Flood {
    fn new(seed: u64, call_ms: RangeInclusive<u64>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let begin = Millis(BEGINNING.0 + rng.u64(0..1000));
        Self {
            rng,
            limit: Limit::new(50.0),
            now: begin,
            call_ms,
            queue: (0..5000).map(|n| Reverse((begin, 0, n))).collect(),
            moments: BinaryHeap::new(),
            batches: vec![Vec::new(); 6],
            idle: (0..6).collect(),
            sends: 0,
            asked: vec![0; 5000],
            granted_at: Vec::new(),
        }
    }

    fn later(&mut self, at: Millis, ms: RangeInclusive<u64>) -> Millis {
        Millis(at.0 + self.rng.u64(ms))
    }

    fn run(&mut self) {
        loop {
            let received = self.queue.peek().filter(|_| !self.idle.is_empty()).map(|Reverse((at, ..))| *at);
            let moment = self.moments.peek().map(|Reverse((at, _))| *at);
            match (received, moment) {
                (Some(at), moment) if moment.is_none_or(|moment| at <= moment) => {
                    self.now = self.now.max(at);
                    self.receive();
                }
                (_, Some(at)) => {
                    self.now = at;
                    self.happen(at);
                }
                (_, None) => break,
            }
        }
    }

    /// A consumer receives what there is.
    fn receive(&mut self) {
        let (consumer, now) = (self.idle.pop().unwrap(), self.now);
        while self.batches[consumer].len() < BATCH && self.queue.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            self.batches[consumer].push(self.queue.pop().unwrap().0.2);
        }
        let ask_at = self.later(now, 3..=8);
        self.moments.push(Reverse((ask_at, Moment::Ask(consumer))));
    }

    fn happen(&mut self, now: Millis) {
        let consumer = match self.moments.pop().unwrap().0.1 {
            Moment::Ask(consumer) => consumer,
            Moment::Free(consumer) => return self.idle.push(consumer),
        };
        let batch = std::mem::take(&mut self.batches[consumer]);
        let answer = self.limit.ask(now, batch.len());
        let (called, refused) = batch.split_at(answer.granted as usize);
        batch.iter().for_each(|&delivery| self.asked[delivery] += 1);
        let call_ms = self.call_ms.clone();
        let ended = called.iter().map(|_| self.later(now, call_ms.clone())).max().unwrap_or(now);
        self.granted_at.extend(called.iter().map(|_| now));
        // What is refused is sent with the first group that is finished.
        let begin = ended.min(now.after(Duration::from_millis(250)));
        let sent_at = self.later(begin, 3..=10);
        for (&delivery, advice) in refused.iter().zip(&answer.advice) {
            let delay = Duration::from_secs(u64::from(delay_s(sent_at, due(sent_at, *advice))));
            let back_at = self.later(sent_at.after(delay), 0..=30);
            self.sends += 1;
            self.queue.push(Reverse((back_at, self.sends, delivery)));
        }
        self.moments.push(Reverse((Millis(ended.max(sent_at).0 + 5), Moment::Free(consumer))));
    }
}

/// What floods of several seeds came to.
struct Figures {
    /// Calls in one second of the server, at most, after the first burst.
    most_in_a_second: u64,
    /// Calls in any second that begins with a call, at most, after the first burst.
    most_in_any_second: usize,
    /// The longest time, as a share of the ideal one.
    longest: f64,
    /// Deliveries that asked more than twice, and more than three times.
    more_than: [usize; 2],
}

const SEEDS: usize = 20;

fn flood(call_ms: RangeInclusive<u64>) -> Figures {
    let mut figures = Figures { most_in_a_second: 0, most_in_any_second: 0, longest: 0.0, more_than: [0; 2] };
    for seed in 1..=SEEDS {
        let mut flood = Flood::new(seed as u64, call_ms.clone());
        flood.run();
        assert_eq!(flood.granted_at.len(), 5000);
        let (first, last) = (flood.granted_at[0], flood.granted_at[4999]);
        figures.longest = figures.longest.max(first.until(last).as_secs_f64() / (4950.0 / 50.0));
        let mut seconds: BTreeMap<u64, u64> = BTreeMap::new();
        let later = &flood.granted_at[50..];
        later.iter().for_each(|at| *seconds.entry(at.as_secs()).or_default() += 1);
        figures.most_in_a_second = figures.most_in_a_second.max(seconds.into_values().max().unwrap());
        for (n, begin) in later.iter().enumerate() {
            let count = later[n..].iter().take_while(|at| at.0 < begin.0 + 1000).count();
            figures.most_in_any_second = figures.most_in_any_second.max(count);
        }
        for (more, times) in figures.more_than.iter_mut().zip([2, 3]) {
            *more += flood.asked.iter().filter(|asked| **asked > times).count();
        }
    }
    let Figures { most_in_a_second, most_in_any_second, longest, more_than: [thrice, oftener] } = &figures;
    println!(
        "{SEEDS} floods of 5000: {most_in_a_second} in a second of the server at most, {most_in_any_second} in any; \
         {longest:.3} of the ideal time; {thrice} ask more than twice, {oftener} more than three times",
    );
    figures
}

#[test]
fn five_thousand_at_once_go_at_fifty_a_second() {
    let figures = flood(5..=50);
    assert!(figures.most_in_a_second <= 55, "{}", figures.most_in_a_second);
    assert!(figures.longest <= 1.1, "{}", figures.longest);
    assert_eq!(figures.more_than[1], 0);
}

#[test]
fn slow_receivers_make_hardly_any_delivery_ask_a_fourth_time() {
    // Consumers that are busy ask late, so lumps come together that should not.
    let figures = flood(5..=150);
    assert!(figures.most_in_a_second <= 55, "{}", figures.most_in_a_second);
    assert!(figures.longest <= 1.1, "{}", figures.longest);
    assert!(figures.more_than[1] <= SEEDS, "{:?}", figures.more_than);
}
