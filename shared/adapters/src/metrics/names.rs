//! Every metric's name, and how it is recorded. Only this file names metrics;
//! `meter` carries them out of the process and `exposition` shows them.

use std::time::Duration;

use domain::breaker::{State, watched};
use domain::delivery::Delivery;
use domain::endpoint::StateReason;
use domain::outcome::{ErrorClass, Watched};
use domain::reason::Reason;
use domain::status::Status;
use metrics::{counter, histogram};
use strum::{EnumIter, IntoStaticStr, VariantNames};

use crate::aws::sqs::QueueName;

/// What a family of series is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// Observations, counted by upper bounds.
    Histogram(&'static [f64]),
    /// A value of this moment.
    Gauge,
}

/// A family of series.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it tells, for a person.
    pub help: &'static str,
    /// Its labels, each with all the values that it can have; none where they are
    /// not known before.
    pub labels: &'static [(&'static str, &'static [&'static str])],
}

/// The functions, by name.
pub const FUNCTIONS: [&str; 9] =
    ["enqueue", "fanout", "deliver", "archive", "operate", "endpoints", "health", "cleanup", "metrics"];
/// `none` is a success.
const CLASSES: [&str; 1 + ErrorClass::VARIANTS.len()] = {
    let mut all = ["none"; 1 + ErrorClass::VARIANTS.len()];
    let mut i = 0;
    while i < ErrorClass::VARIANTS.len() {
        all[i + 1] = ErrorClass::VARIANTS[i];
        i += 1;
    }
    all
};
const MESSAGES: [&str; 3] = ["visible", "in_flight", "delayed"];
const RESULTS: [&str; 2] = ["ok", "error"];
const KINDS: [&str; 3] = ["webhook_status", "dead_letter", "circuit_breaker"];

/// Bounds of an attempt's duration, in seconds.
const ATTEMPT_S: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 60.0, 300.0];
/// Bounds from acceptance to delivery, in seconds: up to a day and its week.
const END_TO_END_S: [f64; 14] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0];
/// Bounds of an invocation's duration, in seconds.
const TASK_S: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0];

