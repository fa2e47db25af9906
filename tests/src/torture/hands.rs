//! Many hands that change the same endpoints at once.

use std::time::Duration;

use adapters::clock::Clock;
use serde_json::json;

use crate::torture::Field;
use crate::torture::caller::Caller;
use crate::torture::saboteur::served;
use crate::torture::tenants::{CROWD, Tenant, create};

/// How many hands there are.
const HANDS: usize = 4;
/// The longest time between two turns of a hand.
const PACE: Duration = Duration::from_secs(1);

/// Raises the counter on one card by many hands, which make and delete endpoints of their own
/// and tell events meanwhile.
pub(crate) async fn work(field: &Field) {
    futures_util::future::join_all((0..HANDS).map(|number| hand(field, number))).await;
}

async fn hand(field: &Field, number: usize) {
    let mut rng = fastrand::Rng::with_seed(field.plan.seed.wrapping_mul(97).wrapping_add(number as u64));
    let caller = Caller::of(field);
    let mut teller = (number == 0).then(|| Tenant::new(field, CROWD, Clock::system().now()));
    let (mut turn, mut own) = (0, None::<String>);
    while turn == 0 || !served(field) {
        turn += 1;
        raise(field, &caller).await;
        if turn % 3 == 0 {
            if let Some(id) = own.take() {
                // 404: an answer was lost.
                caller.ask("DELETE", &format!("/tenants/{CROWD}/endpoints/{id}"), String::new(), &[204, 404]).await;
                field.books.act("endpoint deleted");
            }
            let receiver = rng.usize(..field.receivers.len());
            let name = format!("{CROWD}-{number}-{turn}");
            let made = create(field, &caller, &mut rng, CROWD, &name, receiver, None).await.body;
            // A conflict tells whose the uid is.
            own = made["id"].as_str().or(made["endpoint_id"].as_str()).map(str::to_owned);
        }
        if let Some(teller) = &mut teller {
            teller.tell_some(1).await;
        }
        tokio::time::sleep(PACE.mul_f64(rng.f64())).await;
    }
}

/// Raises the counter by one, unless somebody else changes the card meanwhile.
async fn raise(field: &Field, caller: &Caller) {
    let Some(card) = field.endpoints.iter().find(|endpoint| endpoint.tenant == CROWD) else { return };
    let before = caller.ask("GET", &card.path(), String::new(), &[200]).await;
    let count = before.body["metadata"]["count"].as_str().and_then(|count| count.parse::<u64>().ok());
    let Some(count) = count else { return };
    let body = json!({ "metadata": { "count": (count + 1).to_string() } }).to_string();
    let answer = caller.once("PATCH", &card.path(), body, &before.etag).await;
    let mut books = field.books.open();
    match answer.map(|answer| answer.code) {
        Some(200) => books.raised.0 += 1,
        Some(409 | 412) => *books.acts.entry("overtaken by another hand").or_default() += 1,
        Some(code) => books.breaches.push(format!("a change of a card is answered with {code}")),
        None => books.raised.1 += 1,
    }
}
