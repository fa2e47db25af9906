//! Round trips to Redis and calls of SQS a batch, by what becomes of it. These do
//! not depend on the machine; tests assert them too.

use bytes::Bytes;
use tests::binary::Function;

use crate::figures::Figures;
use crate::figures::Goal::AtMost;
use crate::stage::{Stage, batch_request, batches, single_request};

const BATCHES: usize = 20;
/// Batches before that: they open connections and load scripts.
const WARM: usize = 2;

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    let patient = &[("BREAKER_FAILURE_THRESHOLD", "1000")][..];
    let strict = &[("BREAKER_FAILURE_THRESHOLD", "1")][..];
    for (outcome, status, settings, trips, calls) in [
        ("delivered", 200, &[][..], 2.0, 0.0),
        ("retried", 500, patient, 2.0, 1.0),
        ("parked", 503, strict, 3.0, 1.0),
        ("dead-lettered", 410, patient, 2.0, 1.0),
    ] {
        let messages = stage.accepted((BATCHES + WARM) * 10, 1024, status).await;
        let counted = Counted::start(stage, "deliver", settings).await;
        let (found_trips, found_calls) = counted.each(stage, batches(&messages, 10)).await;
        figures.judge(format!("deliver, batch of 10, {outcome}: Redis round trips"), found_trips, "", AtMost(trips));
        figures.judge(format!("deliver, batch of 10, {outcome}: SQS calls"), found_calls, "", AtMost(calls));
        stage.forget();
        for queue in ["retry", "dead"] {
            stage.cloud.take(queue);
        }
    }
    let url = stage.sink.url(200);
    for (what, event, calls) in [
        ("single", single_request(&url, 1024), 1.0),
        ("batch of 10", batch_request(&url, 1024, 10), 1.0),
        ("batch of 100", batch_request(&url, 1024, 100), 10.0),
    ] {
        let counted = Counted::start(stage, "enqueue", &[]).await;
        let (found_trips, found_calls) = counted.each(stage, vec![event; BATCHES + WARM]).await;
        figures.judge(format!("enqueue, {what}: Redis round trips"), found_trips, "", AtMost(2.0));
        figures.judge(format!("enqueue, {what}: SQS calls"), found_calls, "", AtMost(calls));
        stage.forget();
    }
    stage.cloud.take("delivery");
}

struct Counted {
    function: Function,
    proxy: tests::proxy::Proxy,
}

impl Counted {
    async fn start(stage: &Stage, name: &str, changes: &[(&'static str, &str)]) -> Self {
        let (settings, proxy) = stage.counted(changes).await;
        Self { function: Function::start(name, &settings).await, proxy }
    }

    /// Round trips and calls an event, after the first ones.
    async fn each(&self, stage: &Stage, mut events: Vec<Bytes>) -> (f64, f64) {
        for event in events.drain(..WARM) {
            self.function.invoke_with(event).await;
        }
        let count = events.len() as f64;
        let (trips, calls) = (self.proxy.round_trips(), stage.cloud.calls("AmazonSQS"));
        for event in events {
            self.function.invoke_with(event).await;
        }
        let since = |now: usize, then: usize| (now - then) as f64 / count;
        (since(self.proxy.round_trips(), trips), since(stage.cloud.calls("AmazonSQS"), calls))
    }
}
