//! Deliveries as the API tells of them, and how they are shown.

use domain::time::Millis;
use serde::Deserialize;

use crate::api::Answer;
use crate::failure::Failure;
use crate::table::{Cell, Details, Table};
use crate::text::{pretty, when, when_in_full};

/// An attempt, in a status, a delivery or a dead letter.
#[derive(Debug, Deserialize)]
pub(crate) struct Attempt {
    at: String,
    #[serde(alias = "ms")]
    pub(crate) duration_ms: u64,
    #[serde(alias = "code")]
    status_code: Option<u16>,
    #[serde(alias = "class")]
    error_class: Option<String>,
    error: Option<String>,
    answer: Option<String>,
}

/// Attempts below each other. `count` is the number of all of them.
pub(crate) fn attempts(attempts: &[Attempt], count: u64, now: Millis) -> String {
    let mut table = Table::new(["ATTEMPT", "TOOK", "ANSWER", "WHY"]);
    for attempt in attempts {
        let answer = attempt.status_code.map(|code| code.to_string()).or_else(|| attempt.error_class.clone());
        let why = match (&attempt.error, &attempt.answer) {
            (Some(error), Some(answer)) => format!("{error}: {answer}"),
            (Some(text), None) | (None, Some(text)) => text.clone(),
            (None, None) => String::new(),
        };
        table.row([
            when(&attempt.at, now).into(),
            format!("{} ms", attempt.duration_ms).into(),
            answer.unwrap_or_default().into(),
            why.into(),
        ]);
    }
    let mut lines = if attempts.is_empty() { String::new() } else { format!("\n{}", table.lines()) };
    let shown = u64::try_from(attempts.len()).unwrap_or(u64::MAX);
    if count > shown && shown > 0 {
        lines.push_str(&format!("{count} attempts in all; the first and the last ones are shown\n"));
    }
    lines
}

/// The number of attempts, or the attempts themselves: a status and a delivery use the same name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Attempts {
    Count(u64),
    Each(Vec<Attempt>),
}

/// A status or a delivery, with everything that is shown of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Shown {
    delivery_id: Option<String>,
    webhook_id: String,
    status: String,
    webhook_url: Option<String>,
    tenant: Option<String>,
    event_id: Option<String>,
    endpoint_id: Option<String>,
    event_type: Option<String>,
    attempts: Attempts,
    attempt_count: Option<u64>,
    #[serde(default)]
    history: Vec<Attempt>,
    history_count: Option<u64>,
    last_status_code: Option<u16>,
    reason: Option<String>,
    error: Option<String>,
    #[serde(alias = "accepted_at")]
    created_at: String,
    updated_at: String,
    next_attempt_at: Option<String>,
    expires_at: Option<String>,
    correlation_id: String,
    in_flight: bool,
    #[serde(default)]
    lives: Vec<Life>,
}

impl Shown {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is neither a status nor a delivery.
    pub(crate) fn read(answer: &Answer) -> Result<Self, Failure> {
        answer.read()
    }

    /// It as text.
    pub(crate) fn told(&self, now: Millis) -> String {
        let (each, count) = match &self.attempts {
            Attempts::Count(count) => (&self.history, self.history_count.unwrap_or(*count)),
            Attempts::Each(each) => (each, self.attempt_count.unwrap_or_default()),
        };
        let mut details = Details::default();
        details.word("status", &self.status);
        details.optional("delivery", self.delivery_id.as_deref());
        details.text("webhook-id", &self.webhook_id);
        details.optional("tenant", self.tenant.as_deref());
        details.optional("event", self.event_id.as_deref());
        details.optional("type", self.event_type.as_deref());
        details.optional("endpoint", self.endpoint_id.as_deref());
        details.optional("to", self.webhook_url.as_deref());
        details.text("attempts", &format!("{count}{}", if self.in_flight { ", one is being made" } else { "" }));
        details.optional("answer", self.last_status_code.map(|code| code.to_string()).as_deref());
        details.optional("reason", self.reason.as_deref());
        details.optional("error", self.error.as_deref());
        for (label, time) in [
            ("accepted", Some(&self.created_at)),
            ("changed", Some(&self.updated_at)),
            ("next attempt", self.next_attempt_at.as_ref()),
            ("expires", self.expires_at.as_ref()),
        ] {
            if let Some(time) = time {
                details.styled(label, when_in_full(time, now));
            }
        }
        details.text("correlation_id", &self.correlation_id);
        let mut text = details.lines() + &attempts(each, count, now);
        if self.lives.len() > 1 {
            text.push_str("\nSent more than once:\n");
            text.push_str(&table_by_endpoint(&self.lives, now));
        }
        text
    }
}

/// One delivery of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Life {
    pub(crate) delivery_id: String,
    event_id: String,
    pub(crate) endpoint_id: String,
    pub(crate) event_type: Option<String>,
    pub(crate) status: String,
    pub(crate) result: Option<String>,
    #[serde(default)]
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) attempt_count: u64,
    pub(crate) ended_at: Option<String>,
    next_attempt_at: Option<String>,
    accepted_at: String,
    error: Option<String>,
}

impl Life {
    fn result(&self) -> Cell {
        Cell::word(self.result.as_deref().unwrap_or(&self.status))
    }

    /// When its event was accepted.
    pub(crate) fn accepted_at(&self) -> Millis {
        Millis::parse_rfc3339(&self.accepted_at).unwrap_or_default()
    }

    /// What was answered last.
    pub(crate) fn last_status_code(&self) -> Option<u16> {
        self.attempts.last()?.status_code
    }

    fn answer(&self) -> Cell {
        self.last_status_code().map(|code| code.to_string()).unwrap_or_default().into()
    }

    fn changed(&self, now: Millis) -> Cell {
        match (&self.ended_at, &self.next_attempt_at) {
            (Some(ended), _) => when(ended, now).into(),
            (None, Some(next)) => format!("next {}", when(next, now)).into(),
            (None, None) => when(&self.accepted_at, now).into(),
        }
    }

    fn error(&self) -> Cell {
        self.error.as_deref().unwrap_or_default().into()
    }
}

/// The deliveries of an event.
pub(crate) fn table_by_endpoint(lives: &[Life], now: Millis) -> String {
    let mut table = Table::new(["ENDPOINT", "RESULT", "ATTEMPTS", "ANSWER", "WHEN", "WHY"]);
    for life in lives {
        let attempts = life.attempt_count.to_string().into();
        table.row([
            (&*life.endpoint_id).into(),
            life.result(),
            attempts,
            life.answer(),
            life.changed(now),
            life.error(),
        ]);
    }
    table.lines()
}

/// The deliveries of an endpoint.
pub(crate) fn table_by_event(lives: &[Life], now: Millis) -> String {
    let mut table = Table::new(["EVENT", "TYPE", "RESULT", "ATTEMPTS", "ANSWER", "WHEN", "WHY"]);
    for life in lives {
        let attempts = life.attempt_count.to_string().into();
        let kind = life.event_type.as_deref().unwrap_or_default().into();
        table.row([
            (&*life.event_id).into(),
            kind,
            life.result(),
            attempts,
            life.answer(),
            life.changed(now),
            life.error(),
        ]);
    }
    table.lines()
}

/// A payload below what it belongs to.
pub(crate) fn payload(json: Option<&str>) -> String {
    json.map(|json| format!("\n{}\n", pretty(json))).unwrap_or_default()
}