const ENQUEUED: &str = "webhook_enqueued_total";
const DELIVERIES: &str = "webhook_deliveries_total";
const ATTEMPTS: &str = "webhook_attempts_total";
const ATTEMPT_DURATION: &str = "webhook_delivery_duration_seconds";
const END_TO_END: &str = "webhook_end_to_end_seconds";
const RETRIES: &str = "webhook_retries_total";
const DEAD_LETTERS: &str = "webhook_dead_letters_total";
const TRANSITIONS: &str = "circuit_breaker_transitions_total";
const EVENTS_ACCEPTED: &str = "event_accepted_total";
const EVENTS_FANNED_OUT: &str = "event_fanned_out_total";
const EVENT_DELIVERIES: &str = "event_deliveries_total";
const EVENT_FAN_OUT: &str = "event_fan_out_seconds";
const EVENT_WAITS: &str = "event_waits_total";
const FILTERS_TOO_COSTLY: &str = "event_filters_too_costly_total";
const HISTORY_ROWS: &str = "history_rows_total";
const HISTORY_ROWS_REFUSED: &str = "history_rows_refused_total";
const DELIVERIES_OWED: &str = "deliveries_owed_total";
const OWED_CAUGHT_UP: &str = "owed_caught_up_total";
const OWED_EXPIRED: &str = "owed_expired_total";
const ENDPOINTS_DISABLED: &str = "endpoints_disabled_total";
const RATES_NOT_HELD: &str = "endpoint_rates_not_held_total";
const REPLAY_DELIVERIES: &str = "replay_deliveries_total";
const EVENTS_ERASED: &str = "events_erased_total";
const DELIVERIES_ERASED: &str = "deliveries_erased_total";
const CARDS_UNUSABLE: &str = "endpoint_cards_unusable_total";
const SCHEMAS_UNUSABLE: &str = "event_schemas_unusable_total";
const REDIS_FAILURES: &str = "redis_failures_total";
const INVOCATIONS: &str = "task_invocations_total";
const TASK_DURATION: &str = "task_duration_seconds";
const COLD_STARTS: &str = "task_cold_starts_total";
/// Deliveries by status.
pub const STATUSES_NOW: &str = "webhook_statuses";
/// How long the oldest pending webhook waits.
pub const OLDEST_PENDING: &str = "webhook_oldest_pending_seconds";
/// Circuit breakers that are not closed.
pub const BREAKER_STATE: &str = "circuit_breaker_state";
/// Circuit breakers by state.
pub const BREAKERS: &str = "circuit_breakers";
/// Messages in the queues.
pub const QUEUE_MESSAGES: &str = "queue_messages";
/// Whether Redis answers.
pub const REDIS_UP: &str = "redis_up";
/// Redis's memory.
pub const REDIS_MEMORY: &str = "redis_used_memory_bytes";
/// Redis's limit.
pub const REDIS_MAX_MEMORY: &str = "redis_max_memory_bytes";
/// Keys that Redis evicted.
pub const REDIS_EVICTED: &str = "redis_evicted_keys_total";
/// Keys by kind.
pub const REDIS_KEYS: &str = "redis_keys";

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [(&'static str, &'static [&'static str])],
    help: &'static str,
) -> Family {
    Family { name, kind, help, labels }
}

/// Every family, in the order in which they are shown.
pub const FAMILIES: [Family; 40] = [
    family(ENQUEUED, Kind::Counter, &[], "Webhooks accepted and queued."),
    family(EVENTS_ACCEPTED, Kind::Counter, &[], "Events accepted and queued."),
    family(EVENTS_FANNED_OUT, Kind::Counter, &[], "Events whose deliveries are all queued."),
    family(EVENT_DELIVERIES, Kind::Counter, &[], "Deliveries that fan-out queued, one for each endpoint that matched."),
    family(
        EVENT_FAN_OUT,
        Kind::Histogram(&END_TO_END_S),
        &[],
        "From an event's acceptance until its last delivery was queued.",
    ),
    family(EVENT_WAITS, Kind::Counter, &[], "Pages of events that had to wait for the registry or a queue."),
    family(
        FILTERS_TOO_COSTLY,
        Kind::Counter,
        &[],
        "Endpoints that did not get an event because their filter needs too many steps for it.",
    ),
    family(
        DELIVERIES,
        Kind::Counter,
        &[("outcome", DeliveryResult::VARIANTS), ("kind", DeliveryKind::VARIANTS)],
        "Messages of deliveries that were worked on, by what became of them.",
    ),
    family(
        ATTEMPTS,
        Kind::Counter,
        &[("error_class", &CLASSES), ("kind", DeliveryKind::VARIANTS)],
        "Calls to receivers, by the class of their failure; none is success.",
    ),
    family(ATTEMPT_DURATION, Kind::Histogram(&ATTEMPT_S), &[], "How long calls to receivers took."),
    family(END_TO_END, Kind::Histogram(&END_TO_END_S), &[], "From a webhook's acceptance to its delivery."),
    family(RETRIES, Kind::Counter, &[("kind", DeliveryKind::VARIANTS)], "Attempts that failed and will be repeated."),
    family(
        DEAD_LETTERS,
        Kind::Counter,
        &[("reason", Reason::VARIANTS), ("kind", DeliveryKind::VARIANTS)],
        "Dead letters filed in the archive. Those of events and of unreadable messages count as direct.",
    ),
    family(
        TRANSITIONS,
        Kind::Counter,
        &[("to", State::VARIANTS), ("kind", DeliveryKind::VARIANTS)],
        "Changes of circuit breakers, by their new state.",
    ),
    family(HISTORY_ROWS, Kind::Counter, &[], "Rows of history that were to be written, at each try."),
    family(
        HISTORY_ROWS_REFUSED,
        Kind::Counter,
        &[],
        "Rows of history that the table did not take, at each try. They are queued and written later.",
    ),
    family(
        DELIVERIES_OWED,
        Kind::Counter,
        &[],
        "Deliveries that were kept as owed because their endpoint is paused or disabled.",
    ),
    family(OWED_CAUGHT_UP, Kind::Counter, &[], "Owed deliveries that were queued once their endpoint was enabled."),
    family(OWED_EXPIRED, Kind::Counter, &[], "Deliveries that were owed for too long and were given up."),
    family(
        ENDPOINTS_DISABLED,
        Kind::Counter,
        &[("reason", StateReason::VARIANTS)],
        "Endpoints that were disabled, by the reason.",
    ),
    family(
        RATES_NOT_HELD,
        Kind::Counter,
        &[],
        "Deliveries that went without asking for their endpoint's rate, because Redis did not answer.",
    ),
    family(REPLAY_DELIVERIES, Kind::Counter, &[], "Deliveries that replays queued."),
    family(EVENTS_ERASED, Kind::Counter, &[], "Events whose payloads were erased."),
    family(DELIVERIES_ERASED, Kind::Counter, &[], "Deliveries that were dropped because what they carry was erased."),
    family(
        CARDS_UNUSABLE,
        Kind::Counter,
        &[],
        "Times that the card of an endpoint could not be read, opened or found.",
    ),
    family(
        SCHEMAS_UNUSABLE,
        Kind::Counter,
        &[],
        "Event types whose payloads were accepted unchecked: their schemas could not be read or used.",
    ),
    family(REDIS_FAILURES, Kind::Counter, &[], "Round trips to Redis that failed."),
    family(
        INVOCATIONS,
        Kind::Counter,
        &[("function", &FUNCTIONS), ("result", &RESULTS)],
        "Invocations, by function and result.",
    ),
    family(TASK_DURATION, Kind::Histogram(&TASK_S), &[("function", &FUNCTIONS)], "How long invocations took."),
    family(COLD_STARTS, Kind::Counter, &[("function", &FUNCTIONS)], "Processes that were started."),
    family(STATUSES_NOW, Kind::Gauge, &[("status", Status::VARIANTS)], "Records of deliveries, by status."),
    family(
        OLDEST_PENDING,
        Kind::Gauge,
        &[],
        "How long the webhook that waits longest for the end of its first attempt has waited; 0 if none does.",
    ),
    family(
        BREAKER_STATE,
        Kind::Gauge,
        &[],
        "Circuit breakers of direct webhooks that are not closed, 100 at most: 1 half-open, 2 open.",
    ),
    family(
        BREAKERS,
        Kind::Gauge,
        &[("state", State::VARIANTS), ("kind", DeliveryKind::VARIANTS)],
        "Circuit breakers that changed within a day, by state. Those of hosts of endpoints count with endpoints.",
    ),
    family(
        QUEUE_MESSAGES,
        Kind::Gauge,
        &[("queue", QueueName::VARIANTS), ("state", &MESSAGES)],
        "Messages in the queues, as SQS estimates them.",
    ),
    family(REDIS_UP, Kind::Gauge, &[], "Whether Redis answers: 1 or 0."),
    family(REDIS_MEMORY, Kind::Gauge, &[], "Memory that Redis uses."),
    family(REDIS_MAX_MEMORY, Kind::Gauge, &[], "Redis's memory limit; 0 for none."),
    family(REDIS_EVICTED, Kind::Counter, &[], "Keys that Redis evicted since it started."),
    family(REDIS_KEYS, Kind::Gauge, &[("kind", &KINDS)], "Keys in Redis, counted by their indexes."),
];

/// What became of a message of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryResult {
    /// The receiver has it.
    Delivered,
    /// It failed and a successor is queued.
    Retried,
    /// The dead-letter queue has it.
    DeadLettered,
    /// No attempt counted: a breaker, a rate, a slow receiver or a missing card makes it wait.
    Parked,
    /// It was finished, or carried on by another message.
    Duplicate,
}

impl DeliveryResult {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What is delivered. Alarms that page watch what is direct: a customer's endpoint that fails is
/// the customer's trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryKind {
    /// A direct webhook.
    Direct,
    /// A delivery to an endpoint.
    Endpoint,
}

impl DeliveryKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The kind of a delivery.
    pub fn of(delivery: &Delivery) -> Self {
        if delivery.endpoint.is_some() { Self::Endpoint } else { Self::Direct }
    }

    /// The kind that a breaker of this name watches over.
    pub fn of_breaker(name: &str) -> Self {
        match watched(name).0 {
            Watched::Origin => Self::Direct,
            Watched::Endpoint | Watched::Host => Self::Endpoint,
        }
    }
}

