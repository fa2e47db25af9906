//! An operator who looks at the stack's health, cleans up and reseals all the time, and at the
//! end redrives dead letters.

use std::time::Duration;

use crate::torture::caller::Caller;
use crate::torture::receivers::Temper;
use crate::torture::saboteur::served;
use crate::torture::stores::dead_letters;
use crate::torture::{Field, Weather};

/// The time between two rounds.
const PACE: Duration = Duration::from_secs(2);
/// Every so many rounds, everything is sealed with the newest master key.
const RESEAL: usize = 5;

/// Makes its rounds until all clients are served.
pub(crate) async fn work(field: &Field) {
    let caller = Caller::of(field);
    let mut round = 0;
    while round == 0 || !served(field) {
        round += 1;
        // While Redis is away, the answer is 503.
        if caller.once("GET", "/health", String::new(), "").await.is_none() && field.plan.weather == Weather::Calm {
            field.books.breach("the stack is not healthy".to_owned());
        }
        clean_up(field, &caller).await;
        if round % RESEAL == 1 {
            caller.ask("POST", "/reseal", String::new(), &[202]).await;
            field.books.act("resealed");
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Cleans up what is a day old: nothing is, so nothing may go.
async fn clean_up(field: &Field, caller: &Caller) {
    let mut cursor = String::new();
    loop {
        let path = format!("/webhook-cleanup?older_than_days=1{cursor}");
        let cleaned = caller.ask("POST", &path, String::new(), &[200]).await.body;
        if cleaned["deleted"] != 0 || cleaned["outcome_unknown"] != 0 {
            field.books.breach(format!("a cleanup removed something: {cleaned}"));
        }
        match cleaned["cursor"].as_str() {
            Some(next) if cleaned["complete"] == false => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    field.books.act("cleaned up");
}

/// Sends again the direct webhooks that were given up while their receivers failed.
pub(crate) async fn redrive(field: &Field) {
    let caller = Caller::of(field);
    let (letters, _) = dead_letters(field).await;
    for id in letters.iter().filter_map(|letter| letter["webhook_id"].as_str()) {
        let receiver = field.books.open().told.get(id).map(|told| told.receiver);
        if receiver.is_none_or(|receiver| field.receivers[receiver].temper == Temper::Missing) {
            continue;
        }
        // 409: it arrived nevertheless.
        let fine: &[u16] = if field.plan.weather == Weather::Calm { &[202] } else { &[202, 409] };
        if caller.ask("POST", &format!("/dead-letters/{id}/redrive"), String::new(), fine).await.code == 202 {
            field.books.open().redriven.insert(id.to_owned());
        }
    }
}
