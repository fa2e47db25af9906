//! What a delivery costs: CPU time beside the yardsticks, instructions, Redis, memory.

use tests::binary::Function;

use crate::callgrind::{instructions, instructions_of_loop};
use crate::figures::Goal::{AtLeast, AtMost};
use crate::figures::{Figures, median};
use crate::stage::{Stage, batches, spend, us_each};
use crate::yardsticks::{Celery, Loop};

/// How often each figure is taken; the middle one counts.
const ROUNDS: usize = 7;
/// Deliveries in one round of 1 KiB.
const DELIVERIES: usize = 2000;
const KIB: usize = 1024;

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    let deliver = Function::start("deliver", &stage.settings(&[])).await;
    beside_the_loop(stage, &deliver, figures).await;
    for (size, batch, count) in
        [(1, 100, 2000), (1, 1, 1000), (16, 1, 500), (16, 10, 1000), (256, 1, 100), (256, 10, 200)]
    {
        let (mut rounds, mut redis) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let messages = stage.accepted(count, size * KIB, 200).await;
            let cost = spend(stage, &deliver, batches(&messages, batch)).await;
            rounds.push(us_each(cost.cpu, count));
            redis.push(us_each(cost.redis, count));
            stage.forget();
        }
        let measure = format!("deliver, batch of {batch}, {size} KiB: CPU a delivery");
        let of_redis = format!("deliver, batch of {batch}, {size} KiB: CPU of Redis a delivery");
        match (size, batch) {
            (1, 100) => {
                figures.judge(measure, median(rounds), "µs", AtMost(30.0));
                figures.judge(of_redis, median(redis), "µs", AtMost(25.0));
            }
            (1, 1) => {
                figures.note(measure, median(rounds), "µs");
                figures.note(of_redis, median(redis), "µs");
            }
            _ => figures.note(measure, median(rounds), "µs"),
        }
    }
    figures.note("deliver: most memory, after all of these", mebibytes(&deliver), "MiB");
    // What is the most memory of a process says nothing of what it did before.
    let deliver = Function::start("deliver", &stage.settings(&[])).await;
    spend(stage, &deliver, batches(&stage.accepted(200, 256 * KIB, 200).await, 10)).await;
    figures.judge("deliver: most memory, batches of 10 × 256 KiB", mebibytes(&deliver), "MiB", AtMost(24.0));
    stage.forget();

    let bare = instructions_of_loop(&stage.sink.url(200), KIB, 32);
    figures.note("bare reqwest loop, 32 at once, 1 KiB: instructions a post", bare, "");
    for (size, batch) in [(16, 10), (256, 10), (1, 1), (1, 10)] {
        let count = if size == 256 { 100 } else { 400 };
        let few = batches(&stage.accepted(200, size * KIB, 200).await, batch);
        let many = batches(&stage.accepted(200 + count, size * KIB, 200).await, batch);
        let counted =
            instructions(("deliver", &format!("{batch}x{size}k")), &stage.settings(&[]), (few, many), count).await;
        let measure = format!("deliver, batch of {batch}, {size} KiB: instructions a delivery");
        match (size, batch) {
            (1, 10) => {
                figures.judge(measure, counted, "", AtMost(190_000.0));
                figures.compare("deliver-10x1k", counted);
            }
            _ => figures.note(measure, counted, ""),
        }
        stage.forget();
    }
}

async fn beside_the_loop(stage: &Stage, deliver: &Function, figures: &mut Figures) {
    let mut bare = Loop::start(&stage.sink.url(200), KIB, 32);
    let celery = Celery::start();
    celery.deliveries(&stage.sink, 200, KIB).await;
    let (mut ours, mut redis, mut theirs, mut ratios, mut celerys) = (vec![], vec![], vec![], vec![], vec![]);
    let mut rate = Vec::new();
    for round in 0..=ROUNDS {
        let messages = stage.accepted(DELIVERIES, KIB, 200).await;
        let before = bare.posts(DELIVERIES).await;
        let cost = spend(stage, deliver, batches(&messages, 10)).await;
        let after = bare.posts(DELIVERIES).await;
        stage.forget();
        // The first round warms up.
        if round == 0 {
            continue;
        }
        let (each, loops) = (us_each(cost.cpu, DELIVERIES), f64::midpoint(before, after));
        ours.push(each);
        theirs.push(loops);
        ratios.push(each / loops);
        redis.push(us_each(cost.redis, DELIVERIES));
        rate.push(DELIVERIES as f64 / cost.wall.as_secs_f64());
        if round % 3 == 1 {
            celerys.push(celery.deliveries(&stage.sink, 1000, KIB).await);
        }
    }
    let (ours, celery_each) = (median(ours), median(celerys));
    figures.note("bare reqwest loop, 32 at once, 1 KiB: CPU a post", median(theirs), "µs");
    figures.note("Celery worker, 4 processes, 1 KiB: CPU a delivery", celery_each, "µs");
    figures.judge("deliver, batch of 10, 1 KiB: CPU a delivery", ours, "µs", AtMost(90.0));
    figures.judge("deliver, batch of 10, 1 KiB: times the bare loop", median(ratios), "×", AtMost(2.8));
    figures.judge("deliver, batch of 10, 1 KiB: times better than Celery", celery_each / ours, "×", AtLeast(25.0));
    figures.judge("deliver, batch of 10, 1 KiB: CPU of Redis a delivery", median(redis), "µs", AtMost(50.0));
    figures.note("deliver, batch of 10, 1 KiB: one instance, deliveries", median(rate), "/s");
    figures.judge("deliver: most memory, batches of 10 × 1 KiB", mebibytes(deliver), "MiB", AtMost(24.0));
}

fn mebibytes(function: &Function) -> f64 {
    function.usage().peak_rss as f64 / 1_048_576.0
}
