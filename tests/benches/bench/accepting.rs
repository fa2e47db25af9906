//! What a request costs `enqueue`, beside the API that people have before Celery.

use bytes::Bytes;
use tests::binary::Function;

use crate::callgrind::instructions;
use crate::figures::Goal::AtMost;
use crate::figures::{Figures, median};
use crate::stage::{Stage, batch_request, single_request, spend, us_each};
use crate::yardsticks::Celery;

const KIB: usize = 1024;
const ROUNDS: usize = 5;

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    let url = stage.sink.url(200);
    let enqueue = Function::start("enqueue", &stage.settings(&[])).await;
    enqueue.invoke_with(single_request(&url, KIB)).await;

    let (singles, redis_singles) = rounds(stage, &enqueue, &single_request(&url, KIB), 1000, 1).await;
    let celery = Celery::start();
    let theirs = celery.requests(&stage.sink, 500, KIB).await;
    figures.note("FastAPI before Celery, 1 KiB: CPU a request", theirs, "µs");
    figures.judge("enqueue, single, 1 KiB: CPU a request", singles, "µs", AtMost(200.0));
    figures.note("enqueue, single, 1 KiB: times better than FastAPI", theirs / singles, "×");
    for size in [16, 256] {
        let (each, _) = rounds(stage, &enqueue, &single_request(&url, size * KIB), 200, 1).await;
        figures.note(format!("enqueue, single, {size} KiB: CPU a request"), each, "µs");
    }
    let (tens, redis_tens) = rounds(stage, &enqueue, &batch_request(&url, KIB, 10), 300, 10).await;
    figures.note("enqueue, batch of 10, 1 KiB: CPU a webhook", tens, "µs");
    let (hundreds, redis_hundreds) = rounds(stage, &enqueue, &batch_request(&url, KIB, 100), 50, 100).await;
    figures.judge("enqueue, batch of 100, 1 KiB: CPU a webhook", hundreds, "µs", AtMost(30.0));
    for (what, redis) in [("single", redis_singles), ("batch of 10", redis_tens), ("batch of 100", redis_hundreds)] {
        figures.note(format!("enqueue, {what}, 1 KiB: CPU of Redis a webhook"), redis, "µs");
    }
    let peak = enqueue.usage().peak_rss as f64 / 1_048_576.0;
    figures.note("enqueue: most memory", peak, "MiB");

    for (what, event, size) in
        [("batch of 100", batch_request(&url, KIB, 100), 100), ("single", single_request(&url, KIB), 1)]
    {
        let settings = stage.settings(&[]);
        let events = (vec![event.clone(); 20], vec![event; 60]);
        let counted = instructions(("enqueue", &format!("{size}x1k")), &settings, events, 40 * size).await;
        figures.note(format!("enqueue, {what}, 1 KiB: instructions a webhook"), counted, "");
        figures.compare(&format!("enqueue-{size}x1k"), counted);
    }
    stage.forget();
    stage.cloud.take("delivery");
}

/// CPU time a webhook, of `enqueue` and of Redis, in µs. The first round warms up.
async fn rounds(stage: &Stage, enqueue: &Function, event: &Bytes, requests: usize, webhooks: usize) -> (f64, f64) {
    let (mut ours, mut redis) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let cost = spend(stage, enqueue, vec![event.clone(); requests]).await;
        stage.forget();
        stage.cloud.take("delivery");
        if round > 0 {
            ours.push(us_each(cost.cpu, requests * webhooks));
            redis.push(us_each(cost.redis, requests * webhooks));
        }
    }
    (median(ours), median(redis))
}
