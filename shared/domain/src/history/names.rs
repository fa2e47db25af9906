//! Partitions and places of the rows of history. No tenant, endpoint, event, life or webhook
//! id has a `#`, so no name can pass into the next.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use crate::time::{Millis, whole_ms};

/// How many partitions the deliveries of an endpoint and a day are spread over.
pub const SHARDS: u8 = 4;

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// A time as a text that sorts as times do.
pub fn sortable(at: Millis) -> String {
    format!("{:016}", at.0)
}

/// The day of a time, in UTC: `yyyymmdd`.
pub fn day(at: Millis) -> String {
    at.to_string().chars().take(10).filter(|c| *c != '-').collect()
}

/// The days from one time to another, in order.
pub fn days(from: Millis, to: Millis) -> Vec<String> {
    let mut days = vec![day(from)];
    let mut at = from;
    while at < to {
        at = at.after(DAY).min(to);
        let day = day(at);
        if days.last() != Some(&day) {
            days.push(day);
        }
    }
    days
}

/// The partition of an event: its rows, and in the index `by_event` its deliveries.
pub fn event(tenant: &str, event_id: &str) -> String {
    format!("I#{tenant}#{event_id}")
}

/// The tenant and the event of an event's partition.
pub fn split_event(partition: &str) -> Option<(&str, &str)> {
    partition.strip_prefix("I#")?.split_once('#')
}

/// The partition that lists a tenant's events of one day.
pub fn events(tenant: &str, day: &str) -> String {
    format!("V#{tenant}#{day}")
}

/// The place of an event in such a list.
pub fn listed(accepted_at: Millis, event_id: &str) -> String {
    format!("{}#{event_id}", sortable(accepted_at))
}

/// The tenant and the event of a row in such a list.
pub fn split_listed<'a>(partition: &'a str, place: &'a str) -> Option<(&'a str, &'a str)> {
    let (tenant, _) = partition.strip_prefix("V#")?.split_once('#')?;
    Some((tenant, place.split_once('#')?.1))
}

/// The partition of an endpoint's deliveries of events that were accepted on one day and belong
/// to one shard.
pub fn deliveries(tenant: &str, endpoint: &str, day: &str, shard: u8) -> String {
    format!("L#{tenant}#{endpoint}#{day}#{shard}")
}

/// The shard of an event's deliveries.
pub fn shard(event_id: &str) -> u8 {
    digest(&SHA256, event_id.as_bytes()).as_ref()[0] % SHARDS
}

/// Where a delivery stands among those of its endpoint. All its lives and ends follow one
/// another.
pub fn delivery(accepted_at: Millis, event_id: &str, life: Option<&str>, hop: u32, result: &str) -> String {
    format!("{}#{}#{hop:010}#{result}", listed(accepted_at, event_id), life.unwrap_or_default())
}

/// The event of a delivery's place, as a list of events names it: `<accepted_at>#<event>`.
pub fn listed_of(delivery: &str) -> Option<&str> {
    let (second, _) = delivery.match_indices('#').nth(1)?;
    delivery.get(..second)
}

/// The day after the one of a time begins then.
pub fn next_day(at: Millis) -> Millis {
    let day = whole_ms(DAY);
    Millis((at.0 / day + 1) * day)
}

/// The time of a place.
pub fn time_of(place: &str) -> Option<Millis> {
    place.split('#').next()?.parse().ok().map(Millis)
}

/// After what the deliveries follow that belong to events after this place: that of an event,
/// `<accepted_at>#<event>`, or a time alone.
pub fn beyond(listed: &str) -> String {
    if listed.contains('#') { end_of(&format!("{listed}#")) } else { listed.to_owned() }
}

/// Where a delivery stands among those of its event, in the index `by_event`.
pub fn delivery_of_event(endpoint: &str, accepted_at: Millis, life: Option<&str>, hop: u32, result: &str) -> String {
    format!("{endpoint}#{}#{}#{hop:010}#{result}", sortable(accepted_at), life.unwrap_or_default())
}

/// The partition of a direct webhook.
pub fn webhook(id: &str) -> String {
    format!("D#{id}")
}

/// The place of a direct webhook's end.
pub fn webhook_end(accepted_at: Millis, hop: u32, result: &str) -> String {
    format!("{}#{hop:010}#{result}", sortable(accepted_at))
}

/// The partition of what an endpoint is owed.
pub fn owed(tenant: &str, endpoint: &str) -> String {
    format!("K#{tenant}#{endpoint}")
}

