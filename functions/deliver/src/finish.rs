//! Carries decisions out: first the queues, then Redis, then what Redis did not take.

use adapters::{metrics, telemetry};

use crate::context::{Batch, Context};
use crate::decision::{Decided, Decision};
use crate::{bookkeeping, outbox};

/// Carries out what was decided, and names the records that SQS is to keep.
pub(crate) async fn finish(context: &Context, batch: &mut Batch, mut decided: Vec<Decided>) -> Vec<usize> {
    if decided.is_empty() {
        return Vec::new();
    }
    // What the calls came to is logged even if this process ends here.
    telemetry::flush();
    outbox::send(context, &mut decided).await;
    decided.iter().for_each(|next| count(context, &next.decision));
    let unrecorded = bookkeeping::record(context, batch, &decided).await;
    outbox::queue_late_outcomes(context, unrecorded).await;
    decided.iter().filter(|next| next.decision.keeps()).map(|next| next.record).collect()
}

fn count(context: &Context, decision: &Decision) {
    if let Some(result) = decision.result() {
        metrics::delivery(result);
    }
    if let Decision::Delivered { claim, .. } = decision {
        metrics::end_to_end(claim.new_record.accepted_at.until(context.clock.now()));
    }
}
