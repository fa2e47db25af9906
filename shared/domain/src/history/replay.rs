//! A replay: deliveries of an endpoint that are made again, or for the first time, because
//! somebody asked for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{Row, names};
use crate::names::is_among;
use crate::time::Millis;

/// How long a replay can be asked for after it last moved.
pub const LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Most deliveries of one replay.
pub const MOST_DELIVERIES: u64 = 1_000_000;
/// Most replays of a tenant that run at a time.
pub const MOST_RUNNING: usize = 5;
/// What is older than this cannot be replayed: nothing of it is kept so long.
pub const OLDEST: Duration = Duration::from_secs(45 * 86_400);
/// How long a page's deliveries are spread over, at most.
const PAGE_S: u64 = 60;
/// Where there is more, the next page is at least this much later.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Which deliveries a replay makes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ReplayKind {
    /// Those that ended and were never delivered, in no life.
    Failed,
    /// Those that were never made: the endpoint wants the event now, and nobody knows of a
    /// delivery of it.
    Missing,
}

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// It has seen everything.
    Done,
    /// Somebody stopped it.
    Stopped,
    /// It was given up: a dead letter says why, and redriving that resumes it.
    Failed,
}

/// What is to be replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The endpoint.
    pub endpoint: String,
    /// Which deliveries.
    pub what: ReplayKind,
    /// Of events that were accepted then or later.
    pub since: Millis,
    /// Of events that were accepted before.
    pub until: Millis,
    /// Of events of these types, as names and `name.*`; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
    /// How many deliveries are queued in a second.
    pub per_second: u32,
    /// Whether they are only counted.
    #[serde(default)]
    pub dry_run: bool,
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayCounts {
    /// Events or deliveries that were looked at.
    pub examined: u64,
    /// Deliveries that are wanted; a dry run counts them and sends none.
    pub matched: u64,
    /// Deliveries that are queued.
    pub queued: u64,
    /// Those that are wanted and cannot be sent: their payload was erased or has ended, or the
    /// event expired.
    pub unsendable: u64,
}

/// A replay and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayJob {
    /// What is to be replayed.
    pub request: ReplayRequest,
    /// The last event that was looked at, as `<accepted_at>#<event>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What earlier pages came to.
    #[serde(default)]
    pub counts: ReplayCounts,
}

/// A replay as history keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Its id: the life of the deliveries that it makes again.
    pub id: String,
    /// The tenant.
    pub tenant: String,
    /// What is to be replayed.
    pub request: ReplayRequest,
    /// Where it stands.
    pub state: ReplayState,
    /// How far it is.
    pub counts: ReplayCounts,
    /// How far it is, as [`ReplayJob`] has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The hop of the page that goes on from there.
    pub hop: u32,
    /// When it was asked for.
    pub created_at: Millis,
    /// When it last moved.
    pub updated_at: Millis,
}

impl ReplayRequest {
    /// Whether it is about events of this type.
    pub fn has_type(&self, event_type: &str) -> bool {
        self.event_types.is_empty() || is_among(event_type, &self.event_types)
    }

    /// Most deliveries of the next page, after these. A page has `most` at most, and no more
    /// than are to be queued in a minute.
    pub fn page_size(&self, counts: &ReplayCounts, most: u64) -> u64 {
        let left = MOST_DELIVERIES.saturating_sub(counts.matched);
        let paced = if self.dry_run { u64::MAX } else { u64::from(self.per_second) * PAGE_S };
        left.min(paced).min(most)
    }

    /// How long after the beginning of a page the delivery is due that has so many before it.
    pub fn spread(&self, before: u64) -> Duration {
        Duration::from_millis(before.saturating_mul(1000) / u64::from(self.per_second.max(1)))
    }

    /// How long after the beginning of a page the next one is due.
    pub fn pause(&self, sent: u64) -> Duration {
        if self.dry_run { Duration::ZERO } else { self.spread(sent).max(SHORTEST_PAUSE) }
    }
}

impl Replay {
    /// Whether nothing of it is to be done any more. One that was given up can be resumed.
    pub fn is_over(&self) -> bool {
        match self.state {
            ReplayState::Done | ReplayState::Stopped => true,
            ReplayState::Running | ReplayState::Failed => false,
        }
    }

    /// Whether it was given up before the page of this hop was worked on. Whoever asked for a
    /// replay was told so when the queue did not confirm its first page; one that is resumed
    /// has later ones.
    pub fn is_given_up(&self, hop: u32) -> bool {
        hop == 0 && self.state == ReplayState::Failed
    }