/// The place of a delivery in it. While Redis is away, two bodies may be accepted under one id in
/// the same millisecond: a part of the body's hash tells them apart.
pub fn owed_place(accepted_at: Millis, event_id: &str, life: Option<&str>, hop: u32, body_hash: &str) -> String {
    let of_body = body_hash.get(..8).unwrap_or(body_hash);
    format!("{}#{}#{hop:010}#{of_body}", listed(accepted_at, event_id), life.unwrap_or_default())
}

/// The tenant and the event of a row in such a partition.
pub fn split_owed<'a>(partition: &'a str, place: &'a str) -> Option<(&'a str, &'a str)> {
    let (tenant, _) = partition.strip_prefix("K#")?.split_once('#')?;
    Some((tenant, place.split('#').nth(1)?))
}

/// The partition of a tenant's replays.
pub fn replays(tenant: &str) -> String {
    format!("P#{tenant}")
}

/// The partition that says where a tenant's dead letters are.
pub fn dead_letters(tenant: &str) -> String {
    format!("X#{tenant}")
}

/// The place of a dead letter in it.
pub fn dead_letter(event_id: &str, id: &str) -> String {
    format!("{event_id}#{id}")
}

/// The id of the dead letter at such a place.
pub fn dead_letter_at(place: &str) -> Option<&str> {
    Some(place.split_once('#')?.1)
}

/// What follows everything that begins with `prefix`.
pub fn end_of(prefix: &str) -> String {
    // Names are ASCII.
    format!("{prefix}\u{7f}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_day_is_that_of_utc() {
        let at = |text| Millis::parse_rfc3339(text).unwrap();
        assert_eq!(day(at("2026-03-01T00:00:00Z")), "20260301");
        assert_eq!(day(at("2026-02-28T23:59:59.999Z")), "20260228");
    }

    #[test]
    fn days_follow_one_another() {
        let at = |text| Millis::parse_rfc3339(text).unwrap();
        let of = |from, to| days(at(from), at(to));
        assert_eq!(of("2026-02-27T23:00:00Z", "2026-03-01T01:00:00Z"), ["20260227", "20260228", "20260301"]);
        assert_eq!(of("2026-02-27T00:00:00Z", "2026-02-27T23:59:59Z"), ["20260227"]);
        assert_eq!(of("2026-02-27T23:59:59Z", "2026-02-28T00:00:00Z"), ["20260227", "20260228"]);
        assert_eq!(of("2026-02-28T00:00:00Z", "2026-02-27T00:00:00Z"), ["20260228"]);
    }

    #[test]
    fn names_are_read_as_they_were_written() {
        assert_eq!(split_event(&event("acme", "order-1")), Some(("acme", "order-1")));
        assert_eq!(split_listed(&events("acme", "20260101"), &listed(Millis(7), "o")), Some(("acme", "o")));
        let place = delivery(Millis(7), "o", Some("rp_1"), 2, "delivered");
        assert_eq!(listed_of(&place), Some(listed(Millis(7), "o").as_str()));
        assert_eq!(dead_letter_at(&dead_letter("o", "o.ep_1")), Some("o.ep_1"));
        assert!(dead_letter("o", "o.ep_1").as_str() < end_of("o#").as_str());
    }

    #[test]
    fn beyond_an_event_are_the_deliveries_of_later_ones_alone() {
        let of = |at, event| delivery(Millis(at), event, Some("z"), u32::MAX, "z");
        let beyond_it = beyond(&listed(Millis(7), "o"));
        assert!(of(7, "o") < beyond_it && beyond_it < of(7, "o-1") && beyond_it < of(7, "o1"));
        assert!(of(6, "z") < beyond(&sortable(Millis(7))) && beyond(&sortable(Millis(7))) < of(7, "0"));
        assert_eq!(time_of(&of(7, "o")), Some(Millis(7)));
        assert_eq!((day(Millis(86_399_999)), next_day(Millis(86_399_999))), ("19700101".into(), Millis(86_400_000)));
        assert_eq!(next_day(Millis(86_400_000)), Millis(172_800_000));
    }

    #[test]
    fn events_are_spread_over_all_shards() {
        let shards: BTreeSet<u8> = (0..100).map(|i| shard(&format!("order-{i}"))).collect();
        assert_eq!(shards, BTreeSet::from([0, 1, 2, 3]));
    }

    proptest! {
        #[test]
        fn places_sort_by_time(a in 0u64..u64::MAX >> 12, b in 0u64..u64::MAX >> 12, x in "[a-z]{1,5}", y in "[a-z]{1,5}") {
            let [a, b] = [(a, x), (b, y)];
            let of = |(at, id): &(u64, String)| delivery(Millis(*at), id, None, 0, "delivered");
            if a.0 != b.0 {
                prop_assert_eq!(of(&a).cmp(&of(&b)), a.0.cmp(&b.0));
            }
        }
    }
}
