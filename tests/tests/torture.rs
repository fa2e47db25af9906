//! The deployed stack under fire loses nothing, and says so. `make torture` runs it
//! larger.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "in tests a surprise ends the test")]

use tests::torture::{Plan, Weather, run};

/// A setting of the run: `TORTURE=5000`, `SEED=7`, `OTHER=<folder of other binaries>`.
#[allow(clippy::disallowed_methods, reason = "a test's setting, not the product's")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str, otherwise: u64) -> u64 {
    setting(name).map_or(otherwise, |value| value.parse().unwrap())
}

async fn torture(weather: Weather, webhooks: u64) {
    let (seed, other) = (number("SEED", 1), setting("OTHER"));
    let plan = Plan { seed, webhooks: usize::try_from(webhooks).unwrap(), weather, other };
    println!("SEED={seed}");
    let page = run(plan).await;
    println!("{page}");
    assert!(page.breaches.is_empty(), "SEED={seed} found {} breaches", page.breaches.len());
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
