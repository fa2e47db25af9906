//! The marks of a tenant that is erased: one while that goes on, and one for as long as anything
//! of it may still come.

use domain::record::ERASED_LIFE;
use domain::time::{Millis, whole_ms};
use redis::FromRedisValue as _;

use super::query::Query;

fn key(tenant: &str) -> String {
    format!("erasing:{tenant}")
}

fn erased_key(tenant: &str) -> String {
    format!("erased:{tenant}")
}

/// Says that a tenant is being erased: what was accepted at `before` or earlier.
pub fn begin_erasing(tenant: &str, before: Millis) -> Query<()> {
    let set = |key: String| {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(before.0).arg("PX").arg(whole_ms(ERASED_LIFE));
        set.into()
    };
    Query::write("begin erasing", vec![set(erased_key(tenant)), set(key(tenant))])
}

/// Until when what a tenant sent is erased, also long after that was done.
pub fn erased_before(tenant: &str) -> Query<Option<Millis>> {
    let mut get = redis::cmd("GET");
    get.arg(erased_key(tenant));
    Query::one("erased before", get, |value| Some(Option::<u64>::from_redis_value(value).ok()?.map(Millis)))
}

/// Until when what a tenant sent is being erased, if it is.
pub fn erasing(tenant: &str) -> Query<Option<Millis>> {
    let mut get = redis::cmd("GET");
    get.arg(key(tenant));
    Query::one("erasing", get, |value| Some(Option::<u64>::from_redis_value(value).ok()?.map(Millis)))
}

/// Says that the erasing of a tenant is done.
pub fn end_erasing(tenant: &str) -> Query<()> {
    let mut delete = redis::cmd("DEL");
    delete.arg(key(tenant));
    Query::write("end erasing", vec![delete.into()])
}
