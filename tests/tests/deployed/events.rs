//! Events on the deployed stack: a tenant with many endpoints gets one. `make torture` runs
//! this with ten thousand endpoints.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use tests::client::Api;
use tests::receiver::Receiver;
use tests::stack::{OwnStack, Stack};

/// Endpoints of the short form.
const FEW: usize = 300;
/// Endpoints of the long form: as many as a tenant may have.
const MANY: usize = 10_000;
/// Requests at a time.
const AT_ONCE: usize = 8;
/// How long a part of the long form may take.
const PATIENCE: Duration = Duration::from_secs(900);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods, reason = "a test's setting, not the product's")]
async fn a_large_tenant_gets_one_delivery_for_each_endpoint() {
    let is_long = std::env::var("TORTURE").is_ok();
    let own = is_long.then(|| OwnStack::start(&[]));
    let stack = own.as_ref().map_or_else(Stack::running, |own| own.stack().clone());
    let (api, receiver, count) = (Api::of(&stack), Receiver::start().await, if is_long { MANY } else { FEW });
    let tenant = format!("large-{}", fastrand::u32(..));
    let create = async |n: usize| {
        let body = json!({ "url": receiver.url(&format!("/{n}")) });
        assert_eq!(api.post(&format!("/tenants/{tenant}/endpoints"), body.to_string()).await.0, 201);
    };
    stream::iter(0..count).map(create).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;

    let event = json!({ "event_id": "order-1", "event_type": "order.paid", "payload": { "n": 1 } });
    let (code, accepted) = api.post(&format!("/tenants/{tenant}/events"), event.to_string()).await;
    assert_eq!(code, 202, "{accepted}");
    let arrivals = receiver.wait_longer_for(count, PATIENCE).await;
    let paths: BTreeSet<&str> = arrivals.iter().map(|arrival| arrival.path.as_str()).collect();
    assert_eq!((arrivals.len(), paths.len()), (count, count), "each endpoint is called once");
    let id = accepted["webhook_id"].as_str().unwrap();
    assert!(arrivals.iter().all(|arrival| arrival.header("webhook-id") == id));
    let (_, status) = api.get(accepted["status_url"].as_str().unwrap()).await;
    assert_eq!((&status["status"], &status["matched"]), (&json!("fanned_out"), &json!(count)));
}
