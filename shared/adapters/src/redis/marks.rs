//! Marks of erased events in Redis, and what else erasing takes from records.

use domain::identity::event_record_id;
use domain::record::{ERASED, ERASED_LIFE, Erasure};
use domain::time::{Millis, whole_ms};
use redis::FromRedisValue as _;

use super::query::{Query, Replies, ReplyError, Ticket, Trip};
use super::records::{field, key, query};
use super::script::{Args, Script};
use super::tenants;

static ERASE: Script = Script::new("erase", include_str!("scripts/erase.lua"));
static DISCARD: Script = Script::new("discard", include_str!("scripts/discard.lua"));

/// `domain::record_rules::erase` for the record `id` of an event.
pub fn erase(id: &str) -> Query<Erasure> {
    let args = Args::new().with(whole_ms(ERASED_LIFE)).with(u32::MAX).with(ERASED);
    query(&ERASE, id, args, |words| match words {
        [at, again] => Some(Erasure { at: Millis(at.parse().ok()?), again: *again == "1" }),
        _ => None,
    })
}

/// When the event `id` was erased, if it was: what was accepted then or before is erased.
pub fn erased_at(id: &str) -> Query<Option<Millis>> {
    let mut get = redis::cmd("HGET");
    get.arg(key(id)).arg(field::ERASED);
    Query::one("erased at", get, |value| Some(Option::<u64>::from_redis_value(value).ok()?.map(Millis)))
}

/// The question whether what was accepted for an event is erased, alone or with its tenant.
pub struct AskedErased {
    tickets: [Ticket<Option<Millis>>; 2],
    accepted_at: Millis,
}

/// Asks whether what was accepted at `accepted_at` for an event is erased.
pub fn ask_erased(trip: &mut Trip, tenant: &str, event_id: &str, accepted_at: Millis) -> AskedErased {
    let queries = [erased_at(&event_record_id(tenant, event_id)), tenants::erased_before(tenant)];
    AskedErased { tickets: queries.map(|query| trip.add(query)), accepted_at }
}

impl AskedErased {
    /// Whether it is.
    ///
    /// # Errors
    /// When Redis does not say.
    pub fn take(self, replies: &mut Replies) -> Result<bool, ReplyError> {
        let Self { tickets: [of_event, of_tenant], accepted_at } = self;
        let marks = [of_event.take(replies)?, of_tenant.take(replies)?];
        Ok(marks.into_iter().flatten().any(|at| accepted_at <= at))
    }
}

/// Takes what receivers answered from a delivery's record: its attempts and its error.
pub fn erase_log(id: &str) -> Query<()> {
    let mut delete = redis::cmd("HDEL");
    delete.arg(key(id)).arg(field::LOG).arg(field::ERROR);
    Query::write("erase log", vec![delete.into()])
}

/// Deletes a record that was accepted at `before` or earlier. Says whether it did. What was
/// accepted later under the same id is not what was erased.
pub fn discard(id: &str, before: Millis) -> Query<bool> {
    query(&DISCARD, id, Args::new().with(before.0), |words| match words {
        ["0"] => Some(false),
        ["1"] => Some(true),
        _ => None,
    })
}
