//! A model of SQS in memory: visibility, delay, receive counts, redrive, the limits of a
//! message, and duplicates on demand. It passes the same contract test as the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::aws::sqs::{Depth, DepthError, Depths, Outgoing, Queue, QueueName, SendError};
use adapters::clock::Clock;
use async_trait::async_trait;
use domain::fault::refused_by_sqs;
use domain::time::Millis;

/// Most bytes in a message, attributes included.
const MAX_BYTES: usize = 1024 * 1024;
/// Most messages in flight in a standard queue.
const MAX_IN_FLIGHT: usize = 120_000;

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Stored {
    /// SQS's id.
    pub id: String,
    /// Its text.
    pub body: String,
    /// Its attributes.
    pub attributes: Vec<(&'static str, String)>,
    /// Its group: fair queues serve groups in turn.
    pub group: String,
    /// How often it was received.
    pub receives: u32,
    /// When it was sent to this queue.
    pub sent_at: Millis,
    visible_at: Millis,
    in_flight: bool,
    receipt: u64,
    /// Its place in its queue.
    place: u64,
}

/// A queue. What is not visible yet is kept by its time, so that a receive looks only at what
/// is, however long the queue.
#[derive(Default)]
struct Messages {
    /// By place, which is the order in which they came.
    all: BTreeMap<u64, Stored>,
    visible: BTreeSet<u64>,
    hidden: BTreeSet<(Millis, u64)>,
    in_flight: usize,
}

impl Messages {
    fn put(&mut self, message: Stored) {
        let place = self.all.last_key_value().map_or(0, |(last, _)| last + 1);
        self.hide(Stored { place, ..message });
    }

    /// Puts a message where it belongs, not to be seen before its time.
    fn hide(&mut self, message: Stored) {
        self.hidden.insert((message.visible_at, message.place));
        self.in_flight += usize::from(message.in_flight);
        self.all.insert(message.place, message);
    }

    fn remove(&mut self, place: u64) -> Option<Stored> {
        let message = self.all.remove(&place)?;
        self.visible.remove(&place);
        self.hidden.remove(&(message.visible_at, place));
        self.in_flight -= usize::from(message.in_flight);
        Some(message)
    }

    /// Shows what is visible by now.
    fn show(&mut self, now: Millis) {
        while let Some((_, place)) = self.hidden.first().copied().filter(|(at, _)| *at <= now) {
            self.hidden.pop_first();
            self.visible.insert(place);
            let message = self.all.get_mut(&place).unwrap();
            self.in_flight -= usize::from(std::mem::take(&mut message.in_flight));
        }
    }

    fn next_visible(&self) -> Option<Millis> {
        let visible = self.visible.iter().map(|place| self.all[place].visible_at).min();
        visible.into_iter().chain(self.hidden.first().map(|(at, _)| *at)).min()
    }
}

/// A received message and the handle to delete it by.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The message.
    pub message: Stored,
    /// Its receipt handle.
    pub receipt: u64,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<QueueName, Messages>,
    sequence: u64,
    sends: Vec<(QueueName, usize)>,
    broken: Option<QueueName>,
}

/// The three queues.
#[derive(Clone)]
pub struct SqsModel {
    clock: Clock,
    visibility: Duration,
    max_receives: u32,
    state: Arc<Mutex<State>>,
}

impl SqsModel {
    /// Empty queues with this visibility timeout and `maxReceiveCount`.
    pub fn new(clock: Clock, visibility: Duration, max_receives: u32) -> Self {
        Self { clock, visibility, max_receives, state: Arc::default() }
    }

