//! Two thousand seeded runs of the whole system under faults. The invariants are checked
//! after every step. At the end, the states that the runs must have reached are checked.

#![allow(clippy::print_stdout, reason = "the figures of a run are shown")]

use tests::redis_cluster::RedisCluster;
use tests::redis_server::{RedisServer, Server};
use tests::simulation::{Simulation, Tally, Weather};

/// Clients in one run: two of them post an event, and six a webhook.
const CLIENTS: usize = 8;

/// Runs seeds in one weather and gives what was seen; `None` with `SEED`, when only that one
/// runs.
fn seeds(weather: Weather, seeds: std::ops::Range<u64>) -> Option<Tally> {
    seeds_on(&RedisServer::start(), weather, seeds)
}

#[allow(clippy::disallowed_methods, reason = "a test's setting, not the product's")]
fn seeds_on(server: &dyn Server, weather: Weather, seeds: std::ops::Range<u64>) -> Option<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let alone: Option<u64> = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let mut total = Tally::new();
    for seed in seeds.filter(|seed| alone.is_none_or(|alone| alone == *seed)) {
        let seen = runtime.block_on(Simulation::new(seed, CLIENTS, weather, server).run());
        for (what, count) in seen {
            *total.entry(what).or_default() += count;
        }
    }
    println!("{weather:?}: {total:?}");
    alone.is_none().then_some(total)
}

fn reached(total: &Tally, states: &[&str]) {
    for state in states {
        assert!(total.get(state).is_some_and(|&count| count > 0), "no seed reached `{state}`: {total:?}");
    }
}

#[test]
fn in_calm_weather_nothing_is_called_twice() {
    let Some(total) = seeds(Weather::CALM, 0..200) else { return };
    reached(
        &total,
        &[
            "granted",
            "successor",
            "retries_exhausted",
            "client_error",
            "gone",
            "expired",
            "opened",
            "refused",
            "probe",
            "closed",
            "event accepted",
            "event known",
            "event id conflict",
            "page",
            "continuation",
            "delivery of an event",
            "event fanned out",
            "notice",
            "told",
            "owed",
            "enabled again",
            "caught up",
        ],
    );
    // Some clients ask for a deadline that has passed when they come, or for the id of another.
    let count = |what| total.get(what).copied().unwrap_or_default();
    assert_eq!(count("accepted") + count("client too late"), 200 * 6);
    assert_eq!(count("event accepted") + count("client of an event too late") + count("event id conflict"), 200 * 2);
}

#[test]
fn crashes_duplicates_and_lost_answers_lose_nothing() {
    let weather = Weather { crash: 0.04, duplicate: 0.05, resend: 0.05, send: 0.05, registry: 0.02, ..Weather::CALM };
    let Some(total) = seeds(weather, 1000..1800) else { return };
    reached(
        &total,
        &[
            "crash",
            "duplicate",
            "delete lost",
            "command re-sent",
            "send failed",
            "send ambiguous",
            "answer lost",
            "busy",
            "done",
            "stale",
            "claim crashed",
            "crashed",
            "timed out",
            "opened",
            "refused",
            "probe",
            "closed",
            "registry away",
            "endpoint lost",
            "endpoint deleted",
            "card read",
            "card changed",
            "card restored",
            "card missing",
            "card gone",
            "endpoint_gone",
            "card of a moment ago",
            "event accepted",
            "event accepted again",
            "event known",
            "page",
            "page busy",
            "page done",
            "page stale",
            "page repeated",
            "page crashed",
            "page waits",
            "continuation",
            "send failed in part",
            "registry away in fan-out",
            "warm fan-out",
            "wish changed",
            "endpoint made",
            "cards changed between pages",
            "delivery of an event",
            "event redriven",
            "event fanned out",
            "paused",
            "resumed",
            "enabled again",
            "died before enabling",
            "state not told to Redis",
            "owed",
            "caught up",
            "queued instead of owed",
            "owed and given up",
            "catch_up",
            "notice",
            "told",
            "looked at what is owed",
        ],
    );
}

#[test]
fn a_redis_that_is_away_loses_nothing_and_statuses_become_true() {
    let weather =
        Weather { crash: 0.01, duplicate: 0.03, resend: 0.03, send: 0.02, away: 0.02, registry: 0.01, ..Weather::CALM };
    let Some(total) = seeds(weather, 2000..2500) else { return };
    reached(
        &total,
        &[
            "redis away",
            "round trip without redis",
            "reply lost",
            "late outcome",
            "recorded",
            "foreign",
            "validation",
            "page",
            "page repeated",
            "page foreign",
            "continuation",
            "cards changed between pages",
            "event redriven",
            "event fanned out",
        ],
    );
}

#[test]
fn a_redis_that_forgets_loses_no_delivery() {
    let weather = Weather {
        crash: 0.02,
        duplicate: 0.04,
        resend: 0.03,
        send: 0.03,
        away: 0.01,
        lost: 0.004,
        stale: 0.004,
        registry: 0.01,
    };
    let Some(total) = seeds(weather, 3000..3500) else { return };
    reached(
        &total,
        &[
            "redis lost",
            "redis stale",
            "busy",
            "late outcome",
            "event accepted again",
            "page repeated",
            "cards changed between pages",
            "event fanned out",
        ],
    );
}

#[test]
fn a_cluster_by_tls_keeps_the_same_promises() {
    let weather = Weather { crash: 0.04, duplicate: 0.05, resend: 0.05, send: 0.05, registry: 0.02, ..Weather::CALM };
    let Some(total) = seeds_on(&RedisCluster::start(), weather, 5000..5040) else { return };
    reached(
        &total,
        &["granted", "busy", "successor", "crash", "opened", "refused", "probe", "page stale", "event fanned out"],
    );
    assert!(total["accepted"] > 200 && total["event accepted"] > 60, "{total:?}");
}