    /// Whether the page of this hop was worked on, and its message has come again.
    pub fn has_passed(&self, hop: u32) -> bool {
        self.hop > hop
    }

    /// What a page works on that goes on from here.
    pub fn job(&self) -> ReplayJob {
        ReplayJob { request: self.request.clone(), after: self.after.clone(), counts: self.counts }
    }

    /// The same after the page of this hop, which came as far as `job`. `None` if it is over or
    /// further already.
    pub fn moved(&self, job: &ReplayJob, hop: u32, state: ReplayState, now: Millis) -> Option<Self> {
        if self.is_over() || self.has_passed(hop) {
            return None;
        }
        let (after, counts) = (job.after.clone(), job.counts);
        Some(Self { state, after, counts, hop: hop.saturating_add(1), updated_at: now, ..self.clone() })
    }

    /// The same, ended before it is done. `None` if it is over already.
    pub fn ended(&self, state: ReplayState, now: Millis) -> Option<Self> {
        (!self.is_over()).then(|| Self { state, updated_at: now, ..self.clone() })
    }

    /// Its row.
    ///
    /// # Errors
    /// Never: all its parts are serializable.
    pub fn row(&self) -> Result<Row, serde_json::Error> {
        Ok(Row {
            partition: names::replays(&self.tenant),
            place: self.id.clone(),
            body: serde_json::to_string(self)?,
            kept_until: self.updated_at.after(LIFE),
            by_event: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(per_second: u32) -> Replay {
        let request = ReplayRequest {
            endpoint: "ep_1".into(),
            what: ReplayKind::Failed,
            since: Millis(1),
            until: Millis(2),
            event_types: vec!["order.*".into()],
            per_second,
            dry_run: false,
        };
        Replay {
            id: "rp_1".into(),
            tenant: "acme".into(),
            request,
            state: ReplayState::Running,
            counts: ReplayCounts::default(),
            after: None,
            hop: 0,
            created_at: Millis(1),
            updated_at: Millis(1),
        }
    }

    #[test]
    fn a_page_is_what_a_minute_may_have() {
        let size = |per_second, matched| {
            replay(per_second).request.page_size(&ReplayCounts { matched, ..ReplayCounts::default() }, 1000)
        };
        assert_eq!([size(1, 0), size(10, 0), size(500, 0)], [60, 600, 1000]);
        assert_eq!([size(500, MOST_DELIVERIES - 7), size(500, MOST_DELIVERIES)], [7, 0]);
        let mut request = replay(10).request;
        assert_eq!((request.pause(600), request.pause(0)), (Duration::from_secs(60), Duration::from_secs(1)));
        assert_eq!(request.spread(5), Duration::from_millis(500));
        request.dry_run = true;
        assert_eq!((request.page_size(&ReplayCounts::default(), 1000), request.pause(5)), (1000, Duration::ZERO));
    }

    #[test]
    fn a_replay_only_goes_forward_and_stays_stopped() {
        let replay = replay(1);
        let job = ReplayJob { after: Some("1#a".into()), ..replay.job() };
        let moved = replay.moved(&job, 3, ReplayState::Running, Millis(9)).unwrap();
        assert_eq!((moved.hop, moved.job(), moved.updated_at), (4, job.clone(), Millis(9)));
        assert!(moved.has_passed(3) && !moved.has_passed(4));
        assert_eq!(moved.moved(&job, 3, ReplayState::Running, Millis(9)), None);
        let failed = moved.ended(ReplayState::Failed, Millis(10)).unwrap();
        assert!(failed.moved(&job, 4, ReplayState::Running, Millis(11)).is_some(), "a redrive resumes it");
        assert!(failed.is_given_up(0) && !failed.is_given_up(1) && !replay.is_given_up(0));
        let stopped = moved.ended(ReplayState::Stopped, Millis(10)).unwrap();
        assert_eq!(stopped.moved(&job, 4, ReplayState::Running, Millis(11)), None);
        assert_eq!(stopped.ended(ReplayState::Failed, Millis(11)), None);
    }

    #[test]
    fn types_are_names_and_what_they_begin_with() {
        let mut request = replay(1).request;
        assert!(request.has_type("order.paid") && !request.has_type("user.made"));
        request.event_types.clear();
        assert!(request.has_type("order.paid") && request.has_type("steadhook.endpoint.disabled"));
    }
}