/// Webhooks were accepted.
pub fn enqueued(count: u64) {
    counter!(ENQUEUED).increment(count);
}

/// Events were accepted.
pub fn event_accepted(count: u64) {
    counter!(EVENTS_ACCEPTED).increment(count);
}

/// An event is fanned out, so long after it was accepted.
pub fn event_fanned_out(duration: Duration) {
    counter!(EVENTS_FANNED_OUT).increment(1);
    histogram!(EVENT_FAN_OUT).record(duration.as_secs_f64());
}

/// Fan-out queued deliveries.
pub fn event_deliveries(count: u64) {
    counter!(EVENT_DELIVERIES).increment(count);
}

/// A page of an event has to wait.
pub fn event_waits() {
    counter!(EVENT_WAITS).increment(1);
}

/// A filter needs too many steps for an event.
pub fn filter_too_costly() {
    counter!(FILTERS_TOO_COSTLY).increment(1);
}

/// A message of a delivery was worked on.
pub fn delivery(outcome: DeliveryResult, kind: DeliveryKind) {
    counter!(DELIVERIES, "outcome" => outcome.as_str(), "kind" => kind.as_str()).increment(1);
    if outcome == DeliveryResult::Retried {
        counter!(RETRIES, "kind" => kind.as_str()).increment(1);
    }
}

