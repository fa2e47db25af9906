//! What an event costs: to accept it, beside a webhook, and to fan it out to ten thousand
//! endpoints.

use bytes::Bytes;
use tests::binary::Function;
use tests::endpoints::card;

use crate::callgrind::instructions;
use crate::figures::Goal::AtMost;
use crate::figures::{Figures, median};
use crate::stage::{Stage, batches, event_request, single_request, spend, us_each};

const KIB: usize = 1024;
const ROUNDS: usize = 5;
/// Endpoints of the tenant.
const ENDPOINTS: usize = 10_000;

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    accepting(stage, figures).await;
    fan_out(stage, figures).await;
}

/// An event beside a webhook, in turns: the machine is not equally fast all the time.
async fn accepting(stage: &Stage, figures: &mut Figures) {
    let enqueue = Function::start("enqueue", &stage.settings(&[])).await;
    let requests = [single_request(&stage.sink.url(200), KIB), event_request(KIB)];
    let (mut webhooks, mut events) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        for (request, costs) in requests.iter().zip([&mut webhooks, &mut events]) {
            let cost = spend(stage, &enqueue, vec![request.clone(); 1000]).await;
            if round > 0 {
                costs.push(us_each(cost.cpu, 1000));
            }
            forget(stage);
        }
    }
    let (webhook, event) = (median(webhooks), median(events));
    figures.note("enqueue, one webhook, 1 KiB: CPU", webhook, "µs");
    figures.note("enqueue, one event, 1 KiB: CPU", event, "µs");
    let mut counted = Vec::new();
    for (what, request) in ["webhook", "event"].iter().zip(requests) {
        let events = (vec![request.clone(); 20], vec![request; 60]);
        counted.push(instructions(("enqueue", &format!("one-{what}")), &stage.settings(&[]), events, 40).await);
        figures.note(format!("enqueue, one {what}, 1 KiB: instructions"), counted[counted.len() - 1], "");
        forget(stage);
    }
    figures.judge("enqueue: instructions of an event by those of a webhook", counted[1] / counted[0], "×", AtMost(1.1));
}

/// All pages of events to all endpoints, of which each wants every event.
async fn fan_out(stage: &Stage, figures: &mut Figures) {
    let now = adapters::clock::Clock::system().now();
    for n in 0..ENDPOINTS {
        stage.cloud.register(&card(n, &format!("https://{n}.example/hook"), now));
    }
    stage.cloud.set_revision(1);
    let function = Function::start("fanout", &stage.settings(&[])).await;
    let enqueue = Function::start("enqueue", &stage.settings(&[])).await;
    let mut each = Vec::new();
    for round in 0..=ROUNDS {
        enqueue.invoke_with(event_request(KIB)).await;
        let (sends, reads) = (stage.cloud.calls("AmazonSQS"), stage.cloud.calls("DynamoDB"));
        let (mut cpu, mut pages) = (0.0, 0);
        loop {
            let page = stage.cloud.take("event");
            if page.is_empty() {
                break;
            }
            cpu += us_each(spend(stage, &function, batches(&page, 10)).await.cpu, ENDPOINTS);
            pages += 1;
        }
        assert_eq!(stage.cloud.take("delivery").len(), ENDPOINTS, "one delivery for each endpoint");
        let (sends, reads) = (stage.cloud.calls("AmazonSQS") - sends, stage.cloud.calls("DynamoDB") - reads);
        let what = if round == 0 { "first event" } else { "later events" };
        if round <= 1 {
            figures.judge(format!("fan-out to 10,000, {what}: calls of SQS"), sends as f64, "", AtMost(1020.0));
            figures.note(format!("fan-out to 10,000, {what}: calls of DynamoDB"), reads as f64, "");
            figures.note(format!("fan-out to 10,000, {what}: pages"), f64::from(pages), "");
        }
        if round == 0 {
            figures.note("fan-out to 10,000, 1 KiB, first event: CPU a delivery", cpu, "µs");
        } else {
            each.push(cpu);
        }
        stage.forget();
    }
    figures.judge("fan-out to 10,000, 1 KiB: CPU a delivery", median(each), "µs", AtMost(20.0));
    let peak = function.usage().peak_rss as f64 / 1_048_576.0;
    figures.judge("fan-out to 10,000, 1 KiB: most memory", peak, "MiB", AtMost(64.0));
    large(stage, figures, &enqueue).await;
    forget(stage);
    stage.cloud.deregister();
}

/// Ten large events at once, of which one invocation works on a page each.
async fn large(stage: &Stage, figures: &mut Figures, enqueue: &Function) {
    for _ in 0..10 {
        enqueue.invoke_with(event_request(255 * KIB)).await;
    }
    let function = Function::start("fanout", &stage.settings(&[])).await;
    let events: Vec<Bytes> = batches(&stage.cloud.take("event"), 10);
    function.invoke_with(events[0].clone()).await;
    let peak = function.usage().peak_rss as f64 / 1_048_576.0;
    figures.judge("fan-out of ten events of 255 KiB at once: most memory", peak, "MiB", AtMost(64.0));
}

fn forget(stage: &Stage) {
    stage.forget();
    for queue in ["delivery", "event"] {
        stage.cloud.take(queue);
    }
}