    /// Receives up to `max` visible messages, oldest first. A message that was
    /// received too often goes to the dead-letter queue instead.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn receive(&self, queue_name: QueueName, max: usize) -> Vec<Taken> {
        self.take(queue_name, max, &|_| true)
    }

    /// Receives up to ten visible messages whose text is wanted. SQS cannot do that.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn receive_where(&self, queue_name: QueueName, wanted: impl Fn(&str) -> bool) -> Vec<Taken> {
        self.take(queue_name, 10, &wanted)
    }

    fn take(&self, queue_name: QueueName, max: usize, wanted: &dyn Fn(&str) -> bool) -> Vec<Taken> {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap();
        let mut sequence = state.sequence;
        let queue = state.queues.entry(queue_name).or_default();
        queue.show(now);
        let most = max.min(MAX_IN_FLIGHT - queue.in_flight);
        let (mut taken, mut dead) = (Vec::new(), Vec::new());
        let mut after = None;
        while taken.len() < most {
            let next = queue.visible.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)).next();
            let Some(place) = next.copied() else { break };
            after = Some(place);
            if !wanted(&queue.all[&place].body) {
                continue;
            }
            let message = queue.remove(place).unwrap();
            if queue_name != QueueName::DeadLetter && message.receives >= self.max_receives {
                dead.push(message);
                continue;
            }
            sequence += 1;
            let (receives, visible_at) = (message.receives + 1, now.after(self.visibility));
            let message = Stored { receives, visible_at, in_flight: true, receipt: sequence, ..message };
            queue.hide(message.clone());
            taken.push(Taken { message, receipt: sequence });
        }
        state.sequence = sequence;
        for message in dead {
            let moved = Stored { visible_at: now, in_flight: false, ..message };
            state.queues.entry(QueueName::DeadLetter).or_default().put(moved);
        }
        taken
    }

    /// Deletes a message by its latest receipt; an older one deletes nothing.
    pub fn delete(&self, queue_name: QueueName, taken: &Taken) {
        let mut state = self.state.lock().unwrap();
        let queue = state.queues.entry(queue_name).or_default();
        let place = taken.message.place;
        if queue.all.get(&place).is_some_and(|message| message.receipt == taken.receipt) {
            queue.remove(place);
        }
    }

    /// Makes a message that is in flight visible a second time, as an at-least-once queue
    /// may do.
    pub fn duplicate(&self, queue_name: QueueName, taken: &Taken) {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap();
        let mut copy = taken.message.clone();
        copy.visible_at = now;
        copy.in_flight = false;
        state.sequence += 1;
        copy.receipt = state.sequence;
        // SQS would show the same id. The model tells both by theirs when it deletes one.
        copy.id = format!("{}'", copy.id);
        state.queues.entry(queue_name).or_default().put(copy);
    }

    /// Everything in a queue, in flight and delayed included.
    pub fn all(&self, queue_name: QueueName) -> Vec<Stored> {
        let mut all = Vec::new();
        self.each(queue_name, |message| all.push(message.clone()));
        all
    }

    /// Shows everything in a queue, in flight and delayed included.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn each(&self, queue_name: QueueName, look: impl FnMut(&Stored)) {
        self.state
            .lock()
            .unwrap()
            .queues
            .get(&queue_name)
            .into_iter()
            .flat_map(|queue| queue.all.values())
            .for_each(look);
    }

    /// Whether a queue has no message at all.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn is_empty(&self, queue_name: QueueName) -> bool {
        self.state.lock().unwrap().queues.get(&queue_name).is_none_or(|queue| queue.all.is_empty())
    }

    /// Puts a text into a queue by hand.
    ///
    /// # Panics
    /// When SQS would refuse it.
    pub fn put(&self, queue_name: QueueName, body: &str) {
        self.accept(queue_name, Outgoing::new(body.to_owned(), String::new(), 0)).unwrap();
    }

    /// When the next message of the work queues can be received, if there is one.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn next_visible(&self) -> Option<Millis> {
        let state = self.state.lock().unwrap();
        let work = state.queues.iter().filter(|(queue_name, _)| **queue_name != QueueName::DeadLetter);
        work.filter_map(|(_, queue)| queue.next_visible()).min()
    }

    /// When the next message of any queue can be received, if there is one.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn next_visible_anywhere(&self) -> Option<Millis> {
        let state = self.state.lock().unwrap();
        state.queues.values().filter_map(Messages::next_visible).min()
    }

    /// From now on this queue is unavailable; with `None`, all queues work.
    pub fn breaks(&self, queue_name: Option<QueueName>) {
        self.state.lock().unwrap().broken = queue_name;
    }

    /// The sends so far: to which queue, and how many messages at once.
    pub fn sends(&self) -> Vec<(QueueName, usize)> {
        self.state.lock().unwrap().sends.clone()
    }

    /// Checks one message as SQS does, and puts it into its queue.
    fn accept(&self, queue_name: QueueName, message: Outgoing) -> Result<(), SendError> {
        let refused = |why: &str| Err(SendError::refused(why));
        if message.body.is_empty() || message.bytes() > MAX_BYTES {
            return refused("size");
        }
        let texts = message.attributes.iter().map(|(_, value)| value).chain([&message.body]);
        if texts.into_iter().any(|text| refused_by_sqs(text).is_some()) {
            return refused("characters");
        }
        if message.delay_s > 900 {
            return refused("delay");
        }
        if message.attributes.len() > 10 || message.attributes.iter().any(|(_, value)| value.is_empty()) {
            return refused("attributes");
        }
        if message.group.len() > 128 || !message.group.bytes().all(|b| b.is_ascii_graphic()) {
            return refused("group");
        }
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap();
        state.sequence += 1;
        let stored = Stored {
            id: format!("m-{}", state.sequence),
            body: message.body,
            attributes: message.attributes,
            group: message.group,
            receives: 0,
            sent_at: now,
            visible_at: now.after(Duration::from_secs(u64::from(message.delay_s))),
            in_flight: false,
            receipt: 0,
            place: 0,
        };
        state.queues.entry(queue_name).or_default().put(stored);
        Ok(())
    }
}

#[async_trait]
impl Queue for SqsModel {
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        {
            let mut state = self.state.lock().unwrap();
            state.sends.push((queue_name, messages.len()));
            if state.broken == Some(queue_name) {
                return vec![Err(SendError::unavailable("broken")); messages.len()];
            }
        }
        messages.into_iter().map(|message| self.accept(queue_name, message)).collect()
    }
}

#[async_trait]
impl Depths for SqsModel {
    async fn depth(&self, queue_name: QueueName) -> Result<Depth, DepthError> {
        let now = self.clock.now();
        let state = self.state.lock().unwrap();
        if state.broken == Some(queue_name) {
            return Err(DepthError::away());
        }
        let mut depth = Depth::default();
        for message in state.queues.get(&queue_name).into_iter().flat_map(|queue| queue.all.values()) {
            match (message.visible_at <= now, message.in_flight) {
                (true, _) => depth.visible += 1,
                (false, true) => depth.in_flight += 1,
                (false, false) => depth.delayed += 1,
            }
        }
        Ok(depth)
    }
}