/// A receiver was called.
pub fn attempt(class: Option<ErrorClass>, kind: DeliveryKind, duration: Duration) {
    let class = class.map_or("none", ErrorClass::as_str);
    counter!(ATTEMPTS, "error_class" => class, "kind" => kind.as_str()).increment(1);
    histogram!(ATTEMPT_DURATION).record(duration.as_secs_f64());
}

/// A webhook was delivered, so long after it was accepted.
pub fn end_to_end(duration: Duration) {
    histogram!(END_TO_END).record(duration.as_secs_f64());
}

/// A dead letter was filed.
pub fn dead_letter(reason: Reason, kind: DeliveryKind) {
    counter!(DEAD_LETTERS, "reason" => reason.as_str(), "kind" => kind.as_str()).increment(1);
}

/// The circuit breaker of this name changed.
pub fn breaker_changed(name: &str, to: State) {
    let kind = DeliveryKind::of_breaker(name);
    counter!(TRANSITIONS, "to" => to.as_str(), "kind" => kind.as_str()).increment(1);
}

/// Rows of history are to be written.
pub fn history_rows(count: u64) {
    counter!(HISTORY_ROWS).increment(count);
}

/// The table of history did not take rows.
pub fn history_rows_refused(count: u64) {
    counter!(HISTORY_ROWS_REFUSED).increment(count);
}

/// Deliveries are owed.
pub fn deliveries_owed(count: u64) {
    counter!(DELIVERIES_OWED).increment(count);
}

/// Owed deliveries were queued.
pub fn owed_caught_up(count: u64) {
    counter!(OWED_CAUGHT_UP).increment(count);
}

/// Deliveries were owed for too long.
pub fn owed_expired(count: u64) {
    counter!(OWED_EXPIRED).increment(count);
}

/// An endpoint was disabled.
pub fn endpoint_disabled(reason: StateReason) {
    counter!(ENDPOINTS_DISABLED, "reason" => reason.as_str()).increment(1);
}

/// Deliveries went without asking for their endpoint's rate.
pub fn rate_not_held(count: u64) {
    counter!(RATES_NOT_HELD).increment(count);
}

/// A replay queued deliveries.
pub fn replay_deliveries(count: u64) {
    counter!(REPLAY_DELIVERIES).increment(count);
}

/// The payload of an event was erased.
pub fn events_erased() {
    counter!(EVENTS_ERASED).increment(1);
}

/// Deliveries were dropped because what they carry was erased.
pub fn dropped_erased(count: u64) {
    counter!(DELIVERIES_ERASED).increment(count);
}

/// The secrets of an endpoint's card cannot be opened.
pub fn card_unusable() {
    counter!(CARDS_UNUSABLE).increment(1);
}

/// The schemas of so many event types could not be read or used.
pub fn schemas_unusable(count: u64) {
    counter!(SCHEMAS_UNUSABLE).increment(count);
}

/// A round trip to Redis failed.
pub fn redis_failed() {
    counter!(REDIS_FAILURES).increment(1);
}

/// A process was started.
pub fn cold_start(function: &'static str) {
    counter!(COLD_STARTS, "function" => function).increment(1);
}

/// An invocation ended.
pub fn invocation(function: &'static str, succeeded: bool, duration: Duration) {
    let result = if succeeded { "ok" } else { "error" };
    counter!(INVOCATIONS, "function" => function, "result" => result).increment(1);
    histogram!(TASK_DURATION, "function" => function).record(duration.as_secs_f64());
}

/// The name, in CloudWatch, of a function's invocations that failed.
pub(super) fn failed_invocations(function: &str) -> String {
    format!("{INVOCATIONS}.{function}.error")
}

/// The family of that name.
pub fn family_of(name: &str) -> Option<&'static Family> {
    static ALL: [Family; 40] = FAMILIES;
    ALL.iter().find(|family| family.name == name)
}

/// Whether a series tells of invocations and not of work: it can wait a little.
pub(crate) fn can_wait(name: &str) -> bool {
    name.starts_with("task_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_the_names_that_the_rules_use() {
        assert_eq!(CLASSES[0], "none");
        assert_eq!(CLASSES[1..], *ErrorClass::VARIANTS);
        assert_eq!(DeliveryResult::DeadLettered.as_str(), "dead_lettered");
        assert_eq!(State::VARIANTS, ["closed", "half_open", "open"]);
    }

    #[test]
    fn bounds_grow_and_names_end_as_prometheus_wants() {
        for family in FAMILIES {
            match family.kind {
                Kind::Counter => assert!(family.name.ends_with("_total"), "{}", family.name),
                Kind::Histogram(bounds) => {
                    assert!(family.name.ends_with("_seconds"));
                    assert!(bounds.is_sorted_by(|a, b| a < b));
                }
                Kind::Gauge => assert!(!family.name.ends_with("_total"), "{}", family.name),
            }
        }
    }
}
