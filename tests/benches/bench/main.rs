//! What Steadhook costs: the binaries that are deployed, driven through a Lambda
//! Runtime API, with a real Redis, a fast receiver and an SQS that counts; beside
//! them, in the same run, a bare loop of posts and a Celery worker.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a surprise ends the run; figures are small"
)]

mod accepting;
mod callgrind;
mod delivering;
mod endpoints;
mod events;
mod figures;
mod first_connection;
mod history;
mod isolation;
mod outcomes;
mod scale;
mod stage;
mod starting;
mod surroundings;
mod tls;
mod yardsticks;

use std::path::Path;
use std::time::Instant;

use crate::figures::Figures;
use crate::stage::Stage;

/// What can be measured alone.
const PARTS: [&str; 10] =
    ["starting", "outcomes", "accepting", "delivering", "tls", "endpoints", "events", "history", "isolation", "scale"];

#[tokio::main(worker_threads = 2)]
async fn main() {
    let began = Instant::now();
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if let Some(part) = &only {
        assert!(PARTS.contains(&part.as_str()), "there is no part {part:?}: {}", PARTS.join(", "));
    }
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let mut figures = Figures::default();
    let stage = Stage::set().await;
    if wanted("starting") {
        starting::measure(&stage, &mut figures).await;
        first_connection::measure(&stage, &mut figures).await;
    }
    if wanted("outcomes") {
        outcomes::measure(&stage, &mut figures).await;
    }
    if wanted("accepting") {
        accepting::measure(&stage, &mut figures).await;
    }
    if wanted("delivering") {
        delivering::measure(&stage, &mut figures).await;
    }
    if wanted("tls") {
        tls::measure(&stage, &mut figures).await;
    }
    if wanted("endpoints") {
        endpoints::measure(&stage, &mut figures).await;
    }
    if wanted("events") {
        events::measure(&stage, &mut figures).await;
    }
    if wanted("history") {
        history::measure(&stage, &mut figures).await;
    }
    if wanted("isolation") {
        isolation::measure(&stage, &mut figures).await;
    }
    if wanted("scale") {
        scale::measure(&stage, &mut figures).await;
    }
    let name = only.as_ref().map_or("bench.json".to_owned(), |part| format!("bench-{part}.json"));
    figures.write(&Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.local")).join(name));
    let missed = figures.missed();
    println!("\n{} s; {} goals missed", began.elapsed().as_secs(), missed.len());
    missed.iter().for_each(|line| println!("{line}"));
}
