//! The deployed stack loses nothing while faults are injected. `make torture` runs this
//! with more webhooks.

#![allow(clippy::print_stdout, reason = "the figures of a run are shown")]

use tests::torture::{Plan, Weather, run};

/// A setting of the run: `TORTURE=3000`, `SEED=7`, `OTHER=<folder of other binaries>`.
#[allow(clippy::disallowed_methods, reason = "a test's setting, not the product's")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str, otherwise: u64) -> u64 {
    setting(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// Every long run is a new one, unless a seed is named. The short form always has the same.
fn seed() -> u64 {
    number("SEED", if setting("TORTURE").is_some() { fastrand::u64(1..1_000_000) } else { 1 })
}

async fn torture(weather: Weather, webhooks: u64) {
    let (seed, other) = (seed(), setting("OTHER"));
    let is_long = setting("TORTURE").is_some();
    let plan = Plan { seed, webhooks: usize::try_from(webhooks).unwrap(), weather, other, is_long };
    println!("SEED={seed}");
    let report = run(plan).await;
    println!("{report}");
    assert!(report.breaches.is_empty(), "SEED={seed} found {} breaches", report.breaches.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_peace_every_book_agrees_to_the_last_call() {
    torture(Weather::Calm, number("TORTURE", 400) / 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_rough_weather_nothing_is_lost_and_every_status_is_true() {
    torture(Weather::Rough, number("TORTURE", 400)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_fire_nothing_is_lost() {
    torture(Weather::Fire, number("TORTURE", 400)).await;
}
